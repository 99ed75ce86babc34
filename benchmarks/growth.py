"""How time and memory grow with images, pixels, classes, epochs and checkpoints.

python benchmarks/growth.py [--rounds 3]
"""

import argparse
import multiprocessing
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from measure import row
from PIL import Image
from torch import nn

from dsrl.checkpoints import purge
from dsrl.checkpoints.checkpoint import (
    Checkpoint,
    CheckpointFolder,
    Checksums,
    RunInfo,
    Source,
    load_checkpoint,
    random_states,
)
from dsrl.config.sections import Resources
from dsrl.config.settings import read_settings
from dsrl.data.dataset import PreparedSplit
from dsrl.data.description import load_description
from dsrl.data.preprocess import preprocess
from dsrl.data.transforms import InputTransform
from dsrl.demo.street import draw_street
from dsrl.evaluation import ConfusionMatrix
from dsrl.evaluation.evaluate import evaluate
from dsrl.evaluation.table import read_csv
from dsrl.losses import objective
from dsrl.losses.objective import mean_cross_entropy
from dsrl.models.dsrl import DSRL, DSRLOutput
from dsrl.training.history import write_history
from dsrl.training.loader import training_loader
from dsrl.training.state import Position

Call = Callable[[], object]
SIZE = 32, 64
KINDS = "leftImg8bit", "gtFine_labelIds"
CPU = torch.device("cpu")
SETTINGS = read_settings(
    {
        "input_size": list(SIZE),
        "encoder": "mobilenetv3_small_050",
        "decoder_channels": 16,
        "batch_size": 4,
        "num_workers": 0,
    }
)
LOSSES = ("total", "cross_entropy", "mean_squared_error", "feature_affinity")
SCORES = ("pixel_accuracy", "mean_iou", "mean_iou_per_image", "cross_entropy")


def raw(images: int, folder: Path) -> Path:
    """A data set with a drawn street in val, that many times."""
    place = folder / f"raw{images}"
    if not place.exists():
        for kind, pixels in zip(KINDS, draw_street(*SIZE, np.random.default_rng(0)), strict=True):
            city = place / kind.split("_")[0] / "val" / "a"
            city.mkdir(parents=True)
            Image.fromarray(pixels).save(folder / "one.png")
            for number in range(images):
                shutil.copy(folder / "one.png", city / f"a_{number:06}_000000_{kind}.png")
    return place


def prepared(images: int, folder: Path) -> Path:
    """The same, prepared."""
    place = folder / f"prepared{images}"
    if not place.exists():
        preprocess(load_description("demo"), raw(images, folder), "val", SIZE, place / "val", 1)
    return place


def preprocessing(images: int, folder: Path) -> Call:
    source, output = raw(images, folder), folder / "again" / "val"
    return lambda: preprocess(load_description("demo"), source, "val", SIZE, output, 1)


def opening(images: int, folder: Path) -> Call:
    place = prepared(images, folder)
    return lambda: PreparedSplit(place, "val")


def epoch(images: int, folder: Path) -> Call:
    split = PreparedSplit(prepared(images, folder), "val")
    loader = training_loader(split, SETTINGS.recipe(1), SETTINGS.resources, CPU, Position())
    return lambda: sum(len(batch.labels) for batch in loader)


class Guess(nn.Module):
    """Logits for 19 classes at twice the size, at next to no cost."""

    def forward(self, images: torch.Tensor) -> DSRLOutput:
        logits = images[:, torch.arange(19) % 3]
        return DSRLOutput(nn.functional.interpolate(logits, scale_factor=2))


def evaluation(images: int, folder: Path) -> Call:
    split = PreparedSplit(prepared(images, folder), "val")
    transform = InputTransform.from_manifest(split.manifest, SIZE)
    return lambda: evaluate(Guess(), split, transform, CPU, native=True)


def step(pixels: int, _: Path) -> Call:
    height = round((pixels / 2) ** 0.5)
    network = DSRL(SETTINGS.model, 19, 2)
    images, target = (
        torch.randn(2, 3, height, 2 * height),
        torch.randn(2, 3, 2 * height, 4 * height),
    )
    labels = torch.randint(19, (2, 2 * height, 4 * height))
    return lambda: objective(network(images), labels, target, SETTINGS.loss).total.backward()


