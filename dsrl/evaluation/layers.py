"""What a network is made of and what it costs, stage by stage."""

from collections.abc import Sequence

import torch
from torch import nn

from dsrl.config import STAGE_NAMES
from dsrl.evaluation.complexity import flops, parameters
from dsrl.models.dsrl import DSRL
from dsrl.sections import Model


def describe(model: Model, classes: int, input_size: tuple[int, int], stages: Sequence[int]) -> str:
    """The layers of the last of `stages`, and a table of the costs of each.

    Nothing is computed: the networks hold shapes only, so that a large one takes no memory.

    Args:
        model: the `model` section of a config.
        classes: number of classes.
        input_size: height and width of the input.
    """
    with torch.device("meta"):
        model = model.model_copy(update={"pretrained": False})
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
    """A line for each layer: name, type, shape of the weight, parameters."""
    lines = []
    for name, module in network.named_modules():
        if any(True for _ in module.children()):
            continue
        weight = getattr(module, "weight", None)
        shape = "x".join(map(str, weight.shape)) if isinstance(weight, torch.Tensor) else ""
        count = f"{parameters(module):,}" if parameters(module) else ""
        lines.append(f"{name:<52} {type(module).__name__:<20} {shape:>18} {count:>12}".rstrip())
    return lines
