"""Checkpoints every so many iterations and at the end."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from zoo.callbacks.dashboards import keep_checkpoint
from zoo.core.runs import Run, checkpoint_iteration
from zoo.core.translator import Translator
from zoo.errors import ZooError


class Checkpoints(Checkpoint):
    """Writes `checkpoints/iteration_<number>.ckpt` into the run's folder.

    The last one is written at the very end: Lightning runs callbacks of this kind after all others, so it holds what a stage callback
    did in its `on_train_end`, such as fitting a sampler. Where the last iteration was one to be saved anyway, that file is replaced:
    a run that is killed while the stage callback works loses no iteration.

    A training of one process that is asked to stop, by Ctrl-C or SIGTERM, finishes its iteration and saves it first; a second Ctrl-C
    stops it at once. Processes that train together might stop at different iterations: they leave what was saved last.

    Args:
        enabled: whether checkpoints are written at all.
        every: iterations between two checkpoints; the last iteration always leaves one.
        keep: how many of the newest checkpoints are kept.
        keep_every: checkpoints at multiples of this number of iterations are kept for good; 0 keeps none of them.
    """

    def __init__(self, enabled: bool = True, every: int = 5000, keep: int = 2, keep_every: int = 0) -> None:
        super().__init__()
        if every < 1 or keep < 1 or keep_every < 0:
            raise ZooError(
                f"checkpoints: every is {every}, keep is {keep}, keep_every is {keep_every}; expected at least 1, 1 and 0."
            )
        self.enabled = enabled
        self.every = every
        self.keep = keep
        self.keep_every = keep_every
        self.run: Run | None = None
        self._began_at = self._saved_at = -1
        self._asked = False
        self._handler: Any = None  # of Ctrl-C, before ours

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A resumed run already has the checkpoint it starts from; what a killed one was writing is removed."""
        self._began_at = self._saved_at = trainer.global_step
        self._listen(trainer)
        if self.run is not None and self.run.checkpoint_path(trainer.global_step).is_file():
            _call_good(pl_module, self.run.checkpoint_path(trainer.global_step))
        if self.run is not None and trainer.is_global_zero:
            for part in self.run.checkpoints.glob(".iteration_*.part"):
                part.unlink(missing_ok=True)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save when it is time, or when somebody asked to stop."""
        stopping = trainer.world_size == 1 and (self._asked or trainer.received_sigterm)
        if (stopping or trainer.global_step % self.every == 0) and trainer.global_step != self._saved_at:
            self._save(trainer)
        if stopping and self.run is not None:
            at = f"iteration {trainer.global_step:,} is saved"
            print(f"lightning: {at}; go on with lightning fit --resume {self.run.folder}", file=sys.stderr)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Stop here where Ctrl-C was pressed: the iteration before is saved, and validated if that was due."""
        if self._asked and self._saved_at == trainer.global_step:
            raise KeyboardInterrupt

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the finished model, unless nothing was trained."""
        self._ignore()
        if trainer.global_step != self._began_at:
            self._save(trainer, last=True)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave Ctrl-C to whom it belonged."""
        self._ignore()

    def _listen(self, trainer: Trainer) -> None:
        self._asked = False
        if self.run is None or trainer.world_size > 1 or threading.current_thread() is not threading.main_thread():
            return  # only the main thread may handle signals
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._handler = signal.signal(signal.SIGINT, self._ask)

    def _ignore(self) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            self._handler = None

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._ignore()
        self._asked = True
        # Not by print: that may be what the signal interrupted.
        os.write(2, b"\nlightning: stopping after this iteration; Ctrl-C again stops at once\n")

    def _save(self, trainer: Trainer, *, last: bool = False) -> None:
        if self.run is None:
            return
        self._saved_at = trainer.global_step
        trainer.save_checkpoint(self.run.checkpoint_path(trainer.global_step))
        _call_good(trainer.lightning_module, self.run.checkpoint_path(trainer.global_step))
        keep_checkpoint(trainer, self.run, self.run.checkpoint_path(trainer.global_step), last=last)
        if trainer.is_global_zero:
            self._remove_old(self.run, trainer.global_step)

    def _remove_old(self, run: Run, newest: int) -> None:
        present = [path for path in run.checkpoints_newest_first() if checkpoint_iteration(path) <= newest]
        for path in present[self.keep :]:
            if not (self.keep_every and checkpoint_iteration(path) % self.keep_every == 0):
                path.unlink(missing_ok=True)


def _call_good(module: LightningModule, checkpoint: Path) -> None:
    if isinstance(module, Translator):
        module.bad_numbers.last_good = checkpoint
