"""One process or many: the same code runs alone and under torchrun."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dsrl.system.lock import locked


def rank() -> int:
    """Rank of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process writes files and reports."""
    return rank() == 0


def report(text: str) -> None:
    """Print a line to stderr, once for all processes."""
    if is_main():
        print(text, file=sys.stderr)


def set_up_device(name: str) -> torch.device:
    """The device that `auto`, `cpu`, or `gpu` (or `cuda`) means for this process, set up for speed.

    Raises:
        ValueError: the name is another, or a GPU is requested and none is visible.
    """
    if name not in ("auto", "cpu", "gpu", "cuda"):
        raise ValueError(f"device: expected auto, cpu, gpu or cuda, got {name!r}")
    if name in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ValueError(f"--device {name}: no CUDA device is visible; use --device cpu or auto")
    # Snakemake exports as many OpenMP threads as a job has cores. These may be more than there are,
    # and the processes that torchrun starts here share them.
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    cores = min(torch.get_num_threads(), len(os.sched_getaffinity(0)))
    torch.set_num_threads(max(1, cores // processes))
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    torch.backends.cudnn.benchmark = True  # the input size does not change
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the processes that torchrun started; do nothing without torchrun."""
    if "WORLD_SIZE" not in os.environ:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # A backend for the CPU beside the GPU's: messages between processes must not wait for a GPU.
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def sum_over_processes(values: Tensor) -> None:
    """Replace `values` by their sum over all processes, in place."""
    if dist.is_initialized():
        dist.all_reduce(values)


def mean_over_processes(count: Tensor) -> Tensor:
    """The mean of a count over all processes. A sum divided by it is, on average over the
    processes, as DistributedDataParallel averages gradients, the mean over all that was counted in
    any of them. Does not wait for the device."""
    total = count.clone()
    sum_over_processes(total)
    return total / world_size()


def any_process(flag: bool) -> bool:
    """Whether `flag` is set in any process. Costs a message, and no wait for the device."""
    if not dist.is_initialized():
        return flag
    count = torch.tensor(int(flag))
    dist.all_reduce(count)
    return bool(count)


def wait_for_all() -> None:
    """Wait until all processes are here."""
    any_process(False)


@contextmanager
def main_locks(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder in the main process; see `lock.locked`.

    Raises:
        OSError: another program holds it; in all processes.
    """
    with ExitStack() as stack:
        failure = None
        if is_main():
            try:
                stack.enter_context(locked(folder))
            except OSError as error:
                failure = error
        if any_process(failure is not None):
            raise failure or OSError(f"{folder}: the main process cannot lock it")
        yield


def share_buffers(network: nn.Module) -> None:
    """Copy the buffers (batch-norm statistics) of the main process, which saves them, to all."""
    if dist.is_initialized():
        for buffer in network.buffers():
            dist.broadcast(buffer, src=0)
