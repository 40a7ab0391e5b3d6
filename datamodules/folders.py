"""Folders of pictures: find the files, check them before hours of training depend on them, read them during training."""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import blake2b
from math import ceil
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from datamodules.cache import PictureCache
from datamodules.errors import DataError
from datamodules.pictures import MAX_PIXELS, BadPictureError, decode, decode_upright, pil_made_quiet, reasons
from datamodules.preprocess import Transform
from datamodules.sampling import sample_generator

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")

Check = Literal["header", "full", "none"]

# Finding


def natural_key(name: str) -> tuple[list[str | int], str]:
    """What to sort names by in natural order: runs of digits count as numbers, so that 9 comes before 10.

    Names that differ in leading zeros alone are told apart by their letters.
    """
    parts: list[str | int] = list(re.split("([0-9]+)", name))
    parts[1::2] = map(int, parts[1::2])
    return parts, name


def naturally(paths: Iterable[Path]) -> list[Path]:
    """Paths in natural order, folder by folder."""
    return sorted(paths, key=lambda path: [natural_key(part) for part in path.parts])


def per_folder(counts: int | Sequence[int] | None, folders: int, argument: str) -> Sequence[int | None]:
    """How many pictures of each folder are wanted; None stands for all.

    Args:
        counts: one number for every folder, or one per folder. Where there are fewer numbers than folders, the first
            serves all folders that the others, which belong to the last ones, leave over.
        folders: how many there are.
        argument: name of the argument that holds the numbers, for messages.

    Raises:
        DataError: a number is below 1, or there are more numbers than folders.
    """
    if counts is None:
        return [None] * folders
    numbers = [counts] if isinstance(counts, int) else list(counts)
    if not numbers or min(numbers) < 1:
        raise DataError(f"{argument} is {counts}; it counts pictures and must be at least 1: --data.{argument} null")
    if len(numbers) > folders:
        raise DataError(
            f"{argument} has {len(numbers)} numbers for {folders} folders. Type --data.{argument} [{numbers[0]}] for all"
        )
    return [numbers[0]] * (folders - len(numbers)) + numbers


def find_pictures(
    folders: Sequence[str | Path], argument: str, counts: Sequence[int | None] | None = None
) -> list[Path]:
    """All pictures in the folders and below them, each once, in natural order: it depends on names alone.

    Extensions are compared without case. Names that begin with a dot and `__MACOSX` are left out: copies from a Mac hold
    files such as `._cat.jpg` that are no pictures. Links to folders are followed. A picture's own path is accepted too.

    Args:
        folders: searched one after the other.
        argument: name of the argument that holds them, for messages.
        counts: how many of each folder, the first ones in natural order; None for all.

    Raises:
        DataError: a folder is missing or holds no picture; the message says what is there instead.
    """
    found: dict[Path, None] = {}
    for folder, count in zip(folders, counts or [None] * len(folders), strict=True):
        path = Path(folder).expanduser().absolute()
        if not path.exists():
            raise DataError(missing_folder(path, argument))
        pictures = [path] if path.is_file() else naturally(_walk(path))
        if not pictures:
            raise DataError(_empty(path, argument))
        found.update(dict.fromkeys(pictures[:count]))
    return list(found)


def lacking(folders: Iterable[str | Path], argument: str) -> list[str]:
    """What `find_pictures` would complain of, a sentence per folder; it looks no further than the first picture."""
    complaints = []
    for folder in folders:
        path = Path(folder).expanduser().absolute()
        if not path.exists():
            complaints.append(missing_folder(path, argument))
        elif path.is_dir() and next(_walk(path), None) is None:
            complaints.append(_empty(path, argument))
    return complaints


def _walk(root: Path) -> Iterator[Path]:
    visited: set[Path] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        real = Path(folder).resolve()
        if real in visited:  # a link that leads back
            subfolders.clear()
            continue
        visited.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith(".") and name != "__MACOSX")
        yield from (Path(folder, name) for name in names if is_picture(name))


def is_picture(name: str) -> bool:
    """Whether a file of this name is taken for a picture."""
    return not name.startswith(".") and name.lower().endswith(EXTENSIONS)


def missing_folder(path: Path, argument: str) -> str:
    """A sentence about a folder that does not exist: what there is instead, and what to type."""
    parent = next(folder for folder in path.parents if folder.exists())
    inside = sorted(entry.name for entry in parent.iterdir()) if parent.is_dir() else []
    wanted, *below = path.relative_to(parent).parts
    lower = {name.lower(): name for name in inside}
    near = [parent / lower[name] for name in get_close_matches(wanted.lower(), lower, n=1)]
    advice = next((option for base in near for option in (base.joinpath(*below), base) if option.exists()), "FOLDER")
    return (
        f"{argument}: there is no folder {path}. The nearest folder that exists is {parent}; it holds {some_of(inside)}. "
        f"Type --data.{argument} {advice}"
    )


