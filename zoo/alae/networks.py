"""ALAE: the mappings F and D, the encoder E that reads styles off a picture, and the generator G that paints by them."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from zoo.alae.layers import (
    Conv,
    DownConv,
    Linear,
    UpConv,
    activate,
    apply_style,
    blur,
    doubled,
    halved,
    instance_norm,
    pixel_norm,
)

ENCODER_EPS, GENERATOR_EPS = 1e-5, 1e-8  # of the instance norms: two different ones in the official code
MAPPING_RATE = 0.1  # factor of the mappings' steps
FUSED_SIDE = 128  # side from which on a doubling convolution's weight is that of a transposed one
STYLES_PER_BLOCK = 2

AddNoise = Callable[[Tensor, Tensor, int], Tensor]
"""Adds noise to features: gets them, b c h w, the noise's weights, 1 c 1 1, and the number of the block."""


def widths(start: int, most: int, levels: int) -> list[int]:
    """Channels from the largest pictures to the smallest feature maps: doubled each time, up to a limit; levels + 1 numbers."""
    return [min(most, start * 2**i) for i in range(levels + 1)]


class Mapping(nn.Module):
    """F: from a latent code to the code w that styles are made of.

    Args:
        latent_channels: of both.
        layers: number of affine maps, each followed by a leaky ReLU.
    """

    def __init__(self, latent_channels: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Linear(latent_channels, latent_channels, rate=MAPPING_RATE) for _ in range(layers))

    def forward(self, z: Tensor) -> Tensor:
        """Map `b z` to `b z`."""
        x = pixel_norm(z)
        for layer in self.layers:
            x = activate(layer(x))
        return x


class Critic(nn.Module):
    """D: a linear map from a code w to a logit, in three steps as in the official code.

    Args:
        latent_channels: of the code.
        outputs: of the last step; the official StyleALAE's has twice as many as the code, all but one of them unused.
        logit: which of them is the logit.
    """

    def __init__(self, latent_channels: int, outputs: int, logit: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Linear(latent_channels, size, rate=MAPPING_RATE) for size in (latent_channels, latent_channels, outputs)
        )
        self.logit = logit

    def forward(self, w: Tensor) -> Tensor:
        """Map `b z` to logits `b`."""
        for layer in self.layers:
            w = layer(w)
        return w[:, self.logit]


