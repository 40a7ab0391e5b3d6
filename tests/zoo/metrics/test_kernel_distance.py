"""KID against a naive double sum."""

from itertools import product

import pytest
import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.kernel_distance import kernel_distances, subset_size


def samples(count: int, seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(count, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive(generated: Tensor, real: Tensor) -> float:
    """The definition, pair by pair."""

    def kernel(x: Tensor, y: Tensor) -> float:
        return float((x @ y / len(x) + 1) ** 3)

    n, m = len(generated), len(real)
    own = sum(kernel(generated[i], generated[j]) for i, j in product(range(n), repeat=2) if i != j) / (n * (n - 1))
    others = sum(kernel(real[i], real[j]) for i, j in product(range(m), repeat=2) if i != j) / (m * (m - 1))
    return own + others - 2 * sum(kernel(x, y) for x, y in product(generated, real)) / (n * m)


def test_whole_sets_give_the_definition() -> None:
    generated, real = samples(7, 0), samples(7, 1, scale=1.5)
    found = kernel_distances(generated, real, size=7, subsets=3)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx([naive(generated, real)] * 3, rel=1e-10)


def test_subsets_are_drawn_by_the_seed_and_without_replacement() -> None:
    generated, real = samples(6, 0), samples(9, 1)
    one = kernel_distances(generated, real, size=4, subsets=5, seed=3)
    assert torch.equal(one, kernel_distances(generated, real, size=4, subsets=5, seed=3))
    assert not torch.equal(one, kernel_distances(generated, real, size=4, subsets=5, seed=4))
    assert len(set(one.tolist())) > 1
    # Six of six: whatever is drawn, each row is there once, so all of one side's sums stay.
    real = real[:6]
    whole = kernel_distances(generated, real, size=6, subsets=2)
    assert whole[0].item() == pytest.approx(whole[1].item(), rel=1e-10)


def test_it_is_unbiased_and_tells_scales_apart() -> None:
    alike = kernel_distances(samples(400, 0), samples(400, 1), size=20, subsets=400)
    apart = kernel_distances(samples(400, 0), samples(400, 1, scale=2.0), size=20, subsets=400)
    assert abs(float(alike.mean())) < 4 * float(alike.std()) / 20
    assert (alike < 0).any()
    assert float(apart.mean()) > 10 * abs(float(alike.mean()))


def test_sizes_of_subsets() -> None:
    assert subset_size(5000, 1200) == 1000
    assert subset_size(999, 5000) == 499
    assert subset_size(3, 50) == 2
    assert subset_size(100, 50, 50) == 50
    with pytest.raises(ZooError, match="between 2 and 50"):
        subset_size(100, 50, 51)
    with pytest.raises(ZooError, match="1 pictures have no kernel distance"):
        subset_size(100, 1)
    with pytest.raises(ZooError, match="--subsets is 0"):
        kernel_distances(samples(4, 0), samples(4, 1), size=2, subsets=0)
