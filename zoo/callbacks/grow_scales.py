"""Stages of the same length, one after the other, for rooms that learn a picture from coarse to fine.

    trainer:
      callbacks:
        - class_path: zoo.callbacks.GrowScales
          init_args: {every: stage_iterations}

How many stages there are may follow from the picture, so the callback also says when the training ends: a recipe leaves `max_steps` at -1,
and a smaller number ends it earlier.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

from lightning.pytorch import Callback, LightningModule, Trainer

from zoo.callbacks.staging import iteration_in, room_of
from zoo.core.images import grid, save_png
from zoo.core.runs import Run
from zoo.core.translator import Translator
from zoo.errors import ZooError


class Pyramidal(Protocol):
    """A room whose stages are the scales of a picture.

    Attributes:
        first_stage: the stage that its training begins with.
    """

    first_stage: int

    def scale_count(self, size: tuple[int, int]) -> int:
        """How many stages a picture of this height and width has."""
        ...


class GrowScales(Callback):
    """Enters the next stage every so many iterations, ends the training after the last, and leaves a grid of samples of each.

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
        """Write the grid of a stage that is finished."""
        room = room_of(pl_module, self)
        if not self.grids or self.run is None or trainer.global_step % self._length or not trainer.is_global_zero:
            return
        with room.phases.during("grids"):
            with room.aside("samples"), trainer.precision_plugin.forward_context():
                columns = room.samples(batch)
            pictures = {name: images.float() for name, images in columns.items()}
            save_png(grid(pictures), self.run.samples / f"stage_{room.stage:02d}.png")

    def _settle(self, trainer: Trainer, room: Translator, size: tuple[int, int]) -> None:
        pyramidal = cast(Pyramidal, room)
        self._count = pyramidal.scale_count(size)
        end = (self._count - pyramidal.first_stage) * self._length
        if trainer.max_steps < 0 or trainer.max_steps > end:
            trainer.fit_loop.epoch_loop.max_steps = end
