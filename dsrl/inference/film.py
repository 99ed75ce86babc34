"""Predictions of the frames of a video, as a video."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from dsrl.data.images import open_image
from dsrl.inference.frames import VIDEOS
from dsrl.inference.plan import Source, Target, frames_there
from dsrl.system.files import atomic_file

DEFAULT_RATE = Fraction(25)  # frames per second, where the video does not say it


def is_video(source: Source) -> bool:
    """Whether a source is a video, and no image or animation."""
    return source.path.suffix.lower() in VIDEOS


def write_film(source: Source, target: Target) -> Path | None:
    """Join the predictions of the frames of a video to an MP4 (H.264) of the same frame rate, which
    replaces an earlier one; None if there are no predictions.

    Raises:
        OSError: the file cannot be written.
        ValueError: a prediction or the video cannot be read.
    """
    import av  # the extra `video`, which has read the frames

    numbers = frames_there(source, target)
    if not numbers:
        return None
    with av.open(str(source.path), format=VIDEOS[source.path.suffix.lower()]) as video:
        rate = video.streams.video[0].average_rate or DEFAULT_RATE
    path = target.folder / f"{source.name}.mp4"
    with atomic_file(path) as temporary, av.open(str(temporary), "w", format="mp4") as film:
        stream = film.add_stream("libx264", rate=rate)
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "18"}
        for number in numbers:
            with open_image(target.path(source.name, number)) as image:
                pixels = np.asarray(image.convert("RGB"))
            # H.264 stores colours of 2 x 2 pixels.
            height, width = (side - side % 2 for side in pixels.shape[:2])
            if number == numbers[0]:
                stream.height, stream.width = height, width
            frame = av.VideoFrame.from_ndarray(pixels[:height, :width].copy(), format="rgb24")
            film.mux(stream.encode(frame))
        film.mux(stream.encode())
    return path
