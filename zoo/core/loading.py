"""From a checkpoint back to a model: the class comes from our registry, the weights without unpickling."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from zoo.core.checkpoints import read_checkpoint
from zoo.core.exported import MISFITS, read_exported
from zoo.core.runs import Run
from zoo.core.translator import Translator
from zoo.errors import ZooError
from zoo.registry import room_class


def find_checkpoint(place: Path) -> Path:
    """The checkpoint that a path means: a file itself, or the newest loadable one of a run's folder.

    Raises:
        ZooError: there is none.
    """
    if place.is_dir():
        run = Run(place.parent if place.name == "checkpoints" else place)
        return run.newest_loadable_checkpoint()[0]
    if not place.is_file():
        raise ZooError(
            f"There is no checkpoint at {place}. Give a file, or a run's folder such as runs/cyclegan/<name>."
        )
    return place


def load_translator(place: Path) -> Translator:
    """Build the model that a checkpoint holds, with its weights, in eval mode on the CPU.

    Args:
        place: a checkpoint of `lightning fit`, a run's folder, or a file of `lightning export --safetensors`.

    Raises:
        ZooError: the file is damaged, is no checkpoint of ours, or does not fit its room.
    """
    path = find_checkpoint(place)
    if path.suffix == ".safetensors":
        return read_exported(path)
    checkpoint = read_checkpoint(path)
    kept = checkpoint.get("zoo")
    room = kept.get("room") if isinstance(kept, dict) else None
    if not isinstance(kept, dict) or not isinstance(room, str) or not isinstance(checkpoint.get("state_dict"), dict):
        raise ZooError(
            f"{path} does not say which room it belongs to: it was not written by `lightning fit` with a registered room. It holds "
            f"{', '.join(sorted(map(str, checkpoint))[:5])}."
        )
    cls = room_class(room)
    settings = _arguments(cls, checkpoint.get("hyper_parameters", {}), path)
    try:
        model = cls(**settings)
    except MISFITS as error:
        raise ZooError(f"{path} holds settings that {room} cannot be built with: {error!r}") from error
    try:
        model.on_load_checkpoint({**checkpoint, "zoo": {**kept, "ranks": []}})  # pools are for training
        model.load_state_dict(checkpoint["state_dict"])
    except MISFITS as error:
        raise ZooError(f"{path} does not fit {room}: {' '.join(str(error).split())[:400]}") from error
    return model.eval()


def _arguments(cls: type, given: dict[str, Any], path: Path) -> dict[str, Any]:
    """The constructor's arguments among what the checkpoint holds; unknown ones are refused, not passed on."""
    if not isinstance(given, dict):
        raise ZooError(f"{path} holds no settings of {cls.__name__}, but a {type(given).__name__}.")
    known = set(inspect.signature(cls).parameters)
    if unknown := sorted(set(given) - known):
        raise ZooError(
            f"{path} was written with settings that {cls.__name__} does not have (any more): {', '.join(unknown)}. "
            "Load it with the version that wrote it; run.json names it."
        )
    return given
