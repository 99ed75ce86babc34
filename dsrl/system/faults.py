"""Faults of a running process, explained in terms of what the user can change."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")  # on the CPU


@contextmanager
def explained_faults(batch_size: int, input_size: tuple[int, int]) -> Iterator[None]:
    """Turn what PyTorch raises when memory runs out or a data loader dies into one line.

    Raises:
        ValueError: there is not enough memory.
        OSError: a data loader process died.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        text = str(error)
        no_memory = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if no_memory or any(part in text for part in NO_MEMORY):
            height, width = input_size
            raise ValueError(
                f"out of memory with batch_size {batch_size} and input_size {height}x{width}; "
                "lower one of them"
            ) from error
        if "DataLoader worker" in text and ("exited" in text or "killed" in text):
            raise OSError(
                "a data loader process died, most often for lack of memory or shared memory "
                f"(/dev/shm); lower --num-workers ({text.splitlines()[0]})"
            ) from error
        raise
