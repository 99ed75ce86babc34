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
from dsrl.system.files import atomic_file, errors_that_name
from dsrl.training.state import Row


class HistoryWriter:
    """Writes the history of a training into `folder`: `history.csv` and `tensorboard/`.

    Args:
        folder: of the stage.
        done: finished epochs of a resumed training; TensorBoard drops later ones.
        texts: what TensorBoard shows beside the curves, by title.
    """

    def __init__(self, folder: Path, done: int, texts: Mapping[str, str]):
        self.folder = folder
        with errors_that_name(folder / "tensorboard"):
            self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)
            for title, text in filter(itemgetter(1), texts.items()):
                self._writer.add_text(title, text)

    def write(self, history: Sequence[Row]) -> None:
        """Write the history, of which the last row is new, and report that one on stderr."""
        with atomic_file(self.folder / "history.csv") as temporary:
            pd.DataFrame(history).to_csv(temporary, index=False)
        row = history[-1]
        values = {name: value for name, value in row.items() if name != "epoch"}
        with errors_that_name(self.folder / "tensorboard"):
            for name, value in values.items():
                self._writer.add_scalar(name, value, int(row["epoch"]))
            self._writer.flush()
        text = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        tqdm.write(f"epoch {row['epoch']}: {text}", file=sys.stderr)


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

    def step(self, epoch: int, losses: Losses, learning_rate: float) -> None:
        """Count one step. Losses wait for the device, so they are read only when they are shown."""
        if not self._bar.disable and time.monotonic() - self._shown > self._interval:
            self._shown = time.monotonic()
            text = ", ".join(f"{k} {v.item():.3f}" for k, v in losses._asdict().items())
            self._bar.set_postfix_str(f"epoch {epoch}, {text}, lr {learning_rate:.2g}", False)
        self._bar.update()

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()
