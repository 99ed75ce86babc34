"""The DSRL network, assembled by stage (Wang et al., CVPR 2020, Fig. 3)."""

from typing import NamedTuple

from torch import Tensor, nn

from dsrl.config import Model
from dsrl.models.deeplabv3plus import DeepLabDecoder, DeepLabEncoder, conv_bn_relu
from dsrl.models.heads import SegmentationHead, SuperResolutionHead


class DSRLOutput(NamedTuple):
    """What one pass yields; a part that the stage does not have is None."""

    logits: Tensor  # (B, num_classes, 2H, 2W)
    image: Tensor | None = None  # (B, 3, 2H, 2W), normalised as the input is
    segmentation_features: Tensor | None = None  # (B, C, h, w)
    super_resolution_features: Tensor | None = None  # (B, C, h, w)


class DSRL(nn.Module):
    """Dual super-resolution learning over DeepLabv3+.

    - Stage 1, SSSR: encoder, decoder, upsampler, classifier. This part alone is run at inference.
    - Stage 2 adds SISR: a second decoder on the same encoder features (backbone and ASPP), and a
      sub-pixel convolution to the image at twice the input size.
    - Stage 3 adds FA: the last decoder features of both branches, before their prediction layers
      (the authors' reply in their repository's issues). A 1x1 convolution with batch norm and ReLU
      first takes those of SSSR to the space of SISR's.

    In eval mode only the logits are computed, whatever the stage, so that a pruned network gives
    bit for bit what the full one does.

    Args:
        settings: the `model` section of a config.
        num_classes: classes to tell apart, without the ignored label.
        stage: 1, 2 or 3.

    Raises:
        ValueError: the encoder is unknown or unfit.
    """

    def __init__(self, settings: Model, num_classes: int, stage: int):
        super().__init__()
        assert stage in (1, 2, 3), stage
        self.stage = stage
        channels = settings.decoder_channels
        self.encoder = DeepLabEncoder(
            settings.encoder, settings.output_stride, channels, settings.pretrained
        )
        self.sssr_decoder = DeepLabDecoder(self.encoder.low_channels, channels)
        self.sssr_head = SegmentationHead(settings.upsampler, channels, num_classes)
        if stage >= 2:
            self.sisr_decoder = DeepLabDecoder(self.encoder.low_channels, channels)
            self.sisr_head = SuperResolutionHead(channels, 2 * self.encoder.feature_stride)
        if stage >= 3:
            self.fa_transform = conv_bn_relu(channels, channels, kernel_size=1)
        # timm has initialised its own part.
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and not name.startswith("encoder.backbone"):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> DSRLOutput:
        """Normalised images (B, 3, H, W), any H and W -> predictions at 2H x 2W."""
        size = (2 * images.shape[-2], 2 * images.shape[-1])
        low, high = self.encoder(images)
        segmentation = self.sssr_decoder(low, high)
        logits = self.sssr_head(segmentation, size)
        if self.stage == 1 or not self.training:
            return DSRLOutput(logits)
        super_resolution = self.sisr_decoder(low, high)
        image = self.sisr_head(super_resolution, size)
        if self.stage == 2:
            return DSRLOutput(logits, image)
        return DSRLOutput(logits, image, self.fa_transform(segmentation), super_resolution)
