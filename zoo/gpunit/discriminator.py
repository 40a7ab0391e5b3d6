"""GP-UNIT's discriminator: tells real pictures from generated ones, and its features tell styles apart.

Attribute names and the order of children give the state-dict keys of the official code.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from zoo.blocks.spectral_norm import spectral_norm
from zoo.errors import ZooError

Norm = Literal["spectral", "none"]

LAST_SIZE = 4  # side of the map that the last convolution covers


class DownBlock(nn.Module):
    """Halves the size with two 3x3 convolutions; the shortcut is averaged too, and the sum divided by sqrt(2).

    Args:
        incoming: channels of the input, and of the first convolution.
        outgoing: channels of the output.
        wrap: puts a norm around a convolution.
    """

    def __init__(self, incoming: int, outgoing: int, wrap: Callable[[nn.Conv2d], nn.Module]) -> None:
        super().__init__()
        self.conv_0 = wrap(nn.Conv2d(incoming, incoming, 3, padding=1))
        self.conv_1 = wrap(nn.Conv2d(incoming, outgoing, 3, padding=1))
        self.learned_shortcut = incoming != outgoing
        if self.learned_shortcut:
            self.conv_s = wrap(nn.Conv2d(incoming, outgoing, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Map `b c h w` to `b c' h/2 w/2`."""
        residual = F.avg_pool2d(self.conv_0(F.leaky_relu(x, 0.2)), 2)
        residual = self.conv_1(F.leaky_relu(residual, 0.2))
        shortcut = F.avg_pool2d(self.conv_s(x) if self.learned_shortcut else x, 2)
        return (shortcut + residual) / math.sqrt(2)


class Discriminator(nn.Module):
    """The discriminator: at 256 pixels, the official network.

    Args:
        image_size: side of the pictures.
        channels: of the first layer; each block doubles them.
        max_channels: most channels of a block.
        norm: spectral normalisation of all convolutions, as in the official network, or none.

    Raises:
        ZooError: the size is no power of two.
    """

    def __init__(
        self, image_size: int = 256, channels: int = 64, max_channels: int = 512, norm: Norm = "spectral"
    ) -> None:
        super().__init__()
        wrap: Callable[[nn.Conv2d], nn.Module] = spectral_norm if norm == "spectral" else nn.Identity()
        blocks = int(math.log2(image_size // LAST_SIZE)) if image_size > LAST_SIZE else 0
        if blocks < 1 or LAST_SIZE * 2**blocks != image_size:
            raise ZooError(
                f"The discriminator takes pictures of 64, 128, 256, 512, ... pixels, not {image_size}: --model.image_size 256"
            )
        self.image_size = image_size
        layers: list[nn.Module] = [wrap(nn.Conv2d(3, channels, 3, padding=1))]
        for _ in range(blocks):
            wider = min(2 * channels, max_channels)
            layers.append(DownBlock(channels, wider, wrap))
            channels = wider
        layers += [nn.LeakyReLU(0.2), wrap(nn.Conv2d(channels, channels, LAST_SIZE)), nn.LeakyReLU(0.2)]
        self.model = nn.Sequential(*layers)
        self.linear = wrap(nn.Conv2d(channels, 1, 1))

    def forward(self, image: Tensor, style_layers: Sequence[int] = ()) -> tuple[Tensor, list[Tensor]]:
        """Judge pictures and describe their style in one pass.

        Args:
            image: b 3 h w in [-1, 1], of the discriminator's size.
            style_layers: after how many layers style is read; 4 is after the third block.

        Returns:
            Logits b, and for each style layer the mean over the picture of its output, b c.
        """
        x, styles = self._run(image, style_layers, len(self.model))
        return self.linear(x).flatten(), styles

    def describe(self, image: Tensor, style_layers: Sequence[int]) -> list[Tensor]:
        """The styles that `forward` gives, b c each; nothing beyond the last of the layers is computed."""
        return self._run(image, style_layers, max(style_layers))[1]

    def _run(self, image: Tensor, style_layers: Sequence[int], last: int) -> tuple[Tensor, list[Tensor]]:
        height, width = image.shape[2:]
        if (height, width) != (self.image_size, self.image_size):
            raise ZooError(
                f"The discriminator was built for {self.image_size}x{self.image_size} pixels, and the pictures have "
                f"{width}x{height}: --model.image_size and --data.size must be equal."
            )
        styles: dict[int, Tensor] = {}
        for number, layer in enumerate(self.model[:last], start=1):
            image = layer(image)
            if number in style_layers:
                styles[number] = image.mean((2, 3))
        return image, [styles[layer] for layer in style_layers]

    def require_layers(self, style_layers: Sequence[int]) -> None:
        """Refuse layers that this network does not have.

        Raises:
            ZooError: one is out of range, or there is none.
        """
        if not style_layers or any(not 1 <= layer <= len(self.model) for layer in style_layers):
            raise ZooError(
                f"style_layer is {list(style_layers)}: at {self.image_size} pixels the discriminator has layers 1 to {len(self.model)}. "
                "The paper's is 4: --model.style_layer 4"
            )
