"""The renderer of scenes: a textured background and one posed object, whose look alone tells the domains apart.

Everything about a scene is known, because everything is drawn from numbers that are a pure function of (seed, index):

* its **content**: which shape, where, how large, how wide, how turned, and the background (`Content`);
* its **domain**: the look of the object (`LOOKS`);
* its **style**: how the look is carried out, eight numbers (`datamodules.scene_looks.STYLE`).

So the exact translation of a scene is known too: the same content painted in another look with another style.
Edges and patterns are antialiased from signed distances in shares of the image width, hence a scene is the same scene
at every size. The numbers behind a scene are the same on every machine, its pixels up to float32 rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datamodules.scene_looks import LOOKS, SHAPES, Floats

Integers = NDArray[np.int64]
ShapeRule = Literal["shared", "per_domain"]
StyleRule = Literal["varied", "fixed"]

VERSION = 1
"""Goes up whenever the same (seed, index) shows another picture."""

WAVES, BLOBS = 4, 3
_GOLDEN, _MIX1, _MIX2 = (np.uint64(v) for v in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _mix(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64-bit words with the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    bits = (bits ^ (bits >> np.uint64(30))) * _MIX1
    bits = (bits ^ (bits >> np.uint64(27))) * _MIX2
    return bits ^ (bits >> np.uint64(31))


def uniforms(seed: int, stream: int, indices: Integers, count: int) -> NDArray[np.float64]:
    """Draw `count` numbers in [0, 1) per index: a pure function of (seed, stream, index), the same on every machine.

    Args:
        seed: Seed of the data.
        stream: Which family of numbers; different families are independent.
        indices: (n) scene numbers, >= 0.
        count: Numbers per scene.

    Returns:
        (n, count) uniforms.
    """
    root = _mix(np.array([seed], np.int64).astype(np.uint64) * _GOLDEN + np.uint64(stream + 1))
    key = _mix(root + (indices.astype(np.uint64)[:, None] + np.uint64(1)) * _GOLDEN)
    words = _mix(key + np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _rgb(hue: NDArray, saturation: NDArray, value: NDArray) -> NDArray:
    """Turn hue, saturation and value, each (...) in [0, 1], into colours (..., 3) in [0, 1]."""
    k = (np.array([5.0, 3.0, 1.0]) + hue[..., None] * 6) % 6
    return value[..., None] * (1 - saturation[..., None] * np.clip(np.minimum(k, 4 - k), 0, 1))


@dataclass(frozen=True)
class Content:
    """What a translation keeps, for n scenes. Lengths are shares of the image width from the upper left corner.

    Attributes:
        shape: (n) number of the object's shape in `SHAPES`.
        centre: (n, 2) x and y of the object.
        extent: (n, 2) half axes of the object along its own two axes; their ratio is its aspect.
        turn: (n) angle of the object's first axis in radians.
        base: (n, 3) base colour of the background in [0, 1].
        waves: (n, 4, 6) weak sinusoids over it: periods per width along x and y, phase in radians, amplitudes of red,
            green and blue.
        blobs: (n, 3, 7) soft spots: centre x and y, radii along x and y, amplitudes of red, green and blue.
    """

    shape: Integers
    centre: Floats
    extent: Floats
    turn: Floats
    base: Floats
    waves: Floats
    blobs: Floats

    def __len__(self) -> int:
        return len(self.shape)

    def __getitem__(self, rows: slice | Integers) -> "Content":
        return Content(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def draw_content(seed: int, indices: Integers) -> Content:
    """Draw the content of scenes.

    Args:
        seed: Seed of the data.
        indices: (n) scene numbers.
    """
    n = len(indices)
    u = uniforms(seed, 0, indices, 9 + 5 * WAVES + 6 * BLOBS)
    size, aspect = 0.21 + 0.11 * u[:, 1], np.exp2(0.8 * u[:, 2] - 0.4)
    margin = 1.08 * size[:, None]
    wave = u[:, 9 : 9 + 5 * WAVES].reshape(n, WAVES, 5)
    periods, direction = 0.8 * np.exp2(3.6 * wave[..., 0]), 2 * np.pi * wave[..., 1]
    wave_tint = 0.5 + _rgb(wave[..., 4], np.full((n, WAVES), 0.7), np.full((n, WAVES), 0.7))
    blob = u[:, 9 + 5 * WAVES :].reshape(n, BLOBS, 6)
    blob_tint = 0.4 + _rgb(blob[..., 5], np.full((n, BLOBS), 0.6), np.full((n, BLOBS), 0.6))
    motion = np.stack((periods * np.cos(direction), periods * np.sin(direction), 2 * np.pi * wave[..., 2]), axis=-1)
    waves = np.concatenate((motion, (0.015 + 0.045 * wave[..., 3:4]) * wave_tint), axis=-1)
    spots = (blob[..., :2], 0.08 + 0.27 * blob[..., 2:4], (0.3 * blob[..., 4:5] - 0.15) * blob_tint)
    return Content(
        shape=(u[:, 0] * len(SHAPES)).astype(np.int64),
        centre=(margin + (1 - 2 * margin) * u[:, 3:5]).astype(np.float32),
        extent=np.stack((size * np.sqrt(aspect), size / np.sqrt(aspect)), axis=1).astype(np.float32),
        turn=(2 * np.pi * u[:, 5]).astype(np.float32),
        base=_rgb(u[:, 6], 0.05 + 0.30 * u[:, 7], 0.38 + 0.34 * u[:, 8]).astype(np.float32),
        waves=waves.astype(np.float32),
        blobs=np.concatenate(spots, axis=-1).astype(np.float32),
    )


def background(content: Content, size: int) -> Floats:
    """Paint the backgrounds, (n, 3, size, size); each term is a function of x times one of y, so a matrix product."""
    at = ((np.arange(size) + 0.5) / size).astype(np.float32)
    kx, ky = (np.float32(2 * np.pi) * content.waves[..., i, None] for i in range(2))
    phase = content.waves[..., 2, None]
    x, y, rx, ry = (content.blobs[..., i, None] for i in range(4))
    spot_x, spot_y = np.exp(-0.5 * ((at - x) / rx) ** 2), np.exp(-0.5 * ((at - y) / ry) ** 2)
    rows = np.concatenate((np.cos(ky * at), np.sin(ky * at), spot_y), axis=1)  # n r h
    columns = np.concatenate((np.sin(kx * at + phase), np.cos(kx * at + phase), spot_x), axis=1)  # n r w
    strength = np.concatenate((content.waves[..., 3:], content.waves[..., 3:], content.blobs[..., 4:]), axis=1)  # n r 3
    tinted = strength.transpose(0, 2, 1)[..., None] * columns[:, None]  # n 3 r w
    picture = rows.transpose(0, 2, 1)[:, None] @ tinted
    picture += content.base[..., None, None]
    return np.clip(picture, 0, 1, out=picture)


def draw_style(seed: int, indices: Integers) -> Floats:
    """Draw the styles of scenes: a vivid colour, a nearly white or black one, 4.5 to 7.5 periods per image width.

    Args:
        seed: Seed of the data.
        indices: (n) scene numbers.

    Returns:
        (n, 8) numbers in the order of `datamodules.scene_looks.STYLE`.
    """
    u = uniforms(seed, 1, indices, 9)
    light = u[:, 3] < 0.5
    second = _rgb(
        u[:, 4], np.where(light, 0.12, 0.6) * u[:, 5], np.where(light, 0.92 + 0.08 * u[:, 6], 0.05 + 0.15 * u[:, 6])
    )
    first = _rgb(u[:, 0], 0.7 + 0.25 * u[:, 1], 0.75 + 0.25 * u[:, 2])
    return np.concatenate((first, second, 4.5 + 3.0 * u[:, 7:8], u[:, 8:9]), axis=1).astype(np.float32)


@dataclass(frozen=True)
class View:
    """How to paint n contents.

    Attributes:
        look: (n) number of the look in `LOOKS`.
        style: (n, 8) in the order of `datamodules.scene_looks.STYLE`.
        shape: (n) number of the shape in `SHAPES`.
    """

    look: Integers
    style: Floats
    shape: Integers


def _object(u: Floats, v: Floats, extent: Floats, shape: Integers, size: int) -> Floats:
    """Soft coverage of the objects, (n, size, size) in [0, 1]."""
    mask = np.empty_like(u)
    for number, distance in enumerate(SHAPES.values()):
        rows = np.flatnonzero(shape == number)
        if rows.size:
            a, b = extent[rows, 0, None, None], extent[rows, 1, None, None]
            mask[rows] = np.clip(0.5 - size * distance((u[rows], v[rows], a, b)), 0, 1)
    return mask


def _own_axes(content: Content, at: Floats) -> tuple[Floats, Floats]:
    """Positions of all pixels along the objects' own axes, (n, h, w) each, in image widths."""
    x, y = (at - content.centre[:, i, None] for i in range(2))
    cosine, sine = np.cos(content.turn)[:, None], np.sin(content.turn)[:, None]
    u = (cosine * x)[:, None, :] + (sine * y)[:, :, None]
    return u, (-sine * x)[:, None, :] + (cosine * y)[:, :, None]


