"""How well the super-resolution branch reconstructs images, beside plain interpolation."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from dsrl.data.dataset import EvaluationSet, PreparedSplit
from dsrl.data.transforms import InputTransform
from dsrl.models.dsrl import DSRL
from dsrl.system import distributed

BATCH = 8  # images; the result does not depend on it


@torch.no_grad()
def psnr(
    network: DSRL, split: PreparedSplit, transform: InputTransform, device: torch.device
) -> dict[str, float]:
    """Peak signal-to-noise ratio of images at twice the input size, in dB, each the mean over the
    images of `split`: of the SISR branch (`psnr`), and of bilinear and bicubic interpolation of the
    same input (`psnr_bilinear`, `psnr_bicubic`).

    It is that of the RGB values in 0..1, to which they are clipped, without quantisation. Under
    torchrun each process takes its share of the images, and all return the same.

    Args:
        network: of stage 2 or 3.
        transform: on `device`.
    """
    was_training = network.training
    network.eval()
    height, width = transform.input_size
    to_output_size = InputTransform((2 * height, 2 * width), transform.mean, transform.std)
    share = range(distributed.rank(), len(split), distributed.world_size())
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    # Its own generator, so that no random numbers are drawn from that of the training.
    loader = DataLoader(EvaluationSet(split, share), BATCH, generator=torch.Generator())
    for images, _ in loader:
        images = images.to(device)
        inputs, targets = transform(images), to_output_size(images)
        size = targets.shape[-2:]
        found = (
            network.super_resolve(inputs),
            F.interpolate(inputs, size=size, mode="bilinear", align_corners=False),
            F.interpolate(inputs, size=size, mode="bicubic", align_corners=False),
        )
        targets = _values(targets, transform)
        for index, image in enumerate(found):
            errors = (_values(image.float(), transform).clamp(0, 1) - targets).square()
            sums[index] -= 10 * errors.mean((1, 2, 3)).log10().sum()
    network.train(was_training)
    distributed.sum_over_processes(sums)
    means = (sums / len(split)).tolist()
    return dict(zip(("psnr", "psnr_bilinear", "psnr_bicubic"), means, strict=True))


def _values(images: Tensor, transform: InputTransform) -> Tensor:
    """Normalised images -> RGB in 0..1."""
    return images * transform.std[:, None, None] + transform.mean[:, None, None]
