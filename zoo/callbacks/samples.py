"""Sample grids: the same few pictures every so many iterations."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor

from zoo.callbacks.dashboards import Dashboards, log_values, show_samples
from zoo.callbacks.metrics import Metrics
from zoo.core.images import grid, save_png
from zoo.core.runs import Run
from zoo.core.translator import Translator
from zoo.errors import ZooError


class SampleGrids(Callback):
    """Writes `samples/iteration_<number>.png`: a column each for the source, its translation, its reconstruction, a row per picture.

    The pictures are the first ones of the validation data; without validation data, the first training batch that comes along. The
    grid draws from streams of its own and runs in eval mode: training goes on as if nobody had looked.

    What the pictures tell of the training's health goes to metrics.csv and dashboards as `gauge/...`; see `gauges`.

    Args:
        enabled: whether grids are written.
        every: iterations between two grids; the finished model always leaves one.
        count: pictures (rows) per grid.
    """

    def __init__(self, enabled: bool = True, every: int = 1000, count: int = 4) -> None:
        if every < 1 or count < 1:
            raise ZooError(f"samples: every is {every}, count is {count}; both must be at least 1.")
        self.enabled = enabled
        self.every = every
        self.count = count
        self.run: Run | None = None
        self._batch: dict[str, Tensor] | None = None
        self._began_at = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the pictures that will be shown."""
        self._began_at = trainer.global_step
        if trainer.is_global_zero and self.run is not None:
            self._batch = self._first_validation_rows(trainer)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Write a grid when it is time."""
        if self._batch is None and trainer.is_global_zero and self.run is not None:
            self._batch = _rows(batch, self.count)
        ends = trainer.global_step == trainer.max_steps  # on_train_end writes that one, once
        if trainer.global_step % self.every == 0 and not ends:
            self._write(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the last grid; what a stage callback did in its `on_train_end` is in it."""
        if trainer.global_step != self._began_at:
            self._write(trainer, pl_module)

    def _write(self, trainer: Trainer, module: LightningModule) -> None:
        if self._batch is None or self.run is None:
            return
        assert isinstance(module, Translator)
        with module.phases.during("grids"):
            with module.aside("samples"), trainer.precision_plugin.forward_context():
                columns = module.samples(self._batch)
            columns = {name: images.float() for name, images in columns.items()}
            sheet = grid(columns)
            save_png(sheet, self.run.samples / f"iteration_{trainer.global_step:08d}.png")
            show_samples(trainer, columns, sheet)
            _note(trainer, gauges(columns))

    def _first_validation_rows(self, trainer: Trainer) -> dict[str, Tensor] | None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        rows: list[Mapping[str, Tensor]] = []
        for batch in (data.val_dataloader() if is_overridden("val_dataloader", data) else None) or ():
            rows.append(trainer.strategy.batch_to_device(batch))
            if sum(_length(row) for row in rows) >= self.count:
                break
        if not rows:
            return None
        joined = {
            key: torch.cat([row[key] for row in rows]) for key, value in rows[0].items() if isinstance(value, Tensor)
        }
        return _rows(joined, self.count)


def gauges(columns: Mapping[str, Tensor]) -> dict[str, float]:
    """What the pictures of a grid tell of a training's health, in [0, 2].

    Args:
        columns: of the grid by name, `b c h w` in [-1, 1].

    Returns:
        `gauge/distance_to_identity`, the mean absolute difference of translations to their sources: near 0 the generator copies.
        `gauge/style_diversity`, that of the pictures of one row in different styles, or of random samples: near 0 all styles are one.
        Each where the columns have what it takes.
    """
    found = {}
    source, translation = columns.get("source"), columns.get("translation")
    if source is not None and translation is not None and source.shape == translation.shape:
        found["gauge/distance_to_identity"] = float((translation - source).abs().mean())
    drawn = [images for name, images in columns.items() if name.startswith(("random style", "sample "))]
    styles = drawn if translation is None or not drawn else [translation, *drawn]
    pairs = [(a, b) for a, b in combinations(styles, 2) if a.shape == b.shape]
    if pairs:
        found["gauge/style_diversity"] = sum(float((a - b).abs().mean()) for a, b in pairs) / len(pairs)
    return found


def _note(trainer: Trainer, values: Mapping[str, float]) -> None:
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Metrics):
            callback.note(trainer.global_step, values)
        if isinstance(callback, Dashboards):
            log_values(trainer, values)


def _length(batch: Mapping[str, Tensor]) -> int:
    return len(next(value for value in batch.values() if isinstance(value, Tensor)))


def _rows(batch: Mapping[str, Any], count: int) -> dict[str, Tensor]:
    return {key: value[:count].clone() for key, value in batch.items() if isinstance(value, Tensor)}
