"""The DSRL network, assembled by stage (Wang et al., CVPR 2020, Fig. 3)."""

from typing import NamedTuple

from torch import Tensor, nn

from dsrl.config.model import Model
from dsrl.models.deeplabv3plus import deeplabv3plus
from dsrl.models.espnetv2 import espnetv2
from dsrl.models.heads import SuperResolutionHead
from dsrl.models.layers import conv_bn_relu, initialise, resize_like

BASE_NETWORKS = {"deeplabv3plus": deeplabv3plus, "espnetv2": espnetv2}

# The parts of the network of each stage, by which its layers' names begin. Stage 1's are inference.
INFERENCE = ("encoder", "sssr_decoder", "sssr_head")
PARTS = {
    1: INFERENCE,
    2: (*INFERENCE, "sisr_decoder", "sisr_head"),
    3: (*INFERENCE, "sisr_decoder", "sisr_head", "fa_transform"),
}


class DSRLOutput(NamedTuple):
    """Output of a forward pass; parts that the stage does not have are None."""

    logits: Tensor  # (B, num_classes, 2H, 2W)
    image: Tensor | None = None  # (B, 3, 2H, 2W), normalised like the input
    segmentation_features: Tensor | None = None  # (B, C, h, w)
    super_resolution_features: Tensor | None = None  # (B, C, h, w)


class DSRL(nn.Module):
    """Dual super-resolution learning over a base network.

    - Stage 1, SSSR: encoder, decoder, upsampler, classifier. Inference runs this part only.
    - Stage 2 adds SISR: a second decoder on the same encoder features, and a sub-pixel convolution
      to the image at twice the input size.
    - Stage 3 adds FA: it compares the last decoder features of both branches, before their
      prediction layers (the authors' reply in their repository's issues). A 1x1 convolution with
      batch norm and ReLU first maps those of SSSR to the space of SISR's.

    In eval mode every stage computes the logits only, so a pruned network gives the same output as
    the full one, bit for bit.

    Args:
        settings: the `model` section of a config.
        num_classes: number of classes, without the ignored label.
        stage: 1, 2 or 3.

    Raises:
        ValueError: the encoder is unknown or unsuitable.
    """

    def __init__(self, settings: Model, num_classes: int, stage: int):
        super().__init__()
        assert stage in (1, 2, 3), stage
        self.stage = stage
        self.sisr_residual = settings.sisr_residual
        base = BASE_NETWORKS[settings.network](settings, num_classes)
        self.encoder = base.encoder
        self.sssr_decoder = base.new_decoder()
        self.sssr_head = base.new_head()
        if stage >= 2:
            self.sisr_decoder = base.new_decoder()
            self.sisr_head = SuperResolutionHead(base.channels, 2 * base.stride)
        if stage >= 3:
            self.fa_transform = conv_bn_relu(base.channels, base.channels, kernel_size=1)
        # timm has initialised the backbone.
        for name, module in self.named_modules():
            is_conv = isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
            if is_conv and not name.startswith("encoder.backbone"):
                initialise(module)
        if stage >= 2:
            # Begins at the mean colour; or at the enlarged input, as SGD takes long to unlearn even
            # small random details. SSSR's prediction begins large; see docs/method.md.
            for parameter in self.sisr_head.conv.parameters():
                nn.init.normal_(parameter, std=0.0 if settings.sisr_residual else 0.01)

    def forward(self, images: Tensor) -> DSRLOutput:
        """Normalised images (B, 3, H, W), any H and W -> predictions at 2H x 2W."""
        size = (2 * images.shape[-2], 2 * images.shape[-1])
        features = self.encoder(images)
        segmentation = self.sssr_decoder(*features)
        logits = self.sssr_head(segmentation, size)
        if self.stage == 1 or not self.training:
            return DSRLOutput(logits)
        super_resolution = self.sisr_decoder(*features)
        image = self._image(super_resolution, images, size)
        if self.stage == 2:
            return DSRLOutput(logits, image)
        return DSRLOutput(logits, image, self.fa_transform(segmentation), super_resolution)

    def super_resolve(self, images: Tensor) -> Tensor:
        """SISR alone, of stage 2 or 3: normalised images (B, 3, H, W) -> (B, 3, 2H, 2W)."""
        size = (2 * images.shape[-2], 2 * images.shape[-1])
        return self._image(self.sisr_decoder(*self.encoder(images)), images, size)

    def branch_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The features (B, C, h, w) of SSSR and SISR, of stage 2 or 3, before their prediction
        layers: what FA compares. Before stage 3 those of SSSR are not transformed."""
        features = self.encoder(images)
        segmentation, super_resolution = (
            decoder(*features) for decoder in (self.sssr_decoder, self.sisr_decoder)
        )
        if self.stage == 3:
            segmentation = self.fa_transform(segmentation)
        return segmentation, super_resolution

    def _image(self, features: Tensor, images: Tensor, size: tuple[int, int]) -> Tensor:
        """SISR's image of `size`, from the features of its decoder."""
        image: Tensor = self.sisr_head(features, size)
        return image + resize_like(images, size) if self.sisr_residual else image
