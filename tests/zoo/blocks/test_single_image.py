"""What single-image rooms share, where the recorded numbers say nothing of it."""

import pytest
import torch

from zoo.blocks.single_image import blend, pixel_diversity, shrink_factor, walk


def test_a_walk_is_drawn_back_and_keeps_its_velocity() -> None:
    fixed, now, before, noise = torch.zeros(1), torch.ones(1), torch.zeros(1), torch.full((1,), 4.0)
    assert walk(fixed, now, before, noise, alpha=1.0, beta=0.5) == 0  # drawn back all the way
    assert walk(fixed, now, before, noise, alpha=0.0, beta=1.0) == 2  # goes on as it went
    assert walk(fixed, now, before, noise, alpha=0.0, beta=0.0) == 5  # noise alone
    assert walk(fixed, now, before, noise, alpha=0.5, beta=0.5) == 0.5 * (1 + 0.5 + 2)


def test_diversity_counts_deviations_of_pixels() -> None:
    picture = torch.rand(1, 3, 8, 9)
    assert pixel_diversity([picture] * 4, picture) == 0
    shifted = [picture, picture.roll(1, 3), picture.roll(2, 3)]
    assert 0.3 < pixel_diversity(shifted, picture) < 1.5
    assert pixel_diversity(shifted, 2 * picture) == pytest.approx(float(pixel_diversity(shifted, picture)) / 2)


def test_pictures_are_shrunk_and_never_enlarged() -> None:
    assert shrink_factor((100, 500), 250) == 0.5
    assert shrink_factor((100, 200), 250) == 1.0
    one, two = torch.ones(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    assert torch.equal(blend(torch.full((1, 1, 2, 2), 0.25), one, two), torch.full((1, 3, 2, 2), 0.25))
