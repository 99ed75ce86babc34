"""Layers that the networks share."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class BaseNetwork:
    """A segmentation network in parts, from which DSRL assembles its stages.

    Attributes:
        encoder: images (B, 3, H, W) -> tuple of feature maps.
        new_decoder: makes a decoder: these maps -> (B, channels, H/stride, W/stride), rounded up.
        new_head: makes a head of SSSR: (B, channels, h, w) and a size -> logits of that size.
        channels: channels of the decoder's output, the last features before the prediction.
        stride: input resolution divided by the resolution of the decoder's output.
    """

    encoder: nn.Module
    new_decoder: Callable[[], nn.Module]
    new_head: Callable[[], nn.Module]
    channels: int
    stride: int


def conv_bn_relu(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    dilation: int = 1,
    separable: bool = False,
) -> nn.Sequential:
    """Convolution that keeps the resolution, batch norm and ReLU. A separable one is a depth-wise
    and a 1x1 convolution."""
    padding = dilation * (kernel_size // 2)
    depthwise: list[nn.Module] = []
    if separable:
        depthwise = [
            nn.Conv2d(
                *(in_channels, in_channels, kernel_size),
                padding=padding,
                dilation=dilation,
                groups=in_channels,
                bias=False,
            )
        ]
        kernel_size, padding, dilation = 1, 0, 1
    return nn.Sequential(
        *depthwise,
        nn.Conv2d(
            in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, bias=False
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def resize_like(features: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Bilinear resize of (B, C, h, w) to the height and width `size`."""
    return F.interpolate(features, size=tuple(size), mode="bilinear", align_corners=False)


def initialise(conv: nn.Conv2d | nn.ConvTranspose2d) -> None:
    """Kaiming initialisation with the fan out per group.

    PyTorch's fan out counts the outputs of all groups, too many by the number of groups. The fan in
    is counted per group, and equals the true fan out for depth-wise convolutions. Of a transposed
    convolution, whose weights lie the other way round, what PyTorch calls fan in is the fan out.
    """
    fan_in = conv.groups > 1 or conv.transposed
    nn.init.kaiming_normal_(
        conv.weight, mode="fan_in" if fan_in else "fan_out", nonlinearity="relu"
    )
