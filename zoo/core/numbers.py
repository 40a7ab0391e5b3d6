"""What happens when gradients are not finite."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from zoo.core.bad_steps import Step, write_step
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.core.draws import Draws
    from zoo.core.players import Player

BadNumbersAction = Literal["stop", "skip", "continue"]


class BadNumbers:
    """Flags non-finite gradients on the device and reads the flags one iteration later, when they have long arrived.

    Gradients are inspected after they were averaged over ranks: a NaN on one rank is a NaN on all, so all ranks decide alike.

    Attributes:
        action: `stop` raises an error (one host sync per iteration, at its end, for the iteration before); `skip` leaves the player's
            step out, which costs a host sync per step; `continue` only counts.
        patience: with `skip`: this many bad iterations in a row stop the run all the same.
        bad_iterations: how many iterations had bad numbers so far.
        last_good: the last checkpoint that was written or loaded, which is good: flags are read before one is written.
        folder: of the run, where the batch and the draws of the iteration that stopped it are written; None for nowhere.
        gradient_norms: of the players that stepped in this iteration, the last gradient norm of each, on the device.
    """

    def __init__(self, action: BadNumbersAction = "stop", patience: int = 100) -> None:
        self.action = action
        self.patience = patience
        self.bad_iterations = 0
        self.last_good: Path | None = None
        self.folder: Path | None = None
        self.gradient_norms: dict[str, Tensor] = {}
        self._in_a_row = 0
        self._ended = False
        self._flags: list[tuple[str, Tensor]] = []
        self._pending: _Pending | None = None

    def inspect(self, player: Player, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Note whether a player's whole gradient is finite.

        Returns:
            A boolean scalar on the device.
        """
        if self._ended:  # norms of another iteration say nothing about this one
            self.gradient_norms, self._ended = {}, False
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not gradients:  # all of its networks are frozen: nothing to flag
            return torch.ones((), dtype=torch.bool)
        norm = torch.linalg.vector_norm(torch.stack([n.float() for n in torch._foreach_norm(gradients)]))
        finite = torch.isfinite(norm)
        self.gradient_norms[player.name] = norm
        self._flags.append((player.name, finite))
        return finite

    def forbids_step(self, finite: Tensor) -> bool:
        """Whether a player must not step on its present gradient."""
        return self.action == "skip" and not bool(finite)

    def end(self, iteration: int, batch: object = None, draws: Draws | None = None) -> None:
        """End an iteration: read the flags of the one before, send this one's on their way to the host.

        Args:
            iteration: the one that ends.
            batch: what it was given, kept for one iteration more, to be written should the numbers turn out bad.
            draws: what it drew from.
        """
        self._ended = True
        self._read()
        if self._flags:
            names, flags = zip(*self._flags, strict=True)
            self._flags = []
            step = None if draws is None else Step(iteration, batch, draws, draws.asked or [])
            self._pending = _Pending(iteration, names, torch.stack(flags), step)

    def read_all(self, iteration: int) -> None:
        """Read every flag now, as is done before a checkpoint is written and at the end of a run.

        Raises:
            ZooError: numbers went bad and the run has to stop.
        """
        self.end(iteration)
        self._read()

    def _read(self) -> None:
        pending, self._pending = self._pending, None
        if pending is None:
            return
        bad = pending.bad_players()
        self._in_a_row = self._in_a_row + 1 if bad else 0
        self.bad_iterations += bool(bad)
        if (bad and self.action == "stop") or (self.action == "skip" and self._in_a_row >= self.patience):
            raise ZooError(
                f"The gradients of {', '.join(bad)} were not finite (NaN or inf) in iteration {pending.iteration}. "
                f"{self._advice(pending.iteration)}{self._keep(pending.step, bad)}"
            )

    def _keep(self, step: Step | None, players: Sequence[str]) -> str:
        """Write what the bad iteration was made of, and say where it lies."""
        if step is None or self.folder is None:
            return ""
        try:
            path = write_step(self.folder, step, players)
        except ZooError as error:  # a full disk must not hide what went wrong before
            return f" Its batch and draws could not be kept: {error}"
        return f" Its batch and draws are kept; that iteration alone: lightning replay {shlex.quote(str(path))}"

    def _advice(self, iteration: int) -> str:
        """Where to go on from, and how the bad iteration is seen again: draws and data are functions of it."""
        look = f"--trainer.max_steps {iteration + 2} --trainer.detect_anomaly true --debug"
        if self.last_good is None:
            return f"No checkpoint was written before. The same command with {look} comes to it again, and names the operation."
        return (
            f"The last good checkpoint is {self.last_good}, and nothing was saved since: go on from it with --resume, and with a lower "
            f"learning rate or --numbers.action skip. The iteration is lived again, and the operation named, by: "
            f"lightning fit --resume {shlex.quote(str(self.last_good.parent.parent))} {look}"
        )


class _Pending:
    """The flags of one iteration on their way from the device to the host."""

    def __init__(self, iteration: int, names: Sequence[str], finite: Tensor, step: Step | None) -> None:
        self.iteration = iteration
        self.step = step
        self.names = names
        self.finite = torch.empty(finite.shape, dtype=finite.dtype, pin_memory=finite.is_cuda).copy_(
            finite, non_blocking=True
        )
        self.arrived = torch.cuda.Event() if finite.is_cuda else None
        if self.arrived is not None:
            self.arrived.record()

    def bad_players(self) -> list[str]:
        if self.arrived is not None:
            self.arrived.synchronize()
        return list(
            dict.fromkeys(name for name, fine in zip(self.names, self.finite.tolist(), strict=True) if not fine)
        )
