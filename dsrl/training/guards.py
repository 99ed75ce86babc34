"""Notices a training that diverges."""

import torch
from torch import Tensor, nn


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
