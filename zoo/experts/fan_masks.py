"""From heat maps of a face's landmarks to coordinates, and to the masks of StarGAN v2's high-pass skips. No network is needed.

Landmarks are those of WFLW, 98 channels: the outline 0..32, eyebrows 33..50, nose 51..59, eyes 60..75, mouth 76..95, pupils 96
and 97. What is done with which of them is the official code's; the paper does not speak of it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

LANDMARKS = 98
THRESHOLD = 0.1
"""Below it a heat map counts as 0."""


@dataclass(frozen=True)
class Part:
    """What is done to the maps of a part of the face.

    Attributes:
        first: channel.
        end: the first channel behind it.
        up: rows that the content is moved up, at a height of 256.
        power: sharpens the maps.
    """

    first: int
    end: int
    up: int
    power: int


PARTS = (
    Part(8, 25, 0, 3),  # chin
    Part(33, 51, -7, 2),  # eyebrows
    Part(55, 60, 8, 4),  # nostrils
    Part(77, 82, -8, 4),  # upper lip
    Part(83, 88, 8, 4),  # lower lip
    Part(88, 96, -2, 3),  # inner lip
)
NOSE = Part(52, 55, 4, 1)
EYES = slice(60, 76)
EYES_UP = (-8, -24)  # pixels, at every height
LEFT_OUT = (*range(8), *range(25, 33), 33, 46, 76, 82)
COARSE_ALONE = (slice(8, 25), slice(33, 51), slice(76, 96))
"""Outline, eyebrows and mouth, which the mask of finer features leaves out."""


def shift_up(x: Tensor, rows: int) -> Tensor:
    """Move `... h w` up, down where `rows` is negative; what leaves at one edge comes in at the other."""
    return x.roll(-rows, dims=-2)


def cut_small(x: Tensor, threshold: float = THRESHOLD) -> Tensor:
    """Set what is below a threshold to 0."""
    return x.where(x >= threshold, 0.0)


def stretch(x: Tensor) -> Tensor:
    """Stretch each map of `b c h w` to [0, 1]; one that is the same everywhere becomes 0."""
    least, most = (x.flatten(2).amin(2), x.flatten(2).amax(2))
    return (x - least[..., None, None]) / (most - least + 1e-6)[..., None, None]


def skip_masks(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Make the masks of the skips.

    Args:
        maps: the landmarks' heat maps, b 98 h w.

    Returns:
        b 1 h w in [0, 1] twice: for coarse features, and for finer ones.
    """
    x = stretch(cut_small(maps))
    unit = x.shape[2] // 256
    moved = x.clone()
    for part in PARTS:
        own = slice(part.first, part.end)
        moved[:, own] = shift_up(x[:, own], part.up * unit) ** part.power
    moved[:, LEFT_OUT] = 0
    nose = slice(NOSE.first, NOSE.end)
    moved[:, nose] = shift_up(moved[:, nose], NOSE.up * unit)
    near, far = (shift_up(x[:, EYES], rows) for rows in EYES_UP)
    moved[:, EYES] = near**3 + far
    fine = moved.clone()
    for part_alone in COARSE_ALONE:
        fine[:, part_alone] = 0
    coarse_mask, fine_mask = (one.sum(1, keepdim=True).nan_to_num(nan=0.0).clamp(0, 1) for one in (moved, fine))
    return coarse_mask, fine_mask


def decode_landmarks(maps: Tensor) -> Tensor:
    """Find each map's peak.

    Args:
        maps: b n h w.

    Returns:
        b n 2, (x, y) in pixels of the map: the middle of the highest pixel, moved a quarter of a pixel towards its higher
        neighbour in each direction, unless it lies on the border.
    """
    height, width = maps.shape[2:]
    place = maps.flatten(2).argmax(2)  # b n
    row, column = place // width, place % width
    inside = (row > 0) & (row < height - 1) & (column > 0) & (column < width - 1)

    def at(rows: Tensor, columns: Tensor) -> Tensor:
        flat = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
        return maps.flatten(2).gather(2, flat[..., None])[..., 0]

    towards = torch.stack(
        [
            (at(row, column + 1) - at(row, column - 1)).sign(),
            (at(row + 1, column) - at(row - 1, column)).sign(),
        ],
        dim=2,
    )
    middle = torch.stack([column, row], dim=2).to(maps.dtype) + 0.5
    return middle + 0.25 * towards * inside[..., None]
