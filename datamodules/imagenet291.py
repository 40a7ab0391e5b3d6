"""ImageNet291: how GP-UNIT cuts objects out of ImageNet's photographs, 600 of each of 291 classes for training.

The data set itself is not distributed: it is made from ImageNet with a list of files and of detected boxes that the authors
publish. What is here is the rule that turns a box into a crop (`generate_ImageNet291.py` of the official code).
"""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 256
"""Side of a picture of the data set in pixels."""


def crop_box(height: int, width: int, box: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    """Where to cut a detected object out of a photograph: 4/3 of its area, near a square, inside the picture.

    Halves are rounded to the even neighbour, as Python's `round` does.

    Args:
        height: of the photograph in pixels.
        width: of the photograph in pixels.
        box: the detection as (left, top, width, height) in pixels; rounded before use.

    Returns:
        The crop as (left, top, right, bottom) in pixels, right and bottom not included.
    """
    x, y, w, h = map(round, box)
    side = min(max(math.sqrt(4 / 3 * h * w), h, w), height, width)
    left, right = _reach(round(x + w / 2), w, side, width)
    top, bottom = _reach(round(y + h / 2), h, side, height)
    return left, top, right, bottom


def _reach(centre: int, extent: int, side: float, end: int) -> tuple[int, int]:
    """From where to where a crop reaches along one axis, moved so that it stays between 0 and the picture's end."""
    if side < extent:  # the picture is too short along its other axis for a square around the object
        side = min(4 / 3 * side, extent)
    half = round(side / 2)
    shift = max(0, half - centre) or min(end - centre - half, 0)
    start = max(0, centre - half + shift)
    return start, min(start + round(side), end)


def crop_object(picture: NDArray[np.uint8], box: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    """Cut a detected object out of a photograph and bring it to 256 x 256 with PIL's bilinear filter.

    Args:
        picture: uint8 `h w 3`.
        box: the detection as (left, top, width, height) in pixels.

    Returns:
        uint8 `256 256 3`.
    """
    height, width = picture.shape[:2]
    crop = Image.fromarray(picture).crop(crop_box(height, width, box))
    return np.asarray(crop.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
