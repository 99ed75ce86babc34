"""The training images: which there are, and in which order they come."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader, DistributedSampler

from dsrl.config.sections import Resources
from dsrl.config.settings import Recipe
from dsrl.data.dataset import PreparedSplit, TrainingSample, TrainingSet
from dsrl.system import distributed
from dsrl.system.signals import ignore_sigterm
from dsrl.training.state import Position


class Splits(NamedTuple):
    """What a training reads."""

    train: PreparedSplit
    val: PreparedSplit


def open_splits(data: Path) -> Splits:
    """Open the splits of a prepared data set that a training needs.

    Raises:
        OSError, ValueError: one does not exist, or none of its pixels has a label.
    """
    splits = Splits(PreparedSplit(data, "train"), PreparedSplit(data, "val"))
    for split in splits:
        if not any(split.manifest.class_pixels):
            raise ValueError(
                f"{split.folder}: no pixel has a label; training needs labels in train to learn "
                "from and in val to find the best epoch; prepare a split that has some"
            )
    return splits


class EpochSampler(DistributedSampler[tuple[int, int]]):
    """Yields (epoch, image) for the images of this process, from a position on.

    The order depends on (seed, epoch) only, so that a position is all that a resumed training
    needs.

    Args:
        dataset: what is sampled from.
        batch_size: of this process.
        seed: of the order.
        position: which epoch is drawn when an iteration begins, and how many of its batches are
            already behind.
    """

    def __init__(self, dataset: TrainingSet, batch_size: int, seed: int, position: Position):
        super().__init__(
            dataset, distributed.world_size(), distributed.rank(), seed=seed, drop_last=True
        )
        self.batch_size = batch_size
        self.position = position

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.position.epoch
        self.set_epoch(epoch)
        for image in islice(super().__iter__(), self.position.step * self.batch_size, None):
            yield epoch, int(image)  # type: ignore[call-overload]

    def batch(self, step: int) -> list[int]:
        """The images of one batch of the current epoch."""
        self.set_epoch(self.position.epoch)
        start = step * self.batch_size
        return list(islice(super().__iter__(), start, start + self.batch_size))  # type: ignore[arg-type]


def training_loader(
    split: PreparedSplit,
    recipe: Recipe,
    resources: Resources,
    device: torch.device,
    position: Position,
) -> DataLoader[TrainingSample]:
    """The loader of this process, which goes on from `position`.

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
        sampler=EpochSampler(dataset, batch // processes, recipe.seed, position),
        num_workers=resources.num_workers,
        persistent_workers=resources.num_workers > 0,
        pin_memory=device.type == "cuda",
        drop_last=True,
        worker_init_fn=ignore_sigterm,
        # Its own, so that starting workers draws nothing from the network's generator.
        generator=torch.Generator(),
    )
