"""Feature affinity equals the paper's N x N matrices written out, and never holds them."""

import sys
from functools import partial
from itertools import combinations
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dsrl.losses import feature_affinity_loss

MODULE = sys.modules["dsrl.losses.feature_affinity"]

# B, C of segmentation, C of super-resolution, H, W
SHAPES = [(2, 5, 3, 6, 7), (1, 3, 8, 5, 5), (3, 4, 4, 1, 1), (2, 1, 6, 1, 9), (1, 16, 16, 30, 40)]


def reference(a: Tensor, r: Tensor) -> Tensor:
    """Eq. 2 to 4 of the paper, with both matrices in memory."""

    def similarities(x: Tensor) -> Tensor:
        x = x.flatten(2)
        x = x / x.norm(dim=1, keepdim=True)
        return x.transpose(1, 2) @ x

    return (similarities(a) - similarities(r)).abs().mean()


def maps(shape, dtype=torch.float64, seed=0) -> tuple[Tensor, Tensor]:
    batch, c_a, c_r, height, width = shape
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(batch, c, height, width, dtype=dtype, generator=generator).requires_grad_()
        for c in (c_a, c_r)
    )


def value_and_gradients(function, a, r) -> tuple[Tensor, ...]:
    loss = function(a, r)
    return loss.detach(), *torch.autograd.grad(3 * loss, (a, r))


@pytest.mark.parametrize("tile", [512, 1, 4])
@pytest.mark.parametrize("shape", SHAPES[:4])
def test_value_and_both_gradients_are_exact_whatever_the_tile(monkeypatch, shape, tile):
    monkeypatch.setattr(MODULE, "TILE", tile)
    for found, expected in zip(
        value_and_gradients(feature_affinity_loss, *maps(shape)),
        value_and_gradients(reference, *maps(shape)),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)


def test_more_pixels_than_a_tile_and_no_multiple_of_it():
    shape = SHAPES[4]
    assert shape[3] * shape[4] > MODULE.TILE and shape[3] * shape[4] % MODULE.TILE
    for found, expected in zip(
        value_and_gradients(feature_affinity_loss, *maps(shape)),
        value_and_gradients(reference, *maps(shape)),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("tile", [512, 2])
def test_the_mean_over_all_choices_of_rows_is_the_exact_loss_and_gradient(monkeypatch, tile):
    monkeypatch.setattr(MODULE, "TILE", tile)
    shape, rows = (1, 3, 4, 2, 3), 3
    exact = value_and_gradients(feature_affinity_loss, *maps(shape))
    found = []
    for choice in combinations(range(6), rows):
        order = torch.tensor([*choice, *(set(range(6)) - set(choice))])
        monkeypatch.setattr(torch, "randperm", lambda n, order=order: order)
        found.append(value_and_gradients(partial(feature_affinity_loss, rows=rows), *maps(shape)))
    assert not torch.allclose(found[0][0], exact[0])
    for estimates, expected in zip(zip(*found, strict=True), exact, strict=True):
        torch.testing.assert_close(torch.stack(estimates).mean(0), expected, rtol=1e-10, atol=1e-13)


def test_drawn_rows_are_those_of_the_generator_and_differ_between_images():
    a, r = maps((1, 3, 4, 5, 6))
    a, r = (x.detach().expand(2, -1, -1, -1) for x in (a, r))
    torch.manual_seed(0)
    states = [(torch.get_rng_state(), feature_affinity_loss(a, r, rows=4)) for _ in range(2)]
    assert states[0][1] != states[1][1]
    for state, loss in states:
        torch.set_rng_state(state)
        assert feature_affinity_loss(a, r, rows=4) == loss
        torch.set_rng_state(state)
        assert feature_affinity_loss(a[:1], r[:1], rows=4) != loss


@pytest.mark.parametrize("rows", [42, 100])
def test_as_many_rows_as_pixels_are_all_pairs_and_draw_nothing(rows):
    state = torch.get_rng_state()
    for found, expected in zip(
        value_and_gradients(partial(feature_affinity_loss, rows=rows), *maps(SHAPES[0])),
        value_and_gradients(feature_affinity_loss, *maps(SHAPES[0])),
        strict=True,
    ):
        assert torch.equal(found, expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_gradcheck(monkeypatch):
    monkeypatch.setattr(MODULE, "TILE", 4)
    assert torch.autograd.gradcheck(feature_affinity_loss, maps((2, 3, 4, 2, 3)))


def test_equal_maps_have_no_loss():
    a, _ = maps((2, 32, 32, 8, 8))
    for dtype in (torch.float64, torch.float32):
        x = a.detach().to(dtype).requires_grad_()
        loss, *gradients = value_and_gradients(
            feature_affinity_loss, x, x.detach().clone().requires_grad_()
        )
        assert loss == 0 and not any(gradient.any() for gradient in gradients), "exactly"
    a = a.float()
    # nor have maps whose pixels differ in length only
    assert feature_affinity_loss(a, a * (1 + torch.rand(2, 1, 8, 8))) < 1e-6


def test_all_pairs_count_not_only_those_of_one_row():
    # One pixel, in one corner, differs from all others in one map: 2 (N - 1) of N^2 pairs.
    a = torch.zeros(1, 2, 4, 5)
    a[:, 0] = 1
    r = a.clone()
    r[0, :, 3, 4] = torch.tensor([0.0, 1.0])
    assert feature_affinity_loss(a, r).item() == pytest.approx(2 * 19 / 400)


@pytest.mark.parametrize("side", [0, 1])
def test_zero_vectors_are_similar_to_nothing_and_do_no_harm(side):
    pair = list(maps((1, 4, 4, 3, 3), torch.float32))
    pair[side] = pair[side].detach().clone()
    pair[side][:, :, 1] = 0
    pair[side].requires_grad_()
    loss, *gradients = value_and_gradients(feature_affinity_loss, *pair)
    assert loss.isfinite() and all(gradient.isfinite().all() for gradient in gradients)
    zeros = torch.zeros(1, 4, 3, 3, requires_grad=True)
    loss, *gradients = value_and_gradients(feature_affinity_loss, zeros, zeros.clone())
    assert loss == 0 and all(gradient.isfinite().all() for gradient in gradients)


def test_vectors_shorter_than_epsilon_are_divided_by_a_constant():
    def normalised(a: Tensor, r: Tensor) -> Tensor:
        a, r = (F.normalize(x.flatten(2), dim=1, eps=MODULE.EPSILON) for x in (a, r))
        return (a.mT @ a - r.mT @ r).abs().mean()

    pair = maps(SHAPES[0])
    with torch.no_grad():
        for x in pair:
            x[..., ::2] *= 1e-8
    for found, expected in zip(
        value_and_gradients(feature_affinity_loss, *pair),
        value_and_gradients(normalised, *pair),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("side", [0, 1])
def test_a_detached_side_changes_nothing_for_the_other(side):
    full = value_and_gradients(feature_affinity_loss, *maps(SHAPES[0]))
    pair = list(maps(SHAPES[0]))
    source = pair[side]
    pair[side] = source.detach()
    loss = feature_affinity_loss(*pair)
    (3 * loss).backward()
    assert source.grad is None
    torch.testing.assert_close(loss, full[0])
    torch.testing.assert_close(pair[1 - side].grad, full[2 - side])


def test_without_gradients_the_value_is_the_same():
    a, r = maps(SHAPES[0])
    with torch.no_grad():
        loss = feature_affinity_loss(a, r)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, feature_affinity_loss(a, r).detach())


@pytest.mark.parametrize("detached", [True, False])
def test_a_second_derivative_is_refused(detached):
    a, r = maps(SHAPES[0])
    loss = feature_affinity_loss(a, r.detach() if detached else r)
    (gradient,) = torch.autograd.grad(loss, a, create_graph=True)
    with pytest.raises(RuntimeError, match="twice"):
        gradient.sum().backward()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_maps_are_compared_in_float32(dtype):
    a, r = (x.detach().to(dtype).requires_grad_() for x in maps(SHAPES[0]))
    expected = value_and_gradients(
        feature_affinity_loss,
        a.detach().float().requires_grad_(),
        r.detach().float().requires_grad_(),
    )
    found = value_and_gradients(feature_affinity_loss, a, r)
    assert found[0].dtype == torch.float32 and found[0] == expected[0]
    for gradient, exact in zip(found[1:], expected[1:], strict=True):
        assert gradient.dtype == dtype
        torch.testing.assert_close(gradient, exact.to(dtype))


def test_autocast_does_not_lower_the_precision():
    a, r = maps(SHAPES[0], torch.float32)
    expected = value_and_gradients(feature_affinity_loss, a, r)
    with torch.autocast("cpu", torch.bfloat16):
        found = value_and_gradients(feature_affinity_loss, a, r)
        mixed = feature_affinity_loss(a.bfloat16(), r)
    assert found[0].dtype == mixed.dtype == torch.float32
    assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))
    torch.testing.assert_close(mixed, feature_affinity_loss(a.bfloat16().float(), r))


