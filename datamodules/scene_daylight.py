"""Rendered landscapes in changing light: sky, ground and one object, over which a tone lies that is known.

A landscape is a pure function of (seed, index). Its **content** is what stands where and which share of the light each place gives back;
its **style** are three numbers, from which a colour of the light follows for each of sky, ground and object. A picture is their product,
so the true translation into any other light is known too. There are no domains: all pictures are of one pile.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.sampling import Sample
from datamodules.scene_looks import Floats
from datamodules.scene_render import Content, Integers, background, draw_content, object_mask, uniforms

VERSION = 1
"""Goes up whenever the same (seed, index) shows another picture."""

REGIONS = ("sky", "ground", "object")
"""What the labels mean: 0, 1 and 2."""

DAYLIGHT = ("brightness", "warmth", "glow")
"""The style vector, each in [0, 1]: from night to noon, from blue to orange, how bright ground and object are beside the sky."""

_CONTENT_STREAM, _STYLE_STREAM = 10, 11  # the other scenes use lower ones
_WARM = np.array([0.30, 0.0, -0.45], np.float32)


def draw_daylight(seed: int, indices: Integers) -> Floats:
    """Draw the styles of landscapes.

    Args:
        seed: of the data.
        indices: (n) scene numbers.

    Returns:
        (n, 3) in the order of `DAYLIGHT`.
    """
    return uniforms(seed, _STYLE_STREAM, indices, len(DAYLIGHT)).astype(np.float32)


def light_of(style: Floats) -> Floats:
    """The colour of the light on each region.

    Args:
        style: (n, 3) in the order of `DAYLIGHT`.

    Returns:
        (n, 3, 3): regions in their order, then red, green, blue, each in [0, 1].
    """
    brightness, warmth, glow = (style[:, i, None] for i in range(len(DAYLIGHT)))
    strength = np.stack((0.15 + 0.85 * brightness, 0.12 + (0.2 + 0.68 * glow) * brightness, 0.2 + 0.6 * glow), axis=1)
    share = np.array([1.0, 0.6, 0.8], np.float32)  # of the sky's tint
    tint = 1 + share[:, None] * (2 * warmth[..., None] - 1) * _WARM
    tint /= np.maximum(tint.max(axis=2, keepdims=True), 1)
    return (strength * tint).astype(np.float32)


@dataclass(frozen=True)
class Landscape:
    """What a translation keeps, for n landscapes.

    Attributes:
        content: ground texture and object, as in the other scenes.
        horizon: (n, 5): height from above in shares of the picture, then amplitude and phase of two waves.
        sky: (n, 4): red, green, blue of the zenith, and how much paler the horizon is.
        paint: (n, 3) colour of the object.
    """

    content: Content
    horizon: Floats
    sky: Floats
    paint: Floats


def draw_landscape(seed: int, indices: Integers) -> Landscape:
    """Draw the content of landscapes.

    Args:
        seed: of the data.
        indices: (n) scene numbers.
    """
    u = uniforms(seed, _CONTENT_STREAM, indices, 13)
    content = draw_content(seed, indices)
    horizon = np.stack(
        (0.35 + 0.25 * u[:, 0], 0.03 * u[:, 1], 2 * np.pi * u[:, 2], 0.02 * u[:, 3], 2 * np.pi * u[:, 4]), axis=1
    )
    sky = np.stack((0.50 + 0.2 * u[:, 5], 0.62 + 0.2 * u[:, 6], 0.85 + 0.15 * u[:, 7], 0.5 + 0.5 * u[:, 8]), axis=1)
    paint = 0.25 + 0.7 * u[:, 9:12]
    # The object stands on the ground, across the horizon or below it.
    content.centre[:, 1] = np.clip(horizon[:, 0] + 0.05 + 0.25 * u[:, 12], 0.3, 0.8)
    return Landscape(content, horizon.astype(np.float32), sky.astype(np.float32), paint.astype(np.float32))


def render_landscapes(
    landscape: Landscape, styles: list[Floats], size: int
) -> tuple[list[NDArray[np.uint8]], NDArray[np.int64], Floats]:
    """Paint the same landscapes once per list of styles.

    Args:
        landscape: n landscapes.
        styles: (n, 3) each; two pictures of one landscape are each other's exact translation.
        size: height and width in pixels.

    Returns:
        For each of the styles the images, uint8 (n, 3, size, size); labels (n, size, size), places in `REGIONS`; soft masks of the
        objects, (n, 1, size, size) in [0, 1].
    """
    at = ((np.arange(size) + 0.5) / size).astype(np.float32)
    level, first, first_phase, second, second_phase = (landscape.horizon[:, i, None] for i in range(5))
    line = level + first * np.sin(6 * at + first_phase) + second * np.sin(17 * at + second_phase)  # n w
    below = np.clip(0.5 + size * (at[:, None] - line[:, None]), 0, 1)  # n h w: the ground
    mask = object_mask(landscape.content, size)  # n h w
    depth = np.clip(at[:, None] / level[..., None], 0, 1)  # n h 1: from the zenith down to the horizon
    zenith, pale = landscape.sky[:, :3, None, None], landscape.sky[:, 3, None, None, None]
    sky = zenith + (0.95 - zenith) * pale * depth[:, None]
    given_back = (sky, background(landscape.content, size), landscape.paint[..., None, None])
    shares = ((1 - below) * (1 - mask), below * (1 - mask), mask)
    images = []
    for style in styles:
        light = light_of(style)[..., None, None]  # n 3 3 1 1
        parts = [
            share[:, None] * place * light[:, r]
            for r, (share, place) in enumerate(zip(shares, given_back, strict=True))
        ]
        painted = parts[0] + parts[1] + parts[2]
        images.append((255 * painted + np.float32(0.5)).astype(np.uint8))
    return images, np.argmax(np.stack(shares, axis=1), axis=1), mask[:, None]


@dataclass(frozen=True)
class DaylightMaker:
    """Makes any landscape in any light; a pure function of its fields and the index.

    Attributes:
        size: height and width in pixels.
        seed: of all landscapes.
    """

    size: int
    seed: int

    def style(self, index: int) -> Floats:
        """The style that landscape `index` has of itself, 3 numbers."""
        return draw_daylight(self.seed, np.array([index]))[0]

    def paint(self, index: int, *styles: Floats) -> tuple[list[Tensor], Tensor, Tensor]:
        """Paint landscape `index` in each of the styles: images uint8 3 h w; labels int64 h w; the object's mask 1 h w."""
        landscape = draw_landscape(self.seed, np.array([index]))
        images, labels, mask = render_landscapes(landscape, [style[None] for style in styles], self.size)
        return [torch.from_numpy(image[0]) for image in images], torch.from_numpy(labels[0]), torch.from_numpy(mask[0])


