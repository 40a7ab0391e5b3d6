"""A trainer as the command builds it, for tests that need no command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import Callback

from support.toy import ToyData
from zoo.callbacks import Checkpoints
from zoo.cli.fit import quieten
from zoo.core.runs import Run
from zoo.core.translator import Translator


def fit(
    room: Translator,
    iterations: int,
    folder: Path,
    *,
    data: LightningDataModule | None = None,
    every: int = 10_000,
    keep: int = 100,
    resume: Path | None = None,
    callbacks: list[Callback] | None = None,
    precision: Any = "64-true",
    **options: Any,
) -> Trainer:
    """Train a room for some iterations on the CPU; checkpoints land in `folder/checkpoints`."""
    quieten()
    checkpoints = Checkpoints(every=every, keep=keep)
    checkpoints.run = Run(folder)
    trainer = Trainer(
        accelerator="cpu",
        **{"devices": 1, "enable_progress_bar": False, **options},
        precision=precision,
        max_steps=iterations,
        logger=False,
        enable_model_summary=False,
        callbacks=[*(callbacks or []), checkpoints],
        default_root_dir=folder,
    )
    trainer.fit(room, datamodule=data or ToyData(), ckpt_path=resume)
    return trainer
