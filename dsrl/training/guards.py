"""Faults of a running training, told in terms of what the user can change."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")  # on the CPU


class LossWatch:
    """Notices a loss that is NaN or infinite.

    Each step is noted on the device, where it costs nothing to speak of; reading the note waits for
    the device, so on a GPU that is done now and then only.
    """

    def __init__(self, device: torch.device):
        self.interval = 50 if device.type == "cuda" else 1  # steps between two looks
        self._first_bad = torch.full((), -1, device=device)

    def note(self, step: int, loss: Tensor) -> None:
        """Take note of the loss of a step of this epoch."""
        bad = ~torch.isfinite(loss.detach()) & (self._first_bad < 0)
        self._first_bad = torch.where(bad, step, self._first_bad)

    def first_bad_step(self) -> int | None:
        """The first step whose loss was no number. Waits for the device."""
        step = int(self._first_bad)
        return None if step < 0 else step


def all_finite(network: nn.Module) -> bool:
    """Whether all learnt values are numbers. Waits for the device."""
    with torch.no_grad():
        norms = torch._foreach_norm(list(network.parameters()), torch.inf)
    return bool(torch.isfinite(torch.stack(norms)).all())


@contextmanager
def explained_faults(batch_size: int, input_size: tuple[int, int]) -> Iterator[None]:
    """Turn what PyTorch raises when memory or a loading process is gone into one line.

    Raises:
        ValueError: there is not enough memory.
        OSError: a process that loads images died.
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
                "a process that loads images died, most often for lack of memory or of shared "
                f"memory (/dev/shm); lower --num-workers ({text.splitlines()[0]})"
            ) from error
        raise
