"""`lightning download [NAME...]`: published weights and data sets, fetched and checked before they are needed; alone, what there is."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli.pages import USAGE, WIDTH, command_page
from zoo.cli.suggest import did_you_mean
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.weights.catalogue import WeightFile
    from zoo.weights.data_sets import DataSet

DATA = "data/"
ROOT = Path("data")  # where recipes and overlays look for data sets
VALUES = ("--to", "--imagenet", "--attribute")
CELEBA = "celeba_attributes"
SWITCHES = ("--keep", "--help", "-h")


@dataclass
class Options:
    """What was typed.

    Attributes:
        names: of weights, and of data sets with `data/` in front.
        to: the folder for what is fetched; None for each kind's own.
        imagenet: the local copy that ImageNet291 is cut from.
        attribute: of CelebA, by which its faces are sorted into two domains.
        keep: whether archives of data sets are kept.
    """

    names: list[str]
    to: Path | None = None
    imagenet: Path | None = None
    attribute: str | None = None
    keep: bool = False


def run(arguments: Sequence[str]) -> int:
    """Run `lightning download`.

    Returns:
        0.

    Raises:
        ZooError: a name or an option is unknown, or a file could not be had; the others are fetched all the same.
    """
    from zoo.weights.data_sets import find_set, read_sets
    from zoo.weights.fetch import fetch, find_entry, read_catalogue, weights_folder

    if any(argument in ("-h", "--help") for argument in arguments):
        print(help_text())
        return 0
    options = parse(arguments)
    catalogue, sets = read_catalogue(), read_sets()
    if not options.names:
        print(page(list(catalogue.values()), weights_folder(), list(sets.values())))
        return 0
    wanted: dict[str, WeightFile | DataSet] = {}
    for name in options.names:  # a mistyped name fetches nothing
        if not name.startswith(DATA) and name in sets and name not in catalogue:
            raise ZooError(f"{name} is a data set. Its name: lightning download {DATA}{name}")
        wanted[name] = find_set(name, sets) if name.startswith(DATA) else find_entry(name, catalogue)
    failures = []
    for name, found in wanted.items():
        try:
            if name.startswith(DATA):
                _fetch_set(found, options)  # type: ignore[arg-type]
            else:
                print(f"{found.name}: {fetch(found.name, catalogue, options.to)}", flush=True)
        except ZooError as error:
            failures.append(str(error))
    if failures:
        raise ZooError(" ".join(failures))
    return 0


def parse(arguments: Sequence[str]) -> Options:
    """Take the words behind `lightning download` apart.

    Raises:
        ZooError: an option is unknown or lacks its value.
    """
    options = Options([])
    remaining = list(arguments)
    while remaining:
        word = remaining.pop(0)
        option, equals, value = word.partition("=")
        if option in VALUES:
            if not equals:
                value = remaining.pop(0) if remaining else ""
            if not value or value.startswith("-"):
                what = "a name such as Blond_Hair" if option == "--attribute" else "a folder"
                raise ZooError(f"{option} expects {what}. Usage: {USAGE['download']}")
            setattr(options, option.removeprefix("--"), value if option == "--attribute" else Path(value).expanduser())
        elif word == "--keep":
            options.keep = True
        elif word.startswith("-"):
            hint = did_you_mean(option, (*VALUES, *SWITCHES))
            raise ZooError(f"download has no option {option!r}.{hint} Usage: {USAGE['download']}")
        elif word not in options.names:
            options.names.append(word)
    return options


def _fetch_set(data_set: DataSet, options: Options) -> None:
    from zoo.weights.data_sets import fetch_data

    imagenet = options.imagenet

    def make(bench: Path) -> None:
        from datamodules.errors import DataError
        from datamodules.imagenet291 import cut_crops

        assert imagenet is not None
        (listing,) = [file.entry.file for file in data_set.files if file.entry.file.endswith(".txt")]
        try:
            cut_crops(imagenet.absolute(), bench / listing, bench, bench / data_set.folders[0])
        except DataError as error:
            raise ZooError(str(error)) from error

    root = options.to or ROOT
    folders = fetch_data(data_set, root, keep=options.keep, make=None if imagenet is None else make)
    if options.attribute is not None and data_set.name == CELEBA:
        from zoo.weights.celeba import split_by_attribute

        folders = [split_by_attribute(folders[0], options.attribute)]
    print(f"{DATA}{data_set.name}: {', '.join(map(str, folders))}", flush=True)
    for overlay in data_set.overlays:
        print(f"  to train on it: --config {overlay}", file=sys.stderr)


def help_text() -> str:
    """The answer to `lightning download --help`."""
    lines = [
        "  --to FOLDER        where to: by default weights go to $ZOO_HOME/weights, and data sets to the folder data",
        "  --keep             keep archives of data sets, which otherwise go when the set is whole",
        "  --imagenet FOLDER  ImageNet's training pictures, which data/imagenet291 is cut from",
        "  --attribute NAME   sort the faces of data/celeba_attributes into those with and without it: Blond_Hair",
        "",
        "ZOO_HOME     the folder of downloads, ~/.cache/translation-zoo by default",
        "ZOO_OFFLINE  1 forbids the network: files that lie in ZOO_HOME are used, others are named",
        "ZOO_MIRROR   links of served copies of ZOO_HOME, asked in place of the publishers",
    ]
    return "\n".join([command_page("download"), "", *lines])


def page(entries: Sequence[WeightFile], folder: Path, sets: Sequence[DataSet] = ()) -> str:
    """What can be downloaded: a row per file or set, what it is and what its use is bound to.

    Args:
        entries: of the catalogue.
        folder: where the files lie once they are here.
        sets: data sets; they are looked for in the folder `data`.
    """
    names = max(len(name) for name in [*(entry.name for entry in entries), *(DATA + found.name for found in sets)])
    start = " " * (names + 2 + 9 + 6)
    rows = [
        (entry.name, entry.size, (folder / entry.file).is_file(), entry.description, entry.licence) for entry in entries
    ]
    rows += [
        (
            DATA + found.name,
            found.size,
            all((ROOT / place).exists() for place in found.layout),
            found.description,
            found.licence,
        )
        for found in sets
    ]
    lines = [f"{'NAME':<{names}}  {'SIZE':>7}  HERE  WHAT"]
    for name, count, is_here, description, licence in rows:
        words = f"{description}. Licence: {licence}."
        what = textwrap.wrap(words, WIDTH - len(start), break_on_hyphens=False)  # licences can be searched for
        lines.append(f"{name:<{names}}  {size(count):>7}  {'yes' if is_here else 'no':<4}  {what[0]}")
        lines += [f"{start}{line}" for line in what[1:]]
    return "\n".join([*lines, "", f"Files lie in {folder}. To fetch some: lightning download NAME..."])


def size(count: int | None) -> str:
    """Bytes in words: `575 MB`; a dash where the publisher does not say."""
    if count is None:
        return "-"
    return f"{count / 1e6:,.0f} MB" if count < 1e9 else f"{count / 1e9:,.1f} GB"
