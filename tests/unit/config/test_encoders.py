"""The list of encoders is that of the installed timm, and a name that is not on it is refused."""

import runpy
from pathlib import Path

import pytest
import timm

from dsrl.config import encoders
from dsrl.config.settings import read_settings
from dsrl.models.backbone import Backbone

SCRIPT = runpy.run_path(str(Path(__file__).parents[3] / "workflow/scripts/encoder_list.py"))
RENEW = "run `make encoders`"
LISTED = encoders.encoder_list()["encoders"]


def refused(**model: object) -> str:
    with pytest.raises(ValueError) as caught:
        read_settings({"model": model})
    return str(caught.value)


def test_the_list_is_of_the_installed_timm() -> None:
    assert encoders.encoder_list()["timm"] == timm.__version__, RENEW


@pytest.mark.parametrize(
    "name", ["resnet18", "vgg11", "hrnet_w18_small", "tv_resnet50", "vit_tiny_patch16_224"]
)
def test_the_list_says_of_a_model_what_timm_does(name: str) -> None:
    """A sample of all kinds: any output stride, only 32, an old name, no encoder."""
    found = SCRIPT["entry"](name)
    assert LISTED.get(name, {**found, "output_strides": []}) == found, RENEW


@pytest.mark.slow
def test_the_list_is_complete() -> None:
    assert SCRIPT["encoders"]() == LISTED, RENEW


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("ResNet50", "resnet50"),
        ("resnet-50", "resnet50"),
        ("resnet50.a1_in1K", "resnet50.a1_in1k"),
        ("timm/resnet50", "resnet50"),
        ("mobilenet_v3_large", "mobilenetv3_large_100"),
    ],
)
def test_a_misspelt_encoder_is_refused_with_the_nearest_one(name: str, near: str) -> None:
    message = refused(encoder=name)
    assert message.startswith("config: model.encoder: expected a timm model")
    assert message.endswith(f"got '{name}'; did you mean '{near}'?")


def test_a_model_that_can_be_no_encoder_is_refused() -> None:
    assert "got 'vit_tiny_patch16_224'" in refused(encoder="vit_tiny_patch16_224")
    assert refused(encoder="vgg16") == (
        "config: model.output_stride: expected 32 for encoder 'vgg16', got 16"
    )
    assert "no pretrained weights of encoder 'nf_ecaresnet26'" in refused(
        encoder="nf_ecaresnet26", pretrained=True
    )


@pytest.mark.parametrize(
    "model",
    [
        {"encoder": "resnet50.a1_in1k"},
        {"encoder": "vgg16", "output_stride": 32},
        {"encoder": "hf-hub:timm/resnet18.a1_in1k"},
        {"encoder": "unknown", "network": "espnetv2"},  # has none
    ],
)
def test_what_timm_takes_is_accepted(model: dict[str, object]) -> None:
    read_settings({"model": model})


def test_with_another_timm_the_models_of_that_one_count(monkeypatch) -> None:
    monkeypatch.setattr(encoders, "version", lambda name: "9.9")
    monkeypatch.setitem(timm.models._registry._model_entrypoints, "resnet_of_9_9", None)
    read_settings({"encoder": "resnet_of_9_9"})
    assert "did you mean 'resnet50'?" in refused(encoder="ResNet50")


def test_a_file_is_read_whatever_encoder_it_names(make_weights, tmp_path) -> None:
    """What it says of itself must be there to see even if no timm has the encoder any more."""
    from dsrl.checkpoints.weights import Weights, load_weights, save_weights

    weights = make_weights(1)
    model = weights.info.model.model_copy(update={"encoder": "removed_from_timm"})
    info = weights.info.model_copy(update={"model": model})
    save_weights(tmp_path / "w.weights", Weights(info, weights.layers))
    assert load_weights(tmp_path / "w.weights").info == info


def test_an_assertion_of_timm_without_text_is_explained() -> None:
    with pytest.raises(ValueError, match="cannot be used at output stride 16: not supported; "):
        Backbone("dla34", 16)
