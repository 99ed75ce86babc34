"""The folder of a stage: what lies in it, and setting it aside."""

import re
from datetime import datetime
from pathlib import Path

from dsrl.checkpoints.checkpoint import CheckpointFolder
from dsrl.system import lock

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

    def new_name(self) -> Path:
        """A name beside this folder that is not taken, with the time of day."""
        folder = self.path.absolute()
        name = f"{folder.name}-{datetime.now():%Y-%m-%dT%H%M%S}"
        aside, number = folder.with_name(name), 1
        while aside.exists():
            number += 1
            aside = folder.with_name(f"{name}-{number}")
        return aside

    def set_aside(self, aside: Path) -> None:
        """Move everything into the new folder `aside`, but for the lock that this process holds."""
        aside.mkdir()
        for entry in sorted(self.path.iterdir()):
            if entry.name != lock.NAME:
                entry.rename(aside / entry.name)
