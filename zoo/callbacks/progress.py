"""A progress bar that counts iterations."""

from __future__ import annotations

import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from zoo.core.phases import duration
from zoo.errors import ZooError


class Progress(ProgressBar):
    """Iterations done and left, rate, time to go and the main losses, in one line.

    Where the output is no terminal (a log file), a plain line is printed now and then instead. A room whose iterations get longer says
    where it stands by a property `progress_note`, and by `workload(begin, end)` how much work some iterations are, in any unit.

    Args:
        enabled: whether progress is shown.
        seconds: least time between two refreshes in a terminal (each looks at the losses on the device).
        lines_every: seconds between two lines where the output is no terminal.
        losses: how many losses are shown.
    """

    def __init__(self, enabled: bool = True, seconds: float = 0.5, lines_every: float = 30.0, losses: int = 4) -> None:
        super().__init__()
        if seconds < 0 or lines_every < 0 or losses < 0:
            raise ZooError(
                f"progress: seconds is {seconds}, lines_every is {lines_every}, losses is {losses}; none may be below 0."
            )
        self.enabled = enabled
        self.seconds = seconds
        self.lines_every = lines_every
        self.losses = losses
        self._shown = enabled
        self._bar: tqdm | None = None
        self._last_refresh = 0.0
        self._begin = (0, 0.0)

    def disable(self) -> None:
        """Show nothing: Lightning calls this on every rank but the first."""
        self._shown = False

    def enable(self) -> None:
        """Show progress."""
        self._shown = self.enabled

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the bar where a resumed run stands."""
        super().on_train_start(trainer, pl_module)
        self._begin = (trainer.global_step, time.monotonic())
        self._last_refresh = time.monotonic()
        if self._shown and sys.stderr.isatty():
            total = trainer.max_steps if trainer.max_steps > 0 else None
            self._bar = tqdm(total=total, initial=trainer.global_step, unit="it", dynamic_ncols=True, leave=True)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Refresh when enough time has passed."""
        now = time.monotonic()
        last = trainer.global_step == trainer.max_steps
        if not self._shown or (
            not last and now - self._last_refresh < (self.seconds if self._bar else self.lines_every)
        ):
            return
        self._last_refresh = now
        shown = dict(list(self._losses(trainer).items())[: self.losses])
        note = str(getattr(pl_module, "progress_note", ""))
        start, then = self._begin
        workload = getattr(pl_module, "workload", lambda begin, end: float(end - begin))
        left = ""
        if trainer.max_steps > 0:
            pace = workload(start, trainer.global_step) / max(now - then, 1e-9)
            left = duration(workload(trainer.global_step, trainer.max_steps) / pace)
        if self._bar is not None:
            self._bar.n = trainer.global_step
            self._bar.set_description(note, refresh=False)
            self._bar.set_postfix(({"left": left} if note and left else {}) | shown, refresh=True)
            return
        ahead = f" of {trainer.max_steps:,}, {left} left" if left else ""
        rate = (trainer.global_step - start) / max(now - then, 1e-9)
        text = ", ".join(f"{name} {value}" for name, value in shown.items())
        where = f" ({note})" if note else ""
        print(f"iteration {trainer.global_step:,}{where}{ahead}, {rate:.3g} it/s: {text}", file=sys.stderr, flush=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar, so that the message stands on a line of its own."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    @staticmethod
    def _losses(trainer: Trainer) -> dict[str, str]:
        found = {k: v for k, v in trainer.callback_metrics.items() if k.startswith("loss/")}
        return {key.removeprefix("loss/"): f"{float(value):.3f}" for key, value in found.items()}
