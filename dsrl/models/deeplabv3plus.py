"""DeepLabv3+ (Chen et al., ECCV 2018): backbone and ASPP as the encoder, and its decoder."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsrl.models.backbone import Backbone


def conv_bn_relu(
    in_channels: int, out_channels: int, kernel_size: int = 3, dilation: int = 1
) -> nn.Sequential:
    """Convolution that keeps the resolution, batch norm and ReLU."""
    padding = dilation * (kernel_size // 2)
    return nn.Sequential(
        nn.Conv2d(
            in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, bias=False
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def resize_like(features: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Bilinear resize of (B, C, h, w) to the height and width `size`."""
    return F.interpolate(features, size=tuple(size), mode="bilinear", align_corners=False)


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: 1x1, three dilated 3x3 and image pooling, then fused.

    Dilations are 6, 12, 18 at output stride 16 and scale with the resolution (DeepLabv3, Sec. 3).
    """

    def __init__(self, in_channels: int, channels: int, output_stride: int):
        super().__init__()
        rates = [rate * 16 // output_stride for rate in (6, 12, 18)]
        self.branches = nn.ModuleList(
            [conv_bn_relu(in_channels, channels, kernel_size=1)]
            + [conv_bn_relu(in_channels, channels, dilation=rate) for rate in rates]
        )
        self.pooled = conv_bn_relu(in_channels, channels, kernel_size=1)
        self.project = conv_bn_relu(5 * channels, channels, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C_in, h, w) -> (B, C, h, w)."""
        pooled = self.pooled(F.adaptive_avg_pool2d(features, 1)).expand(
            -1, -1, features.shape[-2], features.shape[-1]
        )
        return self.project(torch.cat([b(features) for b in self.branches] + [pooled], dim=1))


class DeepLabEncoder(nn.Module):
    """Backbone and ASPP; SSSR and SISR decode the same output of it."""

    feature_stride = 4  # of the decoders that read this encoder, relative to the input

    def __init__(self, name: str, output_stride: int, channels: int, pretrained: bool = False):
        super().__init__()
        self.backbone = Backbone(name, output_stride, pretrained)
        self.aspp = ASPP(self.backbone.high_channels, channels, output_stride)
        self.low_channels = self.backbone.low_channels

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) -> (B, C_low, H/4, W/4) and (B, C, H/os, W/os)."""
        low, high = self.backbone(images)
        return low, self.aspp(high)


class DeepLabDecoder(nn.Module):
    """The decoder of DeepLabv3+ up to, but without, its prediction layer."""

    def __init__(self, low_channels: int, channels: int):
        super().__init__()
        # 48 of 256 channels in the paper: few, lest the low-level features outweigh the others.
        reduced = 48 * channels // 256 or 1
        self.reduce = conv_bn_relu(low_channels, reduced, kernel_size=1)
        self.fuse = nn.Sequential(
            conv_bn_relu(channels + reduced, channels), conv_bn_relu(channels, channels)
        )

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """(B, C_low, H/4, W/4), (B, C, h, w) -> (B, C, H/4, W/4)."""
        return self.fuse(torch.cat([self.reduce(low), resize_like(high, low.shape[-2:])], dim=1))
