"""Faces brought to where CelebA-HQ's are: by a similarity transform from landmarks to mean landmarks.

StarGAN v2 was trained on aligned faces and translates others badly. Pictures have to be cropped roughly like CelebA-HQ's already.
The rules (which landmarks, which border) are the official code's; the resampling is OpenCV's Lanczos filter, written down
here: eight taps, on a raster of 1/32 pixel.
"""

from pathlib import Path

import numpy as np
import torch
from kornia.filters import gaussian_blur2d
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from zoo.core.images import from_uint8, resize_pixels, to_unit
from zoo.errors import ZooError
from zoo.experts.fan import FAN, SIDE
from zoo.experts.fan_masks import LANDMARKS

MEAN_WEIGHTS = "starganv2_landmark_mean"
LEFT_EYE, RIGHT_EYE = (*range(60, 68), 96), (*range(68, 76), 97)
MOUTH_ENDS = (76, 82)
SCALED_BY = (96, 97, *MOUTH_ENDS)
"""Pupils and ends of the mouth: their distances from the middle of the face give the scale."""

TAPS = 8
RASTER = 32
BLUR_REACH = 4.0  # standard deviations at which the Gaussian is cut off
Floats = NDArray[np.floating]
"""Landmarks stay in float32, as a network gives them and the official code keeps them: places fall on the same raster."""


def horizontal(landmarks: Floats) -> Floats:
    """The direction, of length 1, that is horizontal for a face: from eye to eye, and across the line from mouth to eyes.

    Args:
        landmarks: 98 2, (x, y).
    """
    left, right = landmarks[list(LEFT_EYE)].mean(0), landmarks[list(RIGHT_EYE)].mean(0)
    up = (left + right) / 2 - landmarks[list(MOUTH_ENDS)].mean(0)
    direction = right - left - np.array([up[1], -up[0]])
    return direction / np.linalg.norm(direction)


def scaling(landmarks: Floats, wanted: Floats) -> float:
    """By which a face's landmarks 98 2 grow to the wanted ones: a mean of ratios of distances from their middles."""
    distances = [np.linalg.norm(points - points.mean(0), axis=1)[list(SCALED_BY)] for points in (landmarks, wanted)]
    return float((distances[1] / distances[0]).mean())


def similarity(landmarks: Floats, wanted: Floats) -> Floats:
    """The transform 3 3 of (x, y, 1) that turns, scales and moves landmarks 98 2 to the wanted ones."""
    axis, wanted_axis = (x / np.linalg.norm(x) for x in (horizontal(landmarks), horizontal(wanted)))
    cosine = np.dot(axis, wanted_axis)
    # The sine from the cosine, as in the official code: in float32 it is a little off, and places on the raster with it.
    side = np.sign(axis[0] * wanted_axis[1] - axis[1] * wanted_axis[0])
    sine = np.sqrt(np.maximum(0, 1 - cosine * cosine)) * side
    turn, scale, away, back = np.eye(3), np.eye(3), np.eye(3), np.eye(3)
    turn[:2, :2] = [[cosine, -sine], [sine, cosine]]
    scale[:2, :2] *= scaling(landmarks, wanted)
    away[:2, 2], back[:2, 2] = -landmarks.mean(0), wanted.mean(0)
    return back @ scale @ turn @ away


