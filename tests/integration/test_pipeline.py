"""The real workflow on a tiny generated data set, from archives to the table and the pictures."""

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from pipeline import FIGURES, dry_run, jobs


def test_table_has_a_row_for_each_stage(finished: Path) -> None:
    text = (finished / "results/benchmark.txt").read_text()
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| SSSR")]
    assert rows == ["SSSR", "SSSR+SISR", "SSSR+SISR+FA"]
    assert "Baseline: predicting" in text
    table = pd.read_csv(finished / "results/benchmark.csv")
    assert ((table.mean_iou > 0) & (table.mean_iou < 1)).all()
    assert table.parameters.nunique() == 1, "only the SSSR path is run at inference"


def test_table_agrees_with_history(finished: Path) -> None:
    table = pd.read_csv(finished / "results/benchmark.csv")
    for stage in (1, 2, 3):
        history = pd.read_csv(finished / f"results/tiny/stage{stage}/history.csv")
        best = history.loc[history.val_mean_iou.idxmax()]
        row = table.iloc[stage - 1]
        assert row.best_epoch == best.epoch
        assert row.mean_iou == pytest.approx(best.val_mean_iou, abs=1e-6)


def test_pictures_are_made(finished: Path) -> None:
    for rule in FIGURES:
        name = rule.replace("_", "-")
        with Image.open(finished / f"results/tiny/{name}.png") as picture:
            assert picture.width > 300
            assert len(picture.convert("RGB").getcolors(2**24)) > 50


def test_misspelt_key_is_named_with_its_neighbour(tmp_path: Path) -> None:
    told = dry_run(tmp_path, "--config", "training={epoch: 3}", fails=True)
    assert "unknown key 'training.epoch'; did you mean 'training.epochs'?" in told


def test_misspelt_encoder_is_named_with_its_neighbour(tmp_path: Path) -> None:
    told = dry_run(tmp_path, "--config", "encoder=ResNet50", fails=True)
    assert "model.encoder: " in told and "got 'ResNet50'; did you mean 'resnet50'?" in told


def test_everything_is_made_from_nothing(tmp_path: Path) -> None:
    """Each archive, split, stage, score and picture once."""
    once = ["demo_data", "unpack", "preprocess", "preprocess_train", "prune", "table", "results"]
    once += ["classes", *FIGURES, "all"]
    stages = [f"{rule} {stage}" for rule in ("train", "benchmark") for stage in (1, 2, 3)]
    # Those of the drawing, of the data set, and of each stage.
    expected = dict.fromkeys([*once, *stages], 1) | {"settings": 5}
    assert jobs(dry_run(tmp_path)) == expected
