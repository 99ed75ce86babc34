"""A training beside another job: the throughput of two threads when one core is shared.

    python benchmarks/contention.py [--rounds 5] [--seconds 4]
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import product

import torch
from measure import machine, row

WARM_UP = 1  # seconds of a slot that are left out
BUSY = [sys.executable, "-c", "while True: pass"]
VARIANTS = {
    "as PyTorch comes": {"GOMP_SPINCOUNT": "300000"},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "100": {"GOMP_SPINCOUNT": "100"},
    "1000": {"GOMP_SPINCOUNT": "1000"},
    "10000": {"GOMP_SPINCOUNT": "10000"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}


def train() -> None:
    """Train for ever; print the time after each step."""
    from training_step import ours

    from dsrl.config.settings import read_settings

    changes = {"input_size": [96, 128], "encoder": "mobilenetv3_small_100", "decoder_channels": 64}
    step = ours(read_settings(changes), 1, 12, 8, torch.device("cpu"))
    while True:
        step()
        print(time.perf_counter(), flush=True)


class Paused:
    """A process that runs only within `running`."""

    def __init__(self, command: list[str], **environment: str):
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "2", **environment},
        )
        self.process.send_signal(signal.SIGSTOP)

    @contextmanager
    def running(self) -> Iterator[None]:
        self.process.send_signal(signal.SIGCONT)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGSTOP)

    def wait(self) -> None:
        """Let it take its first steps."""
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), True)
        with self.running():
            for _ in range(3):
                self.process.stdout.readline()
        os.set_blocking(self.process.stdout.fileno(), False)

    def read(self) -> list[float]:
        """The times that it has printed since the last call."""
        assert self.process.stdout is not None
        with suppress(BlockingIOError):
            return [float(x) for x in os.read(self.process.stdout.fileno(), 1 << 16).split()]
        return []


def slot(training: Paused, busy: Paused | None, seconds: float) -> float:
    """Steps per second."""
    training.read()
    with training.running():
        if busy is None:
            time.sleep(seconds)
        else:
            with busy.running():
                time.sleep(seconds)
    times = training.read()
    times = [t for t in times if t > times[0] + WARM_UP]
    return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        return train()
    busy = Paused(BUSY)
    trainings = {}
    for name, environment in VARIANTS.items():
        trainings[name] = Paused([sys.executable, __file__, "--train"], **environment)
        trainings[name].wait()
    print("ready", file=sys.stderr, flush=True)
    if os.environ.get("GATE"):
        input()
    found = {}
    for _ in range(arguments.rounds):
        for beside, name in product((None, busy), VARIANTS):
            found.setdefault((name, beside is not None), []).append(
                slot(trainings[name], beside, arguments.seconds)
            )
    for (name, beside), speeds in found.items():
        print(f"{name:20s} {'beside' if beside else 'alone':8s}", *(f"{s:.2f}" for s in speeds), f"median {statistics.median(speeds):.2f}")
    for paused in (busy, *trainings.values()):
        paused.process.kill()


if __name__ == "__main__":
    main()
