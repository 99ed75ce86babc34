"""What the super-resolution branch reconstructs, beside plain interpolation and the target."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from dsrl.checkpoints.network import load_branches
from dsrl.data.dataset import PreparedSplit, network_inputs
from dsrl.evaluation.reconstruction import mean_quality, psnr, reconstruct
from dsrl.figures.figure import check_format, save_figure
from dsrl.figures.grid import denormalise, image_grid, images_of, spread, to_pixels
from dsrl.system.distributed import set_up_device
from dsrl.system.files import atomic_file


def plot_super_resolution(
    weights: Sequence[Path], data: Path, *, split: str, count: int, output: Path, device: str
) -> None:
    """Plot `count` images spread over a split, one row each: the input, the same enlarged
    (bilinear), what SISR makes of it with each of the weights, and the target; with the mean PSNR
    and SSIM over the whole split, which a CSV file beside `output` has, too.

    Args:
        weights: weights of stage 2 or 3, not pruned, with the same input size.
        data: folder of a prepared data set.
        split: one of its splits.
        output: image file; its suffix gives the format.
        device: `auto`, `cpu` or `gpu`.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: a file is damaged or has no super-resolution branch, the split has no images, or
            the image format is unsupported.
    """
    check_format(output)
    torch_device = set_up_device(device)
    prepared = PreparedSplit(data, split)
    indices = spread(prepared, count)
    images = images_of(prepared, indices, torch_device)
    rows: list[dict[str, object]] = []
    columns: list[tuple[str, np.ndarray]] = []

    def add(name: str, shown: Tensor, quality: Sequence[float]) -> None:
        title = f"{name}\nPSNR {quality[0]:.2f} dB, SSIM {quality[1]:.3f}"
        columns.append((title, to_pixels(shown)))
        rows.append({"method": name, "psnr": quality[0], "ssim": quality[1]})

    for path in weights:
        network, transform, info = load_branches(path, torch_device)
        with torch.no_grad():
            (found, bilinear, bicubic), target = reconstruct(
                network, prepared, indices, images, transform
            )
        qualities = mean_quality(network, prepared, transform, torch_device, [psnr, ssim]).tolist()
        if not columns:
            columns.append(
                (
                    "input",
                    denormalise(network_inputs(prepared, indices, images, transform), transform),
                )
            )
            add("bilinear", bilinear, qualities[1])
            add("bicubic", bicubic, qualities[2])
        add(info.type, found, qualities[0])
    columns.append(("target", to_pixels(target)))
    with atomic_file(output.with_suffix(".csv")) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)
    save_figure(image_grid(columns), output)


def ssim(images: Tensor, targets: Tensor) -> Tensor:
    """Structural similarity (Wang et al., IEEE TIP 2004) of RGB values in 0..1, with a Gaussian
    window of 11x11 at each pixel, and reflected borders: (B, 3, H, W) twice -> (B,)."""
    found = structural_similarity_index_measure(images, targets, data_range=1.0, reduction="none")
    assert isinstance(found, Tensor)
    return found
