"""The networks of GP-UNIT's first stage that its second one does not need: style encoder, decoder, classifier."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.blocks.spectral_norm import iterate
from zoo.gpunit.content import CONTENT_SIZE, ConvBlock, halvings_of

MASK_SIZE = 2 * CONTENT_SIZE
"""Side of the masks that the decoder draws."""

Statistics = tuple[Tensor, Tensor]  # mean and standard deviation of a picture's features, each b c 1 1


def style_widths(channels: int, image_size: int) -> list[int]:
    """Channels of the style encoder's layers that the decoder reads, from fine to coarse; n, 2n, 4n at 256 pixels."""
    return [channels * min(2**level, 8) for level in range(halvings_of(image_size) - 2)]


class StyleStatisticsEncoder(nn.Module):
    """Style of a picture: mean and (unbiased) standard deviation over space of each layer's features.

    The official network halves pictures down to 4x4; the decoder reads the first layers alone, so that the others never learn.
    They are kept for the published files.

    Args:
        channels: of the first layer.
        image_size: side of the pictures.
    """

    def __init__(self, channels: int = 64, image_size: int = 256) -> None:
        super().__init__()
        count = halvings_of(image_size) + 1
        self.used = count - 3
        widths = [3, *(channels * min(2**level, 8) for level in range(count))]
        self.layers = nn.ModuleList(
            ConvBlock(incoming, outgoing, stride=2, norm="none") for incoming, outgoing in pairwise(widths)
        )

    def forward(self, image: Tensor, *, every_layer: bool = False) -> list[Statistics]:
        """Give the statistics of the layers that the decoder reads, or of every one, from fine to coarse.

        Args:
            image: b 3 h w in [-1, 1].
            every_layer: also those that nothing reads.
        """
        statistics = []
        for number, layer in enumerate(self.layers):
            if number < self.used or every_layer:
                image = layer(image)
                flat = image.flatten(2)  # b c n
                statistics.append((flat.mean(2)[:, :, None, None], flat.std(2)[:, :, None, None]))
            else:
                iterate(layer)  # as the official pass does: the vectors of layers that nothing reads
        return statistics


class Decoder(nn.Module):
    """Draws a picture and the mask of its objects from a content map, a domain's code and a style's statistics.

    Args:
        channels: of the finest layer but one.
        image_size: side of the pictures.
        domain_channels: length of the domain's code.
    """

    def __init__(self, channels: int = 64, image_size: int = 256, domain_channels: int = 128) -> None:
        super().__init__()
        wide = 8 * channels

        def adaptive() -> ConvBlock:
            return ConvBlock(wide, wide, norm="adain", activation="relu", style_channels=domain_channels)

        self.coarse = nn.ModuleList(adaptive() for _ in range(4))  # at 8 pixels
        self.shape = adaptive()  # at 16
        self.to_mask = ConvBlock(wide, 3, norm="none", activation="tanh")
        widths = [wide, *reversed(style_widths(channels, image_size))]
        self.fine = nn.ModuleList(
            ConvBlock(incoming, outgoing, activation="relu") for incoming, outgoing in pairwise(widths)
        )
        self.to_image = ConvBlock(widths[-1], 3, norm="none", activation="tanh")

    def forward(self, content: Tensor, domain_code: Tensor, statistics: Sequence[Statistics]) -> tuple[Tensor, Tensor]:
        """Draw pictures and masks.

        Args:
            content: features of the content, b c 8 8.
            domain_code: b s.
            statistics: of the style, from fine to coarse.

        Returns:
            Pictures b 3 h w in [-1, 1]; masks b 3 16 16 in [-1, 1].
        """
        x = self._shape(content, domain_code)
        mask = self.to_mask(x)
        for layer, style in zip(self.fine, reversed(statistics), strict=True):
            x = layer(F.interpolate(x, scale_factor=2.0), statistics=style)
        return self.to_image(F.interpolate(x, scale_factor=2.0)), mask

    def mask(self, content: Tensor, domain_code: Tensor) -> Tensor:
        """Draw the masks alone, b 3 16 16 in [-1, 1]; spectral norms move as if the pictures were drawn, too."""
        mask = self.to_mask(self._shape(content, domain_code))
        iterate(self.fine)
        iterate(self.to_image)
        return mask

    def _shape(self, x: Tensor, domain_code: Tensor) -> Tensor:
        for layer in self.coarse:
            x = layer(x, domain_code)
        return self.shape(F.interpolate(x, scale_factor=2.0), domain_code)


class DomainClassifier(nn.Module):
    """Tries to tell the domain from a content map, behind a reversed gradient: the encoder learns to hide it.

    Args:
        domains: number of domains.
    """

    def __init__(self, domains: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            ConvBlock(1, 32, stride=2, norm="none"),
            ConvBlock(32, 64, norm="none"),
            ConvBlock(64, domains, 4, padding=0, norm="none"),
        )
        self.logits = nn.Linear(domains, domains)

    def forward(self, content: Tensor) -> Tensor:
        """Classify content maps `b 1 8 8`: logits `b k`."""
        reversed_content: Any = GradientReversal.apply(content)
        return self.logits(self.layers(reversed_content).flatten(1))


class GradientReversal(torch.autograd.Function):
    """The identity whose gradient has the opposite sign (Ganin and Lempitsky, ICML 2015)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Pass the input on."""
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Turn the gradient around."""
        return -gradients[0]
