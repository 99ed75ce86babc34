"""More processes on the CPU; larger batches on a GPU.

    python benchmarks/scaling.py [--device cpu|gpu] [--config config/cityscapes.yaml]

CPU: `dsrl train` in two processes against one, at equal total batch. GPU: the training loop of
stage 3 at several batch sizes, with and without torch.compile. `--config` is the GPU's.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from measure import Times, machine, ratio, row
from network_cost import build

from dsrl.cli.main import main as dsrl_main
from dsrl.config.recipe import Recipe
from dsrl.config.settings import Settings, read_settings
from dsrl.data.archives import unpack
from dsrl.data.dataset import TrainingSample
from dsrl.data.description import load_description
from dsrl.data.preprocess import preprocess
from dsrl.data.transforms import InputTransform
from dsrl.demo.archives import write_demo_archives
from dsrl.models.cost import flops
from dsrl.system.distributed import set_up_device
from dsrl.system.signals import StopRequest
from dsrl.training import train as loop
from dsrl.training.guards import Guard
from dsrl.training.history import Progress
from dsrl.training.loader import Position
from dsrl.training.state import TrainingState, batch_norms, build_state
from dsrl.training.train import _train_epoch

EPOCHS = 5
SMALL = {
    "seed": 1,
    "input_size": [96, 128],
    "encoder": "mobilenetv3_small_100",
    "decoder_channels": 64,
    "epochs": EPOCHS,
    "batch_size": 8,
    "learning_rate": 0.01,
    "val_interval": EPOCHS,
    "device": "cpu",
    "num_workers": 1,
}
PEER = (1, 2)
KINDS = (PEER, (2, 1), (1, 1))  # processes, threads of each
SIZES = (8, 16, 32, 64)
STEPS = 20
# Dense bfloat16, TFLOP/s, by NVIDIA's data sheets; the first name that the GPU's contains.
PEAKS = {"H100 PCIe": 756, "H100": 989, "H200": 989, "A100": 312}


def prepare(folder: Path) -> None:
    """Draw and prepare a small data set."""
    write_demo_archives(folder / "archives", 64, 2, size=(192, 256), seed=0)
    unpack(sorted((folder / "archives").glob("*.zip")), folder / "raw")
    for split in ("train", "val"):
        output = folder / "data" / split
        preprocess(load_description("demo"), folder / "raw", split, (192, 256), output, jobs=2)


def train_with_frozen_norms(arguments: list[str]) -> None:
    """`dsrl train` with all batch norm in eval mode, in which images do not depend on others."""
    original = loop.build_state

    def build(*values: Any) -> TrainingState:
        state = original(*values)
        state.frozen = batch_norms(state.network)
        return state

    loop.build_state = build
    dsrl_main(["train", *arguments])


def trained(processes: int, threads: int, data: Path, output: Path) -> pd.DataFrame:
    """The history of a training."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [
        *(sys.executable, *(launcher if processes > 1 else []), __file__, "--train"),
        *("--stage", "1", "--data", data, "--output", output, "--config", json.dumps(SMALL)),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [str(part) for part in command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr)
    return pd.read_csv(output / "history.csv")


def scale_processes(rounds: int) -> None:
    """Print the CPU's table."""
    seconds: dict[tuple[int, int], list[float]] = {kind: [] for kind in KINDS}
    losses = {}
    with tempfile.TemporaryDirectory() as place:
        prepare(Path(place))
        for number in range(rounds):
            for kind in KINDS:
                output = Path(place, f"{number}-{kind[0]}x{kind[1]}")
                history = trained(*kind, Path(place, "data"), output)
                # The first epoch starts the data loader processes.
                seconds[kind].append(1 / history.images_per_second[1:].median())
                losses[kind] = history.total
    times = {kind: Times(values) for kind, values in seconds.items()}
    print(row("processes x threads", "images/s", "/ 1 x 2", "difference of the loss, at most"))
    print("|---|---:|---:|---:|")
    for kind, found in times.items():
        difference = (losses[kind] / losses[PEER] - 1).abs().max()
        speed = f"{1 / found.median:.1f}"
        faster = ratio(times[PEER], found)
        print(row(f"{kind[0]} x {kind[1]}", speed, faster, f"{difference:.1g}"))


