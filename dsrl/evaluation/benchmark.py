"""Benchmark one weights file on one split: its scores and its cost, as text and CSV."""

import json
import platform
from collections.abc import Collection
from datetime import date
from pathlib import Path

import pandas as pd
import torch

import dsrl
from dsrl.checkpoints.network import LoadedNetwork, load_network
from dsrl.checkpoints.provenance import as_text, differences
from dsrl.checkpoints.weights import WeightsInfo
from dsrl.config.settings import Settings
from dsrl.data.dataset import PreparedSplit
from dsrl.data.manifest import read_manifest
from dsrl.evaluation.class_map import ClassMap, match_classes
from dsrl.evaluation.evaluate import EVALUATION_BATCH, Scores, evaluate
from dsrl.evaluation.table import write_table
from dsrl.models.cost import flops, latency, parameters
from dsrl.system.distributed import set_up_device
from dsrl.system.faults import explained_faults
from dsrl.system.files import atomic_file

Row = dict[str, object]  # column of the CSV -> value
NO_CLASS = "none of these"  # where a class map says so


def benchmark(
    weights: Path,
    data: Path,
    *,
    split: str,
    output: Path,
    device: str,
    latency_runs: int,
    experiment: str = "",
    seed: int | None = None,
    settings: Settings | None = None,
    class_map: str | None = None,
) -> None:
    """Score the inference network of a file, and write `output` (text) and three CSV files beside
    it: the row of the table (`.csv`), the confusion of classes (`.confusion.csv`, pixels; a row per
    true class, a column per prediction), and the scores of each image (`.images.csv`).

    Args:
        weights: weights or a checkpoint of any stage, pruned or not.
        data: folder of a prepared data set.
        split: one of its splits. A split without images gives CSV files without rows.
        output: path that ends in `.txt`.
        device: `auto`, `cpu` or `gpu`.
        latency_runs: number of timed passes for the latency.
        experiment, seed: identify the row in the results table; None means no seed.
        settings: what the weights must have been trained with; None for anything.
        class_map: for data with other classes than the weights; see `match_classes`.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: a file is damaged, the weights were trained with other settings, weights and
            data have different classes and no map fits, or all labels of the split are ignored.
    """
    torch_device = set_up_device(device)
    loaded = load_network(weights, torch_device)
    if settings is not None:
        check_settings(loaded.info, settings, weights)
    prepared = PreparedSplit(data, split)
    mapped = match_classes(loaded.info, weights, prepared, class_map)
    rows: list[Row] = []
    confusion, images = pd.DataFrame(), pd.DataFrame()
    if len(prepared):
        scores = _score(loaded, prepared, torch_device, mapped)
        if not sum(scores.class_pixels):
            raise ValueError(
                f"{prepared.folder}: no pixel has a label; for a split whose labels are not public,"
                f" write the files to submit with `dsrl predict --weights {weights} --data {data} "
                f"--dataset-split {split} --format cityscapes --output DIR`"
            )
        rows = [
            {
                "experiment": experiment,
                "seed": seed,
                **_identity(loaded, prepared, torch_device),
                "class_map": mapped.name if mapped else "",
                "class_map_note": mapped.note if mapped else "",
                **_score_columns(scores, prepared, mapped.not_scored if mapped else []),
                **_cost_columns(loaded, torch_device, latency_runs),
                **_class_columns(scores, prepared),
            }
        ]
        confusion, images = confusion_frame(scores, prepared), image_frame(scores, prepared)
    for suffix, frame in ((".confusion.csv", confusion), (".images.csv", images)):
        with atomic_file(output.with_suffix(suffix)) as temporary:
            frame.to_csv(temporary, index=False)
    write_table([pd.DataFrame(rows)], output)


def confusion_frame(scores: Scores, split: PreparedSplit) -> pd.DataFrame:
    """Pixels of each true class (rows, column `truth`) by what is predicted (columns)."""
    names = [c.name for c in split.manifest.classes]
    predictions = [*names, NO_CLASS][: len(scores.confusion[0])]
    frame = pd.DataFrame(scores.confusion, columns=predictions)
    frame.insert(0, "truth", names, allow_duplicates=True)
    return frame