def test_two_runs_agree_bit_for_bit():
    shape = (2, 8, 8, 30, 40)
    first = value_and_gradients(feature_affinity_loss, *maps(shape, torch.float32))
    second = value_and_gradients(feature_affinity_loss, *maps(shape, torch.float32))
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


def test_memory_layout_does_not_matter():
    a, r = maps(SHAPES[0])
    strided = (x.detach().to(memory_format=torch.channels_last).requires_grad_() for x in (a, r))
    for x, y in zip(
        value_and_gradients(feature_affinity_loss, *strided),
        value_and_gradients(feature_affinity_loss, a, r),
        strict=True,
    ):
        torch.testing.assert_close(x, y)


@pytest.mark.parametrize(
    "shapes",
    [
        ((2, 4, 3, 3), (2, 4, 3, 4)),
        ((2, 4, 3, 3), (2, 4, 4, 3)),
        ((2, 4, 3, 3), (1, 4, 3, 3)),
        ((4, 3, 3), (4, 3, 3)),
        ((2, 4, 9), (2, 4, 9)),
        ((2, 4, 3, 4), (2, 4, 4, 3)),
    ],
)
def test_maps_that_do_not_fit_are_refused(shapes):
    with pytest.raises(ValueError, match="feature affinity needs two maps"):
        feature_affinity_loss(*(torch.zeros(shape) for shape in shapes))


def peak_memory() -> int:
    """Bytes, since /proc/self/clear_refs was last told to forget."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def test_no_matrix_of_all_pairs_is_ever_in_memory():
    # 16384 pixels: one such matrix would take 1 GiB; the maps take 256 KiB each.
    a, r = maps((1, 4, 4, 128, 128), torch.float32)
    feature_affinity_loss(a[..., :8, :8], r[..., :8, :8]).backward()
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_memory()
    feature_affinity_loss(a, r).backward()
    assert peak_memory() - before < 64 * 2**20
