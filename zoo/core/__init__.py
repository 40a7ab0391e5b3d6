"""The thin base every room stands on.

What needs PyTorch is loaded when it is first asked for, so that `zoo.core.files` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.core.draws import Draws
    from zoo.core.ema import Ema
    from zoo.core.players import Player, Turn
    from zoo.core.translator import Translator

_HOMES = {"Draws": "draws", "Ema": "ema", "Player": "players", "Translator": "translator", "Turn": "players"}

__all__ = ["Draws", "Ema", "Player", "Translator", "Turn"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'zoo.core' has no attribute {name!r}")
    return getattr(import_module(f"zoo.core.{_HOMES[name]}"), name)
