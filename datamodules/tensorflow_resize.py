"""The bilinear resize of TensorFlow 1, which official codes of its time trained with.

Pixel i of the result lies at i * (old side / new side) of the picture: no half-pixel centres, and no filter that widens where pictures
shrink. Neither PIL nor `torch.nn.functional.interpolate` has this rule. Results are floats, as they were there.
"""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
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


def _neighbours(old: int, new: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """For each new pixel the old ones before and behind it, and its distance to the former."""
    place = np.arange(new, dtype=np.float32) * np.float32(old / new)
    before = np.minimum(place.astype(np.int64), old - 1)
    return before, np.minimum(before + 1, old - 1), place - before.astype(np.float32)
