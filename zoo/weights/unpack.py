"""Archives of strangers, unpacked without harm: nothing lands outside the folder, no links, no more bytes than announced or allowed."""

import bz2
import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO

from zoo.core.files import OUT_OF_SPACE, write_atomically
from zoo.errors import ZooError

PIECE = 1 << 20
DEEPEST = 24  # folders inside each other
MOST_FILES = 3_000_000
LEAST_ALLOWED = 200_000_000  # bytes that any archive may hold
INFLATION = 30  # bytes that it may hold beyond that, per byte of its own: pictures do not shrink
SINGLE: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
"""How single compressed files are opened, by the ending of their names."""

_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, ValueError)
_LITTER = ("__MACOSX",)  # what a Mac adds to archives


def unpack(archive: Path, folder: Path, *, largest: int | None = None) -> int:
    """Unpack a zip or tar file (compressed or not) into a folder.

    What was unpacked before a fault was found stays: unpack into a folder that is thrown away then.

    Args:
        archive: the file.
        folder: where to; made when missing.
        largest: bytes that come out of it at most; by default by the archive's own size.

    Returns:
        How many files came out.

    Raises:
        ZooError: the archive is damaged, encrypted or of another kind; a name leads outside the folder; it holds links or
            devices; more comes out than is allowed or fits on the disk.
    """
    largest = LEAST_ALLOWED + INFLATION * archive.stat().st_size if largest is None else largest
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as file:
                return _write_all(_zip_members(file, archive, folder, largest), archive, folder, largest)
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive) as file:
                return _write_all(_tar_members(file, archive), archive, folder, largest)
    except _BROKEN as error:
        raise ZooError(f"{archive} is not a whole archive ({error}). Delete it, and download it again.") from error
    except OSError as error:
        if error.errno not in OUT_OF_SPACE:
            raise
        raise ZooError(
            f"{folder}: the disk or the quota is full, so {archive.name} was not unpacked. Make room."
        ) from error
    raise ZooError(f"{archive} is no zip or tar archive. Delete it, and download it again.")


def expand(packed: Path, path: Path, *, largest: int | None = None) -> None:
    """Decompress a single file (`.gz`, `.bz2`, `.xz`); it gets its name when it is whole.

    Raises:
        ZooError: it is damaged or of another kind, or more comes out than is allowed.
    """
    largest = LEAST_ALLOWED + INFLATION * packed.stat().st_size if largest is None else largest
    if packed.suffix not in SINGLE:
        raise ZooError(f"{packed} is no compressed file ({', '.join(SINGLE)}).")

    def write(file: BinaryIO) -> None:
        with SINGLE[packed.suffix](packed, "rb") as source:
            _copy(source, file, packed, largest)

    try:
        write_atomically(path, write)
    except (*_BROKEN, gzip.BadGzipFile) as error:
        raise ZooError(f"{packed} is not a whole file ({error}). Delete it, and download it again.") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise ZooError(f"{packed} is not a whole file ({error}). Delete it, and download it again.") from error


def safe_place(name: str, archive: Path) -> PurePosixPath:
    """The place of an archive's member below the folder that it is unpacked into.

    Raises:
        ZooError: the name leads elsewhere.
    """
    place = PurePosixPath(name)
    drive = len(name) > 1 and name[1] == ":"
    if not name or "\0" in name or "\\" in name or place.is_absolute() or drive or ".." in place.parts:
        raise ZooError(f"{archive} holds {name!r}, a name that leads out of its folder. It was not unpacked.")
    if len(place.parts) > DEEPEST:
        raise ZooError(f"{archive} holds {name[:60]!r}..., {len(place.parts)} folders deep. It was not unpacked.")
    return place


def _is_litter(place: PurePosixPath) -> bool:
    return place.name == ".DS_Store" or place.name.startswith("._") or any(part in _LITTER for part in place.parts)


Member = tuple[str, IO[bytes]]


def _write_all(members: Iterator[Member], archive: Path, folder: Path, largest: int) -> int:
    left, count = largest, 0
    for name, source in members:
        place = safe_place(name, archive)
        if _is_litter(place):
            continue
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with source, path.open("xb") as file:
                left -= _copy(source, file, archive, left)
        except FileExistsError as error:
            raise ZooError(f"{archive} holds {name!r} twice. It was not unpacked.") from error
        count += 1
        if count > MOST_FILES:
            raise ZooError(f"{archive} holds more than {MOST_FILES:,} files. It was not unpacked.")
    return count


def _copy(source: IO[bytes], file: IO[bytes], archive: Path, left: int) -> int:
    written = 0
    while piece := source.read(PIECE):
        written += len(piece)
        if written > left:
            raise _bomb(archive)
        file.write(piece)
    return written


def _bomb(archive: Path) -> ZooError:
    return ZooError(
        f"{archive} ({archive.stat().st_size:,} bytes) holds far more than it may: it would fill the disk. It was not unpacked."
    )


def _zip_members(file: zipfile.ZipFile, archive: Path, folder: Path, largest: int) -> Iterator[Member]:
    infos = file.infolist()
    for info in infos:  # looked at before the first is written
        safe_place(info.filename, archive)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ZooError(f"{archive} holds {info.filename!r}, a link or a device. It was not unpacked.")
        if info.flag_bits & 1:
            raise ZooError(f"{archive} is encrypted, and no password is known.")
    total = sum(info.file_size for info in infos)
    if total > largest:
        raise _bomb(archive)
    free = shutil.disk_usage(folder).free
    if total > free:
        raise ZooError(
            f"{archive.name} needs {total:,} bytes in {folder.parent}, and {free:,} are free. Make room, or choose a place: --to FOLDER"
        )
    for info in infos:
        if not info.is_dir():
            yield info.filename, file.open(info)


def _tar_members(file: tarfile.TarFile, archive: Path) -> Iterator[Member]:
    for info in file:
        safe_place(info.name, archive)
        if info.isdir():
            continue
        source = file.extractfile(info) if info.isreg() else None
        if source is None or info.issparse():
            raise ZooError(f"{archive} holds {info.name!r}, a link or a device. It was not unpacked.")
        yield info.name, source
