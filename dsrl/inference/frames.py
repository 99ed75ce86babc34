"""The frames of image files, animations and films, one at a time, however long they are."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageOps, ImageSequence

from dsrl.data.images import DAMAGE, to_rgb

# Suffix -> the format it stands for. FFmpeg would go by the content, and take a text file with
# addresses in it for a playlist.
FILMS = {
    ".avi": "avi",
    ".m4v": "mov",
    ".mkv": "matroska",
    ".mov": "mov",
    ".mp4": "mov",
    ".webm": "matroska",
}

Frame = tuple[int | None, np.ndarray]


def files_in(folder: Path) -> list[Path]:
    """The files in a folder whose suffix is of an image or a film, sorted.

    Raises:
        ValueError: there is none.
    """
    known = Image.registered_extensions().keys() | FILMS.keys()
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in known)
    if not found:
        raise ValueError(f"{folder}: no image or film lies in this folder; name one that has some")
    return found


def list_frames(path: Path) -> Iterator[Frame]:
    """The frames of an animation or a film, numbered, or the only one of another image file,
    upright (as EXIF or the film's rotation says), as uint8 (h, w, 3).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    yield from _film(path) if path.suffix.lower() in FILMS else _image(path)


def _image(path: Path) -> Iterator[Frame]:
    try:
        with Image.open(path) as image:
            # Other formats with several frames hold pages or previews.
            animated = image.format in ("GIF", "WEBP", "PNG") and getattr(image, "n_frames", 1) > 1
            if not animated:
                yield None, np.asarray(to_rgb(ImageOps.exif_transpose(image)))
                return
            for number, frame in enumerate(ImageSequence.Iterator(image)):
                yield number, np.asarray(to_rgb(frame))
    except DAMAGE as error:
        raise ValueError(
            f"{path}: unreadable as an image ({error}); films are read from {', '.join(FILMS)}"
        ) from None


def _film(path: Path) -> Iterator[Frame]:
    try:
        with av.open(str(path), format=FILMS[path.suffix.lower()]) as film:
            number = 0
            for frame in film.decode(video=0) if film.streams.video else ():
                yield number, np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
                number += 1
            if not number:
                raise ValueError("it has no pictures")
    except (av.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{path}: unreadable as a film ({reason}); get or make it again") from None
