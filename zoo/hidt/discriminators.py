"""HiDT's discriminators: one looks at pictures alone, the other at pictures and the style that they should have.

The authors published neither; that there are two, the second one conditioned on the style, is known from the paper, and projection (Miyato
and Koyama, ICLR 2018) from the name of a file of theirs. Their layers are our choice: the patch trunk of FUNIT, whose residual blocks
the official repository carries unused.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.hidt.generator import PICTURE_CHANNELS, mirrored_conv

SLOPE = 0.2


class PreactivatedBlock(nn.Module):
    """Twice a leaky ReLU and a 3x3 convolution, around which the input is carried, through a 1x1 convolution where widths differ."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        super().__init__()
        hidden = min(incoming, outgoing)
        self.first = mirrored_conv(incoming, hidden, 3)
        self.second = mirrored_conv(hidden, outgoing, 3)
        self.shortcut = nn.Identity() if incoming == outgoing else nn.Conv2d(incoming, outgoing, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `b c h w`."""
        carried = self.shortcut(x)
        return carried + self.second(F.leaky_relu(self.first(F.leaky_relu(x, SLOPE)), SLOPE))


class PatchTrunk(nn.Module):
    """Features of overlapping patches.

    Args:
        channels: of the first layer.
        levels: pairs of residual blocks; each but the last one halves the picture.
        max_channels: of the widest layers.
    """

    def __init__(self, channels: int = 64, levels: int = 4, max_channels: int = 512) -> None:
        super().__init__()
        self.stem = mirrored_conv(PICTURE_CHANNELS, channels, 7)
        layers: list[nn.Module] = []
        width = channels
        for level in range(levels):
            wider = min(2 * width, max_channels)
            layers += [PreactivatedBlock(width, width), PreactivatedBlock(width, wider)]
            width = wider
            if level < levels - 1:
                layers += [nn.ReflectionPad2d(1), nn.AvgPool2d(3, 2)]
        self.trunk = nn.Sequential(*layers)
        self.channels = width

    def forward(self, image: Tensor) -> Tensor:
        """Map pictures `b 3 h w` to features `b c h' w'`."""
        return F.leaky_relu(self.trunk(self.stem(image)), SLOPE)


class UnconditionalDiscriminator(PatchTrunk):
    """Scores patches of pictures: do they look real? See `PatchTrunk` for the arguments."""

    def __init__(self, channels: int = 64, levels: int = 4, max_channels: int = 512) -> None:
        super().__init__(channels, levels, max_channels)
        self.head = nn.Conv2d(self.channels, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Score pictures `b 3 h w`: `b 1 h' w'`."""
        return self.head(super().forward(image))


class ProjectionDiscriminator(PatchTrunk):
    """Scores patches of pictures that should have a style: adds the inner product of features and the projected style.

    Args:
        channels: see `PatchTrunk`.
        levels: see `PatchTrunk`.
        max_channels: see `PatchTrunk`.
        style_channels: numbers of a style.
    """

    def __init__(self, channels: int = 64, levels: int = 4, max_channels: int = 512, style_channels: int = 3) -> None:
        super().__init__(channels, levels, max_channels)
        self.head = nn.Conv2d(self.channels, 1, 1)
        self.project = nn.Linear(style_channels, self.channels, bias=False)

    def forward(self, image: Tensor, style: Tensor) -> Tensor:  # type: ignore[override]
        """Score pictures `b 3 h w` with styles `b s`: `b 1 h' w'`; styles learn nothing from it."""
        features = super().forward(image)
        agreement = torch.einsum("bchw,bc->bhw", features, self.project(style.detach()))
        return self.head(features) + agreement[:, None]
