"""Overlapping tiles of an image that is larger than what the network computes at once."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dsrl.data.transforms import resize_logits

OVERLAP = 4  # tiles overlap by at least a fourth of their size
BATCH = 8  # images or tiles that the network takes at once


def blend_tiles(
    image: Tensor, tile_size: tuple[int, int], predict: Callable[[list[Tensor]], Sequence[Tensor]]
) -> Tensor:
    """The logits of an image, from those of its tiles. Where tiles overlap, they are averaged; the
    weight of a tile falls linearly to its edge, so that there are no seams.

    Args:
        image: uint8 (1, 3, h, w).
        tile_size: height and width of the tiles; those of the image, where it is smaller.
        predict: images -> the logits of each, (1, C, any height, any width).

    Returns:
        float32 (1, C, h, w); of an image that is not larger than a tile, what `predict` returns.
    """
    height, width = (min(pair) for pair in zip(image.shape[-2:], tile_size, strict=True))
    corners = [
        (top, left)
        for top in tile_starts(image.shape[-2], height)
        for left in tile_starts(image.shape[-1], width)
    ]
    if len(corners) == 1:
        return predict([image])[0]
    ramps = (_ramp(length, image.device) for length in (height, width))
    weight = torch.outer(*ramps)
    total: Tensor | None = None
    weights = torch.zeros(image.shape[-2:], device=image.device)
    for start in range(0, len(corners), BATCH):
        batch = corners[start : start + BATCH]
        tiles = [image[..., y : y + height, x : x + width] for y, x in batch]
        for (y, x), logits in zip(batch, predict(tiles), strict=True):
            if total is None:
                total = logits.new_zeros(1, logits.shape[1], *image.shape[-2:])
            part = resize_logits(logits, (height, width)) * weight
            total[..., y : y + height, x : x + width] += part
            weights[y : y + height, x : x + width] += weight
    assert total is not None
    return total.div_(weights)


def tile_starts(length: int, tile: int) -> list[int]:
    """Where tiles begin that cover `length` pixels, evenly spaced and as few as possible."""
    if length <= tile:
        return [0]
    step = tile - tile // OVERLAP
    count = -(-(length - tile) // step) + 1
    return [round(k * (length - tile) / (count - 1)) for k in range(count)]


def _ramp(length: int, device: torch.device) -> Tensor:
    """The weights along one side of a tile: from near 0 at both ends to 1, float32 (length,)."""
    distance = torch.arange(length, device=device)
    distance = torch.minimum(distance, length - 1 - distance) + 1
    return (distance / max(1, length // OVERLAP)).clamp(max=1)
