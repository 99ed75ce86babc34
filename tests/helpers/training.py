"""Trainings as tests start, disturb and compare them: what knows the inside of dsrl.training."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from dsrl.checkpoints.weights import load_weights
from dsrl.config.settings import Settings
from dsrl.data.dataset import TrainingSet
from dsrl.evaluation.evaluate import evaluate
from dsrl.system.signals import StopRequest
from dsrl.training.loop import read_checkpoint, resume_stage, train_stage
from dsrl.training.start import find_start
from dsrl.training.trainer import Trainer

Layers = dict[str, Tensor]


def train(
    settings: Settings, stage: int, data: Path, folder: Path, previous: Path | None = None
) -> None:
    train_stage(settings, stage, data, folder, previous)


def resume(checkpoint: Path) -> None:
    """Go on from a checkpoint, as `dsrl resume-train` does."""
    resume_stage(checkpoint, *read_checkpoint(checkpoint))


def begin(
    settings: Settings, stage: int, data: Path, folder: Path, previous: Path | None = None
) -> Trainer:
    """A training that has not taken a step."""
    start = find_start(settings, stage, previous, folder)
    return Trainer(settings, stage, data, folder, torch.device("cpu"), start, StopRequest())


def first_layers(
    settings: Settings, stage: int, data: Path, folder: Path, previous: Path | None = None
) -> Layers:
    """The layers with which a training begins."""
    return begin(settings, stage, data, folder, previous).network.state_dict()


def epochs_taken_up(
    settings: Settings, stage: int, data: Path, folder: Path, previous: Path | None = None
) -> int:
    """How many epochs a training does not repeat, since `folder` has their state."""
    training = begin(settings, stage, data, folder, previous)
    training.resume()
    return training.epoch


def before_each(patch: pytest.MonkeyPatch, what: str, action: Callable[[int], object]) -> None:
    """Call `action` before each `step` or `validation`, with its number, counted from 1."""
    name = {"step": "_step", "validation": "_validate"}[what]
    original, numbers = getattr(Trainer, name), []

    def disturbed(self, *arguments):
        numbers.append(len(numbers) + 1)
        action(numbers[-1])
        return original(self, *arguments)

    patch.setattr(Trainer, name, disturbed)


def interrupt(patch: pytest.MonkeyPatch, step: int) -> None:
    """Make a training fail in a step, counted over the epochs."""

    def fail(number: int) -> None:
        if number == step:
            raise KeyboardInterrupt

    before_each(patch, "step", fail)


def spoil_loss(patch: pytest.MonkeyPatch, step: int, factor: float) -> None:
    """Multiply the loss of one step, counted over the epochs."""
    original, numbers = Trainer._step, []

    def spoilt(self, sample):
        numbers.append(len(numbers) + 1)
        losses = original(self, sample)
        return losses._replace(total=losses.total * factor) if numbers[-1] == step else losses

    patch.setattr(Trainer, "_step", spoilt)


def record_drawn(patch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The images that are drawn from now on, without workers: index, and the sum of its pixels."""
    original, drawn = TrainingSet.__getitem__, []

    def recorded(self, index):
        sample = original(self, index)
        drawn.append((index, int(sample.target.sum())))
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

    patch.setattr("dsrl.training.trainer.evaluate", pretend)
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
