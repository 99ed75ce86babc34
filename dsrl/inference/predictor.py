"""Predict images: the `Predictor`, and the files with its predictions."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from dsrl.checkpoints.network import load_network
from dsrl.data.manifest import ClassInfo
from dsrl.data.palette import colour, overlay
from dsrl.data.transforms import labels_of_logits, resize_logits
from dsrl.inference.arrays import Images, to_arrays
from dsrl.inference.pictures import PREDICTION, save_png, save_probabilities
from dsrl.inference.plan import Frame, Source, Target
from dsrl.inference.tiles import BATCH, blend_tiles
from dsrl.system.distributed import set_up_device
from dsrl.system.faults import explained_faults


class Predictor:
    """A trained network that predicts images of any size.

    Args:
        weights: weights or a checkpoint of any stage.
        device: `auto`, `cpu`, or `gpu` (or `cuda`).

    Attributes:
        network: the inference network, in eval mode: normalised images (B, 3, H, W) -> output with
            `logits` (B, C, 2H, 2W).
        classes: name, colour and label id of each class, in the order of the train ids.
        input_size: height and width to which images are resized for the network.
        info: all that the file says beside the layers.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged or not a weights file, or a GPU is requested and none is visible.
    """

    def __init__(self, weights: Path, device: str = "auto"):
        self._device = set_up_device(device)
        self.network, self._transform, self.info = load_network(weights, self._device)
        self.classes = self.info.classes
        self.input_size = self.info.input_size

    def predict(
        self,
        image: Images,
        size: tuple[int, int] | None = None,
        *,
        probabilities: bool = False,
        tiles: bool = False,
        native_size: tuple[int, int] | None = None,
    ) -> Any:
        """Predict the class of each pixel.

        The logits are resized (bilinear) to the size of the mask, then the largest is taken.

        Args:
            image: an uint8 array (h, w, 3), RGB; the path of an image file; or a PIL image. Files
                and PIL images are turned upright, as EXIF says. A list of them, or an uint8 array
                (N, h, w, 3), is a batch.
            size: height and width of the mask, by default those of the image.
            probabilities: whether to return the probability of each class instead.
            tiles: whether to predict an image that is larger than the network's output, twice the
                input size, in overlapping tiles of that size, whose logits are averaged where they
                overlap.
            native_size: height and width of which a network with `fit: pad` keeps the aspect ratio,
                where an image was stored at another one; by default, those of the image. Tiles
                have their own.

        Returns:
            The mask: train ids, uint8 (*size); or the probabilities, float32 (C, *size). Of a
            batch, an array with N first; of a list, a list.

        Raises:
            OSError: a file does not exist.
            ValueError: an image is of another form or cannot be read, or there is not enough
                memory.
        """
        arrays = to_arrays(image)
        results: list[np.ndarray] = []
        for start in range(0, len(arrays), BATCH):
            batch = arrays[start : start + BATCH]
            with explained_faults(len(batch), self.input_size):
                for logits, array in zip(
                    self._logits(batch, tiles, native_size), batch, strict=True
                ):
                    results.append(_result(logits, size or array.shape[:2], probabilities))
        if isinstance(image, list):
            return results
        is_batch = isinstance(image, np.ndarray) and image.ndim == 4
        return np.stack(results) if is_batch else results[0]

    @torch.no_grad()
    def _logits(
        self, images: Sequence[np.ndarray], tiles: bool, native_size: tuple[int, int] | None
    ) -> Sequence[Tensor]:
        """Of each image, float32 (1, C, h, w), at the size at which they are computed."""
        tensors = [self._tensor(image) for image in images]
        if not tiles:
            return self._forward(tensors, native_size)
        size = self._transform.output_size
        return [blend_tiles(image, size, self._forward) for image in tensors]

    def _forward(
        self, images: Sequence[Tensor], native_size: tuple[int, int] | None = None
    ) -> list[Tensor]:
        """B images, uint8 (1, 3, h, w) of any h and w -> for each, the logits (1, C, h', w') of
        where it is in the network's output."""
        sizes = [native_size or (image.shape[-2], image.shape[-1]) for image in images]
        inputs = [self._transform(*pair) for pair in zip(images, sizes, strict=True)]
        logits = self.network(torch.cat(inputs)).logits
        windows = [self._transform.box(size, scale=2).window for size in sizes]
        return [
            each[..., rows, columns]
            for each, (rows, columns) in zip(logits.split(1), windows, strict=True)
        ]

    def _tensor(self, image: np.ndarray) -> Tensor:
        """uint8 (h, w, 3) -> uint8 (1, 3, h, w) on the device. Copied, as arrays mapped from disk
        are read-only, which torch does not support."""
        return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].to(self._device)


