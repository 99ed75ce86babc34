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
from torch import Tensor
from torch.autograd.function import once_differentiable

EPSILON = 1e-6  # smallest norm that a feature vector is divided by
# Rows of a tile, by measurement: with fewer, products of wide features get slower; with more, tiles
# leave the second-level cache and small maps gain less from the symmetry.
TILE = 768
GPU_TILE = 4096  # rows without Triton, or for features too wide for it: large products


def feature_affinity_loss(
    segmentation_features: Tensor, super_resolution_features: Tensor, rows: int | None = None
) -> Tensor:
    """Mean over all pixel pairs of |S_seg - S_sr| (paper, Eq. 4).

    Args:
        segmentation_features: (B, C, H, W), floating point.
        super_resolution_features: (B, C', H, W); C' may differ from C.
        rows: if less than H W, estimate the mean from the pairs of this many pixels with all
            pixels. They are drawn for each image, without replacement, by torch's default CPU
            generator. The expectation of the loss, and of its gradient, is that over all pairs.

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
        drawn = None
        if rows is not None and rows < a.shape[2]:
            drawn = torch.stack([torch.randperm(a.shape[2])[:rows] for _ in a]).to(a.device)
        loss: Tensor = _FeatureAffinity.apply(a, r, half, drawn)
    return loss


class _FeatureAffinity(torch.autograd.Function):
    """Features (B, C, N) and (B, C', N), of any length -> the loss; see the module's docstring."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, r: Tensor, half: bool, rows: Tensor | None) -> Tensor:
        needs_a, needs_r, *_ = ctx.needs_input_grad
        norms = [x.norm(dim=1, keepdim=True).clamp_(min=EPSILON) for x in (a, r)]
        x = torch.cat([a / norms[0], r / norms[1]], dim=1)
        units = x.split([a.shape[1], r.shape[1]], dim=1)
        kernel = _triton_form() if x.is_cuda and rows is None else None
        dtype = torch.bfloat16 if half else x.dtype
        found = kernel and kernel.fused(*(u.mT.to(dtype) for u in units), needs_a, needs_r)
        loss, grad_a, grad_r = found or tiled(x.mT, a.shape[1], needs_a, needs_r, rows)
        for grad, unit, norm in zip((grad_a, grad_r), units, norms, strict=True):
            if grad is not None:
                _through_normalisation(grad.mT, unit, norm)
        ctx.save_for_backward(grad_a, grad_r)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            # The result depends on a and r even if `grad` depends on nothing.
            grad = grad.detach().requires_grad_()
        return *_scaled(ctx, grad), None, None


def _through_normalisation(grad: Tensor, unit: Tensor, norm: Tensor) -> None:
    """The gradient of unit vectors (B, C, N) becomes, in place, that of the features: the part
    along a vector changes its length only. By hand, as autograd takes more passes and memory."""
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
    x: Tensor, channels: int, needs_a: bool, needs_r: bool, rows: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The loss of unit vectors x = (a, r) (B, N, C + C'), and the gradients that are needed.

    Args:
        channels: C, of a.
        rows: (B, M), int64, the pixels whose pairs with all pixels count; None for all pairs.
    """
    batch, n, width = x.shape
    needed = slice(0 if needs_a else channels, width if needs_r else channels)
    grad = torch.zeros_like(x[..., needed])
    total = x.new_zeros(())
    size = min(n, TILE if x.device.type == "cpu" else GPU_TILE)
    buffers = x.new_empty(2, size * size)

    def tiles(x: Tensor, grad: Tensor) -> list[tuple[Tensor, ...]]:
        sides = x[:, :channels], x[:, channels:], x[:, needed], grad
        return list(zip(*(side.split(size) for side in sides), strict=True))

    for b in range(batch):
        columns = lines = tiles(x[b], grad[b])
        if rows is not None:
            drawn = grad.new_zeros(rows.shape[1], grad.shape[2])
            lines = tiles(x[b, rows[b]], drawn)
        for i, line in enumerate(lines):
            # The tiles above the diagonal count for those below; drawn rows have no mirror images,
            # but all their tiles are counted alike.
            for column in columns[i:] if rows is None else columns:
                total += _add_tile(line, column, buffers) * (1 if line is column else 2)
        if rows is not None:
            grad[b].index_add_(0, rows[b], drawn)
    scale = 1 / (batch * n * (n if rows is None else 2 * rows.shape[1]))
    grad_a, grad_r = grad.mul_(2 * scale).tensor_split([channels if needs_a else 0], dim=2)
    return total * scale, grad_a if needs_a else None, grad_r.neg_() if needs_r else None


def _add_tile(line: tuple[Tensor, ...], column: tuple[Tensor, ...], buffers: Tensor) -> Tensor:
    """The sum of |D| over one tile; adds to the gradients of its rows and of its columns."""
    (a_i, r_i, x_i, grad_i), (a_j, r_j, x_j, grad_j) = line, column
    shape = len(a_i), len(a_j)
    difference, sign = buffers[:, : shape[0] * shape[1]].view(2, *shape)
    torch.mm(a_i, a_j.T, out=difference)
    difference -= torch.mm(r_i, r_j.T, out=sign)
    torch.sign(difference, out=sign)
    if x_i.numel():
        grad_i.addmm_(sign, x_j)
        if line is not column:
            grad_j.addmm_(sign.T, x_i)
    return difference.view(-1).dot(sign.view(-1))  # |D| = D sign(D)
