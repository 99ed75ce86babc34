"""Which pixels resemble a chosen one, in the features of both branches: what FA compares."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.cm import ScalarMappable
from torch import Tensor

from dsrl.checkpoints.network import load_branches
from dsrl.checkpoints.weights import WeightsInfo
from dsrl.config.sections import Loss
from dsrl.data.dataset import PreparedSplit, network_inputs
from dsrl.figures.figure import check_format, save_figure
from dsrl.figures.grid import denormalise, image_grid, images_of, spread
from dsrl.losses.objective import pool_to_stride
from dsrl.system.distributed import set_up_device


@torch.no_grad()
def plot_affinity(
    weights: Sequence[Path],
    data: Path,
    *,
    split: str,
    count: int,
    pixel: tuple[int, int] | None,
    output: Path,
    device: str,
) -> None:
    """Plot `count` images spread over a split, one row each: the input with a cross at a pixel, and
    for each of the weights, the similarity of all pixels to that one (paper, Eq. 3) in the features
    of SSSR and in those of SISR. FA makes the two alike.

    Args:
        weights: weights of stage 2, before FA, or 3, not pruned, with the same input size.
        data: folder of a prepared data set.
        split: one of its splits.
        pixel: row and column of the input; None for its centre.
        output: image file; its suffix gives the format.
        device: `auto`, `cpu` or `gpu`.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: a file is damaged or has no super-resolution branch, the pixel is outside, the
            split has no images, or the image format is unsupported.
    """
    check_format(output)
    torch_device = set_up_device(device)
    prepared = PreparedSplit(data, split)
    indices = spread(prepared, count)
    images = images_of(prepared, indices, torch_device)
    columns: list[tuple[str, np.ndarray]] = []
    for path in weights:
        network, transform, info = load_branches(path, torch_device)
        height, width = info.input_size
        row, column = pixel or (height // 2, width // 2)
        if not (0 <= row < height and 0 <= column < width):
            raise ValueError(f"pixel {row} {column} is outside of the input of {height}x{width}")
        inputs = network_inputs(prepared, indices, images, transform)
        if not columns:
            columns.append(("input", denormalise(inputs, transform)))
        stride = _stride(info)
        for branch, features in zip(("SSSR", "SISR"), network.branch_features(inputs), strict=True):
            pooled = pool_to_stride(features, (2 * height, 2 * width), stride)
            maps = similarity(pooled, (row / height, column / width))
            columns.append((f"{branch} in {info.type}", maps.cpu().numpy()))
    figure = image_grid(columns, below=0.7)
    for ax in figure.axes[:: len(columns)]:
        ax.plot(column, row, "P", color="white", markeredgecolor="black", markersize=10)
    figure.draw_without_rendering()  # lays out the images, of which the bar is none
    figure.set_layout_engine("none")
    bar = figure.add_axes((0.3, 0.3 / figure.get_figheight(), 0.4, 0.1 / figure.get_figheight()))
    figure.colorbar(ScalarMappable(cmap="viridis"), cax=bar, orientation="horizontal")
    bar.tick_params(labelsize=7)
    bar.set_title("similarity to the pixel of the cross; negative ones as 0", fontsize=8)
    save_figure(figure, output)


def similarity(features: Tensor, place: tuple[float, float]) -> Tensor:
    """The similarity of all pixels of each image to one of them (paper, Eq. 3).

    Args:
        features: (B, C, h, w).
        place: of the pixel, as a share of height and width, in 0..1.

    Returns:
        (B, h, w), in -1..1.
    """
    height, width = features.shape[-2:]
    normalised = F.normalize(features, dim=1)
    chosen = normalised[:, :, int(place[0] * height), int(place[1] * width)]
    return torch.einsum("bchw,bc->bhw", normalised, chosen)


def _stride(info: WeightsInfo) -> int:
    """At which stride FA compares features, as the weights were trained."""
    loss = info.provenance.get("recipe", {}).get("loss", {})
    return int(loss.get("fa_stride", Loss().fa_stride))
