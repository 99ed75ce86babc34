"""Compare a results table with a reference: an earlier table of the same config.

    python workflow/scripts/compare_tables.py results/benchmark.csv tests/golden/demo.csv

Each row of the reference must be in the table, and agree within TOLERANCES.
"""

import sys

import pandas as pd

ROW = ["experiment", "seed", "type", "dataset", "split"]
TOLERANCES = {"images": 0, "parameters": 0, "gflops": 0, "pixel_accuracy": 0.02, "mean_iou": 0.03}
FROM_SCRATCH = {"pixel_accuracy": 0.03, "mean_iou": 0.08}  # stage 1; see tests/golden/README.md


def differences(table: pd.DataFrame, reference: pd.DataFrame) -> list[str]:
    """One line per missing row or value outside its tolerance."""
    found = []
    for _, expected in reference.iterrows():
        name = ", ".join(map(str, expected[ROW]))
        rows = table[(table[ROW] == expected[ROW]).all(axis=1)]
        if len(rows) != 1:
            found.append(f"{name}: {len(rows)} rows, expected one")
            continue
        wider = FROM_SCRATCH if expected["type"] == "SSSR" else {}
        for column, tolerance in {**TOLERANCES, **wider}.items():
            value, wanted = rows.iloc[0][column], expected[column]
            if not abs(value - wanted) <= tolerance:  # not `>`, so that NaN differs too
                found.append(f"{name}: {column} is {value}, expected {wanted} ± {tolerance}")
    return found


if __name__ == "__main__":
    sys.exit("\n".join(differences(*map(pd.read_csv, sys.argv[1:]))) or None)
