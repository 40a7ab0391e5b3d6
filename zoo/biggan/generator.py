"""BigGAN's and BigGAN-deep's generator. Attribute names and the order of children follow the official files."""

from collections.abc import Collection, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.biggan.layers import Attention, ConditionalBatchNorm, Layers, NormMaker, multipliers_for
from zoo.errors import ZooError

MULTIPLIERS = {
    32: (4, 4, 4, 4),
    64: (16, 16, 8, 4, 2),
    128: (16, 16, 8, 4, 2, 1),
    256: (16, 16, 8, 8, 4, 2, 1),
    512: (16, 16, 8, 8, 4, 2, 1, 1),
}
"""Channels as multiples, from 4x4 on: what goes into the first stage, and what comes out of each."""

SMALLEST = 4
"""Side of the first feature map."""

BOTTLENECK = 4
"""BigGAN-deep's 3x3 convolutions work on a quarter of the channels."""


def doubled(x: Tensor) -> Tensor:
    """Repeat each pixel of `b c h w` to `b c 2h 2w`."""
    return F.interpolate(x, scale_factor=2)


class GeneratorBlock(nn.Module):
    """BigGAN's block: two 3x3 convolutions around a doubling, and a shortcut of 1x1.

    Args:
        incoming: channels of the input.
        outgoing: channels of the output.
        norm: makes a norm for so many channels.
        layers: makes the convolutions.
    """

    def __init__(self, incoming: int, outgoing: int, norm: NormMaker, layers: Layers) -> None:
        super().__init__()
        self.conv1 = layers.convolution(incoming, outgoing, 3)
        self.conv2 = layers.convolution(outgoing, outgoing, 3)
        self.conv_sc = layers.convolution(incoming, outgoing, 1)
        self.bn1, self.bn2 = norm(incoming), norm(outgoing)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map `b c h w` to `b c' 2h 2w`."""
        h = self.conv1(doubled(F.relu(self.bn1(x, condition))))
        h = self.conv2(F.relu(self.bn2(h, condition)))
        return h + doubled(self.conv_sc(x))  # 1x1 first: the same numbers for a quarter of the work


class DeepGeneratorBlock(nn.Module):
    """BigGAN-deep's block: 1x1 to a quarter of the channels, two of 3x3, 1x1 back; the shortcut drops channels.

    Args:
        incoming: channels of the input.
        outgoing: channels of the output, no more than come in.
        upsample: whether the side doubles.
        norm: makes a norm for so many channels.
        layers: makes the convolutions.
    """

    def __init__(self, incoming: int, outgoing: int, upsample: bool, norm: NormMaker, layers: Layers) -> None:
        super().__init__()
        self.outgoing, self.upsample = outgoing, upsample
        hidden = incoming // BOTTLENECK
        self.conv1 = layers.convolution(incoming, hidden, 1)
        self.conv2 = layers.convolution(hidden, hidden, 3)
        self.conv3 = layers.convolution(hidden, hidden, 3)
        self.conv4 = layers.convolution(hidden, outgoing, 1)
        self.bn1, self.bn2, self.bn3, self.bn4 = norm(incoming), norm(hidden), norm(hidden), norm(hidden)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map `b c h w` to `b c' h w`, or to twice the side."""
        h = self.conv1(F.relu(self.bn1(x, condition)))
        h = F.relu(self.bn2(h, condition))
        x = x[:, : self.outgoing]
        if self.upsample:
            h, x = doubled(h), doubled(x)
        h = self.conv3(F.relu(self.bn3(self.conv2(h), condition)))
        return x + self.conv4(F.relu(self.bn4(h, condition)))


