"""What a network costs: parameters, floating-point operations, time."""

import statistics
import time

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def parameters(network: nn.Module) -> int:
    """Number of learnt values."""
    return sum(parameter.numel() for parameter in network.parameters())


def flops(network: nn.Module, input_size: tuple[int, int]) -> int:
    """Floating-point operations for one image, by PyTorch's counter.

    It counts convolutions and matrix products, a multiplication and an addition as two; papers
    that count multiply-adds as one report half as much.

    Args:
        network: in the mode (train or eval) that is to be counted.
        input_size: height and width of the image.
    """
    parameter = next(network.parameters())
    # Two images, as batch norm cannot train on the one value per channel that pooling leaves.
    images = torch.zeros(2, 3, *input_size, device=parameter.device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(images)
    return counter.get_total_flops() // 2


@torch.no_grad()
def latency(
    network: nn.Module, input_size: tuple[int, int], device: torch.device, runs: int
) -> float:
    """Median seconds of a pass over one image, in eval mode, after two passes to warm up."""
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
