"""Distances of pictures that need no network."""

import pytest
import torch
from torch import Tensor

from zoo.blocks.distances import PIXEL_DISTANCES, l1_distance, l2_distance, ssim_distance


def noise(seed: int) -> Tensor:
    return torch.rand(2, 3, 24, 20, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize("name", PIXEL_DISTANCES)
def test_they_are_symmetric_positive_and_zero_for_equal_pictures(name: str) -> None:
    distance, one, other = PIXEL_DISTANCES[name], noise(0), noise(1)
    assert float(distance(one, one)) == pytest.approx(0, abs=1e-9)
    assert float(distance(one, other)) == pytest.approx(float(distance(other, one)))
    assert float(distance(one, other)) > float(distance(one, 0.9 * one + 0.1 * other)) > 0


def test_values_by_hand() -> None:
    one, other = torch.zeros(1, 1, 1, 2), torch.tensor([[[[0.5, -1.0]]]])
    assert float(l1_distance(one, other)) == 0.75
    assert float(l2_distance(one, other)) == 0.625


def test_ssim_by_its_definition() -> None:
    """Flat pictures have no structure, so only the means' term is left; a negative has the opposite structure."""
    grey, white = torch.zeros(1, 1, 24, 24, dtype=torch.float64), torch.ones(1, 1, 24, 24, dtype=torch.float64)
    means = (2 * 0.5 * 1.0 + 0.01**2) / (0.5**2 + 1.0**2 + 0.01**2)
    assert float(ssim_distance(grey, white)) == pytest.approx(1 - means, rel=1e-6)
    assert float(ssim_distance(noise(0), -noise(0))) > 1


def test_halves_are_compared_in_full_precision() -> None:
    one, other = noise(0).bfloat16(), noise(1).bfloat16()
    for distance in PIXEL_DISTANCES.values():
        value = distance(one, other)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, distance(one.float(), other.float()))
