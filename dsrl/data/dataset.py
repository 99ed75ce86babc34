"""Prepared splits as PyTorch data sets: arrays mapped from disk, nothing decoded twice."""

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dsrl.config.sections import Augmentation
from dsrl.data.augment import augment
from dsrl.data.fit import Box, stored_box
from dsrl.data.manifest import IGNORE_INDEX, read_manifest
from dsrl.data.transforms import InputTransform, resize_labels


class PreparedSplit:
    """One split of a prepared data set.

    Attributes:
        manifest: the description of the arrays.
        images: uint8 (N, H, W, 3), memory-mapped.
        labels: uint8 (N, H, W), train ids, memory-mapped.

    Raises:
        FileNotFoundError: the folder is not a prepared split.
        ValueError: the arrays do not match the manifest.
    """

    def __init__(self, data: Path, split: str):
        self.folder = Path(data) / split
        self.manifest = read_manifest(self.folder)
        shape = (len(self), *self.manifest.size)
        self.images = self._map("images.npy", (*shape, 3))
        self.labels = self._map("labels.npy", shape)
        areas = [np.prod(sample.native_size) for sample in self.manifest.samples]
        self._native_offsets = np.cumsum([0, *areas])
        self._native: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.manifest.samples)

    def sample(self, index: int) -> tuple[Tensor, Tensor]:
        """An image and its label: uint8 (3, H, W), channels-last, which resizes faster, and uint8
        (H, W)."""
        image, label = (_copy(array, index) for array in (self.images, self.labels))
        return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(label)

    def box(self, index: int) -> Box:
        """Where an image lies in its row of the arrays; around it is padding."""
        sample = self.manifest.samples[index]
        return stored_box(sample.native_size, self.manifest.size, self.manifest.fit)

    def native_label(self, index: int) -> np.ndarray:
        """uint8 (h, w): the train ids of one image at the size of its label file."""
        if self._native is None:
            self._native = self._map("native_labels.npy", (int(self._native_offsets[-1]),))
        window = slice(*self._native_offsets[index : index + 2])
        return _copy(self._native, window).reshape(self.manifest.samples[index].native_size)

    def _map(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        path = self.folder / name
        try:
            array: np.ndarray = np.load(path, mmap_mode="r" if 0 not in shape else None)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path}: damaged: {error}; prepare the split again") from None
        if array.shape != shape or array.dtype != np.uint8:
            raise ValueError(
                f"{path}: contains {array.dtype} {array.shape}, but its manifest says uint8 "
                f"{shape}; prepare the split again"
            )
        return array


def _copy(array: np.ndarray, index: int | slice) -> np.ndarray:
    """A part of a mapped array, writable. What has been read stays in the system's cache of files,
    but does not count as memory of this process, where it would add up to the whole file."""
    copy = array[index].copy()
    if isinstance(array.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        array.base.madvise(mmap.MADV_DONTNEED)
    return copy


class TrainingSample(NamedTuple):
    """One augmented sample, or a batch of them."""

    input: Tensor  # uint8 (3, H, W)
    target: Tensor  # uint8 (3, 2H, 2W): the image that SISR reconstructs
    labels: Tensor  # uint8 (2H, 2W)
    inside: Tensor  # bool (2H, 2W): where the image is; the rest is padding


class TrainingSet(Dataset[TrainingSample]):
    """A prepared split, augmented, indexed by `(epoch, index)`.

    A sample depends on nothing but (seed, epoch, index): not on the number of workers or processes,
    nor on earlier samples. A resumed run sees the same images.

    Args:
        output_size: height and width of the network's output, (2H, 2W).
    """

    def __init__(
        self,
        split: PreparedSplit,
        output_size: tuple[int, int],
        settings: Augmentation,
        seed: int,
    ):
        self.split = split
        self.output_size = output_size
        self.settings = settings
        self.seed = seed

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: tuple[int, int]) -> TrainingSample:
        """The sample of (epoch, image)."""
        epoch, index = key
        rng = np.random.default_rng([self.seed, epoch, index])
        image, labels = self.split.sample(index)
        fill = [round(255 * mean) for mean in self.split.manifest.mean]
        inside = None
        if self.split.manifest.fit == "pad":
            inside = torch.zeros(labels.shape, dtype=torch.bool)
            inside[self.split.box(index).window] = True
            image = image.where(inside, torch.tensor(fill, dtype=torch.uint8)[:, None, None])
        return TrainingSample(
            *augment(image, labels, self.output_size, self.settings, fill, rng, inside)
        )


class EvaluationSet(Dataset[tuple[Tensor, Tensor]]):
    """Whole images and labels of a prepared split: uint8 (3, H, W) and uint8 (H, W) train ids.

    Args:
        indices: the images to use, in this order.
    """

    def __init__(self, split: PreparedSplit, indices: Sequence[int]):
        self.split = split
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        return self.split.sample(self.indices[position])


def network_inputs(
    split: PreparedSplit,
    indices: Sequence[int],
    images: Tensor,
    transform: InputTransform,
    scale: int = 1,
) -> Tensor:
    """Whole images of a split as the network's inputs, without the padding that is stored.

    Args:
        images: uint8 (B, 3, H, W), those of `indices`.
        scale: 2 gives images of the output size.
    """
    if split.manifest.fit == transform.fit == "stretch":
        return transform(images, scale=scale)
    found = []
    for image, index in zip(images.split(1), indices, strict=True):
        rows, columns = split.box(index).window
        native_size = split.manifest.samples[index].native_size
        found.append(transform(image[..., rows, columns], native_size, scale))
    return torch.cat(found)


def output_labels(
    split: PreparedSplit, indices: Sequence[int], labels: Tensor, transform: InputTransform
) -> Tensor:
    """Labels of a split as the network's output should be, IGNORE_INDEX around them.

    Args:
        labels: uint8 (B, H, W), those of `indices`.
        transform: that of the input.

    Returns:
        uint8 (B, 2H, 2W), for an input of H x W.
    """
    if split.manifest.fit == transform.fit == "stretch":
        return resize_labels(labels, transform.output_size)
    found = labels.new_full((len(labels), *transform.output_size), IGNORE_INDEX)
    for frame, label, index in zip(found, labels.split(1), indices, strict=True):
        rows, columns = split.box(index).window
        box = transform.box(split.manifest.samples[index].native_size, scale=2)
        frame[box.window] = resize_labels(label[:, rows, columns], (box.height, box.width))[0]
    return found
