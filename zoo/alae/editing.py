"""ALAE: what is done with codes: truncation, mixing of styles, interpolation, and edits along directions."""

import torch
from torch import Tensor

from zoo.errors import ZooError


def truncated(styles: Tensor, average: Tensor, truncation: float, cutoff: int) -> Tensor:
    """Pull the first styles towards the average code.

    Args:
        styles: codes b n z, one for each style.
        average: codes n z.
        truncation: 1 leaves them alone, 0 gives the average.
        cutoff: number of styles that are pulled; the others stay.
    """
    pulled = torch.lerp(average, styles, truncation)
    return torch.cat([pulled[:, :cutoff], styles[:, cutoff:]], 1)


def mixed(styles: Tensor, others: Tensor, first: int, last: int | None = None) -> Tensor:
    """Take some styles from other codes.

    Args:
        styles: codes b n z.
        others: codes b n z, or 1 n z for all alike.
        first: of the styles that are taken.
        last: the first one that is not taken any more; None for all to the end.
    """
    last = styles.shape[1] if last is None else last
    others = others.expand(len(styles), -1, -1)
    return torch.cat([styles[:, :first], others[:, first:last], styles[:, last:]], 1)


def style_range(part: str, count: int) -> tuple[int, int]:
    """Which styles are coarse, middle or fine ones.

    The official figures call the first four coarse, the next four middle (pictures of 4 to 8 and of 16 to 32 pixels), and the rest
    fine, of 18. Fewer styles are divided alike, but into an even number each, two for every size.

    Args:
        part: `coarse`, `middle` or `fine`.
        count: of all styles.

    Raises:
        ZooError: the part has another name.
    """
    bounds = [0, 4, 8, count] if count >= 10 else [0, 2 * (count // 6 or 1), 2 * (count // 3 or 1), count]
    parts = ("coarse", "middle", "fine")
    if part not in parts:
        raise ZooError(f"Styles are 'coarse', 'middle' or 'fine'; there are no {part!r} ones.")
    number = parts.index(part)
    return bounds[number], bounds[number + 1]


def interpolated(corners: Tensor, down: float, right: float) -> Tensor:
    """The bilinear mean of four codes.

    Args:
        corners: 4 z or 4 n z: upper left, upper right, lower left, lower right.
        down: place between the upper and the lower ones, 0 to 1.
        right: place between the left and the right ones, 0 to 1.
    """
    upper = torch.lerp(corners[0], corners[1], right)
    lower = torch.lerp(corners[2], corners[3], right)
    return torch.lerp(upper, lower, down)


def attribute_values(codes: Tensor, average: Tensor, directions: Tensor) -> Tensor:
    """How far codes lie along directions: scalar products with what distinguishes them from the average.

    Args:
        codes: b z.
        average: z.
        directions: k z; the published ones are not of unit length.

    Returns:
        b k.
    """
    return (codes - average) @ directions.T


def attribute_residual(codes: Tensor, average: Tensor, directions: Tensor) -> Tensor:
    """What is left of codes `b z`, from the average on, without their share along all directions `k z`."""
    return codes - average - attribute_values(codes, average, directions) @ directions


def edited(codes: Tensor, average: Tensor, directions: Tensor, values: Tensor) -> Tensor:
    """Codes with other values along directions; with their own values they stay as they are.

    Args:
        codes: b z.
        average: z.
        directions: k z.
        values: b k, as `attribute_values` gives them.

    Returns:
        b z.
    """
    return attribute_residual(codes, average, directions) + values @ directions + average


def edited_styles(styles: Tensor, codes: Tensor, below: int) -> Tensor:
    """Give all styles `b n z` before number `below` the edited codes `b z`."""
    return mixed(styles, codes[:, None].expand_as(styles), 0, below)
