"""How time and memory grow with images, pixels, classes, epochs and checkpoints.

python benchmarks/growth.py [--rounds 3]
"""

import argparse
import ctypes
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from measure import machine, peak_resident, row
from PIL import Image

from dsrl.checkpoints import checkpoint as checkpoints
from dsrl.checkpoints import purge
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

SIZE, CPU = (32, 64), torch.device("cpu")
IMAGES, PIXELS = (200, 400, 800, 1600), (2**13, 2**15, 2**17, 2**19)
CLASSES, EPOCHS, KEPT = (32, 64, 128, 255), (100, 200, 400, 800), (50, 100, 200, 400)
NETWORK = {"encoder": "mobilenetv3_small_050", "decoder_channels": 16}
SETTINGS = read_settings({**NETWORK, "input_size": SIZE, "batch_size": 4, "num_workers": 0})
RECIPE, RESOURCES = SETTINGS.recipe(1), SETTINGS.resources
Call = Callable[[], object]
NOTHING = 2**19  # bytes; what takes less memory may grow as it likes


def prepare(images: int, folder: Path) -> Path:
    """Prepare that many times the same street as val; returns the folder of the data set."""
    raw, place = folder / f"raw{images}", folder / f"prepared{images}"
    if not raw.exists():
        street = draw_street(*SIZE, np.random.default_rng(0))
        for kind, pixels in zip(("leftImg8bit", "gtFine_labelIds"), street, strict=True):
            city = raw / kind.split("_")[0] / "val" / "a"
            city.mkdir(parents=True)
            Image.fromarray(pixels).save(folder / "one.png")
            for number in range(images):
                shutil.copy(folder / "one.png", city / f"a_{number:06}_000000_{kind}.png")
    preprocess(load_description("demo"), raw, "val", SIZE, place / "val", jobs=1)
    return place


class Guess(torch.nn.Module):
    """Logits of 19 classes at twice the size, at next to no cost."""

    def forward(self, images: torch.Tensor) -> DSRLOutput:
        return DSRLOutput(images[:, torch.arange(19) % 3].repeat(1, 1, 2, 2))


def opening(images: int, folder: Path) -> Callable[[], PreparedSplit]:
    return lambda: PreparedSplit(folder / f"prepared{images}", "val")


def batches(images: int, folder: Path) -> Call:
    loader = training_loader(opening(images, folder)(), RECIPE, RESOURCES, CPU, Position())
    return lambda: sum(len(batch.labels) for batch in loader)


def evaluation(images: int, folder: Path) -> Call:
    split = opening(images, folder)()
    transform = InputTransform.from_manifest(split.manifest, SIZE)
    return lambda: evaluate(Guess(), split, transform, CPU, native=True)


def step(pixels: int, folder: Path) -> Call:
    network, height = DSRL(SETTINGS.model, 19, 2), round((pixels / 2) ** 0.5)
    images, target = (torch.randn(2, 3, n * height, 2 * n * height) for n in (1, 2))
    labels = torch.randint(19, target[:, 0].shape)
    return lambda: objective(network(images), labels, target, SETTINGS.loss).total.backward()


