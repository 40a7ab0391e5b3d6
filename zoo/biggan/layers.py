"""What BigGAN's networks are made of: layers with spectral norm, class-conditional batch norm, self-attention."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.blocks.live_spectral_norm import live_spectral_norm
from zoo.errors import ZooError

Layer = TypeVar("Layer", bound=nn.Module)
Initialisation = Literal["orthogonal", "normal", "xavier"]

LEAST_CHANNELS = 8
"""Self-attention compares positions by an eighth of their channels, so it needs this many."""


@dataclass(frozen=True)
class Layers:
    """Makes the layers of a network.

    Args:
        spectral_norm: on every weight; off for networks whose weights were divided once and for all.
        eps: least norm that a singular vector is divided by.
        singular_values: that are followed; one is needed.
        iterations: power iterations of a pass in training mode.
    """

    spectral_norm: bool = True
    eps: float = 1e-12
    singular_values: int = 1
    iterations: int = 1

    def convolution(self, incoming: int, outgoing: int, size: int, *, bias: bool = True) -> nn.Module:
        """A convolution that keeps the size of its input; `size` is the kernel's, 1 or 3."""
        return self._normalised(nn.Conv2d(incoming, outgoing, size, padding=size // 2, bias=bias))

    def linear(self, incoming: int, outgoing: int, *, bias: bool = True) -> nn.Module:
        """A linear layer."""
        return self._normalised(nn.Linear(incoming, outgoing, bias=bias))

    def embedding(self, entries: int, channels: int) -> nn.Module:
        """A vector per class."""
        return self._normalised(nn.Embedding(entries, channels))

    def _normalised(self, layer: Layer) -> Layer:
        if not self.spectral_norm:
            return layer
        return live_spectral_norm(layer, self.eps, self.singular_values, self.iterations)


class ConditionalBatchNorm(nn.Module):
    """Batch norm whose gain and bias are told by the class, and a part of the latent code.

    Args:
        channels: of the input.
        gain: makes gains less 1, `b channels`, from the condition.
        bias: makes biases of the same shape.
        eps: added to the variance.
    """

    def __init__(self, channels: int, gain: nn.Module, bias: nn.Module, eps: float) -> None:
        super().__init__()
        self.gain, self.bias = gain, bias
        self.norm = nn.BatchNorm2d(channels, eps, affine=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map `b c h w` to the same shape; the condition is `b c'`, or class numbers `b` where classes share no code."""
        gain = 1 + self.gain(condition)[:, :, None, None]  # b c 1 1
        return torch.addcmul(self.bias(condition)[:, :, None, None], self.norm(x), gain)


NormMaker = Callable[[int], ConditionalBatchNorm]


class Attention(nn.Module):
    """Self-attention: each position takes up what others hold, by how well they fit. Names are those of the official files.

    Args:
        channels: of the input.
        layers: makes the convolutions.

    Raises:
        ZooError: too few channels.
    """

    def __init__(self, channels: int, layers: Layers) -> None:
        super().__init__()
        if channels < LEAST_CHANNELS:
            raise ZooError(
                f"Self-attention needs {LEAST_CHANNELS} channels or more, and here are {channels}: widen the network, such as by "
                "--model.generator_channels, or attend at another size, --model.generator_attention."
            )
        narrow, half = channels // 8, channels // 2
        self.theta = layers.convolution(channels, narrow, 1, bias=False)
        self.phi = layers.convolution(channels, narrow, 1, bias=False)
        self.g = layers.convolution(channels, half, 1, bias=False)
        self.o = layers.convolution(half, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Map `b c h w` to the same shape."""
        query = self.theta(x).flatten(2).mT  # b hw c/8
        key = F.max_pool2d(self.phi(x), 2).flatten(2).mT  # b hw/4 c/8
        value = F.max_pool2d(self.g(x), 2).flatten(2).mT  # b hw/4 c/2
        taken = F.scaled_dot_product_attention(query, key, value, scale=1.0).mT  # b c/2 hw
        return x + self.gamma * self.o(taken.unflatten(2, x.shape[2:]))


def initialise(network: nn.Module, kind: Initialisation) -> None:
    """Draw the weights of all convolutions, linear layers and embeddings anew, from PyTorch's global generator (which a run seeds).

    Args:
        network: changed in place; biases stay as PyTorch draws them.
        kind: rows at right angles, N(0, 0.02), or Xavier's uniform numbers.
    """
    draw: dict[Initialisation, Callable[[Tensor], Tensor]] = {
        "orthogonal": nn.init.orthogonal_,
        "normal": lambda weight: nn.init.normal_(weight, std=0.02),
        "xavier": nn.init.xavier_uniform_,
    }
    for weight in network.parameters():
        if weight.ndim >= 2:
            draw[kind](weight)


def multipliers_for(
    size: int, given: Sequence[int] | None, table: dict[int, tuple[int, ...]], option: str
) -> tuple[int, ...]:
    """The channels of a network's stages, as multiples: those given, or the official ones of a picture size.

    Raises:
        ZooError: none were given, and the official code knows no network of this size.
    """
    if given is not None:
        return tuple(given)
    if size not in table:
        raise ZooError(
            f"The official code has no network for pictures of {size}x{size}; it has them for {', '.join(map(str, table))}. For "
            f"another size give the multiples of the channels, stage by stage: --model.{option} '[4, 4, 4]'"
        )
    return table[size]
