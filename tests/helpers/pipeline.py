"""Running the real workflow in a folder of its own."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "tests/integration/config.yaml"


def command(folder: Path, *arguments: str, config: Path = CONFIG) -> list[str]:
    return [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")),
        *("--directory", str(folder), "--cores", "2", "--configfile", str(config), *arguments),
    ]


def snakemake(folder: Path, *arguments: str, config: Path = CONFIG) -> str:
    """Run the workflow in `folder`; returns what it printed."""
    done = subprocess.run(
        command(folder, *arguments, config=config),
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def jobs(output: str) -> Counter[str]:
    """Which jobs were announced, with their stage: {'train 3': 1, 'results': 1, ...}."""
    found: Counter[str] = Counter()
    for name, block in re.findall(r"^(?:local)?rule (\w+):\n((?:    .*\n)*)", output, re.MULTILINE):
        stage = re.search(r"wildcards:.*stage=(\d)", block)
        found[f"{name} {stage[1]}" if stage else name] += 1
    return found
