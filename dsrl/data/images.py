"""Image files: which files are images, and how one is opened."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath

import numpy as np
from PIL import Image, ImageFile, ImageOps

# What Pillow raises for a damaged image file.
DAMAGE = (OSError, SyntaxError, ValueError, struct.error, EOFError, Image.DecompressionBombError)

# What macOS and Windows add to folders and archives; hidden files need no name here.
CLUTTER = {"__macosx", "thumbs.db", "desktop.ini"}


def is_clutter(path: PurePath) -> bool:
    """Whether a path below a data folder is not data: hidden, or added by the operating system."""
    return any(part.startswith(".") or part.lower() in CLUTTER for part in path.parts)


@contextmanager
def open_image(path: Path, cure: str = "get the file again") -> Iterator[ImageFile.ImageFile]:
    """Open an image file, whatever its suffix.

    Raises:
        ValueError: the file is missing or cannot be decoded; the message names it and ends in
            `cure`.
    """
    try:
        with Image.open(path) as image:
            yield image
    except DAMAGE as error:
        raise ValueError(f"{path}: unreadable as an image ({error}); {cure}") from None


def upright_rgb(image: Image.Image) -> Image.Image:
    """An opened image as 8-bit RGB, turned and mirrored as its EXIF orientation says."""
    return to_rgb(ImageOps.exif_transpose(image))


def to_rgb(image: Image.Image) -> Image.Image:
    """An image as 8-bit RGB. Of 16 bits, the upper 8 are kept; an alpha channel is dropped."""
    if not image.mode.startswith("I"):
        return image.convert("RGB")
    upper = np.clip(np.asarray(image) >> 8, 0, 255).astype(np.uint8)
    return Image.fromarray(upper).convert("RGB")
