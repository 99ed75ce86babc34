"""What many tests share: a tiny prepared data set, settings that fit it, weights, stages, a run.

What takes long is made once for all of pytest's workers, which only read it.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from shared import made_once

from dsrl.config.settings import Settings, read_settings

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
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run of pytest have in common."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def prepared(shared_folder: Path) -> Iterator[Path]:
    """A demo data set of 10, 5 and 4 images at 64x128, made as users make it; read only."""
    from dsrl.data.archives import unpack
    from dsrl.data.description import load_description
    from dsrl.data.preprocess import preprocess
    from dsrl.demo.archives import write_demo_archives

    def make(folder: Path) -> None:
        write_demo_archives(folder / "archives", 10, 5, size=(64, 128), seed=0)
        unpack(sorted((folder / "archives").glob("*.zip")), folder / "raw")
        for split in ("train", "val", "test"):
            output = folder / "prepared" / split
            preprocess(load_description("demo"), folder / "raw", split, (64, 128), output, jobs=1)

    with made_once(shared_folder / "demo", make) as folder:
        yield folder / "prepared"


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

    from dsrl.checkpoints.weights import Weights, WeightsInfo
    from dsrl.data.manifest import read_manifest
    from dsrl.models.dsrl import DSRL

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
def of_stages(make_weights, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Path]]:
    """Files with untrained weights of the stages asked for, of another seed each; read only."""
    from dsrl.checkpoints.weights import save_weights

    folder = tmp_path_factory.mktemp("of_stages")

    def save(*stages: int) -> list[Path]:
        paths = [folder / f"{stage}.weights" for stage in stages]
        for path, stage in zip(paths, stages, strict=True):
            if not path.exists():
                save_weights(path, make_weights(stage, seed=stage, encoder="test_resnet"))
        return paths

    return save


@pytest.fixture(scope="session")
def weights(make_weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with untrained weights of stage 3; read only."""
    from dsrl.checkpoints.weights import save_weights

    path = tmp_path_factory.mktemp("weights") / "a.weights"
    save_weights(path, make_weights(3, encoder="test_resnet"))
    return path


@pytest.fixture(scope="session")
def trained(
    shared_folder: Path, prepared: Path, tiny_settings: Callable[..., Settings]
) -> Iterator[dict[int, Path]]:
    """Folders of the three stages, each trained from the one before; read only."""
    from training import train

    def make(folder: Path) -> None:
        for stage in (1, 2, 3):
            train(tiny_settings(), stage, prepared, folder / f"stage{stage}")

    with made_once(shared_folder / "trained", make) as folder:
        yield {stage: folder / f"stage{stage}" for stage in (1, 2, 3)}


@pytest.fixture(scope="session")
def finished(shared_folder: Path) -> Iterator[Path]:
    """A folder, with a space in its name, in which the workflow has run; read only."""
    from pipeline import snakemake

    with made_once(shared_folder / "a run", snakemake, leave_out=".snakemake") as folder:
        yield folder


@pytest.fixture
def dsrl(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command line in this process; gives exit code, stdout and stderr."""
    from dsrl.cli.main import main

    def run(*arguments: object) -> tuple[int, str, str]:
        code: object = 0
        capsys.readouterr()
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            code = exit_.code
        out, err = capsys.readouterr()
        if isinstance(code, str):  # Python prints it and exits with 1
            return 1, out, f"{err}{code}\n"
        assert code is None or isinstance(code, int)
        return code or 0, out, err

    return run
