"""A table that CI accepts agrees with the reference; one that does not is told apart."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "workflow/scripts/compare_tables.py"
REFERENCE = ROOT / "tests/golden/demo.csv"


@pytest.fixture
def table() -> pd.DataFrame:
    """The table of the reference, on a machine of another speed."""
    return pd.read_csv(REFERENCE).assign(latency_ms=1e6)


def compare(table: pd.DataFrame, folder: Path) -> str:
    """What the script complains about."""
    path = folder / "benchmark.csv"
    table.to_csv(path, index=False)
    done = subprocess.run(
        [sys.executable, SCRIPT, path, REFERENCE], capture_output=True, text=True, check=False
    )
    assert done.returncode == bool(done.stderr)
    return done.stderr


def test_same_table_agrees(table: pd.DataFrame, tmp_path: Path) -> None:
    assert compare(table, tmp_path) == ""


def test_order_of_rows_and_small_differences_do_not_matter(
    table: pd.DataFrame, tmp_path: Path
) -> None:
    table["mean_iou"] += 0.005
    assert compare(table[::-1], tmp_path) == ""


@pytest.mark.parametrize("change", [-0.1, 0.1, float("nan")])
def test_value_outside_the_tolerance_is_named(
    table: pd.DataFrame, tmp_path: Path, change: float
) -> None:
    table.loc[1, "mean_iou"] += change
    assert compare(table, tmp_path).startswith("SSSR+SISR, demo, val: mean_iou is ")


def test_number_of_parameters_is_exact(table: pd.DataFrame, tmp_path: Path) -> None:
    table["parameters"] += 1
    assert compare(table, tmp_path).count("parameters is") == 3


def test_missing_row_is_named(table: pd.DataFrame, tmp_path: Path) -> None:
    assert compare(table[:2], tmp_path) == "SSSR+SISR+FA, demo, val: 0 rows instead of one\n"
