"""ConSinGAN: the generator that grows, and the critic of patches."""

import copy
from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

Activation = Literal["lrelu", "prelu", "elu", "selu"]
Size = tuple[int, int]


def enlarge(x: Tensor, size: Size) -> Tensor:
    """Resize features b c h w bicubically, corners in place."""
    return F.interpolate(x, size, mode="bicubic", align_corners=True)


def pad(x: Tensor, width: int) -> Tensor:
    """Put zeros around features b c h w."""
    return F.pad(x, (width,) * 4)


class Block(nn.Module):
    """A 3x3 convolution without padding, batch norm where wanted, and an activation.

    Args:
        incoming: channels.
        outgoing: channels.
        norm: whether there is a batch norm.
        activation: its kind; `prelu` learns one slope.
        slope: of `lrelu`, below 0.
    """

    def __init__(self, incoming: int, outgoing: int, norm: bool, activation: Activation, slope: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(incoming, outgoing, 3)
        self.norm = nn.BatchNorm2d(outgoing) if norm else nn.Identity()
        kinds: dict[Activation, nn.Module] = {
            "lrelu": nn.LeakyReLU(slope),
            "prelu": nn.PReLU(),
            "elu": nn.ELU(),
            "selu": nn.SELU(),
        }
        self.activation = kinds[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Map b c h w to b c' h-2 w-2."""
        return self.activation(self.norm(self.conv(x)))


class Generator(nn.Module):
    """Head, a body that gets one more stage of convolutions at a time, and a tail that paints what the newest stage gives.

    Stages hand on features, not pictures. Each adds to what the one before gave, brought to its own size.

    Args:
        channels: of all features.
        layers: convolutions of a stage.
        norm: whether there are batch norms.
        activation: of all blocks.
        slope: of `lrelu`, below 0.
        spacious: whether noise reaches beyond the border of a stage's features, so that no convolution of the body meets zeros there:
            samples vary up to their border. Without it features are padded with zeros, which keeps layouts in place.
    """

    def __init__(
        self, channels: int, layers: int, norm: bool, activation: Activation, slope: float, spacious: bool
    ) -> None:
        super().__init__()
        self.layers, self.spacious = layers, spacious
        self.head = Block(3, channels, norm, activation, slope)
        blocks = [(f"block{i}", Block(channels, channels, norm, activation, slope)) for i in range(layers)]
        self.body = nn.ModuleList([nn.Sequential(OrderedDict(blocks))])
        self.tail = nn.Sequential(nn.Conv2d(channels, 3, 3), nn.Tanh())
        initialise(self)

    @property
    def stages(self) -> int:
        """How many stages there are now."""
        return len(self.body)

    def grow(self) -> None:
        """Add a stage: a copy of the newest, running statistics included."""
        self.body.append(copy.deepcopy(self.body[-1]))

    def map_size(self, stage: int, size: Size) -> Size:
        """Height and width of the noise map of a stage whose features have this size."""
        border = 2 * self.layers if self.spacious and stage else 0
        return size[0] + border, size[1] + border

    def forward(self, maps: Sequence[Tensor], sizes: Sequence[Size], amplitudes: Sequence[Tensor]) -> Tensor:
        """Paint a picture from noise.

        Args:
            maps: per stage: b 3 h w for the first, whose size is theirs; b c h w of `map_size` for the others.
            sizes: height and width of each stage's features; the first is not looked at.
            amplitudes: of each stage's map; the first is not looked at.

        Returns:
            b 3 h w in [-1, 1], of the last size.
        """
        return self.paint(self.carry(None, maps, sizes, amplitudes, len(maps)))

    def carry(
        self, features: Tensor | None, maps: Sequence[Tensor], sizes: Sequence[Size], amplitudes: Sequence[Tensor], end: int,
        begin: int = 0,
    ) -> Tensor:  # fmt: skip
        """Run the stages from `begin` until before `end`.

        Args:
            features: what stage `begin - 1` gave; None where `begin` is 0.
            maps: see `forward`.
            sizes: see `forward`.
            amplitudes: see `forward`.
            end: the first stage that is not run.
            begin: the first stage that is run.

        Returns:
            Features b c h w of stage `end - 1`.
        """
        for stage in range(begin, end):
            body = self.body[stage]
            if stage == 0:
                x = self.head(pad(maps[0], 1))
                if self.spacious:
                    x = enlarge(x, (x.shape[-2] + 2, x.shape[-1] + 2))
                features = body(pad(x, self.layers - self.spacious))
                continue
            assert features is not None
            height, width = sizes[stage]
            before = enlarge(features, (height, width))
            noise = amplitudes[stage] * maps[stage]
            if self.spacious:
                x = enlarge(features, (height + 2 * self.layers, width + 2 * self.layers)) + noise
            else:
                x = pad(before + noise, self.layers)
            features = body(x) + before
        assert features is not None
        return features

    def paint(self, features: Tensor) -> Tensor:
        """The picture b 3 h w in [-1, 1] of features b c h w."""
        return self.tail(pad(features, 1))


class Discriminator(nn.Module):
    """Says of patches of 11x11 pixels how real they look, without norms and without padding.

    Args:
        channels: of all features.
        layers: convolutions between the first and the last.
        activation: of all blocks.
        slope: of `lrelu`, below 0.
    """

    def __init__(self, channels: int, layers: int, activation: Activation, slope: float) -> None:
        super().__init__()
        self.head = Block(3, channels, False, activation, slope)
        blocks = [(f"block{i}", Block(channels, channels, False, activation, slope)) for i in range(layers)]
        self.body = nn.Sequential(OrderedDict(blocks))
        self.tail = nn.Conv2d(channels, 1, 3)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Judge b 3 h w: logits b 1 h-2(l+2) w-2(l+2)."""
        return self.tail(self.body(self.head(x)))


def initialise(network: nn.Module) -> None:
    """Draw the weights of convolutions from N(0, 0.02) and those of norms from N(1, 0.02); biases stay as PyTorch draws them."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
