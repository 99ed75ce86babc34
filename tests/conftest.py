"""What many tests share: a tiny prepared data set, settings that fit it, weights, stages."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dsrl.config import Settings, read_settings

# Before torch is imported: what is tiny is slower on several threads than on one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

TINY = {
    "seed": 1,
    "input_size": [32, 64],
    "encoder": "mobilenetv3_small_050",
    "decoder_channels": 16,
    "epochs": 2,
    "batch_size": 4,
    "learning_rate": 0.05,
    "scale": [0.75, 1.5],
    "device": "cpu",
    "num_workers": 0,
}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo data set of 10, 5 and 4 images at 64x128, made as users make it; read only."""
    from dsrl.data.archives import unpack
    from dsrl.data.labels import load_description
    from dsrl.data.preprocess import preprocess
    from dsrl.demo.archives import write_demo_archives

    folder = tmp_path_factory.mktemp("demo")
    write_demo_archives(folder / "archives", 10, 5, size=(64, 128), seed=0)
    unpack(sorted((folder / "archives").glob("*.zip")), folder / "raw")
    for split in ("train", "val", "test"):
        output = folder / "prepared" / split
        preprocess(load_description("demo"), folder / "raw", split, (64, 128), output, jobs=1)
    return folder / "prepared"


@pytest.fixture(scope="session")
def tiny_settings() -> Callable[..., Settings]:
    """Settings for `prepared` that train in a second; keywords are settings of any section."""

    def make(**changes: object) -> Settings:
        return read_settings({**TINY, **changes})

    return make


@pytest.fixture(scope="session")
def make_weights(prepared: Path, tiny_settings: Callable[..., Settings]):
    """Untrained weights of a stage, with the classes of `prepared` or other ones."""
    import torch

    from dsrl.data.manifest import read_manifest
    from dsrl.models.dsrl import DSRL
    from dsrl.training.weights import Weights, WeightsInfo

    def make(stage: int, seed: int = 0, num_classes: int | None = None, **model: object) -> Weights:
        manifest = read_manifest(prepared / "val")
        settings = tiny_settings(**model)
        classes = manifest.classes[:num_classes]
        torch.manual_seed(seed)
        info = WeightsInfo(
            stage=stage,
            layers="all",
            model=settings.model,
            dataset=manifest.dataset,
            classes=classes,
            mean=manifest.mean,
            std=manifest.std,
            input_size=settings.data.input_size,
            epoch=1,
            scores={},
        )
        return Weights(info, DSRL(settings.model, len(classes), stage).state_dict())

    return make


@pytest.fixture(scope="session")
def trained(
    prepared: Path, tiny_settings: Callable[..., Settings], tmp_path_factory: pytest.TempPathFactory
) -> dict[int, Path]:
    """Folders of the three stages, each trained from the one before; read only."""
    from dsrl.training.loop import train_stage

    root = tmp_path_factory.mktemp("trained")
    folders = {stage: root / f"stage{stage}" for stage in (1, 2, 3)}
    for stage, folder in folders.items():
        previous = folders[stage - 1] / "final.weights" if stage > 1 else None
        train_stage(tiny_settings(), stage, prepared, folder, previous)
    return folders
