"""The training data loader and its sampler."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader, Sampler

from dsrl.config.recipe import Recipe
from dsrl.config.sections import Resources
from dsrl.data.dataset import PreparedSplit, TrainingSample, TrainingSet
from dsrl.system import distributed
from dsrl.system.signals import ignore_signals
from dsrl.training.state import Position


class Splits(NamedTuple):
    """What a training reads."""

    train: PreparedSplit
    val: PreparedSplit


def open_splits(data: Path, recipe: Recipe) -> Splits:
    """Open the splits of a prepared data set that a training needs.

    Raises:
        OSError, ValueError: one does not exist, is stored smaller than the network's output or with
            another `fit`, or none of its pixels has a label.
    """
    fit, output = recipe.fit, (2 * recipe.input_size[0], 2 * recipe.input_size[1])
    splits = Splits(PreparedSplit(data, "train"), PreparedSplit(data, "val"))
    for split in splits:
        height, width = split.manifest.size
        if height < output[0] or width < output[1]:
            raise ValueError(
                f"{split.folder}: stored at {height}x{width}, smaller than the output of "
                f"{output[0]}x{output[1]}; prepare the split with `dsrl preprocess --size "
                f"{output[0]} {output[1]}`, or reduce data.input_size"
            )
        if split.manifest.fit != fit:
            raise ValueError(
                f"{split.folder}: prepared with fit '{split.manifest.fit}', but data.fit is "
                f"'{fit}'; prepare the split with `dsrl preprocess --fit {fit}`, or change data.fit"
            )
        if not any(split.manifest.class_pixels):
            raise ValueError(
                f"{split.folder}: no pixel has a label; training needs labels in train to learn "
                "from and in val to find the best epoch; prepare a split that has some"
            )
    return splits


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, image) for the images of this process, from a position on.

    The order is a function of (seed, epoch), so that a position is all that a resumed training
    needs. Each process takes every n-th image; what does not divide evenly is left out.

    Args:
        images: how many there are.
        batch_size: of this process.
        seed: of the order.
        position: where an iteration begins.
    """

    def __init__(self, images: int, batch_size: int, seed: int, position: Position):
        self.images, self.batch_size, self.seed = images, batch_size, seed
        self.position = position

    def __len__(self) -> int:
        return self.images // distributed.world_size()

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.position.epoch
        for image in self._order(epoch)[self.position.step * self.batch_size :]:
            yield epoch, image

    def batch(self, step: int) -> list[int]:
        """The images of a step of the current epoch."""
        start = step * self.batch_size
        return self._order(self.position.epoch)[start : start + self.batch_size]

    def _order(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(self.seed + epoch)
        order: list[int] = torch.randperm(self.images, generator=generator).tolist()
        processes = distributed.world_size()
        return order[distributed.rank() : len(self) * processes : processes]


def training_loader(
    split: PreparedSplit,
    recipe: Recipe,
    resources: Resources,
    device: torch.device,
    position: Position,
) -> DataLoader[TrainingSample]:
    """The loader of this process, from `position` on.

    Raises:
        ValueError: the processes cannot share a batch, or there are too few images for one.
    """
    batch, processes = recipe.training.batch_size, distributed.world_size()
    if batch % processes or batch // processes < 2:
        raise ValueError(
            f"batch_size {batch} cannot be shared by {processes} processes: each needs the "
            "same number of images, at least 2"
        )
    if len(split) < batch:
        raise ValueError(f"batch_size {batch} is larger than the {len(split)} training images")
    size = recipe.input_size
    dataset = TrainingSet(split, (2 * size[0], 2 * size[1]), recipe.augmentation, recipe.seed)
    return DataLoader(
        dataset,
        batch // processes,
        sampler=EpochSampler(len(split), batch // processes, recipe.seed, position),
        num_workers=resources.num_workers,
        persistent_workers=resources.num_workers > 0,
        pin_memory=device.type == "cuda",
        drop_last=True,
        worker_init_fn=ignore_signals,
        # Its own, so that starting workers draws nothing from the network's generator.
        generator=torch.Generator(),
    )
