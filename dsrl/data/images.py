"""Image files: which files are images, and how one is opened, for data sets and predictions."""

import fnmatch
import re
import struct
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base

from dsrl.data.depth import UnsuitableImageError, ValueRange, read_header, to_8_bits

# What Pillow raises for a damaged image file.
DAMAGE = (OSError, SyntaxError, ValueError, struct.error, EOFError)

# Photographs, masks and animations. Pillow's own list has documents and containers of raw data,
# some of which it cannot read.
PICTURES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".webp", ".avif"),
    *(".avifs", ".bmp", ".dib", ".tif", ".tiff", ".tga", ".ppm", ".pgm", ".pbm", ".pnm", ".pcx"),
    *(".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
}

# What programs leave in folders of images, whatever the case of letters. Other hidden files and
# folders may be data.
CLUTTER = (
    *(
        "._*",
        ".DS_Store",
        ".AppleDouble",
        ".LSOverride",
        ".localized",
        "Icon\r",
        "__MACOSX",
    ),  # macOS
    *(".Spotlight-V100", ".Trashes", ".fseventsd", ".TemporaryItems", ".apdisk"),
    *("Thumbs.db*", "ehthumbs*.db", "desktop.ini", "*:Zone.Identifier"),  # Windows
    *("$RECYCLE.BIN", "RECYCLER", "System Volume Information"),
    *(".directory", ".Trash-*", "lost+found", ".nfs*", ".fuse_hidden*", ".thumbnails", ".nomedia"),
    *("@eaDir", "#recycle", "@Recycle", ".@__thumb"),
    # Jupyter, Python, version control, editors
    *(".ipynb_checkpoints", "__pycache__", ".git*", ".svn", ".hg*", ".idea", ".vscode"),
)
IS_CLUTTER = re.compile("|".join(map(fnmatch.translate, CLUTTER)), re.IGNORECASE)

# EXIF orientations that exchange height and width, and what turns an upright image back.
TURN_BACK = {
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def is_clutter(path: PurePath) -> bool:
    """Whether a path below a data folder is, or is in, what programs have left there."""
    return any(IS_CLUTTER.fullmatch(part) for part in path.parts)


@contextmanager
def open_image(path: Path, cure: str = "get the file again") -> Iterator[ImageFile.ImageFile]:
    """Open an image file, whatever its suffix.

    Raises:
        ValueError: the file is missing, cannot be decoded, is too large or of a kind that would be
            misread; the message names it and the cure, which for a damaged file is `cure`.
    """
    try:
        with Image.open(path) as image:
            yield image
    except UnsuitableImageError as error:
        raise ValueError(f"{path}: {error}") from None
    except Image.DecompressionBombError as error:
        pixels = next(iter(re.findall(r"\d+", str(error))), "too many")
        raise ValueError(
            f"{path}: {pixels} pixels are above the limit that protects the memory; if you trust "
            f"the file, give --max-pixels {pixels} (for a data set `max_pixels: {pixels}` in its "
            "description)"
        ) from None
    except DAMAGE as error:
        if isinstance(error, UnidentifiedImageError):
            error = ValueError("not an image, or of a kind that Pillow cannot read")
        raise ValueError(f"{path}: unreadable as an image ({error}); {cure}") from None


@contextmanager
def pixel_limit(pixels: int | None) -> Iterator[None]:
    """Let images have up to that many pixels, or as many as Pillow allows."""
    before = Image.MAX_IMAGE_PIXELS
    try:
        with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
            if pixels is not None:
                Image.MAX_IMAGE_PIXELS = -(-pixels // 2)  # Pillow refuses more than twice of it
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


class Picture(NamedTuple):
    """A decoded image."""

    path: Path
    pixels: Image.Image  # upright
    orientation: int  # EXIF's number, by which the file was turned upright; 1 if it was not

    @property
    def size_in_file(self) -> tuple[int, int]:
        """Width and height of the pixels as they lie in the file."""
        width, height = self.pixels.size
        return (height, width) if self.orientation in TURN_BACK else (width, height)

    def as_in_file(self) -> Image.Image:
        """The pixels as they lie in the file, for orientations that exchange height and width."""
        return self.pixels.transpose(TURN_BACK[self.orientation])


def turn_upright(image: Image.Image, *, in_place: bool = True) -> tuple[Image.Image, int]:
    """An opened image turned and mirrored as EXIF says, and EXIF's number of that."""
    orientation: Any = image.getexif().get(Base.Orientation)
    if in_place:
        ImageOps.exif_transpose(image, in_place=True)  # a TIFF is turned as soon as it is decoded
    else:
        image = ImageOps.exif_transpose(image)
    return image, int(orientation) if orientation in range(2, 9) else 1


class ImageReader:
    """Reads image files as 8-bit RGB, and collects what a user should know about them.

    Args:
        value_range: the values of black and white in images of more than 8 bits; by default, those
            that the file says, or the full range of 16 bits.
    """

    def __init__(self, value_range: ValueRange | None = None):
        self.value_range = value_range
        self._notes: dict[str, set[Path]] = {}

    def read(self, path: Path) -> Picture:
        """An image file, upright; of several pages or frames, the first.

        Raises:
            ValueError: it cannot be read; one line names the file and the cure.
        """
        with open_image(path) as image:
            return self.decode(image, path)

    def decode(self, image: Any, path: Path, *, animated: bool = False) -> Picture:
        """An opened image, upright.

        Args:
            path: its file.
            animated: whether it is a frame of an animation.

        Raises:
            UnsuitableImageError: it would be misread.
        """
        header = read_header(image, path)
        if not animated:
            self.note_pages(image, path)
        # The next frame of an animation is drawn over this one as it lies.
        pixels, orientation = turn_upright(image, in_place=not animated)
        if header.deep:
            note = partial(self.note, path)
            pixels = to_8_bits(pixels, header, path, self.value_range, note, animated=animated)
        elif header.white_is_zero:
            pixels = ImageOps.invert(pixels)
        pixels = _to_rgb(pixels)
        extrema: Any = pixels.getextrema()
        if all(low == high for low, high in extrema):
            self.note(path, "all pixels have the same value")
        return Picture(path, pixels, orientation)

    def note_pages(self, image: ImageFile.ImageFile, path: Path) -> None:
        """Note that an opened image is the first of several."""
        # Other formats have previews.
        if image.format in ("GIF", "PNG", "TIFF", "WEBP") and getattr(image, "is_animated", False):
            self.note(path, "of several pages or frames, the first is taken")

    def note(self, path: Path, text: str) -> None:
        """Remember what is to be said about a file; threads may call it."""
        self._notes.setdefault(text, set()).add(path)

    def print_notes(self) -> None:
        """Print a line for each kind of note to stderr, with the number of files and the first."""
        for text, paths in sorted(self._notes.items()):
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            print(f"note: {min(paths)}{more}: {text}", file=sys.stderr)
        self._notes.clear()


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB; an alpha channel is dropped."""
    if image.mode == "La":  # which Pillow converts to LA alone
        image = image.convert("LA")
    image.info.pop("transparency", None)  # Pillow would warn that it is lost
    return image if image.mode == "RGB" else image.convert("RGB")
