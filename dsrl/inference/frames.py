"""The frames of image files, animations and videos, one at a time, however long they are."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import ImageSequence

from dsrl.data.images import ImageReader, is_clutter, is_image, open_image

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

Frame = tuple[int | None, np.ndarray]


def files_in(folder: Path) -> list[Path]:
    """The image and video files in a folder, by their suffixes, sorted.

    Raises:
        ValueError: there are none.
    """
    found = sorted(
        path
        for path in folder.iterdir()
        if (is_image(path) or path.suffix.lower() in VIDEOS) and not is_clutter(Path(path.name))
    )
    if not found:
        raise ValueError(f"{folder}: no image or video in this folder; choose another one")
    return found


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
    with open_image(path, f"videos are read from {', '.join(VIDEOS)}") as image:
        # In other formats, several frames are pages or previews.
        if image.format in ("GIF", "WEBP", "PNG") and getattr(image, "n_frames", 1) > 1:
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
