"""Spectral normalisation that looks at the weight in every pass, in eval mode too.

Takeru Miyato, Toshiki Kataoka, Masanori Koyama, Yuichi Yoshida: Spectral Normalization for Generative Adversarial Networks.
ICLR 2018, https://arxiv.org/abs/1802.05957. This form is that of BigGAN's PyTorch code (Andrew Brock).

`zoo.blocks.spectral_norm` keeps both singular vectors and uses them as they are in eval mode. Here only u is kept: each pass, in
either mode, takes a power iteration from it, v <- W^T u, u' <- W v (both normalised), and divides the weight by u'^T W v. Training
mode keeps u', eval mode forgets it: the first pass of a training gives what a pass in eval mode gave. The weights train under
`parametrizations.weight.original`.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

Layer = TypeVar("Layer", bound=nn.Module)


class LiveSpectralNorm(nn.Module):
    """Divides a weight by an estimate of its largest singular value.

    Args:
        weight: the weight, of any shape; its first axis counts rows (of an embedding: the entries).
        eps: least norm that a vector is divided by.
        count: singular values that are followed, for whoever watches them; the first one divides.
        iterations: power iterations of a pass in training mode; eval mode takes one.

    Attributes:
        u: left singular vectors, `count rows`, of any length at first.
        sigma: estimates of the last pass in training mode, `count`.
    """

    u: Tensor
    sigma: Tensor

    def __init__(self, weight: Tensor, eps: float = 1e-12, count: int = 1, iterations: int = 1) -> None:
        super().__init__()
        self.eps, self.iterations = eps, iterations
        self.register_buffer("u", torch.randn(count, len(weight)).to(weight))
        self.register_buffer("sigma", torch.ones(count).to(weight))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the normalised weight, of the same shape."""
        rows = weight.flatten(1)
        with _full_precision(rows.device.type):
            u = self.u
            for _ in range(self.iterations if self.training else 1):
                u, v = power_step(rows.detach(), u, self.eps)
            sigma = (u @ rows * v).sum(1)
        if self.training:
            with torch.no_grad():
                self.u.copy_(u)
                self.sigma.copy_(sigma)
        return weight / sigma[0]


def power_step(rows: Tensor, u: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Bring vectors nearer to a matrix' singular ones, each at right angles to those before it.

    Args:
        rows: the matrix, `n m`.
        u: vectors `k n` of any length.
        eps: least norm that a vector is divided by.

    Returns:
        The left vectors `k n` and the right ones `k m`, of length 1.
    """
    left: list[Tensor] = []
    right: list[Tensor] = []
    for start in u:
        right.append(F.normalize(_apart_from(right, start @ rows), dim=0, eps=eps))
        left.append(F.normalize(_apart_from(left, rows @ right[-1]), dim=0, eps=eps))
    return torch.stack(left), torch.stack(right)


def live_spectral_norm(layer: Layer, eps: float = 1e-12, count: int = 1, iterations: int = 1) -> Layer:
    """Put this normalisation on a layer's weight and return the layer; the arguments are those of `LiveSpectralNorm`."""
    norm = LiveSpectralNorm(layer.get_parameter("weight"), eps, count, iterations)
    # Unsafe: PyTorch's check of the shape would be a pass in training mode.
    parametrize.register_parametrization(layer, "weight", norm, unsafe=True)
    return layer


def _full_precision(device_type: str) -> AbstractContextManager[object]:
    """Outside of autocast, which the device for shapes alone does not know."""
    return nullcontext() if device_type == "meta" else torch.autocast(device_type, enabled=False)


def _apart_from(others: list[Tensor], vector: Tensor) -> Tensor:
    """Take its parts along the others from a vector."""
    for other in others:
        vector = vector - torch.dot(vector, other) / torch.dot(other, other) * other
    return vector
