"""Checkpoints, graceful shutdown and divergence checks of the training loop."""

import signal
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from dsrl.checkpoints.checkpoint import CheckpointFolder, RunInfo
from dsrl.system import distributed
from dsrl.system.signals import Stopped, StopRequest
from dsrl.training.state import TrainingState


class LossWatch:
    """Notices a loss that is NaN or infinite.

    Each step is noted on the device, which costs next to nothing; reading the note waits for the
    device, so on a GPU that is done only now and then.
    """

    def __init__(self, device: torch.device):
        self.interval = 50 if device.type == "cuda" else 1  # steps between two looks
        self._first_bad = torch.full((), -1, device=device)

    def note(self, step: int, loss: Tensor) -> None:
        """Take note of the loss of a step of this epoch."""
        bad = ~torch.isfinite(loss.detach()) & (self._first_bad < 0)
        self._first_bad = torch.where(bad, step, self._first_bad)

    def first_bad_step(self) -> int | None:
        """The first step whose loss was NaN or infinite. Waits for the device."""
        step = int(self._first_bad)
        return None if step < 0 else step


def all_finite(network: nn.Module) -> bool:
    """Whether no parameter is NaN or infinite. Waits for the device."""
    with torch.no_grad():
        norms = torch._foreach_norm(list(network.parameters()), torch.inf)
    return bool(torch.isfinite(torch.stack(norms)).all())


class Guard:
    """Writes checkpoints, stops on SIGTERM, and stops a run that diverges.

    Args:
        run, state: of the training.
        checkpoints: where its checkpoints go.
        stop: set when SIGTERM has come.
        images_of: names of the images of a step, for messages.
    """

    def __init__(
        self,
        run: RunInfo,
        state: TrainingState,
        checkpoints: CheckpointFolder,
        stop: StopRequest,
        images_of: Callable[[int], list[str]],
    ):
        self.run, self.state, self.checkpoints = run, state, checkpoints
        self.stop, self.images_of = stop, images_of
        self.watch = LossWatch(state.sums.device)

    def stop_if_asked(self) -> None:
        """Write a checkpoint and stop if SIGTERM or SIGINT has come to one of the processes.

        Raises:
            Stopped: it has.
        """
        if distributed.any_process(self.stop.made):
            self.save()
            where = f" from {self.checkpoints.latest}" if distributed.is_main() else ""
            number = self.stop.number or signal.SIGTERM
            by = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
            raise Stopped(f"stopped by {by}; repeat the call to resume{where}", number)

    def after_step(self, loss: Tensor) -> None:
        """Look at the loss of the step just finished, on a GPU now and then.

        Raises:
            ValueError: it is NaN or infinite.
        """
        done = self.state.position.step
        self.watch.note(done - 1, loss)
        if done % self.watch.interval == 0:
            self.check_losses()

    def check_losses(self) -> None:
        """Look at the losses of all steps so far; see `after_step`."""
        step = self.watch.first_bad_step()
        if step is not None:
            where = f"step {step + 1} of epoch {self.state.position.epoch + 1}"
            images = ", ".join(self.images_of(step))
            raise self._diverged(f"loss is NaN or infinite in {where}, on the images {images}")

    def save(self) -> None:
        """Write a checkpoint, in the main process; all must call it.

        Raises:
            OSError: it cannot be written.
            ValueError: the training has diverged, so that there is nothing worth saving.
        """
        self.check_losses()
        if not all_finite(self.state.network):
            epoch, step = self.state.position.epoch, self.state.position.step
            where = f"step {step} of epoch {epoch + 1}" if step else f"epoch {epoch}"
            raise self._diverged(f"weights are NaN or infinite after {where}")
        checkpoint = self.state.checkpoint(self.run)
        if distributed.is_main():
            self.checkpoints.save(checkpoint)

    def _diverged(self, why: str) -> ValueError:
        good: Path | None = self.checkpoints.latest
        where = f"the last good checkpoint is {good}" if good else "there is no checkpoint yet"
        return ValueError(f"{why}; {where}; lower the learning rate, or look at these images")