class Training:
    """The loop of `dsrl train`, stage 3, on one random batch again and again."""

    def __init__(self, settings: Settings, batch_size: int, device: torch.device, compiled: bool):
        classes = load_description(settings.data.dataset).classes
        recipe = settings.recipe(3)
        changes = {"batch_size": batch_size, "learning_rate": 1e-6}
        self.recipe: Recipe = recipe.model_copy(
            update={"training": recipe.training.model_copy(update=changes)}
        )
        self.device = device
        self.state = build_state(self.recipe, classes, 1000, Position(), None, False, device)
        if compiled:
            self.state.network.compile()
        height, width = recipe.input_size
        tensors = [
            torch.randint(256, (batch_size, 3, height, width), dtype=torch.uint8),
            torch.randint(256, (batch_size, 3, 2 * height, 2 * width), dtype=torch.uint8),
            torch.randint(len(classes), (batch_size, 2 * height, 2 * width), dtype=torch.uint8),
            torch.ones(batch_size, 2 * height, 2 * width, dtype=torch.bool),
        ]
        pin = device.type == "cuda"
        self.batch = TrainingSample(*(t.pin_memory() if pin else t for t in tensors))
        self.transform = InputTransform(recipe.input_size, torch.full((3,), 0.5), torch.ones(3))
        self.transform = self.transform.to(device)
        self.guard = Guard(None, self.state, None, StopRequest(), lambda step: [])

    def epoch(self, steps: int, sync: str = "default") -> float:
        """Seconds per step of an epoch; with `sync` as torch.cuda.set_sync_debug_mode takes it from
        the first step to the last. After that the loop reads the losses, once an epoch."""

        def batches() -> Iterator[TrainingSample]:
            if self.device.type == "cuda":
                torch.cuda.set_sync_debug_mode(sync)
            yield from [self.batch] * steps
            if self.device.type == "cuda":
                torch.cuda.set_sync_debug_mode("default")

        bar = Progress("", 1, steps, 0, enabled=False)
        arguments = (self.transform, self.recipe, self.guard, bar)
        found = _train_epoch(self.state.network, self.state, batches(), *arguments)
        return self.recipe.training.batch_size / found["images_per_second"]

    def waits(self) -> bool:
        """Whether a step makes the host wait for the GPU; where, goes to stderr."""
        try:
            self.epoch(3, "error")
        except RuntimeError as error:
            if "synchroniz" not in str(error):
                raise
            torch.cuda.set_sync_debug_mode("default")
            traceback.print_exc()
            return True
        return False


def scale_batch(settings: Settings, device: torch.device, rounds: int) -> None:
    """Print the GPU's table."""
    network = build(settings, settings.model.upsampler, 3).train()
    # The backward pass is twice the forward pass; feature affinity is not counted.
    cost = 3 * flops(network, settings.data.input_size)
    peak = next((p for name, p in PEAKS.items() if name in machine(device)), None)
    print(row("batch", "compile", "ms per step", "images/s", "MFU", "memory (GiB)", "host waits"))
    print("|---:|---|---:|---:|---:|---:|---|")
    for batch_size in SIZES:
        for compiled in (False, True):
            cells = (batch_size, "yes" if compiled else "no")
            try:
                found = measured(settings, batch_size, device, compiled, rounds)
            except torch.OutOfMemoryError:
                print(row(*cells, "out of memory", "", "", "", ""), flush=True)
                continue
            times, memory, waits = found
            speed = batch_size / times.median
            mfu = f"{100 * cost * speed / (1e12 * peak):.1f} %" if peak else "?"
            waited = "yes" if waits else "no"
            print(row(*cells, times, f"{speed:.1f}", mfu, f"{memory:.1f}", waited), flush=True)


def measured(
    settings: Settings, batch_size: int, device: torch.device, compiled: bool, rounds: int
) -> tuple[Times, float, bool]:
    """Times of a step, peak memory in GiB, and whether a step makes the host wait."""
    torch.compiler.reset()
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    training = Training(settings, batch_size, device, compiled)
    training.epoch(5)  # compiles, chooses algorithms
    waits = training.waits()
    times = Times([training.epoch(STEPS) for _ in range(rounds)])
    return times, torch.cuda.max_memory_allocated(device) / 2**30, waits


def main() -> None:
    """Print the section, or train."""
    if sys.argv[1:2] == ["--train"]:
        train_with_frozen_norms(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default="config/cityscapes.yaml")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print("## Scaling\n")
    if arguments.device == "cpu":
        print(
            "`dsrl train` of stage 1 in two processes of one thread (torchrun, gloo) and in one "
            "process, at the same total batch: "
            f"{SMALL['encoder']}, {SMALL['input_size'][0]}x{SMALL['input_size'][1]}, batch "
            f"{SMALL['batch_size']}, batch norm in eval mode; with it in training mode each "
            "process normalises by its own half of the batch. The difference is relative, the "
            "largest of the epochs. "
            f"Medians of {arguments.rounds} rounds, interleaved. {machine(torch.device('cpu'))}.\n"
        )
        scale_processes(arguments.rounds)
        return
    settings, device = read_settings(arguments.config), set_up_device("gpu")
    height, width = settings.data.input_size
    print(
        f"The loop of `dsrl train`, stage 3, bfloat16, {settings.model.encoder_name}, "
        f"{height}x{width} -> {2 * height}x{2 * width}, on one random batch in pinned memory; ms: "
        f"median (range) of {arguments.rounds} epochs of {STEPS} steps. MFU: three times the "
        "network's forward FLOPs, without feature affinity's, against the GPU's data sheet. *Host "
        "waits*: whether torch.cuda.set_sync_debug_mode finds that a step waits for the GPU. "
        f"{machine(device)}, PyTorch {torch.__version__}.\n"
    )
    scale_batch(settings, device, arguments.rounds)


if __name__ == "__main__":
    main()
