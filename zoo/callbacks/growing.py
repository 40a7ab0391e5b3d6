"""Networks that grow: each level of detail has a size, a batch and a learning rate of its own, and is blended in.

    trainer:
      callbacks:
        - class_path: zoo.callbacks.GrowResolution

Texts name the room's constructor arguments, so an overlay changes these and leaves the list alone. Level and blend depend on the number
of the iteration alone: a run that is killed and resumed anywhere, in the middle of a blend too, ends with the bits of one that was left
alone.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple, Protocol, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from zoo.callbacks.staging import iteration_in, nearest_names, number_in, room_of
from zoo.core.translator import Translator
from zoo.errors import ZooError


class Moment(NamedTuple):
    """Where a growing network stands.

    Attributes:
        level: of detail, from 0.
        blend: share of this level's own layers, 0 to 1.
        transition: whether the level is being blended in.
        batch: pictures per iteration, over all processes.
        rate: learning rate.
    """

    level: int
    blend: float
    transition: bool
    batch: int
    rate: float


class Growth:
    """When which level of detail is trained, and how much of it: a pure function of what was seen (Karras et al. 2018; ALAE).

    Every level but the last takes the same number of epochs. Of all but the first the first half of these blends the level in, along a
    cosine from exactly 0 to 1.

    Args:
        levels: number of levels.
        epochs_per_level: epochs of each; 0 trains the last level from the start.
        images_per_epoch: pictures that count as an epoch; a last batch that would not be full is left out.
        batches: pictures per iteration, over all processes, from the first level on; the last number holds for all further ones.
        rates: learning rates, likewise.

    Raises:
        ZooError: a number makes no sense.
    """

    def __init__(
        self,
        levels: int,
        epochs_per_level: int,
        images_per_epoch: int,
        batches: Sequence[int],
        rates: Sequence[float],
    ) -> None:
        if levels < 1 or epochs_per_level < 0 or images_per_epoch < 1 or not batches or not rates:
            raise ZooError(
                f"GrowResolution: {levels} levels of {epochs_per_level} epochs of {images_per_epoch} pictures, batches {list(batches)}, "
                f"rates {list(rates)}; expected one level, one picture, one batch and one rate at least."
            )
        self.levels, self.epochs_per_level, self.images_per_epoch = levels, epochs_per_level, images_per_epoch
        self.batches = [int(batches[min(level, len(batches) - 1)]) for level in range(levels)]
        self.rates = [float(rates[min(level, len(rates) - 1)]) for level in range(levels)]
        if unfit := [batch for batch in self.batches if not 1 <= batch <= images_per_epoch]:
            raise ZooError(
                f"GrowResolution: a batch of {unfit[0]} pictures is larger than an epoch of {images_per_epoch}: give more images_per_epoch."
            )
        lengths = [epochs_per_level * (images_per_epoch // batch) for batch in self.batches[:-1]]
        self.first_iterations = [0, *accumulate(lengths)]

    def at(self, epoch: int, seen: float) -> Moment:
        """Where training stands in a 0-based epoch after so many of its pictures."""
        length = self.epochs_per_level
        level = min(self.levels - 1, epoch // length) if length else self.levels - 1
        half = length // 2
        transition = level > 0 and length > 0 and epoch // length == level and epoch % length < half
        blend = 1.0
        if transition:
            share = (epoch % length * self.images_per_epoch + seen) / (half * self.images_per_epoch)
            blend = 0.5 + 0.5 * math.sin(math.pi * share - math.pi / 2)
        return Moment(level, blend, transition, self.batches[level], self.rates[level])

    def at_iteration(self, iteration: int) -> Moment:
        """Where training stands before a 0-based iteration."""
        if not self.epochs_per_level:
            return self.at(0, 0)
        level = bisect_right(self.first_iterations, iteration) - 1
        batch = self.batches[level]
        epoch, number = divmod(iteration - self.first_iterations[level], self.images_per_epoch // batch)
        return self.at(level * self.epochs_per_level + epoch, number * batch)


class GrowingRoom(Protocol):
    """What a room has beside a Translator's stages so that it grows by `GrowResolution`: `stage` is its level."""

    blend: float
    grows: bool

    def level_size(self, level: int) -> int:
        """Side of a level's pictures in pixels."""


def shared_batches(batches: Sequence[int] | int, world_size: int) -> list[int]:
    """The batches of all levels, which so many processes have to share evenly.

    Args:
        batches: pictures per iteration over all processes: one number, or one for each level.
        world_size: number of processes.

    Raises:
        ZooError: a batch can't be shared evenly.
    """
    found = [int(batches)] if isinstance(batches, int | float) else [int(batch) for batch in batches]
    if uneven := [batch for batch in found if batch % world_size]:
        raise ZooError(
            f"GrowResolution: {world_size} processes can't share a batch of {uneven[0]} pictures evenly: give multiples of {world_size}."
        )
    return found


