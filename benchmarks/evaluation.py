"""Scoring label maps beside the official Cityscapes script: time, and equal scores.

python benchmarks/evaluation.py [--images 500] [--rounds 3]
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as official  # noqa: N813
import numpy as np
import torch
from measure import Times, interleaved, machine, ratio, row
from PIL import Image
from torch import Tensor

from dsrl.data.dataset import PreparedSplit
from dsrl.data.description import load_description
from dsrl.data.images import ImageReader
from dsrl.data.labels import read_label
from dsrl.data.preprocess import preprocess
from dsrl.data.transforms import resize_labels
from dsrl.demo.street import draw_street
from dsrl.evaluation import ConfusionMatrix
from dsrl.inference.predictor import encode

SIZE = 1024, 2048
OUTPUT = 512, 1024  # of the network
DRAWN = 10  # different pairs, which come again and again
TARGET = 5
CITYSCAPES = load_description("cityscapes")


class Pairs:
    """Label maps and predictions of `images` images, as the official script and this project
    read them.

    Attributes:
        labels, predictions: PNG files of label ids, at `SIZE`.
        split: the labels as `dsrl preprocess` prepares them.
        outputs: uint8 (DRAWN, *OUTPUT), the predicted train ids.
    """

    def __init__(self, folder: Path, images: int):
        rng = np.random.default_rng(0)
        outputs, labels, predictions = [], [], []
        for number in range(DRAWN):
            picture, ids = draw_street(*SIZE, rng)
            name = f"val/a/a_{number:06}_000000"
            kinds = ("leftImg8bit", "gtFine_labelIds", "prediction")
            files = [folder / kind.split("_")[0] / f"{name}_{kind}.png" for kind in kinds]
            outputs.append(predicted(CITYSCAPES.to_train_ids(ids), rng))
            full = resize_labels(outputs[-1][None], SIZE)[0].numpy()
            pixels = (picture, ids, encode(full, CITYSCAPES.classes, "cityscapes", picture))
            for file, array in zip(files, pixels, strict=True):
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(file, compress_level=1 if array is picture else 6)
            labels.append(files[1])
            predictions.append(files[2])
        preprocess(CITYSCAPES, folder, "val", OUTPUT, folder / "prepared" / "val", jobs=1)
        self.split = PreparedSplit(folder / "prepared", "val")
        self.outputs = torch.stack(outputs)
        self.order = [number % DRAWN for number in range(images)]
        self.labels = [str(labels[index]) for index in self.order]
        self.predictions = [str(predictions[index]) for index in self.order]


def predicted(label: np.ndarray, rng: np.random.Generator) -> Tensor:
    """A prediction for train ids (*SIZE): edges that are off by some pixels, and wrong blots."""
    height, width = OUTPUT
    coarse = rng.normal(size=(2, 32, 64)).astype(np.float32)
    shifts = [np.asarray(Image.fromarray(x).resize((width, height), Image.BICUBIC)) for x in coarse]
    y, x = np.indices(OUTPUT)
    y = np.clip(y + 3 * shifts[0], 0, height - 1).astype(int)
    x = np.clip(x + 3 * shifts[1], 0, width - 1).astype(int)
    found = label[::2, ::2][y, x]
    wrong = (shifts[0] > 1.5) | (found >= len(CITYSCAPES.classes))
    found[wrong] = (3 + np.abs(4 * shifts[1][wrong])).astype(np.uint8)
    return torch.from_numpy(found.clip(max=len(CITYSCAPES.classes) - 1))


def official_scores(pairs: Pairs) -> list[float]:
    """IoU of each class, then their mean, by the official script."""
    official.args.evalInstLevelScore = False  # which needs files of instances
    official.args.quiet, official.args.JSONOutput = True, False
    found = official.evaluateImgLists(pairs.predictions, pairs.labels, official.args)
    return [
        *(found["classScores"][c.name] for c in CITYSCAPES.classes),
        found["averageScoreClasses"],
    ]


def read(pairs: Pairs) -> list[int]:
    """What the official script reads, with Pillow as there, and no more."""
    return [np.array(Image.open(path)).size for path in pairs.labels + pairs.predictions]


def prepared(pairs: Pairs, full: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Prepared labels, as `dsrl benchmark` reads them, and predicted labels in memory."""
    for index in pairs.order:
        label = torch.from_numpy(pairs.split.native_label(index))[None]
        yield resize_labels(full[index][None], label.shape[1:]), label


def from_files(pairs: Pairs) -> Iterator[tuple[Tensor, Tensor]]:
    """Labels and predictions from the files that the official script reads."""
    for files in zip(pairs.predictions, pairs.labels, strict=True):
        pictures = [read_label(Path(file), CITYSCAPES, ImageReader()) for file in files]
        prediction, label = (torch.from_numpy(np.array(p.pixels))[None] for p in pictures)
        yield prediction, label


def our_scores(pairs: Iterator[tuple[Tensor, Tensor]]) -> list[float]:
    """IoU of each class, then their mean."""
    confusion = ConfusionMatrix(len(CITYSCAPES.classes))
    for prediction, label in pairs:
        confusion.update(prediction, label)
    return [*confusion.per_class_iou.tolist(), confusion.mean_iou]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pairs = Pairs(Path(folder), arguments.images)
        full = resize_labels(pairs.outputs, SIZE)
        calls: dict[str, Callable[[], list[float]]] = {
            "official script": lambda: official_scores(pairs),
            "`dsrl benchmark`, predictions of the labels' size": lambda: our_scores(
                prepared(pairs, full)
            ),
            "`dsrl benchmark`, predictions to be resized from {}x{}".format(*OUTPUT): lambda: (
                our_scores(prepared(pairs, pairs.outputs))
            ),
            "`ConfusionMatrix`, from the official script's files": lambda: our_scores(
                from_files(pairs)
            ),
        }
        expected, *others = (call() for call in calls.values())
        for scores in others:
            np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-9)
        reading = "reading these files with Pillow, without scoring"
        times = interleaved({**calls, reading: lambda: read(pairs)}, arguments.rounds)
    print("## Evaluation\n")
    print(
        f"The IoU of each class and their mean, of {arguments.images} label maps of "
        f"{SIZE[0]}x{SIZE[1]} ({DRAWN} drawn ones, again and again) and predictions, by the "
        "official script of cityscapesScripts, which reads both from PNG files, and by this "
        "project, which reads prepared labels and has its predictions in memory. All scores are "
        f"equal to 1e-9 (mean IoU {expected[-1]:.4f}). Times of an image are interleaved in one "
        f"process, median and range of {arguments.rounds} rounds. "
        f"{machine(torch.device('cpu'))}.\n"
    )
    print("| | ms an image | official script / this | target |\n|---|---:|---:|---:|")
    for number, (name, found) in enumerate(times.items()):
        each = Times([seconds / arguments.images for seconds in found.seconds])
        target = f">= {TARGET}" if number == 1 else ""
        print(row(name, each, ratio(times["official script"], found), target))


if __name__ == "__main__":
    main()
