"""The Fréchet distance of two normal distributions, and their moments counted in float64.

D. C. Dowson, B. V. Landau: The Fréchet distance between multivariate normal distributions, 1982. As a measure of generated pictures by a
network's features: Heusel et al. 2017, https://arxiv.org/abs/1706.08500. FID, SIFID, StarGAN v2's and ALAE's figures all come from here;
which network gives the features is what tells them apart.

Sums are kept in float64 on the CPU, so the result does not depend on how pictures were batched. The trace of the root of a product of
covariances comes from two symmetric problems: no complex number appears, and covariances of fewer samples than features, which have no
inverse, need no small number added to them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.errors import ZooError

BATCH = 1024  # rows that are counted at once


def frechet_distance(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> Tensor:
    """The squared Fréchet distance of two normal distributions: |m1 - m2|^2 + Tr(C1 + C2 - 2 (C1 C2)^(1/2)).

    The trace of the root of A B is the sum of the roots of A B's eigenvalues, which are those of a B a for a the root of A.

    Args:
        mean: d.
        covariance: d d, symmetric and not negative, of any rank.
        other_mean: d.
        other_covariance: d d.

    Returns:
        A scalar; 0 for equal distributions, but for rounding.
    """
    values, vectors = torch.linalg.eigh(covariance)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    inner = torch.linalg.eigvalsh(root @ other_covariance @ root).clamp(min=0).sqrt().sum()
    return (mean - other_mean).square().sum() + covariance.trace() + other_covariance.trace() - 2 * inner


def frechet_distance_of_samples(one: Tensor, other: Tensor) -> float:
    """The squared Fréchet distance of the normal distributions that two sets of features are taken for.

    With fewer samples than features on one side the trace is the sum of the singular values of a table with a row per sample of one
    set and a column per sample of the other: no square matrix as wide as the features, and no rounding in directions that no sample has.

    Args:
        one: n d, two rows at least.
        other: m d, two rows at least.

    Raises:
        ZooError: there are fewer rows.
    """
    if min(len(one), len(other)) < one.shape[1]:
        means, centred = [], []
        for rows in (one, other):
            if len(rows) < 2:
                raise _too_few(len(rows))
            rows = rows.detach().double().cpu()
            means.append(rows.mean(0))
            centred.append((rows - means[-1]) / (len(rows) - 1) ** 0.5)
        root = torch.linalg.svdvals(centred[0] @ centred[1].T).sum()
        spread = centred[0].square().sum() + centred[1].square().sum()
        return float((means[0] - means[1]).square().sum() + spread - 2 * root)
    sides = [Gaussian(), Gaussian()]
    for side, rows in zip(sides, (one, other), strict=True):
        for some in rows.split(BATCH):
            side.add(some)
    return sides[0].distance(sides[1])


def _too_few(count: int) -> ZooError:
    return ZooError(f"{count} pictures have no covariance: give two at least.")


class Gaussian:
    """Mean and covariance of features, counted batch by batch in float64.

    Attributes:
        count: rows counted so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._sum: Tensor | None = None
        self._products: Tensor | None = None

    def add(self, features: Tensor) -> None:
        """Count a batch `b d`."""
        rows = features.detach().double().cpu()
        if self._sum is None or self._products is None:
            self._sum, self._products = torch.zeros_like(rows[0]), torch.zeros(rows.shape[1], rows.shape[1]).double()
        self._sum += rows.sum(0)
        self._products += rows.T @ rows
        self.count += len(rows)

    def moments(self) -> tuple[Tensor, Tensor]:
        """The mean `d` and the unbiased covariance `d d`.

        Raises:
            ZooError: fewer than two rows were counted.
        """
        if self.count < 2 or self._sum is None or self._products is None:
            raise _too_few(self.count)
        mean = self._sum / self.count
        return mean, (self._products - self.count * torch.outer(mean, mean)) / (self.count - 1)

    def distance(self, other: Gaussian) -> float:
        """The squared Fréchet distance to another one.

        Raises:
            ZooError: fewer than two rows were counted in one of them.
        """
        return float(frechet_distance(*self.moments(), *other.moments()))
