"""The PNG files that `dsrl` writes. Their text chunks say what made them, and from what."""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dsrl.data.images import open_image
from dsrl.system.files import atomic_file

PREDICTION, SHEET = "dsrl predict", "dsrl test"


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
    texts.add_text("Software", software)
    texts.add_text("Source", source)
    texts.add_text("Pixels", json.dumps(list(pixels)))
    with atomic_file(path) as temporary:
        image.save(temporary, "PNG", pnginfo=texts)


def source_of(path: Path, *software: str) -> str | None:
    """What a file was made from; None unless it is a PNG of this `software`. No pixel is read."""
    if path.suffix.lower() == ".png":
        with suppress(ValueError), open_image(path) as image:
            if image.format == "PNG" and image.info.get("Software") in software:
                return str(image.info.get("Source"))
    return None


def class_pixels_of(path: Path) -> list[int]:
    """How many pixels of each class a prediction has, as `save_png` was told.

    Raises:
        ValueError: the file cannot be read.
    """
    with open_image(path) as image:
        return list(json.loads(image.info["Pixels"]))


def is_complete(path: Path) -> bool:
    """Whether a PNG is there as a whole, by its checksums. Pixels are not decoded."""
    with suppress(ValueError), open_image(path) as image:
        image.verify()
        return True
    return False
