"""Feature affinity in tiles against the materialised form: time and peak memory.

    python benchmarks/feature_affinity.py [--device cpu|gpu] [--dtype float32|bfloat16]

Each cell is measured in a process of its own, so that peak memory is that of the one form: on the
CPU the growth of the resident set, on CUDA PyTorch's own count, both without the inputs. Times are
medians of forward and backward with gradients to both sides. Where the materialised form would need
more than half of the memory there is, it is left out.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from dsrl.losses import feature_affinity_loss

SHAPES = [  # batch, channels, height, width
    (2, 64, 32, 64),
    (2, 64, 64, 128),
    (2, 128, 64, 128),
    (2, 256, 64, 128),
    (1, 64, 128, 128),
    (1, 64, 128, 256),
]


def materialised(a: Tensor, r: Tensor) -> Tensor:
    """The textbook form: both N x N matrices."""
    a, r = (F.normalize(x.flatten(2), dim=1) for x in (a, r))
    return (a.transpose(1, 2) @ a - r.transpose(1, 2) @ r).abs().mean()


FORMS = {"materialised": materialised, "tiled": feature_affinity_loss}


def measure(form: str, shape: tuple[int, ...], device: str, dtype: str, runs: int) -> None:
    """Print median seconds and peak bytes of one form, as JSON."""
    torch.manual_seed(0)
    kind = getattr(torch, dtype)
    small = [torch.randn(1, 8, 4, 8, device=device, dtype=kind, requires_grad=True) for _ in "ar"]
    FORMS[form](*small).backward()
    inputs = [torch.randn(shape, device=device, dtype=kind, requires_grad=True) for _ in "ar"]
    on_gpu = device == "cuda"
    if not on_gpu:  # some containers have no such file
        Path("/proc/self/clear_refs").write_text("5")
    before = torch.cuda.memory_allocated() if on_gpu else _peak_resident()
    seconds = []
    for _ in range(runs):
        for x in inputs:
            x.grad = None
        started = time.perf_counter()
        FORMS[form](*inputs).backward()
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    peak = (torch.cuda.max_memory_allocated() if on_gpu else _peak_resident()) - before
    print(json.dumps({"seconds": statistics.median(seconds), "bytes": peak}))


def _peak_resident() -> int:
    """Bytes; Linux keeps the high-water mark, which `clear_refs` brings down to the present."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def memory(device: str) -> int:
    """Bytes of memory that the device has."""
    if device == "cuda":
        return torch.cuda.get_device_properties(0).total_memory
    with Path("/proc/meminfo").open() as file:
        return 1024 * int(file.readline().split()[1])


def run(form: str, shape: tuple[int, ...], arguments: argparse.Namespace) -> dict[str, float]:
    """Measure in a new process."""
    command = [sys.executable, __file__, "--device", arguments.device, "--dtype", arguments.dtype]
    command += ["--runs", str(arguments.runs), "--form", form, "--shape", *map(str, shape)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def table(arguments: argparse.Namespace, device: str) -> None:
    """Print one row for each shape."""
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU ({platform.machine()})"
    print(f"{name}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}, ", end="")
    print(f"{arguments.dtype}, median of {arguments.runs}\n")
    print("| B x C x H x W | N | materialised | tiled | faster | memory |")
    print("|---|---:|---:|---:|---:|---:|")
    for shape in SHAPES:
        n = shape[2] * shape[3]
        tiled = run("tiled", shape, arguments)
        cells = ["-", f"{tiled['seconds']:.3f} s, {tiled['bytes'] / 2**20:.0f} MiB", "-", "-"]
        # Forward and backward hold about five matrices of N x N float32 for each image.
        if 5 * 4 * shape[0] * n * n < memory(device) / 2:
            full = run("materialised", shape, arguments)
            cells[0] = f"{full['seconds']:.3f} s, {full['bytes'] / 2**20:.0f} MiB"
            cells[2] = f"{full['seconds'] / tiled['seconds']:.1f}x"
            cells[3] = f"1/{full['bytes'] / max(tiled['bytes'], 1):.0f}"
        print(f"| {' x '.join(map(str, shape))} | {n} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--form", choices=FORMS, help=argparse.SUPPRESS)
    parser.add_argument("--shape", type=int, nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    device = "cuda" if arguments.device == "gpu" else "cpu"
    if arguments.form:
        measure(arguments.form, tuple(arguments.shape), device, arguments.dtype, arguments.runs)
    else:
        table(arguments, device)


if __name__ == "__main__":
    main()
