"""The styles that the authors named, and those between styles."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from zoo.errors import ZooError

NAMED_STYLES: dict[str, tuple[float, float, float]] = {
    "hard_day": (-0.02281655, -0.39486027, 0.8980236),
    "semihard_day": (-0.13158312, 0.05005663, 0.56219147),
    "day": (-0.24034968, 0.49497354, 0.22635934),
    "day2": (-0.1528, -1.3118, 1.5012),
    "presunset": (-0.29656195, 0.54214905, -0.6357214),
    "sunset_hard_harder": (-0.5931239, 1.0842981, -1.2714428),
    "sunsetred": (-0.1542, 0.1676, -1.773),
    "2minute": (-0.38232317, 0.57014908, -0.95337988),
    "5minute": (0.0392783, -0.45814896, -0.31725404),
    "5minutes2": (-0.1544, -0.592, -0.3295),
    "bluehour_hard": (0.40883675, -1.6698283, 0.24425311),
    "bluehour_bit_dark": (-0.29560883, -1.5698522, -0.53503126),
    "night": (-0.49511418, -1.0065496, -1.0413212),
    "night2": (-0.1531, -1.5918, 0.085),
    "darknight": (-0.4466, -1.3072, -0.3449),
    "another_night": (0.00708078, -1.37503777, -0.32711325),
    "onemorenight": (0.20795877, -1.52243303, -0.04143007),
    "nightmore": (0.10751978, -1.4487354, -0.18427166),
}
"""Of the published daytime model, by the authors' names and in their order; to another model they are any three numbers."""


def named_style(name: str) -> Tensor:
    """A named style, `1 3`, float32.

    Raises:
        ZooError: no style has this name.
    """
    if name not in NAMED_STYLES:
        raise ZooError(f"There is no style named {name!r}. Named styles: {', '.join(NAMED_STYLES)}.")
    return torch.tensor([NAMED_STYLES[name]])


def between(styles: Tensor, steps: int) -> Iterator[Tensor]:
    """Styles on the straight lines from each style to the next one, both ends of each line among them, none twice.

    Args:
        styles: k s, at least two.
        steps: styles per line, at least two.

    Yields:
        (k - 1)(steps - 1) + 1 styles `1 s`; where a line begins or ends, the given style to the bit.

    Raises:
        ZooError: fewer than two styles or steps.
    """
    if len(styles) < 2 or steps < 2:
        raise ZooError(
            f"A line has two ends: {len(styles)} styles and {steps} steps were given, at least 2 of each are needed."
        )
    yield styles[:1]
    for begin, end in pairwise(styles):
        for step in range(1, steps):
            yield torch.lerp(begin, end, step / (steps - 1))[None] if step < steps - 1 else end[None]
