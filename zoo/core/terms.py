"""The latest loss terms: kept on the device, and handed on once per iteration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


class Terms:
    """What `Translator.log_terms` was given, the last value of each name.

    `LightningModule.log` costs 0.2 ms per value and iteration. A loss term needs none of what it does: no mean over an epoch, no
    reduction over ranks. So the values go straight to where callbacks look; `zoo.callbacks.Dashboards` is what hands them to loggers.

    Attributes:
        latest: scalars on the device by their whole name, such as `loss/generator`.
    """

    def __init__(self) -> None:
        self.latest: dict[str, Tensor] = {}

    def keep(self, terms: Mapping[str, Tensor], prefix: str) -> None:
        """Keep values as they are now; nothing waits for the device.

        Args:
            terms: scalars by name.
            prefix: what stands before each name, with a slash.

        Raises:
            ValueError: a value is no scalar.
        """
        for name, value in terms.items():
            if value.numel() != 1:
                raise ValueError(f"the term {name!r} has the shape {tuple(value.shape)}; a term is one number")
            self.latest[f"{prefix}/{name}"] = value.detach().clone()

    def compare(self, name: str, real: Tensor | Sequence[Tensor], fake: Tensor | Sequence[Tensor]) -> None:
        """Keep `accuracy/<name>`: how often a discriminator scores the real one of a pair above the fake one.

        0.5 is guessing, 1 no longer teaches the generator. It needs no threshold, which every adversarial loss has elsewhere or, as a
        Wasserstein critic, nowhere. Pairs are those of equal place in both.

        Args:
            name: of the discriminator.
            real: logits of real pictures, of any shape, or a tensor per scale; of scales the mean is kept.
            fake: logits of fakes, of the same shapes.
        """
        reals, fakes = ([logits] if isinstance(logits, Tensor) else logits for logits in (real, fake))
        right = [(r > f).float().mean() for r, f in zip(reals, fakes, strict=True)]
        self.keep({name: torch.stack(right).mean()}, "accuracy")

    def publish(self, trainer: Trainer) -> None:
        """Hand the values to where Lightning's own would stand: `trainer.callback_metrics` and `trainer.logged_metrics`."""
        trainer.callback_metrics.update(self.latest)
        trainer.logged_metrics.update(self.latest)
