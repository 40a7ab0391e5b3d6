"""SinGAN: the two networks of one scale."""

from collections import OrderedDict

from torch import Tensor, nn


class Block(nn.Sequential):
    """A 3x3 convolution without padding, batch norm, and a leaky ReLU: b c h w becomes b c' h-2 w-2."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        super().__init__(
            OrderedDict(
                conv=nn.Conv2d(incoming, outgoing, 3), norm=nn.BatchNorm2d(outgoing), activation=nn.LeakyReLU(0.2)
            )
        )


def initialise(network: nn.Module) -> None:
    """Draw the weights of convolutions from N(0, 0.02) and those of norms from N(1, 0.02); biases stay as PyTorch draws them."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)


class Generator(nn.Module):
    """Adds what is missing at one scale to what the scale below gave.

    Args:
        channels: of the first layer.
        least: channels of any layer, at least.
        layers: convolutions.
    """

    def __init__(self, channels: int, least: int, layers: int) -> None:
        super().__init__()
        self.border = layers
        self.head = Block(3, channels)
        self.body, last = inner_blocks(channels, least, layers)
        self.tail = nn.Sequential(nn.Conv2d(last, 3, 3), nn.Tanh())
        initialise(self)

    def forward(self, x: Tensor, previous: Tensor) -> Tensor:
        """Paint a picture.

        Args:
            x: noise and picture, b 3 h+2l w+2l, with a border as wide as there are layers.
            previous: the picture of the scale below, likewise.

        Returns:
            b 3 h w; mostly in [-1, 1], but not cut off there.
        """
        cut = self.border
        return self.tail(self.body(self.head(x))) + previous[..., cut:-cut, cut:-cut]


class Discriminator(nn.Module):
    """Says of patches of 11x11 pixels how real they look; its batch norms make that depend on the whole picture.

    Args:
        channels: of the first layer.
        least: channels of any layer, at least.
        layers: convolutions.
    """

    def __init__(self, channels: int, least: int, layers: int) -> None:
        super().__init__()
        self.head = Block(3, channels)
        self.body, last = inner_blocks(channels, least, layers)
        self.tail = nn.Conv2d(last, 1, 3)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Judge b 3 h w: logits b 1 h-2l w-2l."""
        return self.tail(self.body(self.head(x)))


def inner_blocks(channels: int, least: int, layers: int) -> tuple[nn.Sequential, int]:
    """The blocks between the first layer and the last, and the channels that they give."""
    blocks: OrderedDict[str, nn.Module] = OrderedDict()
    before = channels
    for i in range(1, layers - 1):
        wide = max(channels // 2**i, least)
        blocks[f"block{i}"] = Block(max(2 * (channels // 2**i), least), wide)
        before = wide
    return nn.Sequential(blocks), before
