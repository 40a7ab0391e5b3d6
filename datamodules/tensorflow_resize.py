"""The bilinear resize of TensorFlow 1, which official codes of its time trained with.

Pixel i of the result lies at i * (old side / new side) of the picture: no half-pixel centres, and no filter that widens where pictures
shrink. Neither PIL nor `torch.nn.functional.interpolate` has this rule. Results are floats, as they were there.
"""

import numpy as np
from numpy.typing import NDArray

from datamodules.preprocess import Pixels

Floats = NDArray[np.float32]


def resize_bilinear(picture: Pixels | Floats, height: int, width: int) -> Floats:
    """Resize a picture as `tf.image.resize_images` did before TensorFlow 2.

    Args:
        picture: `h w c` in any range.
        height: of the result, in pixels.
        width: of the result, in pixels.

    Returns:
        float32 `height width c` in the picture's range.
    """
    above, below, down = _neighbours(picture.shape[0], height)
    before, behind, right = _neighbours(picture.shape[1], width)
    rows = picture.astype(np.float32)
    upper, lower = (
        rows[i][:, before] + (rows[i][:, behind] - rows[i][:, before]) * right[:, None] for i in (above, below)
    )
    return np.asarray(upper + (lower - upper) * down[:, None, None], np.float32)


def prepare(picture: Pixels, load_size: int, size: int, *, flip: bool, top: int, left: int) -> Floats:
    """A training picture as AGGAN's official loader makes it: resize, flip, then crop.

    Args:
        picture: uint8 `h w c`.
        load_size: both sides after the resize, whatever the aspect ratio; 286 in the official code.
        size: of the crop; 256 in the official code.
        flip: mirror left and right, before the crop.
        top: of the crop, in pixels.
        left: of the crop, in pixels.

    Returns:
        float32 `c size size` in [-1, 1].
    """
    resized = resize_bilinear(picture, load_size, load_size)
    if flip:
        resized = resized[:, ::-1]
    crop = resized[top : top + size, left : left + size]
    return np.ascontiguousarray(crop.transpose(2, 0, 1) / np.float32(127.5) - np.float32(1))


def _neighbours(old: int, new: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """For each new pixel the old ones before and behind it, and its distance to the former."""
    place = np.arange(new, dtype=np.float32) * np.float32(old / new)
    before = np.minimum(place.astype(np.int64), old - 1)
    return before, np.minimum(before + 1, old - 1), place - before.astype(np.float32)
