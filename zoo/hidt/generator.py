"""HiDT's generator: what a picture shows, how it is lit, and an Adaptive U-Net that paints the one in the light of the other.

Layers, widths and orders are those of the official inference code. Every convolution mirrors its border and has a bias.
"""

from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.blocks.initialise import initialise
from zoo.blocks.layer_norm import LayerNorm
from zoo.errors import ZooError

MaskOutput = Literal["tanh", "sigmoid", "clamp", "log_softmax", "none"]

DOWNSAMPLINGS = 2  # of the content; the official encoder's forward pass knows no other number
SKIP_CHANNELS = 5  # nor another width of the skips
STYLE_DOWNSAMPLINGS = 4
PICTURE_CHANNELS = 3
SIZE_MULTIPLE = 2**DOWNSAMPLINGS
SMALLEST_SIZE = 16  # below it the style encoder's mirrored borders are wider than what they mirror
SLOPE = 0.2  # of the style encoder's leaky ReLUs


class Content(NamedTuple):
    """What a picture shows."""

    code: Tensor  # b 4c h/4 w/4
    skips: tuple[Tensor, ...]  # b 5 h/2 w/2, then b 5 h w


class Painted(NamedTuple):
    """What the decoder gives."""

    image: Tensor  # b 3 h w in [-1, 1]
    mask: Tensor | None  # b k h w, in the form of the mask's output; None without a mask head


# Blocks ------------------------------------------------------------------------------------------------------------------------


