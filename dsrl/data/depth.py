"""How the values of an image file are stored, and how those of more than 8 bits become 8.

Pillow stretches or inverts some values, and of 16-bit colours keeps the upper bytes alone. What it
did can be told from the header of the file, before the pixels are decoded.
"""

import re
import struct
import sys
from collections.abc import Callable
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin
from PIL.ExifTags import Base

ValueRange = tuple[float, float]  # the values of black and white

FULL: ValueRange = (0, 65535)
DEEP_GREY = ("I", "I;16", "I;16L", "I;16B", "F")  # Pillow's modes of more than 8 bits
# A picture may be darker than this share of its range; more often, the range is another one.
DARK = 0.25
# Colours of which Pillow gives the lower bytes too, if asked for the other byte order.
TWO_BYTES = re.compile(r"(RGB|RGBX|RGBA|CMYK);16[BLN]")
OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
S_MIN_SAMPLE_VALUE, S_MAX_SAMPLE_VALUE = 340, 341  # TIFF tags that Pillow has no names for


class UnsuitableImageError(ValueError):
    """An image file is intact, but would be misread."""


class Header(NamedTuple):
    """How values are stored."""

    raw_mode: str  # Pillow's name of the layout, such as `L;4`; empty if it has none
    deep: bool  # in more than 8 bits
    scale: float  # Pillow multiplies them by this
    inverted: bool  # Pillow inverts them
    white_is_zero: bool  # and Pillow does not invert them
    split: bool  # the lower bytes of 16-bit colours can be read
    said: ValueRange | None  # which are black and white, where the file says it


def read_header(image: ImageFile.ImageFile, path: Path) -> Header:
    """The header of an image that was opened and is not yet decoded.

    Raises:
        UnsuitableImageError: Pillow would misread the values.
    """
    codec = image.tile[0].codec_name if image.tile else ""
    raw_mode, arguments = _raw_mode(image)
    layout = re.fullmatch(r"[1L];([24])?(I)?R?", raw_mode)
    scale = 255 / (2 ** int(layout[1]) - 1) if layout and layout[1] else 1.0
    bits, split, said, white_is_zero = 8, True, None, False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        bits = max(_several(tags.get(Base.BitsPerSample, 1)))
        split = tags.get(Base.PlanarConfiguration) != 2
        if not split and codec == "raw" and bits != 8:
            raise UnsuitableImageError(
                f"a TIFF of {bits} bits with its channels one after the other would be misread; "
                "save it with interleaved channels"
            )
        said = _range_of_tags(tags) or ((0, 4095) if bits == 12 else None)
        white_is_zero = tags.get(Base.PhotometricInterpretation) == 0 and not (layout and layout[2])
    elif image.format == "BMP" and raw_mode == "1" and arguments[0] > (image.width + 31) // 32 * 4:
        raise UnsuitableImageError(
            "a BMP of 8 bits with a palette of black and white would be misread; save it as PNG"
        )
    elif image.format == "PNG" and ";16" in raw_mode:
        bits, said = 16, _range_of_png(path)
    elif image.format == "JPEG2000" and (bits := _bits_of_jpeg2000(path)) > 8:
        scale, said = 2.0 ** (16 - bits), (0, 2**bits - 1)
    elif codec in ("ppm", "ppm_plain") and arguments:
        bits, said = arguments[0].bit_length(), (0, arguments[0])
        scale = (255 if image.mode == "L" else 65535) / arguments[0]
        if codec == "ppm" and image.mode == "RGB" and bits > 8:
            # Pillow would scale these colours to 8 bits; its raw decoder gives the values.
            image.tile = [image.tile[0]._replace(codec_name="raw", args=("RGB;16B", 0, 1))]
            raw_mode = "RGB;16B"
    elif image.format == "PPM" and image.mode == "I":
        said = FULL
    deep = image.mode in DEEP_GREY or bits > 8
    inverted = bool(layout and layout[2])
    split = split and TWO_BYTES.fullmatch(raw_mode) is not None
    return Header(raw_mode, deep, scale, inverted, white_is_zero, split, said)


def _raw_mode(image: ImageFile.ImageFile) -> tuple[str, list[Any]]:
    """Pillow's name of the layout, and the other arguments of the decoder."""
    first, *rest = _several(image.tile[0].args if image.tile else "") or ("",)
    return (first, rest) if isinstance(first, str) else ("", [first, *rest])


