"""Schedules of learning rates."""

import pytest

from zoo.blocks.rates import falling_rate


@pytest.mark.parametrize(
    ("iteration", "factor"), [(0, 1.0), (100, 1.0), (150, 0.75), (200, 0.5), (299, 0.005), (300, 0.0), (999, 0.0)]
)
def test_the_rate_falls_on_a_line_after_its_beginning(iteration: int, factor: float) -> None:
    assert falling_rate(100, 200, iteration) == pytest.approx(factor)


@pytest.mark.parametrize("iteration", [0, 100, 10**6])
def test_without_a_length_the_rate_stays(iteration: int) -> None:
    assert falling_rate(100, 0, iteration) == 1.0