def _empty(path: Path, argument: str) -> str:
    entries = sorted(entry.name + "/" * entry.is_dir() for entry in path.iterdir())
    return (
        f"{argument}: no picture in {path} or below it. Looked for {' '.join(EXTENSIONS)} (capitals too); the folder holds "
        f"{some_of(entries)}. Put pictures there, or type --data.{argument} FOLDER"
    )


def some_of(names: Sequence[str], limit: int = 8) -> str:
    """The first few names, in a line."""
    if not names:
        return "nothing"
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


# Checking


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Args:
        good: the pictures to use, in the order given.
        bad: reason by file that is left out.
        shapes: (height, width) of every good picture as it will be decoded; empty when nothing was opened.
    """

    good: list[Path]
    bad: dict[Path, str]
    shapes: list[tuple[int, int]]


def check_pictures(
    paths: Sequence[Path],
    argument: str,
    *,
    check: Check = "header",
    min_side: int = 16,
    max_bad_share: float = 0.05,
    cache: PictureCache | None = None,
) -> Checked:
    """Sort pictures into good and bad ones.

    Args:
        paths: the pictures.
        argument: name of the argument they came from, for messages.
        check: `header` opens every file, compares sizes, and decodes only those whose end looks cut off; `full` decodes
            every file; `none` believes them all.
        min_side: smallest side in pixels that is accepted.
        max_bad_share: largest share of bad files, 0 to 1, rounded up to whole files; beyond it the folder is refused.
        cache: keeps the result until a file changes.

    Raises:
        DataError: too many are bad; the message names the first few.
    """
    if check == "none":
        return Checked(list(paths), {}, [])
    key = _listing_key(paths, check, min_side)
    result = cache.known_check(key) if cache else None
    if result is None:
        with pil_made_quiet(), ThreadPoolExecutor(min(16, 4 * (os.cpu_count() or 1))) as pool:
            outcomes = pool.map(lambda path: _examine(path, check, min_side), paths)
            result = {str(path): outcome for path, outcome in zip(paths, outcomes, strict=True)}
        if cache:
            cache.keep_check(key, result)
    good = [path for path in paths if not result[str(path)][0]]
    bad = {path: result[str(path)][0] for path in paths if result[str(path)][0]}
    if not good or len(bad) > allowed_bad(len(paths), max_bad_share):
        raise DataError(
            f"{argument}: {len(bad)} of {len(paths)} pictures cannot be used, more than max_bad_share {max_bad_share:g} "
            f"allows: {name_bad(bad)}. Remove or mend them, or type --data.max_bad_share {_enough(len(bad), len(paths))}"
            if good
            else f"{argument}: none of {len(paths)} pictures can be used: {name_bad(bad)}. Type --data.{argument} FOLDER"
        )
    return Checked(good, bad, [result[str(path)][1:] for path in good])


def allowed_bad(count: int, max_bad_share: float) -> int:
    """How many of `count` files may be bad: the share, rounded up to whole files."""
    # Rounded first: 0.07 * 100 is 7.000000000000001 in floating point.
    return ceil(round(max_bad_share * count, 9))


def name_bad(bad: dict[Path, str], limit: int = 3) -> str:
    """The first few bad files with their reasons, in a line."""
    more = f" and {len(bad) - limit} more" if len(bad) > limit else ""
    return "; ".join(f"{path} ({reason})" for path, reason in list(bad.items())[:limit]) + more


def _enough(bad: int, count: int) -> str:
    return f"{ceil(100 * bad / count) / 100:g}"


def _listing_key(paths: Sequence[Path], check: Check, min_side: int) -> str:
    digest = blake2b(f"{check} {min_side}".encode(), digest_size=16)
    for path in paths:
        try:
            status = path.stat()
            digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
        except OSError:
            digest.update(f"{path}\0gone\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


# What needs no look at the pixels to be read as RGB.
_SOUND_MODES = {"1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"}


def _examine(path: Path, check: Check, min_side: int) -> tuple[str, int, int]:
    """The reason why a file is bad ('' for none) and its height and width once upright."""
    try:
        with reasons(path), Image.open(path) as picture:
            width, height = picture.size
            # PIL decodes a whole PNG to look for a rotation after the pixels: not worth it here.
            turned = (picture.format != "PNG" or "exif" in picture.info) and picture.getexif().get(0x0112, 1) >= 5
            if turned:
                width, height = height, width
            if width * height > MAX_PIXELS:
                raise BadPictureError(f"more than {MAX_PIXELS:,} pixels")
            if min(width, height) < min_side:
                raise BadPictureError(f"{width} x {height} pixels, smaller than {min_side}")
            if check == "header" and picture.mode in _SOUND_MODES and _ends_well(path, picture.format or ""):
                return "", height, width
        decode_upright(path)
    except BadPictureError as error:
        return str(error), 0, 0
    return "", height, width


def _ends_well(path: Path, kind: str) -> bool:
    """Whether the end of a file is where its format says. False means: decode it to know."""
    with path.open("rb") as file:
        head = file.read(12)
        length = file.seek(0, os.SEEK_END)
        file.seek(max(0, length - 64))
        tail = file.read()
    if kind == "JPEG":
        return tail.rstrip(b"\0").endswith(b"\xff\xd9")
    if kind == "PNG":
        return b"IEND" in tail
    if kind == "WEBP":
        return length >= int.from_bytes(head[4:8], "little") + 8
    return False


# Reading


class PictureSet:
    """The pictures of one domain, as loader processes read them.

    A file that goes bad during training is replaced by another one, reported and counted; too many end the run.

    Args:
        name: of the domain, for messages.
        paths: of the pictures, checked.
        seed: of the draws that replace bad files.
        max_bad_share: largest share of files that may go bad, rounded up to whole files.
        cache: keeps resized pictures.
    """

    def __init__(
        self,
        name: str,
        paths: Sequence[Path],
        *,
        seed: int = 0,
        max_bad_share: float = 0.05,
        cache: PictureCache | None = None,
    ) -> None:
        self.name = name
        self.paths = list(paths)
        self.seed = seed
        self.max_bad_share = max_bad_share
        self.cache = cache
        # In shared memory: all loader processes count together.
        self._bad = torch.zeros(len(self.paths), dtype=torch.bool).share_memory_()

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def went_bad(self) -> int:
        """How many files went bad since the check."""
        return int(self._bad.sum())

    def resized(self, index: int, transform: Transform, *moment: int | str) -> tuple[NDArray[np.uint8], Path]:
        """A picture after the fixed part of a transform, uint8 `h w c`, and the file it came from.

        Args:
            index: of the file.
            transform: its `resize` is applied.
            moment: whatever tells this call apart; another file is drawn from it when this one is bad.

        Raises:
            DataError: too many files went bad.
        """
        generator: np.random.Generator | None = None
        while True:
            try:
                return self.read(index, transform), self.paths[index]
            except BadPictureError:
                generator = generator or sample_generator(self.seed, index, self.name, "replacement", *moment)
                index = int(generator.integers(len(self.paths)))

    def read(self, index: int, transform: Transform) -> NDArray[np.uint8]:
        """A picture after the fixed part of a transform, uint8 `h w c`, with no other in its place.

        Args:
            index: of the file.
            transform: its `resize` is applied.

        Raises:
            BadPictureError: the file went bad, which is counted.
            DataError: too many files went bad.
        """
        path = self.paths[index]
        try:
            return self._read(path, transform)
        except BadPictureError as error:
            self._note(index, path, str(error))
            raise

    def sizes(self) -> list[int]:
        """Bytes of each file; -1 for one that is gone."""
        return [path.stat().st_size if path.exists() else -1 for path in self.paths]

    def decoded(self, path: Path) -> NDArray[np.uint8]:
        """A file as RGB, uint8 `h w 3`; BadPictureError says why not."""
        return decode(path)

    def _read(self, path: Path, transform: Transform) -> NDArray[np.uint8]:
        def make() -> NDArray[np.uint8]:
            picture = transform.resize(self.decoded(path))
            if transform.crops and min(picture.shape[:2]) < transform.size:
                raise BadPictureError(f"smaller than the crop of {transform.size} pixels")
            return picture

        return self.cache.picture(path, transform.fixed_settings, make) if self.cache else make()

    def _note(self, index: int, path: Path, reason: str) -> None:
        if not self._bad[index]:
            self._bad[index] = True
            if self.went_bad <= 5:
                more = "; further ones are counted in silence" if self.went_bad == 5 else ""
                print(
                    f"{self.name}: {path} went bad ({reason}), another takes its place{more}.",
                    file=sys.stderr,
                    flush=True,
                )
        if self.went_bad == len(self) or self.went_bad > allowed_bad(len(self), self.max_bad_share):
            raise DataError(
                f"{self.name}: {self.went_bad} of {len(self)} pictures went bad since the start, more than max_bad_share "
                f"{self.max_bad_share:g} allows; the last is {path} ({reason}). Is the disk still there? Mend them, then go "
                "on with --resume."
            )
