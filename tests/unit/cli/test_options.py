"""What commands do without --config and --data."""

import shutil

import pytest

from dsrl.checkpoints.weights import Weights, load_weights, save_weights
from dsrl.cli.main import build_parser, main
from dsrl.cli.options import data_of_settings, data_of_weights, settings_from


def parse(*arguments: str):
    return build_parser().parse_args(arguments)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_settings_are_those_of_the_config_file_here_then_the_defaults(tmp_path):
    arguments = parse("train", "--stage", "1", "--w1", "0.3")
    assert settings_from(arguments).training.epochs == 250
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text("{epochs: 7, stages: {1: {batch_size: 3}}}")
    settings = settings_from(arguments)
    training = settings.recipe(1).training
    assert (training.epochs, training.batch_size) == (7, 3)
    assert settings.loss.w1 == 0.3, "an option goes before a file"


def test_a_training_says_that_it_took_the_config_file_here(tmp_path, dsrl):
    line = ("train", "--stage", "1")
    assert "note:" not in dsrl(*line)[2], "there is none"
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text("{epochs: 7}")
    code, _, err = dsrl(*line)
    assert code == 1 and err.startswith("note: settings of config/config.yaml; --config FILE")
    assert "note:" not in dsrl(*line, "--config", "{epochs: 7}")[2]


def test_an_option_goes_before_the_overrides_of_a_stage():
    config = "{epochs: 7, stages: {1: {epochs: 3, batch_size: 3}}}"
    arguments = parse("train", "--stage", "1", "--config", config, "--epochs", "9")
    training = settings_from(arguments).recipe(1).training
    assert (training.epochs, training.batch_size) == (9, 3)


def test_prepared_folder_is_named_by_the_settings(tmp_path):
    line = ("train", "--stage", "1", "--dataset", "camvid", "--input-size", "8", "16")
    with pytest.raises(SystemExit, match=r"data/prepared/camvid-16x32 does not exist; run `dsrl"):
        main([*line])
    folder = tmp_path / "data/prepared/camvid-16x32"
    folder.mkdir(parents=True)
    arguments = parse(*line)
    found = data_of_settings(arguments, settings_from(arguments))
    assert found.resolve() == folder
    with pytest.raises(SystemExit, match=r"data/prepared/camvid-16x32-pad does not exist"):
        main([*line, "--fit", "pad"])
    arguments = parse(*line, "--data", "other")
    assert str(data_of_settings(arguments, settings_from(arguments))) == "other"


def test_prepared_folder_is_named_by_the_weights(trained, tmp_path):
    weights = trained[1] / "final.weights"
    arguments = parse("benchmark", "--weights", str(weights))
    with pytest.raises(FileNotFoundError, match="demo-64x128 does not exist"):
        data_of_weights(arguments, weights)
    prepared = tmp_path / "data/prepared"
    (prepared / "demo-128x256").mkdir(parents=True)
    assert data_of_weights(arguments, weights).name == "demo-128x256", "the only one"
    (prepared / "demo-256x512").mkdir()
    with pytest.raises(ValueError, match="choose one with --data"):
        data_of_weights(arguments, weights)
    (prepared / "demo-64x128").mkdir()
    assert data_of_weights(arguments, weights).name == "demo-64x128", "the output size"
    (prepared / "demo-64x128-pad").mkdir()
    assert data_of_weights(arguments, weights).name == "demo-64x128", "stretched"
    found = load_weights(weights)
    info = found.info.model_copy(update={"fit": "pad"})
    save_weights(tmp_path / "padding.weights", Weights(info, found.layers))
    assert data_of_weights(arguments, tmp_path / "padding.weights").name == "demo-64x128-pad"
    shutil.rmtree(prepared)


@pytest.mark.parametrize(
    "line",
    [
        ["resume-train", "--checkpoint", "absent"],
        ["inspect-checkpoint", "--checkpoint", "absent"],
        ["edit-checkpoint", "--checkpoint", "absent", "--key", "a", "--value", "b"],
        ["prune-weights", "--src-weights", "absent", "--dest-weights", "out"],
        ["benchmark", "--weights", "absent"],
        ["test", "--image-file", "absent", "--weights", "absent"],
        ["predict", "--weights", "absent", "--output", "out"],
        ["export", "--weights", "absent", "--output", "out.pt2"],
        ["print-model", "--weights", "absent"],
        ["purge", "absent"],
    ],
)
def test_a_file_that_is_not_there_is_named_and_nothing_is_written(line, tmp_path):
    with pytest.raises(SystemExit, match="absent: no such f") as exit_:
        main(line)
    assert str(exit_.value).startswith(f"dsrl {line[0]}: ")
    assert not list(tmp_path.iterdir())


def test_cuda_is_another_word_for_gpu_everywhere():
    for line in (
        ("benchmark", "--weights", "a"),
        ("predict", "--weights", "a", "--output", "out"),
        ("test", "--weights", "a", "--image-file", "b"),
        ("plot-examples", "a", "--output", "b"),
    ):
        assert parse(*line, "--device", "cuda").device == "cuda"
    for command in ("train --stage 1", "print-model"):
        arguments = parse(*command.split(), "--config", "{device: cuda}")
        assert settings_from(arguments).resources.device == "cuda"
