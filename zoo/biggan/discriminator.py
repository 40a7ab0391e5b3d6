"""BigGAN's and BigGAN-deep's discriminator. Attribute names and the order of children follow the official files."""

from collections.abc import Collection, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.biggan.layers import Attention, Layers, multipliers_for

MULTIPLIERS = {
    32: (4, 4, 4, 4),
    64: (1, 2, 4, 8, 16),
    128: (1, 2, 4, 8, 16, 16),
    256: (1, 2, 4, 8, 8, 16, 16),
}
"""Channels as multiples. BigGAN: what comes out of each block. BigGAN-deep: what goes into the first stage, and what comes out of each."""

HALVINGS = {32: 2}
"""Halvings where these do not lead down to 4x4."""

SIDE_FOR_ATTENTION = {32: 16}
"""The official table calls every map of its network for 32x32 one of 16x16, and so all attend, or none."""

BOTTLENECK = 4
"""BigGAN-deep's 3x3 convolutions work on a quarter of the channels."""


class DiscriminatorBlock(nn.Module):
    """BigGAN's block: two 3x3 convolutions, a halving at the end; a shortcut of 1x1 where shapes differ.

    Args:
        incoming: channels of the input.
        outgoing: channels of the output.
        halve: whether the side halves.
        first: the block that sees the picture itself, and so begins without ReLU.
        wide: whether the first convolution widens, or the second.
        layers: makes the convolutions.
    """

    def __init__(self, incoming: int, outgoing: int, halve: bool, first: bool, wide: bool, layers: Layers) -> None:
        super().__init__()
        self.halve, self.first = halve, first
        hidden = outgoing if wide else incoming
        self.conv1 = layers.convolution(incoming, hidden, 3)
        self.conv2 = layers.convolution(hidden, outgoing, 3)
        self.conv_sc = layers.convolution(incoming, outgoing, 1) if halve or incoming != outgoing else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map `b c h w` to `b c' h w`, or to half the side."""
        h = self.conv2(F.relu(self.conv1(x if self.first else F.relu(x))))
        if self.halve:
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        return h + self.conv_sc(x)  # 1x1 and a mean can change places: the cheaper order, for both kinds of block


class DeepDiscriminatorBlock(nn.Module):
    """BigGAN-deep's block: 1x1 to a quarter of the channels, two of 3x3, 1x1 back; the shortcut adds channels.

    Args:
        incoming: channels of the input.
        outgoing: channels of the output, no fewer than come in.
        halve: whether the side halves.
        layers: makes the convolutions.
    """

    def __init__(self, incoming: int, outgoing: int, halve: bool, layers: Layers) -> None:
        super().__init__()
        self.halve = halve
        hidden = outgoing // BOTTLENECK
        self.conv1 = layers.convolution(incoming, hidden, 1)
        self.conv2 = layers.convolution(hidden, hidden, 3)
        self.conv3 = layers.convolution(hidden, hidden, 3)
        self.conv4 = layers.convolution(hidden, outgoing, 1)
        self.conv_sc = layers.convolution(incoming, outgoing - incoming, 1) if incoming != outgoing else None

    def forward(self, x: Tensor) -> Tensor:
        """Map `b c h w` to `b c' h w`, or to half the side."""
        h = self.conv1(F.relu(x))
        h = F.relu(self.conv3(F.relu(self.conv2(F.relu(h)))))
        if self.halve:
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        shortcut = x if self.conv_sc is None else torch.cat([x, self.conv_sc(x)], 1)
        return shortcut + self.conv4(h)


class Discriminator(nn.Module):
    """Says of a picture whether it is a real one of its class: a linear score of its features, and one by their product with the class.

    Args:
        image_size: side of the pictures.
        classes: number of classes.
        channels: what the multiples multiply.
        attention: sides of the feature maps on which self-attention works; at 32x32 see `SIDE_FOR_ATTENTION`.
        multipliers: channels, see `MULTIPLIERS`; None for the official ones.
        depth: blocks per stage of BigGAN-deep; 0 is BigGAN.
        wide: whether the first convolution of BigGAN's blocks widens, as in the paper.
        layers: makes the layers.

    Raises:
        ZooError: an unknown size without multiples.
    """

    def __init__(
        self,
        image_size: int = 128,
        classes: int = 1000,
        channels: int = 96,
        attention: Collection[int] = (64,),
        multipliers: Sequence[int] | None = None,
        depth: int = 0,
        wide: bool = True,
        layers: Layers | None = None,
    ) -> None:
        super().__init__()
        layers = layers or Layers()
        widths = [
            channels * m for m in multipliers_for(image_size, multipliers, MULTIPLIERS, "discriminator_multipliers")
        ]
        if depth:
            self.input_conv = layers.convolution(3, widths[0], 3)
        halvings = HALVINGS.get(image_size, image_size.bit_length() - 3)
        side = image_size
        self.blocks = nn.ModuleList()
        for stage, (incoming, outgoing) in enumerate(pairwise(widths if depth else [3, *widths])):
            halve = stage < halvings
            side //= 2 if halve else 1
            blocks: list[nn.Module] = []
            if depth:
                blocks.append(DeepDiscriminatorBlock(incoming, outgoing, halve, layers))
                blocks += [DeepDiscriminatorBlock(outgoing, outgoing, False, layers) for _ in range(depth - 1)]
            else:
                blocks.append(DiscriminatorBlock(incoming, outgoing, halve, stage == 0, wide, layers))
            if SIDE_FOR_ATTENTION.get(image_size, side) in attention:
                blocks.append(Attention(outgoing, layers))
            self.blocks.append(nn.ModuleList(blocks))
        self.linear = layers.linear(widths[-1], 1)
        self.embed = layers.embedding(classes, widths[-1])

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        """Judge pictures `b 3 h w` of the classes `label`, int64 `b`: logits `b 1`."""
        h = self.input_conv(image) if hasattr(self, "input_conv") else image
        for layers in self.blocks:
            for layer in layers.children():
                h = layer(h)
        features = F.relu(h).sum((2, 3))  # b c
        return self.linear(features) + (self.embed(label) * features).sum(1, keepdim=True)
