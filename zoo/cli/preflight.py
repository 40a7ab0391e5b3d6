"""What a training needs and this machine lacks, told all at once before anything is built."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import Namespace
from lightning.fabric.utilities.rank_zero import rank_zero_only

from zoo.cli.lookup import PACKAGE, demo_overlay

MISTAKE = 2  # the exit code of what the person at the keyboard can mend


def complaints(settings: Namespace, *, resumed: bool) -> list[str]:
    """Ask the classes of model and data what is missing; nothing is built.

    Args:
        settings: the parsed configuration of `fit`, whose `model` and `data` hold `class_path` and `init_args`, defaults included.
        resumed: the model's weights come from a checkpoint.
    """
    found: list[str] = []
    for node, options in ((settings.model, {"resumed": resumed}), (settings.data, {})):
        missing = getattr(_class_of(node), "missing", None)
        if missing is not None:
            arguments = node.get("init_args") or Namespace()
            found += missing(arguments.as_dict(), **options)
    return list(dict.fromkeys(found))


def refuse(found: Sequence[str], configs: Sequence[Path]) -> NoReturn:
    """Print all complaints, and what can be typed where nothing is at hand.

    Args:
        found: from `complaints`.
        configs: the configuration files of the command line.

    Raises:
        SystemExit: with exit code 2, as any mistake that a person can mend.
    """
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        many = "one thing is" if len(found) == 1 else f"{len(found)} things are"
        lines = [f"lightning: this training cannot start yet, {many} missing; nothing was begun."]
        lines += [f"  {number}. {' '.join(complaint.split())}" for number, complaint in enumerate(found, 1)]
        if demo := demo_command(configs):
            lines += [f"Nothing at hand? {demo} needs nothing."]
        print("\n".join(lines), file=sys.stderr, flush=True)
    raise SystemExit(MISTAKE)


def demo_command(configs: Sequence[Path]) -> str | None:
    """The command that trains the demo of a recipe; None where it has none, or where the demo is what was asked for."""
    if not configs:
        return None
    name = configs[0].stem
    demo = demo_overlay(name)
    is_ours = configs[0].resolve() == PACKAGE / f"{name}.yaml"
    if demo is None or not is_ours or any(path.parts[-3:] == Path(demo).parts for path in configs):
        return None
    return f"lightning fit --config zoo/{name}.yaml --config {demo}"


def _class_of(node: Any) -> type:
    module, _, name = node.class_path.rpartition(".")
    return getattr(import_module(module), name)
