"""ConSinGAN: what the coarsest picture goes through, so that a network learns to undo it.

Harmonisation changes colours and cuts holes; editing moves patches about. Pictures are `b 3 h w` with values 0..255 here, as in the
official code. There a library takes floats for values up to 1 and cuts four of the colour changes off at 1: these inputs are all but
black. `as_released` gives that; without it every change is what it was meant to be.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from zoo.core import Draws

Hole = tuple[int, int, int, int]
Randint = Callable[[int, int], int]

COLOUR_SHARE, CUT_SHARE = 0.25, 0.9
GROUPS = (5.0, 5.0, 5.0, 1.0)  # odds of noise, of tones, of channels and of hue
NOISES = (2.0, 5.0, 5.0)  # odds of a factor per value, of one grey noise, of a noise per channel
HUE, SATURATION, VALUE = 20.0, 30.0, 20.0  # largest shifts, in OpenCV's units for 8 bits
SEPIA = ((0.393, 0.769, 0.189), (0.349, 0.686, 0.168), (0.272, 0.534, 0.131))
TILES = {  # share of a side that a tile has, and share by which it is moved, by the number of tiles
    1: ((0.2, 0.5), (0.05, 0.15)),
    2: ((0.15, 0.3), (0.05, 0.1)),
    3: ((0.1, 0.2), (0.05, 0.1)),
    4: ((0.1, 0.15), (0.05, 0.1)),
    5: ((0.1, 0.15), (0.05, 0.1)),
}

# Changes ---------------------------------------------------------------------------------------------------------------------


def cut_off(x: Tensor, as_released: bool) -> Tensor:
    """Keep values within 0..255, or within 0..1 as the released code does by mistake."""
    return x.clamp(0, 1 if as_released else 255)


def multiply(x: Tensor, factor: Tensor, as_released: bool) -> Tensor:
    """Multiply each value by a factor of its own, of the same shape."""
    return cut_off(x * factor, as_released)


def add_noise(x: Tensor, noise: Tensor, as_released: bool) -> Tensor:
    """Add noise of the same shape."""
    return cut_off(x + noise, as_released)


def add_grey_noise(x: Tensor, noise: Tensor) -> Tensor:
    """Add one noise b 1 h w to all channels; picture and noise lose their fractions first."""
    return (x.trunc() + noise.trunc()).clamp(0, 255)


def invert(x: Tensor) -> Tensor:
    """The negative."""
    return 255 - x


def sepia(x: Tensor, as_released: bool) -> Tensor:
    """The tones of old photographs."""
    return cut_off(torch.einsum("oc,bchw->bohw", x.new_tensor(SEPIA), x), as_released)


def drop_channel(x: Tensor, channel: int) -> Tensor:
    """Set one channel to 0."""
    kept = torch.ones(3, device=x.device, dtype=x.dtype)
    kept[channel] = 0
    return x * kept[:, None, None]


def shuffle_channels(x: Tensor, order: Sequence[int]) -> Tensor:
    """Put channels into another order."""
    return x[:, list(order)]


def shift_hue(x: Tensor, hue: float, saturation: float, value: float, as_released: bool) -> Tensor:
    """Shift hue, saturation and brightness.

    Args:
        x: b 3 h w in 0..255.
        hue: in steps of two degrees.
        saturation: in 255ths.
        value: in 255ths.
        as_released: shifts are in degrees and wholes, hues wrap at 180 degrees, and saturation and value end at 1.
    """
    h, s, v = to_hsv(x)
    if as_released:
        h, s, v = h + hue, s + saturation, v + value
        h = torch.where(h < 0, h + 180, h)
        h = torch.where(h > 180, h - 180, h)
        return from_hsv(h, s.clamp(0, 1), v.clamp(0, 1))
    return from_hsv((h + 2 * hue) % 360, (s + saturation / 255).clamp(0, 1), (v + value).clamp(0, 255))


def to_hsv(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue in degrees, saturation in [0, 1] and value in the picture's own unit, b h w each."""
    value, most = x.max(1)
    spread = value - x.amin(1)
    r, g, b = x.unbind(1)
    scaled = 60 / spread.clamp(min=torch.finfo(x.dtype).eps)
    hues = torch.stack([(g - b) * scaled, (b - r) * scaled + 120, (r - g) * scaled + 240], 1)
    hue = hues.gather(1, most[:, None])[:, 0] % 360
    return hue, spread / value.clamp(min=torch.finfo(x.dtype).eps), value


