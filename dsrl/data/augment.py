"""Random augmentation of a training image, its labels and its super-resolution target, jointly."""

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tvf

from dsrl.config.sections import Augmentation
from dsrl.data.manifest import IGNORE_INDEX
from dsrl.data.transforms import resize_labels


def augment(
    image: Tensor,
    labels: Tensor,
    output_size: tuple[int, int],
    settings: Augmentation,
    fill: list[int],
    rng: np.random.Generator,
    inside: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One training sample.

    Args:
        image: uint8 (3, Hp, Wp). labels: uint8 (Hp, Wp).
        output_size: height and width of the network's output, (2H, 2W).
        settings: the `augmentation` section of a config.
        fill: RGB of the area that a zoom-out or rotation leaves empty; its labels are IGNORE_INDEX.
        inside: where the image is, apart from padding: bool (Hp, Wp). None: everywhere.

    Returns:
        The network's input, uint8 (3, H, W), which is the target at half the size; the target,
        uint8 (3, 2H, 2W); the labels, uint8 (2H, 2W); and where the image is, apart from the empty
        area: bool (2H, 2W).
    """
    zoom = float(np.exp(rng.uniform(*np.log(settings.scale))))
    if inside is None:
        inside = torch.ones(labels.shape, dtype=torch.bool)
    image, labels, inside = crop([image, labels, inside], zoom, rng)
    target, labels, inside = place(image, labels, inside, zoom, output_size, fill, rng)
    if rng.random() < settings.flip:
        target, labels, inside = target.flip(-1), labels.flip(-1), inside.flip(-1)
    if settings.rotation > 0:
        angle = settings.rotation * rng.uniform(-1, 1)
        target, labels, inside = rotate(target, labels, inside, angle, fill)
    # The target too, or the super-resolution branch would learn to undo the change of colours.
    target = jitter(target, settings, rng).contiguous()
    small = tvf.resize(target, [output_size[0] // 2, output_size[1] // 2], antialias=True)
    return small.contiguous(), target, labels.contiguous(), inside.contiguous()


def crop(maps: list[Tensor], zoom: float, rng: np.random.Generator) -> list[Tensor]:
    """A random window of 1/zoom of the height and width of maps (..., H, W), the same for all; all
    positions are equally likely."""
    if zoom <= 1:
        return maps
    size = maps[0].shape[-2:]
    height, width = (max(1, round(side / zoom)) for side in size)
    top = int(rng.integers(size[0] - height, endpoint=True))
    left = int(rng.integers(size[1] - width, endpoint=True))
    return [each[..., top : top + height, left : left + width] for each in maps]


def place(
    image: Tensor,
    labels: Tensor,
    inside: Tensor,
    zoom: float,
    size: tuple[int, int],
    fill: list[int],
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Resize to `size`; or, for a zoom below 1, to that share of it, at a random position.

    Returns:
        The image, the labels, and where the image is, bool.
    """
    share = min(zoom, 1.0)
    height, width = (max(1, round(side * share)) for side in size)
    image = tvf.resize(image, [height, width], antialias=True)
    labels, inside = (
        resize_labels(each[None].byte(), (height, width))[0].to(each.dtype)
        for each in (labels, inside)
    )
    if (height, width) == size:
        return image, labels, inside
    top = int(rng.integers(size[0] - height, endpoint=True))
    left = int(rng.integers(size[1] - width, endpoint=True))
    window = (..., slice(top, top + height), slice(left, left + width))
    canvas = torch.tensor(fill, dtype=torch.uint8)[:, None, None].repeat(1, *size)
    canvas[window] = image
    canvas_labels = torch.full(size, IGNORE_INDEX, dtype=torch.uint8)
    canvas_labels[window] = labels
    canvas_inside = torch.zeros(size, dtype=torch.bool)
    canvas_inside[window] = inside
    return canvas, canvas_labels, canvas_inside


def rotate(
    image: Tensor, labels: Tensor, inside: Tensor, angle: float, fill: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Rotate all three about the centre by `angle` in degrees, anticlockwise; the corners that
    become empty are not inside."""
    image = tvf.rotate(image, angle, InterpolationMode.BILINEAR, fill=[float(x) for x in fill])
    label = tvf.rotate(labels[None], angle, fill=[float(IGNORE_INDEX)])[0]
    return image, label, tvf.rotate(inside[None].byte(), angle, fill=[0.0])[0].bool()


def jitter(image: Tensor, settings: Augmentation, rng: np.random.Generator) -> Tensor:
    """Change brightness, contrast, saturation and hue of uint8 (3, H, W) by random amounts."""
    factors = rng.uniform(-1, 1, size=4)
    changes = (
        (tvf.adjust_brightness, settings.brightness, 1),
        (tvf.adjust_contrast, settings.contrast, 1),
        (tvf.adjust_saturation, settings.saturation, 1),
        (tvf.adjust_hue, settings.hue, 0),
    )
    for (change, strength, neutral), factor in zip(changes, factors, strict=True):
        if strength > 0:
            image = change(image, neutral + strength * float(factor))
    return image