def image_frame(scores: Scores, split: PreparedSplit) -> pd.DataFrame:
    """The scores of each image, in the order of the split; shares in 0..1."""
    frame = pd.DataFrame(
        scores.image_iou, columns=[f"iou_{c.name}" for c in split.manifest.classes]
    )
    frame.insert(0, "image", [sample.name for sample in split.manifest.samples])
    frame.insert(1, "mean_iou", frame.iloc[:, 1:].mean(axis=1))
    frame.insert(2, "pixel_accuracy", scores.image_accuracy)
    return frame


def check_settings(info: WeightsInfo, settings: Settings, weights: Path) -> None:
    """Check that `weights` were trained as `settings` say.

    Raises:
        ValueError: they were not, or do not say how; the message names what differs.
    """
    wanted = {"recipe": settings.recipe(info.stage).model_dump(mode="json"), "earlier_epochs": []}
    found = {key: info.provenance[key] for key in wanted if key in info.provenance}
    if differing := differences(found, wanted):
        raise ValueError(
            f"{weights}: was trained with other settings ({as_text(differing)}); remove the final "
            f"weights of stage {info.stage} to train again, or correct the settings"
        )


def most_frequent_class(split: PreparedSplit, not_scored: Collection[int] = ()) -> int:
    """Train id of the scored class with most pixels in the training split beside `split`, or in
    `split` where there is none."""
    train = split.folder.with_name("train")
    manifest = read_manifest(train) if train.is_dir() else split.manifest
    scored = [c for c in range(len(manifest.classes)) if c not in not_scored]
    return max(scored, key=lambda c: manifest.class_pixels[c])


def constant_scores(
    class_pixels: list[int], answer: int, not_scored: Collection[int] = ()
) -> tuple[float, float]:
    """Pixel accuracy and mean IoU of predicting class `answer` everywhere.

    Its IoU is its share of the pixels; that of every other scored class that occurs is 0.
    """
    share = class_pixels[answer] / sum(class_pixels)
    occurring = sum(
        (pixels > 0 or c == answer) and c not in not_scored for c, pixels in enumerate(class_pixels)
    )
    return share, share / occurring


def device_name(device: torch.device) -> str:
    """The device as the table shows it: the name of the GPU, or the number of CPU threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} CPU threads ({platform.machine()})"


def _score(
    loaded: LoadedNetwork, split: PreparedSplit, device: torch.device, class_map: ClassMap | None
) -> Scores:
    network, transform, info = loaded
    native = split.manifest.split != "train"  # the training split stores no native labels
    with explained_faults(EVALUATION_BATCH, info.input_size):
        return evaluate(
            *(network, split, transform, device),
            native=native,
            boundaries=True,
            class_map=class_map,
        )


def _identity(loaded: LoadedNetwork, split: PreparedSplit, device: torch.device) -> Row:
    info = loaded.info
    height, width = info.input_size
    return {
        "type": info.type,
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
        "epochs": info.epochs,
        "provenance": json.dumps(dict(info.provenance)),
    }


def _score_columns(scores: Scores, split: PreparedSplit, not_scored: Collection[int]) -> Row:
    frequent = most_frequent_class(split, not_scored)
    baseline_accuracy, baseline_iou = constant_scores(scores.class_pixels, frequent, not_scored)
    return {
        "pixel_accuracy": scores.pixel_accuracy,
        "mean_iou": scores.mean_iou,
        "mean_iou_per_image": scores.mean_iou_per_image,
        "mean_iou_native": scores.mean_iou_native,
        "boundary_iou": scores.boundary_iou,
        "cross_entropy": scores.cross_entropy,
        "baseline_class": split.manifest.classes[frequent].name,
        "baseline_pixel_accuracy": baseline_accuracy,
        "baseline_mean_iou": baseline_iou,
    }


def _cost_columns(loaded: LoadedNetwork, device: torch.device, latency_runs: int) -> Row:
    network, _, info = loaded
    return {
        "parameters": parameters(network),
        "gflops": flops(network, info.input_size) / 1e9,
        "latency_ms": 1000 * latency(network, info.input_size, device, latency_runs),
    }


def _class_columns(scores: Scores, split: PreparedSplit) -> Row:
    names = [f"iou_{c.name}" for c in split.manifest.classes]
    return dict(zip(names, scores.per_class_iou, strict=True))