def _result(logits: Tensor, size: tuple[int, ...], probabilities: bool) -> np.ndarray:
    """Logits (1, C, h, w) -> the mask or the probabilities, as `predict` returns them."""
    height, width = size
    if probabilities:
        result = resize_logits(logits.contiguous(), (height, width)).softmax(1)
    else:
        result = labels_of_logits(logits, (height, width))
    return result[0].cpu().numpy()


def write_predictions(
    predictor: Predictor, sources: Sequence[Source], target: Target, done: int = 0
) -> int:
    """Write a file for each image, and for each frame of an animation or a video.

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
    failed, written = 0, 0
    total = None if any(source.is_animated for source in sources) else len(sources)
    results = (
        (source, result) for source in sources for result in _masks(predictor, source, target)
    )
    with tqdm(desc="predict", total=total, unit="image", disable=None) as bar:
        try:
            for source, result in results:
                if isinstance(result, Exception):
                    text = str(result) if str(source) in str(result) else f"{source}: {result}"
                    if len(sources) == 1:
                        raise ValueError(text)
                    tqdm.write(text, file=sys.stderr)
                    failed += 1
                    continue
                bar.update()
                frame, mask = result
                done += mask is None
                if mask is not None:
                    _save(frame, mask, source, target, predictor.classes)
                    written += 1
        except KeyboardInterrupt:
            note = f"interrupted after {written} predictions; repeat the call to go on"
            tqdm.write(f"{target.folder}: {note}", file=sys.stderr)
            raise
    if done:
        print(f"{target.folder}: kept predictions that were there: {done}", file=sys.stderr)
    return failed


def _masks(
    predictor: Predictor, source: Source, target: Target
) -> Iterator[tuple[Frame, np.ndarray | None] | Exception]:
    """Each frame and its mask, or probabilities; None for what is there already. An error is the
    last to come: raised here, it could not be told from one of writing."""
    try:
        for frame in source.frames():
            needed = target.needs(source, frame.number)
            size = target.size or frame.mask_size
            if not needed:
                yield frame, None
                continue
            yield (
                frame,
                predictor.predict(
                    frame.image,
                    size,
                    probabilities=target.file_format == "probabilities",
                    tiles=target.tiles,
                    native_size=frame.mask_size,
                ),
            )
    except (OSError, ValueError) as error:
        yield error


def _save(
    frame: Frame, mask: np.ndarray, source: Source, target: Target, classes: Sequence[ClassInfo]
) -> None:
    path, made_from = target.path(source.name, frame.number), target.made_from(source, frame.number)
    labels = mask if mask.ndim == 2 else mask.argmax(0)
    counts = np.bincount(labels.ravel(), minlength=len(classes)).tolist()
    if target.file_format == "probabilities":
        save_probabilities(mask, [info.name for info in classes], path, made_from, counts)
    else:
        picture = Image.fromarray(encode(mask, classes, target.file_format, frame.image))
        save_png(picture, path, PREDICTION, made_from, counts)


def encode(
    mask: np.ndarray, classes: Sequence[ClassInfo], file_format: str, image: np.ndarray
) -> np.ndarray:
    """The pixels to write.

    Args:
        mask: train ids, uint8 (H, W).
        image: uint8 (h, w, 3), RGB.

    Returns:
        uint8 (H, W, 3) for `color` and `overlay`; otherwise (H, W), uint8 or, for label ids above
        255, uint16.
    """
    if file_format == "color":
        return colour(mask, classes)
    if file_format == "overlay":
        height, width = mask.shape
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        return overlay(np.asarray(resized), colour(mask, classes))
    if file_format == "train-ids":
        return mask
    ids = np.array([c.id for c in classes])
    return ids.astype(np.uint8 if ids.max() < 256 else np.uint16)[mask]
