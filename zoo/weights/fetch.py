"""`fetch("vgg19")` gives the path of a published file: downloaded once, checked against its SHA-256, kept for good.

Files live in `$ZOO_HOME/weights` (by default `~/.cache/translation-zoo/weights`), where a person may also put them by
hand. Beside each stands `<file>.pin.json`: the digest that was seen, and the size and time of the file that had it, so
that half a gigabyte is hashed once and not at every start. A file whose publisher gives no digest is pinned to the first
one seen: if the file behind the link is changed later, the new one is refused. Files on Google Drive are fetched like any
other; where Google refuses (too many downloads lately), the message says which page to open and where to put what it
gives. `ZOO_OFFLINE=1` forbids the network.
"""

import hashlib
import http.client
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import yaml
from tqdm import tqdm

from zoo.core.files import lock_file, sha256_of, write_atomically
from zoo.errors import ZooError

CATALOGUE = Path(__file__).parent
TIMEOUT = 30.0  # seconds without a sign of life from a server
LONGEST_DOWNLOAD = 6 * 3600.0  # seconds that a second process waits for the first one's download
PIECE = 1 << 20
GOOGLE_DRIVE = (
    "https://drive.usercontent.google.com/download?id={}&export=download&confirm=t"  # without asking about viruses
)
GOOGLE_DRIVE_PAGE = "https://drive.google.com/file/d/{}/view"


@dataclass(frozen=True)
class WeightFile:
    """One published file.

    Args:
        name: what `fetch` calls it.
        file: its name on disk.
        urls: where it can be had, tried in turn; may be empty for a file on Google Drive.
        size: bytes; None where unknown.
        sha256: 64 hex digits, or None where the publisher gives none: then the first file seen is pinned.
        licence: what its use is bound to.
        source: the page that describes it.
        description: what it is, in one line.
        sha256_prefix: the first digits, where these alone are known (torchvision writes eight into its file names).
        google_drive: id of the file on Google Drive, tried after `urls`.
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

    @property
    def links(self) -> tuple[str, ...]:
        """Where the bytes can be had, in turn."""
        return (*self.urls, GOOGLE_DRIVE.format(self.google_drive)) if self.google_drive else self.urls

    @property
    def page(self) -> str:
        """What a person opens to get it."""
        return self.urls[0] if self.urls else GOOGLE_DRIVE_PAGE.format(self.google_drive)

    @property
    def expected(self) -> str:
        """The digest in words for a message."""
        if self.sha256:
            return f"SHA-256 {self.sha256}"
        return f"SHA-256 {self.sha256_prefix}..." if self.sha256_prefix else "SHA-256 not published"

    def fault(self, size: int, sha256: str, pinned: str | None) -> str | None:
        """Say what is wrong with a file of this size and digest, or None."""
        if self.size is not None and size != self.size:
            return f"it has {size:,} bytes instead of {self.size:,}"
        if not sha256.startswith(self.sha256 or self.sha256_prefix):
            return f"its SHA-256 is {sha256}, expected was {self.expected}"
        if not self.sha256 and pinned and sha256 != pinned:
            return f"its SHA-256 is {sha256}, but {pinned} was pinned when it was first seen"
        return None


class _RefusalError(Exception):
    """A mirror did not give the file; the message says why."""


def weights_folder() -> Path:
    """Return the folder of downloaded files: `weights` in $ZOO_HOME, $XDG_CACHE_HOME/translation-zoo or ~/.cache/..."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("ZOO_HOME") or cache / "translation-zoo").expanduser() / "weights"


def read_catalogue(folder: Path = CATALOGUE) -> dict[str, WeightFile]:
    """Read every `*.yaml` of a folder: published files by name.

    Raises:
        ZooError: an entry lacks a field, has one too many, or asks for a link that is neither https nor this machine.
    """
    catalogue: dict[str, WeightFile] = {}
    for path in sorted(folder.glob("*.yaml")):
        for name, fields in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            try:
                entry = WeightFile(name=name, **{**fields, "urls": tuple(fields.get("urls", ()))})
            except TypeError as error:
                raise ZooError(f"{path}, entry {name!r}: {error}. See zoo.weights.fetch.WeightFile.") from error
            if entry.sha256 is not None and not re.fullmatch("[0-9a-f]{64}", entry.sha256):
                raise ZooError(f"{path}, entry {name!r}: sha256 is not 64 lower-case hex digits, nor null.")
            if not entry.links:
                raise ZooError(f"{path}, entry {name!r}: it has neither urls nor google_drive.")
            for url in entry.links:
                parts = urlsplit(url)
                if parts.scheme != "https" and (parts.scheme, parts.hostname) != ("http", "127.0.0.1"):
                    raise ZooError(f"{path}, entry {name!r}: {url} is not an https link.")
            if name in catalogue:
                raise ZooError(f"{path}: the name {name!r} is taken by another entry.")
            catalogue[name] = entry
    return catalogue


def find_entry(name: str, catalogue: Mapping[str, WeightFile] | None = None) -> WeightFile:
    """Return the catalogue's entry of a name; the zoo's own catalogue by default.

    Raises:
        ZooError: no such entry; the message says what is near.
    """
    catalogue = read_catalogue() if catalogue is None else catalogue
    if name not in catalogue:
        near = get_close_matches(name, catalogue, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(sorted(catalogue))}."
        raise ZooError(f"No published weights are called {name!r}. {hint}")
    return catalogue[name]


def is_offline() -> bool:
    """Whether `ZOO_OFFLINE` forbids the network."""
    return os.environ.get("ZOO_OFFLINE", "0") not in ("", "0")


