"""Normalise and resize images and labels for the network."""

from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from dsrl.config.sections import Fit
from dsrl.data.fit import Box, fitted_box
from dsrl.data.manifest import Manifest


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Normalise images with the mean and std of a data set.

    Args:
        images: uint8 or float (B, 3, H, W), 0..255.
        mean: float32 (3,), for values in 0..1, on the device of `images`. std: the same.

    Returns:
        float32 (B, 3, H, W).
    """
    return (images.float() / 255 - mean[:, None, None]) / std[:, None, None]


def resize_images(images: Tensor, size: tuple[int, int]) -> Tensor:
    """float32 (B, 3, h, w) -> float32 (B, 3, *size), bilinear and antialiased."""
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)


@dataclass(frozen=True)
class InputTransform:
    """Turns a whole image into the network's input; part of every weights file."""

    input_size: tuple[int, int]
    mean: Tensor  # float32 (3,), for values in 0..1
    std: Tensor
    fit: Fit = "stretch"

    @classmethod
    def from_manifest(cls, manifest: Manifest, input_size: tuple[int, int]) -> Self:
        """With the mean and standard deviation of a prepared split."""
        mean, std = torch.tensor(manifest.mean), torch.tensor(manifest.std)
        return cls(input_size, mean, std, manifest.fit)

    def to(self, device: torch.device) -> "InputTransform":
        """The same on another device."""
        return replace(self, mean=self.mean.to(device), std=self.std.to(device))

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of the network's output: twice the input."""
        return 2 * self.input_size[0], 2 * self.input_size[1]

    def box(self, size: tuple[int, int], scale: int = 1) -> Box:
        """Where an image of `size`, height and width, lies in the input; with a `scale` of 2, in
        the output."""
        return fitted_box(size, self.input_size, self.fit).scaled(scale)

    def __call__(
        self, images: Tensor, size: tuple[int, int] | None = None, scale: int = 1
    ) -> Tensor:
        """Whole images as the network's input. With `fit: pad`, there is 0 around them, which is
        the data set's mean colour.

        Args:
            images: uint8 or float (B, 3, h, w) in 0..255.
            size: height and width of which the aspect ratio is kept; by default, those of `images`.
            scale: 2 gives images of the output size.

        Returns:
            float32 (B, 3, H, W), times `scale`, antialiased.
        """
        images = images.float()
        frame = (scale * self.input_size[0], scale * self.input_size[1])
        box = self.box(size or (images.shape[-2], images.shape[-1]), scale)
        if tuple(images.shape[-2:]) != (box.height, box.width):
            images = resize_images(images, (box.height, box.width))
        images = normalise(images, self.mean, self.std)
        if (box.height, box.width) == frame:
            return images
        right, bottom = frame[1] - box.left - box.width, frame[0] - box.top - box.height
        return F.pad(images, (box.left, right, box.top, bottom))


def resize_logits(logits: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """float32 (N, C, h, w) -> float32 (N, C, *size), bilinear."""
    if logits.shape[-2:] == tuple(size):
        return logits
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)


def labels_of_logits(logits: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """float32 (N, C, h, w) -> the class with the largest resized logit: uint8 (N, *size).

    The same as `resize_logits(logits, size).max(1).indices`, without the memory for all classes at
    the full size.
    """
    if logits.shape[-2:] == tuple(size):
        return logits.max(1).indices.byte()  # argmax is slower on the CPU
    logits = logits.contiguous()
    largest = resize_logits(logits[:, :1], size)
    labels = torch.zeros_like(largest, dtype=torch.uint8)
    for train_id in range(1, logits.shape[1]):
        values = resize_logits(logits[:, train_id : train_id + 1], size)
        labels[values > largest] = train_id
        torch.maximum(largest, values, out=largest)
    return labels[:, 0]


def resize_labels(labels: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """uint8 (N, h, w) -> uint8 (N, *size), nearest."""
    if labels.shape[-2:] == tuple(size):
        return labels
    return F.interpolate(labels[:, None], size=tuple(size), mode="nearest-exact")[:, 0]