def mirrored_conv(incoming: int, outgoing: int, kernel: int, stride: int = 1, pad: int | None = None) -> nn.Conv2d:
    """A convolution that mirrors its border, by half of its kernel where nothing else is said."""
    return nn.Conv2d(incoming, outgoing, kernel, stride, kernel // 2 if pad is None else pad, padding_mode="reflect")


class NormalisedConv(nn.Module):
    """A convolution and instance norm; with an activation or without."""

    def __init__(self, conv: nn.Conv2d, *, activated: bool = True) -> None:
        super().__init__()
        self.conv = conv
        self.activated = activated

    def forward(self, x: Tensor) -> Tensor:
        """Map `b c h w`."""
        x = F.instance_norm(self.conv(x))
        return F.relu(x) if self.activated else x


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with instance norm, the first one activated, around which the input is carried."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = NormalisedConv(mirrored_conv(channels, channels, 3))
        self.second = NormalisedConv(mirrored_conv(channels, channels, 3), activated=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `b c h w` to the same shape."""
        return x + self.second(self.first(x))


class AdaptiveConv(nn.Module):
    """A convolution and adaptive instance norm, whose shifts and scales come from the style; activated or not."""

    def __init__(self, conv: nn.Conv2d, *, activated: bool = True) -> None:
        super().__init__()
        self.conv = conv
        self.activated = activated

    def forward(self, x: Tensor, statistics: Tensor) -> Tensor:
        """Map `b c h w`.

        Args:
            x: of any incoming channels.
            statistics: b 2c, of all outgoing channels first the shifts, then the scales.
        """
        shift, scale = statistics[..., None, None].chunk(2, 1)  # b c 1 1 each
        x = F.instance_norm(self.conv(x)) * scale + shift
        return F.relu(x) if self.activated else x


class AdaptiveResidualBlock(nn.Module):
    """A residual block whose two norms take their statistics from the style."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = AdaptiveConv(mirrored_conv(channels, channels, 3))
        self.second = AdaptiveConv(mirrored_conv(channels, channels, 3), activated=False)

    def forward(self, x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Map `b c h w` to the same shape, by the statistics of each norm, `b 2c`."""
        return x + self.second(self.first(x, first), second)


class MergingConv(nn.Module):
    """A 7x7 convolution over upsampled features and a skip, layer norm, ReLU."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        super().__init__()
        self.conv = mirrored_conv(incoming, outgoing, 7)
        self.norm = LayerNorm(outgoing)

    def forward(self, x: Tensor) -> Tensor:
        """Map `b c h w`."""
        return F.relu(self.norm(self.conv(x)))


# Encoders ----------------------------------------------------------------------------------------------------------------------


class ContentEncoder(nn.Module):
    """Encodes what a picture shows; instance norm takes its colours.

    Args:
        channels: of the first layer.
        blocks: residual blocks.
    """

    def __init__(self, channels: int = 48, blocks: int = 4) -> None:
        super().__init__()
        widths = [channels * 2**level for level in range(DOWNSAMPLINGS + 1)]
        self.first = NormalisedConv(mirrored_conv(PICTURE_CHANNELS, channels, 9))
        self.downs = nn.ModuleList(
            NormalisedConv(mirrored_conv(widths[i], widths[i + 1], 6, 2, 2)) for i in range(DOWNSAMPLINGS)
        )
        self.blocks = nn.Sequential(*(ResidualBlock(widths[-1]) for _ in range(blocks)))

    def forward(self, image: Tensor) -> Content:
        """Encode pictures `b 3 h w` in [-1, 1], sides multiples of 4.

        Skips are taken in front of each downsampling, as the official code does.
        """
        x = self.first(image)
        skips: list[Tensor] = []
        for down in self.downs:
            skips.insert(0, x[:, :SKIP_CHANNELS])
            x = down(x)
        return Content(self.blocks(x), tuple(skips))


class StyleEncoder(nn.Module):
    """Encodes how a picture is lit, without norms: colours are what it is about.

    Args:
        channels: of the first layer.
        style_channels: numbers of a style.
    """

    def __init__(self, channels: int = 48, style_channels: int = 3) -> None:
        super().__init__()
        widths = [channels * 2 ** min(level, 2) for level in range(STYLE_DOWNSAMPLINGS + 1)]
        self.layers = nn.ModuleList([mirrored_conv(PICTURE_CHANNELS, channels, 7)])
        self.layers.extend(mirrored_conv(widths[i], widths[i + 1], 4, 2, 1) for i in range(STYLE_DOWNSAMPLINGS))
        self.head = nn.Conv2d(widths[-1], style_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Encode pictures `b 3 h w` in [-1, 1] as styles `b s`."""
        x = image
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE)
        return self.head(x.mean((2, 3), keepdim=True)).flatten(1)


# Decoder -----------------------------------------------------------------------------------------------------------------------


class StyleMapping(nn.Module):
    """Maps a style to the shifts and scales of all adaptive norms.

    Args:
        style_channels: numbers of a style.
        hidden: of the layers in between.
        outputs: numbers of all shifts and scales.
        layers: linear layers in all.
    """

    def __init__(self, style_channels: int, hidden: int, outputs: int, layers: int = 3) -> None:
        super().__init__()
        widths = [style_channels, *[hidden] * (layers - 1), outputs]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, style: Tensor) -> Tensor:
        """Map styles `b s` to `b p`."""
        x = style
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class Decoder(nn.Module):
    """The Adaptive U-Net: thin skips pass through adaptive norms, so that detail comes through without the source's light.

    Args:
        channels: of the content encoder's first layer; four times as many at the bottom.
        blocks: residual blocks.
        style_channels: numbers of a style.
        mapping_channels: hidden width of the mapping from styles to statistics.
        mapping_layers: its linear layers.
        mask_channels: classes of the segmentation head; 0 for none.
        mask_output: what is applied to its channels.
    """

    def __init__(
        self,
        channels: int = 48,
        blocks: int = 5,
        style_channels: int = 3,
        mapping_channels: int = 64,
        mapping_layers: int = 3,
        mask_channels: int = 0,
        mask_output: MaskOutput = "log_softmax",
    ) -> None:
        super().__init__()
        widths = [channels * 2**level for level in reversed(range(DOWNSAMPLINGS + 1))]
        self.blocks = nn.ModuleList(AdaptiveResidualBlock(widths[0]) for _ in range(blocks))
        self.skips = nn.ModuleList(
            AdaptiveConv(mirrored_conv(SKIP_CHANNELS, SKIP_CHANNELS, 7)) for _ in range(DOWNSAMPLINGS)
        )
        self.merges = nn.ModuleList(MergingConv(widths[i] + SKIP_CHANNELS, widths[i + 1]) for i in range(DOWNSAMPLINGS))
        self.last = mirrored_conv(channels, PICTURE_CHANNELS + mask_channels, 9)
        self.statistics = [2 * widths[0]] * (2 * blocks) + [2 * SKIP_CHANNELS] * DOWNSAMPLINGS
        """How many numbers each norm takes, in the order in which the mapping gives them."""
        self.mapping = StyleMapping(style_channels, mapping_channels, sum(self.statistics), mapping_layers)
        self.mask_output = mask_output

    def forward(self, content: Content, style: Tensor) -> Painted:
        """Paint contents in styles `b s`."""
        return self.split(self.paint(content, style))

    def paint(self, content: Content, style: Tensor) -> Tensor:
        """Everything but the heads: `b 3 + k h w`, of any values."""
        statistics = list(self.mapping(style).split(self.statistics, 1))
        x = content.code
        for number, block in enumerate(self.blocks):
            x = block(x, *statistics[2 * number : 2 * number + 2])
        adapted = zip(self.skips, content.skips, statistics[2 * len(self.blocks) :], strict=True)
        for merge, (layer, skip, shifts_and_scales) in zip(self.merges, adapted, strict=True):
            # Nothing holds on to what goes in: it is what inference needs most memory for.
            x = merge(
                torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), layer(skip, shifts_and_scales)], 1)
            )
        return self.last(x)

    def split(self, painted: Tensor) -> Painted:
        """Apply the heads: tanh to the picture, its own function to the mask."""
        image, mask = painted[:, :PICTURE_CHANNELS].tanh(), painted[:, PICTURE_CHANNELS:]
        return Painted(image, mask_of(mask, self.mask_output) if mask.shape[1] else None)


def mask_of(logits: Tensor, output: MaskOutput) -> Tensor:
    """Bring the mask's channels `b k h w` into the form of its output."""
    if output == "log_softmax":
        return logits.log_softmax(1)
    if output == "tanh":
        return logits.tanh()
    if output == "sigmoid":
        return logits.sigmoid()
    return logits.clamp(-1, 1) if output == "clamp" else logits


class Generator(nn.Module):
    """Both encoders and the decoder, which one optimiser moves.

    Args:
        channels: of all first layers; 48 in both published models.
        encoder_blocks: residual blocks of the content encoder.
        decoder_blocks: residual blocks of the decoder.
        style_channels: numbers of a style.
        mapping_channels: hidden width of the mapping from styles to statistics.
        mapping_layers: its linear layers.
        mask_channels: classes of the segmentation head; 0 for none.
        mask_output: what is applied to its channels.

    Raises:
        ZooError: fewer channels than the skips take.
    """

    def __init__(
        self,
        channels: int = 48,
        encoder_blocks: int = 4,
        decoder_blocks: int = 5,
        style_channels: int = 3,
        mapping_channels: int = 64,
        mapping_layers: int = 3,
        mask_channels: int = 0,
        mask_output: MaskOutput = "log_softmax",
    ) -> None:
        super().__init__()
        if channels < SKIP_CHANNELS:
            raise ZooError(
                f"generator_channels is {channels}; the skips take the first {SKIP_CHANNELS} of them: "
                f"--model.generator_channels {SKIP_CHANNELS}, or more"
            )
        self.content_encoder = ContentEncoder(channels, encoder_blocks)
        self.style_encoder = StyleEncoder(channels, style_channels)
        mapping = (style_channels, mapping_channels, mapping_layers)
        self.decoder = Decoder(channels, decoder_blocks, *mapping, mask_channels, mask_output)
        initialise(self, "kaiming")  # biases 0, those of the mapping too: scales begin around 0, not around 1

    def encode(self, image: Tensor) -> tuple[Content, Tensor]:
        """Content and styles `b s` of pictures `b 3 h w` in [-1, 1]."""
        return self.content_encoder(image), self.style_encoder(image)

    def forward(self, image: Tensor, style: Tensor) -> Painted:
        """Paint pictures `b 3 h w` in [-1, 1] in styles `b s`."""
        return self.decoder(self.content_encoder(image), style)
