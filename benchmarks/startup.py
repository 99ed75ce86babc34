"""Start-up of `dsrl` and of the pipeline, and what of a demo run is not training.

    python benchmarks/startup.py [--rounds 5]

The demo is run once, in a temporary folder, on two cores.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from measure import interleaved, machine, ratio, row

from dsrl.config.settings import read_settings

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "config/config.yaml"
CORES = 2
TRIVIAL = 'rule all:\n    output: "a"\n    shell: "touch {output}"\n'
IMPORTS = "import numpy, pandas, timm, torch, torchvision"  # those of a training


def process(folder: Path, *command: str) -> Callable[[], object]:
    """A process in `folder`, which must succeed; what it prints is dropped."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return lambda: subprocess.run(
        command, cwd=folder, env=environment, check=True, capture_output=True
    )


def training_seconds(results: Path) -> float:
    """Seconds in the epochs of all stages, without validation, as their histories say."""
    settings = read_settings(str(CONFIG))
    batch = settings.training.batch_size
    images = settings.demo.train_images // batch * batch
    histories = [pd.read_csv(path) for path in results.rglob("history.csv")]
    return sum(float((images / history.images_per_second).sum()) for history in histories)


def main() -> None:
    """Print the section."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as place:
        demo, trivial = Path(place, "demo"), Path(place, "trivial")
        for folder in (demo, trivial):
            folder.mkdir()
        (trivial / "Snakefile").write_text(TRIVIAL)
        run = ["snakemake", "--cores", str(CORES)]
        ours = [*run, "--snakefile", str(ROOT / "Snakefile"), "--configfile", str(CONFIG)]
        dry = {
            "`snakemake -n`, trivial": process(trivial, *run, "-n"),
            "`snakemake -n`, the demo": process(demo, *ours, "-n"),
        }
        times = interleaved(dry, rounds)
        process(trivial, *run)()
        started = time.perf_counter()
        process(demo, *ours)()
        wall = time.perf_counter() - started
        training = training_seconds(demo / "results")
        times |= interleaved(
            {
                "nothing to do, trivial": process(trivial, *run),
                "nothing to do, the demo": process(demo, *ours),
                "`python -c pass`": process(demo, "python", "-c", "pass"),
                f"`python -c '{IMPORTS}'`": process(demo, "python", "-c", IMPORTS),
                "`dsrl --help`": process(demo, "dsrl", "--help"),
            },
            rounds,
        )
    print("## Start-up\n")
    print(
        "Whole processes, from their start to their end; the peer is a Snakefile with one rule. "
        f"Median (range) of {rounds} rounds, interleaved. {machine(torch.device('cpu'))}.\n"
    )
    print(row("process", "ms", "/ trivial Snakefile", "target"))
    print("|---|---:|---:|---|")
    for name, found in times.items():
        peer = times.get(f"{name.rpartition(',')[0]}, trivial")
        target = "<= 300 ms" if "dsrl" in name else "<= 1.5" if name.endswith("demo") else ""
        print(row(name, found, ratio(found, peer) if peer else "", target))
    print(
        f"\nThe demo, once: {wall:.0f} s, of which {training:.0f} s in training steps; "
        f"{1 - training / wall:.0%} is the rest: start-up of its processes, drawing and preparing "
        "the images, validation, benchmark and figures."
    )


if __name__ == "__main__":
    main()
