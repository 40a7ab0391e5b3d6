"""What a training needs and this machine lacks, told all at once before anything is built."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

from jsonargparse import Namespace
from lightning.fabric.utilities.rank_zero import rank_zero_only

from zoo.cli.lookup import PACKAGE, demo_overlay
from zoo.errors import ZooError

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


def refuse_nulls(settings: Namespace) -> None:
    """Refuse null for a setting of the model or the data that cannot be nothing; the parser lets it through.

    Raises:
        ZooError: there is one.
    """
    for part in ("model", "data"):
        node = settings[part]
        kind = _class_of(node)
        try:
            known = signature(kind, eval_str=True).parameters
        except NameError:  # types of somebody's class that are imported for type checkers alone
            continue
        for name, value in (node.get("init_args") or Namespace()).as_dict().items():
            if value is None and name in known and not _allows_none(known[name]):
                wanted, default = _name_of(known[name].annotation), known[name].default
                hint = "" if default is Parameter.empty else f" Leave it out for {default!r}."
                raise ZooError(f"{part}.{name} is null; expected {wanted}.{hint}")


def _allows_none(parameter: Parameter) -> bool:
    kind = parameter.annotation
    some = parameter.default is None or kind in (Any, Parameter.empty)
    return some or any(each in (None, type(None)) for each in get_args(kind))


def _name_of(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}.get(kind) or str(kind)


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
