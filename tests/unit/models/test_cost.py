"""Costs of networks that can be counted by hand."""

import pytest
import torch
from torch import nn

from dsrl.config.model import Model
from dsrl.models.cost import flops, latency, parameters
from dsrl.models.dsrl import DSRL


@pytest.mark.parametrize("size", [(8, 12), (16, 12)])
def test_a_convolution_costs_two_operations_per_weight_and_place(size):
    network = nn.Sequential(nn.Conv2d(3, 7, 3, padding=1, bias=False), nn.Conv2d(7, 5, 1, stride=2))
    places = size[0] * size[1]
    assert flops(network, size) == 2 * places * 3 * 7 * 9 + 2 * places // 4 * 7 * 5
    assert parameters(network) == 3 * 7 * 9 + 7 * 5 + 5


def test_buffers_are_no_parameters():
    assert parameters(nn.BatchNorm2d(6)) == 12


def test_inference_costs_the_same_at_all_stages_and_training_costs_more():
    settings = Model(encoder="mobilenetv3_small_050", decoder_channels=16)
    first, third = DSRL(settings, 5, 1), DSRL(settings, 5, 3)
    assert flops(first.eval(), (32, 64)) == flops(third.eval(), (32, 64)) > 0
    assert flops(third.train(), (32, 64)) > flops(first.train(), (32, 64))
    assert parameters(third) > parameters(first)


def test_latency_is_that_of_one_image_in_eval_mode():
    class Slow(nn.Module):
        shapes: list[tuple[int, ...]] = []  # noqa: RUF012

        def forward(self, images):
            assert not self.training and not torch.is_grad_enabled()
            self.shapes.append(tuple(images.shape))
            # the first passes, which warm up, must not count
            for _ in range(10**6 if len(self.shapes) <= 2 else 1):
                pass

    seconds = latency(Slow().train(), (8, 12), torch.device("cpu"), runs=3)
    assert Slow.shapes == [(1, 3, 8, 12)] * 5
    assert 0 < seconds < 5e-3