def from_hsv(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """The picture b 3 h w of what `to_hsv` gives."""
    channels = []
    for turn in (5.0, 3.0, 1.0):
        place = (turn + hue / 60) % 6
        channels.append(value * (1 - saturation * torch.minimum(place, 4 - place).clamp(0, 1)))
    return torch.stack(channels, 1)


def cut_holes(x: Tensor, holes: Sequence[Hole], colour: Sequence[int]) -> Tensor:
    """Paint rectangles, each (left, top, right, bottom), in one colour."""
    cut = x.clone()
    for left, top, right, bottom in holes:
        cut[:, :, top:bottom, left:right] = x.new_tensor(colour)[:, None, None]
    return cut


def move_tiles(x: Tensor, randint: Randint, coin: Callable[[], float]) -> Tensor:
    """Copy a few rectangles of a picture to places close by.

    Args:
        x: b 3 h w.
        randint: draws a whole number between two, both included.
        coin: draws a number in [0, 1).
    """
    moved, sides = x.clone(), x.shape[-2:]
    count = randint(1, 5)
    shares, shifts = TILES[count]
    for _ in range(count):
        begin = [randint(0, side) for side in sides]
        length = [randint(int(shares[0] * side), int(shares[1] * side)) for side in sides]
        shift = [randint(int(shifts[0] * side), int(shifts[1] * side)) for side in sides]
        length = [min(part, side - start) for part, side, start in zip(length, sides, begin, strict=True)]
        if coin() < 0.5:
            target = [max(0, start - by) for start, by in zip(begin, shift, strict=True)]
        else:
            target = [min(start + by, side - part) for start, by, side, part in zip(begin, shift, sides, length, strict=True)]  # fmt: skip
        (top, left), (height, width), (to_top, to_left) = begin, length, target
        tile = x[..., top : top + height, left : left + width]
        moved[..., to_top : to_top + height, to_left : to_left + width] = tile
    return moved


# Draws -----------------------------------------------------------------------------------------------------------------------


def uniform(draws: Draws, low: float = 0.0, high: float = 1.0) -> float:
    """One number in [low, high), drawn on the CPU: what follows from it waits for no device."""
    return low + (high - low) * float(draws.uniform("perturb", (), device="cpu"))


def randint(draws: Draws, low: int, high: int) -> int:
    """One whole number between two, both included, drawn on the CPU."""
    return int(draws.integers("perturb", (), low, high + 1, device="cpu"))


def choose(draws: Draws, odds: Sequence[float]) -> int:
    """One of several, by their odds."""
    at = uniform(draws, 0.0, sum(odds))
    return next((place for place in range(len(odds)) if at < sum(odds[: place + 1])), len(odds) - 1)


def change_colours(x: Tensor, draws: Draws, as_released: bool) -> Tensor:
    """One random change of the colours of b 3 h w, values 0..255."""
    group = choose(draws, GROUPS)
    if group == 0:
        noise = choose(draws, NOISES)
        if noise == 0:
            return multiply(x, 0.5 + draws.uniform("perturb_noise", x.shape).to(x), as_released)
        if noise == 1:
            deviation = uniform(draws, 2.55, 12.75)
            return add_grey_noise(x, deviation * draws.normal("perturb_noise", (len(x), 1, *x.shape[2:])).to(x))
        return add_noise(
            x, uniform(draws, 10.0, 50.0) ** 0.5 * draws.normal("perturb_noise", x.shape).to(x), as_released
        )
    first = choose(draws, (1.0, 1.0)) == 0
    if group == 1:
        return invert(x) if first else sepia(x, as_released)
    if group == 2:
        if first:
            return drop_channel(x, randint(draws, 0, 2))
        return shuffle_channels(x, draws.permutation("perturb_order", 3, device="cpu").tolist())
    hue, saturation, value = (uniform(draws, -most, most) for most in (HUE, SATURATION, VALUE))
    return shift_hue(x, hue, saturation, value, as_released)


def draw_holes(draws: Draws, size: Sequence[int], sides: tuple[int, int]) -> list[Hole]:
    """One hole, or two of half the side.

    Args:
        draws: where numbers come from.
        size: height and width of the picture.
        sides: least and largest side of a single hole.
    """
    count = 1 + choose(draws, (1.0, 1.0))
    low, high = (side // count for side in sides)
    holes = []
    for _ in range(count):
        height, width = randint(draws, low, high), randint(draws, low, high)
        y, x = randint(draws, 0, size[0]), randint(draws, 0, size[1])
        top, left = max(0, y - height // 2), max(0, x - width // 2)
        holes.append((left, top, min(size[1], x + width // 2), min(size[0], y + height // 2)))
    return holes


def perturb_colours(picture: Tensor, draws: Draws, hole_sides: tuple[int, int], as_released: bool) -> Tensor:
    """The input of a harmonisation network: colours are changed in a quarter of the draws, holes are cut in nine of ten.

    Args:
        picture: b 3 h w in [-1, 1].
        draws: where numbers come from.
        hole_sides: least and largest side of a hole, in pixels.
        as_released: see the top of this file.

    Returns:
        b 3 h w in [-1, 1].
    """
    x = (picture + 1) * 127.5
    if uniform(draws) < COLOUR_SHARE:
        x = change_colours(x, draws, as_released)
    if uniform(draws) < CUT_SHARE:
        colour = [randint(draws, 0, 256) for _ in range(3)]
        x = cut_holes(x, draw_holes(draws, x.shape[-2:], hole_sides), colour)
    return (x / 127.5 - 1).clamp(-1, 1)


def perturb_layout(picture: Tensor, draws: Draws) -> Tensor:
    """The input of an editing network: patches are moved about, and a little noise is added, b 3 h w in [-1, 1]."""
    moved = move_tiles(picture, partial(randint, draws), partial(uniform, draws))
    return moved + 0.1 * draws.normal("z", picture.shape).to(picture)
