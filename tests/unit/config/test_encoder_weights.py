"""Which weights an encoder starts from, as the settings say it, and where their file is."""

from pathlib import Path

import pytest

from dsrl.config.encoder_weights import (
    encoder_file,
    known_weights,
    missing_encoder_message,
    sources,
)
from dsrl.config.model import ENCODER_START
from dsrl.config.settings import read_settings

ESPNET = {"network": "espnetv2", "width_scale": 2}
CITY = "espnetv2_s_2.0_city_512x256"


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, None),
        ({"pretrained": False}, None),
        ({"encoder_weights": "none", "pretrained": False}, None),
        ({"encoder": "resnet50.a1_in1k", "encoder_weights": "pretrained"}, "resnet50.a1_in1k"),
        ({"encoder": "resnet18", "pretrained": True}, "resnet18"),
        ({"encoder": "resnet18", "pretrained": True, "encoder_weights": "pretrained"}, "resnet18"),
        ({**ESPNET, "pretrained": True}, "espnetv2_s_2.0_imagenet_224x224"),
        ({**ESPNET, "encoder_weights": CITY}, CITY),
        ({"encoder_weights": "mine/resnet101.pth"}, None),
    ],
)
def test_the_weights_that_are_known(settings: dict[str, object], name: str | None) -> None:
    assert known_weights(read_settings(settings).model) == name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"pretrained": True, "encoder_weights": "a.pth"},
            "model.encoder_weights: a.pth contradicts pretrained: true; remove one of them",
        ),
        (
            {"pretrained": False, "encoder_weights": "pretrained"},
            "encoder_weights: pretrained contradicts pretrained: false; remove one of them",
        ),
        (
            {"network": "espnetv2", "width_scale": 3, "encoder_weights": "pretrained"},
            "ESPNetv2 for width_scale 0.5, 1.0, 1.25, 1.5, 2.0, got 3.0; choose one of these",
        ),
        (
            {"encoder": "nf_ecaresnet26", "encoder_weights": "pretrained"},
            "no pretrained weights of encoder 'nf_ecaresnet26'; choose another encoder, or",
        ),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as refused:
        read_settings(settings)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_an_option_overrides_the_config(dsrl, tmp_path: Path, monkeypatch) -> None:
    """Either option, and whichever of the two keys the config has."""
    monkeypatch.chdir(tmp_path)
    for option in ("--pretrained", "--encoder-weights=pretrained"):
        line = ("train", "--stage", "1", "--data", "x", "--encoder", "resnet18", option)
        assert "fetch-encoder resnet18`" in dsrl(*line)[2]
    line = ("train", "--stage", "1", "--data", "x", "--config", "{pretrained: false}")
    assert "a.pth: no such file" in dsrl(*line, "--encoder-weights", "a.pth")[2]
    line = (*line[:-1], "{encoder_weights: b.pth}", "--no-pretrained")
    assert "x" in dsrl(*line)[2] and "b.pth" not in dsrl(*line)[2]
    # An option for something else does not make the default of one key contradict the other.
    trained = "{encoder: resnet18, encoder_weights: pretrained}"
    told = dsrl("train", "--stage", "1", "--data", "x", "--config", trained, "--epochs", "3")[2]
    assert "fetch-encoder resnet18`" in told
    code, _, told = dsrl(*line[:-1], "--pretrained", "--encoder-weights=a.pth")
    assert code == 2 and "--encoder-weights: a.pth contradicts pretrained: true" in told


def test_a_file_in_data_encoders_is_found_whatever_its_kind(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = read_settings({"encoder": "hf-hub:timm/resnet18.a1_in1k", "pretrained": True}).model
    path = Path("data/encoders/hf-hub-timm-resnet18.a1_in1k.pth")
    assert encoder_file(model) == path
    path.parent.mkdir(parents=True)
    path.with_suffix(".safetensors").touch()
    assert encoder_file(model) == path.with_suffix(".safetensors")
    # The file of another tag is no file of the model.
    model = read_settings({"encoder": "resnet18", "pretrained": True}).model
    Path("data/encoders/resnet18.a1_in1k.pth").touch()
    assert encoder_file(model) == Path("data/encoders/resnet18.pth")


def test_a_file_of_the_user_is_taken_from_where_it_is(monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for name, path in {"~/a.pth": "/home/me/a.pth", "b/c.weights": "b/c.weights"}.items():
        assert encoder_file(read_settings({"encoder_weights": name}).model) == Path(path)


def test_the_message_for_a_missing_file_proposes_a_name_that_is_meant() -> None:
    for wrong, near in {"pretraned": "pretrained", CITY[:-1]: CITY}.items():
        model = read_settings({"encoder_weights": wrong}).model
        assert missing_encoder_message(model, Path(wrong)).endswith(f"did you mean '{near}'?")


def test_moving_the_file_leaves_the_training_the_same() -> None:
    """Its checksum is what counts; whether there is one, the recipe says."""

    def recipe(stage: int = 1, **settings: object) -> dict[str, object]:
        return read_settings(settings).recipe(stage).model_dump()

    assert recipe(encoder_weights="a.pth") == recipe(encoder_weights="b.pth") != recipe()
    assert recipe(encoder_weights="a.pth") == recipe(pretrained=True)
    assert recipe(2, encoder_weights="a.pth") == recipe(2)
    assert recipe(2, encoder_weights="a.pth", init="encoder") != recipe(2, init="encoder")


def test_trainings_of_earlier_versions_from_random_weights_are_still_the_same() -> None:
    """They had `pretrained`, of DeepLabv3+ only."""
    for network, pretrained in {"deeplabv3plus": {"pretrained": False}, "espnetv2": {}}.items():
        model = read_settings({"network": network}).recipe(1).model_dump()["model"]
        new = {*ENCODER_START}
        assert {key: model[key] for key in model.keys() & new} == pretrained


def test_a_decoder_needs_weights_to_come_from() -> None:
    with pytest.raises(ValueError, match=r"pretrained_decoder: needs encoder_weights"):
        read_settings({"pretrained_decoder": True})
    settings = read_settings({"pretrained_decoder": True, "encoder_weights": "a.pth"})
    assert settings.recipe(1).model.pretrained_decoder
    assert not settings.recipe(2).model.pretrained_decoder


def test_every_source_is_whole() -> None:
    for name, source in sources().items():
        assert bool(source.package and source.file and source.sha256) != bool(source.url)
        assert not source.url or source.url.endswith(f"/{name}.pth")
