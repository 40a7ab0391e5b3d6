"""Perceptual path length: its parts against what they are defined by."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor

from zoo.core.draws import Draws
from zoo.errors import ZooError
from zoo.metrics.path_length import averaged_down, cropped, filtered_mean, path_distances, slerp


class Linear:
    """Paints a code as a picture of its numbers: paths through w are straight, and as long as their ends are apart."""

    latent_channels = 4

    def __init__(self) -> None:
        self.draws = Draws()

    @contextmanager
    def aside(self, *moment: int | str) -> Iterator[None]:
        with torch.no_grad(), self.draws.aside(*moment):
            yield

    def map_latent(self, latent: Tensor) -> Tensor:
        return 2 * latent

    def noise_maps(self, count: int = 1) -> list[Tensor]:
        return []

    def decode(self, codes: Tensor, *, noise: list[Tensor]) -> Tensor:
        return codes.double().view(-1, 1, 2, 2)


def squared(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().sum((1, 2, 3))


def test_a_straight_path_is_as_long_as_its_ends_are_apart() -> None:
    model = Linear()
    for sampling in ("full", "end"):
        found = path_distances(model, squared, samples=6, minibatch=3, epsilon=1e-3, sampling=sampling, crop="none")
        with model.draws.aside("path_length", "w", sampling):
            latents = []
            for _ in range(2):
                latents.append(model.draws.normal("path_latent", (6, 4)))
                model.draws.uniform("path_share", (3,))
        wanted = torch.cat([(2 * (z[0::2] - z[1::2])).square().sum(1) for z in latents]) * 127.5**2
        torch.testing.assert_close(found, wanted.double(), rtol=1e-2, atol=0)


def test_great_circles() -> None:
    a, b = torch.tensor([[2.0, 0, 0]]), torch.tensor([[0, 3.0, 0]])
    for share in (0.0, 0.25, 1.0):
        angle = share * math.pi / 2
        wanted = torch.tensor([[math.cos(angle), math.sin(angle), 0]])
        torch.testing.assert_close(slerp(a, b, torch.tensor([[share]])), wanted)
    found = path_distances(Linear(), squared, samples=4, minibatch=2, space="z", crop="none")
    assert found.shape == (4,)
    assert bool((found > 0).all())


def test_crops_and_means() -> None:
    image = torch.arange(64.0).view(1, 1, 8, 8)
    assert torch.equal(cropped(image, "face"), image[:, :, 3:7, 2:6])
    wide = torch.zeros(1, 1, 128, 128)
    wide[:, :, 41:119, 25:103] = 1
    assert torch.equal(cropped(wide, "celeba"), torch.ones(1, 1, 78, 78))
    assert cropped(torch.zeros(1, 1, 16, 16), "celeba").shape[2:] == (8, 8)  # a half of 4.9 pixels is one of 4
    assert cropped(image, "none") is image
    assert averaged_down(torch.zeros(1, 3, 512, 512)).shape[2:] == (256, 256)
    assert averaged_down(image).shape == image.shape


@pytest.mark.parametrize("count", [1, 5, 100, 1001])
def test_outliers_are_those_that_numpy_finds(count: int) -> None:
    distances = np.random.default_rng(count).exponential(size=count)
    low = np.percentile(distances, 1, method="lower")
    high = np.percentile(distances, 99, method="higher")
    wanted = distances[(low <= distances) & (distances <= high)].mean()
    assert filtered_mean(torch.from_numpy(distances)) == pytest.approx(wanted, rel=1e-12)


def test_numbers_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ZooError, match="minibatches of 8"):
        path_distances(Linear(), squared, samples=4, minibatch=8)
