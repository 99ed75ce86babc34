"""Label files: the ids in them, as they were stored, or those of their colors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from dsrl.data.depth import Header, UnsuitableImageError, read_header, stored_values
from dsrl.data.description import DatasetDescription, Label
from dsrl.data.images import ImageReader, Picture, open_image, turn_upright

MODES = ("L", "P", "1", "I", "I;16", "I;16B")
COLORS = ("RGB", "RGBA")
# Formats that always return what was stored. JPEG 2000, WebP and AVIF may, but do not say so.
LOSSLESS = ("BMP", "GIF", "PCX", "PNG", "PPM", "TGA", "TIFF")
LOSSLESS_TIFF = (
    *("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "lzma", "zstd"),
    *("group3", "group4", "tiff_ccitt", "tiff_raw_16"),
)


def read_label(path: Path, description: DatasetDescription, reader: ImageReader) -> Picture:
    """A label file as train ids (mode L), upright.

    Raises:
        ValueError: the file cannot be read, is in a lossy format, has an unknown value or color, or
            a palette of other ids; one line names the file.
    """
    with open_image(path) as image:
        _check_lossless(image)
        if image.mode not in (*MODES, *COLORS):
            raise UnsuitableImageError(
                "expected a label image with one channel of label ids (grey or palette), or RGB or "
                f"RGBA colors, got mode {image.mode}: write the ids as a grey PNG"
            )
        header = read_header(image, path)
        reader.note_pages(image, path)
        _, orientation = turn_upright(image)
        if image.mode in COLORS:
            try:
                train_ids = description.colors_to_train_ids(opaque_colors(image, header))
            except ValueError as error:
                raise UnsuitableImageError(str(error)) from None
            return Picture(path, Image.fromarray(train_ids), orientation)
        values = stored_values(image, header)
        if image.mode == "P" and not _palette_agrees(image, values, description.labels):
            reader.note(
                path,
                "the palette has other colors than the description; its indices are taken as ids",
            )
        try:
            train_ids = description.to_train_ids(values)
        except ValueError as error:
            raise UnsuitableImageError(str(error)) from None
    return Picture(path, Image.fromarray(train_ids), orientation)


def opaque_colors(image: Image.Image, header: Header) -> NDArray[np.uint8]:
    """The colors of an image of 8 bits without transparent pixels: uint8 (H, W, 3).

    Raises:
        UnsuitableImageError: it is of another kind.
    """
    if header.deep:
        raise UnsuitableImageError(
            "colors of more than 8 bits are not mapped to ids; write the ids as a grey PNG"
        )
    pixels = np.asarray(image)
    if pixels.shape[2] == 4 and (clear := (pixels[..., 3] != 255).mean()):
        raise UnsuitableImageError(
            f"{100 * clear:.2g} % of the pixels are transparent; give them the color of a label"
        )
    return pixels[..., :3]


def _check_lossless(image: ImageFile.ImageFile) -> None:
    kind, compression = image.format, image.info.get("compression")
    if kind == "TIFF" and compression not in LOSSLESS_TIFF:
        kind = f"TIFF with the compression {compression}"
    elif kind in LOSSLESS:
        return
    raise UnsuitableImageError(
        f"labels are read from {', '.join(LOSSLESS)}; {kind} may be lossy, which changes the class "
        "of pixels: write the labels as PNG, from what they were drawn in"
    )


def _palette_agrees(image: Image.Image, values: NDArray[Any], labels: Sequence[Label]) -> bool:
    """Whether the palette shows each label in its color, or ids as greys of the same value.

    A palette of other colours says nothing: it may be arbitrary, and an index then is an id. So may
    Pascal VOC's, which many programs give any label image, whatever colors it shares.

    Raises:
        UnsuitableImageError: the palette has the colors of labels, but not at their ids.
    """
    ids: dict[tuple[int, ...], set[int]] = {}  # that a colour stands for
    for label in labels:
        ids.setdefault(label.color, set()).update(label.id)
        for value in label.id:
            ids.setdefault((value, value, value), set()).add(value)
    described = set().union(*ids.values())
    used = set(np.flatnonzero(np.bincount(values.ravel())).tolist())
    elsewhere, unknown, unknown_used = [], 0, 0
    for index, colour in enumerate(palette_colors(image)):
        # What is not used may be there to fill the palette, which is done in black.
        if index not in ids.get(colour, ()) and (
            index in used or (index in described and any(colour))
        ):
            known = colour in ids and colour != _voc_color(index)
            elsewhere += [index] if known else []
            unknown += not known
            unknown_used += not known and index in used
    # What is not used must not make up for what is.
    if len(elsewhere) > unknown or len(used & set(elsewhere)) > unknown_used:
        index = elsewhere[0]
        colour = palette_colors(image)[index]
        raise UnsuitableImageError(
            f"its palette shows the index {index} as {list(colour)}, the color of the label "
            f"{min(ids[colour])}, so that its indices are not the label ids; save it as RGB, whose "
            "colors are mapped, write the ids as a grey PNG, or correct the description"
        )
    return not elsewhere and not unknown


def _voc_color(index: int) -> tuple[int, ...]:
    """The color of an index in the palette of Pascal VOC."""
    return tuple(
        sum((index >> 3 * bit + channel & 1) << (7 - bit) for bit in range(3))
        for channel in range(3)
    )


def palette_colors(image: Image.Image) -> list[tuple[int, ...]]:
    """The colors of the indices of a palette image: red, green, blue."""
    return [tuple(colour) for colour in np.reshape(image.getpalette() or [], (-1, 3)).tolist()]
