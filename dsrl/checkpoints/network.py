"""The network in a `.weights` or `.checkpoint` file, ready for inference."""

from pathlib import Path
from typing import NamedTuple

import torch

from dsrl.checkpoints.weights import WeightsInfo, build_network, load_weights
from dsrl.data.transforms import InputTransform
from dsrl.models.dsrl import DSRL


class LoadedNetwork(NamedTuple):
    """A network on a device, and what belongs to it."""

    network: DSRL  # of inference, in eval mode
    transform: InputTransform  # from pixels to the network's input
    info: WeightsInfo


def load_network(path: Path, device: torch.device) -> LoadedNetwork:
    """Load the inference network of a file onto `device`.

    Args:
        path: weights or a checkpoint of any stage, pruned or not.

    Raises:
        OSError, ValueError: see `load_weights`; or the layers do not fit the architecture.
    """
    weights = load_weights(path)
    network = build_network(weights, str(path)).to(device)
    return LoadedNetwork(network, weights.info.transform.to(device), weights.info)
