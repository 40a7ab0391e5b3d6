"""Players: who minimises what, with which optimisers, and when they step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from zoo.core.sync import average_gradients, unique_parameters

if TYPE_CHECKING:
    from lightning.pytorch.core.optimizer import LightningOptimizer

    from zoo.core.translator import Translator

Schedule = Callable[[int], float]


class Player:
    """One player of the game: some networks and the optimisers that move them.

    A checkpoint brings back what its optimisers gathered, not their settings: those are the run's own, so that a resumed training takes
    another rate as it is typed.

    Args:
        name: how `training_step` calls it, such as `discriminator`.
        optimizers: one optimiser, or several by name (StarGAN v2's generator, mapping network and style encoder).
        networks: the networks whose weights receive gradients during this player's turn.
        schedule: factor of each optimiser's initial rate, a pure function of the 0-based iteration; None keeps the rate.
        clip_norm: largest norm of the player's whole gradient, None for no clipping.
    """

    def __init__(
        self,
        name: str,
        optimizers: Optimizer | Mapping[str, Optimizer],
        networks: Sequence[nn.Module],
        schedule: Schedule | None = None,
        clip_norm: float | None = None,
    ) -> None:
        self.name = name
        self.optimizers = {name: optimizers} if isinstance(optimizers, Optimizer) else dict(optimizers)
        self.parameters = unique_parameters(networks)
        self.schedule = schedule
        self.clip_norm = clip_norm
        moved = {
            id(p) for optimizer in self.optimizers.values() for group in optimizer.param_groups for p in group["params"]
        }
        if missing := moved - {id(p) for p in self.parameters}:
            raise ValueError(
                f"player {name!r} has {len(missing)} parameters in its optimisers that none of its networks holds"
            )
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])
            optimizer.register_load_state_dict_pre_hook(_with_own_settings)

    def set_rates(self, iteration: int, factor: float = 1.0) -> None:
        """Set the learning rates of an iteration, times a factor on top of the schedule."""
        if self.schedule is None and factor == 1:
            return
        factor *= self.schedule(iteration) if self.schedule is not None else 1
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor


def _with_own_settings(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """An optimiser's state from a checkpoint, with the settings that it has now."""
    groups, own = state["param_groups"], optimizer.param_groups
    if len(groups) != len(own):
        return state  # which PyTorch refuses with a message
    settings = [{key: value for key, value in group.items() if key != "params"} for group in own]
    return {**state, "param_groups": [{**group, **mine} for group, mine in zip(groups, settings, strict=True)]}


class Turn:
    """A player's turn inside `training_step`: what `with self.player(name) as turn` gives."""

    def __init__(self, translator: Translator, player: Player, optimizers: Sequence[LightningOptimizer]) -> None:
        self._translator = translator
        self._player = player
        self._optimizers = optimizers
        self._parameters = [p for p in player.parameters if p.requires_grad]
        self._synced = self._stepped = False
        for parameter in player.parameters:
            parameter.grad = None

    def minimize(self, loss: Tensor, **backward_options: Any) -> None:
        """Add a loss' gradients to the player's; the step follows at the end of the turn.

        Args:
            loss: a scalar.
            **backward_options: such as `retain_graph`.
        """
        # Where networks are frozen, a loss may reach nothing that moves; anywhere else that is a mistake, and backward says so.
        if loss.requires_grad or len(self._parameters) == len(self._player.parameters):
            self._translator.manual_backward(loss, **backward_options)
        self._synced = False

    def step(self) -> None:
        """Average the gradients over ranks, clip and step now.

        Called by itself at the end of the turn; several calls take several steps on one gradient (ConSinGAN).
        """
        if not self._synced:
            average_gradients(self._parameters)
            self._finite = self._translator.bad_numbers.inspect(self._player, self._parameters)
            if self._player.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(self._parameters, self._player.clip_norm, foreach=True)
            self._synced = True
        self._stepped = True
        if not self._parameters or self._translator.bad_numbers.forbids_step(self._finite):
            return
        factor = self._translator.rate_factors.get(self._player.name, 1.0)
        self._player.set_rates(self._translator.iteration, factor)
        for optimizer in self._optimizers:
            # Lightning counts a step of any optimiser as a training step; an iteration is counted once, by the Translator.
            optimizer._on_before_step = optimizer._on_after_step = _do_nothing
            optimizer.step()

    def finish(self) -> None:
        """Step, unless the room already did."""
        if not self._stepped:
            self.step()


def give_turn(
    translator: Translator, players: Mapping[str, Player], name: str, only: Sequence[str] | None
) -> Iterator[Turn]:
    """Let gradients reach one player's networks alone, hand out its turn, and finish it."""
    if name not in players:
        raise ValueError(f"there is no player {name!r}; configure_optimizers made {', '.join(players)}")
    player = players[name]
    unknown = set(only or ()) - set(player.optimizers)
    if unknown:
        raise ValueError(f"player {name!r} has no optimiser {sorted(unknown)}; it has {', '.join(player.optimizers)}")
    chosen = [player.optimizers[key] for key in (only if only is not None else player.optimizers)]
    wrapped = {id(w.optimizer): w for w in translator.lightning_optimizers()}
    everyone = list({id(p): p for other in players.values() for p in other.parameters}.values())
    frozen = translator.frozen_parameters()
    own = {id(p) for p in player.parameters} - frozen
    for parameter in everyone:
        parameter.requires_grad_(id(parameter) in own)
    try:
        turn = Turn(translator, player, [wrapped[id(optimizer)] for optimizer in chosen])
        yield turn
        turn.finish()
    finally:
        for parameter in everyone:
            parameter.requires_grad_(id(parameter) not in frozen)


def _do_nothing() -> None:
    pass
