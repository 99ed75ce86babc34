"""The picture that `dsrl test` makes: input, colour map, overlay, and a legend."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dsrl.data.manifest import ClassInfo
from dsrl.data.palette import colour
from dsrl.inference.frames import list_frames
from dsrl.inference.predictor import Predictor
from dsrl.system.files import atomic_file

PANEL = (320, 1024)  # smallest and largest width of a panel
GAP = 8
LINE = 22  # height of a line of the legend


def picture_prediction(path: Path, predictor: Predictor, output: Path) -> None:
    """Predict one image, save `output`, and show it where there is a display.

    Raises:
        OSError, ValueError: the image cannot be read, or `output` not written.
    """
    image = next(list_frames(path))[1]
    labels = predictor(image, (image.shape[0], image.shape[1]))
    sheet = draw_sheet(image, labels, predictor.classes)
    with atomic_file(output) as temporary:
        sheet.save(temporary, "PNG")
    if has_display():
        sheet.show(str(output))


def has_display() -> bool:
    """Whether a window can be opened."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def draw_sheet(image: np.ndarray, labels: np.ndarray, classes: Sequence[ClassInfo]) -> Image.Image:
    """Three panels side by side, and below them the classes that occur with their shares.

    Args:
        image: uint8 (h, w, 3). labels: uint8 (h, w), train ids.
    """
    colours = colour(labels, classes)
    overlay = ((image.astype(np.uint16) + colours) // 2).astype(np.uint8)
    width = min(max(image.shape[1], PANEL[0]), PANEL[1])
    height = max(1, min(round(width * image.shape[0] / image.shape[1]), 4 * PANEL[1]))
    panels = [
        Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR),
        Image.fromarray(colours).resize((width, height), Image.Resampling.NEAREST),
        Image.fromarray(overlay).resize((width, height), Image.Resampling.BILINEAR),
    ]
    total = 3 * width + 4 * GAP
    shares = np.bincount(labels.ravel(), minlength=len(classes))[: len(classes)] / labels.size
    entries = [(classes[i], shares[i]) for i in np.argsort(-shares, kind="stable") if shares[i]]
    columns = max(1, total // 240)
    lines = -(-len(entries) // columns)
    sheet = Image.new("RGB", (total, height + lines * LINE + 3 * GAP), "white")
    for number, panel in enumerate(panels):
        sheet.paste(panel, (GAP + number * (width + GAP), GAP))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for place, (info, share) in enumerate(entries):
        x = GAP + place % columns * 240
        y = height + 2 * GAP + place // columns * LINE
        draw.rectangle((x, y, x + 16, y + 16), fill=info.color, outline="black")
        draw.text((x + 22, y), f"{info.name} {100 * share:.1f} %", fill="black", font=font)
    return sheet
