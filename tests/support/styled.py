"""Runs of a toy room that takes exemplars and random styles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.commands import TINY, lightning, write_recipe
from zoo import registry
from zoo.core.runs import Run

SAMPLER = ["--trainer.callbacks+=support.toy.FitToySampler"]


@contextmanager
def registered() -> Iterator[None]:
    """The toy rooms have names, as a checkpoint needs them to be loaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.ROOMS, "styled", "support.toy:StyledRoom")
        patch.setitem(registry.ROOMS, "plain", "support.toy:PlainRoom")
        yield


def styled_recipe(folder: Path, room: str = "StyledRoom", **changes: Any) -> Path:
    """A recipe of a toy room on small scenes."""
    scenes = {**TINY["data"]["init_args"], "scenes_per_epoch": 6}
    data = {**TINY["data"], "init_args": scenes}
    return write_recipe(
        folder, name="styled", **{"model": {"class_path": f"support.toy.{room}"}, "data": data, **changes}
    )


def styled_run(folder: Path, *words: object, room: str = "StyledRoom") -> Run:
    """A finished run of two iterations."""
    name = ["--run.name", "a", "--trainer.max_steps", 2]
    assert lightning("fit", "--config", styled_recipe(folder, room), *name, *words) == 0
    return Run(folder / "runs" / "styled" / "a")
