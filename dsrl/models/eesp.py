"""Building blocks of ESPNetv2 (Mehta et al., CVPR 2019) and of its decoder.

The decoder is the one that the authors use for segmentation (their later EdgeNets code).
"""

import math
from collections.abc import Iterable
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BRANCHES = 4  # K: parallel dilated convolutions of an EESP, and groups of its 1x1 convolutions


def conv_bn(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, padded so that only the stride changes the resolution, and batch norm."""
    conv = nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        stride,
        padding=kernel_size // 2,
        groups=groups,
        bias=False,
    )
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


def bn_prelu(channels: int) -> nn.Sequential:
    """Batch norm and PReLU with one slope per channel."""
    return nn.Sequential(nn.BatchNorm2d(channels), nn.PReLU(channels))


def conv_bn_prelu(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """`conv_bn` and PReLU with one slope per channel."""
    conv = conv_bn(in_channels, out_channels, kernel_size, stride, groups)
    return conv.append(nn.PReLU(out_channels))


def depthwise(channels: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """Depth-wise 3x3 convolution."""
    return nn.Conv2d(
        channels, channels, 3, stride, dilation, dilation=dilation, groups=channels, bias=False
    )


def dilations(receptive_field: int) -> list[int]:
    """Dilation of each branch of an EESP, ascending.

    Branch k sees 3 + 2k pixels; branches that would exceed `receptive_field` fall back to 3.
    """
    fields = (3 + 2 * k for k in range(BRANCHES))
    return sorted((field - 1) // 2 if field <= receptive_field else 1 for field in fields)


class EESP(nn.Module):
    """Extremely efficient spatial pyramid: reduce, convolve at several dilations, fuse.

    Hierarchical feature fusion, the running sum over the branches, removes the gridding artefacts
    of dilated convolutions.
    """

    def __init__(self, in_channels: int, out_channels: int, receptive_field: int, stride: int = 1):
        super().__init__()
        branch = out_channels // BRANCHES
        self.reduce = conv_bn_prelu(in_channels, branch, kernel_size=1, groups=BRANCHES)
        self.branches = nn.ModuleList(
            depthwise(branch, stride, dilation) for dilation in dilations(receptive_field)
        )
        self.fuse = nn.Sequential(
            bn_prelu(out_channels),
            *conv_bn(out_channels, out_channels, kernel_size=1, groups=BRANCHES),
        )

    def forward(self, features: Tensor) -> Tensor:
        """(B, C_in, h, w) -> (B, C_out, h/stride, w/stride), rounded up."""
        reduced = self.reduce(features)
        sums = accumulate(branch(reduced) for branch in self.branches)
        return self.fuse(torch.cat(list(sums), dim=1))


class EESPUnit(nn.Module):
    """An EESP with a residual connection."""

    def __init__(self, channels: int, receptive_field: int):
        super().__init__()
        self.eesp = EESP(channels, channels, receptive_field)
        self.activation = nn.PReLU(channels)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        return self.activation(features + self.eesp(features))


def resize(features: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Bilinear resize of (B, C, h, w) to the height and width `size`, with aligned corners: so the
    authors' networks were trained."""
    return F.interpolate(features, size=tuple(size), mode="bilinear", align_corners=True)


def halve(features: Tensor) -> Tensor:
    """Average pooling: (B, C, h, w) -> (B, C, h/2, w/2), rounded up."""
    return F.avg_pool2d(features, kernel_size=3, stride=2, padding=1)


class Downsampler(nn.Module):
    """Strided EESP and average pooling side by side, plus the image at the same resolution."""

    def __init__(self, in_channels: int, out_channels: int, receptive_field: int):
        super().__init__()
        self.eesp = EESP(in_channels, out_channels - in_channels, receptive_field, stride=2)
        self.reinforce = nn.Sequential(
            conv_bn_prelu(3, 3, kernel_size=3), conv_bn(3, out_channels, kernel_size=1)
        )
        self.activation = nn.PReLU(out_channels)

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        """(B, C_in, h, w), (B, 3, h/2, w/2) -> (B, C_out, h/2, w/2), rounded up."""
        halved = torch.cat([halve(features), self.eesp(features)], dim=1)
        return self.activation(halved + self.reinforce(image))


class GatedProjection(nn.Module):
    """Grouped 3x3 convolution whose output channels are gated by the mean of the input."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.gate = nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False)
        groups = math.gcd(in_channels, out_channels)
        self.project = conv_bn_prelu(in_channels, out_channels, kernel_size=3, groups=groups)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C_in, h, w) -> (B, C_out, h, w)."""
        weights = self.gate(F.adaptive_avg_pool2d(features, 1)).sigmoid()
        return weights * self.project(features)


class PyramidPooling(nn.Module):
    """Efficient pyramid pooling: fuses depth-wise convolutions at five resolutions.

    Args:
        in_channels: channels of the input.
        inner_channels: channels at each resolution.
        out_channels: channels of the output.
        tail: modules after the last convolution; if empty, that convolution has a bias.
    """

    scales = (2.0, 1.5, 1.0, 0.5, 0.1)
    least_size = 5  # height and width of the coarsest map

    def __init__(
        self, in_channels: int, inner_channels: int, out_channels: int, tail: Iterable[nn.Module]
    ):
        super().__init__()
        tail = tuple(tail)
        self.reduce = conv_bn_prelu(in_channels, inner_channels, kernel_size=1)
        self.levels = nn.ModuleList(depthwise(inner_channels) for _ in self.scales)
        joint = len(self.scales) * inner_channels
        self.activation = bn_prelu(joint)
        self.fuse = nn.Sequential(
            conv_bn_prelu(joint, inner_channels, kernel_size=3, groups=inner_channels),
            nn.Conv2d(inner_channels, out_channels, kernel_size=1, bias=not tail),
            *tail,
        )

    def forward(self, features: Tensor) -> Tensor:
        """(B, C_in, h, w) -> (B, C_out, h, w)."""
        reduced = self.reduce(features)
        levels = [
            self._at_scale(level, scale, reduced)
            for level, scale in zip(self.levels, self.scales, strict=True)
        ]
        joint = self.activation(torch.cat(levels, dim=1))
        # Group k of the fusing convolution reads channel k of each level.
        shuffled = joint.unflatten(1, (len(levels), -1)).transpose(1, 2).flatten(1, 2)
        return self.fuse(shuffled)

    def _at_scale(self, level: nn.Module, scale: float, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w), convolved at `scale` times the resolution."""
        size = features.shape[-2], features.shape[-1]
        height, width = (max(self.least_size, math.ceil(side * scale)) for side in size)
        if scale > 1:
            return F.adaptive_avg_pool2d(level(resize(features, (height, width))), size)
        if scale < 1:
            return resize(level(F.adaptive_avg_pool2d(features, (height, width))), size)
        return level(features)
