"""Example images: predictions beside the ground truth."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from dsrl.checkpoints.network import load_network
from dsrl.data.dataset import PreparedSplit, network_inputs, output_labels
from dsrl.data.manifest import IGNORE_INDEX
from dsrl.data.palette import colour
from dsrl.evaluation.class_map import match_classes
from dsrl.evaluation.table import read_csv
from dsrl.figures.figure import check_format, save_figure
from dsrl.figures.grid import denormalise, image_grid, images_of, spread
from dsrl.system.distributed import set_up_device

WRONG, RIGHT, IGNORED = 0, 255, 170  # grey values of a map of errors


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
    worst: Path | None = None,
) -> None:
    """Plot `count` images of a split, one row each: the input, the prediction of each of the
    weights, the ground truth.

    Args:
        weights: weights files with the same input size.
        data: folder of a prepared data set.
        split: one of its splits.
        output: image file; its suffix gives the format.
        device: `auto`, `cpu` or `gpu`.
        class_map: for weights with other classes than the data; see `match_classes`. Predictions
            that count as none of the data's classes are black.
        worst: the scores of each image, as `dsrl benchmark` writes them. The images with the lowest
            mean IoU are plotted, the worst first, with a map of the errors beside each prediction;
            without it, images that are spread over the split.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: a file is damaged, weights and data have different classes and no map fits, the
            scores are those of another split, the split has no images, or the image format is
            unsupported.
    """
    check_format(output)
    torch_device = set_up_device(device)
    prepared = PreparedSplit(data, split)
    indices, names = _worst(worst, prepared, count) if worst else (spread(prepared, count), [])
    images = images_of(prepared, indices, torch_device)
    labels = torch.from_numpy(prepared.labels[indices])
    classes = prepared.manifest.classes
    columns: list[tuple[str, np.ndarray]] = []  # a list, as two weights may be of one stage
    for path in weights:
        network, transform, info = load_network(path, torch_device)
        title, mapped = info.type, match_classes(info, path, prepared, class_map)
        inputs = network_inputs(prepared, indices, images, transform)
        if not columns:
            columns.append(("input", denormalise(inputs, transform)))
        predictions = network(inputs).logits.argmax(1)
        if mapped:
            title, predictions = f"{title} of {info.dataset}", mapped.train_ids(predictions)
        predictions = predictions.byte().cpu()
        columns.append((title, colour(predictions.numpy(), classes)))
        if worst:
            wanted = output_labels(prepared, indices, labels, transform)
            columns.append(("errors, in black", _errors(predictions, wanted)))
    columns.append(("truth", colour(labels.numpy(), classes)))
    save_figure(image_grid(columns, names, classes), output)


def _worst(path: Path, split: PreparedSplit, count: int) -> tuple[list[int], list[str]]:
    """The `count` images with the lowest mean IoU, and what to call them."""
    what = "the scores of images of `dsrl benchmark` (.images.csv)"
    found = read_csv(path, ["image", "mean_iou"], what, texts=["image"])
    samples = [sample.name for sample in split.manifest.samples]
    if found.empty or found["image"].tolist() != samples:
        raise ValueError(f"{path}: not the images of {split.folder}; score that split again")
    scores = found["mean_iou"].dropna().sort_values(kind="stable")[:count]
    if scores.empty:
        raise ValueError(f"{path}: no image has a score")
    lowest = scores.index.tolist()
    names = [f"{samples[index]}: mean IoU {100 * scores[index]:.1f} %" for index in lowest]
    return lowest, names


def _errors(predictions: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """Train ids, uint8 (B, H, W) twice -> uint8 (B, H, W, 3): where they differ."""
    grey = torch.where(predictions == labels, RIGHT, WRONG)
    grey = torch.where(labels == IGNORE_INDEX, IGNORED, grey)
    return grey.byte().numpy()[..., None].repeat(3, -1)
