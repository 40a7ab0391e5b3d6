"""The registry of published and shipped files: `zoo/weights/<paper>.yaml`, read without PyTorch.

An entry says what a file is, where it can be had, how its bytes are known, what its use is bound to, and, where it holds a
whole model, which room it fills and how. What nobody measured is null, and is said so wherever the entry is shown.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import yaml

from zoo.errors import ZooError

CATALOGUE = Path(__file__).parent
GOOGLE_DRIVE = (
    "https://drive.usercontent.google.com/download?id={}&export=download&confirm=t"  # without asking about viruses
)
GOOGLE_DRIVE_PAGE = "https://drive.google.com/file/d/{}/view"
HUGGING_FACE = "https://huggingface.co/{}/resolve/main/{}"
MIRRORS = "ZOO_MIRROR"
"""Environment variable: links, separated by spaces, of served copies of $ZOO_HOME, asked in place of the publishers."""


@dataclass(frozen=True)
class WeightFile:
    """One published file.

    Args:
        name: what `fetch` calls it.
        file: its name on disk.
        urls: where it can be had, tried in turn; may be empty for a file on Google Drive or the Hugging Face hub.
        size: bytes; None where unknown.
        sha256: 64 hex digits, or None where the publisher gives none: then the first file seen is pinned.
        licence: what its use is bound to.
        source: the page that describes it.
        description: what it is, in one line.
        sha256_prefix: the first digits, where these alone are known (torchvision writes eight into its file names).
        google_drive: id of the file on Google Drive, tried after `urls`.
        hugging_face: `owner/name/path/of/file` on the Hugging Face hub, tried after `urls`.
        md5: 32 hex digits, where the publisher gives these; checked beside what is known of the SHA-256.
        unencrypted: whether `urls` may be http links, because the publisher has no others.
        room: the room that the file holds a model of; empty for parts of one, for experts and for data.
        converter: the layout of the file, a name of `zoo.weights.official.LAYOUTS`; found by the file's keys where empty.
        arguments: of the room's constructor, beside those that the file's keys and shapes speak of.
        task: what the model was trained for, such as `horse to zebra`.
        image_size: side of the pictures that it was trained on; None where unknown or any.
        image_range: of the pictures that it takes and gives.
        published: figures that the authors published for this very file.
        reproduced: figures that this project measured with this very file.
        seen: whether this project ever held the real file; converters of others were tested on files built in their layout.
    """

    name: str
    file: str
    urls: tuple[str, ...]
    size: int | None
    sha256: str | None
    licence: str
    source: str
    description: str
    sha256_prefix: str = ""
    google_drive: str = ""
    hugging_face: str = ""
    md5: str = ""
    unencrypted: bool = False
    room: str = ""
    converter: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    task: str = ""
    image_size: int | None = None
    image_range: tuple[float, float] = (-1.0, 1.0)
    published: Mapping[str, Any] = field(default_factory=dict)
    reproduced: Mapping[str, Any] = field(default_factory=dict)
    seen: bool = False

    @property
    def links(self) -> tuple[str, ...]:
        """Where the bytes can be had, in turn."""
        found = list(self.urls)
        if self.google_drive:
            found.append(GOOGLE_DRIVE.format(self.google_drive))
        if self.hugging_face:
            owner, name, path = self.hugging_face.split("/", 2)
            found.append(HUGGING_FACE.format(f"{owner}/{name}", quote(path)))
        return tuple(found)

    @property
    def page(self) -> str:
        """What a person opens to get it."""
        if self.urls or not self.google_drive:
            return self.links[0]
        return GOOGLE_DRIVE_PAGE.format(self.google_drive)

    @property
    def expected(self) -> str:
        """The digest in words for a message."""
        if self.sha256:
            return f"SHA-256 {self.sha256}"
        if self.sha256_prefix:
            return f"SHA-256 {self.sha256_prefix}..."
        return f"MD5 {self.md5}" if self.md5 else "SHA-256 not published"

    @property
    def state(self) -> str:
        """How much is known of the file's bytes, in words."""
        if self.sha256 or self.md5:
            known = "digest known"
        elif self.sha256_prefix:
            known = "first digits of the digest known"
        else:
            known = "digest not verified: pinned when first fetched"
        return known if self.seen else f"{known}; the real file was never seen here"

    def fault(self, size: int, sha256: str, pinned: str | None, md5: str = "") -> str | None:
        """Say what is wrong with a file of this size and these digests, or None; an empty MD5 is not looked at."""
        if self.size is not None and size != self.size:
            return f"it has {size:,} bytes instead of {self.size:,}"
        if not sha256.startswith(self.sha256 or self.sha256_prefix):
            return f"its SHA-256 is {sha256}, expected was {self.expected}"
        if md5 and self.md5 and md5 != self.md5:
            return f"its MD5 is {md5}, expected was MD5 {self.md5}"
        if not self.sha256 and pinned and sha256 != pinned:
            return f"its SHA-256 is {sha256}, but {pinned} was pinned when it was first seen"
        return None


