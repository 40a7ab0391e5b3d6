"""`lightning list --weights [--shipped]`: what `zoo.load` and the commands know by name, a line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zoo.cli.download import size
from zoo.cli.pages import USAGE
from zoo.cli.suggest import did_you_mean
from zoo.errors import ZooError

OPTIONS = ("--weights", "--shipped", "--help")
HEADER = ("NAME", "ROOM", "SIZE", "HERE", "LICENCE", "WHAT")


def check(arguments: Sequence[str]) -> None:
    """Refuse what `lightning list --weights` does not know.

    Raises:
        ZooError: a word is no option of it.
    """
    for argument in arguments:
        if argument not in OPTIONS:
            hint = did_you_mean(argument, OPTIONS)
            raise ZooError(f"list --weights takes no {argument!r}.{hint} Usage: {USAGE['list']}")
    if "--shipped" in arguments and "--weights" not in arguments:
        raise ZooError("--shipped belongs to --weights: lightning list --weights --shipped")


def weights_page(arguments: Sequence[str]) -> str:
    """A header line, then a line for all weights of a name, which comes first: those of the package, then the published ones.

    Args:
        arguments: what was typed behind `list`; `--shipped` leaves the published ones out.

    Raises:
        ZooError: an option is unknown, or a file of the package is damaged.
    """
    from zoo.weights.catalogue import read_catalogue, weights_folder
    from zoo.weights.shipped import shipped

    check(arguments)
    rows = [HEADER]
    for weights in shipped().values():
        what = f"{weights.description}{f' ({_figures(weights.figures)})' if weights.figures else ''}"
        rows.append((weights.name, weights.room or "-", _small(weights.size), "shipped", weights.licence, what))
    if "--shipped" not in arguments:
        for entry in read_catalogue().values():
            here = "yes" if (weights_folder() / entry.file).is_file() else "no"
            figures = {"published": entry.published, "here": entry.reproduced}
            told = [f"; {where}: {_figures(found)}" for where, found in figures.items() if found]
            what = f"{entry.description} ({entry.state}{''.join(told)})"
            rows.append((entry.name, entry.room or "-", size(entry.size), here, entry.licence, what))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join([*(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)), *row[4:]]).rstrip()
        for row in rows
    )


def _figures(figures: Mapping[str, float | str]) -> str:
    shown = {name: value if isinstance(value, str) else f"{value:.4g}" for name, value in figures.items()}
    return ", ".join(f"{name.removeprefix('val/')} {value}" for name, value in list(shown.items())[:4])


def _small(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
