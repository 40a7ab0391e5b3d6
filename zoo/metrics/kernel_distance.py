"""KID: a distance of two sets of features that is fair to small sets.

Mikołaj Bińkowski, Danica J. Sutherland, Michael Arbel, Arthur Gretton: Demystifying MMD GANs. ICLR 2018,
https://arxiv.org/abs/1801.01401, section 4. The squared maximum mean discrepancy with the kernel (x·y / d + 1)^3 of features of length d,
estimated without bias: its mean does not depend on how many pictures there are (a Fréchet distance grows as they get fewer), and may
come out a little below 0 for sets of one kind. It is estimated on subsets of equal size, drawn without replacement, and averaged.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.image.kid import poly_mmd

from zoo.errors import ZooError

DEGREE, SUBSETS, SUBSET_SIZE = 3, 100, 1000


def subset_size(generated: int, real: int, wanted: int | None = None) -> int:
    """How many rows a subset has.

    Args:
        generated: rows of one set.
        real: rows of the other.
        wanted: what a person asked for; by default 1000, and half of the smaller set where that has fewer than 1000 (subsets as large
            as their sets are all the same one, and say nothing of a spread).

    Raises:
        ZooError: a set has fewer rows than that, or fewer than two.
    """
    smaller = min(generated, real)
    if smaller < 2:
        raise ZooError(f"{smaller} pictures have no kernel distance: give two at least on either side.")
    if wanted is None:
        return SUBSET_SIZE if smaller >= SUBSET_SIZE else max(2, smaller // 2)
    if not 2 <= wanted <= smaller:
        raise ZooError(
            f"--subset-size is {wanted}; it must lie between 2 and {smaller}, the pictures of the smaller set."
        )
    return wanted


def kernel_distances(generated: Tensor, real: Tensor, *, size: int, subsets: int = SUBSETS, seed: int = 0) -> Tensor:
    """The unbiased squared discrepancies of pairs of subsets.

    Args:
        generated: features n d.
        real: features m d.
        size: rows of a subset, 2 or more, and no more than either set has.
        subsets: how many pairs.
        seed: of the subsets.

    Returns:
        `subsets` numbers, float64.

    Raises:
        ZooError: there is no pair to compare.
    """
    if subsets < 1:
        raise ZooError(f"--subsets is {subsets}; expected 1 or more, such as --subsets {SUBSETS}.")
    generator = torch.Generator().manual_seed(seed)
    sides = [generated.double().cpu(), real.double().cpu()]

    def drawn(rows: Tensor) -> Tensor:
        return rows[torch.randperm(len(rows), generator=generator)[:size]]

    return torch.stack([poly_mmd(drawn(sides[1]), drawn(sides[0]), DEGREE, None, 1.0) for _ in range(subsets)])
