"""Run the benchmarks that need no GPU and write their tables to benchmarks/README.md.

    make bench

It takes minutes; nothing else should use the machine. A benchmark that fails ends it, and leaves
the file as it was.
"""

import os
import subprocess
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch
from measure import machine

from dsrl.system.files import atomic_file

FOLDER = Path(__file__).parent
SCRIPTS = (
    *("training_step", "feature_affinity", "input_pipeline", "evaluation"),
    *("startup", "contention", "scaling", "growth"),
)
PACKAGES = (
    *("torch", "torchvision", "timm", "segmentation-models-pytorch", "onnxruntime"),
    "cityscapesscripts",
)


def main() -> None:
    """Write the report."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=FOLDER,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    sections = [
        "# Benchmarks\n\nWritten by `make bench`. Each script can be run alone, some with "
        "`--device gpu`. Each ratio is of two times from one round: median (range).\n\n"
        f"{machine(torch.device('cpu'))}, load {os.getloadavg()[0]:.1f} before the start; "
        f"{packages}, Python {sys.version.split()[0]}; commit {commit}, {date.today()}.\n"
    ]
    for script in SCRIPTS:
        print(f"{script} ...", file=sys.stderr)
        command = [sys.executable, str(FOLDER / f"{script}.py")]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        sections.append(f"{done.stdout.strip()}\n\n`python benchmarks/{script}.py`\n")
    with atomic_file(FOLDER / "README.md") as temporary:
        temporary.write_text("\n".join(sections))


if __name__ == "__main__":
    main()
