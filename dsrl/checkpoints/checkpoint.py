"""`.checkpoint` files: everything that a killed training needs to go on, bit for bit.

They lie in `<stage folder>/checkpoints/`: `epoch<N>.checkpoint` at the end of an epoch, and
`epoch<N>-step<S>.checkpoint` where SIGTERM stopped a training S steps later. The last one of a
finished training stays, so that the training can be made longer.
"""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from dsrl.checkpoints.format import check, load_any, save
from dsrl.config.recipe import Recipe
from dsrl.config.sections import Resources
from dsrl.config.strict import Strict, parse
from dsrl.data.manifest import ClassInfo, Triple


class Source(Strict):
    """The prepared data set that a training learns from."""

    folder: str
    dataset: str
    classes: tuple[ClassInfo, ...]
    mean: Triple
    std: Triple


class Checksums(Strict):
    """What a training reads, by SHA-256."""

    train: dict[str, str]  # of each array file of the split
    val: dict[str, str]
    initial: str | None  # of the file with the initial weights, if there is one


class RunInfo(Strict):
    """What a training is; see `provenance` for what identifies it."""

    recipe: Recipe
    resources: Resources
    checksums: Checksums
    data: Source
    code: str = ""  # fingerprint of the code, if the workflow tracks it
    earlier_epochs: tuple[int, ...] = ()  # lengths that it had before it was made longer
    epochs_before: int = 0  # of the stages that it goes on from
    experiment_id: str = ""
    description: str = ""

    @property
    def provenance(self) -> dict[str, Any]:
        """What the weights depend on, as plain values. Trainings in which it is the same give the
        same weights; see `provenance.differences`."""
        keys = {"recipe", "checksums", "code", "earlier_epochs"}
        return self.model_dump(mode="json", include=keys)

    def going_on_from(self, before: Self) -> Self:
        """This run as the continuation of `before`, which may have been planned shorter."""
        planned = before.recipe.training.epochs
        longer = (planned,) if planned != self.recipe.training.epochs else ()
        return self.model_copy(update={"earlier_epochs": (*before.earlier_epochs, *longer)})


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory.

    Attributes:
        run: the run that it belongs to.
        progress: `epoch` (finished epochs), `step` (finished steps of the next one), `sums` (of
            their losses, over all processes; see `TrainingState`), `best` (epoch, scores and layers
            of the best validation, or None) and `history` (a row per finished epoch).
        network, optimizer: state dicts.
        random: states of the generators; see `random_states`.
        path: of the file, if it was loaded from one.
    """

    run: RunInfo
    progress: Mapping[str, Any]
    network: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, Any]
    random: Mapping[str, Any]
    path: Path | None = None


NAME = re.compile(r"epoch(\d+)(?:-step(\d+))?\.checkpoint")
STATE = ("progress", "network", "optimizer", "random")  # entries beside RunInfo's


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        OSError, ValueError: see `format.load`; or an entry is missing or not valid.
    """
    return checkpoint_in(load_any(path), path)


def checkpoint_in(content: Mapping[str, Any], path: Path) -> Checkpoint:
    """The checkpoint in `content`, which was loaded from `path`; see `load_checkpoint`."""
    check(content, path, "checkpoint")
    run = parse(RunInfo, {k: v for k, v in content.items() if k in RunInfo.model_fields}, str(path))
    if missing := [name for name in STATE if name not in content]:
        raise ValueError(f"{path}: key '{missing[0]}' is missing")
    return Checkpoint(run, **{name: content[name] for name in STATE}, path=path)


class CheckpointFolder:
    """The checkpoints of one training.

    Args:
        folder: created with the first checkpoint.
        history: how many checkpoints to keep.
    """

    def __init__(self, folder: Path, history: int = 1):
        self.folder = Path(folder)
        self.history = history

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then remove the oldest ones."""
        epoch, step = (checkpoint.progress[key] for key in ("epoch", "step"))
        path = self.folder / f"epoch{epoch}{f'-step{step}' if step else ''}.checkpoint"
        state = {name: getattr(checkpoint, name) for name in STATE}
        save(path, "checkpoint", {**checkpoint.run.model_dump(mode="json"), **state})
        for old in self.files()[: -self.history]:
            old.unlink()

    @property
    def latest(self) -> Path | None:
        """The checkpoint to resume from, if there is one."""
        return next(reversed(self.files()), None)

    def files(self) -> list[Path]:
        """All checkpoints, the latest last."""
        found = {path: NAME.fullmatch(path.name) for path in self.folder.glob("epoch*.checkpoint")}
        positions = {path: (int(m[1]), int(m[2] or 0)) for path, m in found.items() if m}
        return sorted(positions, key=positions.__getitem__)


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


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Restore the states that `random_states` returned."""
    python, legacy = states["python"], states["numpy"]
    random.setstate((python["version"], tuple(python["values"].tolist()), python["gauss"]))
    key = legacy["state"]["key"].numpy().astype(np.uint32)
    state = {**legacy, "state": {**legacy["state"], "key": key}}
    np.random.set_state(state)  # noqa: NPY002 (the state of others' draws)
    torch.set_rng_state(states["torch"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
