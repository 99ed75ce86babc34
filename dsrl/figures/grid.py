"""Images in rows and columns."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dsrl.data.dataset import PreparedSplit
from dsrl.data.manifest import ClassInfo
from dsrl.data.transforms import InputTransform

INCHES = 3.2  # width of one image in the figure
LINE = 0.22  # height of a line of text
LEGEND = 0.6  # height of the legend


def spread(split: PreparedSplit, count: int) -> list[int]:
    """The indices of `count` images spread over a split, or of all.

    Raises:
        ValueError: the split has no images.
    """
    if not len(split):
        raise ValueError(f"{split.folder}: has no images")
    return np.linspace(0, len(split) - 1, min(count, len(split))).round().astype(int).tolist()


def images_of(split: PreparedSplit, indices: Sequence[int], device: torch.device) -> torch.Tensor:
    """Images of a split: uint8 (B, 3, H, W), on `device`."""
    return torch.from_numpy(split.images[list(indices)]).permute(0, 3, 1, 2).to(device)


def denormalise(inputs: torch.Tensor, transform: InputTransform) -> np.ndarray:
    """Normalised (B, 3, H, W) -> uint8 (B, H, W, 3)."""
    return to_pixels(inputs * transform.std[:, None, None] + transform.mean[:, None, None])


def to_pixels(images: torch.Tensor) -> np.ndarray:
    """RGB in 0..1, (B, 3, H, W) -> uint8 (B, H, W, 3)."""
    return (255 * images).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


def image_grid(
    columns: Sequence[tuple[str, np.ndarray]],
    row_names: Sequence[str] = (),
    classes: Sequence[ClassInfo] = (),
    below: float = 0,
) -> Figure:
    """Images in columns with titles, the names of the rows below their first images, and a legend
    of the classes below all.

    Args:
        columns: titles, and uint8 (B, H, W, 3), or float (B, H, W) in 0..1 for maps; H and W may
            differ between columns.
        below: inches to leave empty below the images, if there is no legend.
    """
    rows, height, width = columns[-1][1].shape[:3]
    lines = max(title.count("\n") for title, _ in columns) + 1
    below = LEGEND if classes else below
    row_height = INCHES * height / width + 1.5 * LINE * bool(row_names)
    size = (INCHES * len(columns), row_height * rows + LINE * lines + below)
    figure = Figure(figsize=size)
    axes = figure.subplots(rows, len(columns), squeeze=False)
    for (title, images), column in zip(columns, axes.T, strict=True):
        column[0].set_title(f"{title}, {images.shape[1]}x{images.shape[2]}", fontsize=10)
        for image, ax in zip(images, column, strict=True):
            ax.imshow(image, interpolation="nearest", cmap="viridis", vmin=0, vmax=1)
            ax.set_axis_off()
    for name, ax in zip(row_names, axes[:, 0], strict=False):
        ax.text(0, -0.02, name, transform=ax.transAxes, va="top", fontsize=7)
    handles = [
        Rectangle((0, 0), 1, 1, color=np.array(c.color) / 255, label=c.name) for c in classes
    ]
    if handles:
        figure.legend(handles=handles, loc="lower center", ncols=10, fontsize=8, frameon=False)
    figure.set_layout_engine("tight", rect=(0, below / size[1], 1, 1), pad=0.3)
    return figure
