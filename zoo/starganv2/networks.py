"""StarGAN v2's networks. `zoo.starganv2` tells the story; keys of the state dicts are the official code's.

Convolutions of 3x3 have stride 1, zero padding and a bias; those of 1x1 on shortcuts have none and exist only where the width changes.
Halving is a 2x2 mean, doubling the nearest pixel; leaky ReLUs have a slope of 0.2.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import log2, sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import ZooError

SLOPE = 0.2
SKIP_SIZES = (32, 64, 128)
"""Heights at which features pass the high-pass skip; the first mask is for the smallest, the second for the others. Pictures whose height
is no power of two have no such features: `StarGANv2.translate` brings them to one."""

TRUNK_SIDE = 4  # of the features that style encoder and discriminator end with
BOTTLENECK_SIDE = 16  # of the generator's, without high-pass skips; half of it with them


def require_power_of_two(image_size: int, least: int) -> None:
    """Refuse an image size that halving does not bring to the networks' innermost size.

    Raises:
        ZooError: it is no power of two, or below the least one.
    """
    if image_size < least or image_size & (image_size - 1):
        near = max(least, 2 ** round(log2(max(1, image_size))))
        raise ZooError(
            f"image_size is {image_size}; StarGAN v2 halves pictures again and again and needs a power of two from {least} on: "
            f"--model.image_size {near} --data.size {near}"
        )


def activate(x: Tensor) -> Tensor:
    """The leaky ReLU of all convolutional networks here."""
    return F.leaky_relu(x, SLOPE)


def double(x: Tensor) -> Tensor:
    """Twice the size, by repeating pixels."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


# Blocks --------------------------------------------------------------------------------------------------------------


