"""A training on two cores beside another job: what is left of its throughput.

    python benchmarks/contention.py [--rounds 3] [--seconds 3]

Needs Linux, and two cores that nothing else uses.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext

import torch
from measure import Times, machine, ratio, row
from training_step import ours

from dsrl.config.settings import read_settings
from dsrl.system.openmp import SPIN_COUNT, share_cores

SIZE, BATCH, CLASSES = (96, 128), 8, 12
ENCODERS = ("mobilenetv3_small_100", "resnet18")
PEER, OURS = "300000, GNU's default", f"{SPIN_COUNT}, as `dsrl` sets it"
VARIANTS = {  # turns that a waiting thread spins, at most
    PEER: {"GOMP_SPINCOUNT": "300000"},
    OURS: {},
    "0, OMP_WAIT_POLICY=PASSIVE": {"GOMP_SPINCOUNT": "0"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
OTHER_JOB = [sys.executable, "-c", "while True: pass"]
WARM_UP = 1  # seconds that are left out: the kernel puts threads to cores
STEPS = 4  # at least, however slow they are


def train(encoder: str) -> None:
    """Train until killed; prints the time after each step."""
    settings = read_settings({"input_size": SIZE, "encoder": encoder, "decoder_channels": 64})
    step = ours(settings, 1, CLASSES, BATCH, torch.device("cpu"))
    while True:
        step()
        print(time.perf_counter(), flush=True)


class Job:
    """A process that stands still but within `running`; killed at the end."""

    def __init__(self, command: list[str], **environment: str):
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "2", **environment},
            text=True,
        )
        self.process.send_signal(signal.SIGSTOP)

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let it run."""
        self.process.send_signal(signal.SIGCONT)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGSTOP)

    def step_seconds(self, seconds: float) -> float:
        """Seconds of a training step, by those of about `seconds`."""
        assert self.process.stdout is not None
        begin, times = time.perf_counter() + WARM_UP, []
        with self.running():
            while len(times) <= STEPS or times[-1] < begin + seconds:
                now = float(self.process.stdout.readline())
                if now > begin:
                    times.append(now)
        return (times[-1] - times[0]) / (len(times) - 1)


def measure(encoder: str, rounds: int, seconds: float) -> dict[tuple[str, bool], Times]:
    """Times of a step for each variant, alone (False) and beside the other job (True)."""
    found: dict[tuple[str, bool], list[float]] = {}
    with ExitStack() as stack:
        other = stack.enter_context(Job(OTHER_JOB))
        command, trainings = [sys.executable, __file__, "--train", encoder], {}
        for name, environment in VARIANTS.items():
            trainings[name] = stack.enter_context(Job(command, **environment))
            trainings[name].step_seconds(0)
        for _ in range(rounds):
            for beside in (False, True):
                for name, training in trainings.items():
                    with other.running() if beside else nullcontext():
                        time_of_step = training.step_seconds(seconds)
                    found.setdefault((name, beside), []).append(time_of_step)
    return {key: Times(values) for key, values in found.items()}


def main() -> None:
    """Print the section, or train."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--train", metavar="ENCODER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        train(arguments.train)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    share_cores()
    torch.set_num_threads(2)
    print("## A training beside another job\n")
    print(
        f"Training steps of stage 1, {SIZE[0]}x{SIZE[1]}, batch {BATCH}, with two threads on two "
        "cores, alone and beside a process that computes with one thread; by how long OpenMP "
        "threads that wait for each other spin before they sleep. ms per step: median (range) of "
        f"{arguments.rounds} rounds, interleaved. *Throughput* is beside the other job / alone "
        f"with GNU's default. {machine(torch.device('cpu'))}.\n\n"
        "The bounds: a second thread that shares its core fairly has half of it, so that a step "
        "whose work is divided beforehand keeps 0.5; if the kernel moves the three threads about "
        "evenly, 0.67; one thread, with a core of its own, keeps its speed alone (the last row). "
        "`dsrl` does not change the number of threads while it runs: the last bits of a training "
        "would depend on the load, and a resumed one would not end as an uninterrupted one.\n"
    )
    print(
        row("encoder", "spin count", "alone", "beside", "alone / default", "throughput", "target")
    )
    print("|---|---|---:|---:|---:|---:|---:|")
    for encoder in ENCODERS:
        times = measure(encoder, arguments.rounds, arguments.seconds)
        default = times[PEER, False]
        for name in VARIANTS:
            alone, beside = times[name, False], times[name, True]
            target = ">= 0.6" if name == OURS else ""
            cells = (ratio(alone, default), ratio(default, beside), target)
            print(row(encoder, name, alone, beside, *cells), flush=True)


if __name__ == "__main__":
    main()
