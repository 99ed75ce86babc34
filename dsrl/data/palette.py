"""Colour map of train ids."""

from collections.abc import Sequence

import numpy as np

from dsrl.data.manifest import IGNORE_INDEX, ClassInfo


def colour(labels: np.ndarray, classes: Sequence[ClassInfo]) -> np.ndarray:
    """Train ids, uint8 (..., H, W) -> RGB, uint8 (..., H, W, 3); ignored pixels are black."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(classes)] = [c.color for c in classes]
    palette[IGNORE_INDEX] = 0
    return palette[labels]


def overlay(image: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """The mean of an image and the colours of its classes: uint8 (H, W, 3), as both are."""
    return ((image.astype(np.uint16) + colours) // 2).astype(np.uint8)
