"""`lightning download [NAME...]`: published weights, fetched and checked before they are needed; alone, what there is."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli.pages import USAGE, WIDTH, command_page
from zoo.cli.suggest import did_you_mean
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.weights.fetch import WeightFile


def run(arguments: Sequence[str]) -> int:
    """Run `lightning download`.

    Returns:
        0.

    Raises:
        ZooError: a name or an option is unknown, or a file could not be had; the others are fetched all the same.
    """
    from zoo.weights.fetch import fetch, find_entry, read_catalogue, weights_folder

    if any(argument in ("-h", "--help") for argument in arguments):
        print(command_page("download"))
        return 0
    for argument in arguments:
        if argument.startswith("-"):
            hint = did_you_mean(argument, ("--help",))
            raise ZooError(f"download has no option {argument!r}.{hint} Usage: {USAGE['download']}")
    catalogue = read_catalogue()
    if not arguments:
        print(page(list(catalogue.values()), weights_folder()))
        return 0
    names = [find_entry(name, catalogue).name for name in dict.fromkeys(arguments)]  # a mistyped name fetches nothing
    failures = []
    for name in names:
        try:
            print(f"{name}: {fetch(name, catalogue)}", flush=True)
        except ZooError as error:
            failures.append(str(error))
    if failures:
        raise ZooError(" ".join(failures))
    return 0


def page(entries: Sequence[WeightFile], folder: Path) -> str:
    """What can be downloaded: a row per file, what it is and what its use is bound to.

    Args:
        entries: of the catalogue.
        folder: where the files lie once they are here.
    """
    names = max(len(entry.name) for entry in entries)
    start = " " * (names + 2 + 9 + 6)
    lines = [f"{'NAME':<{names}}  {'SIZE':>7}  HERE  WHAT"]
    for entry in entries:
        here = "yes" if (folder / entry.file).is_file() else "no"
        what = textwrap.wrap(f"{entry.description}. Licence: {entry.licence}.", WIDTH - len(start))
        lines.append(f"{entry.name:<{names}}  {size(entry.size):>7}  {here:<4}  {what[0]}")
        lines += [f"{start}{line}" for line in what[1:]]
    return "\n".join([*lines, "", f"Files lie in {folder}. To fetch some: lightning download NAME..."])


def size(count: int | None) -> str:
    """Bytes in words: `575 MB`; a dash where the publisher does not say."""
    if count is None:
        return "-"
    return f"{count / 1e6:,.0f} MB" if count < 1e9 else f"{count / 1e9:,.1f} GB"
