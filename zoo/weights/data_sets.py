"""Data sets by name: what each is, where it can be had, and how it looks when it is whole.

An entry of `zoo/weights/data/*.yaml` says which files to fetch and where they belong, which folders must be there afterwards and
how many pictures they hold. Counts that are certain are demanded; those that were only ever recalled are told and not demanded.
A set that its publisher gives to registered people alone is a pointer: what to do by hand, and what is looked for then.
"""

import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from zoo.core.files import lock_file, write_atomically
from zoo.errors import ZooError
from zoo.weights.catalogue import WeightFile, home, plain, read_entry
from zoo.weights.fetch import fetch_file
from zoo.weights.unpack import SINGLE, expand, unpack

SETS = Path(__file__).parent / "data"
PREFIX = "data/"
PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
LONGEST_WORK = 24 * 3600.0  # seconds that a second process waits for the first one's set
Maker = Callable[[Path], object]


@dataclass(frozen=True)
class SetFile:
    """A file of a data set.

    Attributes:
        entry: where it can be had.
        place: of a single file, below the folder of all data; empty for an archive.
    """

    entry: WeightFile
    place: str = ""


@dataclass(frozen=True)
class DataSet:
    """One data set.

    Args:
        name: behind `data/`.
        description: what it is, in one line.
        licence: what its use is bound to.
        source: the page that describes it.
        files: what is fetched; empty for a pointer.
        folders: what appears in the folder of all data; the set's own, or several.
        layout: folders and files that have to be there afterwards, below the folder of all data.
        counts: pictures in and below a folder, certain.
        recalled: the same from memory: told where they differ, not demanded.
        rename: other names of folders in the archive.
        by_hand: what a person does who wants a set that cannot be fetched.
        made_from: what the set is cut from, beside what is fetched: `imagenet`, or nothing.
        overlays: configuration files for it.
    """

    name: str
    description: str
    licence: str
    source: str
    files: tuple[SetFile, ...] = ()
    folders: tuple[str, ...] = ()
    layout: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    recalled: Mapping[str, int] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    by_hand: str = ""
    made_from: str = ""
    overlays: tuple[str, ...] = ()

    @property
    def size(self) -> int | None:
        """Bytes that are fetched; None where that is unknown."""
        sizes = [file.entry.size for file in self.files]
        return None if not sizes or None in sizes else sum(size for size in sizes if size is not None)

    @property
    def loose(self) -> bool:
        """Whether it is single files that are put into their places one by one."""
        return bool(self.files) and all(file.place for file in self.files)


def read_sets(folder: Path = SETS) -> dict[str, DataSet]:
    """Read all data sets by name.

    Raises:
        ZooError: an entry lacks a field or has one too many, or a name is taken.
    """
    found: dict[str, DataSet] = {}
    for path in sorted(folder.glob("*.yaml")):
        for name, given in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            where = f"{path}, entry {name!r}"
            if name in found:
                raise ZooError(f"{where}: the name is taken by another entry.")
            found[name] = _read_set(name, given, where)
    return found


def _read_set(name: str, given: Mapping[str, Any], where: str) -> DataSet:
    common = {key: given.get(key, "") for key in ("licence", "source", "description")}
    files = []
    for file in given.get("files", ()):
        place = file.get("place", "")
        fields = {"size": None, "sha256": None, **common, **{key: file[key] for key in file if key != "place"}}
        files.append(SetFile(read_entry(f"{PREFIX}{name}", fields, where), place))
    values = {**given, "files": tuple(files)}
    for key in ("folders", "layout", "overlays"):
        values[key] = tuple(given.get(key, ()))
    try:
        found = DataSet(name=name, **values)
    except TypeError as error:
        raise ZooError(f"{where}: {error}. See zoo.weights.data_sets.DataSet.") from error
    if not found.files and not found.by_hand:
        raise ZooError(f"{where}: it has neither files nor by_hand.")
    if not found.folders or not found.layout:
        raise ZooError(f"{where}: it lacks folders or layout: nothing could be checked.")
    return found


def find_set(name: str, sets: Mapping[str, DataSet] | None = None) -> DataSet:
    """The data set of a name, with or without `data/` in front, spelled with `_` or `-`.

    Raises:
        ZooError: there is none; says which is near.
    """
    sets = read_sets() if sets is None else sets
    wanted = plain(name.removeprefix(PREFIX))
    spelled = {plain(known): known for known in sets}
    if wanted not in spelled:
        near = get_close_matches(wanted, spelled, n=1)
        names = ", ".join(PREFIX + known for known in sorted(sets))
        hint = f"Did you mean '{PREFIX}{spelled[near[0]]}'?" if near else f"There are: {names}."
        raise ZooError(f"There is no data set {name!r}. {hint}")
    return sets[spelled[wanted]]


