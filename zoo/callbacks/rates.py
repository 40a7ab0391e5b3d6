"""Learning rates that fall towards the end, in any room from its YAML.

    trainer:
      callbacks:
        - class_path: zoo.callbacks.FadeRates
          init_args: {at: 750, until: 1500}

Adversarial networks circle around each other as far as their rates let them; moving averages hide that, falling rates end it. Most of the
papers hold their rates over a hundred thousand iterations; trainings of a few thousand gain most from this.
"""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from zoo.callbacks.staging import Window, nearest_names, room_of
from zoo.errors import ZooError


class FadeRates(Callback):
    """Lets learning rates fall on a straight line between two iterations, and stay there.

    They are multiplied on top of the room's own schedule, where it has one. Rates depend on the iteration's number alone, so a run that is
    killed and resumed anywhere ends with the bits of one that was left alone.
    Of several that name one player, the last in the list holds.

    Args:
        at: the last iteration of full rates, 0-based; or the name of the room's argument that holds it.
        until: the first iteration of the smallest rates, likewise.
        to: the smallest rates' share of the full ones, in [0, 1).
        players: those whose rates fall, by their names in the room, such as `generator`; null for all.

    Raises:
        ZooError: a share that is none, or iterations in the wrong order.
    """

    def __init__(self, at: int | str, until: int | str, to: float = 0.0, players: list[str] | None = None) -> None:
        if not 0 <= to < 1:
            raise ZooError(f"FadeRates: to is {to}; expected a share of the full rates, from 0 to below 1.")
        self.window = Window(at, until, "FadeRates")
        self.to = to
        self.players = players

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look the numbers up."""
        self.window.resolve(room_of(pl_module, self))
        if self.window.begin == self.window.end:
            raise ZooError(f"FadeRates: at and until are both {self.window.end}; expected a later until.")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look the players up."""
        known = list(room_of(pl_module, self)._players)
        for name in self.players or []:
            if name not in known:
                raise ZooError(
                    f"FadeRates: {type(pl_module).__name__} has no player {name!r}. The nearest: {nearest_names(name, known)}."
                )

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Set the share of the iteration."""
        room = room_of(pl_module, self)
        begin, end = self.window.begin, self.window.end
        assert end is not None
        way = min(max((trainer.global_step - begin) / (end - begin), 0.0), 1.0)
        for name in self.players if self.players is not None else room._players:
            room.rate_factors[name] = 1 - (1 - self.to) * way
