"""The poly schedule at points that can be computed by hand."""

from itertools import pairwise

import pytest

from dsrl.training.schedule import poly


def test_ends_and_middle():
    assert poly(0, 10, 0.01, 0.001, 0.9) == pytest.approx(0.01, rel=1e-12)
    assert poly(10, 10, 0.01, 0.001, 0.9) == 0.001
    assert poly(5, 10, 0.5, 0.0, 2) == 0.125
    assert poly(5, 10, 0.5, 0.1, 2) == pytest.approx(0.1 + 0.4 / 4)
    assert poly(1, 4, 1.0, 0.0, 0.9) == pytest.approx(0.75**0.9)


def test_power_one_is_a_straight_line():
    rates = [poly(step, 8, 1.0, 0.2, 1) for step in range(9)]
    assert rates == pytest.approx([1 - 0.1 * step for step in range(9)])


def test_it_falls_at_every_step_and_reaches_the_end():
    rates = [poly(step, 100, 0.01, 0.0, 0.9) for step in range(101)]
    assert all(later < earlier for earlier, later in pairwise(rates))
    assert rates[-1] == 0
