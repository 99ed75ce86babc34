"""The order of the training images."""

from collections.abc import Iterator
from itertools import islice

from torch.utils.data import Dataset, DistributedSampler

from dsrl.system import distributed


class EpochSampler(DistributedSampler[int]):
    """The share of this process in the images of an epoch; it can begin in the middle.

    The order depends on nothing but (seed, epoch), so that a position in it is all that a resumed
    training needs.

    Args:
        dataset: what is sampled from.
        batch_size: of this process.
        seed: of the order.
    """

    def __init__(self, dataset: Dataset, batch_size: int, seed: int):
        super().__init__(
            dataset, distributed.world_size(), distributed.rank(), seed=seed, drop_last=True
        )
        self.batch_size = batch_size
        self.step = 0

    def set_position(self, epoch: int, step: int) -> None:
        """Say which epoch is drawn next, and how many of its batches are behind."""
        self.set_epoch(epoch)
        self.step = step

    def __iter__(self) -> Iterator[int]:
        return islice(super().__iter__(), self.step * self.batch_size, None)

    def batch(self, step: int) -> list[int]:
        """The images of one batch of the current epoch."""
        start = step * self.batch_size
        return list(islice(super().__iter__(), start, start + self.batch_size))
