"""Parameters and multiply-adds of ESPNetv2, part by part, beside the published ones.

Prints the table of docs/espnetv2.md: `python benchmarks/espnetv2_cost.py`. Nothing is computed, so
it takes a second.
"""

from collections import Counter

import torch
from torch.utils.flop_counter import FlopCounterMode

from dsrl.config.model import Model
from dsrl.models.cost import parameters
from dsrl.models.dsrl import DSRL

SIZE = (256, 512)
CLASSES = 20  # the authors count the 19 of Cityscapes and the ignored one
PUBLISHED = ("published", "0.79 M", "674.78")

# What the table calls a part, and the modules that it sums over.
PARTS = {
    "level 1: 3x3 convolution, stride 2": ["encoder.level1"],
    "level 2: downsampler": ["encoder.levels.0"],
    "level 3: downsampler": ["encoder.levels.1.down"],
    "level 3: 3 EESP units": ["encoder.levels.1.units"],
    "level 4: downsampler": ["encoder.levels.2.down"],
    "level 4: 7 EESP units": ["encoder.levels.2.units"],
    "decoder: pyramid pooling at 1/16": ["sssr_decoder.pyramids.0"],
    "decoder: skip and fusion at 1/8": ["sssr_decoder.skips.0", "sssr_decoder.activations.0"],
    "decoder: pyramid pooling at 1/8": ["sssr_decoder.pyramids.1"],
    "decoder: skip and fusion at 1/4": ["sssr_decoder.skips.1", "sssr_decoder.activations.1"],
    "decoder: pyramid pooling at 1/4": ["sssr_decoder.pyramids.2"],
    "decoder: skip and fusion at 1/2": ["sssr_decoder.skips.2", "sssr_decoder.activations.2"],
    "prediction: pyramid pooling at 1/2": ["sssr_head.classifier"],
}


def main() -> None:
    """Print the table."""
    network, macs = counted("transposed")
    costs = {
        part: (
            sum(parameters(network.get_submodule(name)) for name in names),
            sum(macs[name] for name in names),
        )
        for part, names in PARTS.items()
    }
    total = tuple(map(sum, zip(*costs.values(), strict=True)))
    upsampler = parameters(network.sssr_head.upsampler)
    assert total == (parameters(network) - upsampler, macs[""] - macs["sssr_head.upsampler"])

    bias = CLASSES * (SIZE[0] // 2) * (SIZE[1] // 2) // 2
    channels = network.encoder.channels
    idle = channels[-1] - channels[0]
    print("| part | parameters | million multiply-adds |")
    print("|---|---:|---:|")
    for part, cost in costs.items():
        print(row(part, *cost))
    print(row("**this implementation**", *total))
    print(row("bias of the prediction, half a multiply-add each", 0, bias))
    print(row("PReLU that the authors' strided EESPs contain but never apply", idle, 0))
    print(row("**counted as the authors do**", total[0] + idle, total[1] + bias))
    print("| " + " | ".join(PUBLISHED) + " |")
    for kind in ("transposed", "pixel_shuffle", "bilinear"):
        network, macs = counted(kind)
        cost = parameters(network.sssr_head.upsampler), macs["sssr_head.upsampler"]
        print(row(f"not in the above: upsampler `{kind}`", *cost))


def counted(upsampler: str) -> tuple[DSRL, Counter[str]]:
    """The network of stage 1 and the multiply-adds of its modules; "" is the whole."""
    with torch.device("meta"):
        network = DSRL(Model(network="espnetv2", upsampler=upsampler), CLASSES, stage=1).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, *SIZE))
    return network, Counter(
        {
            name.removeprefix("DSRL").removeprefix("."): sum(flops.values()) // 2
            for name, flops in counter.get_flop_counts().items()
        }
    )


def row(part: str, parameters: int, macs: int) -> str:
    """A line of the table."""
    return f"| {part} | {parameters:,} | {macs / 1e6:.2f} |"


if __name__ == "__main__":
    main()