def with_mirrored_border(picture: NDArray[np.uint8]) -> Floats:
    """Mirror a picture h w c at its edges, by half its sides each; the further out, the more blurred. 2h 2w c, float64 in 0..255."""
    height, width = picture.shape[:2]
    top, left = height // 2, width // 2
    wide = np.pad(picture, ((top, top), (left, left), (0, 0)), "reflect")
    # Half the size by means of 2x2, rounded to bytes, halves up; blurred; and twice the size again.
    fours = wide[: 2 * height, : 2 * width].astype(np.int64).reshape(height, 2, width, 2, -1).sum((1, 3))
    small = torch.from_numpy((fours + 2) // 4).permute(2, 0, 1)[None].double()
    sigma = float(height // 100)
    reach = 2 * int(BLUR_REACH * sigma + 0.5) + 1
    if sigma > 0:
        small = gaussian_blur2d(small, (reach, reach), (sigma, sigma), border_type="replicate")
    blurred = F.interpolate(small, wide.shape[:2], mode="bilinear", align_corners=False)[0].permute(1, 2, 0).numpy()
    rows, columns = (np.clip(np.arange(n) / (wide.shape[0] // 4), 0, 1) for n in wide.shape[:2])
    weight = (
        np.minimum(np.minimum(rows, rows[::-1])[:, None], np.minimum(columns, columns[::-1])[None, :])[..., None] ** 4
    )
    return wide * weight + blurred * (1 - weight)


def lanczos_weights() -> NDArray[np.float32]:
    """Weights 32 8 of the taps -3 .. 4 around a place, for each fraction of a pixel; they add up to 1."""
    at = np.arange(-3, TAPS - 3)[None, :] - np.arange(RASTER)[:, None] / RASTER
    weights = np.sinc(at) * np.sinc(at / (TAPS // 2))
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def warp(picture: Floats, matrix: Floats, size: int) -> Floats:
    """Move a picture by a transform, and cut out the upper left corner.

    Args:
        picture: h w c.
        matrix: 3 3, of (x, y, 1) in the picture to the result.
        size: side of the result.

    Returns:
        size size c; outside of the picture is 0.
    """
    rows, columns = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    x, y, scale = np.tensordot(np.linalg.inv(matrix), np.stack([columns, rows, np.ones_like(rows)]), axes=1)
    raster = [np.rint(RASTER * place / scale).astype(np.int64) for place in (y, x)]
    weights = lanczos_weights()
    wide = np.pad(picture, ((TAPS, TAPS), (TAPS, TAPS), (0, 0)))
    limits = picture.shape[:2]
    (row, row_part), (column, column_part) = (np.divmod(place, RASTER) for place in raster)
    result = np.zeros((size, size, picture.shape[2]))
    for i in range(TAPS):
        for j in range(TAPS):
            place = [
                np.clip(base + tap - 3 + TAPS, 0, limit + 2 * TAPS - 1)
                for base, tap, limit in ((row, i, limits[0]), (column, j, limits[1]))
            ]
            share = weights[row_part, i] * weights[column_part, j]
            result += wide[place[0], place[1]] * share[..., None]
    return result


def align(picture: NDArray[np.uint8], landmarks: Floats, wanted: Floats) -> Tensor:
    """Bring a face to where it should be.

    Args:
        picture: uint8 h h 3.
        landmarks: 98 2 in its pixels.
        wanted: 98 2.

    Returns:
        3 h h in about [-1, 1]: the filter may overshoot.
    """
    side = picture.shape[0]
    moved = landmarks + landmarks.dtype.type(side // 2)
    aligned = warp(with_mirrored_border(picture), similarity(moved, wanted), side)
    return torch.from_numpy(aligned).permute(2, 0, 1).float() / 255 * 2 - 1


def mean_landmarks(path: Path, size: int) -> Floats:
    """Read the mean landmarks 98 2 of aligned faces, for pictures of this side, a multiple of 256.

    Raises:
        ZooError: the file is another one, or the side no multiple.
    """
    if size < SIDE or size % SIDE:
        raise ZooError(f"Aligned faces have a side of {SIDE} pixels or a multiple, not of {size}: --size {SIDE}")
    try:
        with np.load(path, allow_pickle=False) as content:
            mean = np.asarray(content["mean"], np.float32)
    except (OSError, ValueError, KeyError) as error:
        raise ZooError(
            f"{path} holds no mean landmarks ({error}). Take the published file: lightning download {MEAN_WEIGHTS}"
        ) from error
    if mean.shape != (LANDMARKS, 2):
        raise ZooError(f"{path} holds {mean.shape} numbers; expected were {LANDMARKS} landmarks of two each.")
    return mean * (size // SIDE)


def align_face(fan: FAN, picture: NDArray[np.uint8], wanted: Floats, size: int) -> Tensor:
    """Find a face's landmarks and bring it to where it should be.

    Args:
        fan: finds the landmarks.
        picture: uint8 h w 3, of any size, a roughly cropped face.
        wanted: 98 2, in a picture of the wanted size.
        size: side of the result, a multiple of 256.

    Returns:
        3 size size in [-1, 1].
    """
    square = resize_pixels(picture, size, size)
    image = from_uint8(torch.from_numpy(square.copy()).permute(2, 0, 1)[None])
    device = next(fan.parameters()).device
    landmarks = fan.landmarks(image.to(device))[0].cpu().numpy()
    return to_unit(align(square, landmarks, wanted)) * 2 - 1
