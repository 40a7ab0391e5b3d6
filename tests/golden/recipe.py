"""Weights that golden files of full-size networks name by a seed instead of storing them.

Each entry of a state dict comes from a generator of its own, seeded with the CRC-32 of its key plus the file's `recipe_seed`:
the keys are therefore the official ones, those of the single network.
"""

from collections.abc import Mapping, Sequence
from math import prod
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn

from zoo.experts.expert import Expert

POWER_ITERATIONS = 50
SHORTEST = 1e-12
Shapes = Mapping[str, Tensor | Sequence[int]]


def recipe_state(network: nn.Module | Shapes, seed: int) -> dict[str, Tensor]:
    """Make the recipe's weights.

    Args:
        network: a network whose keys are the official ones, or the shape of each official key (a tensor stands for its shape).
        seed: the file's `recipe_seed`.

    Returns:
        float32 tensors, and int64 counters, by official key. A spectral norm's `weight_u` and `weight_v` belong to the
        `weight_orig` beside them.
    """
    if isinstance(network, nn.Module):
        network = network.own_state() if isinstance(network, Expert) else network.state_dict()
    shapes = {key: tuple(value.shape if isinstance(value, Tensor) else value) for key, value in network.items()}
    state = {key: _entry(key, shape, seed) for key, shape in shapes.items()}
    for key in [key for key in shapes if key.endswith("weight_u")]:
        stem = key.removesuffix("u")
        state[key], state[f"{stem}v"] = _singular_vectors(state[f"{stem}orig"], state[key])
    return state


def _entry(key: str, shape: tuple[int, ...], seed: int) -> Tensor:
    name = key.rpartition(".")[2]
    if name == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    normal = np.asarray(np.random.RandomState((crc32(key.encode()) + seed) & 0xFFFFFFFF).standard_normal(shape))
    if name in ("weight_u", "weight_v"):
        value = normal
    elif name == "running_var":
        value = np.abs(normal) + 0.5
    elif name == "running_mean":
        value = 0.2 * normal
    elif len(shape) >= 2:
        value = normal / np.sqrt(prod(shape[1:]))
    else:
        value = 0.1 * normal if name == "bias" else 1 + 0.2 * normal
    return torch.from_numpy(np.asarray(value, dtype=np.float32))


def _singular_vectors(weight: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Approach the vectors u and v of a weight's largest singular value."""
    rows = weight.double().flatten(1)
    u = _unit(start.double())
    for _ in range(POWER_ITERATIONS):
        v = _unit(rows.t() @ u)
        u = _unit(rows @ v)
    return u.float(), v.float()


def _unit(vector: Tensor) -> Tensor:
    return vector / vector.norm().clamp(min=SHORTEST)
