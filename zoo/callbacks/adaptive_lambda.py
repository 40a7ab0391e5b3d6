"""A loss weight that grows until another loss says that it is enough.

The adaptive weight induction of Show, Attend and Translate (Yang et al. 2018, https://arxiv.org/abs/1806.06195, `zoo.sat`), for any
weight of any room. The paper: begin with a weight of 0 and raise it gradually; the adversarial loss rises as translations move
back towards the source; when it exceeds a threshold, the weight stays for good. Increment, interval and threshold are not
legible in the paper, so they are numbers to choose:

    trainer:
      callbacks:
        - class_path: zoo.callbacks.adaptive_lambda.AdaptiveLambda
          init_args: {weight: lambda_cycle_source, loss: loss/adversarial_target, step: 0.1, interval: 100, threshold: 0.9}

Logged in metrics.csv, as used in each iteration: `weight/<weight>`, and `weight/<weight>_stopped`, 0 or 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from zoo.callbacks.staging import Window, iteration_in, nearest_names, number_in, room_of
from zoo.core import sync
from zoo.core.translator import Translator
from zoo.errors import ZooError


class Induction:
    """The rule: losses are collected; when there are `interval` of them, their mean decides, and they are dropped.

    A mean above the threshold stops the growth for good; otherwise the weight grows by `step`. A mean that is no number does
    neither.

    Args:
        step: by which the weight grows.
        interval: how many losses make a mean.
        threshold: largest mean at which the weight still grows.
        start: the weight at the beginning.

    Attributes:
        value: the weight to use now.
        stopped: whether it has stopped growing.
        window: the losses of the running interval.

    Raises:
        ZooError: a step below 0 or an interval below 1.
    """

    def __init__(self, step: float, interval: int, threshold: float, start: float = 0.0) -> None:
        if step < 0 or interval < 1:
            raise ZooError(
                f"AdaptiveLambda: step is {step:g}, interval is {interval}; expected at least 0 and at least 1."
            )
        self.step, self.interval, self.threshold = step, interval, threshold
        self.value = start
        self.stopped = False
        self.window: list[float] = []

    def observe(self, losses: Sequence[float]) -> None:
        """Take losses in the order in which they came, and decide as often as the window fills."""
        for loss in losses:
            if self.stopped:
                return
            self.window.append(loss)
            if len(self.window) >= self.interval:
                mean = sum(self.window) / len(self.window)
                self.window = []
                if mean > self.threshold:
                    self.stopped = True
                elif mean <= self.threshold:
                    self.value += self.step


class AdaptiveLambda(Callback):
    """Raises a weight of the room's losses step by step, until a loss exceeds a threshold.

    Between `at` and `until` the weight is the rule's; before it is the room's own, afterwards it stays where it was. Several of
    these may steer one weight one after the other, each from its own start. Losses wait on the device and are averaged over
    processes when an interval is full or a checkpoint is written: one host sync per interval, and none once the growth has stopped.

    Numbers are given themselves, or by the name of the room's argument that holds them, so that overlays need not restate a list.

    Args:
        weight: attribute of the room, such as `lambda_cycle_source`.
        loss: name of the term that decides, as it is logged, such as `loss/adversarial_target`.
        step: by which the weight grows.
        interval: iterations whose mean loss decides.
        threshold: mean loss above which the weight stops growing.
        start: the weight in iteration `at`.
        at: the first iteration, 0-based.
        until: the first iteration that no longer belongs to it; None for the end of the training.
    """

    def __init__(
        self,
        weight: str,
        loss: str,
        step: float | str,
        interval: int | str,
        threshold: float | str,
        start: float | str = 0.0,
        at: int | str = 0,
        until: int | str | None = None,
    ) -> None:
        self.weight, self.loss = weight, loss
        self.settings = {"step": step, "threshold": threshold, "start": start}
        self.interval = interval
        self.owner = f"AdaptiveLambda of {weight}"
        self.window = Window(at, until, self.owner)
        self.rule: Induction | None = None
        self.begun = False
        self._own: list[Tensor] = []  # this process' losses that were not averaged over processes yet
        self._latest: Tensor | None = None
        self._restored: Mapping[str, Any] = {}

    @property
    def state_key(self) -> str:
        """What tells several of these apart in a checkpoint."""
        return self._generate_state_key(weight=self.weight, at=self.window.at, until=self.window.until)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look everything up, and take what a checkpoint held."""
        room = room_of(pl_module, self)
        self.window.resolve(room)
        if not _is_number(getattr(room, self.weight, None)):
            weights = [name for name, value in vars(room).items() if name.startswith("lambda_") and _is_number(value)]
            raise ZooError(
                f"AdaptiveLambda: {type(room).__name__} has no weight {self.weight!r}. The nearest: {nearest_names(self.weight, weights)}."
            )
        numbers = {name: number_in(room, value, f"{self.owner}: {name}") for name, value in self.settings.items()}
        self.rule = Induction(interval=iteration_in(room, self.interval, f"{self.owner}: interval"), **numbers)
        self.begun = bool(self._restored)
        self._own, self._latest = [], None
        if self.begun:
            self.rule.value, self.rule.stopped = self._restored["value"], self._restored["stopped"]
            self.rule.window = list(self._restored["window"])
        self._restored = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give a resumed room the weight back, unless a later one of these has taken it over."""
        others = [other for other in self._of_the_same_weight(trainer) if other is not self]
        for other in others:
            if self._overlaps(other):
                raise ZooError(
                    f"{self.owner}: two of them hold iteration {max(self.window.begin, other.window.begin)}. Let one end where the other "
                    "begins: until and at."
                )
        if self.begun and not any(other.begun and other.window.begin > self.window.begin for other in others):
            self._apply(room_of(pl_module, self))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Begin when it is time."""
        if not self.begun and self.window.holds(trainer.global_step):
            self.begun = True
            self._apply(room_of(pl_module, self))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the iteration's loss; when the interval is full, decide on the weight of the next iteration."""
        room = room_of(pl_module, self)
        assert self.rule is not None
        if self.rule.stopped or not self.window.holds(room.iteration):
            return
        if self.loss not in room.terms.latest:
            raise ZooError(
                f"{self.owner}: the room logs no term {self.loss!r}. The nearest: {nearest_names(self.loss, room.terms.latest)}."
            )
        latest = room.terms.latest[self.loss]
        if latest is self._latest:  # the room logged none in this iteration
            return
        self._latest = latest
        self._own.append(latest)
        if len(self.rule.window) + len(self._own) >= self.rule.interval:
            self._observe()
            self._apply(room)

    def state_dict(self) -> dict[str, Any]:
        """Weight, stop and window: the same on all processes, each of which has to ask."""
        if self.rule is None or not self.begun:
            return {}
        self._observe()
        return {"value": self.rule.value, "stopped": self.rule.stopped, "window": list(self.rule.window)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep a checkpoint's state for the start of the training."""
        self._restored = dict(state_dict)

    def _observe(self) -> None:
        assert self.rule is not None
        if self._own:
            # Loss by loss, so that an average is the same whether a checkpoint was written in the middle of an interval or not.
            losses = sync.mean_over_ranks(torch.stack(self._own)).tolist()
            self._own = []
            self.rule.observe(losses)

    def _apply(self, room: Translator) -> None:
        assert self.rule is not None
        setattr(room, self.weight, self.rule.value)
        logged = {self.weight: self.rule.value, f"{self.weight}_stopped": float(self.rule.stopped)}
        room.terms.keep({name: torch.tensor(value, device=room.device) for name, value in logged.items()}, "weight")

    def _of_the_same_weight(self, trainer: Trainer) -> list[AdaptiveLambda]:
        found = [callback for callback in trainer.callbacks if isinstance(callback, AdaptiveLambda)]  # type: ignore[attr-defined]
        return [callback for callback in found if callback.weight == self.weight]

    def _overlaps(self, other: AdaptiveLambda) -> bool:
        first, second = sorted((self.window, other.window), key=lambda window: window.begin)
        return first.holds(second.begin) and second.holds(second.begin)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