def counting(pixels: int, _: Path, classes: int = 19) -> Call:
    prediction, target = torch.randint(classes, (2, 4, pixels // 128, 128), dtype=torch.uint8)
    confusion = ConfusionMatrix(classes)
    return lambda: [confusion.update(p[None], t[None]) for p, t in zip(prediction, target)]  # noqa: B905


def cross_entropy(classes: int, _: Path) -> Call:
    logits = torch.randn(2, classes, 128, 256, requires_grad=True)
    labels = torch.randint(classes, (2, 128, 256))
    return lambda: mean_cross_entropy(logits, labels).backward()


def history(epochs: int) -> list[dict[str, float]]:
    names = (*LOSSES, *(f"val_{name}" for name in SCORES), "learning_rate", "images_per_second")
    rng = np.random.default_rng(0)
    return [
        {"epoch": n + 1, **dict(zip(names, rng.random(len(names)).tolist(), strict=True))}
        for n in range(epochs)
    ]


def writing(epochs: int, folder: Path) -> Call:
    rows = history(epochs)
    return lambda: write_history(folder / "history.csv", rows)


def all_writing(epochs: int, folder: Path) -> Call:
    rows = history(epochs)
    return lambda: [write_history(folder / "history.csv", rows[: n + 1]) for n in range(epochs)]


def reading(epochs: int, folder: Path) -> Call:
    path = folder / f"history{epochs}.csv"
    write_history(path, history(epochs))
    return lambda: read_csv(path, ["epoch"], "a history")


def checkpoint(number: int, epochs: int = 0) -> Checkpoint:
    run = RunInfo(
        recipe=SETTINGS.recipe(1),
        resources=Resources(),
        checksums=Checksums(train={}, val={}, initial=None),
        data=Source(folder="data", dataset="demo", classes=(), mean=(0, 0, 0), std=(1, 1, 1)),
    )
    sums = torch.zeros(2, 4)
    progress = {"epoch": number, "step": 0, "sums": sums, "best": None, "history": history(epochs)}
    return Checkpoint(run, progress, {"weight": torch.zeros(8)}, {}, random_states())


def resuming(epochs: int, folder: Path) -> Call:
    """Write and read a checkpoint with that much history."""
    files = CheckpointFolder(folder / "one")
    content = checkpoint(1, epochs)

    def call() -> None:
        files.save(content)
        assert files.latest
        load_checkpoint(files.latest)

    return call


def kept(checkpoints: int, folder: Path) -> CheckpointFolder:
    """A folder of as many checkpoints."""
    files = CheckpointFolder(folder / "results" / "stage1" / "checkpoints", checkpoints)
    shutil.rmtree(folder / "results", ignore_errors=True)
    files.save(checkpoint(1))
    (first,) = files.files()
    for number in range(2, checkpoints + 1):
        shutil.copy(first, first.with_name(f"epoch{number}.checkpoint"))
    return files


def saving(checkpoints: int, folder: Path) -> Call:
    files, content = kept(checkpoints, folder), checkpoint(checkpoints + 1)
    return lambda: files.save(content)


def purging(checkpoints: int, folder: Path) -> Call:
    place = kept(checkpoints, folder).folder.parents[1]
    return lambda: purge.remove(place, purge.find(place))


IMAGES, PIXELS = [200, 400, 800, 1600], [2**n for n in (13, 15, 17, 19)]
CLASSES, EPOCHS, KEPT = [16, 32, 64, 128, 255], [100, 200, 400, 800], [50, 100, 200, 400]
TASKS = {
    "images: preprocessing": (preprocessing, IMAGES),
    "images: opening a prepared split": (opening, IMAGES),
    "images: batches of an epoch": (epoch, IMAGES),
    "images: evaluation, without the network": (evaluation, IMAGES),
    "pixels: training step, stage 2": (step, PIXELS),
    "pixels: confusion matrix": (counting, PIXELS),
    "classes: confusion matrix": (lambda n, folder: counting(2**17, folder, n), CLASSES),
    "classes: cross entropy": (cross_entropy, CLASSES),
    "epochs: writing the history once": (writing, EPOCHS),
    "epochs: ALL": (all_writing, EPOCHS),
    "epochs: reading the history": (reading, EPOCHS),
    "epochs: writing and reading a checkpoint": (resuming, EPOCHS),
    "checkpoints kept: writing another": (saving, KEPT),
    "checkpoints kept: purging them": (purging, KEPT),
}


def measured(name: str, size: int, folder: Path) -> tuple[float, int]:
    """Seconds, and bytes of memory beside what was there before: in a process of its own."""
    torch.set_num_threads(1)
    task, sizes = TASKS[name]
    task(sizes[0], folder)()  # what is loaded with the first call
    call = task(size, folder)
    Path("/proc/self/clear_refs").write_text("5")  # brings the high-water mark to the present
    before, started = peak(), time.perf_counter()
    call()
    return time.perf_counter() - started, peak() - before


def peak() -> int:
    """Bytes of resident memory at the high-water mark; of Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    fork = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as place, fork.Pool(1, maxtasksperchild=1) as pool:
        for name, (_, sizes) in TASKS.items():
            found = [
                [pool.apply(measured, (name, size, Path(place))) for size in sizes]
                for _ in range(rounds)
            ]
            seconds, memory = (
                [statistics.median(column) for column in zip(*values, strict=True)]
                for values in zip(*((zip(*one, strict=True)) for one in found), strict=True)
            )
            cells = (
                f"{min(sizes)}-{max(sizes)}",
                *grown(sizes, seconds, 1e-3),
                *grown(sizes, memory, 2**20),
            )
            print(row(name, *cells), flush=True)


def grown(sizes: list[int], values: list[float], unit: float) -> tuple[str, str]:
    """The first and the last value, and the exponent of the fit in logarithms."""
    exponent = np.polyfit(np.log(sizes), np.log(np.maximum(values, unit / 8)), 1)[0]
    return ", ".join(f"{v / unit:.3g}" for v in values), f"{exponent:.2f}"


if __name__ == "__main__":
    main()
