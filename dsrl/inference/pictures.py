"""The files with predictions that `dsrl` writes, PNG or `.npz`, which say what made them, and from
what: in text chunks, or in arrays of texts."""

import json
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dsrl.data.images import open_image
from dsrl.system.files import ZIP_DAMAGE, atomic_file

PREDICTION, SHEET = "dsrl predict", "dsrl test"
SOFTWARE, SOURCE, PIXELS = "Software", "Source", "Pixels"  # names of the texts


def save_png(
    image: Image.Image, path: Path, software: str, source: str = "", pixels: Sequence[int] = ()
) -> None:
    """Write a PNG, atomically.

    Args:
        software: PREDICTION or SHEET.
        source: what the image was made from.
        pixels: how many there are of each class.

    Raises:
        OSError: the file cannot be written.
        ValueError: it is an input of the command.
    """
    texts = PngInfo()
    texts.add_text(SOFTWARE, software)
    texts.add_text(SOURCE, source)
    texts.add_text(PIXELS, json.dumps(list(pixels)))
    with atomic_file(path) as temporary:
        image.save(temporary, "PNG", pnginfo=texts)


def save_probabilities(
    probabilities: np.ndarray,
    classes: Sequence[str],
    path: Path,
    source: str,
    pixels: Sequence[int],
) -> None:
    """Write the probabilities of a prediction as compressed `.npz`, atomically; see `save_png`.

    Args:
        probabilities: float (C, h, w), stored as float16.
        classes: their names.
    """
    texts: dict[str, Any] = {SOFTWARE: PREDICTION, SOURCE: source, PIXELS: list(pixels)}
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        halves = probabilities.astype(np.float16)
        np.savez_compressed(file, probabilities=halves, classes=np.array(classes), **texts)


def source_of(path: Path, *software: str) -> str | None:
    """What a file was made from; None unless it is a PNG or `.npz` of this `software`. No pixel is
    read."""
    if path.suffix == ".npz":
        with suppress(OSError, KeyError, *ZIP_DAMAGE), np.load(path) as arrays:
            if str(arrays[SOFTWARE]) in software:
                return str(arrays[SOURCE])
    if path.suffix.lower() == ".png":
        with suppress(ValueError), open_image(path) as image:
            if image.format == "PNG" and image.info.get(SOFTWARE) in software:
                return str(image.info.get(SOURCE))
    return None


def class_pixels_of(path: Path) -> list[int]:
    """How many pixels of each class a prediction has, as was told when it was saved.

    Raises:
        OSError, ValueError: the file cannot be read.
    """
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return list(map(int, arrays[PIXELS]))
    with open_image(path) as image:
        return list(json.loads(image.info[PIXELS]))


def is_complete(path: Path) -> bool:
    """Whether a file is there as a whole, by its checksums. Pixels are not decoded."""
    if path.suffix == ".npz":
        with suppress(OSError, *ZIP_DAMAGE), zipfile.ZipFile(path) as file:
            return file.testzip() is None
        return False
    with suppress(ValueError), open_image(path) as image:
        image.verify()
        return True
    return False
