"""`.checkpoint` files: everything that a killed training needs to go on, bit for bit.

They lie in `<stage folder>/checkpoints/`, with a file `latest` that names the one to go on from.
`latest` is removed when the stage's final weights are written: a finished training has nothing to
resume, and when it is run again it starts afresh.
"""

from pathlib import Path
from typing import Any

import torch

from dsrl.files import write_text
from dsrl.training.weights import load, save


class CheckpointFolder:
    """The checkpoints of one training.

    Args:
        folder: created with the first checkpoint.
        history: how many checkpoints to keep.
    """

    def __init__(self, folder: Path, history: int = 1):
        self.folder = Path(folder)
        self.history = history
        self._latest = self.folder / "latest"

    def save(self, state: dict[str, Any]) -> None:
        """Write `epoch<N>.checkpoint` with `state` and the random states, then drop old ones."""
        path = self.folder / f"epoch{state['epoch']}.checkpoint"
        save(path, {"kind": "checkpoint", "format": 1, **state, "random": random_states()})
        write_text(self._latest, path.name + "\n")
        for old in sorted(self.folder.glob("epoch*.checkpoint"), key=_epoch)[: -self.history]:
            old.unlink()

    def load_latest(self, identity: dict[str, Any]) -> dict[str, Any] | None:
        """The state to go on from; None if there is none of a training with this identity."""
        if not self._latest.is_file():
            return None
        path = self.folder / self._latest.read_text(encoding="utf-8").strip()
        if not path.is_file():
            return None
        state = load(path, "checkpoint")
        return state if state["identity"] == identity else None

    def clear(self) -> None:
        """Remove checkpoints, which belong to another training than the one that starts."""
        self.finish()
        for path in self.folder.glob("epoch*.checkpoint"):
            path.unlink()

    def finish(self) -> None:
        """Say that there is nothing to go on with."""
        self._latest.unlink(missing_ok=True)


def _epoch(path: Path) -> int:
    return int(path.stem.removeprefix("epoch"))


def random_states() -> dict[str, Any]:
    """The states of PyTorch's generators. Data order and augmentation need none: they are
    functions of seed, epoch and image."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"torch": torch.get_rng_state(), "cuda": cuda}


def restore_random_states(states: dict[str, Any]) -> None:
    """Undo what was drawn since `random_states`."""
    torch.set_rng_state(states["torch"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
