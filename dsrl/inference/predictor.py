"""Predict images: the `Predictor`, the images it is given, and the files it writes."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from dsrl.checkpoints.network import load_network
from dsrl.data.dataset import PreparedSplit
from dsrl.data.images import ImageReader
from dsrl.data.manifest import ClassInfo
from dsrl.data.palette import colour
from dsrl.data.transforms import resize_labels
from dsrl.inference.frames import files_in, list_frames
from dsrl.system.distributed import set_up_device
from dsrl.system.faults import explained_faults
from dsrl.system.files import atomic_file


class Predictor:
    """A trained network that predicts images of any size.

    Args:
        weights: weights or a checkpoint of any stage.
        device: `auto`, `cpu` or `gpu`.

    Attributes:
        network: the inference network, in eval mode: normalised images (B, 3, H, W) -> output with
            `logits` (B, C, 2H, 2W).
        classes: name, colour and label id of each class, in the order of the train ids.
        input_size: height and width to which images are resized for the network.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged or not a weights file, or a GPU is requested and none is visible.
    """

    def __init__(self, weights: Path, device: str = "auto"):
        self._device = set_up_device(device)
        self.network, self._transform, info = load_network(weights, self._device)
        self.classes = info.classes
        self.input_size = info.input_size

    @torch.no_grad()
    def predict(self, image: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
        """Predict the class of each pixel.

        Args:
            image: uint8 (h, w, 3), RGB.
            size: height and width of the mask, by default those of the image. The prediction is
                resized to it (nearest), as `dsrl benchmark` does.

        Returns:
            The mask: train ids, uint8 (*size).

        Raises:
            ValueError: there is not enough memory.
        """
        with explained_faults(1, self.input_size):
            # Copied, as arrays mapped from disk are read-only, which torch does not support.
            pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].to(self._device)
            labels = self.network(self._transform(pixels)).logits.argmax(1).byte()
            return resize_labels(labels, size or image.shape[:2])[0].cpu().numpy()


class NamedImage(NamedTuple):
    """An image to predict."""

    name: str  # of the file to write, without suffix
    image: np.ndarray  # uint8 (h, w, 3), RGB
    mask_size: tuple[int, int]  # height and width of the mask to write


def images_of_split(data: Path, split: str) -> Iterator[NamedImage]:
    """The images of a prepared split; their masks have the size of the label files.

    Raises:
        OSError: the split does not exist or cannot be read.
        ValueError: it is damaged or empty.
    """
    prepared = PreparedSplit(data, split)
    if not len(prepared):
        raise ValueError(
            f"{prepared.folder}: the split has no images; choose another --dataset-split"
        )
    for image, sample in zip(prepared.images, prepared.manifest.samples, strict=True):
        yield NamedImage(sample.name, image, sample.native_size)


def images_of_files(
    paths: Sequence[Path], reader: ImageReader | None = None
) -> Iterator[NamedImage]:
    """The images in files and folders; of an animation (GIF, WebP, APNG) or a video, all frames,
    numbered.

    Args:
        reader: reads the images, as in `list_frames`.

    Raises:
        OSError: a file does not exist or cannot be read.
        ValueError: a file is not an image, or a folder has none.
    """
    for path in paths:
        for file in files_in(path) if path.is_dir() else [path]:
            for number, image in list_frames(file, reader):
                name = file.stem if number is None else f"{file.stem}_{number:06d}"
                yield NamedImage(name, image, (image.shape[0], image.shape[1]))


def write_predictions(
    predictor: Predictor, images: Iterable[NamedImage], folder: Path, file_format: str
) -> None:
    """Write a PNG for each image into `folder`.

    Args:
        file_format: `color` (`<name>.png`, RGB), `train-ids` (`<name>.png`, one channel), or
            `cityscapes` (`<name>_pred.png`, the label ids that the Cityscapes evaluation reads).

    Raises:
        OSError: a file cannot be written.
        ValueError: two images have the same name.
    """
    written: set[str] = set()
    for name, image, mask_size in tqdm(images, "predict", unit="image", disable=None):
        file = file_name(name, file_format)
        if file in written:
            raise ValueError(f"{folder / file}: two images have this output file; rename one")
        written.add(file)
        mask = predictor.predict(image, mask_size)
        with atomic_file(folder / file) as temporary:
            encoded = encode(mask, predictor.classes, file_format)
            Image.fromarray(encoded).save(temporary, "PNG")


def file_name(name: str, file_format: str) -> str:
    """Name of the file with the prediction for the image `name`."""
    if file_format != "cityscapes":
        return f"{name}.png"
    return f"{name.removesuffix('_leftImg8bit')}_pred.png"


def encode(mask: np.ndarray, classes: Sequence[ClassInfo], file_format: str) -> np.ndarray:
    """Train ids, uint8 (H, W) -> the pixels to write: uint8 (H, W, 3) for `color`, otherwise uint8
    or (label ids above 255) uint16 (H, W)."""
    if file_format == "color":
        return colour(mask, classes)
    if file_format == "train-ids":
        return mask
    ids = np.array([c.id for c in classes])
    return ids.astype(np.uint8 if ids.max() < 256 else np.uint16)[mask]
