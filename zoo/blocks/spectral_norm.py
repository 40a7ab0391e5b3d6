"""Spectral normalisation in the order that official codes train with.

Takeru Miyato, Toshiki Kataoka, Masanori Koyama, Yuichi Yoshida: Spectral Normalization for Generative Adversarial Networks.
ICLR 2018, https://arxiv.org/abs/1802.05957.

Each forward pass in training mode moves two vectors by one power iteration, first v <- W^T u, then u <- W v (both
normalised), and divides the weight by u^T W v. PyTorch's present parametrisation moves u first, so it stands half a step
elsewhere: the numbers of codes written with its older `torch.nn.utils.spectral_norm` do not come out. This one is the
older order as a parametrisation; the weights train under `parametrizations.weight.original`.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.amp import is_autocast_available
from torch.nn import functional as F
from torch.nn.utils import parametrize

Layer = TypeVar("Layer", bound=nn.Module)
OURS_OF_OFFICIAL = {
    "weight_orig": "parametrizations.weight.original",
    "weight_u": "parametrizations.weight.0.u",
    "weight_v": "parametrizations.weight.0.v",
}
"""The last part of the names that PyTorch's older spectral norm gives to weights and vectors, and ours."""


def without_autocast(device_type: str) -> AbstractContextManager[object]:
    """Switch autocast off on devices that know it; the meta device of shapes without numbers does not."""
    return torch.autocast(device_type, enabled=False) if is_autocast_available(device_type) else nullcontext()


class SpectralNorm(nn.Module):
    """Divides a weight by an estimate of its largest singular value.

    In training mode each call moves the estimate by one power iteration; in eval mode the vectors stay.

    Args:
        weight: the weight, of any shape; its first axis counts rows.
        eps: least norm that a vector is divided by.
    """

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor, eps: float = 1e-12) -> None:
        super().__init__()
        self.eps = eps
        rows = weight.detach().flatten(1)
        self.register_buffer("u", F.normalize(torch.randn(rows.shape[0]), dim=0, eps=eps).to(rows))
        self.register_buffer("v", F.normalize(torch.randn(rows.shape[1]), dim=0, eps=eps).to(rows))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the normalised weight, of the same shape."""
        # In the weight's own precision: autocast would mix two in the products of vectors.
        with without_autocast(weight.device.type):
            rows = weight.flatten(1)
            if self.training:
                with torch.no_grad():
                    self.v.copy_(F.normalize(torch.mv(rows.t(), self.u), dim=0, eps=self.eps))
                    self.u.copy_(F.normalize(torch.mv(rows, self.v), dim=0, eps=self.eps))
            # Clones: a later pass of the same iteration moves the vectors before this one's backward pass reads them.
            u, v = self.u.clone(), self.v.clone()
            return weight / torch.dot(u, torch.mv(rows, v))


def spectral_norm(layer: Layer, eps: float = 1e-12) -> Layer:
    """Put spectral normalisation on a layer's weight and return the layer."""
    parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.get_parameter("weight"), eps))
    return layer


def has_spectral_norm(layer: nn.Module) -> bool:
    """Whether a layer's weight is spectrally normalised by this module."""
    if not parametrize.is_parametrized(layer, "weight"):
        return False
    return any(isinstance(step, SpectralNorm) for step in layer.parametrizations["weight"])  # type: ignore[index]


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the entries of PyTorch's older spectral norm in a state dict; all others keep their names."""
    renamed = {}
    for key, value in state.items():
        head, _, last = key.rpartition(".")
        last = OURS_OF_OFFICIAL.get(last, last)
        renamed[f"{head}.{last}" if head else last] = value
    return renamed


def iterate(network: nn.Module) -> None:
    """Move the vectors of all spectrally normalised layers as a forward pass in training mode would, without the pass."""
    with torch.no_grad():
        for layer in network.modules():
            if has_spectral_norm(layer):
                _ = layer.weight
