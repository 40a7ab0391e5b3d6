"""Directions in a space of codes along which one attribute of a picture changes.

Two ways, by what is known of some pictures. Labels (smiles or does not): the normal of a linear support vector machine that tells their
codes apart, as ALAE's authors found theirs (C = 1). Numbers (how large, how red): by how much codes change with one attribute while the
others stay, a regression of codes on all attributes at once; a direction's unit is then the attribute's own.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from zoo.errors import ZooError

SVM_STRENGTH, SVM_ITERATIONS = 1.0, 10_000  # the official script's C and max_iter, of the primal problem


def label_directions(codes: Tensor, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Normals of the planes that tell labelled codes apart, towards label 1; of the length that the machine gives them.

    Args:
        codes: n z.
        labels: n each, 0 or 1, by attribute.

    Returns:
        float64 z each.

    Raises:
        ZooError: an attribute has one label alone, or others than 0 and 1.
    """
    from sklearn.svm import LinearSVC

    found = {}
    rows = codes.double().cpu().numpy()
    for name, values in labels.items():
        if not set(values.tolist()) <= {0, 1}:
            raise ZooError(f"{name}: labels are 0 or 1, and there are {sorted(set(values.tolist()))[:5]}.")
        if len(values.unique()) < 2:
            raise ZooError(f"{name}: all {len(values)} pictures have the label {int(values[0])}; two kinds are needed.")
        machine = LinearSVC(C=SVM_STRENGTH, max_iter=SVM_ITERATIONS, dual=False).fit(rows, values.long().cpu().numpy())
        found[name] = torch.from_numpy(machine.coef_[0])
    return found


def factor_directions(codes: Tensor, factors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """By how much codes change with each attribute while the others stay.

    Args:
        codes: n z.
        factors: numbers n each, by attribute.

    Returns:
        float64 z each: the mean change of a code for one unit of the attribute.

    Raises:
        ZooError: an attribute never changes, or follows from the others, or there are too few pictures.
    """
    table = torch.stack([values.double().cpu() for values in factors.values()], 1)  # n k
    if len(table) <= table.shape[1]:
        raise ZooError(f"{len(table)} pictures are too few for directions of {table.shape[1]} attributes.")
    centred = table - table.mean(0)
    spread = centred.square().mean(0).sqrt()
    for name, value in zip(factors, spread, strict=True):
        if not value > 0:
            raise ZooError(f"{name} is the same in all {len(table)} pictures, so nothing is known of its direction.")
    scaled = centred / spread
    if int(torch.linalg.matrix_rank(scaled)) < table.shape[1]:
        raise ZooError(f"One of {', '.join(factors)} follows from the others; leave it out.")
    rows = torch.linalg.lstsq(scaled, codes.double().cpu() - codes.double().cpu().mean(0)).solution / spread[:, None]
    return dict(zip(factors, rows, strict=True))


def explained(codes: Tensor, factors: Mapping[str, Tensor], known: int) -> dict[str, float]:
    """How much of each attribute a linear map reads off codes: R^2 on rows that it did not learn from.

    Args:
        codes: n z.
        factors: numbers n each, by attribute.
        known: the first so many rows are learned from; more than z of them.

    Returns:
        1 where an attribute is read off exactly, 0 or less where its mean says as much.
    """
    rows = torch.cat([codes.double().cpu(), torch.ones(len(codes), 1, dtype=torch.float64)], 1)
    found = {}
    for name, values in factors.items():
        wanted = values.double().cpu()
        weights = torch.linalg.lstsq(rows[:known], wanted[:known, None]).solution
        error = (rows[known:] @ weights)[:, 0] - wanted[known:]
        spread = wanted[known:] - wanted[:known].mean()
        found[name] = float(1 - error.square().sum() / spread.square().sum())
    return found
