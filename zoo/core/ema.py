"""Exponential moving averages of named networks."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn


class Ema(nn.Module):
    """Moving averages of some of a room's networks, under state-dict keys of their own (`ema.<network>.`).

    Own code, because the averages that PyTorch and Lightning ship copy at their first update and average everything.

    Args:
        networks: the networks by name; each is deep-copied, frozen and kept in eval mode.
        decay: share of the old average that one update keeps, in [0, 1]; give this or `half_life`.
        half_life: number of images after which an old weight counts half; `update` is then told how many images it saw.
        start: `copy` follows the weights exactly until `start_iteration`; `given` keeps the copies as they were made (or loaded)
            until then and averages away from them.
        start_iteration: first iteration (0-based) whose update averages.
        buffers: what happens to running statistics: `copy` them at each update, `average` them like weights, or `keep`.

    Raises:
        ValueError: neither or both of `decay` and `half_life` are given, or one is out of range.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        *,
        decay: float | None = None,
        half_life: float | None = None,
        start: Literal["copy", "given"] = "copy",
        start_iteration: int = 0,
        buffers: Literal["copy", "average", "keep"] = "copy",
    ) -> None:
        super().__init__()
        if (decay is None) == (half_life is None):
            raise ValueError("give an Ema either `decay` or `half_life` (in images), not both and not neither")
        if (decay is not None and not 0 <= decay <= 1) or (half_life is not None and half_life <= 0):
            raise ValueError(f"decay is {decay} (expected 0 to 1), half_life is {half_life} (expected above 0)")
        self.decay, self.half_life = decay, half_life
        self.start, self.start_iteration, self.buffer_rule = start, start_iteration, buffers
        self._sources = dict(networks)  # a plain dict: the originals must not be registered twice
        for name, network in networks.items():
            self.add_module(name, copy.deepcopy(network).requires_grad_(False))
        self.eval()

    def __getitem__(self, name: str) -> nn.Module:
        return self.get_submodule(name)

    def train(self, mode: bool = True) -> Ema:
        """Averages are only ever used for inference: they stay in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def update(self, iteration: int, images: int = 0) -> None:
        """Move the averages towards the present weights.

        Args:
            iteration: 0-based index of the running iteration.
            images: number of images (of all ranks) in it; needed with `half_life`.
        """
        if iteration < self.start_iteration:
            weight = 1.0 if self.start == "copy" else 0.0
        elif self.decay is not None:
            weight = 1 - self.decay
        else:
            weight = 1 - 0.5 ** (images / self.half_life) if self.half_life else 0.0
        if weight == 0:
            return
        for name, source in self._sources.items():
            average = self[name]
            _move(list(average.parameters()), list(source.parameters()), weight)
            ours, theirs = list(average.buffers()), list(source.buffers())
            if self.buffer_rule == "average":
                floating = [i for i, buffer in enumerate(ours) if buffer.is_floating_point()]
                _move([ours[i] for i in floating], [theirs[i] for i in floating], weight)
            elif self.buffer_rule == "copy":
                _move(ours, theirs, 1.0)


def _move(averages: list[torch.Tensor], values: list[torch.Tensor], weight: float) -> None:
    if not averages:
        return
    if weight == 1:
        torch._foreach_copy_(averages, values)
    else:
        torch._foreach_lerp_(averages, values, weight)
