"""`fit: pad` inside an exported network, where the size of the image is not known beforehand.

Tensors say where an image lies in the input, not slices: resizing along a side is a product with a
matrix, or picks entries by their index. The results are those of `InputTransform` and of
`resize_logits` to rounding.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Place:
    """Where one side of an image lies in the network's input.

    Attributes:
        centres: of the image's pixels, float64 (n,): 0.5, 1.5, ...
        frame: length of the input's side.
        start, length: of the image in it, float64 scalars, whole numbers.
    """

    centres: Tensor
    frame: int
    start: Tensor
    length: Tensor

    @classmethod
    def of(cls, centres: Tensor, frame: int, scale: Tensor) -> Self:
        """As `fitted_box` says, for an image that is shrunk by `scale`."""
        length = (size_of(centres) * scale).round().clamp(1, frame)
        return cls(centres, frame, ((frame - length) / 2).floor(), length)

    def shrink(self) -> Tensor:
        """The matrix of the antialiased bilinear resize from n pixels to the frame, 0 in padding:
        float64 (frame, n)."""
        step = size_of(self.centres) / self.length  # pixels of the image in one of the input
        inside = torch.arange(self.frame, dtype=torch.float64) - self.start
        distance = (self.centres[None] - (inside[:, None] + 0.5) * step) / step.clamp(min=1)
        weights = (1 - distance.abs()).clamp(min=0)
        weights = weights / weights.sum(1, keepdim=True).clamp(min=1e-9)
        is_image = (inside >= 0) & (inside < self.length)
        return weights * is_image[:, None]

    def enlarge(self, logits: Tensor, dim: int) -> Tensor:
        """Resize (bilinear) the part of the logits, at twice the input size, where the image is, to
        its n pixels, along one dimension."""
        start, length = 2 * self.start, 2 * self.length
        place = self.centres * (length / size_of(self.centres)) - 0.5
        place = place.clamp(min=0).minimum(length - 1)
        first = place.floor()
        share = (place - first).to(logits.dtype)
        share = share[:, None] if dim == 2 else share
        before = logits.index_select(dim, (start + first).long())
        after = logits.index_select(dim, (start + (first + 1).minimum(length - 1)).long())
        return before + (after - before) * share


def size_of(side: Tensor) -> Tensor:
    """The number of entries of (n,), as a float64 scalar that an export does not take for a
    constant."""
    return torch.ones_like(side).sum()
