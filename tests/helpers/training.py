"""Trainings as tests start, disturb and compare them: what knows the inside of dsrl.training."""

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from dsrl.checkpoints.checkpoint import (
    Checkpoint,
    Checksums,
    RunInfo,
    Source,
    load_checkpoint,
    random_states,
)
from dsrl.checkpoints.weights import load_weights
from dsrl.config.sections import Resources
from dsrl.config.settings import Settings, read_settings
from dsrl.data.dataset import TrainingSet
from dsrl.data.manifest import read_manifest
from dsrl.evaluation.evaluate import evaluate
from dsrl.training import stage as stages
from dsrl.training import train as loop
from dsrl.training.earlier import IfAnother
from dsrl.training.start import find_start
from dsrl.training.state import Position, build_state

Layers = dict[str, Tensor]
SPLIT = {"images.npy": "1", "labels.npy": "2"}


def run_info(stage: int = 1, initial: str | None = None, **settings: object) -> RunInfo:
    """What a training is that never took place."""
    return RunInfo(
        recipe=read_settings(settings).recipe(stage),
        resources=Resources(),
        checksums=Checksums(train=SPLIT, val=SPLIT, initial=initial),
        data=Source(folder="data", dataset="demo", classes=(), mean=(0, 0, 0), std=(1, 1, 1)),
    )


def checkpoint_of(layers: Mapping[str, Tensor], epoch: int) -> Checkpoint:
    """A checkpoint of such a training."""
    progress = {"epoch": epoch, "step": 0, "sums": torch.zeros(2, 4), "best": None, "history": []}
    return Checkpoint(run_info(), progress, layers, {}, random_states())


def train(
    settings: Settings,
    stage: int,
    data: Path,
    folder: Path,
    previous: Path | None = None,
    if_another: IfAnother = "stop",
) -> None:
    stages.train_stage(
        settings.recipe(stage), settings.resources, data, folder, previous, if_another=if_another
    )


def resume(checkpoint: Path, **options: Any) -> None:
    """Go on from a checkpoint, as `dsrl resume-train` does."""
    loaded = load_checkpoint(checkpoint)
    stages.resume_stage(loaded, loaded.run.resources, **options)


@contextmanager
def lock_holder(folder: Path) -> Iterator[int]:
    """Another process that holds the lock of a folder until it is killed; yields its number."""
    script = (
        "import sys, time; from pathlib import Path; from dsrl.system.lock import locked\n"
        "with locked(Path(sys.argv[1])): print(); sys.stdout.flush(); time.sleep(60)"
    )
    line = [sys.executable, "-c", script, folder]
    with subprocess.Popen(line, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"\n"
        yield process.pid
        process.kill()


def first_layers(
    settings: Settings, stage: int, data: Path, folder: Path, previous: Path | None = None
) -> Layers:
    """The layers with which a training begins."""
    recipe, classes = settings.recipe(stage), read_manifest(data / "train").classes
    start = find_start(recipe, previous, folder)
    trained, device = start is not None, torch.device("cpu")
    state = build_state(recipe, classes, 1, Position(), start, trained, device)
    return state.network.state_dict()


def epochs_resumed(
    settings: Settings, stage: int, data: Path, folder: Path, previous: Path | None = None
) -> int:
    """How many epochs a training does not repeat, since `folder` has their state."""
    original, started = stages.train, []

    def record(*arguments):
        started.append(arguments[-1].checkpoint)
        original(*arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stages, "train", record)
        interrupt(patch, step=1)
        train(settings, stage, data, folder, previous)
    (start,) = started
    return start.progress["epoch"] if isinstance(start, Checkpoint) else 0


def before_each(patch: pytest.MonkeyPatch, what: str, action: Callable[[int], object]) -> None:
    """Call `action` before each `step` or `validation`, with its number, counted from 1."""
    name = {"step": "_losses", "validation": "_validate"}[what]
    original, numbers = getattr(loop, name), []

    def disturbed(*arguments):
        numbers.append(len(numbers) + 1)
        action(numbers[-1])
        return original(*arguments)

    patch.setattr(loop, name, disturbed)


def interrupt(patch: pytest.MonkeyPatch, step: int) -> None:
    """Make a training fail in a step, counted over the epochs."""

    def fail(number: int) -> None:
        if number == step:
            raise KeyboardInterrupt

    before_each(patch, "step", fail)


def spoil_loss(patch: pytest.MonkeyPatch, step: int, factor: float) -> None:
    """Multiply the loss of one step, counted over the epochs."""
    original, numbers = loop._losses, []

    def spoilt(*arguments):
        numbers.append(len(numbers) + 1)
        losses, labelled = original(*arguments)
        spoilt = losses._replace(total=losses.total * factor)
        return (spoilt if numbers[-1] == step else losses), labelled

    patch.setattr(loop, "_losses", spoilt)


def record_drawn(patch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The images that are drawn from now on, without workers: index, and the sum of its pixels."""
    original, drawn = TrainingSet.__getitem__, []

    def recorded(self, key):
        sample = original(self, key)
        drawn.append((key[1], int(sample.target.sum())))
        return sample

    patch.setattr(TrainingSet, "__getitem__", recorded)
    return drawn


def validate_as(
    patch: pytest.MonkeyPatch,
    scores: Iterable[float],
    action: Callable[[nn.Module], object] = lambda network: None,
) -> list[Layers]:
    """Let validations find these mean IoUs; returns the layers that they are of.

    `action` may change the network after each.
    """
    values, seen = iter(scores), []

    def pretend(network, *arguments, **options):
        found = evaluate(network, *arguments, **options)
        object.__setattr__(found, "mean_iou", next(values))
        seen.append({name: layer.clone() for name, layer in network.state_dict().items()})
        action(network)
        return found

    patch.setattr(loop, "evaluate", pretend)
    return seen


def final_layers(folder: Path) -> Layers:
    return dict(load_weights(folder / "final.weights").layers)


def history(folder: Path) -> pd.DataFrame:
    """The history but for what depends on the machine."""
    return pd.read_csv(folder / "history.csv").drop(columns="images_per_second")


def same(first: Layers, second: Layers) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def assert_same_training(folder: Path, other: Path) -> None:
    """Bit for bit: final weights and history."""
    assert same(final_layers(folder), final_layers(other))
    pd.testing.assert_frame_equal(history(folder), history(other), check_exact=True)
