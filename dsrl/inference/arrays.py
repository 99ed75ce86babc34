"""What `predict` accepts as images, as arrays."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dsrl.data.images import ImageReader, turn_upright

OneImage = np.ndarray | str | Path | Image.Image
Images = OneImage | list[OneImage]

EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB")


def to_arrays(images: Images) -> Sequence[np.ndarray]:
    """One image or a batch -> its images, each uint8 (h, w, 3), RGB.

    Raises:
        OSError: a file does not exist.
        ValueError: an image is of another form or cannot be read; one line says which and why.
    """
    if isinstance(images, list):
        return [_to_array(image, f"image {number}") for number, image in enumerate(images)]
    if isinstance(images, np.ndarray) and images.ndim == 4:
        return [_to_array(image, "images") for image in images]
    return [_to_array(images, "image")]


def _to_array(image: OneImage, name: str) -> np.ndarray:
    if isinstance(image, str | Path):
        if not Path(image).is_file():
            raise FileNotFoundError(f"{image}: no such file")
        return np.asarray(ImageReader().read(Path(image)).pixels)
    if isinstance(image, Image.Image):
        if image.mode not in EIGHT_BITS:
            raise ValueError(
                f"{name}: a PIL image of mode {image.mode} has more than 8 bits; convert it to "
                "RGB, or give the path of its file"
            )
        return np.asarray(turn_upright(image, in_place=False)[0].convert("RGB"))
    if not isinstance(image, np.ndarray):
        raise ValueError(
            f"{name}: expected a uint8 array (h, w, 3), a path or a PIL image, got "
            f"{type(image).__name__}"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(
            f"{name}: expected uint8 (h, w, 3), RGB in 0..255, got {image.dtype} {image.shape}; "
            "convert it"
        )
    return image
