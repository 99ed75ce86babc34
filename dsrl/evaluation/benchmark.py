"""The benchmark of one set of weights on one split, as text and CSV."""

import platform
from datetime import date
from pathlib import Path

import pandas as pd
import torch

import dsrl
from dsrl.checkpoints.weights import WeightsInfo, build_network, load_weights
from dsrl.config.settings import STAGE_NAMES
from dsrl.data.dataset import PreparedSplit
from dsrl.data.manifest import read_manifest
from dsrl.evaluation.evaluate import EVALUATION_BATCH, Scores, evaluate
from dsrl.evaluation.table import format_tables, write_tables
from dsrl.models.cost import flops, latency, parameters
from dsrl.models.dsrl import DSRL
from dsrl.system.distributed import set_up_device
from dsrl.system.faults import explained_faults


def benchmark(
    weights_path: Path,
    data: Path,
    split_name: str,
    output: Path,
    device_name: str,
    runs: int,
    experiment: str = "",
    seed: int | None = None,
) -> None:
    """Score the inference network of `weights_path` and write `output` (text) and a CSV beside it.

    Args:
        weights_path: a weights file of any stage, pruned or not.
        data: folder of a prepared data set.
        split_name: one of its splits. A split without images gives a CSV without rows.
        output: a path that ends in `.txt`; the CSV has the same name with `.csv`.
        device_name: `auto`, `cpu` or `gpu`.
        runs: timed passes for the latency.
        experiment, seed: by which the table knows the row; None is no seed.

    Raises:
        OSError, ValueError: bad input, or a split whose labels are all ignored.
    """
    device = set_up_device(device_name)
    weights = load_weights(weights_path)
    split = PreparedSplit(data, split_name)
    if [c.name for c in split.manifest.classes] != [c.name for c in weights.info.classes]:
        raise ValueError(
            f"{weights_path}: was trained on the classes of '{weights.info.dataset}', which are "
            f"not those of {split.folder}"
        )
    network = build_network(weights, str(weights_path)).to(device)
    rows = []
    if len(split):
        transform = weights.info.transform.to(device)
        native = split_name != "train"
        with explained_faults(EVALUATION_BATCH, weights.info.input_size):
            scores = evaluate(network, split, transform, device, native=native)
        if not sum(scores.class_pixels):
            raise ValueError(
                f"{split.folder}: no pixel has a label, as in splits whose labels are not public; "
                f"what their server scores is written by `dsrl predict --weights {weights_path} "
                f"--data {data} --dataset-split {split_name} --format cityscapes --output DIR`"
            )
        frequent = most_frequent_class(data, split)
        rows = [
            {
                "experiment": experiment,
                "seed": seed,
                **_identity(weights.info, split, device),
                **_score_columns(scores, frequent, split),
                **_cost_columns(network, weights.info.input_size, device, runs),
                **_class_columns(scores, split),
            }
        ]
    frame = pd.DataFrame(rows)
    write_tables(frame, format_tables([frame]), output)


def most_frequent_class(data: Path, split: PreparedSplit) -> int:
    """Train id of the class with most pixels in the training split, or in `split` without one."""
    has_train = (Path(data) / "train").is_dir()
    manifest = read_manifest(Path(data) / "train") if has_train else split.manifest
    return max(range(len(manifest.classes)), key=lambda c: manifest.class_pixels[c])


def constant_scores(class_pixels: list[int], answer: int) -> tuple[float, float]:
    """Pixel accuracy and mean IoU of always answering class `answer`.

    Its IoU is its share of the pixels; all other classes that occur have 0.
    """
    share = class_pixels[answer] / sum(class_pixels)
    occurring = sum(pixels > 0 or c == answer for c, pixels in enumerate(class_pixels))
    return share, share / occurring


def _identity(info: WeightsInfo, split: PreparedSplit, device: torch.device) -> dict[str, object]:
    height, width = info.input_size
    return {
        "type": STAGE_NAMES[info.stage],
        "dataset": split.manifest.dataset,
        "split": split.manifest.split,
        "images": len(split),
        "network": info.model.network,
        "encoder": info.model.encoder_name,
        "sizes": f"{height}x{width} -> {2 * height}x{2 * width}",
        "device": device_name(device),
        "versions": f"dsrl {dsrl.__version__}, PyTorch {torch.__version__}, "
        f"Python {platform.python_version()}",
        "date": date.today().isoformat(),
        "best_epoch": info.epoch,
    }


def _score_columns(scores: Scores, frequent: int, split: PreparedSplit) -> dict[str, object]:
    baseline_accuracy, baseline_iou = constant_scores(scores.class_pixels, frequent)
    return {
        "pixel_accuracy": scores.pixel_accuracy,
        "mean_iou": scores.mean_iou,
        "mean_iou_per_image": scores.mean_iou_per_image,
        "mean_iou_native": scores.mean_iou_native,
        "cross_entropy": scores.cross_entropy,
        "baseline_class": split.manifest.classes[frequent].name,
        "baseline_pixel_accuracy": baseline_accuracy,
        "baseline_mean_iou": baseline_iou,
    }


def _cost_columns(
    network: DSRL, input_size: tuple[int, int], device: torch.device, runs: int
) -> dict[str, object]:
    return {
        "parameters": parameters(network),
        "gflops": flops(network, input_size) / 1e9,
        "latency_ms": 1000 * latency(network, input_size, device, runs),
    }


def _class_columns(scores: Scores, split: PreparedSplit) -> dict[str, float]:
    names = [f"iou_{c.name}" for c in split.manifest.classes]
    return dict(zip(names, scores.per_class_iou, strict=True))


def device_name(device: torch.device) -> str:
    """The device as a reader of the table would name it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} CPU threads ({platform.machine()})"