# Checking ------------------------------------------------------------------------------------------------------------


def count_pictures(folder: Path) -> int:
    """Pictures in and below a folder; hidden files do not count."""
    count = 0
    for _, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        count += sum(Path(name).suffix.lower() in PICTURES and not name.startswith(".") for name in names)
    return count


def lacks(data_set: DataSet, root: Path) -> str | None:
    """What a set that is there lacks, as the end of a sentence, or None where it is whole; the folder of all data is `root`."""
    if lost := [place for place in data_set.layout if not (root / place).exists()]:
        return f"has no {lost[0]}{f' (and {len(lost) - 1} more are missing)' if len(lost) > 1 else ''}"
    for folder, wanted in data_set.counts.items():
        if (found := count_pictures(root / folder)) != wanted:
            return f"has {found:,} pictures in {folder} instead of {wanted:,}"
    return None


def surprises(data_set: DataSet, root: Path) -> list[str]:
    """Counts that differ from what was recalled: sentences for a person."""
    found = {folder: count_pictures(root / folder) for folder in data_set.recalled}
    return [
        f"{folder} holds {found[folder]:,} pictures; {wanted:,} were expected from memory, which may be wrong"
        for folder, wanted in data_set.recalled.items()
        if found[folder] != wanted
    ]


# Fetching ------------------------------------------------------------------------------------------------------------


def fetch_data(data_set: DataSet, root: Path, *, keep: bool = False, make: Maker | None = None) -> list[Path]:
    """Fetch, unpack and check a data set that is not here yet.

    Archives are fetched to `data` in $ZOO_HOME and removed when the set is whole; their pins stay. The folders appear under their
    names only when whole and checked.

    Args:
        data_set: which.
        root: the folder of all data, where the set's folders appear.
        keep: whether archives are kept.
        make: for a set that is made from another: called with the folder in which what was fetched lies unpacked, it makes the rest
            there.

    Returns:
        The set's folders.

    Raises:
        ZooError: it cannot be had, is not what was expected, or something else lies in its place.
    """
    folders = [root / name for name in data_set.folders]
    with _place_of(data_set, root) as marker:
        if marker.is_file() and lacks(data_set, root) is None:
            return folders
        if data_set.loose:
            _fetch_loose(data_set, root, keep)
        elif any(folder.exists() for folder in folders):
            _adopt(data_set, root)
        elif data_set.made_from and make is None:
            raise ZooError(
                f"data/{data_set.name} is made from a local copy of ImageNet. Say where its training pictures lie, in folders such as "
                f"n01440764: lightning download data/{data_set.name} --{data_set.made_from} FOLDER"
            )
        elif not data_set.files:
            raise ZooError(
                f"data/{data_set.name} cannot be fetched by a program. {data_set.by_hand} See {data_set.source}. Then put it into "
                f"{folders[0]}, with {', '.join(data_set.layout[:3])}, and run the command again: it is checked."
            )
        else:
            _fetch_archives(data_set, root, keep, make)
        _finish(data_set, root, marker)
    return folders


@contextmanager
def _place_of(data_set: DataSet, root: Path) -> Iterator[Path]:
    """Hold a set's place; gives the marker that says that it was whole."""
    lock = root / f".{data_set.name}.lock"
    with lock_file(lock, protects=f"the data set {data_set.name} in {root}", wait=LONGEST_WORK):
        yield root / f".{data_set.name}.zoo.json"


def _adopt(data_set: DataSet, root: Path) -> None:
    """Take a set that somebody put there, where it is whole."""
    if fault := lacks(data_set, root):
        folders = ", ".join(str(root / name) for name in data_set.folders if (root / name).exists())
        raise ZooError(
            f"{folders} is there already, but it {fault}. Move it away to have data/{data_set.name} fetched, or choose another "
            "place: --to FOLDER"
        )


def _finish(data_set: DataSet, root: Path, marker: Path) -> None:
    if fault := lacks(data_set, root):
        raise ZooError(f"data/{data_set.name} {fault}: it is not whole. See {data_set.source}")
    for sentence in surprises(data_set, root):
        print(f"data/{data_set.name}: {sentence}", file=sys.stderr)
    pictures = sum(count_pictures(root / folder) for folder in data_set.folders)
    record = {"set": data_set.name, "pictures": pictures, "folders": list(data_set.folders)}
    write_atomically(marker, (json.dumps(record, indent=2) + "\n").encode())