def counting(pixels: int, classes: int) -> Call:
    prediction, target = torch.randint(classes, (2, 4, pixels // 128, 128), dtype=torch.uint8)
    return lambda: ConfusionMatrix(classes).update(prediction, target)


def cross_entropy(classes: int, folder: Path) -> Call:
    logits, labels = torch.randn(2, classes, 128, 256), torch.randint(classes, (2, 128, 256))
    logits = logits.to(memory_format=torch.channels_last).requires_grad_()
    return lambda: mean_cross_entropy(logits, labels).backward()


def history(epochs: int) -> list[dict[str, float]]:
    return [{"epoch": n, **{f"loss{k}": 1 / (n + k + 1) for k in range(10)}} for n in range(epochs)]


def charting(epochs: int, folder: Path) -> Call:
    path, rows = folder / "history.csv", history(epochs)
    return lambda: (write_history(path, rows), read_csv(path, ["epoch"], "history"))


def checkpoint(epoch: int, epochs: int = 0) -> checkpoints.Checkpoint:
    """Without a network, but with that much history."""
    checksums = checkpoints.Checksums(train={}, val={}, initial=None)
    data = checkpoints.Source(folder="", dataset="", classes=(), mean=(0, 0, 0), std=(1, 1, 1))
    run = checkpoints.RunInfo(recipe=RECIPE, resources=RESOURCES, checksums=checksums, data=data)
    progress = {"epoch": epoch, "step": 0, "sums": 0, "best": None, "history": history(epochs)}
    return checkpoints.Checkpoint(run, progress, {}, {}, checkpoints.random_states())


def resuming(epochs: int, folder: Path) -> Call:
    files, content = checkpoints.CheckpointFolder(folder), checkpoint(1, epochs)
    return lambda: (files.save(content), checkpoints.load_checkpoint(files.files()[0]))


def kept(number: int, folder: Path) -> checkpoints.CheckpointFolder:
    shutil.rmtree(folder / "results", ignore_errors=True)
    files = checkpoints.CheckpointFolder(folder / "results/stage1/checkpoints", number)
    files.save(checkpoint(1))
    for epoch in range(2, number + 1):
        shutil.copy(files.folder / "epoch1.checkpoint", files.folder / f"epoch{epoch}.checkpoint")
    return files


def saving(number: int, folder: Path) -> Call:
    files, content = kept(number, folder), checkpoint(number + 1)
    return lambda: files.save(content)


def purging(number: int, folder: Path) -> Call:
    kept(number, folder)
    return lambda: purge.remove(folder / "results", purge.find(folder / "results"))


# Each makes what it needs and returns what is measured. The first prepares what others read.
TASKS: dict[str, tuple[Callable[[int, Path], Call], tuple[int, ...]]] = {
    "images: preprocessing": (lambda n, folder: lambda: prepare(n, folder), IMAGES),
    "images: opening a prepared split": (opening, IMAGES),
    "images: batches of an epoch": (batches, IMAGES),
    "images: evaluation without a network": (evaluation, IMAGES),
    "pixels: training step, stage 2": (step, PIXELS),
    "pixels: confusion matrix": (lambda n, _: counting(n, 19), PIXELS),
    "classes: confusion matrix": (lambda n, _: counting(2**17, n), CLASSES),
    "classes: cross entropy, with its gradient": (cross_entropy, CLASSES),
    "epochs so far: writing and reading the history": (charting, EPOCHS),
    "epochs so far: writing and reading a checkpoint": (resuming, EPOCHS),
    "checkpoints kept: writing another": (saving, KEPT),
    "checkpoints kept: purging them": (purging, KEPT),
}


def measured(name: str, size: int, folder: Path) -> tuple[float, int]:
    """Seconds of a task, and bytes of memory beside what it found, in this process."""
    torch.set_num_threads(1)
    task, sizes = TASKS[name]
    task(sizes[0], folder)()  # what only the first call loads
    call = task(size, folder)
    ctypes.CDLL(None).malloc_trim(0)  # what is free but kept would not count when it is used
    before, started = peak_resident(reset=True), time.perf_counter()
    call()
    return time.perf_counter() - started, peak_resident() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = range(parser.parse_args().rounds)
    print(
        "## Growth\n\nTime and memory against sizes; nothing may grow faster than linearly, which "
        "is an exponent of 1 (feature affinity has a section of its own). Each value is the median "
        f"of {len(rounds)} processes with one thread; the exponent is that of a fit to the "
        "logarithms. Memory is the peak beside what was there before, with the pages of mapped "
        f"files; less than {NOTHING / 2**20} MiB count as that. {machine(CPU)}.\n\n"
        "| | sizes | ms | exponent | MiB | exponent | target |\n|---|---|---|---:|---|---:|---:|"
    )
    # A process for each call, as memory that was once freed may be used again.
    pools = multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1)
    with tempfile.TemporaryDirectory() as folder, pools as pool:
        for name, (_, sizes) in TASKS.items():
            found = [[pool.apply(measured, (name, n, Path(folder))) for n in sizes] for _ in rounds]
            seconds, memory = np.median(found, 0).T.tolist()
            cells = [name, ", ".join(map(str, sizes))]
            for values, unit, least in ((seconds, 1e-3, 0), (memory, 2**20, NOTHING)):
                slope = np.polyfit(np.log(sizes), np.log(np.maximum(values, least)), 1)[0]
                cells += [", ".join(f"{value / unit:.3g}" for value in values), f"{slope:.2f}"]
            print(row(*cells, "<= 1"), flush=True)


if __name__ == "__main__":
    main()
