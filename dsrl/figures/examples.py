"""Example images: predictions beside the ground truth."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dsrl.checkpoints.network import load_network
from dsrl.config.recipe import STAGE_NAMES
from dsrl.data.dataset import PreparedSplit
from dsrl.data.manifest import ClassInfo
from dsrl.data.palette import colour
from dsrl.data.transforms import InputTransform
from dsrl.evaluation.class_map import match_classes
from dsrl.figures.figure import check_format, save_figure
from dsrl.system.distributed import set_up_device

INCHES = 3.2  # width of one image in the figure


@torch.no_grad()
def plot_examples(
    weights: Sequence[Path],
    data: Path,
    *,
    split: str,
    count: int,
    output: Path,
    device: str,
    class_map: str | None = None,
) -> None:
    """Plot `count` images spread over a split, one row each: the input, the prediction of each of
    the weights, the ground truth.

    Args:
        weights: weights files with the same input size.
        data: folder of a prepared data set.
        split: one of its splits.
        output: image file; its suffix gives the format.
        device: `auto`, `cpu` or `gpu`.
        class_map: for weights with other classes than the data; see `match_classes`. Predictions
            that count as none of the data's classes are black.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: a file is damaged, weights and data have different classes and no map fits, or
            the image format is unsupported.
    """
    check_format(output)
    torch_device = set_up_device(device)
    prepared = PreparedSplit(data, split)
    indices = np.linspace(0, len(prepared) - 1, min(count, len(prepared))).round().astype(int)
    images = torch.from_numpy(prepared.images[indices]).permute(0, 3, 1, 2).to(torch_device)
    classes = prepared.manifest.classes
    columns: list[tuple[str, np.ndarray]] = []  # a list, as two weights may be of one stage
    for path in weights:
        network, transform, info = load_network(path, torch_device)
        title, mapped = STAGE_NAMES[info.stage], match_classes(info, path, prepared, class_map)
        inputs = transform(images)
        if not columns:
            columns.append(("input", _denormalise(inputs, transform)))
        predictions = network(inputs).logits.argmax(1)
        if mapped:
            title, predictions = f"{title} of {info.dataset}", mapped.train_ids(predictions)
        columns.append((title, colour(predictions.byte().cpu().numpy(), classes)))
    columns.append(("truth", colour(prepared.labels[indices], classes)))
    save_figure(_grid(columns, classes), output)


def _denormalise(inputs: torch.Tensor, transform: InputTransform) -> np.ndarray:
    """Normalised (B, 3, H, W) -> uint8 (B, H, W, 3)."""
    pixels = 255 * (inputs * transform.std[:, None, None] + transform.mean[:, None, None])
    return pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


def _grid(columns: Sequence[tuple[str, np.ndarray]], classes: Sequence[ClassInfo]) -> Figure:
    """Images in columns with titles, and a legend of the classes below.

    Args:
        columns: titles, and uint8 (B, H, W, 3); H and W may differ between columns.
    """
    rows, height, width = columns[-1][1].shape[:3]
    size = (INCHES * len(columns), INCHES * height / width * rows + 0.9)
    figure = Figure(figsize=size)
    axes = figure.subplots(rows, len(columns), squeeze=False)
    for (title, images), column in zip(columns, axes.T, strict=True):
        column[0].set_title(f"{title}, {images.shape[1]}x{images.shape[2]}", fontsize=10)
        for image, ax in zip(images, column, strict=True):
            ax.imshow(image, interpolation="nearest")
            ax.set_axis_off()
    handles = [
        Rectangle((0, 0), 1, 1, color=np.array(c.color) / 255, label=c.name) for c in classes
    ]
    figure.legend(handles=handles, loc="lower center", ncols=10, fontsize=8, frameon=False)
    figure.set_layout_engine("tight", rect=(0, 0.6 / size[1], 1, 1), pad=0.3)
    return figure