class GrowResolution(Callback):
    """Lets a room grow level by level, as progressive growing does.

    Before each iteration it moves the room to its level (`enter_stage`), sets its `blend` and the learning rates, and the data follows:
    batches have the level's number of pictures, of the level's size. Each setting is a value, or the name of the room's argument.

    Args:
        levels: number of levels.
        epochs_per_level: epochs of each level but the last; 0 trains the last one from the start.
        images_per_epoch: pictures that count as an epoch.
        batches: pictures per iteration over all processes, a number or one for each level.
        rates: learning rates, a number or one for each level.
        reset_optimizers: whether optimisers forget their state when a level begins, as in ALAE's official code; never at a resume.
    """

    def __init__(
        self,
        levels: int | str = "levels",
        epochs_per_level: int | str = "epochs_per_level",
        images_per_epoch: int | str = "images_per_epoch",
        batches: int | str | list[int] = "level_batches",
        rates: float | str | list[float] = "level_rates",
        reset_optimizers: bool = True,
    ) -> None:
        self.settings: dict[str, Any] = {
            "levels": levels,
            "epochs_per_level": epochs_per_level,
            "images_per_epoch": images_per_epoch,
            "batches": batches,
            "rates": rates,
        }
        self.reset_optimizers = reset_optimizers
        self.growth: Growth | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Look the numbers up, and tell the data what is wanted when."""
        if stage != "fit":
            return
        room = room_of(pl_module, self)
        if type(room).build_stage is Translator.build_stage or not hasattr(room, "level_size"):
            raise ZooError(
                f"GrowResolution: {type(room).__name__} has no levels. Leave GrowResolution out of trainer.callbacks."
            )
        levels, epochs, images = (
            iteration_in(room, self.settings[name], f"GrowResolution: {name}")
            for name in ("levels", "epochs_per_level", "images_per_epoch")
        )
        batches = shared_batches(self._value(room, "batches"), trainer.world_size)
        rates = self._value(room, "rates")
        rates = [rates] if isinstance(rates, int | float) else rates
        if not isinstance(rates, Sequence) or not all(isinstance(rate, int | float) for rate in rates):
            raise ZooError(f"GrowResolution: rates are {rates!r}; expected was a number, or one for each level.")
        self.growth = Growth(levels, epochs, images, batches, rates)
        growing = cast(GrowingRoom, room)
        growing.grows = True
        self._tell_data(trainer, growing)

    def _value(self, room: Translator, name: str) -> Any:
        """A setting that may be a list or a mapping, or names an argument of the room."""
        value = self.settings[name]
        if isinstance(value, str):
            if value not in room.hparams:
                raise ZooError(
                    f"GrowResolution: {name} is {value!r}, and {type(room).__name__} has no argument of this name. The nearest: "
                    f"{nearest_names(value, room.hparams)}. Give one of them, or a number."
                )
            value = room.hparams[value]
        if value is None:
            raise ZooError(
                f"GrowResolution: {name} is not given; say how it goes from level to level, such as [32, 16]."
            )
        return number_in(room, value, f"GrowResolution: {name}") if isinstance(value, int | float) else value

    def _tell_data(self, trainer: Trainer, room: GrowingRoom) -> None:
        assert self.growth is not None
        data = trainer.datamodule  # type: ignore[attr-defined]
        if data is None:  # whoever gives bare loaders sees to sizes and batches
            return
        if not hasattr(data, "follow"):
            raise ZooError(
                f"GrowResolution: {type(data).__name__} can't change its pictures' size and number. Take a module of `datamodules`."
            )
        growth = self.growth
        levels = range(growth.levels) if growth.epochs_per_level else range(growth.levels - 1, growth.levels)
        first = growth.first_iterations if growth.epochs_per_level else [0]
        batches = [growth.batches[level] // trainer.world_size for level in levels]
        data.follow(first, batches, [room.level_size(level) for level in levels])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what is trained when."""
        if self.growth is not None and trainer.is_global_zero:
            print(f"  grows      {self.describe(cast(GrowingRoom, pl_module))}", flush=True)

    def describe(self, room: GrowingRoom) -> str:
        """Sizes, batches and first iterations of all levels, in words."""
        growth = self.growth
        assert growth is not None
        if not growth.epochs_per_level:
            side = room.level_size(growth.levels - 1)
            return f"not at all: {side}x{side} in batches of {growth.batches[-1]} from the start"
        parts = [
            f"{room.level_size(level)}x{room.level_size(level)} in batches of {batch} from iteration {first}"
            for level, (batch, first) in enumerate(zip(growth.batches, growth.first_iterations, strict=True))
        ]
        return ", ".join(parts)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Move to the iteration's level, blend and rate."""
        assert self.growth is not None
        room = room_of(pl_module, self)
        moment = self.growth.at_iteration(trainer.global_step)
        if room.stage > moment.level:
            raise ZooError(
                f"GrowResolution: this checkpoint has grown to level {room.stage}, and by the recipe's numbers iteration "
                f"{trainer.global_step} belongs to level {moment.level}. Resume with the numbers that it was trained with."
            )
        if room.stage < moment.level:
            room.enter_stage(moment.level)
            if self.reset_optimizers:
                for optimizer in trainer.optimizers:
                    optimizer.state.clear()
        cast(GrowingRoom, room).blend = moment.blend
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] = moment.rate
        numbers = {"level": torch.tensor(float(moment.level)), "blend": torch.tensor(moment.blend)}
        room.log_terms(numbers, "growth")
