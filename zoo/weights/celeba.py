"""CelebA's faces sorted into two domains by one of their 40 attributes, in the official split; no byte is copied where links do."""

import os
import secrets
import shutil
from difflib import get_close_matches
from pathlib import Path

from zoo.errors import ZooError

PICTURES, ATTRIBUTES, PARTITION = "img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt"
SPLITS = {"0": "train", "1": "val", "2": "test"}
DOMAINS = {"1": "with", "-1": "without"}


def split_by_attribute(celeba: Path, attribute: str) -> Path:
    """Sort the faces: `<celeba>/<attribute>/{train,val,test}/{with,without}/<picture>`; what is there already stays.

    `list_attr_celeba.txt` has the number of pictures, then the attributes' names, then a line per picture: its name and 1 or -1 for
    each attribute. `list_eval_partition.txt` has a line per picture: its name and 0, 1 or 2 for train, val and test.

    Args:
        celeba: the folder with `img_align_celeba` and the two lists.
        attribute: such as `Blond_Hair`.

    Returns:
        The folder that was made.

    Raises:
        ZooError: there is no such attribute, or a list is not as described.
    """
    lines = (celeba / ATTRIBUTES).read_text(encoding="utf-8").splitlines()
    names = lines[1].split() if len(lines) > 1 else []
    if attribute not in names:
        near = get_close_matches(attribute, names, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(names)}."
        raise ZooError(f"CelebA has no attribute {attribute!r}. {hint}")
    folder = celeba / attribute
    if folder.is_dir():
        return folder
    column = 1 + names.index(attribute)
    splits = dict(line.split()[:2] for line in (celeba / PARTITION).read_text(encoding="utf-8").splitlines() if line)
    bench = celeba / f".{attribute}.{secrets.token_hex(4)}"
    try:
        for split in SPLITS.values():
            for domain in DOMAINS.values():
                (bench / split / domain).mkdir(parents=True)
        for line in filter(None, lines[2:]):
            words = line.split()
            known = len(words) == len(names) + 1 and words[column] in DOMAINS and splits.get(words[0]) in SPLITS
            if not known or Path(words[0]).name != words[0]:
                raise ZooError(
                    f"{celeba / ATTRIBUTES}: {line[:60]!r} is not a picture of the split and its {len(names)} attributes."
                )
            place = bench / SPLITS[splits[words[0]]] / DOMAINS[words[column]] / words[0]
            _link(celeba / PICTURES / words[0], place)
        bench.rename(folder)
    finally:
        shutil.rmtree(bench, ignore_errors=True)
    return folder


def _link(source: Path, place: Path) -> None:
    try:
        os.link(source, place)
    except FileNotFoundError as error:
        raise ZooError(f"There is no {source}, which the lists name. Fetch CelebA again.") from error
    except OSError:  # a file system without links, or another one
        shutil.copyfile(source, place)
