"""Layers and cost of a network: parameters, floating-point operations (FLOPs), latency."""

import statistics
import time
from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dsrl.config.model import Model
from dsrl.config.recipe import STAGE_NAMES
from dsrl.models.dsrl import DSRL


def parameters(network: nn.Module) -> int:
    """Number of trainable values; buffers, such as batch-norm statistics, do not count."""
    return sum(parameter.numel() for parameter in network.parameters())


def flops(network: nn.Module, input_size: tuple[int, int]) -> int:
    """FLOPs for one image, by PyTorch's `FlopCounterMode`.

    It counts convolutions and matrix products, and a multiply-add as two operations; papers that
    count it as one report half as much.

    Args:
        network: in the mode (train or eval) to count.
        input_size: height and width of the image.
    """
    parameter = next(network.parameters())
    # Two images: after global pooling, batch norm in train mode needs several values per channel.
    images = torch.zeros(2, 3, *input_size, device=parameter.device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(images)
    return counter.get_total_flops() // 2


@torch.no_grad()
def latency(
    network: nn.Module, input_size: tuple[int, int], device: torch.device, runs: int
) -> float:
    """Median time in seconds of a forward pass over one image, in eval mode.

    Args:
        network: on `device`.
        input_size: height and width of the image.
        runs: number of timed passes; two more are run first to warm up.
    """
    network.eval()
    images = torch.rand(1, 3, *input_size, device=device)
    seconds = []
    for _ in range(runs + 2):
        started = time.perf_counter()
        network(images)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[2:])


def describe(model: Model, classes: int, input_size: tuple[int, int], stages: Sequence[int]) -> str:
    """List the layers of the network of the last of `stages`, then the cost of each stage.

    The networks are on the meta device: nothing is computed, and they take no memory.

    Args:
        model: the `model` section of a config.
        classes: number of classes.
        input_size: height and width of the input.
    """
    with torch.device("meta"):
        networks = {stage: DSRL(model, classes, stage) for stage in stages}
    height, width = input_size
    lines = [*_layers(networks[stages[-1]]), ""]
    lines.append(
        f"{model.network}, {model.encoder_name}, {classes} classes, input {height}x{width}"
    )
    lines.append(f"{'stage':<18}{'parameters':>12}{'GFLOPs, training pass':>24}{'inference':>12}")
    for stage, network in networks.items():
        training = flops(network.train(), input_size) / 1e9
        inference = flops(network.eval(), input_size) / 1e9
        name = f"{stage} ({STAGE_NAMES[stage]})"
        lines.append(f"{name:<18}{parameters(network):>12,}{training:>24.2f}{inference:>12.2f}")
    return "\n".join(lines)


def _layers(network: nn.Module) -> list[str]:
    """One line per layer: name, type, shape of the weight, number of parameters."""
    lines = []
    for name, module in network.named_modules():
        if any(True for _ in module.children()):
            continue
        weight = getattr(module, "weight", None)
        shape = "x".join(map(str, weight.shape)) if isinstance(weight, torch.Tensor) else ""
        count = f"{parameters(module):,}" if parameters(module) else ""
        lines.append(f"{name:<52} {type(module).__name__:<20} {shape:>18} {count:>12}".rstrip())
    return lines
