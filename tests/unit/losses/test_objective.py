"""L = L_ce + w1 L_mse + w2 L_fa, and who learns from which part of it."""

import math
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dsrl.config.sections import Loss
from dsrl.losses import feature_affinity_loss, objective
from dsrl.losses.objective import (
    class_weights,
    inverse_log_frequency,
    mean_cross_entropy,
    pool_to_stride,
)
from dsrl.models.dsrl import DSRLOutput

CLASSES, HEIGHT, WIDTH = 5, 32, 48


def output_of(stage: int) -> DSRLOutput:
    """What the network of a stage yields, as leaves."""
    generator = torch.Generator().manual_seed(0)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(2, *shape, generator=generator).requires_grad_()

    parts = [leaf(CLASSES, HEIGHT, WIDTH)]
    if stage > 1:
        parts.append(leaf(3, HEIGHT, WIDTH))
    if stage > 2:
        parts += [leaf(6, HEIGHT // 8, WIDTH // 8), leaf(6, HEIGHT // 8, WIDTH // 8)]
    return DSRLOutput(*parts)


@pytest.fixture
def labels() -> Tensor:
    labels = torch.randint(CLASSES, (2, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(1))
    labels[0, :10] = 255
    return labels


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(2))


def test_the_total_is_the_weighted_sum_of_its_parts(labels, images):
    output = output_of(3)
    losses = objective(output, labels, images, Loss(w1=0.3, w2=0.7))
    counted = labels != 255
    log_probabilities = output.logits.log_softmax(1).permute(0, 2, 3, 1)[counted]
    cross_entropy = -log_probabilities[torch.arange(len(log_probabilities)), labels[counted]].mean()
    mse = ((output.image - images) ** 2).mean()
    affinity = feature_affinity_loss(output.segmentation_features, output.super_resolution_features)
    torch.testing.assert_close(losses.cross_entropy, cross_entropy)
    torch.testing.assert_close(losses.mean_squared_error, mse)
    torch.testing.assert_close(losses.feature_affinity, affinity)
    torch.testing.assert_close(losses.total, cross_entropy + 0.3 * mse + 0.7 * affinity)
    assert affinity > 0.01


@pytest.mark.parametrize("stage", [1, 2])
def test_branches_that_a_stage_lacks_have_no_loss(labels, images, stage):
    losses = objective(output_of(stage), labels, images, Loss(w1=0.5, w2=100))
    assert losses.feature_affinity == 0
    assert (losses.mean_squared_error == 0) == (stage == 1)
    assert losses.total == losses.cross_entropy + 0.5 * losses.mean_squared_error


def test_a_batch_without_labels_is_no_loss_and_no_harm(images):
    output = output_of(1)
    labels = torch.full((2, HEIGHT, WIDTH), 255)
    losses = objective(output, labels, images, Loss())
    losses.total.backward()
    assert losses.total == 0
    assert torch.equal(output.logits.grad, torch.zeros_like(output.logits))


def padded(x: Tensor, top: int, left: int, size: tuple[int, int], value: float) -> Tensor:
    """(B, C, h, w) in a map of another size, with noise of scale `value` around it."""
    canvas = value * torch.randn(*x.shape[:2], *size)
    canvas[..., top : top + x.shape[-2], left : left + x.shape[-1]] = x
    return canvas


def test_padding_has_no_part_in_any_loss_nor_gradient(labels, images):
    plain = output_of(3)
    size, (top, left) = (HEIGHT + 24, WIDTH + 16), (8, 16)  # whole cells of the features
    small, at = (size[0] // 8, size[1] // 8), (top // 8, left // 8)
    around = [(size, (top, left))] * 2 + [(small, at)] * 2
    wide = DSRLOutput(
        *(
            padded(x.detach(), *at, size, 9).requires_grad_()
            for x, (size, at) in zip(plain, around, strict=True)
        )
    )
    wide_labels = torch.full((2, *size), 255)
    wide_labels[:, top : top + HEIGHT, left : left + WIDTH] = labels
    inside = torch.zeros(2, *size, dtype=torch.bool)
    inside[:, top : top + HEIGHT, left : left + WIDTH] = True
    expected = objective(plain, labels, images, Loss())
    found = objective(wide, wide_labels, padded(images, top, left, size, 9), Loss(), inside)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    found.total.backward()
    expected.total.backward()
    for x, y, (size, at) in zip(wide, plain, around, strict=True):
        torch.testing.assert_close(x.grad, padded(y.grad, *at, size, 0))


def test_pairs_count_alike_whichever_image_they_are_of():
    """Of images with unequal padding, the mean is over all pairs of the batch."""
    a, r = torch.randn(2, 6, 4, 8), torch.randn(2, 6, 4, 8)
    inside = torch.ones(2, 32, 64, dtype=torch.bool)
    inside[1, :, 16:] = False
    output = DSRLOutput(torch.zeros(2, CLASSES, 32, 64), torch.zeros(2, 3, 32, 64), a, r)
    labels, target = torch.full((2, 32, 64), 255), torch.zeros(2, 3, 32, 64)
    found = objective(output, labels, target, Loss(), inside).feature_affinity
    means = [
        feature_affinity_loss(a[:1], r[:1]),
        feature_affinity_loss(a[1:, :, :, :2], r[1:, :, :, :2]),
    ]
    torch.testing.assert_close(found, (32**2 * means[0] + 8**2 * means[1]) / (32**2 + 8**2))


def test_cells_that_see_any_padding_are_not_compared():
    a, r = torch.randn(1, 6, 4, 8), torch.randn(1, 6, 4, 8)
    output = DSRLOutput(torch.zeros(1, CLASSES, 32, 64), torch.zeros(1, 3, 32, 64), a, r)
    labels, target = torch.full((1, 32, 64), 255), torch.zeros(1, 3, 32, 64)
    inside = torch.ones(1, 32, 64, dtype=torch.bool)
    inside[:, 0], inside[:, :, 63] = False, False
    found = objective(output, labels, target, Loss(), inside)
    expected = feature_affinity_loss(a[:, :, 1:, :7], r[:, :, 1:, :7])
    torch.testing.assert_close(found.feature_affinity, expected)


def test_unlabelled_pixels_count_where_no_labels_are_needed(labels, images):
    output, inside = output_of(3), torch.ones(2, HEIGHT, WIDTH, dtype=torch.bool)
    known = objective(output, labels, images, Loss(), inside)
    unknown = objective(output, torch.full_like(labels, 255), images, Loss(), inside)
    assert known.mean_squared_error == unknown.mean_squared_error > 0
    assert known.feature_affinity == unknown.feature_affinity > 0


def test_ignored_pixels_do_not_thin_out_the_others():
    logits = torch.randn(1, CLASSES, 4, 4)
    labels = torch.randint(CLASSES, (1, 4, 4))
    half = labels.clone()
    half[:, 2:] = 255
    expected = F.cross_entropy(logits[:, :, :2], labels[:, :2])
    torch.testing.assert_close(mean_cross_entropy(logits, half), expected)


def test_losses_are_float32_of_a_low_precision_network(labels, images):
    output = DSRLOutput(*(part.detach().bfloat16() for part in output_of(3)))
    exact = DSRLOutput(*(part.float() for part in output))
    for found, expected in zip(
        objective(output, labels, images, Loss()),
        objective(exact, labels, images, Loss()),
        strict=True,
    ):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("detach", "learns"),
    [
        ("none", (True, True)),
        ("super_resolution", (True, False)),
        ("segmentation", (False, True)),
    ],
)
def test_fa_detach_says_which_side_learns_from_affinity(labels, images, detach, learns):
    output = output_of(3)
    losses = objective(output, labels, images, Loss(fa_detach=detach))
    losses.total.backward()
    found = tuple(
        features.grad is not None and bool(features.grad.any())
        for features in (output.segmentation_features, output.super_resolution_features)
    )
    assert found == learns
    # whatever is detached, the value stays, and both branches learn from their own loss
    assert losses.total == objective(output, labels, images, Loss()).total
    assert output.logits.grad.any() and output.image.grad.any()


@pytest.mark.parametrize("weight", ["w1", "w2"])
def test_a_weight_of_zero_switches_a_loss_off(labels, images, weight):
    output = output_of(3)
    losses = objective(output, labels, images, Loss(**{weight: 0}))
    losses.total.backward()
    off = output.image if weight == "w1" else output.segmentation_features
    on = output.segmentation_features if weight == "w1" else output.image
    assert not off.grad.any() and on.grad.any()


def test_fa_stride_pools_both_sides_before_they_are_compared(labels, images):
    output = output_of(3)
    losses = objective(output, labels, images, Loss(fa_stride=16))
    pooled = (
        F.avg_pool2d(features, 2)
        for features in (output.segmentation_features, output.super_resolution_features)
    )
    torch.testing.assert_close(losses.feature_affinity, feature_affinity_loss(*pooled))


def test_fa_rows_draws_pixels_of_the_pooled_maps(labels, images):
    output = output_of(3)
    torch.manual_seed(0)
    losses = objective(output, labels, images, Loss(fa_rows=2))
    torch.manual_seed(0)
    expected = feature_affinity_loss(
        output.segmentation_features, output.super_resolution_features, rows=2
    )
    assert losses.feature_affinity == expected
    assert expected != objective(output, labels, images, Loss()).feature_affinity


def test_class_weights_weigh_pixels_as_in_pytorch(labels, images):
    output, weights = output_of(1), inverse_log_frequency([900, 90, 10, 0])
    known = labels.where(labels == 255, labels % 4)
    logits = output.logits[:, :4]
    found = objective(output._replace(logits=logits), known, images, Loss(), None, weights)
    expected = F.cross_entropy(logits, known, weights, ignore_index=255)
    torch.testing.assert_close(found.cross_entropy, expected)
    none = objective(output._replace(logits=logits), known * 0 + 255, images, Loss(), None, weights)
    assert none.cross_entropy == 0


def test_inverse_log_frequency_is_that_of_espnet():
    shares = [0.9, 0.09, 0.01, 0.0]
    expected = [1 / math.log(1.1 + share) for share in shares]
    found = inverse_log_frequency([round(1000 * share) for share in shares])
    assert found.tolist() == pytest.approx(expected)


def test_class_weights_are_given_or_of_the_frequency():
    assert class_weights([1.0, 2.5], [7, 8]).tolist() == [1, 2.5]
    found = class_weights("inverse_log_frequency", [7, 8])
    assert torch.equal(found, inverse_log_frequency([7, 8]))
    with pytest.raises(ValueError, match="has 2 weights; the data have 3 classes"):
        class_weights([1.0, 2.5], [7, 8, 9])


@pytest.mark.parametrize(("right", "by_threshold"), [(1.5, True), (8.0, False)])
@pytest.mark.parametrize("weighed", [False, True])
def test_hard_examples_are_those_below_the_threshold_and_the_hardest_sixteenth(
    labels, images, right, by_threshold, weighed
):
    truth = labels.flatten()
    logits = output_of(1).logits.detach()
    logits += right * F.one_hot(labels % CLASSES, CLASSES).movedim(-1, 1)
    logits.requires_grad_()
    weights = torch.tensor([1.0, 2, 3, 4, 5]) if weighed else None
    output = DSRLOutput(logits)
    found = objective(output, labels, images, Loss(ohem_threshold=0.7), None, weights).cross_entropy

    probabilities = logits.detach().double().softmax(1).movedim(1, -1).reshape(-1, CLASSES)
    lost = -probabilities[torch.arange(len(truth)), truth % CLASSES].log()
    order = lost.where(truth != 255, -1).argsort(descending=True)
    below = int(((lost > -math.log(0.7)) & (truth != 255)).sum())
    assert (below > len(truth) // 16) == by_threshold
    hard = order[: below if by_threshold else len(truth) // 16]
    share = torch.ones(CLASSES) if weights is None else weights
    share = share.double()[truth[hard]]
    assert found.item() == pytest.approx(float((share * lost[hard]).sum() / share.sum()), rel=1e-5)
    found.backward()
    learning = logits.grad.abs().sum(1).flatten().nonzero().flatten()
    assert set(learning.tolist()) == set(hard.tolist())


def test_without_hard_examples_there_is_no_loss(labels, images):
    output, unlabelled = output_of(1), torch.full_like(labels, 255)
    assert objective(output, unlabelled, images, Loss(ohem_threshold=0.7)).total == 0


def test_pool_to_stride_averages_blocks():
    features = torch.randn(2, 4, 16, 24)
    for stride in (16, 32, 64):
        expected = F.avg_pool2d(features, stride // 8)
        torch.testing.assert_close(pool_to_stride(features, (128, 192), stride), expected)


def test_pool_to_stride_rounds_up_and_never_enlarges():
    features = torch.randn(1, 2, 9, 12)  # of an output of 66x94
    assert pool_to_stride(features, (66, 94), 8) is features
    assert pool_to_stride(features, (66, 94), 16).shape == (1, 2, 5, 6)
    assert pool_to_stride(features, (660, 940), 16) is features
    assert pool_to_stride(features, (66, 94), 1000).shape == (1, 2, 1, 1)


PARTS_OF_A_BATCH = """
import sys
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from dsrl.config.model import Model
from dsrl.config.sections import Loss
from dsrl.losses import objective
from dsrl.models.dsrl import DSRL
from dsrl.training.state import batch_norms

torch.manual_seed(0)
network = DSRL(Model(encoder="mobilenetv3_small_050", decoder_channels=16), 5, 3).train()
for norm in batch_norms(network):
    norm.eval()
images, target = torch.randn(4, 3, 32, 48), torch.randn(4, 3, 64, 96)
labels, inside = torch.randint(5, (4, 64, 96)), torch.ones(4, 64, 96, dtype=torch.bool)
labels[0], labels[1, 9:], labels[3, :, :7] = 255, 255, 255
inside[1, :, 40:], inside[2, :30] = False, False
weights = torch.tensor([1.0, 2.0, 0.5, 4.0, 1.5])

def trained(model, part):
    parts = (x[part] for x in (labels, target))
    losses = objective(model(images[part]), *parts, Loss(w2=1.0), inside[part], weights)
    losses.total.backward()
    values = torch.stack(losses).detach()
    gradients = [p.grad.flatten() for p in network.parameters()]
    network.zero_grad()
    return values, torch.cat(gradients)

expected = trained(network, slice(None))
dist.init_process_group("gloo")
rank = dist.get_rank()
found = trained(DistributedDataParallel(network), slice(2 * rank, 2 * rank + 2))
dist.all_reduce(found[0])
torch.testing.assert_close(found[0] / 2, expected[0], rtol=1e-5, atol=1e-6)
torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=1e-6)
assert found[1].abs().max() > 1e-3
"""


def test_two_processes_learn_what_one_does_with_the_whole_batch(tmp_path):
    """Though labels and padding are divided unequally. Batch norm is frozen."""
    script = tmp_path / "script.py"
    script.write_text(PARTS_OF_A_BATCH)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
