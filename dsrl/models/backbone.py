"""The encoder: any timm model that yields feature maps."""

from typing import Any

from torch import Tensor, nn


class Backbone(nn.Module):
    """A timm encoder reduced to the two feature maps that DeepLabv3+ reads.

    Args:
        name: timm model name, such as `resnet101`.
        output_stride: input resolution over that of the last feature map.

    Raises:
        ValueError: timm has no such model, it yields no feature maps, or it cannot be brought to
            the output stride.
    """

    def __init__(self, name: str, output_stride: int):
        super().__init__()
        # Not at the top: it takes seconds, and what only reads files needs none of it.
        import timm

        try:
            self.features = timm.create_model(name, features_only=True, output_stride=output_stride)
        # The models of timm refuse what they do not support in these ways.
        except (RuntimeError, TypeError, NotImplementedError, AssertionError) as error:
            raise ValueError(
                f"encoder '{name}' cannot be used at output stride {output_stride}: "
                f"{str(error) or 'not supported'}; "
                "choose a timm model that supports features_only and output_stride"
            ) from error
        info: Any = self.features.feature_info
        strides, channels = info.reduction(), info.channels()
        if 4 not in strides or strides[-1] != output_stride:
            raise ValueError(
                f"encoder '{name}' yields feature strides {strides}; "
                f"4 and {output_stride} are needed, choose another encoder or output_stride"
            )
        self.low = len(strides) - 1 - strides[::-1].index(4)
        self.low_channels: int = channels[self.low]
        self.high_channels: int = channels[-1]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) -> (B, C_low, H/4, W/4) and (B, C_high, H/os, W/os), sizes rounded up."""
        features = self.features(images)
        return features[self.low], features[-1]
