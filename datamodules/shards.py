"""Pictures of the layout of `datamodules.class_folders` in a few large files: shards.

Shards are tar files in WebDataset's form, so its pipelines read them as well. Beside them lies an index of what is where. With it any
picture is one read of one file, sample i stays a pure function of (seed, i), and a training resumes exactly; a pipeline
that shuffles what flows by cannot promise that. So that a slow disk or a mounted bucket is read from one end to the other, an epoch
visits the shards in a fresh order and shuffles the pictures of a few shards at a time.

`python -m datamodules.pack_shards` writes them.
"""

import os
from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError
from datamodules.folders import PictureSet, per_folder
from datamodules.pictures import BadPictureError, decode
from datamodules.sampling import epoch_order

INDEX = "shards.npz"
WINDOW = 8
"""Shards whose pictures are shuffled together."""
_FIELDS = ("files", "folders", "names", "folder", "name", "shard", "offset", "length", "mask_offset", "mask_length")


class Shards:
    """What lies where in the shards of a folder.

    Attributes:
        root: their folder.
        files: their names.
        folders: names of the classes' folders in natural order.
        folder, name: (n) of each picture: numbers of its folder and its file's name.
        shard, offset, length: (n) of each picture: its shard, where its bytes begin and how many they are.
        mask_offset, mask_length: (n) likewise of its mask, in the same shard; empty where there are no masks.

    Args:
        root: the folder.
        argument: name of the argument that holds it, for messages.

    Raises:
        DataError: the index cannot be read, or a shard is missing or of another size.
    """

    def __init__(self, root: Path, argument: str) -> None:
        self.root = root
        try:
            with np.load(root / INDEX, allow_pickle=False) as content:
                found = {field: content[field] for field in _FIELDS}
                sizes = content["sizes"].tolist()
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"{argument}: the index {root / INDEX} cannot be read ({error}). Pack the shards again: "
                "python -m datamodules.pack_shards"
            ) from error
        self.files: list[str] = found["files"].tolist()
        self.folders: list[str] = found["folders"].tolist()
        self._names: list[str] = found["names"].tolist()
        self.folder, self.name, self.shard = (found[field] for field in ("folder", "name", "shard"))
        self.offset, self.length = found["offset"], found["length"]
        self.mask_offset, self.mask_length = found["mask_offset"], found["mask_length"]
        for file, size in zip(self.files, sizes, strict=True):
            path = root / file
            there = path.stat().st_size if path.is_file() else -1
            if there != size:
                what = "is not there" if there < 0 else f"has {there:,} bytes in place of {size:,}"
                raise DataError(
                    f"{argument}: the shard {path} {what}. Copy it again, or pack the shards again: python -m datamodules.pack_shards"
                )

    @property
    def has_masks(self) -> bool:
        """Whether each picture has its mask in the shards."""
        return len(self.mask_offset) > 0

    @cached_property
    def places(self) -> dict[Path, int]:
        """The number of each picture by its path."""
        return {self._path(place): place for place in range(len(self.folder))}

    def _path(self, place: int) -> Path:
        """Where a picture would lie if it were a file: shards keep the names of the folders that they were packed from."""
        return self.root / self.folders[self.folder[place]] / self._names[self.name[place]]

    def by_folder(self, counts: int | Sequence[int] | None, argument: str) -> dict[str, list[Path]]:
        """Pictures by name of their folder, as `class_pictures` gives them; the paths are names, no files.

        Args:
            counts: how many of each folder, see `datamodules.folders.per_folder`.
            argument: name of the argument that holds the root, for messages.
        """
        wanted = per_folder(counts, len(self.folders), f"{argument}_counts")
        found = {}
        for number, (folder, count) in enumerate(zip(self.folders, wanted, strict=True)):
            places = np.flatnonzero(self.folder == number)
            places = places[np.argsort(self.name[places])][:count]
            found[folder] = [self._path(int(place)) for place in places]
        return found


class ShardedPictures(PictureSet):
    """Pictures, or masks, that lie in shards; see `PictureSet`.

    Args:
        shards: where they lie.
        name: of the domain, for messages.
        paths: of `Shards.by_folder`.
        masks: whether the masks are meant.
        options: of `PictureSet`; without a cache, which is another way to the same end.
    """

    def __init__(self, shards: Shards, name: str, paths: Sequence[Path], *, masks: bool, **options: Any) -> None:
        super().__init__(name, paths, **options)
        self.shards = shards
        self._places = np.array([shards.places[path] for path in self.paths])
        self._offset = (shards.mask_offset if masks else shards.offset)[self._places]
        self._length = (shards.mask_length if masks else shards.length)[self._places]
        self._shard = shards.shard[self._places]
        self._groups = [np.flatnonzero(self._shard == number) for number in np.unique(self._shard)]
        self._index = {path: index for index, path in enumerate(self.paths)}

    def sizes(self) -> list[int]:
        """Bytes of each picture."""
        return [int(length) for length in self._length]

    def decoded(self, path: Path) -> NDArray[np.uint8]:
        """A picture as RGB, uint8 `h w 3`; BadPictureError says why not."""
        index = self._index[path]
        shard, length = self.shards.root / self.shards.files[self._shard[index]], int(self._length[index])
        try:
            with shard.open("rb", buffering=0) as file:
                content = os.pread(file.fileno(), length, int(self._offset[index]))
        except OSError as error:
            raise BadPictureError(f"{shard.name} cannot be read: {error.strerror}") from error
        if len(content) != length:
            raise BadPictureError(f"{shard.name} ends in the middle of it")
        return decode(path, content=content)

    def shuffled_index(self, i: int, seed: int, stream: str, window: int = WINDOW) -> int:
        """Which picture sample `i` is: every epoch visits each once, those of a few shards together.

        Args:
            i: number of the sample.
            seed: of the order.
            stream: tells apart several orders of one seed.
            window: shards whose pictures are shuffled together.
        """
        epoch, position = divmod(i, len(self))
        order = epoch_order(seed, epoch, len(self._groups), stream, "shards")
        shares = [order[at : at + window] for at in range(0, len(order), window)]
        ends = list(accumulate(sum(len(self._groups[group]) for group in share) for share in shares))
        number = bisect_right(ends, position)
        members = np.concatenate([self._groups[group] for group in shares[number]])
        inside = epoch_order(seed, epoch, len(members), stream, f"window {number}")
        return int(members[inside[position - (ends[number] - len(members))]])


def find_shards(root: str | Path, argument: str) -> Shards | None:
    """The shards of a folder, or None where it holds none.

    Args:
        root: the folder.
        argument: name of the argument that holds it, for messages.

    Raises:
        DataError: there are shards, but they are not whole.
    """
    path = Path(root).expanduser().absolute()
    return Shards(path, argument) if (path / INDEX).is_file() else None
