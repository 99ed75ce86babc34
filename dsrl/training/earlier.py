"""What a training does with the one that it finds in its folder: it goes on with it, sets it aside,
or stops. It deletes nothing."""

from pathlib import Path
from typing import Literal, NamedTuple

from dsrl.checkpoints.checkpoint import Checkpoint, RunInfo, load_checkpoint
from dsrl.checkpoints.provenance import Provenance, as_text, differences
from dsrl.checkpoints.stage_folder import StageFolder
from dsrl.checkpoints.weights import load_weights
from dsrl.system import distributed

# What to do with another training: stop, or set it aside. `restart` sets aside the same one too.
IfAnother = Literal["stop", "set-aside", "restart"]


class Found(NamedTuple):
    """The training in a stage folder."""

    checkpoint: Checkpoint | None  # the latest
    weights: Provenance | None  # of the final weights
    problem: str = ""  # why a file cannot be read

    @property
    def provenances(self) -> list[Provenance]:
        """Of both files."""
        checkpoint = self.checkpoint.run.provenance if self.checkpoint else None
        return [p for p in (checkpoint, self.weights) if p is not None]

    def differences(self, run: RunInfo) -> dict[str, str]:
        """How it differs from `run`."""
        wanted = run.provenance
        return {k: how for p in self.provenances for k, how in differences(p, wanted).items()}


class Plan(NamedTuple):
    """How a training begins."""

    checkpoint: Checkpoint | None  # to go on from
    weights: Provenance | None  # of the final weights that are there
    aside: bool = False  # what is in the folder is to be set aside before anything is written
    why: str = ""

    def is_finished(self, run: RunInfo) -> bool:
        """Whether the final weights are those of `run`."""
        return self.weights is not None and not differences(self.weights, run.provenance)


def plan_training(folder: StageFolder, run: RunInfo, if_another: IfAnother) -> Plan:
    """Go on with the training in `folder` if it is that of `run`.

    The same training may have been planned shorter, unless another one is to be set aside: the
    workflow wants what its settings say.

    Raises:
        OSError, ValueError: there is another training, or a file that cannot be read.
    """
    found = _read(folder, tolerant=if_another != "stop")
    differing = found.differences(run)
    if if_another == "stop":
        if found.checkpoint is not None:
            differing.pop("earlier_epochs", None)
            if not _is_shorter(run, found):
                differing.pop("epochs", None)
        if differing:
            raise ValueError(_refusal(folder, found, as_text(differing)))
    stray = folder.history.exists() and not found.provenances  # killed before its first checkpoint
    if differing or stray or (if_another == "restart" and found.provenances):
        return Plan(None, None, True, found.problem or as_text(differing))
    return Plan(found.checkpoint, found.weights)


def plan_resumption(folder: StageFolder, run: RunInfo, checkpoint: Checkpoint) -> Plan:
    """Go on from `checkpoint` in `folder`, with the changes in `run`; another state of the same
    training is set aside.

    Raises:
        OSError, ValueError: there is another training, or a file that cannot be read.
    """
    found = _read(folder, tolerant=False)
    differing = found.differences(run)
    for key in ("earlier_epochs", "epochs"):
        differing.pop(key, None)
    if differing:
        raise ValueError(
            f"{folder.path}: has another training ({as_text(differing)}); choose another --output"
        )
    latest = found.checkpoint
    if latest is None or is_same_file(latest.path, checkpoint.path):
        return Plan(checkpoint, found.weights)
    return Plan(checkpoint, None, True, f"epoch {latest.progress['epoch']}")


def _read(folder: StageFolder, tolerant: bool) -> Found:
    """What is in the folder. With `tolerant`, a checkpoint that cannot be read is of another
    training, and so are such final weights without a checkpoint."""
    checkpoint = weights = None
    problem = ""
    try:
        if path := folder.checkpoints.latest:
            checkpoint = load_checkpoint(path)
    except ValueError as error:
        if not tolerant:
            raise
        return Found(None, {}, str(error))
    try:
        if folder.weights.exists():
            weights = load_weights(folder.weights).info.provenance
    except ValueError as error:
        if not tolerant:
            raise
        weights, problem = (None, "") if checkpoint else ({}, str(error))
    return Found(checkpoint, weights, problem)


def _is_shorter(run: RunInfo, found: Found) -> bool:
    """Whether `run` has fewer epochs than one that is there was planned with."""
    planned = (p["recipe"]["training"]["epochs"] for p in found.provenances if p)
    return run.recipe.training.epochs < max(planned)


def is_same_file(first: Path | None, second: Path | None) -> bool:
    """Whether two paths lead to one file."""
    return first is not None and second is not None and first.samefile(second)


def _refusal(folder: StageFolder, found: Found, differing: str) -> str:
    ways = "choose another --output, or --restart, which sets it aside"
    if found.checkpoint is not None:
        ways += f", or go on with it: dsrl resume-train --checkpoint {found.checkpoint.path}"
    return f"{folder.path}: has another training ({differing}); {ways}"


def set_aside(folder: StageFolder, plan: Plan) -> None:
    """Move what is in the way into a folder of its own; see `StageFolder.set_aside`."""
    if plan.aside:
        why = f" ({plan.why})" if plan.why else ""
        aside = folder.set_aside()
        distributed.report(f"{folder.path}: the training that was there{why} is now in {aside}")


def place_of(checkpoint: Path) -> Path:
    """The stage folder that a checkpoint file lies in.

    Raises:
        ValueError: it is not in a folder `checkpoints`.
    """
    folder = checkpoint.absolute().parent
    if folder.name != "checkpoints":
        raise ValueError(
            f"{checkpoint}: is not in the folder `checkpoints` of a stage, where training would go "
            "on; name the folder to write to with --output"
        )
    return folder.parent