def fetch(name: str, catalogue: Mapping[str, WeightFile] | None = None) -> Path:
    """Return the path of a published file, downloading it when it is not there yet.

    Several processes may ask at once: one downloads, the others wait. The file appears under its name only when whole
    and checked.

    Args:
        name: the entry's name, such as "vgg19".
        catalogue: entries by name; the zoo's own by default.

    Raises:
        ZooError: no such entry; no network and no file (the message says what to put where); the file is wrong.
    """
    entry = find_entry(name, catalogue)
    path = weights_folder() / entry.file
    if _is_known_good(entry, path):
        return path
    with lock_file(
        path.with_name(f".{entry.file}.lock"), protects=f"the download of {entry.file}", wait=LONGEST_DOWNLOAD
    ):
        if _is_known_good(entry, path):  # another process fetched it meanwhile
            return path
        if path.exists():
            _check_found(entry, path)
        elif is_offline():
            raise _by_hand(entry, path, "ZOO_OFFLINE forbids the network")
        else:
            _download(entry, path)
    return path


def _pin_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.pin.json")


def _read_pin(path: Path) -> dict[str, str | int]:
    try:
        pin = json.loads(_pin_path(path).read_text(encoding="utf-8"))
        return {"sha256": str(pin["sha256"]), "size": int(pin["size"]), "mtime_ns": int(pin["mtime_ns"])}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError) as error:
        raise ZooError(f"{_pin_path(path)} is damaged ({error}). Delete it, then run the command again.") from error


def _pinned(path: Path) -> str | None:
    digest = _read_pin(path).get("sha256")
    return None if digest is None else str(digest)


def _pin(entry: WeightFile, path: Path, sha256: str) -> None:
    if not entry.sha256 and not _pinned(path):
        print(f"{entry.file}: not verified, no full digest is published; pinned to SHA-256 {sha256}", file=sys.stderr)
    status = path.stat()
    record = {"sha256": sha256, "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    write_atomically(_pin_path(path), (json.dumps(record, indent=2) + "\n").encode())


def _is_known_good(entry: WeightFile, path: Path) -> bool:
    if not path.is_file():
        return False
    pin, status = _read_pin(path), path.stat()
    if (pin.get("size"), pin.get("mtime_ns")) != (status.st_size, status.st_mtime_ns):
        return False
    return entry.fault(status.st_size, str(pin["sha256"]), None) is None


def _check_found(entry: WeightFile, path: Path) -> None:
    sha256 = sha256_of(path)
    if fault := entry.fault(path.stat().st_size, sha256, _pinned(path)):
        raise ZooError(
            f"{path} is not {entry.name}: {fault}. Delete it to have it downloaded again.{_trust(entry, path)}"
        )
    _pin(entry, path, sha256)


def _trust(entry: WeightFile, path: Path) -> str:
    if entry.sha256 or not _pinned(path):
        return ""
    return f" If you know that its publisher changed it, delete {_pin_path(path)} as well."


def _download(entry: WeightFile, path: Path) -> None:
    for stale in path.parent.glob(f".{entry.file}.????????.part"):  # of a killed process: the lock is ours now
        stale.unlink()
    refusals = []
    for url in entry.links:
        try:
            return _pin(entry, path, _download_from(url, entry, path))
        except _RefusalError as refused:
            refusals.append(f"{url}: {refused}")
    raise _by_hand(entry, path, "it could not be downloaded (" + "; ".join(refusals) + ")")


def _download_from(url: str, entry: WeightFile, path: Path) -> str:
    digest = hashlib.sha256()
    with _open(url) as response:
        announced = int(response.headers.get("Content-Length", -1))
        total = announced if announced >= 0 else entry.size

        def stream(file: BinaryIO) -> None:
            with tqdm(total=total, unit="B", unit_scale=True, desc=entry.file, file=sys.stderr, disable=None) as bar:
                while piece := _next_piece(response):
                    if not file.tell() and piece.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
                        raise _RefusalError(_refusal_of_page(piece))
                    file.write(piece)
                    digest.update(piece)
                    bar.update(len(piece))
            if file.tell() < announced:
                raise _RefusalError(f"the connection ended after {file.tell():,} of {announced:,} bytes")
            if fault := entry.fault(file.tell(), digest.hexdigest(), _pinned(path)):
                raise _RefusalError(f"a wrong file came, {fault}.{_trust(entry, path)}")

        print(f"Downloading {entry.file} from {url} to {path.parent}", file=sys.stderr)
        write_atomically(path, stream, size=total)
    return digest.hexdigest()


def _refusal_of_page(page: bytes) -> str:
    text = page.decode("utf-8", "replace")
    title = re.search("<title[^>]*>(.*?)</title>", text, re.DOTALL | re.IGNORECASE)
    said = " ".join(title[1].split()) if title else ""
    words = f"a web page came instead of the file{f', {said[:100]!r}' if said else ''}"
    if re.search("quota exceeded|too many users", text, re.IGNORECASE):
        words += (
            "; so many people fetched it lately that Google waits up to a day, but often gives it to who is logged in"
        )
    return words


def _open(url: str) -> http.client.HTTPResponse:
    try:
        response: http.client.HTTPResponse = urlopen(
            Request(url, headers={"User-Agent": "translation-zoo"}), timeout=TIMEOUT
        )
    except HTTPError as error:
        error.close()
        raise _RefusalError(f"the server answered {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _RefusalError(f"no connection: {getattr(error, 'reason', error)}") from error
    return response


def _next_piece(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(PIECE)
    except (OSError, http.client.HTTPException) as error:
        raise _RefusalError(f"the connection broke off: {error}") from error


def _by_hand(entry: WeightFile, path: Path, reason: str) -> ZooError:
    return ZooError(
        f"{entry.file} is needed, and {reason}. Download it elsewhere from {entry.page} and put it into "
        f"{path.parent} as {path.name} ({entry.expected}), then run the command again."
    )
