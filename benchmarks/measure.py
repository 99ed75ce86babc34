"""What the benchmarks share: interleaved timing, ratios to a peer, the machine's name."""

import platform
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.benchmark import Timer


@dataclass(frozen=True)
class Times:
    """Seconds of one call in each round."""

    seconds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        """Median and range, in ms."""
        low, high = min(self.seconds), max(self.seconds)
        return f"{1e3 * self.median:.4g} ({1e3 * low:.4g}-{1e3 * high:.4g})"


def interleaved(calls: dict[str, Callable[[], object]], rounds: int = 7) -> dict[str, Times]:
    """Time each call once in each round, in turn, so that a slow minute of the machine meets all
    of them. One round before the first warms up. On a GPU each call is waited for."""
    timers = {
        name: Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
        for name, call in calls.items()
    }
    for timer in timers.values():
        timer.timeit(1)
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, timer in timers.items():
            found[name].append(timer.timeit(1).mean)
    return {name: Times(seconds) for name, seconds in found.items()}


def ratio(ours: Times, peer: Times) -> str:
    """Median and range over the rounds of `ours` / `peer`, each pair from one round."""
    ratios = [a / b for a, b in zip(ours.seconds, peer.seconds, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def row(*cells: object) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(map(str, cells)) + " |"


def machine(device: torch.device) -> str:
    """The processor and the number of threads, or the GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text().splitlines() if platform.system() == "Linux" else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    name = models[0] if models else platform.processor()
    return f"{name} ({torch.backends.cpu.get_cpu_capability()}), {torch.get_num_threads()} threads"


def peak_resident(reset: bool = False) -> int:
    """Bytes of memory of this process at its high-water mark, which Linux keeps; `reset` first
    brings that to the present."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
