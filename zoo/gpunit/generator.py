"""GP-UNIT's generator: from the 8x8 content map up to a picture, in the style of an exemplar.

Attribute names and the order of children give the state-dict keys of the official files.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import ZooError
from zoo.gpunit.content import AdaIN

SKIP_LEVELS = (1, 2)
"""Levels with a dynamic skip connection: 16x16 and 32x32, from the content map's 8x8 two scales up."""

STRIDED_CONVOLUTIONS = 5  # of the style encoder, at every picture size


def level_widths(channels: int, levels: int) -> list[int]:
    """Channels of the levels from coarse to fine: 8n, 8n, 4n, 2n, n, n, ...; six levels are the official 256 pixels."""
    return [channels * width for width in (8, 8, 4, 2, *[1] * levels)[:levels]]


class StyleEncoder(nn.Module):
    """A picture becomes one vector of non-negative numbers that tells its look.

    Args:
        style_channels: length of the code.
        width: channels of the first layer; each further layer doubles them, up to the length of the code.
        bottleneck: of the layers behind the average over the picture.
    """

    def __init__(self, style_channels: int = 256, width: int = 64, bottleneck: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 7, padding=3, padding_mode="reflect"), nn.ReLU()]
        for _ in range(STRIDED_CONVOLUTIONS):
            wider = min(2 * width, style_channels)
            layers += [nn.Conv2d(width, wider, 4, stride=2, padding=1, padding_mode="reflect"), nn.ReLU()]
            width = wider
        self.model = nn.Sequential(*layers)
        self.mlp = nn.Sequential(
            *(nn.Linear(width, bottleneck), nn.ReLU()),
            *(nn.Linear(bottleneck, style_channels), nn.ReLU()),
            *(nn.Linear(style_channels, style_channels), nn.ReLU()),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Encode pictures `b 3 h w` in [-1, 1], of any size from 32x32, as codes `b s`."""
        return self.mlp(self.model(image).mean((2, 3)))


class AdaptiveResidualBlock(nn.Module):
    """Two 3x3 convolutions, each after AdaIN and a leaky ReLU, around which the input is carried; a plain sum.

    Args:
        incoming: channels of the input.
        outgoing: channels of the output; where they differ, the way around is AdaIN and a 1x1 convolution.
        style_channels: length of the style code.
    """

    def __init__(self, incoming: int, outgoing: int, style_channels: int) -> None:
        super().__init__()
        self.conv_0 = nn.Conv2d(incoming, outgoing, 3, padding=1)
        self.conv_1 = nn.Conv2d(outgoing, outgoing, 3, padding=1)
        if incoming != outgoing:
            self.conv_s = nn.Conv2d(incoming, outgoing, 1, bias=False)
        self.norm_0 = AdaIN(incoming, style_channels)
        self.norm_1 = AdaIN(outgoing, style_channels)
        if incoming != outgoing:
            self.norm_s = AdaIN(incoming, style_channels)
        self.learned_shortcut = incoming != outgoing

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Map `b c h w` under codes `b s` to `b c' h w`; a batch of one goes with any number of the other."""
        residual = self.conv_0(F.leaky_relu(self.norm_0(x, code), 0.2))
        residual = self.conv_1(F.leaky_relu(self.norm_1(residual, code), 0.2))
        return (self.conv_s(self.norm_s(x, code)) if self.learned_shortcut else x) + residual


class DynamicSkip(nn.Module):
    """The dynamic skip connection: a gate that lets an encoder's features in where they help.

    Args:
        state_channels: of the state from the level below.
        feature_channels: of the encoder's features f_E.
        channels: of the generator's features f_G, of the mask and of the new state.
    """

    def __init__(self, state_channels: int, feature_channels: int, channels: int) -> None:
        super().__init__()

        def convolution(incoming: int) -> nn.Conv2d:
            return nn.Conv2d(incoming, channels, 3, padding=1, padding_mode="reflect")

        self.trans = convolution(state_channels)
        self.reset = convolution(channels + feature_channels)
        self.mask = convolution(channels + feature_channels)
        self.update = convolution(channels + feature_channels)

    def forward(
        self, generated: Tensor, features: Tensor, state: Tensor, correspondence: float = 1.0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Blend (1 - m) f_G + m f_E'.

        Args:
            generated: f_G, b c h w.
            features: f_E, b c' h w.
            state: b c'' h/2 w/2.
            correspondence: factor of the mask m; 0 leaves f_G alone, 1 is the paper's.

        Returns:
            The blend b c h w, the new state b c h w, and the mask b c h w in [0, 1).
        """
        state = F.leaky_relu(self.trans(F.interpolate(state, scale_factor=2, mode="nearest")), 0.2)
        both = torch.cat([state, features], 1)
        state = torch.sigmoid(self.reset(both)) * state
        mask = correspondence * torch.tanh(torch.relu(self.mask(both)))
        updated = self.update(torch.cat([state, features], 1))
        return (1 - mask) * generated + mask * updated, state, mask


class Level(nn.Module):
    """One resolution of the generator.

    Args:
        incoming: channels from the level below.
        outgoing: channels of this level.
        style_channels: length of the style code.
        second_block: whether a second residual block follows; so it does at the coarsest level.
        skip: channels of the skip's state and of the encoder's features, where there is a skip.
    """

    def __init__(
        self, incoming: int, outgoing: int, style_channels: int, *, second_block: bool, skip: tuple[int, int] | None
    ) -> None:
        super().__init__()
        self.reslayer = AdaptiveResidualBlock(incoming, outgoing, style_channels)
        self.postlayer = AdaptiveResidualBlock(outgoing, outgoing, style_channels) if second_block else None
        self.rgblayer = nn.Conv2d(outgoing, 3, 7, padding=3)
        self.skiplayer = DynamicSkip(*skip, outgoing) if skip else None

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Map `b c h w` under codes `b s` to the features f_G, `b c' h w`."""
        x = self.reslayer(x, code)
        return x if self.postlayer is None else self.postlayer(x, code)

    def to_rgb(self, x: Tensor) -> Tensor:
        """Turn features `b c h w` into a picture `b 3 h w` in [-1, 1]."""
        return torch.tanh(self.rgblayer(F.leaky_relu(x, 0.2)))


class Generator(nn.Module):
    """Generates a picture from the content encoder's features and a style code: at six levels, the official network.

    Args:
        feature_channels: channels of the content encoder's features from coarse to fine; their number is the number of levels.
        channels: n, of the finest levels.
        style_channels: length of the style code.
        style_width: channels of the style encoder's first layer.
        bottleneck: of the style encoder.

    Raises:
        ZooError: there are too few features for the skip connections.
    """

    def __init__(
        self,
        feature_channels: Sequence[int],
        channels: int = 64,
        style_channels: int = 256,
        style_width: int = 64,
        bottleneck: int = 64,
    ) -> None:
        super().__init__()
        if len(feature_channels) < SKIP_LEVELS[-1] + 2:
            raise ZooError(
                f"The generator's skip connections need {SKIP_LEVELS[-1] + 2} features of the content encoder, not "
                f"{len(feature_channels)}: pictures have at least 64x64 pixels."
            )
        self.style_encoder = StyleEncoder(style_channels, style_width, bottleneck)
        widths = [feature_channels[0], *level_widths(channels, len(feature_channels))]
        state = feature_channels[0]  # of the first skip; the second one's is what the first makes of it
        levels = []
        for level, (incoming, outgoing) in enumerate(pairwise(widths)):
            skip = (state, feature_channels[level + 1]) if level in SKIP_LEVELS else None
            levels.append(Level(incoming, outgoing, style_channels, second_block=level == 0, skip=skip))
            state = outgoing if skip else state
        self.model = nn.ModuleList(levels)

    def level(self, number: int) -> Level:
        """One of the resolutions, 0 for the coarsest."""
        level = self.model[number]
        assert isinstance(level, Level)
        return level

    def encode_style(self, image: Tensor) -> Tensor:
        """Encode exemplars `b 3 h w` in [-1, 1] as style codes `b s`."""
        return self.style_encoder(image)

    def forward(
        self,
        features: Sequence[Tensor],
        code: Tensor,
        *,
        skip: bool = True,
        scale: int | None = None,
        correspondence: float = 1.0,
    ) -> tuple[Tensor, list[Tensor]]:
        """Generate pictures.

        Args:
            features: of the content encoder, from coarse to fine, each b c h w.
            code: style codes, b s. One picture's features go with any number of codes, and one code with any number of pictures.
            skip: whether the dynamic skip connections are used.
            scale: level whose picture is wanted, 0 for the coarsest; the finest by default. Training moves the finest level's
                colours alone, so the others' are noise in a trained network.
            correspondence: factor of the skips' masks: 1 is the paper's, 0 leaves the generator's own features alone. Ours, in the
                spirit of what the journal version announces: a looser or tighter bond to the source.

        Returns:
            Pictures b 3 h w in [-1, 1], and the masks in [0, 1) of the skips that were used, b c h w of 16x16 and 32x32.
        """
        last = len(self.model) - 1 if scale is None else scale
        x = state = features[0]
        masks: list[Tensor] = []
        for number in range(last + 1):
            level = self.level(number)
            if number:
                x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = level(x, code)
            if number == last:
                break  # colours are taken before the skip
            if skip and level.skiplayer is not None:
                x, state, mask = level.skiplayer(x, features[number + 1], state, correspondence)
                masks.append(mask)
        image = self.level(last).to_rgb(x)
        return image, [mask.expand(len(image), -1, -1, -1) for mask in masks]