def _several(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _range_of_tags(tags: TiffImagePlugin.ImageFileDirectory_v2) -> ValueRange | None:
    for lowest, highest in (
        (S_MIN_SAMPLE_VALUE, S_MAX_SAMPLE_VALUE),
        (Base.MinSampleValue, Base.MaxSampleValue),
    ):
        if highest in tags:
            low, high = min(_several(tags.get(lowest, 0))), max(_several(tags[highest]))
            if low < high:
                return float(low), float(high)
    return None


def _range_of_png(path: Path) -> ValueRange | None:
    """By the significant bits (sBIT) of a PNG, which Pillow skips."""
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"sBIT":
                return 0, 2 ** max(file.read(length)) - 1
            if kind == b"IDAT":
                break
            file.seek(length + 4, 1)
    return None


def _bits_of_jpeg2000(path: Path) -> int:
    """By the SIZ marker segment."""
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        return (content[content.find(b"\xff\x4f\xff\x51") + 42] & 127) + 1


def stored_values(image: Image.Image, header: Header) -> NDArray[Any]:
    """The values of a decoded image of one channel as they are in the file.

    Returns:
        (h, w), integers, or float32 for mode F.
    """
    values = np.asarray(image)
    if image.mode == "1":
        values = values.astype(np.uint8)
    if header.inverted:
        values = (1 if image.mode == "1" else 255) - values
    if header.scale != 1:
        return np.rint(values / header.scale).astype(np.int32)
    if header.raw_mode == "I;32N":  # unsigned, which Pillow has no mode for
        return values.view(np.uint32)
    return values


def to_8_bits(
    image: Image.Image,
    header: Header,
    path: Path,
    value_range: ValueRange | None,
    note: Callable[[str], None],
    *,
    animated: bool = False,
) -> Image.Image:
    """A decoded image of more than 8 bits with 8, in mode L or its own.

    Args:
        image: upright.
        path: its file.
        value_range: the values of black and white. By default they are those that the file says or,
            with 16 bits, 0 and 65535.
        note: called with what the user should know.
        animated: whether it is a frame of an animation.

    Raises:
        UnsuitableImageError: the values of black and white are not known, or cannot be applied.
    """
    grey, split = image.mode in DEEP_GREY, header.split and not animated
    if grey:
        values = stored_values(image, header)
    else:
        upper = np.asarray(image).astype(np.uint16)
        values = upper << 8 | (_lower_bytes(path, header) if split else upper)
    colours = values[..., :3] if values.ndim == 3 else values  # without alpha
    seen = colours[np.isfinite(colours)] if image.mode == "F" else colours
    lowest, highest = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 0.0)
    said = header.said if grey or split else FULL
    black, white = value_range or _find_range(image.mode, lowest, highest, said)
    if not (grey or split or (black, white) == FULL):
        raise UnsuitableImageError(
            "only the upper 8 bits of its colours can be read, so that it cannot be decided that "
            f"{black:g} is black and {white:g} is white; save it with 8 bits per channel"
        )
    if value_range is None and (black, white) != FULL:
        note(f"{black:g} is taken as black and {white:g} as white, as the file says")
    elif lowest < black or white < highest:
        note(f"values below {black:g} are taken as black, those above {white:g} as white")
    elif highest - black < DARK * (white - black):
        note(f"dark, as {black:g} is taken as black and {white:g} as white")
    scaled = _scale(values, (white, black) if header.white_is_zero else (black, white))
    return Image.frombytes("L" if grey else image.mode, image.size, scaled.tobytes())


def _lower_bytes(path: Path, header: Header) -> NDArray[np.uint8]:
    """The lower bytes of 16-bit colours, upright: the upper ones of the other byte order."""
    layout, order = header.raw_mode[:-1], header.raw_mode[-1]
    with Image.open(path) as image:
        read_header(image, path)
        arguments = (layout + OTHER_ORDER[order], *_raw_mode(image)[1])
        image.tile = [tile._replace(args=arguments) for tile in image.tile]
        ImageOps.exif_transpose(image, in_place=True)
        return np.asarray(image)


def _find_range(mode: str, lowest: float, highest: float, said: ValueRange | None) -> ValueRange:
    """What the file says, unless its values contradict it; then the full range of 16 bits.

    Raises:
        UnsuitableImageError: there is none, or so little of it is used that it seems wrong.
    """
    found = said if said and said[0] <= lowest and highest <= said[1] else None
    if found is None and mode not in ("I", "F"):
        found = FULL
    if found and (highest == 0 or highest - found[0] >= DARK * (found[1] - found[0])):
        return found
    black = min(0, np.floor(lowest))
    white = 1 if mode == "F" and highest <= 1 else 2 ** max(1, int(highest).bit_length()) - 1
    raise UnsuitableImageError(
        f"its values are {lowest:g} to {highest:g}, and which are black and white is not certain; "
        f"give them, such as --value-range {black:g} {white:g} (for a data set `value_range: "
        f"[{black:g}, {white:g}]` in its description)"
    )


def _scale(values: NDArray[Any], value_range: ValueRange) -> NDArray[np.uint8]:
    """0 for black and 255 for white; of 0 to 2^n - 1, the upper 8 bits."""
    black, white = value_range
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        return _scale(np.arange(65536.0), value_range)[values]
    scaled = (values.astype(np.float64) - black) * 256 / (white - black)
    return np.nan_to_num(scaled).clip(0, 255).astype(np.uint8)
