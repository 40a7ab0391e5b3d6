"""Packs pictures of the layout of synImageNet291 into shards that `datamodules.BigGANPairs` reads.

    python -m datamodules.pack_shards PICTURES [--masks MASKS] --to FOLDER [--unlinked] [--per_shard 4000]

Millions of small files are slow on network disks; a shard is one large file. Pictures are packed as they are, byte for byte, each
with its mask; those of one latent vector lie in the same shard, so that a pair comes from one file. --unlinked is for real pictures,
whose names mean nothing: they are dealt out in turn, and each shard has some of all classes. The shards are tar files in WebDataset's form.
Needs `pip install 'translation-zoo[streaming]'`.
"""

import argparse
import os
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.class_folders import class_pictures, linked, masks_of
from datamodules.errors import DataError
from datamodules.folders import check_pictures, name_bad, natural_key
from datamodules.shards import INDEX

PER_SHARD = 4000


def groups_of(pictures: dict[str, list[Path]], per_shard: int, *, is_linked: bool) -> list[list[Path]]:
    """What goes into each shard.

    Args:
        pictures: by folder.
        per_shard: about how many.
        is_linked: keep pictures of one name together; else deal them out.
    """
    everything = [path for paths in pictures.values() for path in paths]
    count = max(1, round(len(everything) / per_shard))
    if not is_linked:
        return [everything[number::count] for number in range(min(count, len(everything)))]
    names = linked(pictures, "PICTURES")
    by_name: dict[str, list[Path]] = {name: [] for name in names}
    for path in everything:
        by_name[path.name].append(path)
    count = min(count, len(names))
    return [[path for name in names[number::count] for path in by_name[name]] for number in range(count)]


def pack(
    pictures: str | Path,
    to: str | Path,
    *,
    masks: str | Path | None = None,
    is_linked: bool = True,
    per_shard: int = PER_SHARD,
) -> dict[Path, str]:
    """Write shards and their index.

    Args:
        pictures: root of the pictures, a folder per class.
        to: a folder that holds no shards yet.
        masks: root of their masks.
        is_linked: pictures share names from folder to folder, and stay together.
        per_shard: about how many pictures go into a shard.

    Returns:
        Reason by file that was left out; a picture goes with its mask.

    Raises:
        DataError: the pictures are of another layout, a mask is missing, there are shards already, or webdataset is not installed.
    """
    try:
        from webdataset import TarWriter
    except ModuleNotFoundError as error:
        raise DataError("webdataset is not installed: pip install 'translation-zoo[streaming]'") from error
    folder = Path(to).expanduser().absolute()
    if per_shard < 1:
        raise DataError(f"per_shard is {per_shard}; it must be at least 1: --per_shard {PER_SHARD}")
    if (folder / INDEX).exists():
        raise DataError(f"{folder} holds shards already. Choose another folder, or remove it: --to FOLDER")
    found = class_pictures(pictures, "PICTURES")
    everything = [path for paths in found.values() for path in paths]
    checked = check_pictures(everything, "PICTURES", max_bad_share=0.05)
    bad = dict(checked.bad)
    mask_of: dict[Path, Path] = {}
    if masks is not None:
        mask_of = dict(zip(checked.good, masks_of(checked.good, masks, "masks"), strict=True))
        bad_masks = check_pictures(list(mask_of.values()), "masks", min_side=1, max_bad_share=0.05).bad
        bad |= {path: f"its mask: {bad_masks[mask]}" for path, mask in mask_of.items() if mask in bad_masks}
    folder.mkdir(parents=True, exist_ok=True)
    groups = groups_of(found, per_shard, is_linked=is_linked)
    digits = len(str(len(groups) - 1))
    places: dict[tuple[str, str], tuple[int, int, int]] = {}
    shards: list[Path] = []
    for number, group in enumerate(groups):
        shard = folder / f"shard-{number:0{max(6, digits)}d}.tar"
        with TarWriter(str(shard), encoder=False, mtime=0) as writer:
            for path in group:
                if path in bad:
                    continue
                # WebDataset's keys end at the first dot of a name.
                key = f"{path.parent.name}/{path.name}".replace(".", "_")
                sample: dict[str, Any] = {"__key__": key, path.suffix.lower().lstrip("."): path.read_bytes()}
                if masks is not None:
                    sample["mask" + mask_of[path].suffix.lower()] = mask_of[path].read_bytes()
                writer.write(sample)
        shards.append(shard)
        with tarfile.open(shard) as written:
            for member in written:
                key, _, kind = member.name.partition(".")
                place = key, "mask" if kind.startswith("mask.") else ""
                if place in places:
                    raise DataError(
                        f"Two pictures would be called {key} in the shards, where dots become underscores. Rename one."
                    )
                places[place] = (number, member.offset_data, member.size)
    _write_index(folder, shards, [path for path in everything if path not in bad], places, has_masks=masks is not None)
    return bad


def _write_index(
    folder: Path,
    shards: Sequence[Path],
    pictures: Sequence[Path],
    places: dict[tuple[str, str], tuple[int, int, int]],
    *,
    has_masks: bool,
) -> None:
    folders = sorted({path.parent.name for path in pictures}, key=natural_key)
    names = sorted({path.name for path in pictures}, key=natural_key)
    folder_numbers, name_numbers = ({name: number for number, name in enumerate(of)} for of in (folders, names))
    keys = [f"{path.parent.name}/{path.name}".replace(".", "_") for path in pictures]
    found = np.array([places[key, ""] for key in keys], np.int64).reshape(-1, 3)
    masks = np.array([places[key, "mask"][1:] for key in keys] if has_masks else [], np.int64).reshape(-1, 2)
    temporary = folder / f".{INDEX}.{os.getpid()}.npz"
    np.savez(
        temporary,
        files=np.array([shard.name for shard in shards]),
        sizes=np.array([shard.stat().st_size for shard in shards]),
        folders=np.array(folders),
        names=np.array(names),
        folder=np.array([folder_numbers[path.parent.name] for path in pictures]),
        name=np.array([name_numbers[path.name] for path in pictures]),
        shard=found[:, 0],
        offset=found[:, 1],
        length=found[:, 2],
        mask_offset=masks[:, 0],
        mask_length=masks[:, 1],
    )
    temporary.replace(folder / INDEX)  # last: shards without an index are none


def main(words: list[str] | None = None) -> int:
    """Pack, and say what was packed; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m datamodules.pack_shards",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("pictures", metavar="PICTURES", help="root of the pictures, a folder per class")
    parser.add_argument("--masks", help="root of their masks")
    parser.add_argument("--to", required=True, help="where shards and index go")
    parser.add_argument("--unlinked", action="store_true", help="names mean nothing: real pictures")
    parser.add_argument("--per_shard", type=int, default=PER_SHARD, help=f"pictures in a shard (default: {PER_SHARD})")
    options = parser.parse_args(words)
    try:
        bad = pack(
            options.pictures,
            options.to,
            masks=options.masks,
            is_linked=not options.unlinked,
            per_shard=options.per_shard,
        )
    except DataError as error:
        print(f"pack_shards: {error}", file=sys.stderr)
        return 2
    shards = sorted(Path(options.to).glob("*.tar"))
    print(f"{len(shards)} shards of {sum(shard.stat().st_size for shard in shards) / 1e6:,.0f} MB in {options.to}")
    if bad:
        print(f"left out: {len(bad)}: {name_bad(bad)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
