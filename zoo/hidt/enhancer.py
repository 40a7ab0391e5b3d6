"""The enhancement network: 16 translations of shifted crops become one picture, four times as large.

An RRDBNet (Wang et al., ESRGAN, ECCVW 2018) in the official inference code's widths. There is no norm in it, so a picture can be
enhanced tile by tile: with enough of its surroundings each tile comes out as it would in the whole.
"""

from collections.abc import Callable, Iterator
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.hidt.generator import PICTURE_CHANNELS, Generator
from zoo.hidt.pictures import CROPS, Pixels, enlarged_for_crops, resized_for_inference, shifted_crop, to_input

SLOPE = 0.2
RESIDUAL_SHARE = 0.2  # of what a dense block, and a group of them, adds
DENSE_CONVS = 5
STACK_CHANNELS = PICTURE_CHANNELS * CROPS**2
ENLARGING = 2
"""How far the layers that enlarge see, in pixels of the stack: 1 + 1/2 + 1/4 + 1/4."""


class DenseBlock(nn.Module):
    """Five 3x3 convolutions, each over the input and all outputs before it; a fifth of the last one's is added to the input."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(channels + i * growth, growth if i < DENSE_CONVS - 1 else channels, 3, padding=1)
            for i in range(DENSE_CONVS)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `b c h w` to the same shape."""
        seen = [x]
        for conv in self.convs[:-1]:
            seen.append(F.leaky_relu(conv(torch.cat(seen, 1)), SLOPE))
        return x + RESIDUAL_SHARE * self.convs[-1](torch.cat(seen, 1))


class DenseGroup(nn.Module):
    """Three dense blocks (an RRDB); a fifth of what comes out is added to the input."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(DenseBlock(channels, growth) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        """Map `b c h w` to the same shape."""
        return x + RESIDUAL_SHARE * self.blocks(x)


class Enhancer(nn.Module):
    """Merges a stack of translated crops.

    Args:
        channels: of the layers between.
        groups: of three dense blocks each.
        growth: channels that each convolution of a dense block adds.
        incoming: channels of the stack; 48 for 16 crops.
    """

    def __init__(self, channels: int = 64, groups: int = 5, growth: int = 32, incoming: int = STACK_CHANNELS) -> None:
        super().__init__()
        self.first = nn.Conv2d(incoming, channels, 3, padding=1)
        self.groups = nn.ModuleList(DenseGroup(channels, growth) for _ in range(groups))
        self.trunk = nn.Conv2d(channels, channels, 3, padding=1)
        self.upsamplings = nn.ModuleList(nn.Conv2d(channels, 4 * channels, 3, padding=1) for _ in range(2))
        self.fine = nn.Conv2d(channels, channels, 3, padding=1)
        self.last = nn.Conv2d(channels, PICTURE_CHANNELS, 3, padding=1)

    def forward(self, stack: Tensor) -> Tensor:
        """Map stacks `b 48 h w` to pictures `b 3 4h 4w`, about in [-1, 1]; who shows them clamps."""
        return self.enlarge(self.merge(stack))

    def merge(self, stack: Tensor) -> Tensor:
        """The part of `forward` at the stack's size: `b 48 h w` to `b c h w`."""
        first = self.first(stack)
        x = first
        for group in self.groups:
            x = group(x)
        return first + self.trunk(x)

    def enlarge(self, features: Tensor) -> Tensor:
        """The part of `forward` that enlarges: `b c h w` to `b 3 4h 4w`."""
        x = features
        for upsampling in self.upsamplings:
            x = F.leaky_relu(F.pixel_shuffle(upsampling(x), 2), SLOPE)
        return self.last(F.leaky_relu(self.fine(x), SLOPE))

    def forward_in_tiles(self, stack: Tensor, tile: int) -> Tensor:
        """As `forward`, for stacks of any size in the memory of a tile; the same numbers, up to rounding.

        Args:
            stack: b 48 h w.
            tile: side of a tile in pixels of the stack. It is merged with as much around it as its convolutions see, of which
                enlarging, the part that takes memory, needs a few pixels alone.

        Returns:
            b 3 4h 4w.
        """
        height, width = stack.shape[2:]
        if max(height, width) <= tile:
            return self(stack)
        result = stack.new_empty(len(stack), PICTURE_CHANNELS, CROPS * height, CROPS * width)
        for top, left in product(range(0, height, tile), range(0, width, tile)):
            own = Window(top, left, min(top + tile, height), min(left + tile, width))
            own.times(CROPS).of(result).copy_(self.forward_of(stack, own))
        return result

    def forward_of(self, stack: Tensor, own: "Window") -> Tensor:
        """What `forward` makes of a window of stacks `b 48 h w`, with as much around it as convolutions see: `b 3 4h' 4w'`."""
        height, width = stack.shape[2:]
        merging = len(self.groups) * 3 * DENSE_CONVS + 2  # one pixel per 3x3 convolution: the first one, the trunk's
        wide = own.grown(ENLARGING, height, width)
        wider = wide.grown(merging, height, width)
        enlarged = self.enlarge(wide.of(self.merge(wider.of(stack)), wider))
        return own.times(CROPS).of(enlarged, wide.times(CROPS))


class Window(NamedTuple):
    """A rectangle of pixels, its lower right corner excluded."""

    top: int
    left: int
    bottom: int
    right: int

    def grown(self, by: int, height: int, width: int) -> "Window":
        """Wider by some pixels on each side, but no wider than the picture."""
        return Window(
            max(0, self.top - by), max(0, self.left - by), min(height, self.bottom + by), min(width, self.right + by)
        )

    def times(self, factor: int) -> "Window":
        """The same of an enlarged picture."""
        return Window(*(factor * place for place in self))

    def of(self, picture: Tensor, within: "Window | None" = None) -> Tensor:
        """Cut `b c h w` out of a picture, or out of another window of it."""
        top, left = (0, 0) if within is None else within[:2]
        return picture[:, :, self.top - top : self.bottom - top, self.left - left : self.right - left]


# A picture ---------------------------------------------------------------------------------------------------------------------


def translated_crops(
    translator: Generator,
    picture: Pixels,
    style: Tensor,
    resolution: int,
    noisy: Callable[[Tensor], Tensor],
    side: int | None = None,
) -> Iterator[Tensor]:
    """Translate the 16 shifted crops of a picture, one after the other.

    Args:
        translator: in eval mode.
        picture: uint8 h w 3, of any size.
        style: 1 s, of all crops.
        resolution: shorter side of the result that the crops will make.
        noisy: adds de-quantisation noise to a crop `1 3 h w` in [-1, 1], or gives it back as it is.
        side: shorter side at which crops are translated; a quarter of the resolution by default. All sides are rounded to multiples
            of 16.

    Yields:
        1 3 h w in [-1, 1] each.
    """
    large = enlarged_for_crops(picture, resolution)
    for number in range(CROPS**2):
        crop = resized_for_inference(shifted_crop(large, number, resolution), side or resolution // CROPS)
        yield translator(noisy(to_input(crop, style.dtype)[None].to(style)), style).image
