"""Readings of the target's test digits during a training: the last one counts, the best one is named for what it is."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from zoo.core.images import from_uint8
from zoo.errors import ZooError
from zoo.unit.digits import UNITDigits

AT_ONCE = 500  # digits per pass


class ReadTestDigits(Callback):
    """Reads all test digits of the target every `test_interval` iterations of the model, and after the last one.

    Logs `test/accuracy`, of the last reading, and `test/accuracy_best_chosen_by_test`, and says both at the end. The official code
    reports the best of all readings, each of them on the test set, which is a choice by the test set's labels: it is an upper end of
    what was seen, not a measurement. Every process reads all digits.

    Args:
        enabled: whether test digits are read.

    Attributes:
        last: share read rightly in the last reading.
        last_iteration: completed iterations then.
        best: the largest share of all readings.
        best_iteration: completed iterations at the first one that had it.
        readings: how many there were.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self.last, self.last_iteration = 0.0, -1
        self.best, self.best_iteration = -1.0, -1
        self.readings = 0
        self._digits: tuple[Tensor, Tensor] | None = None
        self._resumed = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the files of the test digits, before hours of training.

        Raises:
            ZooError: the model or the data are others.
        """
        if not self.enabled:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(pl_module, UNITDigits) or not hasattr(data, "labelled"):
            raise ZooError(
                f"ReadTestDigits reads digits by a UNITDigits, and here are a {type(pl_module).__name__} and "
                f"{type(data).__name__}. Leave it out of trainer.callbacks, or take --data datamodules.Digits"
            )
        data.setup("test")
        self._digits = data.labelled("target", "test")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Read when it is time."""
        if self._digits is None or not isinstance(pl_module, UNITDigits):
            return
        done = trainer.global_step
        resumed, self._resumed = self._resumed, False
        if done % pl_module.test_interval == 0 or done == trainer.max_steps:
            with pl_module.phases.during("test digits"), trainer.precision_plugin.forward_context():
                self.last, self.last_iteration = read_accuracy(pl_module, *self._digits), done
            self.readings += 1
            if self.last > self.best:
                self.best, self.best_iteration = self.last, done
        elif not resumed:  # logs show the last reading until the next one, also of a process that did not make it
            return
        figures = {"test/accuracy": self.last, "test/accuracy_best_chosen_by_test": self.best}
        pl_module.log_dict(figures, rank_zero_only=True)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what was read."""
        if trainer.is_global_zero and self.readings:
            print(self.describe(), flush=True)

    def describe(self) -> str:
        """The last reading in words, and the best one beside it."""
        return (
            f"test digits of the target: {self.last:.4f} read rightly by the last iterate (iteration {self.last_iteration}); "
            f"best of {self.readings} readings, chosen by these test digits: {self.best:.4f} (iteration {self.best_iteration})"
        )

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        names = ("last", "last_iteration", "best", "best_iteration", "readings")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.last, self.last_iteration = state_dict["last"], state_dict["last_iteration"]
        self.best, self.best_iteration = state_dict["best"], state_dict["best_iteration"]
        self.readings = state_dict["readings"]
        self._resumed = self.readings > 0


def read_accuracy(model: UNITDigits, images: Tensor, labels: Tensor) -> float:
    """The share of target digits that a model reads rightly.

    Args:
        model: in any mode.
        images: uint8 n c 32 32.
        labels: int64 n.
    """
    right = torch.zeros((), dtype=torch.int64, device=model.device)
    for some, wanted in zip(images.split(AT_ONCE), labels.split(AT_ONCE), strict=True):
        logits = model.classify(from_uint8(some.to(model.device)).to(model.dtype))
        right += (logits.argmax(1) == wanted.to(model.device)).sum()
    return float(right) / len(labels)
