"""The section `model` of a config: every setting with its type, default and meaning."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from dsrl.config.strict import Strict

# On a command line every value is text, which pydantic converts to numbers but not to literals.
OutputStride = Annotated[
    Literal[8, 16, 32], BeforeValidator(lambda v: int(v) if str(v).isdigit() else v)
]

# The keys of `Model` that say how the encoder starts. They are no part of the architecture.
ENCODER_START = ("encoder_weights", "pretrained", "pretrained_decoder", "allow_partial_encoder")


class Model(Strict):
    """The network."""

    network: Literal["deeplabv3plus", "espnetv2"] = Field(
        "deeplabv3plus",
        description="base network; `encoder`, `output_stride`, `decoder_channels` and `separable` "
        "belong to DeepLabv3+, `width_scale` to ESPNetv2",
    )
    encoder: str = Field(
        "resnet101", description="any timm model with `features_only` and `output_stride`"
    )
    encoder_weights: str = Field(
        "none",
        description="trained weights that the encoder starts from: `none`, `pretrained` (those "
        "that are known for this encoder, from ImageNet), a name in `encoder_sources.yaml`, or a "
        "file; see docs/commands.md",
    )
    pretrained: bool = Field(
        False, description="`true` is the same as `encoder_weights: pretrained`"
    )
    pretrained_decoder: bool = Field(
        False,
        description="take the decoder of SSSR from `encoder_weights`, too, which are then those of "
        "a whole segmentation network",
    )
    allow_partial_encoder: bool = Field(
        False,
        description="accept `encoder_weights` that lack some layers of the encoder; these start "
        "from random values",
    )
    output_stride: OutputStride = Field(
        16, description="ratio of the input resolution to that of the encoder's last feature map"
    )
    upsampler: Literal["thin", "bilinear", "pixel_shuffle", "transposed", "none"] = Field(
        "bilinear",
        description="the module that doubles the resolution of the base network's output; `none` "
        "leaves it to the final resize",
    )
    decoder_channels: int = Field(
        256, ge=4, multiple_of=4, description="channels of ASPP and decoders; 256 in DeepLabv3+"
    )
    separable: bool = Field(
        False,
        description="depth-wise separable 3x3 convolutions in ASPP and decoders, as in DeepLabv3+, "
        "instead of dense ones, as in the original implementation of DSRL; faster, less accurate",
    )
    sisr_residual: bool = Field(
        False,
        description="SISR predicts the difference from the bilinearly enlarged input, which is "
        "easy, instead of the whole image, as in the paper",
    )
    width_scale: float = Field(
        2.0,
        gt=0,
        multiple_of=0.25,
        description="the s of ESPNetv2, a factor of its channels: 0.5, 1, 1.25, 1.5, 1.75, ...",
    )

    @property
    def encoder_name(self) -> str:
        """The encoder as the results table names it."""
        return self.encoder if self.network == "deeplabv3plus" else f"s = {self.width_scale}"

    @property
    def initial(self) -> str:
        """`encoder_weights`, whichever key says it."""
        return "pretrained" if self.pretrained else self.encoder_weights

    @property
    def unused(self) -> set[str]:
        """The keys that belong to another network."""
        of_networks = {
            "deeplabv3plus": {"encoder", "output_stride", "decoder_channels", "separable"},
            "espnetv2": {"width_scale"},
        }
        return set().union(*(keys for name, keys in of_networks.items() if name != self.network))

    @field_validator("width_scale")
    @classmethod
    def _in_groups_of_four(cls, scale: float) -> float:
        # An EESP has four branches, whose channels its first convolution divides by four.
        if scale in (0.25, 0.75):
            raise ValueError(f"expected 0.5, or a multiple of 0.25 from 1, got {scale}")
        return scale