class Generator(nn.Module):
    """Draws a picture from a latent code and a class.

    Args:
        image_size: side of the pictures: 4 doubled once per stage.
        classes: number of classes.
        channels: what the multiples multiply.
        latent_channels: of the latent code; a hierarchical generator rounds down to a multiple of its chunks, see the attribute.
        class_channels: of the code that all norms share per class; 0 for as many as the latent code was asked to have.
        attention: sides of the feature maps on which self-attention works.
        multipliers: channels, see `MULTIPLIERS`; None for the official ones.
        depth: blocks per stage of BigGAN-deep; 0 is BigGAN.
        hierarchical: BigGAN's latent code is cut into chunks, one for the start and one for each stage. BigGAN-deep tells each norm
            all of it.
        shared_embedding: one code per class; without it each norm has its own gain and bias per class, and BigGAN alone can do that.
        norm_eps: of the blocks' batch norms.
        output_norm_eps: of the last batch norm.
        layers: makes the layers.

    Attributes:
        latent_channels: numbers of a latent code.

    Raises:
        ZooError: options that do not go together.
    """

    def __init__(
        self,
        image_size: int = 128,
        classes: int = 1000,
        channels: int = 96,
        latent_channels: int = 120,
        class_channels: int = 128,
        attention: Collection[int] = (64,),
        multipliers: Sequence[int] | None = None,
        depth: int = 0,
        hierarchical: bool = True,
        shared_embedding: bool = True,
        norm_eps: float = 1e-5,
        output_norm_eps: float = 1e-5,
        layers: Layers | None = None,
    ) -> None:
        super().__init__()
        layers = layers or Layers()
        widths = [channels * m for m in multipliers_for(image_size, multipliers, MULTIPLIERS, "generator_multipliers")]
        stages = len(widths) - 1
        if image_size != SMALLEST * 2**stages:
            raise ZooError(
                f"{stages} stages draw pictures of {SMALLEST * 2**stages}x{SMALLEST * 2**stages}, not {image_size}x{image_size}: "
                "--model.generator_multipliers has the multiple of the first stage's input and one per stage."
            )
        if not shared_embedding and (hierarchical or depth):
            raise ZooError(
                "A hierarchical generator, and BigGAN-deep, need the shared embedding: --model.shared_embedding true"
            )
        self.depth, self.hierarchical, self.shared_embedding = depth, hierarchical, shared_embedding
        class_channels = class_channels or latent_channels
        self.chunk = latent_channels // (stages + 1) if hierarchical and not depth else latent_channels
        self.latent_channels = self.chunk * (stages + 1) if hierarchical and not depth else latent_channels
        if self.chunk < 1:
            raise ZooError(
                f"A latent code of {latent_channels} has not one number for the start and each of {stages} stages."
            )
        started = self.latent_channels + class_channels if depth else self.chunk
        told = started if depth else class_channels + self.chunk * hierarchical

        def norm(width: int) -> ConditionalBatchNorm:
            if shared_embedding:
                gain, bias = (layers.linear(told, width, bias=False) for _ in range(2))
                return ConditionalBatchNorm(width, gain, bias, norm_eps)
            return ConditionalBatchNorm(width, nn.Embedding(classes, width), nn.Embedding(classes, width), norm_eps)

        self.shared = nn.Embedding(classes, class_channels) if shared_embedding else nn.Identity()
        self.linear = layers.linear(started, widths[0] * SMALLEST**2)
        self.blocks = nn.ModuleList()
        for stage, (incoming, outgoing) in enumerate(pairwise(widths), start=1):
            for _ in range(depth - 1):
                self.blocks.append(nn.ModuleList([DeepGeneratorBlock(incoming, incoming, False, norm, layers)]))
            last: nn.Module = GeneratorBlock(incoming, outgoing, norm, layers)
            if depth:
                last = DeepGeneratorBlock(incoming, outgoing, True, norm, layers)
            attended = [Attention(outgoing, layers)] if SMALLEST * 2**stage in attention else []
            self.blocks.append(nn.ModuleList([last, *attended]))
        output_norm = nn.BatchNorm2d(widths[-1], output_norm_eps)
        self.output_layer = nn.Sequential(output_norm, nn.ReLU(), layers.convolution(widths[-1], 3, 3))

    def forward(self, latent: Tensor, label: Tensor) -> Tensor:
        """Draw pictures.

        Args:
            latent: b z.
            label: class numbers, int64 b.

        Returns:
            Pictures b 3 h w in [-1, 1].
        """
        return self.draw(latent, self.shared(label))

    def draw(self, latent: Tensor, embedding: Tensor) -> Tensor:
        """Draw pictures from class codes `b c`, such as ones between two classes; else as `forward`."""
        start, conditions = self.conditions(latent, embedding)
        h = self.linear(start).unflatten(1, (-1, SMALLEST, SMALLEST))  # b c 4 4
        for stage, condition in zip(self.blocks, conditions, strict=True):
            block, *attention = stage.children()
            h = block(h, condition)
            for layer in attention:
                h = layer(h)
        return torch.tanh(self.output_layer(h))

    def conditions(self, latent: Tensor, embedding: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What the first layer is told, and what each block is."""
        if self.depth:
            both = torch.cat([embedding, latent], 1)
            return both, [both] * len(self.blocks)
        if not self.hierarchical:
            return latent, [embedding] * len(self.blocks)
        start, *chunks = latent.split(self.chunk, 1)
        return start, [torch.cat([embedding, chunk], 1) for chunk in chunks]
