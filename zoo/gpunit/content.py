"""GP-UNIT's content encoder: a picture becomes one channel of 8x8 numbers that tell its layout and nothing of its look.

Trained by prior distillation (`zoo.gpunit.prior`), frozen ever after (`zoo.gpunit.model`).
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from zoo.blocks.spectral_norm import has_spectral_norm, spectral_norm
from zoo.errors import ZooError

CONTENT_SIZE = 8
"""Side of the content map at every picture size; the official code's at 256."""

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"lrelu": lambda: nn.LeakyReLU(0.2), "relu": nn.ReLU, "tanh": nn.Tanh}
Initialisation = Literal["gpu", "cpu"]


class ConvBlock(nn.Module):
    """Convolution with mirrored padding and spectral norm, a normalisation, a shift by a picture's style, an activation.

    Args:
        incoming: channels of the input.
        outgoing: channels of the output.
        kernel: side of the kernel.
        stride: of the convolution.
        padding: mirrored pixels on each side.
        norm: "instance", "none", or "adain" (instance norm scaled and shifted by a domain's code).
        activation: "lrelu" (slope 0.2), "relu" or "tanh".
        style_channels: length of the domain's code, for "adain".
    """

    def __init__(
        self,
        incoming: int,
        outgoing: int,
        kernel: int = 3,
        stride: int = 1,
        padding: int = 1,
        *,
        norm: Literal["instance", "none", "adain"] = "instance",
        activation: Literal["lrelu", "relu", "tanh"] = "lrelu",
        style_channels: int = 0,
    ) -> None:
        super().__init__()
        self.conv = spectral_norm(
            nn.Conv2d(incoming, outgoing, kernel, stride, padding, padding_mode="reflect" if padding else "zeros")
        )
        self.norm = AdaIN(outgoing, style_channels) if norm == "adain" else None
        self.normalised = norm == "instance"
        self.activation = ACTIVATIONS[activation]()

    def forward(
        self, x: Tensor, domain_code: Tensor | None = None, statistics: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Compute the block.

        Args:
            x: b c h w.
            domain_code: b s, for "adain".
            statistics: mean and standard deviation of a picture's features, each b c 1 1, to take on.
        """
        x = self.conv(x)
        if self.norm is not None:
            assert domain_code is not None
            x = self.norm(x, domain_code)
        elif self.normalised:
            x = F.instance_norm(x)
        if statistics is not None:
            mean, deviation = statistics
            x = x * deviation + mean
        return self.activation(x)


class AdaIN(nn.Module):
    """Adaptive instance norm: gamma * IN(x) + beta, both linear in a style code; gamma is not shifted by one.

    Args:
        channels: of the features.
        style_channels: length of the style code.
    """

    def __init__(self, channels: int, style_channels: int) -> None:
        super().__init__()
        self.style = nn.Linear(style_channels, 2 * channels)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Normalise `b c h w` under codes `b s`."""
        gamma, beta = self.style(code)[:, :, None, None].chunk(2, dim=1)  # b c 1 1
        return gamma * F.instance_norm(x) + beta


def feature_channels(channels: int, image_size: int) -> list[int]:
    """Channels of the encoder's features from coarse to fine, the one-channel content first.

    At 256 pixels: 1, 8n, 8n, 4n, 2n, n of 8, 8, 16, 32, 64 and 128 pixels.
    """
    halvings = halvings_of(image_size)
    return [1, *(channels * min(2**level, 8) for level in reversed(range(halvings)))]


def halvings_of(image_size: int) -> int:
    """How often a picture is halved down to the content map.

    Raises:
        ZooError: the size is none of 8 times a power of two.
    """
    halvings = int(math.log2(image_size / CONTENT_SIZE)) if image_size >= CONTENT_SIZE else 0
    if halvings < 3 or CONTENT_SIZE * 2**halvings != image_size:
        raise ZooError(f"GP-UNIT works at 64, 128, 256, 512, ... pixels, not at {image_size}: --model.image_size 256")
    return halvings


class ContentEncoder(nn.Module):
    """The content encoder: at 256 pixels, the official network.

    Args:
        channels: of the first layer.
        image_size: side of the pictures that it works at; others are resized first, bilinearly.

    Raises:
        ZooError: an image size that is not 64, 128, 256, 512, ...
    """

    def __init__(self, channels: int = 64, image_size: int = 256) -> None:
        super().__init__()
        self.image_size = image_size
        widths = [channels, *reversed(feature_channels(channels, image_size)[1:])]  # n, then after each halving
        self.layers = nn.ModuleList()
        for level, (incoming, outgoing) in enumerate(pairwise(widths)):
            first = 3 if level == 0 else incoming
            self.layers.append(nn.Sequential(ConvBlock(first, incoming), ConvBlock(incoming, outgoing, stride=2)))
        self.layers.append(nn.Sequential(ConvBlock(widths[-1], widths[-1]), ConvBlock(widths[-1], 1)))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Encode pictures.

        Args:
            image: b 3 h w in [-1, 1].

        Returns:
            Features from coarse to fine: the content, b 1 8 8, then b c 8 8, b c 16 16, ... (`feature_channels`).
        """
        if image.shape[2:] != (self.image_size, self.image_size):
            image = F.interpolate(image, (self.image_size, self.image_size), mode="bilinear", align_corners=False)
        features = []
        for layer in self.layers:
            image = layer(image)
            features.append(image)
        return features[::-1]


def initialise_layers(network: nn.Module, rule: Initialisation) -> None:
    """Initialise as the official code does on a GPU, or on a CPU, where its initialiser reaches more layers.

    All biases become 0 and all weights of convolutions and linear layers normal, with the variance 2 / fan-in. The official
    initialiser writes into an attribute of spectrally normalised layers that is the weight itself on the CPU, but a
    mere copy once the network was moved to a GPU: there these layers keep PyTorch's default (uniform, variance
    1 / (3 fan-in)). The published models were trained on GPUs.

    Args:
        network: the network.
        rule: "gpu" or "cpu".
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            if module.bias is not None:
                nn.init.zeros_(module.bias)
            if not has_spectral_norm(module):
                nn.init.kaiming_normal_(module.weight)
            elif rule == "cpu":
                nn.init.kaiming_normal_(module.parametrizations["weight"].original)  # type: ignore[index, union-attr]
