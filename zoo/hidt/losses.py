"""HiDT's losses, and the pool of styles that one of them remembers."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.core.precision import full
from zoo.hidt.generator import MaskOutput

IGNORED = 255
"""The label of pixels that no class claims: as segmentations mark them."""


def real_loss(scores: Tensor) -> Tensor:
    """Mean squared distance of scores from 1: of real pictures for the discriminators, of made ones for the generator."""
    return (full(scores) - 1).square().mean()


def fake_loss(scores: Tensor) -> Tensor:
    """Mean squared scores of made pictures, for the discriminators."""
    return full(scores).square().mean()


def absolute_difference(x: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute difference; gradients flow into both."""
    return F.l1_loss(full(x), full(wanted))


def mask_loss(mask: Tensor, labels: Tensor, output: MaskOutput) -> Tensor:
    """How far a mask is from labels.

    Log-probabilities: the cross-entropy, as third parties describe the paper. Any other form, such as the published model's tanh: the
    mean absolute difference from 1 in the channel of the class and the form's lowest value in the others (ours).

    Args:
        mask: b k h w of the generator.
        labels: b h w, classes 0 to k - 1; pixels labelled 255 do not count.
        output: the mask's form.

    Returns:
        A scalar, the mean over pixels that count; 0 where none does.
    """
    counted = labels != IGNORED  # b h w
    known = labels.where(counted, 0).long()[:, None]  # b 1 h w
    if output == "log_softmax":
        distance = -full(mask).gather(1, known)[:, 0]
    else:
        lowest = 0.0 if output == "sigmoid" else -1.0
        wanted = torch.full_like(mask, lowest, dtype=full(mask).dtype).scatter_(1, known, 1.0)
        distance = (full(mask) - wanted).abs().mean(1)
    return (distance * counted).sum() / counted.sum().clamp(min=1)


def distribution_loss(styles: Tensor) -> Tensor:
    """How far styles are from a standard normal distribution: in their mean, their covariance, and once more in their variances.

    Args:
        styles: n s, at least two.

    Returns:
        A scalar: sums of absolute values over the mean's numbers, the covariance's (with n - 1) and its diagonal's.
    """
    styles = full(styles)
    mean = styles.mean(0)
    centred = styles - mean
    covariance = centred.mT @ centred / (len(styles) - 1)
    surplus = covariance - torch.eye(len(mean), dtype=styles.dtype, device=styles.device)
    return mean.abs().sum() + surplus.abs().sum() + surplus.diagonal().abs().sum()


class StylePool:
    """The styles of the last pictures, each process' own, for a distribution that one batch is too small to show.

    Args:
        size: rows kept; 0 keeps none.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.rows: Tensor | None = None  # n s, the oldest first

    def with_new(self, styles: Tensor) -> Tensor:
        """Kept rows and, behind them, new ones `n s`; gradients reach these alone."""
        return styles if self.rows is None else torch.cat([self.rows.to(styles), styles])

    def push(self, styles: Tensor) -> None:
        """Keep new rows `n s`; the oldest leave."""
        rows = self.with_new(styles.detach())
        self.rows = rows[max(0, len(rows) - self.size) :]

    def state_dict(self) -> dict[str, Any]:
        """The rows."""
        return {} if self.rows is None else {"rows": self.rows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take rows over; the oldest beyond this pool's size are left out."""
        self.rows = None
        if "rows" in state:
            self.push(state["rows"])
