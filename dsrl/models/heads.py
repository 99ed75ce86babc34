"""What DSRL adds to a base network: the upsampler of SSSR and the head of SISR."""

from torch import Tensor, nn

from dsrl.models.layers import conv_bn_relu


class Upsampler(nn.Module):
    """The extra upsampling module at the end of SSSR (paper, Sec. 3.2), in four variants.

    `bilinear` resizes, then convolves; `thin` does so after a 1x1 convolution to the fewer
    channels of the output; `pixel_shuffle` convolves to four times the channels and rearranges them
    (ESPCN); `transposed` is the original implementation's transposed convolution.

    Args:
        kind: `thin`, `bilinear`, `pixel_shuffle` or `transposed`.
        in_channels: channels of the input.
        out_channels: channels of the output.
        activation: applied last.
    """

    def __init__(self, kind: str, in_channels: int, out_channels: int, activation: nn.Module):
        super().__init__()
        steps: list[nn.Module] = []
        if kind in ("thin", "bilinear"):
            if kind == "thin" and in_channels > out_channels:
                steps = [conv_bn_relu(in_channels, out_channels, kernel_size=1)]
                in_channels = out_channels
            steps += [
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
                nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(out_channels),
            ]
        elif kind == "pixel_shuffle":
            steps = [
                nn.Conv2d(in_channels, 4 * out_channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(4 * out_channels),
                nn.PixelShuffle(2),
            ]
        else:
            assert kind == "transposed", kind
            steps = [
                nn.ConvTranspose2d(
                    in_channels, out_channels, 3, stride=2, padding=1, output_padding=1, bias=False
                ),
                nn.BatchNorm2d(out_channels),
            ]
        self.up = nn.Sequential(*steps, activation)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C_in, h, w) -> (B, C_out, 2h, 2w)."""
        return self.up(features)


class SuperResolutionHead(nn.Module):
    """ESPCN's sub-pixel convolution (Shi et al., CVPR 2016): 3 r^2 channels, then pixel shuffle."""

    def __init__(self, in_channels: int, upscale_factor: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 3 * upscale_factor**2, kernel_size=3, padding=1)
        self.shuffle = nn.PixelShuffle(upscale_factor)

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, C, h, w) -> image (B, 3, *size).

        If the size is not a multiple of the factor, the map was rounded up; the surplus at the
        right and bottom is cropped.
        """
        image = self.shuffle(self.conv(features))
        assert image.shape[-2] >= size[0] and image.shape[-1] >= size[1]
        return image[..., : size[0], : size[1]]
