"""inspect-checkpoint, edit-checkpoint, purge, prune-weights and print-model, as they are called."""

import json
import shutil

import pytest
import torch
from training import lock_holder

from dsrl.checkpoints.checkpoint import load_checkpoint
from dsrl.cli.main import main


@pytest.fixture
def path(trained, tmp_path):
    target = tmp_path / "test.checkpoint"
    shutil.copy(next((trained[2] / "checkpoints").glob("*.checkpoint")), target)
    return target


def edit(path, *arguments):
    main(["edit-checkpoint", "--checkpoint", str(path), *arguments])


def test_tree_has_keys_shapes_and_dtypes_but_no_values(path, capsys):
    main(["inspect-checkpoint", "--checkpoint", str(path)])
    text = capsys.readouterr().out
    assert "epoch: 2\n" in text
    assert "  sssr_head" in text and "float32 (" in text
    assert "device: cpu\n" in text
    assert "tensor(" not in text and len(text) < 200_000


def test_json_contains_all_but_tensors(path, capsys):
    main(["inspect-checkpoint", "--checkpoint", str(path), "--json"])
    found = json.loads(capsys.readouterr().out)
    state = torch.load(path, weights_only=True)
    assert found.keys() == state.keys()
    assert found["recipe"] == json.loads(json.dumps(state["recipe"]))
    name, layer = next(iter(state["network"].items()))
    assert found["network"][name] == {"shape": list(layer.shape), "dtype": "float32"}


@pytest.mark.parametrize(
    ("key", "value", "kind", "expected"),
    [
        ("resources.device", "gpu", "str", "gpu"),
        ("resources.num_workers", "3", "int", 3),
        ("recipe.training.learning_rate", "0.5", "float", 0.5),
        ("recipe.training.freeze_batch_norm", "true", "bool", True),
        ("recipe.augmentation.scale", "[1, 2]", "json", [1, 2]),
        ("data.classes.0.name", "street", "str", "street"),
    ],
)
def test_edit_changes_one_entry_and_keeps_the_old_file(path, key, value, kind, expected):
    before = path.read_bytes()
    edit(path, "--key", key, "--value", value, "--typeof", kind)
    state = torch.load(path, weights_only=True)
    for part in key.split("."):
        state = state[int(part) if part.isdigit() else part]
    assert state == expected
    assert path.with_name("test.checkpoint.bak").read_bytes() == before


def test_device_stands_for_that_of_the_resources(path):
    """As the original implementation's example call names it."""
    edit(path, "--key", "device", "--value", "gpu")
    state = torch.load(path, weights_only=True)
    assert state["resources"]["device"] == "gpu" and "device" not in state


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resource", "cpu"], "no key 'resource'; did you mean 'resources'"),
        (["recipe.lost.w1", "1"], "no key 'recipe.lost'; did you mean 'recipe.loss'"),
        (["network", "1"], "'network' contains tensors"),
        (["random.torch", "1"], "'random.torch' contains tensors"),
        (["device", "tpu"], "device: input should be 'auto', 'cpu', 'gpu' or 'cuda'"),
        (["recipe.training.epochs", "0", "--typeof", "int"], "training.epochs"),
        (["recipe.stage", "9", "--typeof", "int"], "stage"),
    ],
)
def test_edit_that_cannot_be_changes_nothing(path, arguments, message):
    before = path.read_bytes()
    key, value, *rest = arguments
    with pytest.raises(SystemExit) as exit_:
        edit(path, "--key", key, "--value", value, *rest)
    assert message in str(exit_.value)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(("value", "kind"), [("x", "int"), ("maybe", "bool"), ("{", "json")])
def test_value_of_another_type_is_wrong_usage(path, capsys, value, kind):
    with pytest.raises(SystemExit) as exit_:
        edit(path, "--key", "device", "--value", value, "--typeof", kind)
    assert exit_.value.code == 2
    assert f"expected {kind}" in capsys.readouterr().err


def test_a_new_key_needs_add(path):
    edit(path, "--key", "note", "--value", "hello", "--add")
    assert torch.load(path, weights_only=True)["note"] == "hello"


def test_checkpoint_is_pruned_like_weights(path, tmp_path):
    output = tmp_path / "out" / "inference.weights"
    main(["prune-weights", "--src-weights", str(path), "--dest-weights", str(output)])
    state, pruned = (torch.load(p, weights_only=True) for p in (path, output))
    layers = pruned["state_dict"]
    assert pruned["layers"] == "inference" and pruned["epoch"] == 2
    assert layers and not any(name.startswith("sisr") for name in layers)
    assert all(torch.equal(state["network"][name], layer) for name, layer in layers.items())
    assert pruned["scores"] == pytest.approx(
        {k[4:]: v for k, v in state["progress"]["history"][-1].items() if k.startswith("val_")}
    )


