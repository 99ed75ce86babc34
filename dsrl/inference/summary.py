"""Which share of the pixels each class has: in each prediction, and in all."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dsrl.data.manifest import ClassInfo
from dsrl.inference.pictures import class_pixels_of
from dsrl.inference.plan import Source, Target, frames_there


def summary(
    sources: Sequence[Source], target: Target, classes: Sequence[ClassInfo]
) -> dict[str, Any]:
    """The shares of the classes in the predictions that are there, also of earlier calls.

    Returns:
        `images`: their number; `shares`: class name -> share of all pixels, 0..1, None without any
        pixel; `files`: file name -> class name -> share of its pixels.

    Raises:
        ValueError: a prediction cannot be read.
    """
    total = np.zeros(len(classes), np.int64)
    files = {}
    for source in sources:
        for number in frames_there(source, target) if source.is_animated else [None]:
            path = target.path(source.name, number)
            if path.exists():  # not if the image was bad
                pixels = np.array(class_pixels_of(path))
                files[path.relative_to(target.folder).as_posix()] = _shares(pixels, classes)
                total += pixels
    return {"images": len(files), "shares": _shares(total, classes), "files": files}


def _shares(pixels: np.ndarray, classes: Sequence[ClassInfo]) -> dict[str, float | None]:
    count = int(pixels.sum())
    return {
        info.name: round(int(number) / count, 6) if count else None
        for info, number in zip(classes, pixels, strict=True)
    }
