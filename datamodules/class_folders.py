"""Pictures in folders of one class each, `<root>/<folder>/<picture>`, with masks that lie in the same places below another root.

The layout of synImageNet291 and ImageNet291: folders are called `<index>_<kind>`, and in synImageNet291 pictures of one latent
vector have the same name in every folder.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from datamodules.cache import PictureCache
from datamodules.errors import DataError
from datamodules.folders import (
    Check,
    PictureSet,
    check_pictures,
    is_picture,
    missing_folder,
    name_bad,
    natural_key,
    naturally,
    per_folder,
    some_of,
)
from datamodules.preprocess import Transform
from datamodules.sampling import shuffled_index, to_chw
from datamodules.shards import ShardedPictures, Shards

_MANY = 20_000  # files whose check takes long enough (seconds) to be announced


def class_folders(root: str | Path, argument: str) -> list[Path]:
    """The folders below a root in natural order; what begins with a dot and `__MACOSX` are left out.

    Args:
        root: of the layout.
        argument: name of the argument that holds it, for messages.

    Raises:
        DataError: the root is missing or is not of this layout.
    """
    path = Path(root).expanduser().absolute()
    if not path.is_dir():
        raise DataError(missing_folder(path, argument))
    entries = [entry for entry in path.iterdir() if not entry.name.startswith(".") and entry.name != "__MACOSX"]
    folders = naturally(entry for entry in entries if entry.is_dir())
    if any(is_picture(entry.name) for folder in folders for entry in folder.iterdir()):
        return folders
    below = [folder for folder in folders if any(entry.is_dir() for entry in folder.iterdir())]
    below.sort(key=lambda folder: folder.name.lower() != "train")
    raise DataError(
        f"{argument}: {path} holds {some_of(sorted(entry.name for entry in entries))}; expected are folders of pictures, one "
        f"per class, such as {path.name}/7_bird/12.jpg. Type --data.{argument} {below[0] if below else 'FOLDER'}"
    )


def class_pictures(root: str | Path, argument: str, counts: int | Sequence[int] | None = None) -> dict[str, list[Path]]:
    """Pictures by name of their folder, all in natural order.

    Args:
        root: of the layout.
        argument: name of the argument that holds it, for messages.
        counts: how many of each folder, see `datamodules.folders.per_folder`.

    Raises:
        DataError: the root is missing or is not of this layout, or a folder holds no picture.
    """
    folders = class_folders(root, argument)
    found = {}
    for folder, count in zip(folders, per_folder(counts, len(folders), f"{argument}_counts"), strict=True):
        names = sorted(filter(is_picture, os.listdir(folder)), key=natural_key)  # noqa: PTH208 - names alone are quicker
        pictures = [folder / name for name in names[:count]]
        if not pictures:
            raise DataError(
                f"{argument}: the folder {folder} holds no picture, and the numbers of the classes follow from the folders. "
                "Put its pictures there, or take the folder away"
            )
        found[folder.name] = pictures
    return found


def linked(pictures: Mapping[str, Sequence[Path]], argument: str) -> list[str]:
    """The names that pictures of one latent vector share, in natural order.

    Args:
        pictures: by folder.
        argument: name of the argument that holds their root, for messages.

    Raises:
        DataError: a picture has no counterpart in some folder; the message names both files.
    """
    some = {path.name: path for paths in pictures.values() for path in paths}
    lost: list[tuple[str, str]] = []
    for folder, paths in pictures.items():
        lost += [(folder, name) for name in some.keys() - {path.name for path in paths}]
    if lost:
        folder, name = min(lost, key=lambda place: (natural_key(place[0]), natural_key(place[1])))
        there = some[name]
        raise DataError(
            f"{argument}: {there} has no counterpart {there.parent.parent / folder / name}, and {len(lost) - 1} more are "
            f"lacking; pictures of one latent vector have the same name in each of the {len(pictures)} folders. Complete the "
            "folders, or remove the name from all of them"
        )
    return sorted(some, key=natural_key)


def masks_of(pictures: Sequence[Path], masks: str | Path, argument: str) -> list[Path]:
    """The mask of each picture: at the same place below another root, with the extension `.jpg` (or else any other).

    Args:
        pictures: `<root>/<folder>/<picture>`.
        masks: the other root.
        argument: name of the argument that holds it, for messages.

    Raises:
        DataError: the root or a mask is missing; the message names picture and mask.
    """
    root = Path(masks).expanduser().absolute()
    if not root.is_dir():
        raise DataError(missing_folder(root, argument))
    found: dict[str, dict[str, Path]] = {}
    for folder in {path.parent.name for path in pictures}:
        below = root / folder
        names = sorted(os.listdir(below)) if below.is_dir() else []  # noqa: PTH208 - names alone are quicker
        names.sort(key=lambda name: name.endswith(".jpg"))  # of several with one stem, the last one stays: the .jpg
        found[folder] = {os.path.splitext(name)[0]: below / name for name in names if is_picture(name)}  # noqa: PTH122
    lost = [path for path in pictures if path.stem not in found[path.parent.name]]
    if lost:
        raise DataError(
            f"{argument}: {lost[0]} has no mask {root / lost[0].parent.name / lost[0].stem}.jpg, and {len(lost) - 1} more are "
            f"lacking. Put them there, or type --data.{argument} null to train without masks"
        )
    return [found[path.parent.name][path.stem] for path in pictures]


@dataclass(frozen=True)
class ReadOptions:
    """How pictures are checked and read; see `datamodules.unpaired.UnpairedFolders`. `shards` is where they lie in shards."""

    seed: int
    check: Check
    min_side: int
    max_bad_share: float
    cache: PictureCache | None
    quiet: bool
    shards: Shards | None = None


class ClassSet:
    """Checked pictures with the numbers of their classes and, where there are any, their masks.

    Attributes:
        pictures: the pictures.
        masks: their masks in the same order, or None.
        labels: (n) int64, the number of each picture's class.
        bad: reason by file that was left out; a picture goes with its mask.

    Args:
        argument: name of the argument that holds the root, for messages.
        pictures: by folder.
        labels: number of each folder's class.
        masks: root of the masks, or None.
        options: how to check and read.

    Raises:
        DataError: a mask is missing, or too many files are bad.
    """

    def __init__(
        self,
        argument: str,
        pictures: Mapping[str, Sequence[Path]],
        labels: Mapping[str, int],
        masks: str | None,
        options: ReadOptions,
    ) -> None:
        paths = [path for folder in pictures.values() for path in folder]
        good, self.bad = _checked(paths, argument, options, options.min_side)
        mask_of: dict[Path, Path] = {}
        if masks:
            mask_paths = masks_of(good, masks, f"{argument}_masks")
            good_masks, bad_masks = _checked(mask_paths, f"{argument}_masks", options, 1)
            self.bad |= bad_masks
            fine = set(good_masks)
            mask_of = {path: mask for path, mask in zip(good, mask_paths, strict=True) if mask in fine}
            good = list(mask_of)
        if self.bad and not options.quiet:
            count = len(paths) * (2 if masks else 1)
            print(f"{argument}: {len(self.bad)} of {count} files left out: {name_bad(self.bad)}", file=sys.stderr)

        self.shards = options.shards

        def picture_set(name: str, files: Sequence[Path], *, masks: bool = False) -> PictureSet:
            given: dict[str, Any] = {"seed": options.seed, "max_bad_share": options.max_bad_share}
            if self.shards:
                return ShardedPictures(self.shards, name, files, masks=masks, **given)
            return PictureSet(name, files, cache=options.cache, **given)

        self.pictures = picture_set(argument, good)
        self.masks = picture_set(f"{argument}_masks", list(mask_of.values())) if masks else None
        if self.shards and self.shards.has_masks:
            self.masks = picture_set(f"{argument}_masks", good, masks=True)
        self.labels: NDArray[np.int64] = np.array([labels[path.parent.name] for path in good], np.int64)

    def __len__(self) -> int:
        return len(self.pictures)

    def index_of(self, i: int, seed: int, stream: str) -> int:
        """The picture of sample `i`: a fresh permutation every epoch, of all pictures, or of those in a few shards at a time.

        Args:
            i: number of the sample.
            seed: of the order.
            stream: tells apart several orders of one seed.
        """
        if isinstance(self.pictures, ShardedPictures):
            return self.pictures.shuffled_index(i, seed, stream)
        return shuffled_index(seed, i, len(self), stream)

    @property
    def went_bad(self) -> int:
        """How many files went bad since the check."""
        return self.pictures.went_bad + (self.masks.went_bad if self.masks else 0)

    def read(self, index: int, transform: Transform, crop: tuple[int, int], flip: bool) -> list[Tensor]:
        """A picture and, where there are masks, its mask: prepared alike, uint8 3 h w.

        Args:
            index: of the picture.
            transform: prepares both.
            crop: left upper corner as (left, top).
            flip: mirror left and right.

        Raises:
            BadPictureError: a file went bad, which is counted.
            DataError: too many files went bad.
        """
        sets = [self.pictures, self.masks] if self.masks else [self.pictures]
        return [to_chw(transform.finish(files.read(index, transform), crop, flip)) for files in sets]


class LinkedSet(ClassSet):
    """A `ClassSet` whose pictures share names from folder to folder, one name per latent vector.

    Attributes:
        names: the shared names in natural order.
    """

    def __init__(
        self,
        argument: str,
        pictures: Mapping[str, Sequence[Path]],
        labels: Mapping[str, int],
        masks: str | None,
        options: ReadOptions,
    ) -> None:
        self.names = linked(pictures, argument)
        super().__init__(argument, pictures, labels, masks, options)
        folder_numbers = {folder: number for number, folder in enumerate(pictures)}
        name_numbers = {name: number for number, name in enumerate(self.names)}
        self._folder = np.array([folder_numbers[path.parent.name] for path in self.pictures.paths])
        self._name = np.array([name_numbers[path.name] for path in self.pictures.paths])
        self._places = np.full((len(folder_numbers), len(name_numbers)), -1)
        self._places[self._folder, self._name] = np.arange(len(self))

    def counterpart(self, index: int, other: int) -> int | None:
        """The picture of the same latent vector as `index` in the folder of `other`; None where it was left out."""
        place = int(self._places[self._folder[other], self._name[index]])
        return None if place < 0 else place


def _checked(
    paths: Sequence[Path], argument: str, options: ReadOptions, min_side: int
) -> tuple[list[Path], dict[Path, str]]:
    if len(paths) > _MANY and options.check != "none" and not options.quiet:
        print(f"{argument}: checking {len(paths):,} files (--data.check none skips this) ...", file=sys.stderr)
    checked = check_pictures(
        paths,
        argument,
        check=options.check,
        min_side=min_side,
        max_bad_share=options.max_bad_share,
        cache=options.cache,
    )
    return checked.good, checked.bad
