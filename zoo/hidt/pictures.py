"""Pictures on their way into the networks and out of them, as the official inference prepares them."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from zoo.core.images import resize_pixels, to_uint8

SIDE_MULTIPLE = 16
"""What the official inference rounds the sides of pictures to."""

CROPS = 4
"""Shifts of the enhancer's crops along each axis, and how much larger its pictures are."""

BLACK = -1.0

Pixels = NDArray[np.uint8]


# Sizes -------------------------------------------------------------------------------------------------------------------------


def shorter_side_shape(height: int, width: int, *, side: int) -> tuple[int, int]:
    """Height and width with the shorter side brought to `side`; the longer one is cut down to whole pixels."""
    if width > height:
        return side, int(width * (side / height))
    return int(height * (side / width)), side


def sides_of(picture: Pixels) -> tuple[int, int]:
    """Height and width of a picture `h w 3`."""
    return picture.shape[0], picture.shape[1]


def rounded_shape(height: int, width: int) -> tuple[int, int]:
    """Height and width at the nearest multiples of 16, halves at the even one, and no less than 16."""
    sides = (max(1, round(side / SIDE_MULTIPLE)) * SIDE_MULTIPLE for side in (height, width))
    return next(sides), next(sides)


def resized_for_inference(picture: Pixels, side: int) -> Pixels:
    """Resize a picture uint8 `h w 3` twice by PIL's bicubic filter: its shorter side to `side`, then both to multiples of 16."""
    picture = resize_pixels(picture, *shorter_side_shape(*sides_of(picture), side=side))
    return resize_pixels(picture, *rounded_shape(*sides_of(picture)))


def to_input(picture: Pixels, dtype: torch.dtype = torch.float32) -> Tensor:
    """Scale a picture uint8 `h w 3` to `3 h w` in [-1, 1]."""
    return (torch.from_numpy(picture.copy()).permute(2, 0, 1).to(dtype) / 255 - 0.5) / 0.5


def with_noise(images: Tensor, noise: Tensor) -> Tensor:
    """Add de-quantisation noise: uniform over the step from one of 256 values to the next, so that white may exceed 1 a little.

    Args:
        images: in [-1, 1], of any shape.
        noise: of the same shape, uniform in [0, 1).
    """
    return images + noise * (2 / 255)


def to_pixels(image: Tensor) -> Pixels:
    """A picture `3 h w` in [-1, 1] as uint8 `h w 3`."""
    return to_uint8(image).permute(1, 2, 0).cpu().numpy()


def prepared(images: Tensor, side: int) -> Tensor:
    """Pictures `b 3 h w` in [-1, 1] at the size of inference, by way of uint8 where they have to be resized."""
    height, width = images.shape[2:]
    if rounded_shape(*shorter_side_shape(height, width, side=side)) == (height, width):
        return images
    resized = [to_input(resized_for_inference(to_pixels(image), side)) for image in images]
    return torch.stack(resized).to(images)


# The enhancer's crops ------------------------------------------------------------------------------------------------------------


def bilinear(picture: Pixels, side: int) -> Pixels:
    """Bring the shorter side of uint8 `h w 3` to `side` by PIL's bilinear filter, as torchvision's Resize does."""
    height, width = sides_of(picture)
    longer = int(side * max(height, width) / min(height, width))
    size = (side, longer) if width <= height else (longer, side)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))


def enlarged_for_crops(picture: Pixels, resolution: int) -> Pixels:
    """A picture uint8 `h w 3` with a shorter side of four pixels more than the result will have, bilinearly."""
    return bilinear(picture, resolution + CROPS)


def shifted_crop(large: Pixels, number: int, resolution: int) -> Pixels:
    """One of the 16 shifted crops, small.

    Args:
        large: uint8 h w 3, of `enlarged_for_crops`.
        number: 0 to 15, four times the shift along x plus that along y, in pixels.
        resolution: shorter side of the result that all crops will make; the crop has a quarter of it.

    Returns:
        uint8, the picture moved by the shift with black behind it, and bilinearly made small.
    """
    x, y = divmod(number, CROPS)
    moved = np.zeros_like(large)
    height, width = sides_of(large)
    moved[: height - y, : width - x] = large[y:, x:]
    return bilinear(moved, resolution // CROPS)


def in_place(crop: Tensor, number: int) -> Tensor:
    """Move a translated crop to where its pixels belong.

    It is enlarged four times, laid onto a black canvas four pixels longer, as far from its edge as the crop was shifted, and made small
    again, by the nearest pixel each time. The operations decide by their own rounding where a place falls between two pixels.

    Args:
        crop: b 3 h w in [-1, 1].
        number: 0 to 15, see `shifted_crop`.

    Returns:
        The same shape; -1 where the shifted crop does not reach.
    """
    x, y = divmod(number, CROPS)
    large = F.interpolate(crop, scale_factor=float(CROPS), mode="nearest")
    return F.interpolate(F.pad(large, (x, CROPS - x, y, CROPS - y), value=BLACK), crop.shape[2:], mode="nearest")


def stacked(crops: Iterable[Tensor]) -> Tensor:
    """Line the 16 translated crops of pictures up in channels, each where its pixels belong; meant for inference.

    Args:
        crops: b 3 h w in [-1, 1] each, in the order of their numbers.

    Returns:
        b 48 h w in [-1, 1].
    """
    stack: Tensor | None = None
    for number, crop in enumerate(crops):
        if stack is None:  # filled one by one: a list of crops and their concatenation would take twice the memory
            stack = crop.new_empty(len(crop), 3 * CROPS**2, *crop.shape[2:])
        stack[:, 3 * number : 3 * number + 3] = in_place(crop, number)
    assert stack is not None
    return stack