@dataclass(frozen=True)
class DaylightSamples:
    """Two landscapes of one pile, `source` and `target`: called, an endless stream; indexed, a finite list with the truth.

    `source_labels` and `target_labels` are int64 h w, places in `REGIONS`. With the truth, `counterpart` is the source in the target's
    light, `mask` (and `counterpart_mask`, its equal) the source's object, and `source_light` and `target_light` 3 3 the colours of the
    light on each region.

    Attributes:
        maker: paints them.
        first: number of the first sample.
        count: how many there are when indexed.
    """

    maker: DaylightMaker
    first: int
    count: int = 0

    def __call__(self, i: int) -> Sample:
        """Sample `i` of the stream, without the truth."""
        return self.sample(self.first + i, truth=False)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> Sample:
        if not 0 <= i < self.count:
            raise IndexError(f"sample {i} of {self.count}")
        return self.sample(self.first + i, truth=True)

    def sample(self, i: int, *, truth: bool) -> Sample:
        """Make sample `i` of the landscapes 2i and 2i + 1, with the true translation when `truth` is set."""
        styles = [self.maker.style(2 * i), self.maker.style(2 * i + 1)]
        (source, *counterpart), labels, mask = self.maker.paint(2 * i, *(styles if truth else styles[:1]))
        (target,), target_labels, _ = self.maker.paint(2 * i + 1, styles[1])
        sample: Sample = {"source": source, "target": target, "source_labels": labels, "target_labels": target_labels}
        for true in counterpart:
            lights = torch.from_numpy(light_of(np.stack(styles)))
            sample |= {"counterpart": true, "mask": mask, "counterpart_mask": mask}
            sample |= {"source_light": lights[0], "target_light": lights[1]}
        return sample
