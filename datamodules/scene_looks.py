"""Shapes and looks of the rendered scenes: signed distances and antialiased patterns in the object's own axes."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

STYLE = ("red", "green", "blue", "second red", "second green", "second blue", "frequency", "phase")
"""The style vector: two colours in [0, 1] (`plain` shows the first alone), periods of the pattern per image width,
and its offset in periods."""

Frame = tuple[Floats, Floats, Floats, Floats]  # u, v: (n, h, w) along the object's own axes; a, b: (n, 1, 1) half axes


def _ellipse(frame: Frame) -> Floats:
    u, v, a, b = frame
    p, q = u / a, v / b
    reach = np.sqrt(p * p + q * q) + np.float32(1e-6)
    return (reach - 1) * reach / (np.sqrt((p / a) ** 2 + (q / b) ** 2) + np.float32(1e-6))  # first-order distance


def _bar(frame: Frame) -> Floats:
    u, v, a, b = frame
    a, b = 1.15 * a, 0.62 * b
    corner = 0.45 * np.minimum(a, b)
    p, q = np.abs(u) - a + corner, np.abs(v) - b + corner
    return np.hypot(np.maximum(p, 0), np.maximum(q, 0)) + np.minimum(np.maximum(p, q), 0) - corner


def _sides(frame: Frame, corners: int, inner: float, scale: float) -> list[Floats]:
    """Signed distances to the lines of a regular figure stretched to the half axes.

    `inner` is the distance of the lines from the centre before stretching, in half axes.
    """
    u, v, a, b = frame
    a, b = scale * a, scale * b
    distances = []
    for angle in 2 * np.pi * np.arange(corners) / corners - np.pi / 2:
        p, q = np.float32(np.cos(angle)) / a, np.float32(np.sin(angle)) / b
        length = np.sqrt(p * p + q * q)
        distances.append(u * (p / length) + v * (q / length) - inner / length)
    return distances


def _triangle(frame: Frame) -> Floats:
    first, second, third = _sides(frame, 3, 0.5, 1.3)
    return np.maximum(np.maximum(first, second), third)


def _star(frame: Frame) -> Floats:
    # A point lies in the five-pointed star when it is outside at most one of its five lines: the second largest
    # distance decides.
    sides = _sides(frame, 5, float(np.cos(2 * np.pi / 5)), 1.3)
    largest, second = np.maximum(sides[0], sides[1]), np.minimum(sides[0], sides[1])
    for side in sides[2:]:
        second = np.maximum(second, np.minimum(largest, side))
        largest = np.maximum(largest, side)
    return second


def _ring(frame: Frame) -> Floats:
    u, v, a, b = frame
    return np.maximum(_ellipse((u, v, 1.08 * a, 1.08 * b)), -_ellipse((u, v, 0.48 * a, 0.48 * b)))


def _cross(frame: Frame) -> Floats:
    u, v, a, b = frame
    p, q = np.abs(u), np.abs(v)
    return np.minimum(np.maximum(p - 1.1 * a, q - 0.38 * b), np.maximum(p - 0.38 * a, q - 1.1 * b))


SHAPES: dict[str, Callable[[Frame], Floats]] = {
    "ellipse": _ellipse,
    "bar": _bar,
    "star": _star,
    "triangle": _triangle,
    "ring": _ring,
    "cross": _cross,
}
"""Signed distance to the outline of each shape, negative inside, (n, h, w) in shares of the image width."""


def _stripe(position: Floats, frequency: Floats, pixels: float) -> Floats:
    """Share of the second colour in stripes across one axis; `position` counts periods."""
    inside = (0.25 - np.abs(position - np.floor(position) - 0.5)) / frequency
    return np.clip(inside * pixels + 0.5, 0, 1)


def _plain(u: Floats, v: Floats, frequency: Floats, phase: Floats, pixels: float) -> Floats | None:
    return None


def _striped(u: Floats, v: Floats, frequency: Floats, phase: Floats, pixels: float) -> Floats | None:
    return _stripe(u * frequency + phase, frequency, pixels)


def _dotted(u: Floats, v: Floats, frequency: Floats, phase: Floats, pixels: float) -> Floats | None:
    p, q = u * frequency + phase, v * frequency + phase
    p, q = p - np.floor(p) - 0.5, q - np.floor(q) - 0.5
    return np.clip((0.31 - np.sqrt(p * p + q * q)) * (pixels / frequency) + 0.5, 0, 1)


def _checked(u: Floats, v: Floats, frequency: Floats, phase: Floats, pixels: float) -> Floats | None:
    first, second = (2 * _stripe(axis * frequency + phase, frequency, pixels) - 1 for axis in (u, v))
    return 0.5 + 0.5 * first * second


LOOKS: dict[str, Callable[[Floats, Floats, Floats, Floats, float], Floats | None]] = {
    "plain": _plain,
    "striped": _striped,
    "dotted": _dotted,
    "checked": _checked,
}
"""The share of the second colour at every pixel, (n, h, w) in [0, 1], or None for none of it.

Arguments: u and v, (n, h, w) positions along the object's own axes in image widths; frequency and phase, (n, 1, 1);
pixels per image width. One function more is one domain more."""

FIXED_STYLES: dict[str, tuple[float, ...]] = {
    "plain": (0.96, 0.52, 0.16, 0.97, 0.96, 0.92, 6.0, 0.0),
    "striped": (0.16, 0.36, 0.86, 0.97, 0.96, 0.92, 6.0, 0.0),
    "dotted": (0.86, 0.18, 0.40, 0.97, 0.96, 0.92, 6.0, 0.0),
    "checked": (0.20, 0.72, 0.34, 0.10, 0.12, 0.16, 5.0, 0.0),
}
"""The one style of each look when styles are fixed: then a translation without an exemplar has one true answer."""

SHAPE_OF_LOOK: dict[str, str] = {"plain": "ellipse", "striped": "star", "dotted": "triangle", "checked": "bar"}
"""The shape of each look when shapes are tied to domains: a distant task, which keeps place, size and turn."""
