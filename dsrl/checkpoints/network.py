"""From files to networks: every layer is there and fits, or one line says which does not."""

from collections.abc import Mapping, Set
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from dsrl.checkpoints.weights import Weights, WeightsInfo, load_weights
from dsrl.data.transforms import InputTransform
from dsrl.models.dsrl import DSRL, PARTS


class LoadedNetwork(NamedTuple):
    """A network on a device, and what belongs to it."""

    network: DSRL  # in eval mode
    transform: InputTransform  # from pixels to the network's input
    info: WeightsInfo


def load_network(path: Path, device: torch.device) -> LoadedNetwork:
    """Load the inference network of a file onto `device`.

    Args:
        path: weights or a checkpoint of any stage, pruned or not.

    Raises:
        OSError, ValueError: see `load_weights` and `load_layers`.
    """
    weights = load_weights(path)
    network = build_network(weights, str(path)).to(device)
    return LoadedNetwork(network, weights.info.transform.to(device), weights.info)


def load_branches(path: Path, device: torch.device) -> LoadedNetwork:
    """Load the network of a file with both branches onto `device`.

    Args:
        path: weights or a checkpoint of stage 2 or 3, not pruned.

    Raises:
        OSError, ValueError: see `load_network`; or the file has no super-resolution branch.
    """
    weights = load_weights(path)
    if "sisr_decoder" not in weights.info.parts:
        raise ValueError(
            f"{path}: has no super-resolution branch; expected weights of stage 2 or 3, not pruned"
        )
    network = build_network(weights, str(path), weights.info.stage).to(device)
    return LoadedNetwork(network, weights.info.transform.to(device), weights.info)


def build_network(weights: Weights, source: str, stage: int = 1) -> DSRL:
    """The network of `stage` with the layers of `weights`, on the CPU, in eval mode; by default
    the inference network. Parts that the weights lack are new; see `load_layers`.

    In channels-last memory format, in which inference is faster; see benchmarks/README.md.
    """
    network = DSRL(weights.info.model, len(weights.info.classes), stage)
    load_layers(network, weights, source)
    return network.eval().to(memory_format=torch.channels_last)


def load_layers(network: DSRL, weights: Weights, source: str) -> None:
    """Copy into `network` the layers of all parts that it has in common with the file.

    Args:
        network: of any stage. Parts that the file lacks keep their values.
        source: how messages name the file.

    Raises:
        ValueError: one of these layers is missing, unknown to the network or of another shape.
    """
    own = network.state_dict()
    parts = set(PARTS[network.stage]) & set(weights.info.parts)
    expected = {name for name in own.keys() | weights.layers.keys() if name.split(".")[0] in parts}
    compare_layers(own, weights.layers, expected, source)
    network.load_state_dict({name: weights.layers[name] for name in expected}, strict=False)


def compare_layers(
    own: Mapping[str, Tensor], found: Mapping[str, Tensor], names: Set[str], source: str
) -> None:
    """Check that both have the layers `names`, in the same shapes.

    Raises:
        ValueError: one of them is missing or of another shape.
    """
    for name in sorted(names):
        if name not in found:
            raise ValueError(f"{source}: layer '{name}' is missing; the architecture differs")
        shape = tuple(found[name].shape)
        needed = tuple(own[name].shape) if name in own else "no such layer"
        if shape != needed:
            raise ValueError(
                f"{source}: layer '{name}' has shape {shape}, the network needs {needed}; "
                "the file's `model` settings or number of classes are not those of its layers"
            )