def object_mask(content: Content, size: int) -> Floats:
    """Soft coverage of the contents' objects in their own shapes, (n, size, size) in [0, 1]."""
    at = ((np.arange(size) + 0.5) / size).astype(np.float32)
    return _object(*_own_axes(content, at), content.extent, content.shape, size)


def render(content: Content, views: Sequence[View], size: int) -> tuple[list[NDArray[np.uint8]], list[Floats]]:
    """Paint the same contents once per view.

    Args:
        content: n contents.
        views: How to paint them; two views of one content are each other's exact translation.
        size: Height and width in pixels.

    Returns:
        For each view the images, uint8 (n, 3, size, size), and the objects' soft masks, (n, 1, size, size) in [0, 1].
    """
    images = [np.empty((len(content), 3, size, size), np.uint8) for _ in views]
    masks = [np.empty((len(content), 1, size, size), np.float32) for _ in views]
    chunk = max(1, 65536 // size**2)  # intermediate arrays of 256 kB stay in the processor's cache
    at = ((np.arange(size) + 0.5) / size).astype(np.float32)
    for start in range(0, len(content), chunk):
        rows = slice(start, start + chunk)
        part = content[rows]
        behind_all = background(part, size)
        u, v = _own_axes(part, at)
        masked_shape = np.full(0, -1)
        for view, image, view_masks in zip(views, images, masks, strict=True):
            look, style, shape = view.look[rows], view.style[rows], view.shape[rows]
            if not np.array_equal(shape, masked_shape):
                mask, masked_shape = _object(u, v, part.extent, shape, size), shape
                behind = behind_all * (255 - 255 * mask[:, None]) + np.float32(0.5)
            view_masks[rows, 0] = mask
            picture = behind + 255 * mask[:, None] * style[:, :3, None, None]
            for number, pattern in enumerate(LOOKS.values()):
                some = np.flatnonzero(look == number)
                frequency, phase = style[some, 6, None, None], style[some, 7, None, None]
                share = pattern(u[some], v[some], frequency, phase, float(size)) if some.size else None
                if share is not None:
                    contrast = 255 * (style[some, 3:6] - style[some, :3])
                    picture[some] += (mask[some] * share)[:, None] * contrast[..., None, None]
            image[rows] = picture  # the half added above rounds to the nearest byte
    return images, masks
