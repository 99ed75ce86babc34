"""Compare a results table with a reference of it.

    python workflow/scripts/compare_tables.py results/benchmark.csv tests/golden/demo.csv

The reference says what is compared: its columns of text name a row, its columns of numbers must
agree within TOLERANCES. tests/golden/README.md says where both come from.
"""

import sys

import pandas as pd

# What is not named here must be equal.
TOLERANCES = {"pixel_accuracy": 0.02, "mean_iou": 0.03}


def differences(table: pd.DataFrame, reference: pd.DataFrame) -> list[str]:
    """What the table lacks or has otherwise, a line each; empty if it agrees."""
    if missing := [column for column in reference if column not in table]:
        return [f"no column {column}" for column in missing]
    values = list(reference.select_dtypes("number"))
    names = [column for column in reference if column not in values]
    found = []
    for expected in reference.to_dict("records"):
        name = ", ".join(expected[column] for column in names)
        rows = table[(table[names] == [expected[column] for column in names]).all(axis=1)]
        if len(rows) != 1:
            found.append(f"{name}: {len(rows)} rows instead of one")
            continue
        for column in values:
            value, tolerance = rows.iloc[0][column], TOLERANCES.get(column, 0)
            if not abs(value - expected[column]) <= tolerance:  # so that NaN differs as well
                found.append(f"{name}: {column} is {value}, not {expected[column]} ± {tolerance}")
    return found


if __name__ == "__main__":
    found = differences(*map(pd.read_csv, sys.argv[1:]))
    sys.exit("\n".join(found))
