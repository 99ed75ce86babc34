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
TILE = 1024
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
        a, r = (x.to(dtype).flatten(2) for x in (a, r))
        # On CUDA, bfloat16 maps (from autocast) are compared in bfloat16; sums are float32.
        half = segmentation_features.dtype == super_resolution_features.dtype == torch.bfloat16
        loss: Tensor = _FeatureAffinity.apply(a, r, half)
    return loss


class _FeatureAffinity(torch.autograd.Function):
    """Features (B, C, N) and (B, C', N), of any length -> the loss; see the module's docstring."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, r: Tensor, half: bool) -> Tensor:
        needs_a, needs_r, _ = ctx.needs_input_grad
        a_norm, r_norm = (x.norm(dim=1, keepdim=True).clamp_(min=EPSILON) for x in (a, r))
        a, r = a / a_norm, r / r_norm
        kernel = _triton_form() if a.is_cuda else None
        dtype = torch.bfloat16 if half else a.dtype
        found = kernel and kernel.fused(a.mT.to(dtype), r.mT.to(dtype), needs_a, needs_r)
        loss, grad_a, grad_r = found or tiled(a.mT, r.mT, needs_a, needs_r)
        if grad_a is not None:
            _through_normalisation(grad_a.mT, a, a_norm)
        if grad_r is not None:
            _through_normalisation(grad_r.mT, r, r_norm)
        ctx.save_for_backward(grad_a, grad_r)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        if torch.is_grad_enabled():
            # The result depends on a and r even if `grad` depends on nothing.
            grad = grad.detach().requires_grad_()
        return *_scaled(ctx, grad), None


def _through_normalisation(grad: Tensor, unit: Tensor, norm: Tensor) -> None:
    """The gradient of unit vectors (B, C, N) becomes, in place, that of the features: the part
    along a vector changes its length only. By hand, as autograd takes four times the passes."""
    along = (grad * unit).sum(1, keepdim=True)
    along *= norm > EPSILON  # others are divided by a constant
    grad.addcmul_(unit, along, value=-1).div_(norm)


@once_differentiable
def _scaled(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    grad_a, grad_r = ctx.saved_tensors
    return (
        None if grad_a is None else grad * grad_a.mT,
        None if grad_r is None else grad * grad_r.mT,
    )


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
    x = torch.cat([a.mT if needs_a else a.mT[:, :0], r.mT if needs_r else r.mT[:, :0]], dim=1).mT
    grad = torch.zeros_like(x)
    total = torch.zeros((), dtype=a.dtype, device=a.device)
    size = min(n, TILE if a.device.type == "cpu" else GPU_TILE)
    buffers = a.new_empty(2, size * size)
    for b in range(batch):
        tiles = [v[b].split(size) for v in (a, r, x, grad)]
        for i, (a_i, r_i, x_i, grad_i) in enumerate(zip(*tiles, strict=True)):
            for j, (a_j, r_j, x_j, grad_j) in enumerate(zip(*tiles, strict=True)):
                if j < i:
                    continue
                shape = len(a_i), len(a_j)
                difference, sign = (v[: shape[0] * shape[1]].view(shape) for v in buffers)
                torch.mm(a_i, a_j.T, out=difference)
                difference -= torch.mm(r_i, r_j.T, out=sign)
                torch.sign(difference, out=sign)
                # |D| = D sign(D). Off-diagonal tiles also count for their mirror images.
                total += difference.view(-1).dot(sign.view(-1)) * (1 if i == j else 2)
                if needs_a or needs_r:
                    grad_i.addmm_(sign, x_j)
                    if i != j:
                        grad_j.addmm_(sign.T, x_i)
    scale = 1 / (batch * n * n)
    grad_a, grad_r = grad.mul_(2 * scale).tensor_split([channels if needs_a else 0], dim=2)
    return total * scale, grad_a if needs_a else None, grad_r.neg_() if needs_r else None
