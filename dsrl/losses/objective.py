"""L = L_ce + w1 L_mse + w2 L_fa: the objectives of the stages (paper, Eq. 5)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dsrl.config.sections import Loss
from dsrl.data.manifest import IGNORE_INDEX
from dsrl.losses.feature_affinity import feature_affinity_loss
from dsrl.models.dsrl import DSRLOutput
from dsrl.system.distributed import mean_over_processes


class Losses(NamedTuple):
    """Scalars, float32; zero for branches that the stage does not have."""

    total: Tensor
    cross_entropy: Tensor
    mean_squared_error: Tensor
    feature_affinity: Tensor


def objective(
    output: DSRLOutput,
    labels: Tensor,
    images: Tensor,
    weights: Loss,
    inside: Tensor | None = None,
    class_weights: Tensor | None = None,
) -> Losses:
    """The loss of the stage that `output` comes from.

    Each mean is over the pixels, or pairs of pixels, that count. With several processes it is over
    those of all of them: the mean of their losses, and of the gradients, is that of one process
    with all images.

    Args:
        output: output of the network in training mode.
        labels: (B, 2H, 2W), int64 train ids; IGNORE_INDEX for unlabelled pixels.
        images: (B, 3, 2H, 2W), float32, the images at twice the input size, normalised like the
            input, with the mean and standard deviation of the data set, so that the mean squared
            error is in units of the images' variance. The paper does not say which scale it uses.
        weights: the `loss` section of a config.
        inside: (B, 2H, 2W), bool: false for padding, which has no part in any loss, whereas pixels
            that are merely unlabelled have one where no labels are needed. None: no padding.
        class_weights: see `mean_cross_entropy`.
    """
    cross_entropy = mean_cross_entropy(output.logits, labels, class_weights, weights.ohem_threshold)
    zero = cross_entropy.new_zeros(())
    mse = zero if output.image is None else mean_squared_error(output.image, images, inside)
    affinity = zero
    if output.segmentation_features is not None and output.super_resolution_features is not None:
        sides = {
            "segmentation": output.segmentation_features,
            "super_resolution": output.super_resolution_features,
        }
        for side, features in sides.items():
            pooled = pool_to_stride(features, labels.shape[-2:], weights.fa_stride)
            sides[side] = pooled.detach() if weights.fa_detach == side else pooled
        affinity = masked_affinity(
            sides["segmentation"], sides["super_resolution"], inside, weights.fa_rows
        )
    return Losses(total_loss(cross_entropy, mse, affinity, weights), cross_entropy, mse, affinity)


def total_loss(cross_entropy: Tensor, mse: Tensor, affinity: Tensor, weights: Loss) -> Tensor:
    """L_ce + w1 L_mse + w2 L_fa, of scalars."""
    return cross_entropy + weights.w1 * mse + weights.w2 * affinity


def mean_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None = None,
    ohem_threshold: float | None = None,
) -> Tensor:
    """Mean cross entropy over the labelled pixels; 0, not NaN, if there are none.

    Args:
        logits: (B, C, H, W), any floating dtype; computed in float32.
        labels: (B, H, W), int64; IGNORE_INDEX for unlabelled pixels.
        class_weights: float32 (C,), what a pixel of each class weighs in the mean. None: all equal.
        ohem_threshold: only over the pixels that `hard_labels` leaves. None: over all.
    """
    # One row per pixel, as channels-last logits lie in memory: a third faster on the CPU.
    rows, labels = logits.float().permute(0, 2, 3, 1).flatten(0, 2), labels.flatten()
    if ohem_threshold is not None:
        labels = hard_labels(rows.detach(), labels, ohem_threshold)
    total = F.cross_entropy(
        *(rows, labels, class_weights), ignore_index=IGNORE_INDEX, reduction="sum"
    )
    labelled = labels != IGNORE_INDEX
    if class_weights is None:
        return _mean(total, labelled.sum())
    return _mean(total, (class_weights[labels.where(labelled, 0)] * labelled).sum())


def hard_labels(logits: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """Online hard example mining (Shrivastava et al. 2016), as segmentation uses it: the labels of
    the pixels whose true class has a probability below `threshold`, and in any case of the hardest
    sixteenth of all pixels, as BiSeNet does (Yu et al. 2018); IGNORE_INDEX for the others.

    Several processes choose among their own pixels each.

    Args:
        logits: float32 (N, C).
        labels: int64 (N,); IGNORE_INDEX for unlabelled pixels.
    """
    losses = F.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction="none")
    hardest = losses.topk(max(1, len(labels) // 16), sorted=False).values.min()
    return labels.where(losses >= hardest.clamp(max=-math.log(threshold)), IGNORE_INDEX)


def class_weights(setting: str | Sequence[float], class_pixels: Sequence[int]) -> Tensor:
    """The weights that `loss.class_weights` asks for, unless it is `none`: float32 (C,).

    Args:
        class_pixels: labelled training pixels of each class.

    Raises:
        ValueError: the list is of another number of classes.
    """
    if isinstance(setting, str):
        return inverse_log_frequency(class_pixels)
    if len(setting) != len(class_pixels):
        raise ValueError(
            f"loss.class_weights: has {len(setting)} weights; the data have {len(class_pixels)} "
            "classes"
        )
    return torch.tensor(setting, dtype=torch.float32)


def inverse_log_frequency(class_pixels: Sequence[int]) -> Tensor:
    """Class weights 1 / ln(1.1 + p) for classes with a share p of the labelled pixels, of ENet
    (Paszke et al. 2016, there 1.02), with the constant of ESPNet's training (Mehta et al. 2018):
    between 1.3 and 10.5, most for rare classes. float32 (C,)."""
    pixels = torch.tensor(class_pixels, dtype=torch.float64)
    return (1 / (1.1 + pixels / pixels.sum().clamp(min=1)).log()).float()


def _mean(total: Tensor, count: Tensor) -> Tensor:
    """A sum divided by the count, of all processes, of what it is over; of nothing, 0."""
    return total / mean_over_processes(count).clamp(min=1e-6)


def mean_squared_error(image: Tensor, target: Tensor, inside: Tensor | None) -> Tensor:
    """Mean squared error of (B, 3, H, W) over the pixels that are `inside`, bool (B, H, W); 0 if
    there are none. In float32."""
    if inside is None:
        return F.mse_loss(image.float(), target)
    errors = (image.float() - target).square().mean(1)
    return _mean((errors * inside).sum(), inside.sum())


def masked_affinity(
    segmentation: Tensor, super_resolution: Tensor, inside: Tensor | None, rows: int | None
) -> Tensor:
    """Feature affinity over the pairs of pixels of (B, C, h, w) whose cells are all `inside`, bool
    (B, H, W); 0 if there are none. See `feature_affinity_loss`."""
    if inside is None:
        return feature_affinity_loss(segmentation, super_resolution, rows)
    size = segmentation.shape[-2:]
    valid = F.adaptive_max_pool2d((~inside[:, None]).float(), size) == 0
    # A zero vector is similar to nothing, on both sides, so its pairs add nothing to the sum.
    affinity = feature_affinity_loss(segmentation * valid, super_resolution * valid, rows)
    pairs = valid.flatten(1).sum(1).square().sum()
    return _mean(affinity * (len(valid) * size.numel() ** 2), pairs)


def pool_to_stride(features: Tensor, output_size: Sequence[int], stride: int) -> Tensor:
    """Average-pool (B, C, h, w) to 1/stride of the output size; coarser maps are unchanged."""
    height, width = features.shape[-2:]
    target = (min(height, -(-output_size[0] // stride)), min(width, -(-output_size[1] // stride)))
    if target == (height, width):
        return features
    return F.adaptive_avg_pool2d(features, target)
