"""L = L_ce + w1 L_mse + w2 L_fa: the stages' objectives (paper, Eq. 5)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from dsrl.config.sections import Loss
from dsrl.data.manifest import IGNORE_INDEX
from dsrl.losses.feature_affinity import feature_affinity_loss
from dsrl.models.dsrl import DSRLOutput


class Losses(NamedTuple):
    """Scalars, float32; those of branches that the stage lacks are zero."""

    total: Tensor
    cross_entropy: Tensor
    mean_squared_error: Tensor
    feature_affinity: Tensor


def objective(output: DSRLOutput, labels: Tensor, images: Tensor, weights: Loss) -> Losses:
    """The loss of whichever stage `output` comes from.

    Args:
        output: of the network in training mode.
        labels: (B, 2H, 2W), int64 train ids, IGNORE_INDEX where nothing is learnt.
        images: (B, 3, 2H, 2W), float32, the images at twice the input size, normalised with the
            mean and standard deviation of the data set as the input is, so that the mean squared
            error is in units of the images' variance. The paper does not say which scale it used.
        weights: the `loss` section of a config.
    """
    cross_entropy = mean_cross_entropy(output.logits, labels)
    zero = cross_entropy.new_zeros(())
    mse = zero if output.image is None else F.mse_loss(output.image.float(), images)
    affinity = zero
    if output.segmentation_features is not None and output.super_resolution_features is not None:
        sides = {
            "segmentation": output.segmentation_features,
            "super_resolution": output.super_resolution_features,
        }
        for side, features in sides.items():
            pooled = pool_to_stride(features, labels.shape[-2:], weights.fa_stride)
            sides[side] = pooled.detach() if weights.fa_detach == side else pooled
        affinity = feature_affinity_loss(sides["segmentation"], sides["super_resolution"])
    total = cross_entropy + weights.w1 * mse + weights.w2 * affinity
    return Losses(total, cross_entropy, mse, affinity)


def mean_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy over the labelled pixels; 0, not NaN, where there is none.

    Args:
        logits: (B, C, H, W), any floating dtype; computed in float32.
        labels: (B, H, W), int64, IGNORE_INDEX where nothing is learnt.
    """
    total = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE_INDEX, reduction="sum")
    return total / (labels != IGNORE_INDEX).sum().clamp(min=1)


def pool_to_stride(features: Tensor, output_size: Sequence[int], stride: int) -> Tensor:
    """Average (B, C, h, w) down to 1/stride of the output size; a coarser map stays as it is."""
    height, width = features.shape[-2:]
    target = (min(height, -(-output_size[0] // stride)), min(width, -(-output_size[1] // stride)))
    if target == (height, width):
        return features
    return F.adaptive_avg_pool2d(features, target)
