"""The Fréchet distance against SciPy's matrix root, torchmetrics and closed forms."""

import numpy as np
import pytest
import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.frechet import Gaussian, frechet_distance, frechet_distance_of_samples


def samples(count: int, width: int, seed: int = 0) -> Tensor:
    """Correlated numbers around a mean that is not 0."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, width, generator=generator, dtype=torch.float64)
    return rows @ torch.randn(width, width, generator=generator, dtype=torch.float64) + seed


def counted(rows: Tensor, batch: int = 7) -> Gaussian:
    found = Gaussian()
    for part in rows.split(batch):
        found.add(part)
    return found


def by_scipy(one: Tensor, other: Tensor) -> float:
    linalg = pytest.importorskip("scipy.linalg", reason="SciPy's matrix root is what this is compared with")
    covariances = [np.cov(rows.numpy(), rowvar=False) for rows in (one, other)]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    means = (one.mean(0) - other.mean(0)).square().sum()
    return float(means + np.trace(covariances[0] + covariances[1] - 2 * root))


def test_it_is_the_one_with_a_matrix_root() -> None:
    one, other = samples(60, 9), samples(40, 9, seed=1)
    assert counted(one).distance(counted(other)) == pytest.approx(by_scipy(one, other), rel=1e-9)
    assert frechet_distance_of_samples(one, other) == pytest.approx(by_scipy(one, other), rel=1e-9)


def test_covariances_that_commute_have_a_closed_form() -> None:
    generator = torch.Generator().manual_seed(3)
    axes, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64))
    variances = torch.rand(2, 6, generator=generator, dtype=torch.float64) * 5
    variances[0, 2] = 0  # nothing is spread along this axis
    covariances = [axes @ torch.diag(variance) @ axes.T for variance in variances]
    means = torch.randn(2, 6, generator=generator, dtype=torch.float64)
    wanted = (means[0] - means[1]).square().sum() + (variances[0].sqrt() - variances[1].sqrt()).square().sum()
    found = frechet_distance(means[0], covariances[0], means[1], covariances[1])
    assert float(found) == pytest.approx(float(wanted), rel=1e-7)
    same = float(frechet_distance(means[0], covariances[0], means[0], covariances[0]))
    assert same == pytest.approx(0, abs=1e-6)  # where nothing is spread, the root of a rounding error is left


def test_one_number_each_differs_by_means_and_deviations() -> None:
    one, other = samples(50, 1), samples(80, 1, seed=2)
    wanted = (one.mean() - other.mean()) ** 2 + (one.std() - other.std()) ** 2
    assert frechet_distance_of_samples(one, other) == pytest.approx(float(wanted), rel=1e-9)


@pytest.mark.parametrize(("count", "more"), [(4, 30), (30, 4), (5, 6), (2, 2)])
def test_fewer_samples_than_features_need_no_inverse(count: int, more: int) -> None:
    one, other = samples(count, 12), samples(more, 12, seed=1)
    found = frechet_distance_of_samples(one, other)
    # The general way rounds in directions that no sample has; the roots of 1e-16 are 1e-8.
    assert found == pytest.approx(counted(one).distance(counted(other)), rel=1e-6)
    assert frechet_distance_of_samples(one, one) == pytest.approx(0, abs=1e-9)


def test_it_is_that_of_torchmetrics() -> None:
    from torchmetrics.image.fid import _compute_fid

    one, other = counted(samples(60, 9)), counted(samples(40, 9, seed=1))
    assert one.distance(other) == pytest.approx(float(_compute_fid(*one.moments(), *other.moments())), rel=1e-9)
    # With fewer samples than features, what it rounds shows by its root; a set's distance to itself ought to be 0.
    few = samples(20, 60)
    theirs = float(_compute_fid(*counted(few).moments(), *counted(few).moments()))
    assert abs(theirs) > 1e-7
    assert abs(frechet_distance_of_samples(few, few)) < 1e-9


def test_batches_do_not_matter_and_float32_features_are_counted_in_float64() -> None:
    rows = (samples(5000, 3) + 1000).float()  # squares of a thousand leave float32 no digit for what is spread
    mean, covariance = counted(rows, 17).moments()
    other_mean, other_covariance = counted(rows, 5000).moments()
    torch.testing.assert_close(covariance, other_covariance, rtol=1e-8, atol=0)
    torch.testing.assert_close(mean, other_mean, rtol=1e-12, atol=0)
    np.testing.assert_allclose(covariance, np.cov(rows.double().numpy(), rowvar=False), rtol=1e-7)


def test_one_picture_has_no_covariance() -> None:
    with pytest.raises(ZooError, match="1 pictures have no covariance"):
        counted(samples(1, 3)).moments()
    for rows in (samples(1, 3), samples(1, 1)):
        with pytest.raises(ZooError, match="1 pictures have no covariance"):
            frechet_distance_of_samples(rows, rows)
    with pytest.raises(ZooError, match="0 pictures"):
        Gaussian().moments()
