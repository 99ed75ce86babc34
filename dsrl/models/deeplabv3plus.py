"""DeepLabv3+ (Chen et al., ECCV 2018): backbone and ASPP as encoder, and its decoder."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsrl.config.model import Model
from dsrl.models.backbone import Backbone
from dsrl.models.heads import Upsampler
from dsrl.models.layers import BaseNetwork, conv_bn_relu, resize_like


def deeplabv3plus(settings: Model, num_classes: int) -> BaseNetwork:
    """The parts of DeepLabv3+."""
    channels = settings.decoder_channels
    encoder = DeepLabEncoder(settings.encoder, settings.output_stride, channels, settings.separable)
    return BaseNetwork(
        encoder=encoder,
        new_decoder=lambda: DeepLabDecoder(encoder.low_channels, channels, settings.separable),
        new_head=lambda: DeepLabHead(settings.upsampler, channels, num_classes),
        channels=channels,
        stride=4,
    )


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: fuses 1x1, three dilated 3x3 and image pooling.

    Dilations are 6, 12, 18 at output stride 16 and scale with the resolution (DeepLabv3, Sec. 3).
    """

    def __init__(self, in_channels: int, channels: int, output_stride: int, separable: bool):
        super().__init__()
        rates = [rate * 16 // output_stride for rate in (6, 12, 18)]
        self.branches = nn.ModuleList(
            [conv_bn_relu(in_channels, channels, kernel_size=1)]
            + [
                conv_bn_relu(in_channels, channels, dilation=rate, separable=separable)
                for rate in rates
            ]
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
    """Backbone and ASPP; SSSR and SISR both decode its output."""

    def __init__(self, name: str, output_stride: int, channels: int, separable: bool):
        super().__init__()
        self.backbone = Backbone(name, output_stride)
        self.aspp = ASPP(self.backbone.high_channels, channels, output_stride, separable)
        self.low_channels = self.backbone.low_channels

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) -> (B, C_low, H/4, W/4) and (B, C, H/os, W/os)."""
        low, high = self.backbone(images)
        return low, self.aspp(high)


class DeepLabDecoder(nn.Module):
    """The decoder of DeepLabv3+ without its prediction layer."""

    def __init__(self, low_channels: int, channels: int, separable: bool):
        super().__init__()
        # 48 of 256 channels in the paper: few, so that low-level features do not dominate.
        reduced = 48 * channels // 256 or 1
        self.reduce = conv_bn_relu(low_channels, reduced, kernel_size=1)
        self.fuse = nn.Sequential(
            conv_bn_relu(channels + reduced, channels, separable=separable),
            conv_bn_relu(channels, channels, separable=separable),
        )

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """(B, C_low, H/4, W/4), (B, C, h, w) -> (B, C, H/4, W/4)."""
        return self.fuse(torch.cat([self.reduce(low), resize_like(high, low.shape[-2:])], dim=1))


class DeepLabHead(nn.Module):
    """Upsampler and prediction layer of SSSR, then a bilinear resize, as in DeepLabv3+."""

    def __init__(self, upsampler: str, in_channels: int, num_classes: int):
        super().__init__()
        self.upsampler: nn.Module = nn.Identity()
        channels = in_channels
        if upsampler != "none":
            # A quarter of the channels at four times the pixels: the memory of the decoder's map.
            channels = in_channels // 4
            self.upsampler = Upsampler(upsampler, in_channels, channels, nn.ReLU(inplace=True))
        self.classifier = nn.Conv2d(channels, num_classes, kernel_size=1)

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, C, h, w) -> logits (B, num_classes, *size)."""
        return resize_like(self.classifier(self.upsampler(features)), size)
