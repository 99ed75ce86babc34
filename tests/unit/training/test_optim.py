"""The learning rate at points that can be computed by hand; what is optimised."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from dsrl.config.sections import Training
from dsrl.training.optim import build_optimizer, poly_schedule


def rates(steps: int, **settings: float) -> list[float]:
    """Learning rates of the steps, and the one after the last."""
    training = Training(**settings)
    optimizer = build_optimizer(nn.Linear(2, 2), training)
    schedule = poly_schedule(optimizer, training, steps)
    found = []
    for _ in range(steps + 1):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_ends_and_middle():
    found = rates(10, learning_rate=0.01, end_learning_rate=0.001)
    assert found[0] == pytest.approx(0.01, rel=1e-12)
    assert found[10] == pytest.approx(0.001, rel=1e-12)
    assert rates(10, learning_rate=0.5, poly_power=2)[5] == pytest.approx(0.125)
    middle = rates(10, learning_rate=0.5, end_learning_rate=0.1, poly_power=2)[5]
    assert middle == pytest.approx(0.1 + 0.4 / 4)
    assert rates(4, learning_rate=1.0, poly_power=0.9)[1] == pytest.approx(0.75**0.9)


def test_power_one_is_a_straight_line():
    found = rates(8, learning_rate=1.0, end_learning_rate=0.2, poly_power=1)
    assert found == pytest.approx([1 - 0.1 * step for step in range(9)])


def test_it_falls_at_every_step_and_reaches_the_end():
    found = rates(100, learning_rate=0.01)
    assert all(later < earlier for earlier, later in pairwise(found))
    assert found[-1] == 0


def test_a_parameter_group_keeps_its_own_rate():
    training = Training(learning_rate=0.1, end_learning_rate=0.01, poly_power=1)
    network = nn.Linear(2, 2)
    groups = [{"params": [network.weight]}, {"params": [network.bias], "lr": 1.0}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    schedule = poly_schedule(optimizer, training, 2)
    optimizer.step()
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.055, 0.55])


def test_norms_and_biases_decay_unless_told_otherwise():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.PReLU(4))
    settings = Training(weight_decay=0.5)
    assert [g["weight_decay"] for g in build_optimizer(network, settings).param_groups] == [0.5]
    settings = Training(weight_decay=0.5, decay_norm_and_bias=False, momentum=0.0)
    optimizer = build_optimizer(network, settings)
    before = [p.detach().clone() for p in network.parameters()]
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    decayed = {
        name
        for (name, p), old in zip(network.named_parameters(), before, strict=True)
        if not torch.equal(p, old)
    }
    assert decayed == {"0.weight"}


def test_a_trained_encoder_has_a_learning_rate_of_its_own():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1))
    settings = Training(learning_rate=0.2, encoder_learning_rate_factor=0.1)
    assert [g["lr"] for g in build_optimizer(network, settings).param_groups] == [0.2]
    slow, fast = build_optimizer(network, settings, network[0]).param_groups
    assert (slow["lr"], slow["params"]) == (pytest.approx(0.02), list(network[0].parameters()))
    assert (fast["lr"], fast["params"]) == (0.2, list(network[1].parameters()))


def test_what_is_frozen_is_not_optimised():
    network = nn.Linear(2, 2)
    network.bias.requires_grad_(False)
    (group,) = build_optimizer(network, Training(momentum=0.8, weight_decay=1e-3)).param_groups
    assert group["params"] == [network.weight]
    assert (group["momentum"], group["weight_decay"]) == (0.8, 1e-3)
