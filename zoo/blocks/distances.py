"""Distances of pictures, pixel by pixel or window by window: losses that need no network."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from zoo.core.precision import full

PixelDistance = Literal["ssim", "l1", "l2"]
SSIM_WINDOW = 11
"""Pixels, of Wang et al. 2004."""


def ssim_distance(image: Tensor, other: Tensor) -> Tensor:
    """1 - SSIM, the structural similarity of Wang et al. 2004, averaged: 0 for equal pictures, 2 at most.

    Args:
        image: b c h w in [-1, 1], of more than 5x5 pixels; gradients reach both.
        other: b c h w in [-1, 1].
    """
    from kornia.metrics import ssim  # takes a second to import, and only this distance needs it

    return 1 - ssim((full(image) + 1) / 2, (full(other) + 1) / 2, SSIM_WINDOW).mean()


def l1_distance(image: Tensor, other: Tensor) -> Tensor:
    """Mean absolute difference of pictures."""
    return F.l1_loss(full(image), full(other))


def l2_distance(image: Tensor, other: Tensor) -> Tensor:
    """Mean squared difference of pictures."""
    return F.mse_loss(full(image), full(other))


PIXEL_DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ssim": ssim_distance,
    "l1": l1_distance,
    "l2": l2_distance,
}
