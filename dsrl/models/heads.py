"""From decoder features to what each branch predicts at twice the input size."""

from torch import Tensor, nn

from dsrl.models.deeplabv3plus import conv_bn_relu, resize_like


class Upsampler(nn.Module):
    """The extra upsampling module at the end of SSSR (paper, Sec. 3.2), in three variants.

    `bilinear` resizes, then convolves; `pixel_shuffle` convolves to four times the channels and
    rearranges them (ESPCN); `transposed` is the original implementation's transposed convolution.
    """

    def __init__(self, kind: str, in_channels: int, out_channels: int):
        super().__init__()
        self.up: nn.Module
        if kind == "bilinear":
            self.up = nn.Sequential(
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
                conv_bn_relu(in_channels, out_channels),
            )
        elif kind == "pixel_shuffle":
            self.up = nn.Sequential(conv_bn_relu(in_channels, 4 * out_channels), nn.PixelShuffle(2))
        else:
            assert kind == "transposed", kind
            self.up = nn.Sequential(
                nn.ConvTranspose2d(
                    in_channels, out_channels, 3, stride=2, padding=1, output_padding=1, bias=False
                ),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(inplace=True),
            )

    def forward(self, features: Tensor) -> Tensor:
        """(B, C_in, h, w) -> (B, C_out, 2h, 2w)."""
        return self.up(features)


class SegmentationHead(nn.Module):
    """Upsampler and prediction layer of SSSR; the rest of the way is bilinear, as in DeepLabv3+."""

    def __init__(self, upsampler: str, in_channels: int, num_classes: int):
        super().__init__()
        # A quarter of the channels at four times the pixels: as much memory as the decoder's map.
        self.upsampler = Upsampler(upsampler, in_channels, in_channels // 4)
        self.classifier = nn.Conv2d(in_channels // 4, num_classes, kernel_size=1)

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, C, h, w) -> logits (B, num_classes, *size)."""
        return resize_like(self.classifier(self.upsampler(features)), size)


class SuperResolutionHead(nn.Module):
    """ESPCN's sub-pixel convolution (Shi et al., CVPR 2016): 3 r^2 channels, then pixel shuffle."""

    def __init__(self, in_channels: int, upscale_factor: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 3 * upscale_factor**2, kernel_size=3, padding=1)
        self.shuffle = nn.PixelShuffle(upscale_factor)

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, C, h, w) -> image (B, 3, *size).

        Where the size is no multiple of the factor, the map was rounded up, so the surplus at the
        right and bottom is cut off.
        """
        image = self.shuffle(self.conv(features))
        assert image.shape[-2] >= size[0] and image.shape[-1] >= size[1]
        return image[..., : size[0], : size[1]]
