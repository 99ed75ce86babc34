"""Segmentation metrics that do not depend on how the images are batched."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

LANES = 4
CHUNK = 2**18  # pixels whose intermediate results fit the second-level cache


class ConfusionMatrix:
    """Counts of (target, prediction) pairs, and the metrics computed from them.

    Args:
        num_classes: C.
        ignore_index: pixels with this target value are not counted.
        not_scored: classes that have no IoU, and so no part in the means. Their pixels are
            counted: in the unions of the other classes and in the pixel accuracy.

    Attributes:
        matrix: int64 (C, C), rows are targets, columns predictions; on the device of the last
            update.
        image_iou_sum: float64 scalar, sum over images of the mean IoU of each.
        image_count: int64 scalar, number of images in which a scored class occurs, in target or
            prediction.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255, not_scored: Sequence[int] = ()):
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.not_scored = list(not_scored)
        self.matrix = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.image_iou_sum = torch.zeros((), dtype=torch.float64)
        self.image_count = torch.zeros((), dtype=torch.int64)

    def update(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Count a batch.

        Args:
            prediction, target: (N, H, W) of any integer dtype; values in 0..C-1, and in the target
                also `ignore_index`.

        Returns:
            int64 (N, C, C): the matrix of each image.

        Raises:
            ValueError: the shapes differ, or a value is out of range.
        """
        if prediction.shape != target.shape or target.ndim != 3:
            raise ValueError(
                "prediction and target must both be (N, H, W), "
                f"got {tuple(prediction.shape)} and {tuple(target.shape)}"
            )
        rows, first, ignored, end = self._rows(target)
        if not (_within(rows, 0, end) and _within(prediction, 0, self.num_classes)):
            self._check(prediction, target)
            prediction = prediction.masked_fill(target == self.ignore_index, 0)
        shape = end, self.num_classes
        counts = torch.zeros((len(target), *shape), dtype=torch.int64, device=target.device)
        for image, pair in enumerate(zip(rows.flatten(1), prediction.flatten(1), strict=True)):
            counts[image] = _count_pairs(*pair, shape)
        counts[:, ignored] = 0
        matrices = counts[:, first : first + self.num_classes]
        if counts.sum() != matrices.sum():
            self._check(prediction, target)
        self.to(matrices.device)
        self.matrix += matrices.sum(0)
        means = self.iou_of(matrices).nanmean(-1)
        self.image_iou_sum += means.nansum()
        self.image_count += means.isfinite().sum()
        return matrices

    def to(self, device: torch.device) -> Self:
        """Move the counts to another device, in place."""
        self.matrix = self.matrix.to(device)
        self.image_iou_sum = self.image_iou_sum.to(device)
        self.image_count = self.image_count.to(device)
        return self

    @property
    def counts(self) -> tuple[Tensor, ...]:
        """The tensors to sum over processes."""
        return self.matrix, self.image_iou_sum, self.image_count

    @property
    def per_class_iou(self) -> Tensor:
        """float64 (C,): intersection over union, each summed over all images; NaN for a class that
        occurs neither in targets nor in predictions, or is not scored."""
        return self.iou_of(self.matrix)

    @property
    def mean_iou(self) -> float:
        """Mean of `per_class_iou` over the classes that occur, as Cityscapes defines it."""
        return float(self.per_class_iou.nanmean())

    @property
    def mean_iou_per_image(self) -> float:
        """Mean over images of the mean IoU of each, over the classes that occur in it: the figure
        that the original implementation gives in brackets, there averaged over batches."""
        return float(self.image_iou_sum / self.image_count)

    @property
    def pixel_accuracy(self) -> float:
        """Share of the counted pixels that are predicted correctly; NaN without counted pixels."""
        return float(self.accuracy_of(self.matrix))

    def iou_of(self, matrices: Tensor) -> Tensor:
        """IoU of each class in counts (..., C, C), such as `update` returns: float64 (..., C); NaN
        where `per_class_iou` would be."""
        intersection = matrices.diagonal(dim1=-2, dim2=-1).double()
        iou = intersection / (matrices.sum(-1) + matrices.sum(-2) - intersection)
        iou[..., self.not_scored] = torch.nan
        return iou

    def accuracy_of(self, matrices: Tensor) -> Tensor:
        """Pixel accuracy in counts (..., C, C): float64 (...); NaN without counted pixels."""
        right = matrices.diagonal(dim1=-2, dim2=-1).sum(-1)
        return right.double() / matrices.sum((-2, -1))

    def _rows(self, target: Tensor) -> tuple[Tensor, int, int, int]:
        """The row of the counts for each pixel, the rows of the first class and of ignored pixels,
        and how many there are: few, as the counts have to fit the cache."""
        if target.dtype == torch.uint8 and self.ignore_index == 255:
            return target + 1, 1, 0, self.num_classes + 1  # 255 + 1 is 0
        first = max(0, -self.ignore_index)
        ignored = self.ignore_index + first
        end = max(first + self.num_classes, ignored + 1)
        return target.int() + first, first, ignored, end

    def _check(self, prediction: Tensor, target: Tensor) -> None:
        """Raises ValueError if a value that is to be counted is out of range."""
        counted = target != self.ignore_index
        for name, values in (("target", target[counted]), ("prediction", prediction[counted])):
            if not _within(values, 0, self.num_classes):
                raise ValueError(
                    f"{name} has values from {int(values.min())} to {int(values.max())}; "
                    f"expected 0 to {self.num_classes - 1}"
                )


def _within(values: Tensor, start: int, end: int) -> bool:
    """Whether all values are in start..end-1."""
    if not values.numel():
        return True
    low, high = map(int, values.aminmax())
    return start <= low and high < end


def _count_pairs(rows: Tensor, columns: Tensor, shape: tuple[int, int]) -> Tensor:
    """How often each pair of a row and a column occurs: int64 `shape`.

    Neighbours mostly raise the same count, and each would wait for the one before to be stored. So
    they take turns with LANES matrices.

    Args:
        rows, columns: flat, of any integer dtype, from 0 on.
    """
    size, width = shape[0] * shape[1], shape[1]
    dtype = torch.int16 if LANES * size < 2**15 else torch.int32  # the smaller, the faster
    starts = torch.arange(LANES, dtype=dtype, device=rows.device) * size
    lanes = starts.repeat(CHUNK // LANES)
    counts = torch.zeros(LANES * size, dtype=torch.int64, device=rows.device)
    for row, column in zip(rows.split(CHUNK), columns.split(CHUNK), strict=True):
        index = torch.add(lanes[: len(row)], row.to(dtype), alpha=width).add_(column.to(dtype))
        counts += torch.bincount(index, minlength=len(counts))
    return counts.view(LANES, *shape).sum(0)
