"""Initial weights of image-to-image networks."""

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import Tensor, nn

Initialisation = Literal["normal", "xavier", "kaiming", "orthogonal"]


def initialise(network: nn.Module, kind: Initialisation = "normal", gain: float = 0.02) -> None:
    """Draw the weights of a network anew, from PyTorch's global generator (which a run seeds).

    Args:
        network: changed in place.
        kind: distribution of the weights of convolutions and linear layers; biases become 0, weights of batch norms N(1, gain).
        gain: standard deviation for `normal`, factor for `xavier` and `orthogonal`, without effect on `kaiming`.
    """
    draw: dict[Initialisation, Callable[[Tensor], Tensor]] = {
        "normal": partial(nn.init.normal_, std=gain),
        "xavier": partial(nn.init.xavier_normal_, gain=gain),
        "kaiming": nn.init.kaiming_normal_,
        "orthogonal": partial(nn.init.orthogonal_, gain=gain),
    }
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            draw[kind](layer.weight)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, gain)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
