"""SinGAN: at which sizes the picture is learnt, and how generators run from one to the next."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, log

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.blocks.single_image import shrink_factor
from zoo.core.images import resize_cubic
from zoo.errors import ZooError

Size = tuple[int, int]


@dataclass(frozen=True)
class Plan:
    """The scales of a picture.

    Attributes:
        count: how many there are.
        shrink: what the picture is resized by first.
        ratio: of the size of a scale to that of the next.
    """

    count: int
    shrink: float
    ratio: float


def plan(size: Size, min_size: int, max_size: int, scale_factor: float, *, super_resolution: bool = False) -> Plan:
    """The scales of a picture of a height and width (section 2 of the supplement; functions.py of the official code).

    Args:
        size: height and width, in pixels.
        min_size: shorter side of the first scale.
        max_size: longer side of the last.
        scale_factor: what the ratio should be; it is changed a little, so that the first scale comes out right.
        super_resolution: count the scales as the official code does there, by the height.

    Raises:
        ZooError: the picture is not larger than its first scale.
    """
    shrink = shrink_factor(size, max_size)
    shorter = min(ceil(side * shrink) for side in size)
    if shorter <= min_size:
        smaller = f"--model.min_size {shorter // 2}, or " if shorter >= 24 else ""
        raise ZooError(
            f"The picture is {size[1]}x{size[0]} pixels, {shorter} on its shorter side after shrinking it to max_size: not larger than "
            f"the first scale, which has {min_size}. Type {smaller}--model.max_size {2 * max_size}, or take a larger picture."
        )
    beyond = log(min(max_size, max(size)) / max(size), scale_factor)
    if super_resolution:
        last = int(log(min_size / size[0], scale_factor)) + 1 - int(beyond)
    else:
        last = ceil(log(min_size / min(size), scale_factor)) + 1 - ceil(beyond)
    return Plan(last + 1, shrink, (min_size / shorter) ** (1 / last))


def pyramid(picture: Tensor, scales: Plan) -> list[Tensor]:
    """The picture b 3 h w in [-1, 1] at each scale, all of them made of the largest."""
    top = resize_cubic(picture, scales.shrink)
    return [resize_cubic(top, scales.ratio ** (scales.count - 1 - n)) for n in range(scales.count)]


def passes(factor: float) -> tuple[int, float]:
    """How often super-resolution runs the last generator, and by what it enlarges each time: about the third root of 2."""
    count = max(1, round(log(factor) / log(2 ** (1 / 3))))
    return count, factor ** (1 / count)


def pad(x: Tensor, width: int) -> Tensor:
    """Put a border of zeros around b c h w."""
    return F.pad(x, (width,) * 4)


def upsample(image: Tensor, ratio: float, size: Size) -> Tensor:
    """Bring a picture to the next scale; what is too much is cut off on the right and below."""
    return resize_cubic(image, 1 / ratio)[..., : size[0], : size[1]]


@torch.no_grad()
def climb(
    generators: nn.ModuleList, amplitudes: Sequence[Tensor], ratio: float, image: Tensor, maps: Iterable[Tensor], sizes: Sequence[Size],
    begin: int,
) -> Tensor:  # fmt: skip
    """Run generators, one after the other, without gradients.

    Args:
        generators: of all scales.
        amplitudes: of all scales' noise.
        ratio: of the size of a scale to that of the next.
        image: what the first one that runs starts from, 1 3 h w.
        maps: the noise of those that run, with its border.
        sizes: height and width at all scales, from the very first.
        begin: the first that runs.

    Returns:
        The picture of the last that ran.
    """
    for scale, z in enumerate(maps, start=begin):
        if scale > begin:
            image = upsample(image, ratio, sizes[scale])
        generator = generators[scale]
        border = (z.shape[-1] - sizes[scale][1]) // 2
        previous = pad(image, border)[..., : z.shape[-2], : z.shape[-1]]
        if previous.shape != z.shape:
            previous = F.interpolate(previous, z.shape[-2:], mode="bilinear", align_corners=True)
        image = generator(amplitudes[scale] * z + previous, previous)
    return image
