"""UNIT's discriminators: four official designs, each of which judges pictures of both domains in one pass.

Three are the paper's code (zero padding, leaky ReLUs of slope 0.01), the last one is the later official code's. None normalises over
more than one sample, so real and translated pictures can share a batch.
"""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.blocks.layer_norm import LayerNorm
from zoo.errors import ZooError
from zoo.unit.generators import ACTIVATIONS, PAPER_SLOPE, Activation, ConvBlock, Padding, padded_conv

Norm = Literal["none", "instance", "layer"]
Judgements = tuple[list[Tensor], list[Tensor]]
"""Logits `b 1 h w` of source and of target pictures, one per scale."""


def strided(incoming: int, outgoing: int, kernel: int = 3) -> ConvBlock:
    """Half the size, by the paper's code."""
    conv = nn.Conv2d(incoming, outgoing, kernel, stride=2, padding=kernel // 2)
    return ConvBlock(conv, activation=nn.LeakyReLU(PAPER_SLOPE, inplace=True))


class PlainDiscriminators(nn.Module):
    """COCODis: a network of its own for each domain, 3x3 convolutions of stride 2 and a 1x1 one.

    Args:
        source_channels: of source pictures.
        target_channels: of target pictures.
        channels: of the first layer; each further one doubles them.
        layers: number of strided convolutions; 5 for the paper's maps, 6 for its cats and dogs.
    """

    def __init__(self, source_channels: int = 3, target_channels: int = 3, channels: int = 64, layers: int = 5) -> None:
        super().__init__()

        def network(incoming: int) -> nn.Sequential:
            widths = [incoming, *(channels * 2**i for i in range(layers))]
            return nn.Sequential(*(strided(*pair) for pair in pairwise(widths)), nn.Conv2d(widths[-1], 1, 1))

        self.source, self.target = network(source_channels), network(target_channels)

    def forward(self, source: Tensor, target: Tensor) -> Judgements:
        """Judge pictures `b c h w` of each domain."""
        return [self.source(source)], [self.target(target)]


class SharedDiscriminators(nn.Module):
    """COCOSharedDis: own first layers, shared later ones.

    Args:
        source_channels: of source pictures.
        target_channels: of target pictures.
        channels: of the first layer, a 7x7 convolution; each further layer, 3x3, doubles them.
        layers: number of strided convolutions in all; 6 in the paper's code.
        shared_layers: how many of them, the last ones, both domains share; 4 in the paper's code.

    Raises:
        ZooError: no layer would be left to each domain.
    """

    def __init__(
        self,
        source_channels: int = 3,
        target_channels: int = 3,
        channels: int = 64,
        layers: int = 6,
        shared_layers: int = 4,
    ) -> None:
        super().__init__()
        if not 0 <= shared_layers < layers:
            raise ZooError(
                f"Of {layers} layers {shared_layers} can't be shared, for the first one is each domain's own: "
                f"--model.discriminator_shared_layers {layers - 1}"
            )
        widths = [channels * 2**i for i in range(layers)]
        own = layers - shared_layers

        def front(incoming: int) -> nn.Sequential:
            later = (strided(*pair) for pair in pairwise(widths[:own]))
            return nn.Sequential(strided(incoming, channels, kernel=7), *later)

        self.source, self.target = front(source_channels), front(target_channels)
        later = (strided(*pair) for pair in pairwise(widths[own - 1 :]))
        self.shared = nn.Sequential(*later, nn.Conv2d(widths[-1], 1, 1))

    def forward(self, source: Tensor, target: Tensor) -> Judgements:
        """Judge pictures `b c h w` of each domain."""
        both = self.shared(torch.cat([self.source(source), self.target(target)]))
        logits_source, logits_target = both.split([len(source), len(target)])
        return [logits_source], [logits_target]


def blur(image: Tensor) -> Tensor:
    """Smooth pictures `b c h w` with the 3x3 kernel of binomial weights, edges repeated."""
    weights = image.new_tensor([0.25, 0.5, 0.25])
    kernel = torch.outer(weights, weights).expand(image.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), kernel, groups=image.shape[1])


