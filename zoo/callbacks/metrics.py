"""metrics.csv: losses and measures without any logger."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from zoo.core.files import write_atomically
from zoo.core.runs import Run
from zoo.core.translator import Translator
from zoo.errors import ZooError


class Metrics(Callback):
    """Writes losses, learning rates, gradient norms and validation measures to the run's metrics.csv.

    Args:
        enabled: whether the file is written.
        every: iterations between two rows (each costs one look at the device).
    """

    def __init__(self, enabled: bool = True, every: int = 50) -> None:
        if every < 1:
            raise ZooError(f"metrics: every is {every}; expected at least 1.")
        self.enabled = enabled
        self.every = every
        self.run: Run | None = None
        self._table: MetricsTable | None = None
        self._pace = Pace()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the table; rows past a resumed checkpoint are dropped."""
        if self.run is not None and trainer.is_global_zero:
            self._table = MetricsTable(self.run.metrics, trainer.global_step)
        self._pace.restart(trainer.global_step)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Add a row when it is time."""
        if self._table is None or trainer.global_step % self.every:
            return
        values = measured(trainer, pl_module) | self._pace.look(trainer.global_step)
        self._table.add(trainer.global_step, values)

    def note(self, iteration: int, values: Mapping[str, float]) -> None:
        """Add values to the row of an iteration; other ranks than the first have no table."""
        if self._table is not None and values:
            self._table.add(iteration, values)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the validation's measures to the row of this iteration."""
        if self._table is None or trainer.sanity_checking:
            return
        if found := measures(trainer):
            self._table.add(trainer.global_step, found)
        self._pace.restart(trainer.global_step)  # validation is no part of an iteration's time


def measured(trainer: Trainer, module: LightningModule) -> dict[str, float]:
    """What an iteration gave: losses, gradient norms by player, bad iterations so far, learning rates by optimiser."""
    values = {key: float(value) for key, value in trainer.callback_metrics.items() if not key.startswith("val/")}
    if isinstance(module, Translator):
        values |= {f"gradient_norm/{name}": float(norm) for name, norm in module.bad_numbers.gradient_norms.items()}
        values["bad_iterations"] = module.bad_numbers.bad_iterations
    for index, optimizer in enumerate(trainer.optimizers):
        values[f"learning_rate/{index}"] = optimizer.param_groups[0]["lr"]
    return values


def measures(trainer: Trainer) -> dict[str, float]:
    """What the last validation gave."""
    return {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("val/")}


class Pace:
    """Seconds per iteration between two looks."""

    def __init__(self) -> None:
        self._clock = (0, 0.0)

    def restart(self, iteration: int) -> None:
        """Count from now on."""
        self._clock = (iteration, time.perf_counter())

    def look(self, iteration: int) -> dict[str, float]:
        """`seconds_per_iteration` since the last look or restart; nothing where no iteration has passed."""
        (begin, then), now = self._clock, time.perf_counter()
        self._clock = (iteration, now)
        return {"seconds_per_iteration": (now - then) / (iteration - begin)} if iteration > begin else {}


class MetricsTable:
    """metrics.csv: a row per iteration, columns as they come, appended to; rows past a resumed checkpoint are dropped.

    Args:
        path: the file.
        completed: number of completed iterations at the start; later rows belong to a future that will be lived again.
    """

    def __init__(self, path: Path, completed: int) -> None:
        self._path = path
        self._rows: list[dict[str, str]] = []
        self._columns = ["iteration"]
        if path.is_file():
            whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")  # a killed run may have left half a row
            reader = csv.DictReader(whole.splitlines())
            self._columns = list(reader.fieldnames or self._columns)
            self._rows = [row for row in reader if int(row["iteration"]) <= completed]
            self._write_all()

    def add(self, iteration: int, values: Mapping[str, float]) -> None:
        """Add a row after so many completed iterations; values of one iteration share a row."""
        row = {"iteration": str(iteration), **{key: f"{value:.6g}" for key, value in values.items()}}
        new_columns = sorted(set(row) - set(self._columns))
        same_iteration = bool(self._rows) and self._rows[-1]["iteration"] == row["iteration"]
        if same_iteration:
            self._rows[-1] |= row
        else:
            self._rows.append(row)
        if new_columns or same_iteration or not self._path.is_file():
            self._columns += new_columns
            self._write_all()
        else:
            with self._path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns, restval="").writerow(row)

    def _write_all(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns, restval="")
        writer.writeheader()
        writer.writerows(self._rows)
        write_atomically(self._path, text.getvalue().encode())
