"""Small models of a small picture, trained in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, seed_everything
from PIL import Image
from torch import Tensor

from datamodules import SingleImage
from support.commands import write_recipe
from support.training import fit
from zoo.callbacks.grow_scales import GrowScales
from zoo.core.translator import Translator

SMALL: dict[str, dict[str, Any]] = {
    "zoo.consingan.ConSinGAN": {
        "channels": 4,
        "stages": 4,
        "min_size": 12,
        "max_size": 28,
        "train_depth": 2,
        "stage_iterations": 2,
        "decay_iteration": 1,
        "hole_sides": [2, 6],
    },
    "zoo.singan.SinGAN": {
        "channels": 4,
        "least_channels": 4,
        "min_size": 12,
        "max_size": 28,
        "scale_factor": 0.84,
        "stage_iterations": 2,
        "decay_iteration": 1,
    },
}


def draw_picture(path: Path, height: int = 24, width: int = 28, mode: str = "RGB") -> Path:
    """A smooth picture of many colours."""
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    waves = [np.sin(rows / 3 + 2 * c) + np.cos(columns / (2 + c)) for c in range(3)]
    pixels = np.clip(127 + 60 * np.stack(waves, 2), 0, 255).astype(np.uint8)
    picture = Image.fromarray(pixels)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.convert(mode).save(path)
    return path


def train(
    room: Translator,
    picture: Path,
    folder: Path,
    iterations: int = -1,
    *,
    naive: Path | None = None,
    resume: Path | None = None,
    every: int = 1,
    callbacks: list[Callback] | None = None,
    precision: str = "32-true",
) -> Translator:
    """Train a room on a picture, to the end of its scales by default; a checkpoint after each iteration."""
    seed_everything(0, verbose=False)
    data = SingleImage(str(picture), naive=None if naive is None else str(naive))
    growing: list[Callback] = [GrowScales(grids=False), *(callbacks or [])]
    options = {"data": data, "every": every, "precision": precision, "callbacks": growing, "resume": resume}
    fit(room, iterations, folder, max_epochs=-1, **options)
    return room


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    """Whether two state dicts are equal to the bit."""
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def recipe(
    folder: Path, class_path: str, picture: Path, *, length: int = 1, naive: Path | None = None, **changes: Any
) -> Path:
    """A recipe of a small model of a picture, whose runs lie in `folder/runs`, with the callback that the papers' recipes have."""
    quick = {
        "stage_iterations": length,
        "decay_iteration": None,
        "learning_rate": 0.02,
    }  # noise shows after a few iterations
    settings = {**SMALL[class_path], **quick, **changes}
    given = {"picture": str(picture)} | ({} if naive is None else {"naive": str(naive)})
    growing = {"class_path": "zoo.callbacks.GrowScales", "init_args": {"every": "stage_iterations"}}
    trainer = {"accelerator": "cpu", "devices": 1, "max_steps": -1, "max_epochs": -1, "check_val_every_n_epoch": None}
    folder.mkdir(parents=True, exist_ok=True)
    return write_recipe(
        folder,
        model={"class_path": class_path, "init_args": settings},
        data={"class_path": "datamodules.SingleImage", "init_args": given},
        trainer={**trainer, "callbacks": [growing]},
        checkpoints={"every": 1, "keep": 100},
        samples={"every": length},
        metrics={"every": 1},
    )
