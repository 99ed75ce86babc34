"""Pretrained encoders without internet: from the cache, or one line that says what to do."""

import time
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from dsrl.models.backbone import Backbone

NAME, REPOSITORY = "mobilenetv3_small_050", "timm/mobilenetv3_small_050.lamb_in1k"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, empty, and a hub that refuses connections."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "*")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        (NAME, REPOSITORY),
        ("resnet18.a1_in1k", "timm/resnet18.a1_in1k"),
        ("tv_resnet50", "timm/resnet50.tv_in1k"),  # an old name
    ],
)
def test_without_internet_the_way_out_is_told_at_once(
    cache: Path, name: str, repository: str
) -> None:
    started = time.monotonic()
    with pytest.raises(OSError) as caught:
        Backbone(name, 16, pretrained=True)
    assert time.monotonic() - started < 20  # timm alone: 49
    problem, cure = str(caught.value).rsplit("; ", maxsplit=1)
    assert problem.startswith(
        f"encoder '{name}': its pretrained weights are not in {cache} and cannot be downloaded "
        f"from http://127.0.0.1:9/{repository} ("
    )
    assert cure == (
        f"run `hf download {repository}` where there is internet access and copy its cache here, "
        "or set pretrained: false"
    )


def test_offline_mode_is_told_as_the_reason(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=f"encoder '{NAME}': .*HF_HUB_OFFLINE.*pretrained: false"):
        Backbone(NAME, 16, pretrained=True)


def test_what_is_in_the_cache_needs_no_internet(cache: Path) -> None:
    """Laid out as `hf download` leaves it."""
    torch.manual_seed(3)
    layers = timm.create_model(NAME).state_dict()
    folder = cache / f"models--{REPOSITORY.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("0" * 40)
    for path in (snapshot, folder / "refs"):
        path.mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    save_file(layers, snapshot / "model.safetensors")
    found = Backbone(NAME, 16, pretrained=True).features.state_dict()
    assert torch.equal(found["conv_stem.weight"], layers["conv_stem.weight"])


def test_a_tag_that_timm_does_not_have_is_no_matter_of_the_internet() -> None:
    with pytest.raises(ValueError, match=r"encoder 'resnet18\.best' cannot be used"):
        Backbone("resnet18.best", 16, pretrained=True)
