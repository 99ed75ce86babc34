"""Predictions beside the truth."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch

from dsrl.checkpoints.weights import build_network, load_weights
from dsrl.config.settings import STAGE_NAMES
from dsrl.data.dataset import PreparedSplit
from dsrl.data.manifest import ClassInfo
from dsrl.data.palette import colour
from dsrl.system.distributed import set_up_device
from dsrl.system.files import atomic_file

mpl.use("Agg")
import matplotlib.pyplot as plt

INCH = 3.2  # width of one picture in a sheet


@torch.no_grad()
def plot_examples(
    weights_paths: Sequence[Path],
    data: Path,
    split_name: str,
    count: int,
    output: Path,
    device_name: str,
) -> None:
    """A sheet of `count` images spread over a split: input, what each of the weights predicts,
    truth.

    Args:
        weights_paths: weights files that share one input size.
        data, split_name: a prepared split.
        output: picture file; its suffix gives the format.
    """
    device = set_up_device(device_name)
    split = PreparedSplit(data, split_name)
    indices = np.linspace(0, len(split) - 1, min(count, len(split))).round().astype(int)
    images = torch.from_numpy(split.images[indices]).permute(0, 3, 1, 2).to(device)
    classes = split.manifest.classes
    columns: dict[str, np.ndarray] = {}
    for path in weights_paths:
        weights = load_weights(path)
        transform = weights.info.transform.to(device)
        network = build_network(weights, str(path)).to(device)
        if not columns:
            columns["input"] = _unnormalise(transform(images), weights.info.mean, weights.info.std)
        predictions = network(transform(images)).logits.argmax(1).byte().cpu().numpy()
        columns[STAGE_NAMES[weights.info.stage]] = colour(predictions, classes)
    columns["truth"] = colour(split.labels[indices], classes)
    _save_sheet(columns, classes, output)


def _unnormalise(images: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Normalised (B, 3, H, W) -> uint8 (B, H, W, 3)."""
    pixels = images.permute(0, 2, 3, 1).cpu().numpy() * np.array(std) + np.array(mean)
    return (255 * pixels).round().clip(0, 255).astype(np.uint8)


def _save_sheet(columns: dict[str, np.ndarray], classes: Sequence[ClassInfo], output: Path) -> None:
    rows = len(columns["truth"])
    height, width = columns["truth"].shape[1:3]
    size = (INCH * len(columns), INCH * height / width * rows + 0.9)
    figure, axes = plt.subplots(rows, len(columns), figsize=size, squeeze=False)
    for (title, pictures), column in zip(columns.items(), axes.T, strict=True):
        shape = "x".join(map(str, pictures.shape[1:3]))
        column[0].set_title(f"{title}, {shape}", fontsize=10)
        for picture, ax in zip(pictures, column, strict=True):
            ax.imshow(picture, interpolation="nearest")
            ax.set_axis_off()
    handles = [
        plt.Rectangle((0, 0), 1, 1, color=np.array(c.color) / 255, label=c.name) for c in classes
    ]
    figure.legend(handles=handles, loc="lower center", ncols=10, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.6 / size[1], 1, 1), pad=0.3)
    save_figure(figure, output)


def save_figure(figure: plt.Figure, output: Path) -> None:
    """Write a figure in the format of the file's suffix, atomically, and close it.

    Raises:
        OSError, ValueError: the file cannot be written, or there is no such format.
    """
    known = figure.canvas.get_supported_filetypes()
    if output.suffix.removeprefix(".") not in {"", *known}:
        raise ValueError(f"{output}: no format of pictures; choose one of {', '.join(known)}")
    with atomic_file(output) as temporary:
        figure.savefig(temporary, format=output.suffix.removeprefix(".") or "png", dpi=120)
    plt.close(figure)
