"""Dual Super-Resolution Learning for Semantic Segmentation (Wang et al., CVPR 2020).

from dsrl import load_model

model = load_model("inference.weights")
mask = model.predict("street.jpg")
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dsrl.inference.predictor import Predictor

__version__ = "0.1.0"


def load_model(path: str | Path, device: str = "auto") -> "Predictor":
    """Load a trained network to predict images with; see `dsrl.inference.predictor.Predictor`.

    Args:
        path: weights or a checkpoint of any stage.
        device: `auto` (a GPU if available), `cpu`, or `gpu` (or `cuda`).

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged or not a weights file, the device is unknown, or a GPU is
            requested and none is visible.
    """
    from dsrl.inference.predictor import Predictor  # imports PyTorch, which takes seconds

    return Predictor(Path(path), device)
