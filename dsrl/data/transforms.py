"""Normalise and resize images and labels for the network."""

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

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


@dataclass(frozen=True)
class InputTransform:
    """Turns a whole image into the network's input; part of every weights file."""

    input_size: tuple[int, int]
    mean: Tensor  # float32 (3,), for values in 0..1
    std: Tensor

    @classmethod
    def from_manifest(cls, manifest: Manifest, input_size: tuple[int, int]) -> Self:
        """With the mean and standard deviation of a prepared split."""
        return cls(input_size, torch.tensor(manifest.mean), torch.tensor(manifest.std))

    def to(self, device: torch.device) -> "InputTransform":
        """The same on another device."""
        return InputTransform(self.input_size, self.mean.to(device), self.std.to(device))

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 or float (B, 3, h, w) in 0..255 -> float32 (B, 3, H, W), antialiased."""
        images = images.float()
        if tuple(images.shape[-2:]) != self.input_size:
            images = F.interpolate(
                images, size=self.input_size, mode="bilinear", align_corners=False, antialias=True
            )
        return normalise(images, self.mean, self.std)


def resize_labels(labels: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """uint8 (N, h, w) -> uint8 (N, *size), nearest."""
    if labels.shape[-2:] == tuple(size):
        return labels
    return F.interpolate(labels[:, None], size=tuple(size), mode="nearest-exact")[:, 0]
