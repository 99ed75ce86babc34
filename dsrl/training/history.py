"""What is told of a training while it runs: CSV, TensorBoard, progress bar."""

import sys
import time
from collections.abc import Mapping
from operator import itemgetter
from pathlib import Path

import pandas as pd
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from dsrl.evaluation.evaluate import Scores
from dsrl.system.files import atomic_file, errors_that_name

Row = dict[str, float]


class History:
    """One row per finished epoch.

    Args:
        folder: receives `history.csv` and `tensorboard/`; None in processes that do not write.
        rows: those of the epochs that a resumed training has behind it.
        texts: what TensorBoard shows beside the curves, by title.
    """

    def __init__(self, folder: Path | None, rows: list[Row], texts: Mapping[str, str]):
        self.rows = rows
        self.folder = folder
        if folder is not None:
            with errors_that_name(folder / "tensorboard"):
                self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=len(rows) + 1)
                for title, text in filter(itemgetter(1), texts.items()):
                    self._writer.add_text(title, text)

    def append(self, row: Row) -> None:
        """Add the row of an epoch and, in the process that writes, tell it to the user."""
        self.rows.append(row)
        if self.folder is None:
            return
        with atomic_file(self.folder / "history.csv") as temporary:
            pd.DataFrame(self.rows).to_csv(temporary, index=False)
        values = {name: value for name, value in row.items() if name != "epoch"}
        with errors_that_name(self.folder / "tensorboard"):
            for name, value in values.items():
                self._writer.add_scalar(name, value, int(row["epoch"]))
            self._writer.flush()
        text = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        tqdm.write(f"epoch {row['epoch']}: {text}", file=sys.stderr)


def summary(scores: Scores) -> Row:
    """The figures that are followed during training."""
    names = ("pixel_accuracy", "mean_iou", "mean_iou_per_image", "cross_entropy")
    return {name: getattr(scores, name) for name in names}


def scores_of(rows: list[Row]) -> dict[str, float]:
    """The scores of the last epoch, if it was validated."""
    row = rows[-1] if rows else {}
    return {k.removeprefix("val_"): v for k, v in row.items() if k.startswith("val_")}


class Progress:
    """A bar over the steps of a stage: epoch, losses, learning rate, time left."""

    def __init__(self, title: str, steps: int, done: int, enabled: bool):
        interactive = sys.stderr.isatty()
        self._interval = 0.5 if interactive else 30.0  # a log file needs few lines
        self._shown = time.monotonic()
        self._bar = tqdm(
            total=steps,
            initial=done,
            desc=title,
            unit="step",
            disable=not enabled,
            mininterval=self._interval,
        )

    def step(self, epoch: str, losses: Mapping[str, Tensor], learning_rate: float) -> None:
        """Count one step. Losses wait for the device, so they are read only when they are shown."""
        if not self._bar.disable and time.monotonic() - self._shown > self._interval:
            self._shown = time.monotonic()
            text = ", ".join(f"{name} {value.item():.3f}" for name, value in losses.items())
            self._bar.set_postfix_str(f"epoch {epoch}, {text}, lr {learning_rate:.2g}", False)
        self._bar.update()

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()
