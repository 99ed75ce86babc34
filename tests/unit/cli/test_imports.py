"""A command waits for what it uses: importing PyTorch takes seconds, timm and torchvision as long.

A fresh interpreter runs the commands of a family one after the other. What one of them has imported
is there for those after it, so a failure may name only the first that imports too much.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd

from dsrl.evaluation.table import COLUMNS

RUN = """
import io, json, sys
from contextlib import redirect_stdout, suppress
from dsrl.cli.main import main
lines, watched = json.loads(sys.argv[1]), set(sys.argv[2:])
for line in lines:
    before = set(sys.modules)
    expected = 1 if line.startswith("! ") else 0  # one that fails for want of input
    try:
        with redirect_stdout(io.StringIO()):
            main(line.removeprefix("! ").split())
    except SystemExit as exit_:
        assert bool(exit_.code) == expected, f"{line}: {exit_.code}"
    print(json.dumps([line, sorted(watched & set(sys.modules) - before)]))
"""


def imported(lines: list[str], folder: Path, *watched: str) -> dict[str, list[str]]:
    """Which of the watched packages each command line imports."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(lines), *watched],
        capture_output=True, text=True, cwd=folder, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines())


def test_what_builds_no_network_imports_no_timm(trained: dict[int, Path], tmp_path: Path) -> None:
    shutil.copytree(trained[3], tmp_path / "stage3")
    path = next((tmp_path / "stage3/checkpoints").glob("*.checkpoint"))
    lines = [
        f"inspect-checkpoint --checkpoint {path}",
        f"inspect-checkpoint --json --checkpoint {path}",
        f"edit-checkpoint --checkpoint {path} --key device --value gpu",
        "prune-weights --src-weights stage3/final.weights --dest-weights out.weights",
        "purge --yes stage3",
    ]
    assert imported(lines, tmp_path, "timm", "torchvision") == {line: [] for line in lines}
    assert (tmp_path / "out.weights").exists() and not (tmp_path / "stage3/final.weights").exists()


def test_what_reads_no_weights_imports_no_torch(trained: dict[int, Path], tmp_path: Path) -> None:
    shutil.copy(trained[3] / "history.csv", tmp_path)
    row = {**dict.fromkeys(COLUMNS, 1), "type": "SSSR", "sizes": "8x8 -> 16x16", "iou_road": 0.5}
    pd.DataFrame([row]).to_csv(tmp_path / "one.csv", index=False)
    helps = ["--help", "--version", "train --help", "! with-gpus 1 absent-program"]
    helps += ["! download --dataset camvid other.zip", "! train --stage 1 --encoder ResNet50"]
    data = [
        "demo-data --train-images 1 --val-images 1 --image-size 32 64 --output archives",
        "unpack archives/leftImg8bit_trainvaltest.zip archives/gtFine_trainvaltest.zip "
        "--output raw",
        "preprocess --dataset demo --raw raw --size 16 32 --jobs 1 --output prepared",
    ]
    tables = ["table one.csv --output table.txt"]
    tables += [f"plot-{what} table.csv --output {what}.png" for what in ("classes", "sweep")]
    (tmp_path / "confusion.csv").write_text("truth,a,b\na,1,2\nb,3,4\n")
    tables += ["plot-confusion confusion.csv --output confusion.png"]
    tables += ["plot-curves history.csv --output curves.png"]
    heavy = ("torch", "torchvision", "timm")
    found = imported([*helps, *data], tmp_path, *heavy, "pandas", "matplotlib")
    assert found == {line: [] for line in [*helps, *data]}
    assert imported(tables, tmp_path, *heavy) == {line: [] for line in tables}
