"""A table that agrees with the reference passes in CI; one that does not is told apart."""

import runpy
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "workflow/scripts/compare_tables.py"
REFERENCE = ROOT / "tests/golden/demo.csv"

differences = runpy.run_path(str(SCRIPT))["differences"]


@pytest.fixture
def reference() -> pd.DataFrame:
    return pd.read_csv(REFERENCE)


def test_slower_machine_and_other_order_agree(reference: pd.DataFrame) -> None:
    assert differences(reference.assign(latency_ms=1e6)[::-1], reference) == []


def test_small_difference_agrees(reference: pd.DataFrame) -> None:
    assert differences(reference.assign(mean_iou=reference.mean_iou + 0.005), reference) == []


@pytest.mark.parametrize("change", [-0.04, 0.04, float("nan")])
def test_value_outside_the_tolerance_is_named(reference: pd.DataFrame, change: float) -> None:
    table = reference.copy()
    table.loc[1, "mean_iou"] += change
    [line] = differences(table, reference)
    assert line.startswith("demo, 0, SSSR+SISR, demo, val: mean_iou is ")


def test_number_of_parameters_is_exact(reference: pd.DataFrame) -> None:
    assert len(differences(reference.assign(parameters=reference.parameters + 1), reference)) == 3


def test_missing_row_is_named(reference: pd.DataFrame) -> None:
    expected = ["demo, 0, SSSR+SISR+FA, demo, val: 0 rows, expected one"]
    assert differences(reference[:2], reference) == expected


def test_exit_code_and_message(reference: pd.DataFrame, tmp_path: Path) -> None:
    shorter = tmp_path / "benchmark.csv"
    reference[:2].to_csv(shorter, index=False)
    for table, code, message in [
        (REFERENCE, 0, ""),
        (shorter, 1, "demo, 0, SSSR+SISR+FA, demo, val"),
    ]:
        done = subprocess.run(
            [sys.executable, SCRIPT, table, REFERENCE], capture_output=True, text=True, check=False
        )
        assert done.returncode == code
        assert done.stderr.startswith(message)
