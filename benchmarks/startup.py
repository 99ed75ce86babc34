"""How long every command takes on next to no work, beside PyTorch's import and Snakemake's start.

    python benchmarks/startup.py [--runs 5] [--only table,unpack]

Each is a process of its own, in a folder that the commands themselves have filled with a tiny data
set and a network trained for an epoch. Medians; CPU is user and system time of all its processes.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
DSRL = [sys.executable, "-m", "dsrl"]
IMPORTS = ("pass", "import torch", "import timm")
# In this order each finds what it reads.
COMMANDS = {
    "--help": "--help",
    "demo-data": "demo-data --train-images 2 --val-images 1 --image-size 64 128 --output archives",
    "unpack": "unpack archives/leftImg8bit_trainvaltest.zip archives/gtFine_trainvaltest.zip "
    "--output raw",
    "preprocess": "preprocess --dataset demo --raw raw --size 64 128 --dataset-split {split} "
    "--output data",
    "train": "train --stage 1 --data data --config tiny.yaml --output stage1",
    "resume-train": "resume-train --checkpoint stage1/checkpoints/epoch1.checkpoint",
    "inspect-checkpoint": "inspect-checkpoint --checkpoint stage1/checkpoints/epoch1.checkpoint",
    "edit-checkpoint": "edit-checkpoint --checkpoint stage1/checkpoints/epoch1.checkpoint "
    "--key device --value cpu",
    "prune-weights": "prune-weights --src-weights stage1/final.weights --dest-weights a.weights",
    "print-model": "print-model --weights a.weights",
    "benchmark": "benchmark --weights a.weights --data data --device cpu --latency-runs 1 "
    "--output one.txt",
    "table": "table one.csv --output table.txt",
    "plot-classes": "plot-classes table.csv --output classes.png",
    "plot-sweep": "plot-sweep table.csv --output sweep.png",
    "plot-curves": "plot-curves stage1/history.csv --output curves.png",
    "plot-examples": "plot-examples a.weights --data data --device cpu --count 1 --output e.png",
    "test": "test --weights a.weights --image-file curves.png --device cpu --output test.png",
    "predict": "predict --weights a.weights --device cpu --output predictions curves.png",
    "export": "export --weights a.weights --output a.pt2",
    "purge": "purge nothing",
}
MADE_ONCE = {"demo-data": "archives", "unpack": "raw"}  # and not replaced
TINY = """\
{data: {input_size: [32, 64]}, model: {encoder: mobilenetv3_small_050, decoder_channels: 16},
 training: {epochs: 1, batch_size: 2}, resources: {device: cpu, num_workers: 0}}
"""
EMPTY = 'rule all:\n    output: "a"\n    shell: "touch a"\n'


def measured(line: list[str], folder: Path, runs: int) -> tuple[float, float]:
    """Median seconds of a command: by the clock, and of CPU."""
    walls, cpus = [], []
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for _ in range(runs):
        for command in MADE_ONCE.keys() & set(line):
            shutil.rmtree(folder / MADE_ONCE[command])
        before, started = os.times(), time.perf_counter()
        done = subprocess.run(
            line, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        walls.append(time.perf_counter() - started)
        if done.returncode:
            sys.exit(f"{' '.join(line)}: {done.stderr or done.stdout}")
        after = os.times()
        cpus.append(
            after.children_user
            + after.children_system
            - before.children_user
            - before.children_system
        )
    return statistics.median(walls), statistics.median(cpus)


def prepare(folder: Path) -> None:
    """What the commands read and do not make themselves."""
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "nothing").mkdir()
    (folder / "Empty").write_text(EMPTY)
    for name in ("demo-data", "unpack"):
        subprocess.run([*DSRL, *COMMANDS[name].split()], cwd=folder, check=True)
    for split in ("train", "val"):
        line = COMMANDS["preprocess"].format(split=split).split()
        subprocess.run([*DSRL, *line], cwd=folder, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", help="commands, with commas between them; default: all")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else list(COMMANDS)
    snakemake = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1", "--snakefile"]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(folder)
        lines = {f"`python -c '{text}'`": [sys.executable, "-c", text] for text in IMPORTS}
        for name in COMMANDS:
            line = [*DSRL, *COMMANDS[name].format(split="val").split()]
            if name in names:
                lines[f"`dsrl {name}`"] = line
            else:
                measured(line, folder, 1)
        lines["`snakemake --dry-run` of an empty Snakefile"] = [*snakemake, "Empty"]
        lines["`snakemake --dry-run` of this one"] = [
            *(*snakemake, str(ROOT / "Snakefile")),
            *("--configfile", str(ROOT / "config/config.yaml")),
        ]
        print("| process | wall (s) | CPU (s) |\n|---|---:|---:|")
        for name, line in lines.items():
            wall, cpu = measured(line, folder, arguments.runs)
            print(f"| {name} | {wall:.2f} | {cpu:.2f} |", flush=True)


if __name__ == "__main__":
    main()