def archives_folder() -> Path:
    """Where archives of data sets are fetched to: `data` in $ZOO_HOME."""
    return home() / "data"


def _fetch_loose(data_set: DataSet, root: Path, keep: bool) -> None:
    for file in data_set.files:
        path = root / file.place
        if path.exists():
            continue
        fetched = fetch_file(file.entry, archives_folder(), "data")
        if fetched.suffix in SINGLE and path.suffix != fetched.suffix:
            expand(fetched, path)
        else:
            _copy_whole(fetched, path)
        if not keep:
            fetched.unlink()


def _fetch_archives(data_set: DataSet, root: Path, keep: bool, make: Maker | None) -> None:
    fetched = [(file, fetch_file(file.entry, archives_folder(), "data")) for file in data_set.files]
    for stale in root.glob(f".{data_set.name}.????????.unpacking*"):  # of a killed process: the lock is ours now
        shutil.rmtree(stale)
    bench = root / f".{data_set.name}.{secrets.token_hex(4)}.unpacking"
    try:
        for file, path in fetched:
            if file.place or path.suffix == ".txt":
                _copy_whole(path, bench / (file.place or path.name))
            else:
                print(f"Unpacking {path.name} into {root}", file=sys.stderr)
                unpack(path, bench)
        _rename(bench, data_set.rename)
        if make is not None:
            make(bench)
        put_in_place(data_set, bench, root)
    finally:
        shutil.rmtree(bench, ignore_errors=True)
    if not keep:
        for _, path in fetched:
            path.unlink()


def put_in_place(data_set: DataSet, bench: Path, root: Path) -> None:
    """Check what was unpacked and give it its names.

    Archives differ in what stands above the folders that matter: the layout tells which folder is the set's.

    Raises:
        ZooError: the layout is not there, or the counts differ.
    """
    alone = len(data_set.folders) == 1
    wanted = [place.partition("/")[2] if alone else place for place in data_set.layout]
    if wanted == [""]:  # nothing tells what is inside: the folder of the set's name, or all that came
        own = bench / data_set.folders[0]
        found: Path | None = own if own.is_dir() else bench
    else:
        found = next((place for place in _outside_in(bench) if all((place / name).exists() for name in wanted)), None)
    if found is None:
        inside = sorted(entry.relative_to(bench).as_posix() for entry in bench.glob("*/*"))[:4]
        raise ZooError(
            f"data/{data_set.name} was fetched, but it is laid out otherwise: expected were {', '.join(wanted[:3])}, and it has "
            f"{', '.join(inside) or 'nothing'}. The archive stays in {archives_folder()}."
        )
    if alone:
        stage = bench.with_name(f"{bench.name}.checked")
        try:
            stage.mkdir()
            found.rename(stage / data_set.folders[0])
            _demand(data_set, stage)
            (stage / data_set.folders[0]).rename(root / data_set.folders[0])
        finally:
            shutil.rmtree(stage, ignore_errors=True)
        return
    _demand(data_set, found)
    for name in data_set.folders:
        (found / name).rename(root / name)


def _demand(data_set: DataSet, root: Path) -> None:
    if fault := lacks(data_set, root):
        raise ZooError(
            f"data/{data_set.name} was fetched, but it {fault}. The archive stays in {archives_folder()}; delete it there to fetch it anew."
        )


def _outside_in(folder: Path) -> Iterator[Path]:
    """A folder and those inside it, three levels deep, the outer ones first."""
    level = [folder]
    for _ in range(4):
        yield from level
        level = [entry for outer in level for entry in sorted(outer.iterdir()) if entry.is_dir()][:1000]


def _rename(bench: Path, names: Mapping[str, str]) -> None:
    for folder in list(_outside_in(bench)):
        if folder.name in names and folder != bench and folder.exists():
            target = folder.with_name(names[folder.name])
            if target.exists():
                raise ZooError(f"The archive has both {folder.name} and {target.name}: which to take is not known.")
            folder.rename(target)


def _copy_whole(source: Path, path: Path) -> None:
    def write(file: Any) -> None:
        with source.open("rb") as reader:
            shutil.copyfileobj(reader, file)

    write_atomically(path, write, size=source.stat().st_size)
