"""Reading image files of any mode."""

import struct

import numpy as np
from PIL import Image

# What a damaged image file makes Pillow raise.
DAMAGE = (OSError, SyntaxError, ValueError, struct.error, EOFError, Image.DecompressionBombError)


def to_rgb(image: Image.Image) -> Image.Image:
    """An image as 8-bit RGB; of 16 bits the upper 8 are kept, an alpha channel is dropped."""
    if not image.mode.startswith("I"):
        return image.convert("RGB")
    upper = np.clip(np.asarray(image) >> 8, 0, 255).astype(np.uint8)
    return Image.fromarray(upper).convert("RGB")
