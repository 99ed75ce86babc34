"""The CUDA kernel against float64: run by Triton's interpreter here, on the GPU where there is one.

The interpreter executes the kernel's own source on the CPU, in float32; it shows that the kernel
computes the right thing, not how fast, nor how bfloat16 rounds.
"""

import os
import subprocess
import sys
from importlib import import_module

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("triton")

# Bytes of shared memory that a program may have, by compute capability (CUDA programming guide).
SHARED_MEMORY = {80: 163 * 1024, 90: 227 * 1024}
CONSUMER = 99 * 1024  # of 8.6 and 8.9, whose code is that of 8.0

SHAPES = [  # batch, pixels, channels of a side, of the other
    (1, 1, 1, 1),
    (2, 77, 5, 19),
    (1, 130, 32, 17),
    (2, 65, 64, 3),
    (1, 200, 100, 65),
]


def reference(x: torch.Tensor, y: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Loss and gradients of raw features (B, N, C), in float64, at the normalised features as
    `dtype` rounds them: near 0, rounding decides the sign of a difference of affinities."""

    def rounded(f: torch.Tensor) -> torch.Tensor:
        exact = F.normalize(f, dim=2)
        return exact + (F.normalize(f.float(), dim=2).to(dtype).double() - exact).detach()

    x, y = (f.double().detach().requires_grad_() for f in (x, y))
    a, r = rounded(x), rounded(y)
    loss = (a @ a.mT - r @ r.mT).abs().mean()
    loss.backward()
    return loss.detach(), x.grad, y.grad


def kernel(x: torch.Tensor, y: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """The same by the kernel; its gradients are taken back through the normalisation."""
    from dsrl.losses.feature_affinity_triton import fused

    x, y = (f.detach().requires_grad_() for f in (x, y))
    a, r = (F.normalize(f, dim=2) for f in (x, y))
    loss, grad_a, grad_r = fused(a.detach().to(dtype), r.detach().to(dtype), True, True)
    torch.autograd.backward([a, r], [grad_a, grad_r])
    return loss, x.grad, y.grad


def check(device: str, dtype: torch.dtype, tolerance: float) -> None:
    """Every shape agrees with float64; a gradient that is not needed is not made."""
    torch.manual_seed(0)
    for batch, n, c, d in SHAPES:
        x = torch.randn(batch, n, c, device=device).relu()
        y = torch.randn(batch, n, d, device=device)
        for found, wanted in zip(kernel(x, y, dtype), reference(x, y, dtype), strict=True):
            error = (found - wanted).norm()
            assert error <= tolerance * wanted.norm() + 1e-9, (batch, n, c, d, float(error))
    from dsrl.losses.feature_affinity_triton import fused

    a, r = F.normalize(x, dim=2).to(dtype), F.normalize(y, dim=2).to(dtype)
    _, both_a, both_r = fused(a, r, True, True)
    _, none_a, only_r = fused(a, r, False, True)
    assert none_a is None
    assert torch.equal(only_r, both_r)
    assert torch.equal(fused(a, r, True, False)[1], both_a)
    assert fused(a, r, False, False)[1:] == (None, None)


def test_kernel_source_agrees_with_float64() -> None:
    """In a process of its own: the interpreter must be chosen before the kernel is defined."""
    done = subprocess.run(
        [sys.executable, __file__],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def shared_memory(capability: int, dtype: torch.dtype, tiling: tuple[int, int, int]) -> int:
    """Bytes that the kernel takes for the widest features, compiled for a GPU that is not there."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from dsrl.losses import feature_affinity_triton as module

    rows, columns, stages = tiling
    width = module.MAX_CHANNELS[dtype] // 2
    constants = {
        "NEEDS_A": True, "NEEDS_R": True, "ROWS": rows, "COLUMNS": columns,
        "A_WIDTH": width, "R_WIDTH": width, "PRECISION": module.precision(dtype),
    }  # fmt: skip
    features = "*fp32" if dtype == torch.float32 else "*bf16"
    types = {"a": features, "r": features, "grad_a": "*fp32", "grad_r": "*fp32", "losses": "*fp32"}
    types |= {"n": "i32", "a_channels": "i32", "r_channels": "i32"}
    compiled = compile(
        ASTSource(module._rows, types | dict.fromkeys(constants, "constexpr"), constants),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": module.WARPS, "num_stages": stages},
    )
    assert compiled.asm["cubin"]
    return compiled.metadata.shared


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("capability", SHARED_MEMORY)
def test_widest_features_fit_every_gpu(capability: int, dtype: torch.dtype) -> None:
    """On a data centre's GPU the first tile can be launched, on any other the last."""
    from dsrl.losses.feature_affinity_triton import TILINGS

    assert shared_memory(capability, dtype, TILINGS[dtype][0]) <= SHARED_MEMORY[capability]
    assert shared_memory(capability, dtype, TILINGS[dtype][-1]) <= CONSUMER


@pytest.mark.parametrize(("channels", "dtype"), [(300, torch.bfloat16), (8, torch.float64)])
def test_what_the_kernel_cannot_take_is_left_to_the_tiled_form(channels, dtype) -> None:
    from dsrl.losses.feature_affinity_triton import fused

    features = torch.zeros(1, 4, channels, dtype=dtype)
    assert fused(features, features, True, True) is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="Triton starts where there is a GPU")
def test_where_triton_does_not_start_the_tiled_form_is_used() -> None:
    """As it does not without a C compiler, or, here, without a GPU: told, and not in stage 3."""
    form = import_module("dsrl.losses.feature_affinity")._triton_form.__wrapped__
    with pytest.warns(UserWarning, match="feature affinity is slower, as Triton does not start: "):
        assert form() is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_compiled_kernel_agrees_with_float64(dtype: torch.dtype) -> None:
    check("cuda", dtype, 1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_loss_on_cuda_equals_that_on_cpu() -> None:
    from dsrl.losses import feature_affinity_loss

    torch.manual_seed(0)
    maps = [torch.randn(2, channels, 9, 15) for channels in (48, 32)]
    on_gpu = feature_affinity_loss(*(m.cuda() for m in maps))
    assert float(on_gpu) == pytest.approx(float(feature_affinity_loss(*maps)), rel=1e-4)


if __name__ == "__main__":
    check("cpu", torch.float32, 1e-3)
