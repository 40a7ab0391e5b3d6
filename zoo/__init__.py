"""The translation zoo: image-to-image translation papers as readable PyTorch Lightning modules.

Importing this package is cheap: a room (and with it PyTorch) is loaded when it is first asked for, as in `zoo.CycleGAN`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.registry import ROOMS, room_class

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.core.translator import Translator

__version__ = "0.1.0"


def load(name: str | Path, path: str | Path | None = None, **arguments: Any) -> Translator:
    """Build a model with its weights, in eval mode on the CPU: `zoo.load("gpunit_cat2dog")`, `zoo.load("gpunit", "runs/gpunit/first")`.

    Args:
        name: shipped or published weights by name (`lightning list --weights`); or the place of a run, a checkpoint or an official
            file; or, with `path`, the room.
        path: the place of the room's weights.
        **arguments: constructor arguments of the room, for official files, where those that the file speaks of do not do.

    Raises:
        ZooError: there is no such name or file, or it is damaged or another model's; see `zoo.weights.load`.
    """
    from zoo.weights.load import load

    return load(name, path, **arguments)


def __getattr__(name: str) -> type:
    for room, path in ROOMS.items():
        if path.rpartition(":")[2] == name:
            return room_class(room)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}; its rooms are {', '.join(sorted(ROOMS))}")


def __dir__() -> list[str]:
    return sorted({*globals(), *(path.rpartition(":")[2] for path in ROOMS.values())})
