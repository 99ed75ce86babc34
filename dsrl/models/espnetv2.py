"""ESPNetv2 (Mehta et al., CVPR 2019), the second base network of the DSRL paper.

The encoder is the paper's, up to its fourth level. The decoder is that of the authors' EdgeNets
code, which the official DSRL code builds on. docs/espnetv2.md compares the cost with the published
numbers, part by part.
"""

from itertools import pairwise

from torch import Tensor, nn

from dsrl.config.model import Model
from dsrl.models.eesp import (
    Downsampler,
    EESPUnit,
    GatedProjection,
    PyramidPooling,
    bn_prelu,
    conv_bn_prelu,
    halve,
    resize,
)
from dsrl.models.heads import Upsampler
from dsrl.models.layers import BaseNetwork

DECODER_CHANNELS = (64, 48, 32)  # from coarse to fine


def espnetv2(settings: Model, num_classes: int) -> BaseNetwork:
    """The parts of ESPNetv2."""
    encoder = ESPNetv2Encoder(settings.width_scale)
    # As in the authors' code, the number of classes limits the width of the pyramids; but not below
    # what it is for Cityscapes' 20, or few classes would leave little for the decoder to see.
    inner = min(max(num_classes // 2, 10), 16)
    return BaseNetwork(
        encoder=encoder,
        new_decoder=lambda: ESPNetv2Decoder(encoder.channels, inner),
        new_head=lambda: ESPNetv2Head(settings.upsampler, inner, num_classes),
        channels=DECODER_CHANNELS[-1],
        stride=2,
    )


class Level(nn.Module):
    """One resolution of the encoder: a downsampler and EESP units."""

    def __init__(self, channels: tuple[int, int], receptive_fields: tuple[int, int], units: int):
        super().__init__()
        self.down = Downsampler(*channels, receptive_fields[0])
        self.units = nn.Sequential(
            *(EESPUnit(channels[1], receptive_fields[1]) for _ in range(units))
        )

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        """(B, C_in, h, w), (B, 3, h/2, w/2) -> (B, C_out, h/2, w/2), rounded up."""
        return self.units(self.down(features, image))


class ESPNetv2Encoder(nn.Module):
    """EESPNet, the paper's classifier (Table 1), without its fifth level.

    Args:
        width_scale: the paper's s; level k has 32 s 2^(k-1) channels, level 1 at most 32.
    """

    def __init__(self, width_scale: float):
        super().__init__()
        base = int(32 * width_scale)
        self.channels = (min(32, base), 2 * base, 4 * base, 8 * base)
        self.level1 = conv_bn_prelu(3, self.channels[0], kernel_size=3, stride=2)
        self.levels = nn.ModuleList(
            Level(*level)
            for level in zip(
                pairwise(self.channels), ((13, 11), (11, 9), (9, 7)), (0, 3, 7), strict=True
            )
        )

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> (B, C_k, H/2^k, W/2^k) for k = 1..4, sizes rounded up."""
        maps, image = [self.level1(images)], halve(images)
        for level in self.levels:
            image = halve(image)
            maps.append(level(maps[-1], image))
        return tuple(maps)


class ESPNetv2Decoder(nn.Module):
    """Three times pyramid pooling and upsampling by two, up to the prediction.

    Args:
        encoder_channels: channels of the encoder's maps, from fine to coarse.
        inner_channels: channels inside the pyramids.
    """

    def __init__(self, encoder_channels: tuple[int, ...], inner_channels: int):
        super().__init__()
        coarse = (encoder_channels[-1], *DECODER_CHANNELS)
        self.pyramids = nn.ModuleList(
            PyramidPooling(i, inner_channels, o, tail=bn_prelu(o)) for i, o in pairwise(coarse)
        )
        self.skips = nn.ModuleList(
            GatedProjection(i, o)
            for i, o in zip(encoder_channels[-2::-1], DECODER_CHANNELS, strict=True)
        )
        self.activations = nn.ModuleList(bn_prelu(o) for o in DECODER_CHANNELS)

    def forward(self, *maps: Tensor) -> Tensor:
        """The encoder's maps, from fine to coarse -> (B, 32, H/2, W/2)."""
        *finer, features = maps
        for pyramid, skip, activation, fine in zip(
            self.pyramids, self.skips, self.activations, reversed(finer), strict=True
        ):
            features = resize(pyramid(features), fine.shape[-2:])
            features = activation(features + skip(fine))
        return features


class ESPNetv2Head(nn.Module):
    """ESPNetv2's prediction, a last pyramid pooling, and DSRL's upsampler on the class maps.

    With `transposed` there are two upsamplers, as in the official code; they reach twice the input
    size. The other modules stop at the input size, and a bilinear resize doubles it.
    """

    def __init__(self, upsampler: str, inner_channels: int, num_classes: int):
        super().__init__()
        self.classifier = PyramidPooling(DECODER_CHANNELS[-1], inner_channels, num_classes, tail=())
        self.upsampler = nn.Sequential(
            *(
                Upsampler(upsampler, num_classes, num_classes, activation=nn.PReLU(num_classes))
                for _ in range({"none": 0, "transposed": 2}.get(upsampler, 1))
            )
        )

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, 32, h, w) -> logits (B, num_classes, *size)."""
        return resize(self.upsampler(self.classifier(features)), size)
