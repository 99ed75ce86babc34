"""Predict images: the `Predictor`, and the files with its predictions."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from dsrl.checkpoints.network import load_network
from dsrl.data.manifest import ClassInfo
from dsrl.data.palette import colour
from dsrl.data.transforms import resize_labels
from dsrl.inference.pictures import PREDICTION, save_png
from dsrl.inference.plan import Source, Target
from dsrl.system.distributed import set_up_device
from dsrl.system.faults import explained_faults


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


def write_predictions(
    predictor: Predictor, sources: Sequence[Source], target: Target, done: int = 0
) -> int:
    """Write a PNG for each image, and for each frame of an animation or a video.

    Of several, an image that cannot be predicted is reported on stderr, and the others are
    predicted.

    Args:
        done: how many predictions were there before, for the message that counts them.

    Returns:
        How many images could not be predicted.

    Raises:
        OSError: a file cannot be written.
        ValueError: the only image cannot be predicted.
    """
    failed = 0
    total = None if any(source.is_animated for source in sources) else len(sources)
    with tqdm(desc="predict", total=total, unit="image", disable=None) as bar:
        for source in sources:
            for result in _masks(predictor, source, target):
                if isinstance(result, Exception):
                    text = str(result) if str(source) in str(result) else f"{source}: {result}"
                    if len(sources) == 1:
                        raise ValueError(text)
                    tqdm.write(text, file=sys.stderr)
                    failed += 1
                    continue
                bar.update()
                number, mask = result
                done += mask is None
                if mask is not None:
                    image = Image.fromarray(encode(mask, predictor.classes, target.file_format))
                    made_from = target.made_from(source, number)
                    save_png(image, target.path(source.name, number), PREDICTION, made_from)
    if done:
        print(f"{target.folder}: kept predictions that were there: {done}", file=sys.stderr)
    return failed


def _masks(
    predictor: Predictor, source: Source, target: Target
) -> Iterator[tuple[int | None, np.ndarray | None] | Exception]:
    """The number and the mask of each frame, None for a mask that is there already. An error is the
    last to come: raised here, it could not be told from one of writing."""
    try:
        for frame in source.frames():
            needed = target.needs(source, frame.number)
            size = target.size or frame.mask_size
            mask = predictor.predict(frame.image, size) if needed else None
            yield frame.number, mask
    except (OSError, ValueError) as error:
        yield error


def encode(mask: np.ndarray, classes: Sequence[ClassInfo], file_format: str) -> np.ndarray:
    """Train ids, uint8 (H, W) -> the pixels to write: uint8 (H, W, 3) for `color`, otherwise uint8
    or (label ids above 255) uint16 (H, W)."""
    if file_format == "color":
        return colour(mask, classes)
    if file_format == "train-ids":
        return mask
    ids = np.array([c.id for c in classes])
    return ids.astype(np.uint8 if ids.max() < 256 else np.uint16)[mask]