def halve(image: Tensor, *, crop_to_height: bool = False) -> Tensor:
    """Blur pictures `b c h w`, and take every second pixel of every second row.

    Args:
        image: the pictures.
        crop_to_height: lose all columns beyond the height, as the official code does with wide pictures.
    """
    width = image.shape[-2] if crop_to_height else None
    return blur(image)[:, :, ::2, :width:2]


class BlurredDiscriminators(nn.Module):
    """COCOMsDis: plain discriminators at full, half and quarter size.

    Args:
        source_channels: of source pictures.
        target_channels: of target pictures.
        channels: of the first layers.
        layers: number of strided convolutions; 4 in the paper's code.
        scales: number of sizes; 3 in the paper's code.
        crop_to_height: see `halve`.
    """

    def __init__(
        self,
        source_channels: int = 3,
        target_channels: int = 3,
        channels: int = 64,
        layers: int = 4,
        scales: int = 3,
        crop_to_height: bool = False,
    ) -> None:
        super().__init__()
        self.crop_to_height = crop_to_height
        self.scales = nn.ModuleList(
            PlainDiscriminators(source_channels, target_channels, channels, layers) for _ in range(scales)
        )

    def forward(self, source: Tensor, target: Tensor) -> Judgements:
        """Judge pictures `b c h w` of each domain."""
        logits_source: list[Tensor] = []
        logits_target: list[Tensor] = []
        for number, judge in enumerate(self.scales):
            if number:
                source, target = (halve(image, crop_to_height=self.crop_to_height) for image in (source, target))
            of_source, of_target = judge(source, target)
            logits_source += of_source
            logits_target += of_target
        return logits_source, logits_target


class MultiScaleDiscriminator(nn.Module):
    """MsImageDis: one domain's networks at several sizes, 4x4 convolutions of stride 2 and a 1x1 one.

    Args:
        channels_in: of the pictures.
        channels: of the first layer, which has no norm; each further one doubles them.
        layers: number of strided convolutions; 4 in the official configurations.
        scales: number of sizes; 3 there.
        norm: of all layers but the first and the last; none there.
        activation: after each layer but the last; lrelu there.
        padding: of the strided convolutions; reflect there.
    """

    def __init__(
        self,
        channels_in: int = 3,
        channels: int = 64,
        layers: int = 4,
        scales: int = 3,
        norm: Norm = "none",
        activation: Activation = "lrelu",
        padding: Padding = "reflect",
    ) -> None:
        super().__init__()
        norms = {"none": nn.Identity, "instance": nn.InstanceNorm2d, "layer": LayerNorm}

        def network() -> nn.Sequential:
            widths = [channels_in, *(channels * 2**i for i in range(layers))]
            blocks: list[nn.Module] = []
            for number, (before, after) in enumerate(pairwise(widths)):
                normalise = norms[norm](after) if number else None
                conv = padded_conv(before, after, 4, 2, 1, padding)
                blocks.append(ConvBlock(conv, normalise, ACTIVATIONS[activation]()))
            return nn.Sequential(*blocks, nn.Conv2d(widths[-1], 1, 1))

        self.cnns = nn.ModuleList(network() for _ in range(scales))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Judge pictures `b c h w`: logits `b 1 h w` per scale, the largest first."""
        logits = []
        for number, network in enumerate(self.cnns):
            if number:
                image = F.avg_pool2d(image, 3, stride=2, padding=1, count_include_pad=False)
            logits.append(network(image))
        return logits


class PooledDiscriminators(nn.Module):
    """The later official code's: a `MultiScaleDiscriminator`, whose other arguments these are, for each domain."""

    def __init__(
        self,
        source_channels: int = 3,
        target_channels: int = 3,
        channels: int = 64,
        layers: int = 4,
        scales: int = 3,
        norm: Norm = "none",
        activation: Activation = "lrelu",
        padding: Padding = "reflect",
    ) -> None:
        super().__init__()
        settings = (channels, layers, scales, norm, activation, padding)
        self.source = MultiScaleDiscriminator(source_channels, *settings)
        self.target = MultiScaleDiscriminator(target_channels, *settings)

    def forward(self, source: Tensor, target: Tensor) -> Judgements:
        """Judge pictures `b c h w` of each domain."""
        return self.source(source), self.target(target)