class ResidualBlock(nn.Module):
    """Two convolutions around which the input is carried; variances are kept by a division by sqrt(2).

    Args:
        incoming: channels of the input.
        outgoing: channels of the output.
        normalize: whether instance norms stand before the activations.
        downsample: whether the size is halved between the convolutions.
    """

    def __init__(self, incoming: int, outgoing: int, normalize: bool = False, downsample: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(incoming, incoming, 3, padding=1)
        self.conv2 = nn.Conv2d(incoming, outgoing, 3, padding=1)
        self.norm1 = nn.InstanceNorm2d(incoming, affine=True) if normalize else None
        self.norm2 = nn.InstanceNorm2d(incoming, affine=True) if normalize else None
        self.conv1x1 = nn.Conv2d(incoming, outgoing, 1, bias=False) if incoming != outgoing else None
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Map `b c h w`, to half the size if so built."""
        shortcut = x if self.conv1x1 is None else self.conv1x1(x)
        x = self.conv1(activate(x if self.norm1 is None else self.norm1(x)))
        if self.downsample:
            shortcut, x = F.avg_pool2d(shortcut, 2), F.avg_pool2d(x, 2)
        x = self.conv2(activate(x if self.norm2 is None else self.norm2(x)))
        return (shortcut + x) / sqrt(2)


class AdaIN(nn.Module):
    """Adaptive instance norm: each channel's mean and deviation come from the style.

    Args:
        style_channels: of the style code.
        channels: of the features.
    """

    def __init__(self, style_channels: int, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(style_channels, 2 * channels)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Map features `b c h w` by style codes `b s`; a linear layer that gives 0 leaves them normalised."""
        scale, shift = self.fc(style)[:, :, None, None].chunk(2, dim=1)  # b c 1 1 each
        return (1 + scale) * F.instance_norm(x) + shift


class StyledBlock(nn.Module):
    """A residual block with adaptive instance norms.

    Args:
        incoming: channels of the input.
        outgoing: channels of the output.
        style_channels: of the style code.
        shortcut: whether the input is carried around. Official generators with high-pass skips do without, but keep the
            shortcut's 1x1 convolution among their weights: nothing reaches it, and nothing moves it.
        upsample: whether the size is doubled before the first convolution.
    """

    def __init__(
        self, incoming: int, outgoing: int, style_channels: int, shortcut: bool = True, upsample: bool = False
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(incoming, outgoing, 3, padding=1)
        self.conv2 = nn.Conv2d(outgoing, outgoing, 3, padding=1)
        self.norm1 = AdaIN(style_channels, incoming)
        self.norm2 = AdaIN(style_channels, outgoing)
        self.conv1x1 = nn.Conv2d(incoming, outgoing, 1, bias=False) if incoming != outgoing else None
        self.shortcut, self.upsample = shortcut, upsample

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Map features `b c h w` by style codes `b s`, to twice the size if so built."""
        residual = activate(self.norm1(x, style))
        residual = self.conv1(double(residual) if self.upsample else residual)
        residual = self.conv2(activate(self.norm2(residual, style)))
        if not self.shortcut:
            return residual
        x = double(x) if self.upsample else x
        return (residual + (x if self.conv1x1 is None else self.conv1x1(x))) / sqrt(2)


class HighPass(nn.Module):
    """What differs from its eight neighbours, channel by channel.

    Args:
        w_hpf: by which the filter is divided: the larger, the weaker the skip.
    """

    filter: Tensor

    def __init__(self, w_hpf: float) -> None:
        super().__init__()
        kernel = torch.full((3, 3), -1.0)
        kernel[1, 1] = 8.0
        self.register_buffer("filter", kernel / w_hpf)

    def forward(self, x: Tensor) -> Tensor:
        """Filter `b c h w`; outside is 0."""
        channels = x.shape[1]
        kernel = self.filter.to(x.dtype).expand(channels, 1, 3, 3)
        return F.conv2d(x, kernel, padding=1, groups=channels)


# Networks ------------------------------------------------------------------------------------------------------------


def widths_from(channels: int, max_channels: int, halvings: int) -> list[int]:
    """Channels before the first and after each halving: doubled each time, up to the most."""
    return [channels, *(min(channels * 2**level, max_channels) for level in range(1, halvings + 1))]


class Generator(nn.Module):
    """Draws a picture's content in a style: halvings, two blocks on each side of the bottleneck, doublings.

    Args:
        image_size: side of the pictures that its depth is made for; others can be fed, see `size_multiple`.
        channels: of the first layer, doubled with each halving.
        max_channels: of the widest layers.
        style_channels: of the style code.
        w_hpf: 0 for none, else features skip the bottleneck through a high-pass filter divided by it; the bottleneck is half as
            large then.
        last_norm: whether an instance norm stands in front of the last layer, as in the official code.

    Attributes:
        size_multiple: what the sides of pictures must be multiples of.
    """

    def __init__(
        self,
        image_size: int = 256,
        channels: int = 64,
        max_channels: int = 512,
        style_channels: int = 64,
        w_hpf: float = 0.0,
        last_norm: bool = True,
    ) -> None:
        super().__init__()
        require_power_of_two(image_size, BOTTLENECK_SIDE if w_hpf > 0 else 2 * BOTTLENECK_SIDE)
        halvings = int(log2(image_size // BOTTLENECK_SIDE)) + (w_hpf > 0)
        self.size_multiple = 2**halvings
        widths = widths_from(channels, max_channels, halvings)
        steps = list(pairwise(widths))
        widest, plain = widths[-1], w_hpf <= 0
        self.from_rgb = nn.Conv2d(3, channels, 3, padding=1)
        self.encode = nn.ModuleList(ResidualBlock(*step, normalize=True, downsample=True) for step in steps)
        self.encode.extend(ResidualBlock(widest, widest, normalize=True) for _ in range(2))
        self.decode = nn.ModuleList(StyledBlock(widest, widest, style_channels, plain) for _ in range(2))
        self.decode.extend(StyledBlock(b, a, style_channels, plain, upsample=True) for a, b in reversed(steps))
        norm = nn.InstanceNorm2d(channels, affine=True) if last_norm else nn.Identity()
        self.to_rgb = nn.Sequential(norm, nn.LeakyReLU(SLOPE), nn.Conv2d(channels, 3, 1))
        self.hpf = HighPass(w_hpf) if w_hpf > 0 else None

    def forward(self, image: Tensor, style: Tensor, masks: Sequence[Tensor] | None = None) -> Tensor:
        """Draw pictures.

        Args:
            image: b 3 h w in [-1, 1].
            style: b s.
            masks: with high-pass skips, where they let features through: two of b 1 h' w' in [0, 1], of any size, for features
                of height 32, and of 64 and 128. Without masks nothing skips.

        Returns:
            b 3 h w, not limited to a range.
        """
        x = self.from_rgb(image)
        kept: dict[int, Tensor] = {}  # features before they are encoded, by their height
        for block in self.encode:
            if masks is not None and x.shape[2] in SKIP_SIZES:
                kept[x.shape[2]] = x
            x = block(x)
        for block in self.decode:
            x = block(x, style)
            if masks is not None and self.hpf is not None and (size := x.shape[2]) in kept:
                mask = masks[0] if size == SKIP_SIZES[0] else masks[1]
                mask = F.interpolate(mask, x.shape[2:], mode="bilinear", align_corners=False)
                x = x + self.hpf(mask * kept[size])
        return self.to_rgb(x)


def of_domain(branches: Tensor, domain: Tensor) -> Tensor:
    """Pick each sample's own branch.

    All branches were computed, so those of domains that a batch lacks get gradients of zero instead of none, and an optimiser
    moves them on (weight decay, momentum), as in the official code.

    Args:
        branches: b k or b k s.
        domain: b numbers of domains.
    """
    place = domain.reshape(-1, *[1] * (branches.ndim - 1))  # b 1 or b 1 1
    return torch.take_along_dim(branches, place, dim=1).squeeze(1)


class MappingNetwork(nn.Module):
    """Latents to style codes: four shared layers, and four of each domain's own.

    Args:
        latent_channels: of a latent.
        hidden_channels: of the hidden layers.
        style_channels: of a style code.
        domains: how many there are.
    """

    def __init__(
        self, latent_channels: int = 16, hidden_channels: int = 512, style_channels: int = 64, domains: int = 3
    ) -> None:
        super().__init__()
        self.shared = perceptron([latent_channels] + 4 * [hidden_channels])
        self.shared.append(nn.ReLU())
        own = 4 * [hidden_channels] + [style_channels]
        self.unshared = nn.ModuleList(perceptron(own) for _ in range(domains))

    def branches(self, latent: Tensor) -> Tensor:
        """Style codes b k s of latents b z in every domain."""
        x = self.shared(latent)
        return torch.stack([branch(x) for branch in self.unshared], dim=1)

    def forward(self, latent: Tensor, domain: Tensor) -> Tensor:
        """Style codes b s of latents b z, each in its domain (b numbers)."""
        return of_domain(self.branches(latent), domain)


def perceptron(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers of these widths with ReLUs between them."""
    layers: list[nn.Module] = []
    for incoming, outgoing in pairwise(widths):
        layers += [nn.ReLU(), nn.Linear(incoming, outgoing)]
    return nn.Sequential(*layers[1:])


def trunk(image_size: int, channels: int, max_channels: int) -> tuple[list[nn.Module], int]:
    """The layers that style encoder and discriminator have in common in shape, from pictures to one pixel, and its channels."""
    require_power_of_two(image_size, 2 * TRUNK_SIDE)
    widths = widths_from(channels, max_channels, int(log2(image_size // TRUNK_SIDE)))
    blocks = [ResidualBlock(a, b, downsample=True) for a, b in pairwise(widths)]
    last = widths[-1]
    end = [nn.LeakyReLU(SLOPE), nn.Conv2d(last, last, TRUNK_SIDE), nn.LeakyReLU(SLOPE)]
    return [nn.Conv2d(3, channels, 3, padding=1), *blocks, *end], last


class StyleEncoder(nn.Module):
    """Pictures to style codes: a shared trunk, and a linear layer for each domain.

    Args:
        image_size: side of the pictures.
        channels: of the first layer, doubled with each halving.
        max_channels: of the widest layers.
        style_channels: of a style code.
        domains: how many there are.
    """

    def __init__(
        self,
        image_size: int = 256,
        channels: int = 64,
        max_channels: int = 512,
        style_channels: int = 64,
        domains: int = 3,
    ) -> None:
        super().__init__()
        layers, last = trunk(image_size, channels, max_channels)
        self.shared = nn.Sequential(*layers)
        self.unshared = nn.ModuleList(nn.Linear(last, style_channels) for _ in range(domains))

    def branches(self, image: Tensor) -> Tensor:
        """Style codes b k s of pictures b 3 h w in [-1, 1], as if each were of every domain."""
        x = self.shared(image).flatten(1)
        return torch.stack([branch(x) for branch in self.unshared], dim=1)

    def forward(self, image: Tensor, domain: Tensor) -> Tensor:
        """Style codes b s of pictures b 3 h w in [-1, 1], each of its domain (b numbers)."""
        return of_domain(self.branches(image), domain)


class Discriminator(nn.Module):
    """Says of pictures how real they look, as pictures of a domain: one logit per domain.

    Args:
        image_size: side of the pictures.
        channels: of the first layer, doubled with each halving.
        max_channels: of the widest layers.
        domains: how many there are.
    """

    def __init__(self, image_size: int = 256, channels: int = 64, max_channels: int = 512, domains: int = 3) -> None:
        super().__init__()
        layers, last = trunk(image_size, channels, max_channels)
        self.main = nn.Sequential(*layers, nn.Conv2d(last, domains, 1))

    def branches(self, image: Tensor) -> Tensor:
        """Logits b k of pictures b 3 h w in [-1, 1] for every domain."""
        return self.main(image).flatten(1)

    def forward(self, image: Tensor, domain: Tensor) -> Tensor:
        """Logits b of pictures b 3 h w in [-1, 1], each for its domain (b numbers)."""
        return of_domain(self.branches(image), domain)
