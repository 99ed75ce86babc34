"""Training of a stage, from its beginning or from a checkpoint."""

from pathlib import Path

import torch

from dsrl.checkpoints.checkpoint import Checkpoint, Checksums, RunInfo, Source
from dsrl.checkpoints.stage_folder import StageFolder
from dsrl.config.recipe import Recipe
from dsrl.config.sections import Resources
from dsrl.system import distributed
from dsrl.system.signals import StopRequest, stop_on_signals
from dsrl.training.earlier import IfAnother, Plan, place_of, plan_resumption, plan_training
from dsrl.training.loader import Splits, open_splits
from dsrl.training.start import PreviousStage, Start, checksum, find_start
from dsrl.training.state import is_finished
from dsrl.training.train import train


def train_stage(
    recipe: Recipe,
    resources: Resources,
    data: Path,
    output: Path,
    initial: Path | None = None,
    *,
    if_another: IfAnother = "stop",
    code: str = "",
    experiment_id: str = "",
    description: str = "",
) -> None:
    """Train one stage and write its final weights and history.

    Where `output` has a training with the same provenance (recipe, data, initial weights, code),
    that one is resumed, even if it was planned with fewer epochs; see `plan_training`.

    Args:
        recipe: from `Settings.recipe`.
        data: folder of a prepared data set with the splits train and val.
        output: receives `final.weights` (the epoch with the best mean IoU on val, all layers),
            `history.csv`, `tensorboard/` and `checkpoints/`.
        initial: weights to start from; see `find_start`.
        if_another: what to do if `output` has another training.
        code: fingerprint of the code.
        experiment_id, description: kept in the files.

    Raises:
        OSError, ValueError: bad input, another training in `output`, or another process that works
            there; reported in one line.
        Stopped: SIGTERM or SIGINT came; a checkpoint is written.
    """
    device = distributed.set_up_device(resources.device)
    with distributed.process_group(device), stop_on_signals() as stop:
        splits = open_splits(data, recipe)
        start = find_start(recipe, initial, output)
        run = RunInfo(
            recipe=recipe,
            resources=resources,
            checksums=_checksums(splits, checksum(start)),
            data=_source(splits, data),
            code=code,
            epochs_before=start.weights.info.epochs if isinstance(start, PreviousStage) else 0,
            experiment_id=experiment_id,
            description=description,
        )
        folder = StageFolder(output, resources.checkpoint_history)
        with distributed.main_locks(output):
            if distributed.is_main():
                folder.restore()
            distributed.wait_for_all()
            plan = plan_training(folder, run, if_another)
            _train(run, splits, folder, device, stop, start, plan)


def resume_stage(
    checkpoint: Checkpoint,
    resources: Resources,
    data: Path | None = None,
    output: Path | None = None,
    epochs: int | None = None,
) -> None:
    """Resume from a checkpoint.

    Args:
        checkpoint: loaded from a file.
        resources: in place of those in the checkpoint.
        data: folder of the prepared data set; by default where it was when the training began.
        output: folder of the stage; by default the one that the file lies in.
        epochs: the new length of the training; by default the planned one.

    Raises:
        OSError, ValueError: bad input, another training in the folder, or another process that
            works there; reported in one line.
        Stopped: SIGTERM or SIGINT came; a checkpoint is written.
    """
    assert checkpoint.path is not None
    before = checkpoint.run
    folder = StageFolder(output or place_of(checkpoint.path), resources.checkpoint_history)
    device = distributed.set_up_device(resources.device)
    with distributed.process_group(device), stop_on_signals() as stop:
        data = data or Path(before.data.folder)
        splits = open_splits(data, before.recipe)
        run = before.model_copy(
            update={
                "recipe": _with_epochs(before.recipe, epochs, checkpoint),
                "resources": resources,
                "checksums": _checksums(splits, before.checksums.initial),
                "data": _source(splits, data),
            }
        )
        if run.checksums != before.checksums:
            raise ValueError(
                f"{checkpoint.path}: was trained on different data than {data} now contains; "
                "name the right folder with --data"
            )
        with distributed.main_locks(folder.path):
            plan = plan_resumption(folder, run, checkpoint)
            _train(run, splits, folder, device, stop, None, plan)


def _train(
    run: RunInfo,
    splits: Splits,
    folder: StageFolder,
    device: torch.device,
    stop: StopRequest,
    start: Start | None,
    plan: Plan,
) -> None:
    """Train, unless the folder has the final weights of this run already."""
    if plan.checkpoint is not None:
        run = run.going_on_from(plan.checkpoint.run)
    if plan.is_finished(run):
        distributed.report(
            f"{folder.path}: this training is finished; more epochs go on with it, --restart "
            "trains again"
        )
        return
    if plan.checkpoint is not None:
        _check_early_stopping(run.recipe, plan.checkpoint)
    distributed.wait_for_all()  # before the main process changes what the others read
    train(run, splits, folder, device, stop, start, plan)


def _check_early_stopping(recipe: Recipe, checkpoint: Checkpoint) -> None:
    """Check that more epochs would be trained."""
    history = checkpoint.progress["history"]
    more = recipe.training.epochs > checkpoint.run.recipe.training.epochs
    if more and len(history) < recipe.training.epochs and is_finished(recipe, history):
        raise ValueError(
            f"{checkpoint.path}: early stopping ended this training after epoch {len(history)}; "
            "more epochs do not go on with it"
        )


def _with_epochs(recipe: Recipe, epochs: int | None, checkpoint: Checkpoint) -> Recipe:
    done = checkpoint.progress["epoch"] + (checkpoint.progress["step"] > 0)
    if epochs is None:
        return recipe
    if epochs < done:
        raise ValueError(f"{checkpoint.path}: is of epoch {done}; epochs must be >= {done}")
    training = recipe.training.model_copy(update={"epochs": epochs})
    return recipe.model_copy(update={"training": training})


def _checksums(splits: Splits, initial: str | None) -> Checksums:
    train, val = (split.manifest.checksums for split in splits)
    return Checksums(train=train, val=val, initial=initial)


def _source(splits: Splits, data: Path) -> Source:
    manifest = splits.train.manifest
    return Source(
        folder=str(data),
        dataset=manifest.dataset,
        classes=manifest.classes,
        mean=manifest.mean,
        std=manifest.std,
    )
