"""Which number formats a training may use, and where it must not leave float32."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.errors import ZooError


def full(x: Tensor) -> Tensor:
    """A tensor in float32 at least: means of losses are taken in full precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def refuse_half_precision(precision: object) -> None:
    """Refuse float16.

    Raises:
        ZooError: the precision is one of float16's.
    """
    if str(precision) in {"16", "16-mixed", "16-true", "transformer-engine-float16"}:
        raise ZooError(
            f"precision {precision} is not supported: float16 overflows in adversarial losses and penalties, and its loss scaling "
            "would hide it. Use --trainer.precision bf16-mixed or 32-true."
        )
