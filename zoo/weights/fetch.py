"""`fetch("vgg19")` gives the path of a published file: downloaded once, checked against its SHA-256, kept for good.

Files live in `$ZOO_HOME/weights` (by default `~/.cache/translation-zoo/weights`), where a person may also put them by
hand. Beside each stands `<file>.pin.json`: the digest that was seen, and the size and time of the file that had it, so
that half a gigabyte is hashed once and not at every start. A file whose publisher gives no digest is pinned to the first
one seen: if the file behind the link is changed later, the new one is refused. Files on Google Drive are fetched like any
other; where Google refuses (too many downloads lately), the message says which page to open and where to put what it
gives. `ZOO_OFFLINE=1` forbids the network; `ZOO_MIRROR` names served copies of $ZOO_HOME that are asked in place of the
publishers. How the bytes come, and go on where they broke off: `zoo.weights.transfer`.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from zoo.core.files import lock_file, sha256_of, write_atomically
from zoo.errors import ZooError
from zoo.weights.catalogue import (
    WeightFile,
    find_entry,
    home,
    is_offline,
    mirrors,
    read_catalogue,
    weights_folder,
)
from zoo.weights.transfer import RefusalError, digests, download, forget

__all__ = ["WeightFile", "fetch", "fetch_file", "find_entry", "is_offline", "read_catalogue", "weights_folder"]

LONGEST_DOWNLOAD = 6 * 3600.0  # seconds that a second process waits for the first one's download


def fetch(name: str, catalogue: Mapping[str, WeightFile] | None = None, folder: Path | None = None) -> Path:
    """Return the path of a published file, downloading it when it is not there yet.

    Several processes may ask at once: one downloads, the others wait. The file appears under its name only when whole
    and checked.

    Args:
        name: the entry's name, such as "vgg19".
        catalogue: entries by name; the zoo's own by default.
        folder: where it is to lie; `weights_folder()` by default.

    Raises:
        ZooError: no such entry; no network and no file (the message says what to put where); the file is wrong.
    """
    return fetch_file(find_entry(name, catalogue), folder or weights_folder())


def fetch_file(entry: WeightFile, folder: Path, kind: str = "weights") -> Path:
    """Return the path of an entry's file in a folder, downloading it when it is not there yet.

    Args:
        entry: what is wanted.
        folder: where it is to lie.
        kind: `weights` or `data`: the folder of $ZOO_HOME, and of its mirrors, where it has its place and its pin.

    Raises:
        ZooError: see `fetch`.
    """
    path = folder / entry.file
    if _is_known_good(entry, path):
        return path
    with lock_file(
        path.with_name(f".{entry.file}.lock"), protects=f"the download of {entry.file}", wait=LONGEST_DOWNLOAD
    ):
        if _is_known_good(entry, path):  # another process fetched it meanwhile
            return path
        if path.exists():
            _check_found(entry, path, kind)
        elif is_offline():
            raise _by_hand(entry, path, "ZOO_OFFLINE forbids the network")
        else:
            _download(entry, path, kind)
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


def _pin_of(path: Path, kind: str) -> Path | None:
    """The pin of a file: beside it, or in its own place in $ZOO_HOME where it was seen before."""
    places = (path, home() / kind / path.name)
    return next((_pin_path(place) for place in places if _read_pin(place)), None)


def _pinned(path: Path, kind: str) -> str | None:
    pin = _pin_of(path, kind)
    return None if pin is None else str(_read_pin(pin.with_name(path.name))["sha256"])


def _pin(entry: WeightFile, path: Path, sha256: str, kind: str) -> None:
    if not entry.sha256 and not _pinned(path, kind):
        print(f"{entry.file}: not verified, no full digest is published; pinned to SHA-256 {sha256}", file=sys.stderr)
    status = path.stat()
    record = {"sha256": sha256, "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    text = (json.dumps(record, indent=2) + "\n").encode()
    write_atomically(_pin_path(path), text)
    own_place = home() / kind / path.name
    if not _pin_path(own_place).exists():
        write_atomically(_pin_path(own_place), text)


def _is_known_good(entry: WeightFile, path: Path) -> bool:
    if not path.is_file():
        return False
    pin, status = _read_pin(path), path.stat()
    if (pin.get("size"), pin.get("mtime_ns")) != (status.st_size, status.st_mtime_ns):
        return False
    return entry.fault(status.st_size, str(pin["sha256"]), None) is None


def _check_found(entry: WeightFile, path: Path, kind: str) -> None:
    sha256, md5 = digests(path) if entry.md5 else (sha256_of(path), "")
    if fault := entry.fault(path.stat().st_size, sha256, _pinned(path, kind), md5):
        raise ZooError(
            f"{path} is not {entry.name}: {fault}. Delete it to have it downloaded again.{_trust(entry, path, kind)}"
        )
    _pin(entry, path, sha256, kind)


def _trust(entry: WeightFile, path: Path, kind: str) -> str:
    pin = _pin_of(path, kind)
    if entry.sha256 or pin is None:
        return ""
    return f" If you know that its publisher changed it, delete {pin} as well."


def _download(entry: WeightFile, path: Path, kind: str) -> None:
    for stale in path.parent.glob(f".{entry.file}.????????.part"):  # what earlier versions left
        stale.unlink()
    pinned = _pinned(path, kind)

    def check(size: int, sha256: str, md5: str) -> str | None:
        fault = entry.fault(size, sha256, pinned, md5)
        return f"{fault}.{_trust(entry, path, kind)}" if fault else None

    print(f"{entry.file} is bound to its licence: {entry.licence}. See {entry.source}", file=sys.stderr)
    links = mirrors(kind, entry.file) or entry.links
    if any(link.startswith("http://") for link in links) and not entry.sha256:
        print(f"{entry.file}: a link is not encrypted, so who stands in between could change the file", file=sys.stderr)
    try:
        sha256 = download(
            links, path, check, size=entry.size, known=bool(entry.sha256 or entry.md5 or pinned or entry.sha256_prefix)
        )
    except RefusalError as refused:
        raise _by_hand(entry, path, f"it could not be downloaded ({refused})") from refused
    forget(path)
    _pin(entry, path, sha256, kind)


def _by_hand(entry: WeightFile, path: Path, reason: str) -> ZooError:
    return ZooError(
        f"{entry.file} is needed, and {reason}. Download it elsewhere from {entry.page} and put it into "
        f"{path.parent} as {path.name} ({entry.expected}), then run the command again."
    )
