"""Feature affinity as one Triton kernel, for CUDA; notation as in `feature_affinity`.

One program owns the rows I of one image: it keeps a_I and r_I on the chip and loops over all blocks
of columns J, as FlashAttention loops over keys. For each it computes the tile

    D_IJ = A_I A_J^T - R_I R_J^T,    G_IJ = sign(D_IJ),

and adds |D_IJ| to its share of the loss, G_IJ A_J and -G_IJ R_J to the gradients of its rows. A
program writes its own rows only, so there are no atomics and the result is deterministic; the price
is that the symmetry of D is not used. Forward and both gradients take 4 B N^2 (C + C')
floating-point operations in matrix products. Tiles never leave the chip, so memory traffic is
B N (C + C') times the number of row blocks, and the kernel is bound by the matrix units.

Rows and channels beyond the end are loaded as zeros, so D and its sign are 0 there.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.runtime.errors import OutOfResources

# Of both sides together, padded; the sums of more do not fit into the registers.
MAX_CHANNELS = {torch.float32: 256, torch.bfloat16: 512}
# Rows and columns of a tile and stages of its pipeline, the fastest first. The shared memory that a
# tile needs also depends on the GPU generation, so the first that can be launched is used; the last
# fits into the 99 KiB of consumer GPUs. Products in 3xTF32 need more registers.
TILINGS = {
    torch.float32: ((32, 32, 1), (16, 32, 1)),
    torch.bfloat16: ((64, 64, 2), (64, 32, 2), (32, 32, 1)),
}
WARPS = 8


# Triton compiles the function; its arguments are pointers and numbers, which have no Python types.
@triton.jit
def _rows(  # type: ignore[no-untyped-def]
    a, r, grad_a, grad_r, losses, n, a_channels, r_channels,
    NEEDS_A: tl.constexpr, NEEDS_R: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    A_WIDTH: tl.constexpr, R_WIDTH: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Loss and gradients of one block of rows of one image."""
    block, image = tl.program_id(0), tl.program_id(1).to(tl.int64)
    a_channel, r_channel = tl.arange(0, A_WIDTH)[None, :], tl.arange(0, R_WIDTH)[None, :]
    i = block * ROWS + tl.arange(0, ROWS)[:, None]
    a_at = image * n * a_channels + i * a_channels + a_channel
    r_at = image * n * r_channels + i * r_channels + r_channel
    a_inside, r_inside = (i < n) & (a_channel < a_channels), (i < n) & (r_channel < r_channels)
    a_i = tl.load(a + a_at, mask=a_inside, other=0.0)
    r_i = tl.load(r + r_at, mask=r_inside, other=0.0)
    loss = tl.zeros((ROWS,), tl.float32)
    sum_a = tl.zeros((ROWS, A_WIDTH), tl.float32)
    sum_r = tl.zeros((ROWS, R_WIDTH), tl.float32)
    for start in range(0, n, COLUMNS):
        j = start + tl.arange(0, COLUMNS)[:, None]
        a_j = tl.load(
            a + image * n * a_channels + j * a_channels + a_channel,
            mask=(j < n) & (a_channel < a_channels),
            other=0.0,
        )
        r_j = tl.load(
            r + image * n * r_channels + j * r_channels + r_channel,
            mask=(j < n) & (r_channel < r_channels),
            other=0.0,
        )
        d = tl.dot(a_i, tl.trans(a_j), input_precision=PRECISION)
        d -= tl.dot(r_i, tl.trans(r_j), input_precision=PRECISION)
        loss += tl.sum(tl.abs(d), axis=1)
        sign = tl.where(d > 0, 1.0, tl.where(d < 0, -1.0, 0.0)).to(a_j.dtype)
        if NEEDS_A:
            sum_a += tl.dot(sign, a_j, input_precision=PRECISION)
        if NEEDS_R:
            sum_r -= tl.dot(sign, r_j, input_precision=PRECISION)
    tl.store(losses + image * tl.num_programs(0) + block, tl.sum(loss))
    if NEEDS_A:
        tl.store(grad_a + a_at, sum_a, mask=a_inside)
    if NEEDS_R:
        tl.store(grad_r + r_at, sum_r, mask=r_inside)


def fused(
    a: Tensor, r: Tensor, needs_a: bool, needs_r: bool
) -> tuple[Tensor, Tensor | None, Tensor | None] | None:
    """The loss of unit vectors a (B, N, C), r (B, N, C'), and the gradients that are needed.

    Args:
        a, r: of one dtype, float32 or bfloat16. Products of float32 are computed as 3xTF32,
            which loses almost no precision; sums are float32 in either case.

    Returns:
        The loss and the gradients, float32. None if the kernel cannot be used: the features are
        float64 or have too many channels, the GPU is older than Ampere or not NVIDIA's, or no tile
        fits into its shared memory.
    """
    if width(a) + width(r) > MAX_CHANNELS.get(a.dtype, 0):
        return None
    if a.is_cuda and (torch.version.hip or torch.cuda.get_device_capability(a.device) < (8, 0)):
        return None
    a, r = a.contiguous(), r.contiguous()
    batch, n, _ = a.shape
    grad_a = torch.empty_like(a, dtype=torch.float32) if needs_a else None
    grad_r = torch.empty_like(r, dtype=torch.float32) if needs_r else None
    for rows, columns, stages in TILINGS[a.dtype]:
        blocks = triton.cdiv(n, rows)
        losses = torch.empty(batch, blocks, device=a.device)
        try:
            with torch.cuda.device_of(a):  # Triton launches on the current device
                _rows[(blocks, batch)](
                    a, r, grad_a, grad_r, losses, n, a.shape[2], r.shape[2],
                    NEEDS_A=needs_a, NEEDS_R=needs_r, ROWS=rows, COLUMNS=columns,
                    A_WIDTH=width(a), R_WIDTH=width(r), PRECISION=precision(a.dtype),
                    num_warps=WARPS, num_stages=stages,
                )  # fmt: skip
        except OutOfResources:
            continue
        scale = 1 / (batch * n * n)
        for grad in (grad_a, grad_r):
            if grad is not None:
                grad.mul_(2 * scale)
        return losses.double().sum().float() * scale, grad_a, grad_r
    return None


def width(features: Tensor) -> int:
    """Channels, padded for the matrix units: a power of two, at least 16."""
    return max(16, triton.next_power_of_2(features.shape[2]))


def precision(dtype: torch.dtype) -> str:
    """Triton's `input_precision` for products of this dtype; it has no effect on bfloat16."""
    return "tf32x3" if dtype == torch.float32 else "tf32"