def home() -> Path:
    """The folder of everything downloaded: $ZOO_HOME, $XDG_CACHE_HOME/translation-zoo or ~/.cache/translation-zoo."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("ZOO_HOME") or cache / "translation-zoo").expanduser()


def weights_folder() -> Path:
    """The folder of downloaded weights: `weights` in $ZOO_HOME, $XDG_CACHE_HOME/translation-zoo or ~/.cache/..."""
    return home() / "weights"


def is_offline() -> bool:
    """Whether `ZOO_OFFLINE` forbids the network."""
    return os.environ.get("ZOO_OFFLINE", "0") not in ("", "0")


def mirrors(kind: str, file: str) -> tuple[str, ...]:
    """Where `ZOO_MIRROR` has a file of a kind (`weights` or `data`); empty where no mirror is set.

    Raises:
        ZooError: a mirror is no link.
    """
    found = os.environ.get(MIRRORS, "").split()
    for mirror in found:
        if urlsplit(mirror).scheme not in ("http", "https") or not urlsplit(mirror).netloc:
            raise ZooError(f"{MIRRORS} names {mirror!r}, which is no link. Expected: {MIRRORS}=https://host/folder")
    return tuple(f"{mirror.rstrip('/')}/{kind}/{quote(file)}" for mirror in found)


def read_catalogue(folder: Path = CATALOGUE) -> dict[str, WeightFile]:
    """Read every `*.yaml` of a folder: published files by name.

    Raises:
        ZooError: an entry lacks a field, has one too many, or asks for a link that is neither https nor this machine.
    """
    catalogue: dict[str, WeightFile] = {}
    for path in sorted(folder.glob("*.yaml")):
        for name, given in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            if name in catalogue:
                raise ZooError(f"{path}: the name {name!r} is taken by another entry.")
            catalogue[name] = read_entry(name, given, f"{path}, entry {name!r}")
    return catalogue


def read_entry(name: str, given: Mapping[str, Any], where: str) -> WeightFile:
    """Make an entry of what a YAML file says.

    Args:
        name: of the entry.
        given: its fields.
        where: file and entry, for messages.

    Raises:
        ZooError: see `read_catalogue`.
    """
    values = {**given, "urls": tuple(given.get("urls", ()))}
    if "image_range" in values:
        values["image_range"] = tuple(values["image_range"])
    try:
        entry = WeightFile(name=name, **values)
    except TypeError as error:
        known = {item.name for item in fields(WeightFile)}
        near = [get_close_matches(key, known, n=1) for key in given if key not in known]
        hint = f" Did you mean {near[0][0]!r}?" if near and near[0] else ""
        raise ZooError(f"{where}: {error}.{hint} See zoo.weights.catalogue.WeightFile.") from error
    if Path(entry.file).name != entry.file or entry.file.startswith("."):
        raise ZooError(f"{where}: file is {entry.file!r}; expected was a plain name.")
    if entry.sha256 is not None and not re.fullmatch("[0-9a-f]{64}", entry.sha256):
        raise ZooError(f"{where}: sha256 is not 64 lower-case hex digits, nor null.")
    if entry.md5 and not re.fullmatch("[0-9a-f]{32}", entry.md5):
        raise ZooError(f"{where}: md5 is not 32 lower-case hex digits.")
    if entry.hugging_face and entry.hugging_face.count("/") < 2:
        raise ZooError(f"{where}: hugging_face is {entry.hugging_face!r}; expected was owner/name/file.")
    if not entry.links:
        raise ZooError(f"{where}: it has neither urls nor google_drive nor hugging_face.")
    for url in entry.links:
        parts = urlsplit(url)
        if parts.scheme == "http" and (entry.unencrypted or parts.hostname == "127.0.0.1"):
            continue
        if parts.scheme != "https":
            raise ZooError(f"{where}: {url} is not an https link.")
    return entry


def plain(name: str) -> str:
    """A name without what people spell in several ways: `gpunit-Cat2Dog` is `gpunit_cat2dog`."""
    return name.lower().replace("-", "_")


def find_entry(name: str, catalogue: Mapping[str, WeightFile] | None = None) -> WeightFile:
    """Return the catalogue's entry of a name, spelled with `_` or `-`; the zoo's own catalogue by default.

    Raises:
        ZooError: no such entry; the message says what is near.
    """
    catalogue = read_catalogue() if catalogue is None else catalogue
    spelled = {plain(known): known for known in catalogue}
    if plain(name) not in spelled:
        near = get_close_matches(plain(name), spelled, n=1)
        hint = f"Did you mean {spelled[near[0]]!r}?" if near else f"There are: {', '.join(sorted(catalogue))}."
        raise ZooError(f"No published weights are called {name!r}. {hint}")
    return catalogue[spelled[plain(name)]]