class EncoderBlock(nn.Module):
    """Two convolutions, the second of which halves the size; after each, a style is read off and taken away.

    Args:
        incoming: channels.
        outgoing: channels.
        latent_channels: of the code.
        least_variance: see `StyleEncoder`.
    """

    def __init__(self, incoming: int, outgoing: int, latent_channels: int, least_variance: float = 0.0) -> None:
        super().__init__()
        self.conv_1 = Conv(incoming, incoming, 3)
        self.bias_1 = nn.Parameter(torch.zeros(1, incoming, 1, 1))
        self.style_1 = Linear(2 * incoming, latent_channels)
        self.conv_2 = DownConv(incoming, outgoing)
        self.bias_2 = nn.Parameter(torch.zeros(1, outgoing, 1, 1))
        self.style_2 = Linear(2 * outgoing, latent_channels)
        self.least_variance = least_variance

    def forward(self, x: Tensor, last: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Encode one size.

        Args:
            x: b incoming h w.
            last: whether nobody needs the normalised result; it is then given as it was before.

        Returns:
            b outgoing h/2 w/2, and the two styles' shares of the code, b z each.
        """
        x, first = self._read(activate(self.conv_1(x) + self.bias_1), self.style_1, keep=True)
        x = activate(self.conv_2(blur(x)) + self.bias_2)
        x, second = self._read(x, self.style_2, keep=not last)
        return x, first, second

    def _read(self, x: Tensor, style: nn.Module, *, keep: bool) -> tuple[Tensor, Tensor]:
        """Read a style, means and then deviations of all channels, and normalise what it was read off."""
        mean = x.mean((2, 3), keepdim=True)
        centred = x - mean
        variance = centred.square().mean((2, 3), keepdim=True)
        seen = variance.clamp(min=self.least_variance) if self.least_variance > 0 else variance
        code = style(torch.cat([mean, seen.sqrt()], 1).flatten(1))
        return (centred * torch.rsqrt(variance + ENCODER_EPS) if keep else x), code


class StyleEncoder(nn.Module):
    """E: sums up what all sizes of a picture say about its style. Level l works on pictures of 4 * 2^l pixels.

    Args:
        start_channels: at the largest size.
        most_channels: at any size.
        levels: number of sizes.
        latent_channels: of the code.
        image_channels: of pictures.
        least_variance: the deviation of a channel has no gradient where its variance is 0, as it is in the official code, which then
            gets NaN. With a number above 0 variances below it count as it, without a gradient; all others are as before.
    """

    def __init__(
        self,
        start_channels: int,
        most_channels: int,
        levels: int,
        latent_channels: int,
        image_channels: int = 3,
        least_variance: float = 0.0,
    ) -> None:
        super().__init__()
        channels = widths(start_channels, most_channels, levels)
        self.from_rgb = nn.ModuleList(Conv(image_channels, c, 1, bias=True) for c in channels[:-1])
        self.blocks = nn.ModuleList(
            EncoderBlock(channels[i], channels[i + 1], latent_channels, least_variance) for i in range(levels)
        )

    def begin(self, number: int, image: Tensor) -> Tensor:
        """Features of pictures at a block's size; the official code applies its activation twice."""
        return activate(activate(self.from_rgb[number](image)))

    def forward(self, image: Tensor, level: int, blend: float = 1.0) -> Tensor:
        """Encode pictures.

        Args:
            image: b c s s in [-1, 1] with s = 4 * 2^level.
            level: of detail, from 0 to levels - 1.
            blend: share of the level's own block, from 0 to 1; the rest comes from a picture of half the size.

        Returns:
            Codes b z.
        """
        first = len(self.blocks) - 1 - level
        last = len(self.blocks) - 1
        x, one, two = self.blocks[first](self.begin(first, image), first == last)
        code = one + two
        if blend < 1 and level > 0:
            code = blend * code
            x = torch.lerp(self.begin(first + 1, halved(image)), x, blend)
        for number in range(first + 1, last + 1):
            x, one, two = self.blocks[number](x, number == last)
            code = code + one + two
        return code


class GeneratorBlock(nn.Module):
    """Paints one size: (up, blur,) noise, style, a convolution, noise, style.

    Args:
        number: of the block; 0 begins with a constant and doubles nothing.
        incoming: channels.
        outgoing: channels.
        latent_channels: of the code.
        fused: how the first convolution's weight is meant, see `UpConv`.
    """

    def __init__(self, number: int, incoming: int, outgoing: int, latent_channels: int, fused: bool) -> None:
        super().__init__()
        self.number = number
        self.conv_1 = UpConv(incoming, outgoing, fused) if number else None
        self.noise_weight_1 = nn.Parameter(torch.zeros(1, outgoing, 1, 1))
        self.bias_1 = nn.Parameter(torch.zeros(1, outgoing, 1, 1))
        self.style_1 = Linear(latent_channels, 2 * outgoing, gain=1.0)
        self.conv_2 = Conv(outgoing, outgoing, 3)
        self.noise_weight_2 = nn.Parameter(torch.zeros(1, outgoing, 1, 1))
        self.bias_2 = nn.Parameter(torch.zeros(1, outgoing, 1, 1))
        self.style_2 = Linear(latent_channels, 2 * outgoing, gain=1.0)

    def forward(self, x: Tensor, style_1: Tensor, style_2: Tensor, noise: AddNoise) -> Tensor:
        """Paint.

        Args:
            x: b incoming h w, or 1 outgoing 4 4 in block 0.
            style_1: codes b z of the first style.
            style_2: codes b z of the second.
            noise: adds noise to features.

        Returns:
            b outgoing 2h 2w, or b outgoing 4 4.
        """
        if self.conv_1 is not None:
            x = blur(self.conv_1(x))
        x = activate(noise(x, self.noise_weight_1, self.number) + self.bias_1)
        x = apply_style(instance_norm(x, GENERATOR_EPS), self.style_1(style_1))
        x = activate(noise(self.conv_2(x), self.noise_weight_2, self.number) + self.bias_2)
        return apply_style(instance_norm(x, GENERATOR_EPS), self.style_2(style_2))


class StyleGenerator(nn.Module):
    """G: paints pictures from two styles per size.

    Args:
        start_channels: at the largest size.
        most_channels: at any size.
        levels: number of sizes.
        latent_channels: of the codes.
        image_channels: of pictures.
    """

    def __init__(
        self, start_channels: int, most_channels: int, levels: int, latent_channels: int, image_channels: int = 3
    ) -> None:
        super().__init__()
        channels = widths(start_channels, most_channels, levels - 1)[::-1]
        self.constant = nn.Parameter(torch.ones(1, channels[0], 4, 4))
        self.blocks = nn.ModuleList(
            GeneratorBlock(i, channels[max(i - 1, 0)], c, latent_channels, 4 * 2**i >= FUSED_SIDE)
            for i, c in enumerate(channels)
        )
        self.to_rgb = nn.ModuleList(Conv(c, image_channels, 1, gain=0.03, bias=True) for c in channels)

    def forward(self, styles: Tensor, level: int, blend: float, noise: AddNoise) -> Tensor:
        """Paint pictures.

        Args:
            styles: codes b n z, two for each size up to the level's at least.
            level: of detail; pictures have 4 * 2^level pixels each way.
            blend: share of the level's own block; the rest is the picture of half the size, doubled.
            noise: adds noise to features.

        Returns:
            b c s s, about [-1, 1]; nothing bounds it.
        """
        x, before = self.constant, self.constant
        for number in range(level + 1):
            before = x
            x = self.blocks[number](x, styles[:, 2 * number], styles[:, 2 * number + 1], noise)
        image = self.to_rgb[level](x)
        if blend < 1 and level > 0:
            image = torch.lerp(doubled(self.to_rgb[level - 1](before)), image, blend)
        return image


def without_noise(x: Tensor, weight: Tensor, number: int) -> Tensor:
    """In the place of noise, what the official code adds where noise is off: a bell of the features' own values.

    Args:
        x: features b c h w.
        weight: of noise, which plays no part.
        number: of the block, which widens the bell.
    """
    spread = math.sqrt(number + 1)
    return x + spread * torch.exp(-x.square() / (2.0 * spread**2)) / math.sqrt(2 * math.pi) * 0.8
