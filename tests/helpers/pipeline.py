"""Running the real workflow in a folder of its own."""

import multiprocessing
import os
import re
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "tests/integration/config.yaml"
# The rules of the figures of a run.
FIGURES = ("examples", "worst", "confusion", "super_resolution", "affinity", "curves")
STAGE_1 = "results/tiny/stage1/final.weights"

# Half of a dry run would be imports: each is a process that is forked from one that has them.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["snakemake.cli", "dsrl.config.settings", "dsrl.data.archives"])


def options(folder: Path, *arguments: str, config: Path = CONFIG) -> list[str]:
    return [
        *("--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)),
        *("--cores", "2", "--configfile", str(config), *arguments),
    ]


def command(folder: Path, *arguments: str, config: Path = CONFIG) -> list[str]:
    """A run to start, and to end, as one likes."""
    return [sys.executable, "-m", "snakemake", *options(folder, *arguments, config=config)]


def snakemake(folder: Path, *arguments: str, config: Path = CONFIG, fails: bool = False) -> str:
    """Run the workflow in `folder`; returns what it printed."""
    line = options(folder, *arguments, config=config)
    with TemporaryDirectory() as place:
        output = Path(place) / "output"
        process = FORKS.Process(target=_main, args=(line, output, dict(os.environ)))
        process.start()
        process.join()
        text = output.read_text()
    assert process.exitcode == int(fails), text
    return text


def dry_run(folder: Path, *arguments: str, config: Path = CONFIG, fails: bool = False) -> str:
    """What a run would do; several may ask at the same time."""
    return snakemake(folder, "--dry-run", *arguments, config=config, fails=fails)


def _main(arguments: list[str], output: Path, environment: dict[str, str]) -> None:
    """Be `snakemake`, in a process of its own."""
    with output.open("wb") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    from snakemake.cli import main

    main(arguments)


def jobs(output: str) -> Counter[str]:
    """Which jobs were announced, with their stage: {'train 3': 1, 'results': 1, ...}."""
    found: Counter[str] = Counter()
    for name, block in re.findall(r"^(?:local)?rule (\w+):\n((?:    .*\n)*)", output, re.MULTILINE):
        stage = re.search(r"wildcards:.*stage=(\d)", block)
        found[f"{name} {stage[1]}" if stage else name] += 1
    return found


def weights_path(folder: Path, stage: int) -> Path:
    """The final weights of a stage."""
    return folder / f"results/tiny/stage{stage}/final.weights"
