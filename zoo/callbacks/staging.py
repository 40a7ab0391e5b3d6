"""Staged training, for any room from its YAML: networks that are frozen for a while, and stages that begin at an iteration.

    trainer:
      callbacks:
        - class_path: zoo.callbacks.staging.FreezeNetworks
          init_args: {networks: [attention_source, attention_target], at: switch_iteration}
        - class_path: zoo.callbacks.staging.EnterStage
          init_args: {stage: 1, at: 20000}

A text in the place of a number names one of the room's constructor arguments. An overlay replaces lists whole, so a recipe that says
`at: switch_iteration` lets overlays write `model.init_args.switch_iteration` and leave the list alone.

Everything happens before an iteration begins and depends on its number alone: a run that is killed and resumed anywhere, before, at
and after a switch, ends with the bits of one that was left alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from zoo.core.translator import Translator
from zoo.errors import ZooError


def nearest_names(word: str, names: Iterable[str]) -> str:
    """The names that look most like a mistyped one, or all of them where none does, as a list for a sentence."""
    known = list(dict.fromkeys(names))
    return ", ".join(get_close_matches(word, known, n=3, cutoff=0.4) or known) or "none"


def room_of(pl_module: LightningModule, callback: object) -> Translator:
    """The room that a callback works in.

    Raises:
        ZooError: the model is no room.
    """
    if not isinstance(pl_module, Translator):
        raise ZooError(f"{type(callback).__name__} works in rooms alone, and {type(pl_module).__name__} is none.")
    return pl_module


def number_in(room: LightningModule, setting: float | str, option: str) -> float:
    """A setting that is a number, or names one among a room's constructor arguments.

    Args:
        room: whose arguments are looked at.
        setting: the number or the name.
        option: what the setting is, for the message.

    Raises:
        ZooError: the room has no such argument, or it is no number.
    """
    value = setting
    if isinstance(setting, str):
        if setting not in room.hparams:
            raise ZooError(
                f"{option} is {setting!r}, and {type(room).__name__} has no argument of this name. The nearest: "
                f"{nearest_names(setting, room.hparams)}. Give one of them, or a number."
            )
        value = room.hparams[setting]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ZooError(f"{option} is {setting!r}, which is {value!r}; expected a number.")
    return value


def iteration_in(room: LightningModule, setting: int | str, option: str) -> int:
    """A setting that is the number of an iteration, or names one among a room's constructor arguments.

    Args:
        room: whose arguments are looked at.
        setting: the 0-based number or the name.
        option: what the setting is, for the message.

    Raises:
        ZooError: the room has no such argument, or it is no whole number from 0 on.
    """
    value = number_in(room, setting, option)
    if value != int(value) or value < 0:
        raise ZooError(f"{option} is {setting!r}, which is {value:g}; expected the number of an iteration, 0 or more.")
    return int(value)


class Window:
    """Iterations from one to another, either given as a number or by the name of a room's constructor argument.

    Args:
        at: the first iteration, 0-based.
        until: the first one that is no longer part of it; None for no end.
        owner: whose settings these are, for messages.
    """

    def __init__(self, at: int | str, until: int | str | None, owner: str) -> None:
        self.at, self.until, self.owner = at, until, owner
        self.begin: int = 0
        self.end: int | None = None

    def resolve(self, room: LightningModule) -> None:
        """Look the numbers up in a room.

        Raises:
            ZooError: a name or a number that makes no sense, or an end before the beginning.
        """
        self.begin = iteration_in(room, self.at, f"{self.owner}: at")
        self.end = None if self.until is None else iteration_in(room, self.until, f"{self.owner}: until")
        if self.end is not None and self.end < self.begin:
            raise ZooError(
                f"{self.owner}: until is {self.until!r} (iteration {self.end}), before at, {self.at!r} (iteration {self.begin})."
            )

    def holds(self, iteration: int) -> bool:
        """Whether a 0-based iteration lies in it."""
        return self.begin <= iteration and (self.end is None or iteration < self.end)


class EnterStage(Callback):
    """Moves a room to a later stage before an iteration: what `build_stage` of the room makes of its networks and optimisers.

    A checkpoint holds the stage that it was written in, so a resumed run enters each stage once.

    Args:
        stage: the stage; those between the present one and this one are built, too.
        at: the first iteration of the stage, 0-based; or the name of the room's argument that holds it.
    """

    def __init__(self, stage: int, at: int | str) -> None:
        if stage < 1:
            raise ZooError(f"EnterStage: stage is {stage}; a room begins in stage 0, so expected was 1 or more.")
        self.stage = stage
        self.window = Window(at, None, f"EnterStage {stage}")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look the number up, and whether the room has stages."""
        room = room_of(pl_module, self)
        if type(room).build_stage is Translator.build_stage:
            raise ZooError(
                f"EnterStage: {type(room).__name__} has no stages. Leave EnterStage out of trainer.callbacks."
            )
        self.window.resolve(room)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Enter the stage when it is time."""
        room = room_of(pl_module, self)
        if room.stage < self.stage and self.window.holds(trainer.global_step):
            room.enter_stage(self.stage)


class FreezeNetworks(Callback):
    """Freezes networks of a room from one iteration on, and frees them at another.

    A frozen network's weights get no gradient in anybody's turn, so that optimisers pass them over, their momentum and weight decay
    included. Gradients still flow through it to other networks. Of a network that several of these callbacks name, each
    iteration freezes it that lies in the window of any of them; in all other iterations it is free.

    Args:
        networks: attribute names of the room, such as `to_target`.
        at: the first iteration in which they are frozen, 0-based; or the name of the room's argument that holds it.
        until: the first iteration in which they are free again, likewise; None keeps them frozen.
        eval_mode: whether frozen networks run in eval mode as well, so that running statistics and the vectors of spectral norms
            stay, and dropout is off. False leaves the mode alone.
        averaged: whether a network takes the weights of its moving average when it is frozen: what stays is then the smooth one that
            inference shows, not where the last step happened to be.
    """

    def __init__(
        self,
        networks: list[str],
        at: int | str = 0,
        until: int | str | None = None,
        eval_mode: bool = True,
        averaged: bool = False,
    ) -> None:
        if not networks:
            raise ZooError("FreezeNetworks: networks is empty; name what is to be frozen, such as [to_target].")
        self.networks = list(networks)
        self.window = Window(at, until, f"FreezeNetworks [{', '.join(self.networks)}]")
        self.eval_mode, self.averaged = eval_mode, averaged
        self._settled: dict[str, bool] = {}  # what was last asked of each network

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look numbers and networks up; where stages come, their networks are looked up when they are needed."""
        room = room_of(pl_module, self)
        self.window.resolve(room)
        self._settled = {}
        if self.averaged:
            self._require_averages(room)
        if not any(isinstance(callback, EnterStage) for callback in trainer.callbacks):  # type: ignore[attr-defined]
            self._require_networks(room)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Freeze or free the networks when it is time."""
        room = room_of(pl_module, self)
        freezers = [callback for callback in trainer.callbacks if isinstance(callback, FreezeNetworks)]  # type: ignore[attr-defined]
        for network in self.networks:
            naming = [freezer for freezer in freezers if network in freezer.networks]
            holding = [freezer for freezer in naming if freezer.window.holds(trainer.global_step)]
            frozen = bool(holding)
            if self._settled.get(network) != frozen:
                self._settle(room, network, frozen, any(freezer.eval_mode for freezer in naming))
            if any(freezer.eval_mode for freezer in holding):
                room.get_submodule(network).eval()

    def _settle(self, room: Translator, network: str, frozen: bool, was_in_eval_mode: bool) -> None:
        self._settled[network] = frozen
        if frozen:
            self._require_networks(room)
            if self.averaged and network not in room._frozen:
                room.get_submodule(network).load_state_dict(room.get_submodule(f"ema.{network}").state_dict())
            room.set_frozen(network)
        elif network in room._frozen:  # in this run, or in the one whose checkpoint it goes on from
            room.set_frozen(network, False)
            if was_in_eval_mode:
                room.get_submodule(network).train()

    def _require_averages(self, room: Translator) -> None:
        kept = [name.removeprefix("ema.") for name, _ in room.named_modules() if name.startswith("ema.")]
        for network in self.networks:
            if network not in kept:
                raise ZooError(
                    f"FreezeNetworks: averaged is true, and {type(room).__name__} keeps no moving average of {network!r}. The nearest: "
                    f"{nearest_names(network, kept if '.' in network else [name for name in kept if '.' not in name])}."
                )

    def _require_networks(self, room: Translator) -> None:
        known = [name for name, _ in room.named_modules() if name]
        for network in self.networks:
            if network not in known:
                children = [name for name, _ in room.named_children()]
                raise ZooError(
                    f"FreezeNetworks: {type(room).__name__} has no network {network!r}. The nearest: "
                    f"{nearest_names(network, known if '.' in network else children)}."
                )
