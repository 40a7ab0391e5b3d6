"""Numbers that StarGAN v2's golden files name by a key and a seed instead of storing them."""

from collections.abc import Mapping, Sequence
from math import prod
from zlib import crc32

import numpy as np
import torch
from torch import Tensor


def normal(key: str, shape: Sequence[int], seed: int) -> Tensor:
    """Standard normal numbers, float64."""
    stream = np.random.RandomState((crc32(key.encode()) + 7919 * seed) % 2**32)
    return torch.from_numpy(np.asarray(stream.standard_normal(tuple(shape))))


def image(key: str, shape: Sequence[int], seed: int) -> Tensor:
    """A picture in [-1, 1], in float32's numbers."""
    return (0.5 * normal(key, shape, seed)).clamp(-1, 1).float()


def weights(shapes: Mapping[str, Tensor], prefix: str, seed: int) -> dict[str, Tensor]:
    """The weights of a network, float32, by official key; counters and the high-pass filter are those given."""
    return {key: _weight(key, value, prefix, seed) for key, value in shapes.items()}


def _weight(key: str, value: Tensor, prefix: str, seed: int) -> Tensor:
    name = key.rpartition(".")[2]
    if name == "num_batches_tracked" or key == "hpf.filter":
        return value.clone()
    drawn = normal(f"{prefix}.{key}", value.shape, seed)
    if name == "running_var":
        drawn = 1 + 0.1 * drawn.clamp(-3, 3)
    elif name in {"running_mean", "bias"}:
        drawn = 0.1 * drawn
    elif name == "weight" and value.ndim == 1:
        drawn = 1 + 0.1 * drawn
    else:
        drawn = drawn * np.sqrt(2 / prod(value.shape[1:]))
    return drawn.float()


def probe(tensor: Tensor, count: int) -> Tensor:
    """So many numbers of a tensor, evenly spaced from the first to the last."""
    flat = tensor.reshape(-1)
    places = torch.arange(count) * (flat.numel() - 1) // (count - 1)
    return flat[places]
