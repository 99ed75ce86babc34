"""Training of a stage, from its beginning or from a checkpoint."""

from pathlib import Path

from dsrl.checkpoints.checkpoint import Checkpoint, CheckpointFolder, Checksums, RunInfo, Source
from dsrl.config.sections import Resources
from dsrl.config.settings import Recipe
from dsrl.system import distributed
from dsrl.system.signals import stop_on_sigterm
from dsrl.training.loader import Splits, open_splits
from dsrl.training.start import checksum, find_start
from dsrl.training.train import train


def train_stage(
    recipe: Recipe,
    resources: Resources,
    data: Path,
    output: Path,
    initial: Path | None = None,
    *,
    experiment_id: str = "",
    description: str = "",
) -> None:
    """Train one stage and write its final weights and history.

    Where `output` has a checkpoint of the same training (same recipe, data and initial weights),
    that one is resumed; checkpoints of another training are discarded.

    Args:
        recipe: from `Settings.recipe`.
        data: folder of a prepared data set with the splits train and val.
        output: receives `final.weights` (the epoch with the best mean IoU on val, all layers),
            `history.csv`, `tensorboard/` and `checkpoints/`.
        initial: weights to start from; see `find_start`.
        experiment_id, description: kept in the files.

    Raises:
        OSError, ValueError: bad input, reported in one line.
        Stopped: SIGTERM came; a checkpoint is written.
    """
    device = distributed.set_up_device(resources.device)
    with distributed.process_group(device), stop_on_sigterm() as stop:
        splits = open_splits(data)
        start = find_start(recipe, initial, output)
        run = RunInfo(
            recipe=recipe,
            resources=resources,
            checksums=_checksums(splits, checksum(start)),
            data=_source(splits, data),
            experiment_id=experiment_id,
            description=description,
        )
        checkpoint = CheckpointFolder(output / "checkpoints").load_latest(run)
        train(run, splits, output, device, stop, start, checkpoint)


def resume_stage(checkpoint: Checkpoint, resources: Resources, data: Path | None = None) -> None:
    """Resume from a checkpoint, in the stage folder above the folder that its file lies in.

    Args:
        checkpoint: loaded from a file.
        resources: in place of those in the checkpoint.
        data: folder of the prepared data set; by default where it was when the training began.

    Raises:
        OSError, ValueError: bad input, reported in one line.
        Stopped: SIGTERM came; a checkpoint is written.
    """
    assert checkpoint.path is not None
    before = checkpoint.run
    device = distributed.set_up_device(resources.device)
    with distributed.process_group(device), stop_on_sigterm() as stop:
        data = data or Path(before.data.folder)
        splits = open_splits(data)
        run = before.model_copy(
            update={
                "resources": resources,
                "checksums": _checksums(splits, before.checksums.initial),
                "data": _source(splits, data),
            }
        )
        if not run.is_same_training(before):
            raise ValueError(
                f"{checkpoint.path}: was trained on different data than {data} now contains; "
                "name the right folder with --data"
            )
        folder = checkpoint.path.absolute().parents[1]
        train(run, splits, folder, device, stop, None, checkpoint)


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
