"""What is reported of a training while it runs: CSV, TensorBoard, progress bar."""

import sys
import time
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path

import pandas as pd
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from dsrl.losses import Losses
from dsrl.system import distributed
from dsrl.system.files import atomic_file, errors_that_name
from dsrl.training.state import Row, TrainingState


class HistoryWriter:
    """Writes the history of a training into `folder`: `history.csv` and `tensorboard/`.

    Args:
        folder: of the stage.
        history: rows of the finished epochs of a resumed run; TensorBoard drops later ones.
        texts: what TensorBoard shows beside the curves, by title.
    """

    def __init__(self, folder: Path, history: Sequence[Row], texts: Mapping[str, str]):
        self.folder = folder
        self._csv = folder / "history.csv"
        if history:  # Snakemake deletes the CSV file before it repeats a rule
            write_history(self._csv, history)
        with errors_that_name(folder / "tensorboard"):
            self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=len(history) + 1)
            for title, text in filter(itemgetter(1), texts.items()):
                self._writer.add_text(title, text)

    def write(self, history: Sequence[Row]) -> None:
        """Write the history, and report its last row, which is new, on stderr."""
        write_history(self._csv, history)
        row = history[-1]
        values = {name: value for name, value in row.items() if name != "epoch"}
        with errors_that_name(self.folder / "tensorboard"):
            for name, value in values.items():
                self._writer.add_scalar(name, value, int(row["epoch"]))
            self._writer.flush()
        text = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        tqdm.write(f"epoch {row['epoch']}: {text}", file=sys.stderr)


def write_history(path: Path, history: Sequence[Row]) -> None:
    """Write the CSV file of a history, atomically."""
    with atomic_file(path) as temporary:
        pd.DataFrame(history).to_csv(temporary, index=False)


def report_resumption(state: TrainingState, planned: int, epochs: int, folder: Path) -> None:
    """Say where a training goes on, and with which learning rate if it was `planned` with another
    number of epochs."""
    step = f", step {state.position.step}" if state.position.step else ""
    distributed.report(f"Resumed after epoch {state.position.epoch}{step}; writing to {folder}")
    if planned != epochs and state.position.epoch < epochs:
        rate = state.scheduler.get_last_lr()[-1]
        distributed.report(
            f"{epochs} epochs instead of {planned}: from here on, the learning rate follows the "
            f"schedule of {epochs} epochs, beginning at {rate:.3g}"
        )


class Progress:
    """A bar over the steps of a stage: epoch, losses, learning rate, time left."""

    def __init__(self, title: str, epochs: int, steps_per_epoch: int, done: int, enabled: bool):
        self.epochs = epochs
        interactive = sys.stderr.isatty()
        self._interval = 0.5 if interactive else 30.0  # a log file needs few lines
        self._shown = time.monotonic()
        self._bar = tqdm(
            total=epochs * steps_per_epoch,
            initial=done,
            desc=title,
            unit="step",
            disable=not enabled,
            mininterval=self._interval,
        )

    def step(self, epoch: int, losses: Losses, learning_rate: float) -> None:
        """Count one step. Losses wait for the device, so they are read only when they are shown."""
        if not self._bar.disable and time.monotonic() - self._shown > self._interval:
            self._shown = time.monotonic()
            text = ", ".join(f"{k} {v.item():.3f}" for k, v in losses._asdict().items())
            self._bar.set_postfix_str(
                f"epoch {epoch}/{self.epochs}, {text}, lr {learning_rate:.2g}", False
            )
        self._bar.update()

    def close(self) -> None:
        """Close the bar."""
        self._bar.close()
