"""What the measured rooms have in common: how one is described, and batches of noise."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoo.core import Translator

Iteration = Callable[[], None]


def translate_one(room: Any, batch: dict[str, Tensor]) -> None:
    """Translate the first sample of a batch, as sample grids and `predict` do."""
    room.translate_batch({key: value[:1] for key, value in batch.items()})


@dataclass(frozen=True)
class MeasuredRoom:
    """A room at the size of the official measurement, or at a size as small where there is none.

    Attributes:
        configuration: what is measured, in words.
        make: builds the room.
        batch: makes a training batch.
        small: the room and a batch at widths and sizes that take no time, for what does not depend on them.
        plain: makes the same iteration in plain PyTorch, with the room's networks and nothing of the house around them; None where there is
            no official figure to be measured against.
        official_seconds: of one official iteration; None where it was not measured.
        official_gflop: of one official iteration; None where it was not counted.
        redundant: whether the official iteration is known to compute things twice, so that ours has to take 0.8 of its time.
        infer: makes one picture with the room.
    """

    configuration: str
    make: Callable[[], Translator]
    batch: Callable[[], dict[str, Tensor]]
    small: Callable[[], tuple[Translator, dict[str, Tensor]]]
    plain: Callable[[dict[str, Tensor]], Iteration] | None
    official_seconds: float | None
    official_gflop: float | None
    redundant: bool = False
    infer: Callable[[Any, dict[str, Tensor]], object] = translate_one


def pictures(*shape: int, seed: int) -> Tensor:
    """Noise `b c h w` in [-1, 1]: the time of an iteration does not depend on what pictures show."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def unpaired(size: int, batch_size: int = 1) -> dict[str, Tensor]:
    """A batch of `source` and `target` pictures."""
    return {
        "source": pictures(batch_size, 3, size, size, seed=1),
        "target": pictures(batch_size, 3, size, size, seed=2),
    }


def pairs(size: int, batch_size: int, domains: int) -> dict[str, Tensor]:
    """A batch of pictures, and of pairs `x` and `y`, with their domains and masks."""
    batch = {}
    for number, name in enumerate(("image", "x", "y")):
        domain, mask = ("domain", "mask") if name == "image" else (f"{name}_domain", f"{name}_mask")
        batch[name] = pictures(batch_size, 3, size, size, seed=number)
        batch[domain] = (torch.arange(batch_size) + number) % domains
        batch[mask] = pictures(batch_size, 3, size, size, seed=3 + number)
    return batch


def labelled(size: int, batch_size: int, classes: int) -> dict[str, Tensor]:
    """A batch of pictures with the numbers of their classes."""
    return {"image": pictures(batch_size, 3, size, size, seed=1), "domain": torch.arange(batch_size) % classes}


def noise_picture(height: int, width: int) -> dict[str, Tensor]:
    """A batch of the one picture that single-image rooms learn from."""
    return {"image": pictures(1, 3, height, width, seed=1)}
