"""One image and its label, as a prepared data set has them: upright, resized and in their frame."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dsrl.config.sections import Fit
from dsrl.data.description import DatasetDescription
from dsrl.data.fit import Box, stored_box
from dsrl.data.images import ImageReader, Picture
from dsrl.data.labels import read_label
from dsrl.data.manifest import IGNORE_INDEX
from dsrl.data.pairing import Pair


class Prepared(NamedTuple):
    """The contribution of one image and its label to the prepared split."""

    rows: dict[str, NDArray[np.uint8]]  # array file -> the rows to append
    native_size: tuple[int, int]
    values: NDArray[np.int64]  # (3, 256), how often each value occurs per channel
    train_ids: NDArray[np.int64]  # (256,), how often each occurs in the prepared label


def prepare(
    description: DatasetDescription,
    raw: Path,
    size: tuple[int, int],
    fit: Fit,
    native: bool,
    reader: ImageReader,
    pair: Pair,
) -> Prepared:
    """Decode and resize one image with its label."""
    _, image_path, label_path = pair
    image, native_label = _align(
        reader.read(raw / image_path), read_label(raw / label_path, description, reader), reader
    )
    box = stored_box((native_label.height, native_label.width), size, fit)
    image = image.resize((box.width, box.height), Image.Resampling.BILINEAR)
    label = np.asarray(native_label.resize((box.width, box.height), Image.Resampling.NEAREST))
    rows = {
        "images.npy": _framed(np.asarray(image), size, box, 0)[None],
        "labels.npy": _framed(label, size, box, IGNORE_INDEX)[None],
    }
    if native:
        rows["native_labels.npy"] = np.asarray(native_label).ravel()
    return Prepared(
        rows,
        (native_label.height, native_label.width),
        np.array(image.histogram(), np.int64).reshape(3, 256),
        np.bincount(label.ravel(), minlength=256),
    )


def _framed(
    pixels: NDArray[np.uint8], size: tuple[int, int], box: Box, fill: int
) -> NDArray[np.uint8]:
    """(h, w, ...) at its place in an array of `size`, with `fill` around it."""
    if pixels.shape[:2] == size:
        return pixels
    frame = np.full((*size, *pixels.shape[2:]), fill, np.uint8)
    frame[box.window] = pixels
    return frame


def _align(image: Picture, label: Picture, reader: ImageReader) -> tuple[Image.Image, Image.Image]:
    """An image and its label, both upright or, where only that gives them the same size, one of
    them as its pixels lie in its file.

    Raises:
        ValueError: their sizes differ either way.
    """
    if image.pixels.size == label.pixels.size:
        for picture in (image, label) if image.orientation != label.orientation else ():
            if picture.orientation != 1 and picture.size_in_file == picture.pixels.size:
                reader.note(
                    picture.path,
                    "turned upright as EXIF says, as the other file of the pair is taken to be, "
                    "which its size cannot tell; where that is wrong, remove the EXIF orientation",
                )
        return image.pixels, label.pixels
    for picture, other in ((label, image), (image, label)):
        if picture.size_in_file == other.pixels.size:
            reader.note(
                picture.path,
                "taken as the pixels lie in the file, not upright as EXIF says, since the other "
                "file of the pair has that size",
            )
            turned = picture.as_in_file()
            return (turned, label.pixels) if picture is image else (image.pixels, turned)
    (width, height), (image_width, image_height) = label.pixels.size, image.pixels.size
    raise ValueError(
        f"{label.path}: {width}x{height} pixels, but its image {image.path} has "
        f"{image_width}x{image_height}; both need the same size"
    )
