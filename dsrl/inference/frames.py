"""The frames of image files, animations and videos, one at a time, however long they are."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePath

import numpy as np
from PIL import Image, ImageSequence

from dsrl.data.images import PICTURES, ImageReader, is_clutter, open_image

# Formats in which several frames are an animation; in others, they are pages or previews.
ANIMATIONS = ("AVIF", "GIF", "PNG", "WEBP")
ANIMATED = {".apng", ".avif", ".avifs", ".gif", ".png", ".webp"}

# Suffix -> FFmpeg's name of the format. FFmpeg would go by the content, and take a text file with
# addresses in it for a playlist.
VIDEOS = {
    ".avi": "avi",
    ".m4v": "mov",
    ".mkv": "matroska",
    ".mov": "mov",
    ".mp4": "mov",
    ".webm": "matroska",
}

HEIC = {".heic", ".heif"}
HEIC_CURE = "HEIC cannot be read; convert it to JPEG, for example with `heif-convert`"

Frame = tuple[int | None, np.ndarray]


def files_below(folder: Path) -> tuple[list[Path], Counter[str]]:
    """The image and video files in a folder and its subfolders, by their suffixes, sorted; and how
    many files there are with other suffixes.

    What the operating system has added is neither. Links to folders are followed.

    Raises:
        OSError: a folder cannot be read.
    """
    found, others = [], Counter[str]()
    above: dict[Path, set[Path]] = {}  # a folder that is above itself ends a circle of links

    def fail(error: OSError) -> None:
        raise error

    for name, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        here = Path(name)
        above[here] = {here.resolve(), *above.get(here.parent, ())}
        folders[:] = (
            below
            for below in folders
            if not is_clutter(PurePath(below)) and (here / below).resolve() not in above[here]
        )
        for path in (here / file for file in files if not is_clutter(PurePath(file))):
            suffix = path.suffix.lower()
            if path.exists() and not path.is_file():  # a pipe, which nothing may ever fill
                others["special"] += 1
            elif suffix in PICTURES or suffix in VIDEOS:
                found.append(path)
            else:
                others[suffix or "without suffix"] += 1
    return sorted(found), others


def is_animated(path: Path) -> bool:
    """Whether a file has numbered frames, without decoding them; no, if it cannot be read."""
    if path.suffix.lower() in VIDEOS:
        return True
    if path.suffix.lower() in ANIMATED:
        with suppress(ValueError), open_image(path) as image:
            return _is_animation(image)
    return False


def _is_animation(image: Image.Image) -> bool:
    return image.format in ANIMATIONS and getattr(image, "n_frames", 1) > 1


def list_frames(path: Path, reader: ImageReader | None = None) -> Iterator[Frame]:
    """The numbered frames of an animation or a video, or the only frame of another image file.

    Args:
        reader: reads the images; by default, one that knows no more than the files say.

    Yields:
        The number of the frame from 0, or None for a single image; and its upright pixels, as EXIF
        or the video's rotation says: uint8 (h, w, 3), RGB.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    yield from (
        _video(path) if path.suffix.lower() in VIDEOS else _image(path, reader or ImageReader())
    )


def _image(path: Path, reader: ImageReader) -> Iterator[Frame]:
    suffix, cure = path.suffix.lower(), f"videos are read from {', '.join(VIDEOS)}"
    if suffix in PICTURES | HEIC:
        cure = HEIC_CURE if suffix in HEIC else "get the file again"
    with open_image(path, cure) as image:
        if _is_animation(image):
            for number, frame in enumerate(ImageSequence.Iterator(image)):
                yield number, np.asarray(reader.decode(frame, path, animated=True).pixels)
        else:
            yield None, np.asarray(reader.decode(image, path).pixels)


def _video(path: Path) -> Iterator[Frame]:
    try:
        import av  # the extra `video`
    except ImportError:
        raise ValueError(
            f"{path}: reading videos needs PyAV; install it with `pip install av`"
        ) from None
    try:
        with av.open(str(path), format=VIDEOS[path.suffix.lower()]) as video:
            number = 0
            for frame in video.decode(video=0) if video.streams.video else ():
                yield number, np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
                number += 1
            if not number:
                raise ValueError("it has no frames")
    except (av.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{path}: unreadable as a video ({reason}); get it again") from None
