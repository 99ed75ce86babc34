"""The image that `dsrl test` writes: input, colour map, overlay, and a legend of the classes."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from dsrl.data.images import ImageReader
from dsrl.data.manifest import ClassInfo
from dsrl.data.palette import colour, overlay
from dsrl.figures.fonts import draw_text, find_fonts
from dsrl.inference.frames import list_frames
from dsrl.inference.pictures import SHEET, save_png, source_of
from dsrl.inference.predictor import Predictor
from dsrl.system.files import check_output

# Pixels.
PANEL = (320, 1024)  # smallest and largest width of a panel
GAP = 8
LINE = 22  # height of a line of the legend
ENTRY = 240  # width of an entry of the legend


def write_sheet(
    path: Path, predictor: Predictor, output: Path, reader: ImageReader | None = None
) -> None:
    """Predict one image, write the sheet to `output` as PNG, and show it if there is a display.

    Args:
        path: an image file; of an animation or a video, the first frame.
        reader: reads the image, as in `list_frames`.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: `path` is not an image, or `output` is another file than a sheet.
    """
    check_output(output)
    if output.exists() and source_of(output, SHEET) is None:
        raise ValueError(
            f"{output}: exists and is not a sheet of `dsrl test`; choose another --output"
        )
    _, image = next(list_frames(path, reader))
    sheet = draw_sheet(image, predictor.predict(image), predictor.classes)
    save_png(sheet, output, SHEET)
    if has_display():
        sheet.show(str(output))


def has_display() -> bool:
    """Whether a window can be opened."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def draw_sheet(image: np.ndarray, labels: np.ndarray, classes: Sequence[ClassInfo]) -> Image.Image:
    """Three panels side by side; below them the classes that occur, with their share of the pixels.

    Args:
        image: uint8 (h, w, 3), RGB.
        labels: uint8 (h, w), train ids.
    """
    colours = colour(labels, classes)
    width = min(max(image.shape[1], PANEL[0]), PANEL[1])
    height = max(1, min(round(width * image.shape[0] / image.shape[1]), 4 * PANEL[1]))
    panels = [
        Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR),
        Image.fromarray(colours).resize((width, height), Image.Resampling.NEAREST),
        Image.fromarray(overlay(image, colours)).resize((width, height), Image.Resampling.BILINEAR),
    ]
    total = 3 * width + 4 * GAP
    shares = np.bincount(labels.ravel(), minlength=len(classes))[: len(classes)] / labels.size
    entries = [(classes[i], shares[i]) for i in np.argsort(-shares, kind="stable") if shares[i]]
    columns = total // ENTRY
    lines = -(-len(entries) // columns)
    sheet = Image.new("RGB", (total, height + lines * LINE + 3 * GAP), "white")
    for number, panel in enumerate(panels):
        sheet.paste(panel, (GAP + number * (width + GAP), GAP))
    draw, fonts = ImageDraw.Draw(sheet), find_fonts("".join(info.name for info, _ in entries))
    for number, (info, share) in enumerate(entries):
        x = GAP + number % columns * ENTRY
        y = height + 2 * GAP + number // columns * LINE
        draw.rectangle((x, y, x + 16, y + 16), fill=info.color, outline="black")
        draw_text(draw, (x + 22, y), f"{info.name} {100 * share:.1f} %", fonts)
    return sheet
