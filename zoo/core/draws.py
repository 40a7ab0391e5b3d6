"""Random draws as a function of (seed, rank, iteration, name), or read from a recorded tape."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

Tape = Mapping[int, Sequence[tuple[str, Tensor]]]


class Asked(NamedTuple):
    """A draw that an iteration asked for, by what makes it again: the method and its arguments, device and precision."""

    method: str
    name: str
    arguments: tuple[object, ...]
    device: torch.device
    dtype: torch.dtype


def seed_of(*key: int | str) -> int:
    """A seed of 63 bits that depends on every part of the key."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class Draws:
    """Every random draw of a room.

    In training a draw is a pure function of (seed, rank, iteration, name, how often the name was drawn in this iteration), so a
    resumed run draws what the uninterrupted one drew, and ranks draw apart. In a golden test the draws are read from a tape.

    Args:
        seed: the run's seed.
        rank: this process' global rank.

    Attributes:
        asked: what this iteration has drawn so far, in order; `again` makes the numbers anew. Kept from the first iteration on: draws of
            inference would add up for ever.
    """

    def __init__(self, seed: int = 0, rank: int = 0) -> None:
        self.seed = seed
        self.rank = rank
        self.device = torch.device("cpu")
        self.dtype = torch.float32
        self._moment: tuple[int | str, ...] = ("iteration", 0)
        self._counts: Counter[str] = Counter()
        self.asked: list[Asked] | None = None
        self._tape: dict[int, list[tuple[str, Tensor]]] | None = None
        self._iteration = 0

    def begin(self, iteration: int, device: torch.device, dtype: torch.dtype) -> None:
        """Start the draws of an iteration; the global generators are seeded too, for dropout and the like."""
        self.device, self.dtype = device, dtype
        self._moment, self._iteration = ("iteration", iteration), iteration
        self._counts.clear()
        self.asked = []
        seed = seed_of(self.seed, self.rank, "global", iteration)
        torch.default_generator.manual_seed(seed)  # torch.manual_seed walks every backend: 0.2 ms in each iteration
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - third-party augmentations still draw from it

    @contextmanager
    def aside(self, *moment: int | str) -> Iterator[None]:
        """Draws of validation and sample grids: the same at every call, leaving the training streams where they are."""
        kept = self._moment, self._counts
        self._moment, self._counts = ("aside", *moment), Counter()
        devices = [self.device] if self.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices=devices):
                torch.manual_seed(seed_of(self.seed, self.rank, *self._moment))
                yield
        finally:
            self._moment, self._counts = kept

    def normal(self, name: str, shape: Sequence[int], *, device: torch.device | str | None = None) -> Tensor:
        """Standard normal numbers of the given shape."""
        generator = self._generator("normal", name, (tuple(shape),), device)
        if generator is None:
            return self._from_tape(name, shape, device)
        return torch.randn(tuple(shape), generator=generator, device=generator.device, dtype=self.dtype)

    def uniform(self, name: str, shape: Sequence[int], *, device: torch.device | str | None = None) -> Tensor:
        """Numbers uniform in [0, 1) of the given shape."""
        generator = self._generator("uniform", name, (tuple(shape),), device)
        if generator is None:
            return self._from_tape(name, shape, device)
        return torch.rand(tuple(shape), generator=generator, device=generator.device, dtype=self.dtype)

    def integers(
        self, name: str, shape: Sequence[int], low: int, high: int, *, device: torch.device | str | None = None
    ) -> Tensor:
        """Whole numbers uniform in [low, high), int64, of the given shape."""
        generator = self._generator("integers", name, (tuple(shape), low, high), device)
        if generator is None:
            return self._from_tape(name, shape, device, torch.int64)
        return torch.randint(low, high, tuple(shape), generator=generator, device=generator.device)

    def permutation(self, name: str, count: int, *, device: torch.device | str | None = None) -> Tensor:
        """A random order of 0 .. count - 1, int64."""
        generator = self._generator("permutation", name, (count,), device)
        if generator is None:
            return self._from_tape(name, (count,), device, torch.int64)
        return torch.randperm(count, generator=generator, device=generator.device)

    def again(self, iteration: int, asked: Sequence[Asked]) -> list[tuple[str, Tensor]]:
        """Make an iteration's draws anew, in their order, each with its name; the streams stay where they are."""
        fresh, drawn = Draws(self.seed, self.rank), []
        fresh._moment = ("iteration", iteration)
        for method, name, arguments, device, dtype in asked:
            fresh.dtype = dtype
            drawn.append((name, getattr(fresh, method)(name, *arguments, device=device)))
        return drawn

    def replay(self, tape: Tape) -> None:
        """Read every later draw from a tape: for each iteration the draws in order, each with its name."""
        self._tape = {iteration: list(draws) for iteration, draws in tape.items()}

    @property
    def unread(self) -> int:
        """How many draws of the tape nothing has asked for yet."""
        return sum(len(draws) for draws in (self._tape or {}).values())

    def _generator(
        self, method: str, name: str, arguments: tuple[object, ...], device: torch.device | str | None
    ) -> torch.Generator | None:
        if self._tape is not None and self._moment[0] == "iteration":
            return None
        where = torch.device(device) if device is not None else self.device
        if self._moment[0] == "iteration" and self.asked is not None:
            self.asked.append(Asked(method, name, arguments, where, self.dtype))
        count = self._counts[name]
        self._counts[name] += 1
        return torch.Generator(device=where).manual_seed(seed_of(self.seed, self.rank, *self._moment, name, count))

    def _from_tape(
        self, name: str, shape: Sequence[int], device: torch.device | str | None, dtype: torch.dtype | None = None
    ) -> Tensor:
        draws = (self._tape or {}).get(self._iteration, [])
        if not draws:
            raise LookupError(f"iteration {self._iteration} asks for a draw {name!r}, but the tape has none left")
        recorded, value = draws.pop(0)
        if recorded != name or tuple(value.shape) != tuple(shape):
            raise LookupError(
                f"iteration {self._iteration} asks for {name!r} of shape {tuple(shape)}, "
                f"the tape has {recorded!r} of shape {tuple(value.shape)}"
            )
        return value.to(device=device or self.device, dtype=dtype or self.dtype)
