"""Predictions for image files, folders, films and prepared splits, written as pictures."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from dsrl.checkpoints.weights import build_network, load_weights
from dsrl.data.dataset import PreparedSplit
from dsrl.data.manifest import ClassInfo
from dsrl.data.palette import colour
from dsrl.data.transforms import resize_labels
from dsrl.inference.frames import files_in, list_frames
from dsrl.system.distributed import set_up_device
from dsrl.system.faults import explained_faults
from dsrl.system.files import atomic_file


class Predictor:
    """A network ready for images of any size.

    Args:
        weights_path: weights or a checkpoint of any stage.
        device_name: `auto`, `cpu` or `gpu`.

    Attributes:
        classes: what it tells apart.
    """

    def __init__(self, weights_path: Path, device_name: str):
        self.device = set_up_device(device_name)
        weights = load_weights(weights_path)
        self.classes = weights.info.classes
        self.transform = weights.info.transform.to(self.device)
        self.network = build_network(weights, str(weights_path)).to(self.device)

    @torch.no_grad()
    def __call__(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """uint8 (h, w, 3) -> train ids, uint8 (*size), resized nearest as the benchmark does."""
        with explained_faults(1, self.transform.input_size):
            pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].to(self.device)
            logits = self.network(self.transform(pixels)).logits
            return resize_labels(logits.argmax(1).byte(), size)[0].cpu().numpy()


class Picture(NamedTuple):
    """Something to predict."""

    name: str
    image: np.ndarray  # uint8 (h, w, 3)
    size: tuple[int, int]  # of the prediction to write


def predict(predictor: Predictor, pictures: Iterator[Picture], output: Path, form: str) -> None:
    """Write a PNG for each picture into the folder `output`.

    Args:
        form: `color` (`<name>.png`, RGB), `train-ids` (`<name>.png`, places in the list of
            classes), or `cityscapes` (`<name>_pred.png`, the label ids that its evaluation reads).
    """
    written: set[str] = set()
    for name, image, size in tqdm(pictures, "predict", unit="image", disable=None):
        file = file_name(name, form)
        if file in written:
            raise ValueError(f"two of the images would be written to {output / file}; rename one")
        written.add(file)
        encoded = encode(predictor(image, size), predictor.classes, form)
        with atomic_file(output / file) as temporary:
            Image.fromarray(encoded).save(temporary, "PNG")


def file_name(name: str, form: str) -> str:
    """What the prediction for the image `name` is called."""
    if form != "cityscapes":
        return f"{name}.png"
    return f"{name.removesuffix('_leftImg8bit')}_pred.png"


def encode(labels: np.ndarray, classes: Sequence[ClassInfo], form: str) -> np.ndarray:
    """uint8 (H, W) train ids -> what a picture of that format holds."""
    if form == "color":
        return colour(labels, classes)
    if form == "train-ids":
        return labels
    ids = np.array([c.id for c in classes])
    return ids.astype(np.uint8 if ids.max() < 256 else np.uint16)[labels]


def pictures_of_split(data: Path, split_name: str) -> Iterator[Picture]:
    """The images of a prepared split; predictions have the size of the label files.

    Raises:
        OSError, ValueError: there is no such split, or it is empty.
    """
    split = PreparedSplit(data, split_name)
    if not len(split):
        raise ValueError(f"{split.folder}: holds no images; choose another --dataset-split")
    for image, sample in zip(split.images, split.manifest.samples, strict=True):
        yield Picture(sample.name, image, sample.native_size)


def pictures_of_files(paths: Sequence[Path]) -> Iterator[Picture]:
    """The frames of image files; a folder stands for the images and films in it. Of an animation
    (GIF, WebP, APNG) or a film, every frame comes, numbered.

    Raises:
        OSError, ValueError: there is no such file, or it is no image.
    """
    for path in paths:
        for file in files_in(path) if path.is_dir() else [path]:
            for number, image in list_frames(file):
                name = file.stem if number is None else f"{file.stem}_{number:06d}"
                yield Picture(name, image, (image.shape[0], image.shape[1]))
