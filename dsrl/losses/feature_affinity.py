"""Feature affinity: exact over all pixel pairs, in memory linear in their number.

Notation, for one image. Pixel i of N = H W has the feature vectors a_i (segmentation, C channels)
and r_i (super-resolution, C' channels), each of unit length. The paper's similarity matrices
(Eq. 3) and loss (Eq. 4, with p = 2 and q = 1) are

    S_ij = a_i . a_j        T_ij = r_i . r_j        L = 1/N^2 sum_ij |D_ij|,   D = S - T.

With G = sign(D), which is symmetric as D is, the gradients are

    dL/da_i = 2/N^2 sum_j G_ij a_j        dL/dr_i = -2/N^2 sum_j G_ij r_j.

So one tile of D at a time is enough to accumulate the loss and both gradients, and the tiles above
the diagonal give those below. D_IJ = A_I A_J^T - R_I R_J^T adds to the loss. With
x_i = (a_i, r_i), G_IJ X_J adds to the gradients of rows I, and G_IJ^T X_I to those of rows J. Both
products of a tile round alike, so FA(x, x) is exactly 0. The forward pass computes the
loss and the gradients; backward only scales. No N x N tensor ever exists.
"""

import warnings
from functools import cache
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

EPSILON = 1e-6  # smallest norm that a feature vector is divided by
TILE = 512  # rows of a tile: 1 MiB of float32 fits the second-level cache of current CPUs
GPU_TILE = 4096  # without Triton, or for features too wide for it: large products


def feature_affinity_loss(
    segmentation_features: Tensor, super_resolution_features: Tensor
) -> Tensor:
    """Mean over all pixel pairs of |S_seg - S_sr| (paper, Eq. 4).

    Args:
        segmentation_features: (B, C, H, W), floating point.
        super_resolution_features: (B, C', H, W); C' may differ from C.

    Features are divided by their L2 norm over channels, at least EPSILON, so that a zero vector is
    similar to nothing and has a finite gradient. A side that requires no gradient costs none.
    Computed in float32, also under autocast; in float64 for float64 inputs.

    Returns:
        A scalar, float32 (float64 for float64 inputs), differentiable once.

    Raises:
        ValueError: a map is not four-dimensional, or they differ in batch, height or width.
        RuntimeError: on a second backward pass through the gradient.
    """
    a, r = segmentation_features, super_resolution_features
    if a.ndim != 4 or r.ndim != 4 or a.shape[0] != r.shape[0] or a.shape[2:] != r.shape[2:]:
        raise ValueError(
            "feature affinity needs two maps (B, C, H, W) of the same B, H and W, "
            f"got {tuple(a.shape)} and {tuple(r.shape)}"
        )
    dtype = torch.promote_types(torch.promote_types(a.dtype, r.dtype), torch.float32)
    with torch.autocast(a.device.type, enabled=False):
        a, r = (
            F.normalize(x.to(dtype).flatten(2).transpose(1, 2), dim=2, eps=EPSILON) for x in (a, r)
        )
        # On CUDA, bfloat16 maps (from autocast) are compared in bfloat16; sums are float32.
        half = segmentation_features.dtype == super_resolution_features.dtype == torch.bfloat16
        loss: Tensor = _FeatureAffinity.apply(a, r, half)
    return loss


class _FeatureAffinity(torch.autograd.Function):
    """Unit vectors a (B, N, C) and r (B, N, C') -> the loss; see the module's docstring."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, r: Tensor, half: bool) -> Tensor:
        needs_a, needs_r, _ = ctx.needs_input_grad
        kernel = _triton_form() if a.is_cuda else None
        dtype = torch.bfloat16 if half else a.dtype
        found = kernel and kernel.fused(a.to(dtype), r.to(dtype), needs_a, needs_r)
        loss, grad_a, grad_r = found or tiled(a, r, needs_a, needs_r)
        ctx.save_for_backward(grad_a, grad_r)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        if torch.is_grad_enabled():
            # The result depends on a and r even if `grad` depends on nothing.
            grad = grad.detach().requires_grad_()
        return *_scaled(ctx, grad), None


@once_differentiable
def _scaled(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    grad_a, grad_r = ctx.saved_tensors
    return None if grad_a is None else grad * grad_a, None if grad_r is None else grad * grad_r


@cache
def _triton_form() -> ModuleType | None:
    """The CUDA kernel; None without Triton or the compiler that its launcher needs."""
    try:
        from triton.runtime import driver

        from dsrl.losses import feature_affinity_triton

        _ = driver.active.utils
    except ImportError:
        return None
    except Exception as error:  # no C compiler, no Python.h, a folder that cannot be written, ...
        text = " ".join(str(error).split())
        warnings.warn(f"feature affinity is slower, as Triton does not start: {text}", stacklevel=2)
        return None
    return feature_affinity_triton


def tiled(
    a: Tensor, r: Tensor, needs_a: bool, needs_r: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The loss of unit vectors a (B, N, C), r (B, N, C'), and the gradients that are needed."""
    batch, n, channels = a.shape
    # The features that need a gradient: both sides', one side's, or none.
    x = torch.cat([a if needs_a else a[..., :0], r if needs_r else r[..., :0]], dim=2)
    grad = torch.zeros_like(x)
    total = torch.zeros((), dtype=a.dtype, device=a.device)
    tile = TILE if a.device.type == "cpu" else GPU_TILE
    for b in range(batch):
        for i in range(0, n, tile):
            rows = slice(i, i + tile)
            for j in range(i, n, tile):
                columns = slice(j, j + tile)
                difference = a[b, rows] @ a[b, columns].T
                difference -= r[b, rows] @ r[b, columns].T
                # Off-diagonal tiles also count for their mirror images.
                total += difference.abs().sum() * (1 if i == j else 2)
                if needs_a or needs_r:
                    sign = difference.sign_()
                    grad[b, rows].addmm_(sign, x[b, columns])
                    if i != j:
                        grad[b, columns].addmm_(sign.T, x[b, rows])
    scale = 1 / (batch * n * n)
    grad_a, grad_r = grad.mul_(2 * scale).tensor_split([channels if needs_a else 0], dim=2)
    return total * scale, grad_a if needs_a else None, grad_r.neg() if needs_r else None
