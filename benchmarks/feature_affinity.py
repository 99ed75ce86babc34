"""Feature affinity in tiles against the materialised form: time, peak memory, growth in pixels.

python benchmarks/feature_affinity.py [--device cpu|gpu] [--dtype float32|bfloat16]
"""

import argparse
import math
import statistics
import subprocess
import sys
from functools import partial

import torch
import torch.nn.functional as F
from measure import Times, interleaved, machine, peak_resident, ratio, row
from torch import Tensor

from dsrl.losses import feature_affinity_loss

# Batch, channels, height, width; how many times faster, and smaller, issue 12 wants the tiles.
TARGETS = {(2, 64, 64, 128): (7, 30), (2, 256, 64, 128): (4, 10)}
GROWTH = [(1, 64, 64, 128), (1, 64, 128, 128), (1, 64, 128, 256)]
ROUNDS = 5
SIDE = 2048  # of the square matrices whose product shows the throughput


def materialised(a: Tensor, r: Tensor) -> Tensor:
    """The textbook form: both N x N matrices."""
    a, r = (F.normalize(x.flatten(2), dim=1) for x in (a, r))
    return (a.transpose(1, 2) @ a - r.transpose(1, 2) @ r).abs().mean()


FORMS = {"materialised": materialised, "tiled": feature_affinity_loss}


class Step:
    """Forward and backward of one form, with gradients to both sides."""

    def __init__(self, form: str, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype):
        self.form = FORMS[form]
        torch.manual_seed(0)
        self.inputs = [torch.randn(shape, device=device, dtype=dtype) for _ in "ar"]

    def __call__(self) -> None:
        self.form(*(x.detach().requires_grad_() for x in self.inputs)).backward()


def peak(form: str, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> int:
    """Bytes of memory that a step takes beside its inputs, measured in this process."""
    Step(form, (1, 8, 4, 8), device, dtype)()  # load the libraries
    step = Step(form, shape, device, dtype)
    if device.type == "cuda":
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    before = peak_resident(reset=True)
    step()
    return peak_resident() - before


def peak_apart(form: str, shape: tuple[int, ...], arguments: argparse.Namespace) -> int:
    """`peak` in a process of its own, as memory that was once freed may be used again."""
    command = [sys.executable, __file__, "--device", arguments.device, "--dtype", arguments.dtype]
    command += ["--peak", form, *map(str, shape)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def compare(arguments: argparse.Namespace, device: torch.device, dtype: torch.dtype) -> None:
    """Print a row for each shape: both forms, and the bound that matrix products set."""
    print("| B x C x H x W | materialised (ms) | tiled (ms) | faster | bound | target | ", end="")
    print("memory (MiB) | smaller | target |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    matrix = torch.randn(SIDE, SIDE, device=device, dtype=dtype)
    for shape, (faster, smaller) in TARGETS.items():
        calls = {form: Step(form, shape, device, dtype) for form in FORMS}
        times = interleaved({**calls, "product": lambda: matrix @ matrix}, ROUNDS)
        batch, channels, height, width = shape
        # D of half of the pairs, and sign(D) of all times the features; each for both sides.
        operations = (1 + 2) * batch * (height * width) ** 2 * 2 * channels
        share = operations / (2 * SIDE**3)
        products = Times([share * seconds for seconds in times["product"].seconds])
        full, tiled = (peak_apart(form, shape, arguments) for form in FORMS)
        print(
            row(
                " x ".join(map(str, shape)), times["materialised"], times["tiled"],
                ratio(times["materialised"], times["tiled"]),
                ratio(times["materialised"], products), f">= {faster}",
                f"{full / 2**20:.0f}, {tiled / 2**20:.0f}",
                f"{full / tiled:.0f}", f">= {smaller}",
            ),
            flush=True,
        )  # fmt: skip


def growth(arguments: argparse.Namespace, device: torch.device, dtype: torch.dtype) -> None:
    """Print time and memory of the tiles for maps of more and more pixels, and the exponents."""
    calls = {str(shape): Step("tiled", shape, device, dtype) for shape in GROWTH}
    times = [times.median for times in interleaved(calls, 3).values()]
    memory = [peak_apart("tiled", shape, arguments) for shape in GROWTH]
    pixels = [height * width for _, _, height, width in GROWTH]
    print("\n| tiled, 1 x 64 x N |", *(f"{n} |" for n in pixels), "exponent | expected |")
    print("|---|" + "---:|" * (len(pixels) + 2))
    found = {"time (ms)": (times, 1e-3, 2), "memory (MiB)": (memory, 2**20, 1)}
    for name, (values, unit, expected) in found.items():
        exponent = math.log(values[-1] / values[0]) / math.log(pixels[-1] / pixels[0])
        cells = [f"{value / unit:.4g}" for value in values]
        print(row(name, *cells, f"{exponent:.2f}", f"<= {expected}"))


def sampled(device: torch.device, dtype: torch.dtype) -> None:
    """Print what `fa_rows` saves and how far it is from the exact loss and gradient."""
    shape = (1, 64, 64, 128)
    torch.manual_seed(0)
    a, r = (torch.randn(shape, device=device, dtype=dtype).relu() for _ in "ar")
    a.requires_grad_()
    exact = feature_affinity_loss(a, r)
    (gradient,) = torch.autograd.grad(exact, a)
    pixels = shape[2] * shape[3]
    calls = {n: partial(_gradient, a, r, n) for n in (None, *(pixels // k for k in (4, 8, 16, 32)))}
    times = interleaved(calls, 3)
    print("\n| rows of", pixels, "| time / exact | error of the loss | of the gradient |")
    print("|---:|---:|---:|---:|")
    for rows in list(calls)[1:]:
        found = [_gradient(a, r, rows) for _ in range(5)]
        errors = [
            math.sqrt(statistics.mean(float((x - y).norm() / y.norm()) ** 2 for x, y in pairs))
            for pairs in (
                [(loss.detach(), exact.detach()) for loss, _ in found],
                [(estimate, gradient) for _, estimate in found],
            )
        ]
        print(row(rows, ratio(times[rows], times[None]), *(f"{100 * e:.3g} %" for e in errors)))


def _gradient(a: Tensor, r: Tensor, rows: int | None) -> tuple[Tensor, Tensor]:
    """The loss and its gradient to `a`."""
    loss = feature_affinity_loss(a, r, rows)
    return loss, torch.autograd.grad(loss, a)[0]


def main() -> None:
    """Print the section, or, in a process of its own, one peak."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--peak", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    device = torch.device("cuda" if arguments.device == "gpu" else "cpu")
    dtype = getattr(torch, arguments.dtype)
    if arguments.peak:
        form, *shape = arguments.peak
        print(peak(form, tuple(map(int, shape)), device, dtype))
        return
    print("## Feature affinity\n")
    print(
        "Forward and backward with gradients to both sides: the exact loss in tiles against the "
        "materialised form, with both N x N matrices. Times are interleaved in one process, "
        f"median and range of {ROUNDS} rounds; peak memory, without the inputs, is that of a "
        "process of its own. `bound` is the time of the materialised form over that of the "
        f"tiles' matrix products alone, at the throughput of a product of {SIDE} x {SIDE} "
        "matrices in the same round. The last table is of `loss.fa_rows`: root mean square errors "
        "of 5 draws for noise; the gradient is that to each feature, before the network sums it "
        f"over pixels. {machine(device)}, {arguments.dtype}.\n"
    )
    compare(arguments, device, dtype)
    growth(arguments, device, dtype)
    sampled(device, dtype)


if __name__ == "__main__":
    main()
