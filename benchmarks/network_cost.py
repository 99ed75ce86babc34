"""What each network costs: the base network, DSRL in training at each stage, the pruned network.

Prints docs/cost.md: `python benchmarks/network_cost.py > docs/cost.md`. Networks are built without
memory for their weights and nothing is computed, so it takes seconds.
"""

from pathlib import Path

import torch

from dsrl.config.settings import Settings, read_settings
from dsrl.data.description import load_description
from dsrl.models.cost import flops, parameters
from dsrl.models.dsrl import DSRL

CONFIGS = ("config", "camvid-small", "camvid", "cityscapes", "cityscapes-espnetv2")
INTRODUCTION = """\
# What the networks cost

Parameters and forward GFLOPs for one image, by PyTorch's counter: convolutions and matrix products,
a multiply-add as two. The base network is encoder, decoder and prediction layer; its output is
resized bilinearly. Feature affinity is not part of the network: its matrix products, forward and
both gradients together, are in brackets. Pruned, DSRL costs as much as the base network at the
*small* size plus the upsampler, and predicts at the size of the second row.

`python benchmarks/network_cost.py` prints this page.
"""


def build(settings: Settings, upsampler: str, stage: int) -> DSRL:
    """A network on the meta device, which has shapes only."""
    model = settings.model.model_copy(update={"upsampler": upsampler})
    classes = len(load_description(settings.data.dataset).classes)
    with torch.device("meta"):
        return DSRL(model, classes, stage)


def rows(settings: Settings) -> list[tuple[str, int, float, str]]:
    """Name, parameters, FLOPs and a remark for each network of a config."""
    small, large = settings.data.input_size, settings.data.output_size
    base = build(settings, "none", 1).eval()
    pruned = build(settings, settings.model.upsampler, 1).eval()
    table = [
        (f"base network at {small[0]}x{small[1]}", parameters(base), flops(base, small), ""),
        (f"base network at {large[0]}x{large[1]}", parameters(base), flops(base, large), ""),
    ]
    for stage, name in ((1, "SSSR"), (2, "SSSR+SISR"), (3, "SSSR+SISR+FA")):
        network = build(settings, settings.model.upsampler, stage).train()
        remark = f" (+ {affinity_flops(network, small, settings) / 1e9:.2f})" if stage == 3 else ""
        cost = flops(network, small)
        table.append((f"stage {stage} in training, {name}", parameters(network), cost, remark))
    table.append(("pruned, at inference", parameters(pruned), flops(pruned, small), ""))
    return table


def affinity_flops(network: DSRL, size: tuple[int, int], settings: Settings) -> int:
    """Matrix products of the tiled form: three of N x N x C for each pair of tiles, and both sides,
    half of the pairs by symmetry."""
    output = network(torch.zeros(2, 3, *size, device="meta"))
    channels = sum(
        features.shape[1]
        for features in (output.segmentation_features, output.super_resolution_features)
    )
    height, width = (-(-2 * side // settings.loss.fa_stride) for side in size)
    return 3 * (height * width) ** 2 * channels


def main() -> None:
    """Print the page."""
    print(INTRODUCTION)
    for name in CONFIGS:
        path = Path(__file__).parents[1] / f"config/{name}.yaml"
        settings = read_settings(str(path))
        model = settings.model
        encoder = f", {model.encoder}" if model.network == "deeplabv3plus" else ""
        print(f"## {path.name}: {model.network}{encoder}\n")
        print("| network | parameters (M) | GFLOPs |\n|---|---:|---:|")
        for label, count, cost, remark in rows(settings):
            print(f"| {label} | {count / 1e6:.2f} | {cost / 1e9:.2f}{remark} |")
        print()


if __name__ == "__main__":
    main()
