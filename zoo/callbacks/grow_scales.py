"""Stages of the same length, one after the other, for rooms that learn a picture from coarse to fine.

    trainer:
      callbacks:
        - class_path: zoo.callbacks.GrowScales
          init_args: {every: stage_iterations}

How many stages there are may follow from the picture, so the callback also says when the training ends: a recipe leaves `max_steps` at -1,
and a smaller number ends it earlier.
"""

from __future__ import annotations

import csv
import io
import resource
import time
from typing import Any, Protocol, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from zoo.callbacks.staging import iteration_in, room_of
from zoo.core.files import write_atomically
from zoo.core.images import grid, save_png
from zoo.core.runs import Run
from zoo.core.translator import Translator
from zoo.errors import ZooError

COLUMNS = ("stage", "width", "height", "parameters", "seconds", "peak_memory_mib")


class Pyramidal(Protocol):
    """A room whose stages are the scales of a picture.

    Attributes:
        first_stage: the stage that its training begins with.
        sizes: height and width of the picture at each stage that there is.
    """

    first_stage: int

    @property
    def sizes(self) -> list[tuple[int, int]]: ...  # noqa: D102

    def scale_count(self, size: tuple[int, int]) -> int:
        """How many stages a picture of this height and width has."""
        ...


class GrowScales(Callback):
    """Enters the next stage every so many iterations, ends the training after the last, and leaves a grid of samples of each.

    `stages.csv` in the run's folder says what each finished stage took: its size, all parameters of the room that there were, the seconds
    and the largest memory of the process so far (of the GPU's, where there is one). A stage that was resumed counts from there.

    Everything depends on the iteration's number alone: a run that is killed and resumed anywhere ends with the bits of one that was
    left alone.

    Args:
        every: iterations per stage; or the name of the room's argument that holds them.
        grids: whether `samples/stage_<number>.png` is written at the end of each stage.
    """

    def __init__(self, every: int | str = "stage_iterations", grids: bool = True) -> None:
        self.every = every
        self.grids = grids
        self.run: Run | None = None
        self._length = 0
        self._count: int | None = None
        self._began = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look numbers up, and where the data module knows the picture's size, when the training ends."""
        room = room_of(pl_module, self)
        if not hasattr(room, "scale_count"):
            raise ZooError(
                f"GrowScales: {type(room).__name__} does not learn a picture by its scales. Leave it out of trainer.callbacks."
            )
        self._length, self._count = iteration_in(room, self.every, "GrowScales: every"), None
        if self._length < 1:
            raise ZooError("GrowScales: every is 0; a stage needs at least one iteration, such as 2000.")
        size = getattr(getattr(trainer, "datamodule", None), "picture_size", None)
        if size is not None:
            self._settle(trainer, room, size)
        self._began = time.monotonic()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Enter the stage that this iteration belongs to."""
        room = room_of(pl_module, self)
        if self._count is None:
            self._settle(trainer, room, (batch["image"].shape[-2], batch["image"].shape[-1]))
        assert self._count is not None
        due = min(cast(Pyramidal, room).first_stage + trainer.global_step // self._length, self._count - 1)
        if room.stage < due:
            room.enter_stage(due)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Write down what a finished stage took, and its grid."""
        room = room_of(pl_module, self)
        if trainer.global_step % self._length or self.run is None or not trainer.is_global_zero:
            return
        self._note(room, self.run)
        if not self.grids:
            return
        with room.phases.during("grids"):
            with room.aside("samples"), trainer.precision_plugin.forward_context():
                columns = room.samples(batch)
            pictures = {name: images.float() for name, images in columns.items()}
            save_png(grid(pictures), self.run.samples / f"stage_{room.stage:02d}.png")

    def _note(self, room: Translator, run: Run) -> None:
        height, width = cast(Pyramidal, room).sizes[-1]
        now = time.monotonic()
        taken, self._began = now - self._began, now
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # Linux counts it in KiB
        if room.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(room.device) / 2**20
        parameters = sum(p.numel() for p in room.parameters())
        new = dict(
            zip(COLUMNS, map(str, (room.stage, width, height, parameters, f"{taken:.3f}", f"{peak:.0f}")), strict=True)
        )
        file = run.folder / "stages.csv"
        kept = list(csv.DictReader(io.StringIO(file.read_text()))) if file.is_file() else []
        rows = [row for row in kept if int(row["stage"]) < room.stage] + [
            new
        ]  # what a killed run wrote of later ones is dropped
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(file, text.getvalue().encode())

    def _settle(self, trainer: Trainer, room: Translator, size: tuple[int, int]) -> None:
        pyramidal = cast(Pyramidal, room)
        self._count = pyramidal.scale_count(size)
        end = (self._count - pyramidal.first_stage) * self._length
        if trainer.max_steps < 0 or trainer.max_steps > end:
            trainer.fit_loop.epoch_loop.max_steps = end
