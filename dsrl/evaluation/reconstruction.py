"""How well the super-resolution branch reconstructs images, beside plain interpolation."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from dsrl.data.dataset import EvaluationSet, PreparedSplit, network_inputs
from dsrl.data.transforms import InputTransform
from dsrl.models.dsrl import DSRL
from dsrl.system import distributed

BATCH = 8  # images; the result does not depend on it
METHODS = ("SISR", "bilinear", "bicubic")

Quality = Callable[[Tensor, Tensor], Tensor]  # images and targets (B, 3, H, W) -> (B,)


@torch.no_grad()
def reconstruct(
    network: DSRL,
    split: PreparedSplit,
    indices: Sequence[int],
    images: Tensor,
    transform: InputTransform,
) -> tuple[list[Tensor], Tensor]:
    """Images at twice the input size, and what they should be.

    Args:
        network: of stage 2 or 3, in eval mode.
        images: those of `indices` in the split, uint8 (B, 3, h, w).
        transform: on the device of `images`, as `network` is.

    Returns:
        Of each of METHODS, and the target: float32 (B, 3, 2H, 2W), RGB, clipped to 0..1.
    """
    size = transform.output_size
    inputs = network_inputs(split, indices, images, transform)
    target = network_inputs(split, indices, images, transform, scale=2)
    found = [
        network.super_resolve(inputs).float(),
        F.interpolate(inputs, size=size, mode="bilinear", align_corners=False),
        F.interpolate(inputs, size=size, mode="bicubic", align_corners=False),
    ]
    mean, std = (x[:, None, None] for x in (transform.mean, transform.std))
    *clipped, target = ((x * std + mean).clamp(0, 1) for x in (*found, target))
    return clipped, target


def mean_quality(
    network: DSRL,
    split: PreparedSplit,
    transform: InputTransform,
    device: torch.device,
    measures: Sequence[Quality],
) -> Tensor:
    """The mean over the images of `split` of each measure, of each of METHODS.

    Under torchrun each process takes its share of the images, and all return the same.

    Args:
        network: of stage 2 or 3.
        transform: on `device`.

    Returns:
        float64 (len(METHODS), len(measures)).
    """
    was_training = network.training
    network.eval()
    share = range(distributed.rank(), len(split), distributed.world_size())
    sums = torch.zeros(len(METHODS), len(measures), dtype=torch.float64, device=device)
    # Its own generator, so that no random numbers are drawn from that of the training.
    loader = DataLoader(EvaluationSet(split, share), BATCH, generator=torch.Generator())
    done = 0
    for images, _ in loader:
        indices = share[done : done + len(images)]
        found, targets = reconstruct(network, split, indices, images.to(device), transform)
        for part in _without_padding(split, indices, transform):
            for row, reconstruction in zip(sums, found, strict=True):
                pair = reconstruction[part], targets[part]
                row += torch.stack([measure(*pair).sum() for measure in measures])
        done += len(images)
    network.train(was_training)
    distributed.sum_over_processes(sums)
    return sums / len(split)


def _without_padding(
    split: PreparedSplit, indices: Sequence[int], transform: InputTransform
) -> list[tuple[slice, ...]]:
    """Where the images of a batch are at twice the input size: one index for all, or of each."""
    if transform.fit == "stretch":
        return [(slice(None),)]
    sizes = [split.manifest.samples[index].native_size for index in indices]
    windows = [transform.box(size, scale=2).window for size in sizes]
    return [(slice(i, i + 1), slice(None), *window) for i, window in enumerate(windows)]


def psnr(images: Tensor, targets: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of RGB values in 0..1, without quantisation: (B, 3, H, W) twice ->
    (B,), in dB."""
    return -10 * (images - targets).square().mean((1, 2, 3)).log10()


def mean_psnr(
    network: DSRL, split: PreparedSplit, transform: InputTransform, device: torch.device
) -> dict[str, float]:
    """The mean PSNR of each of METHODS; see `mean_quality`."""
    means = mean_quality(network, split, transform, device, [psnr])[:, 0].tolist()
    return dict(zip(("psnr", "psnr_bilinear", "psnr_bicubic"), means, strict=True))
