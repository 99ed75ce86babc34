"""The folder of a stage: what lies in it, and setting it aside."""

import itertools
import os
import re
from datetime import datetime
from pathlib import Path

from dsrl.checkpoints.checkpoint import CheckpointFolder
from dsrl.system.kept import restore

# What a training writes into its folder, and the workflow about it.
WRITTEN = (
    *("checkpoints", "tensorboard", "final.weights", "history.csv"),
    *(".final.weights", ".history.csv", "benchmark-*.txt", "benchmark-*.csv"),
)

# Name of a folder that was set aside: that of the stage, and when.
SET_ASIDE = re.compile(r".+-\d{4}-\d\d-\d\dT\d{6}(-\d+)?")


class StageFolder:
    """What a training writes.

    Args:
        path: of the folder.
        checkpoint_history: how many checkpoints to keep.

    Attributes:
        weights: the final weights.
        history: the CSV file with a row per epoch.
        checkpoints: of the training.
    """

    def __init__(self, path: Path, checkpoint_history: int = 1):
        self.path = Path(path)
        self.weights = self.path / "final.weights"
        self.history = self.path / "history.csv"
        self.checkpoints = CheckpointFolder(self.path / "checkpoints", checkpoint_history)

    def restore(self) -> None:
        """Bring back what Snakemake has deleted before it runs a training again."""
        for path in (self.weights, self.history):
            restore(path)

    def set_aside(self) -> Path:
        """Move what a training writes into a new folder beside this one, or in it where none can be
        made beside it; returns that folder."""
        folder = self.path.resolve()
        name = f"{folder.name}-{datetime.now():%Y-%m-%dT%H%M%S}"
        aside = _new_folder(folder if os.path.ismount(folder) else folder.parent, folder, name)
        for entry in sorted({entry for pattern in WRITTEN for entry in folder.glob(pattern)}):
            entry.rename(aside / entry.name)
        return aside


def is_set_aside(folder: Path) -> bool:
    """Whether a folder contains a training that was set aside."""
    named = SET_ASIDE.fullmatch(folder.name)
    return named is not None and any((folder / name).exists() for name in WRITTEN)


def _new_folder(place: Path, otherwise: Path, name: str) -> Path:
    """Create the folder `name` in `place`, or, if that cannot be written, in `otherwise`."""
    for number in itertools.count(1):
        folder = place / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            pass
        except OSError:
            if place == otherwise:
                raise
            return _new_folder(otherwise, otherwise, name)
    raise AssertionError
