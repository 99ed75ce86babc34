"""`.checkpoint` files: everything that a killed training needs to go on, bit for bit.

They lie in `<stage folder>/checkpoints/`: `epoch<N>.checkpoint` at the end of an epoch, and
`epoch<N>-step<S>.checkpoint` where SIGTERM stopped a training S steps later. A file `latest` names
the one to go on from. It is removed when the stage's final weights are written: a finished training
has nothing to resume, and when it is run again it starts afresh.
"""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dsrl.checkpoints.weights import FORMAT, load, save
from dsrl.system.files import write_text


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
        """Write `state` with the random states, then drop the oldest files."""
        step = f"-step{state['step']}" if state["step"] else ""
        path = self.folder / f"epoch{state['epoch']}{step}.checkpoint"
        save(path, {"kind": "checkpoint", "format": FORMAT, **state, "random": random_states()})
        write_text(self._latest, path.name + "\n")
        for old in sorted(self._files(), key=_age)[: -self.history]:
            old.unlink()

    @property
    def latest(self) -> Path | None:
        """The checkpoint to go on from, if there is one."""
        if not self._latest.is_file():
            return None
        path = self.folder / self._latest.read_text(encoding="utf-8").strip()
        return path if path.is_file() else None

    def load_latest(self, identity: dict[str, Any]) -> dict[str, Any] | None:
        """The state to go on from; None if there is none of a training with this identity."""
        if self.latest is None:
            return None
        state = load(self.latest, "checkpoint")
        return state if state["identity"] == identity else None

    def clear(self) -> None:
        """Remove checkpoints, which belong to another training than the one that starts."""
        self.finish()
        for path in self._files():
            path.unlink()

    def finish(self) -> None:
        """Say that there is nothing to go on with."""
        self._latest.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return list(self.folder.glob("epoch*.checkpoint"))


def _age(path: Path) -> int:
    """By time, not by epoch: a training that went on from an old checkpoint has later ones of
    its former course beside it."""
    return path.stat().st_mtime_ns


def random_states() -> dict[str, Any]:
    """The states of all generators. Data order and augmentation need none: they are functions of
    seed, epoch and image. Arrays are kept as tensors, which load without running code."""
    version, values, gauss = random.getstate()
    legacy: Any = np.random.get_state(legacy=False)  # noqa: NPY002 (the state of others' draws)
    key = torch.from_numpy(legacy["state"]["key"].astype(np.int64))
    return {
        "python": {"version": version, "values": torch.tensor(values), "gauss": gauss},
        "numpy": {**legacy, "state": {"key": key, "pos": int(legacy["state"]["pos"])}},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Undo what was drawn since `random_states`."""
    python, legacy = states["python"], states["numpy"]
    random.setstate((python["version"], tuple(python["values"].tolist()), python["gauss"]))
    key = legacy["state"]["key"].numpy().astype(np.uint32)
    np.random.set_state({**legacy, "state": {**legacy["state"], "key": key}})  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
