"""Run the benchmarks that need no GPU and write their tables to benchmarks/README.md.

    make bench
    python benchmarks/report.py evaluation startup  # these again; the other sections stay

It takes half an hour; nothing else should use the machine. A benchmark that fails ends it, and
leaves the file as it was.
"""

import argparse
import os
import subprocess
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path

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


REPORT = FOLDER / "README.md"
INTRODUCTION = """\
# Benchmarks

Written by `make bench`. Each script can be run alone, some with `--device gpu`: see
[gpu.md](gpu.md). Each ratio is of two times from one round: median (range).
"""


def section(script: str) -> str:
    """Run a benchmark: its tables, and what they were made with."""
    load = os.getloadavg()[0]
    commit = output(["git", "describe", "--always", "--dirty"])
    tables = output([sys.executable, str(FOLDER / f"{script}.py")])
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{tables}\n\n{source(script)}, commit {commit}, {date.today()}; load {load:.1f} before it "
        f"started; {packages}, Python {sys.version.split()[0]}.\n"
    )


def output(command: list[str]) -> str:
    """What a command prints, in the folder of the benchmarks' project."""
    done = subprocess.run(command, cwd=FOLDER.parent, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def source(script: str) -> str:
    """How a section says which script it is of."""
    return f"`python benchmarks/{script}.py`"


def main() -> None:
    """Write the report."""
    parser = argparse.ArgumentParser(description="Run benchmarks and write benchmarks/README.md.")
    parser.add_argument(
        "scripts", nargs="*", choices=(*SCRIPTS, []), metavar="SCRIPT", help="default: all"
    )
    chosen = parser.parse_args().scripts or SCRIPTS
    old = [f"## {text.strip()}\n" for text in REPORT.read_text().split("\n## ")[1:]]
    sections = {script: text for script in SCRIPTS for text in old if source(script) in text}
    for script in chosen:
        print(f"{script} ...", file=sys.stderr)
        sections[script] = section(script)
    with atomic_file(REPORT) as temporary:
        found = [sections[script] for script in SCRIPTS if script in sections]
        temporary.write_text("\n".join([INTRODUCTION, *found]))


if __name__ == "__main__":
    main()
