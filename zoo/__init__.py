"""The translation zoo: image-to-image translation papers as readable PyTorch Lightning modules.

Importing this package is cheap: a room (and with it PyTorch) is loaded when it is first asked for, as in `zoo.CycleGAN`.
"""

from zoo.registry import ROOMS, room_class

__version__ = "0.1.0"


def __getattr__(name: str) -> type:
    for room, path in ROOMS.items():
        if path.rpartition(":")[2] == name:
            return room_class(room)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}; its rooms are {', '.join(sorted(ROOMS))}")


def __dir__() -> list[str]:
    return sorted({*globals(), *(path.rpartition(":")[2] for path in ROOMS.values())})