def test_description_and_id_are_kept(trained, prepared, tmp_path, capsys):
    recipe = torch.load(trained[1] / "checkpoints/epoch2.checkpoint", weights_only=True)["recipe"]
    config = json.dumps({key: value for key, value in recipe.items() if key != "stage"})
    main(["train", "--stage", "1", "--data", str(prepared), "--config", config, "--epochs", "1",
          "--output", str(tmp_path), "--description", "Stage 1 training", "--device", "cpu",
          "--experiment-id", "e7"])  # fmt: skip
    for file in ("final.weights", "checkpoints/epoch1.checkpoint"):
        main(["inspect-checkpoint", "--checkpoint", str(tmp_path / file)])
        text = capsys.readouterr().out
        assert "description: Stage 1 training\n" in text and "experiment_id: e7\n" in text
    events = next((tmp_path / "tensorboard").iterdir()).read_bytes()
    assert b"Stage 1 training" in events and b"e7" in events


def test_purge_asks_and_removes_only_what_training_wrote(trained, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "weights"
    shutil.copytree(trained[1], folder / "stage1")
    (folder / "notes.txt").write_text("mine")
    outside = tmp_path / "outside.weights"
    outside.write_text("mine")
    (folder / "link.weights").symlink_to(outside)
    before = sorted(folder.rglob("*"))
    for answer in ("n", ""):
        monkeypatch.setattr("builtins.input", lambda question, answer=answer: answer)
        with pytest.raises(SystemExit, match="nothing was removed"):
            main(["purge", str(folder)])
    assert sorted(folder.rglob("*")) == before
    aside = folder / "stage1-2026-01-31T120000-2"
    shutil.copytree(trained[1], aside)
    mine = folder / "mine-2026-01-31T120000"  # a name that means nothing
    shutil.copytree(trained[1], mine / "stage1")
    main(["purge", str(folder), "--set-aside", "--yes"])
    assert (mine / "stage1/final.weights").exists()
    shutil.rmtree(mine)
    assert sorted(folder.rglob("*")) == before, "only what was set aside is removed"
    main(["purge", str(folder), "--yes"])
    assert {path.name for path in folder.rglob("*")} == {"notes.txt", "link.weights"}
    assert outside.exists()
    assert "final.weights" in capsys.readouterr().out


def test_each_edit_keeps_the_file_before(path):
    original = path.read_bytes()
    for value in ("cpu", "gpu"):
        main(["edit-checkpoint", "--checkpoint", str(path), "--key", "device", "--value", value])
    assert path.with_name("test.checkpoint.bak").read_bytes() == original
    assert load_checkpoint(path.with_name("test.checkpoint.bak2")).run.resources.device == "cpu"


def test_pruned_weights_do_not_replace_those_of_a_training(trained, tmp_path):
    final = tmp_path / "final.weights"
    shutil.copy(trained[1] / "final.weights", final)
    line = ["prune-weights", "--src-weights", str(trained[3] / "final.weights"), "--dest-weights"]
    with pytest.raises(SystemExit, match=r"final\.weights: has the weights of a training; choose"):
        main([*line, str(final)])
    assert final.read_bytes() == (trained[1] / "final.weights").read_bytes()
    for _ in range(2):  # what is pruned may be made again
        main([*line, str(tmp_path / "inference.weights")])


def test_purge_refuses_where_a_training_is_at_work(trained, tmp_path):
    folder = shutil.copytree(trained[1], tmp_path / "stage1")
    with (
        lock_holder(folder),
        pytest.raises(SystemExit, match="stage1: a training is at work there; stop it first"),
    ):
        main(["purge", str(tmp_path), "--yes"])
    with lock_holder(folder), pytest.raises(SystemExit, match="at work there"):
        main(["purge", str(folder / "checkpoints"), "--yes"])
    assert (folder / "final.weights").exists()
    main(["purge", str(tmp_path), "--yes"])
    assert not folder.exists()


def test_print_model_agrees_with_the_network(trained, capsys):
    main(["print-model", "--weights", str(trained[3] / "final.weights")])
    text = capsys.readouterr().out
    layers = torch.load(trained[3] / "final.weights", weights_only=True)["state_dict"]
    learnt = sum(v.numel() for k, v in layers.items() if "running" not in k and "num_b" not in k)
    rows = [line.split() for line in text.splitlines() if "SSSR" in line]
    assert [row[0] for row in rows] == ["1", "2", "3"]
    assert rows[2][2] == f"{learnt:,}"
    assert len({row[-1] for row in rows}) == 1, "inference costs the same in every stage"
    assert float(rows[2][-2]) > float(rows[0][-2])
    assert all(name.rpartition(".")[0] in text for name in layers)
