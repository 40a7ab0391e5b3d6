"""An optional cache of resized pictures on disk: files of raw uint8, which read many times faster than JPEG decodes.

An entry is found by path, size and modification time of the picture and by the settings that made it. Not by a hash of the
content: that would read every original again, which is the very thing a cache beside a slow network disk should spare.
Raw pixels take height x width x 3 bytes: 245 kB for a picture of 286 x 286, 1.8 GB for 7,300 of them.
"""

import json
import os
import sys
import zlib
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from struct import Struct

import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.errors import DataError

_HEADER = Struct("<8sIIII")  # magic, height, width, channels, CRC-32 of the pixels
_MAGIC = b"PIXELS01"


class PictureCache:
    """Pictures by key in a folder that several processes may share. A damaged entry is made anew; a full disk ends writing.

    Args:
        folder: made if missing.

    Raises:
        DataError: the folder cannot be made.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser().absolute()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"cache: the folder {self.folder} cannot be made ({error.strerror}). Type --data.cache FOLDER, or "
                "--data.cache null to go without."
            ) from error
        # In shared memory: one worker that finds the disk full speaks for all.
        self._full = torch.zeros((), dtype=torch.bool).share_memory_()

    def picture(self, path: Path, settings: str, make: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """The cached result of `make` for a picture; uint8 `h w c`, read-only.

        Args:
            path: the original; its size and time of change are part of the key.
            settings: everything else that the result depends on.
            make: called when there is no good entry.
        """
        try:
            status = path.stat()
        except OSError:
            return make()
        key = f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0{settings}"
        entry = self._entry(key, ".pixels")
        found = _unpack(entry)
        if found is None:
            found = make()
            self._write(entry, _pack(found))
        return found

    def known_check(self, key: str) -> dict[str, tuple[str, int, int]] | None:
        """An earlier result of `datamodules.folders.check_pictures`, or None."""
        try:
            document = json.loads(self._entry(key, ".check.json").read_text())
            return {path: (str(reason), int(height), int(width)) for path, (reason, height, width) in document.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return None

    def keep_check(self, key: str, result: dict[str, tuple[str, int, int]]) -> None:
        """Keep a result of `datamodules.folders.check_pictures`."""
        self._write(self._entry(key, ".check.json"), json.dumps(result).encode())

    def _entry(self, key: str, suffix: str) -> Path:
        digest = blake2b(key.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        return self.folder / digest[:2] / f"{digest[2:]}{suffix}"

    def _write(self, entry: Path, content: bytes) -> None:
        if self._full:
            return
        temporary = entry.with_name(f".{entry.name}.{os.getpid()}")
        try:
            entry.parent.mkdir(exist_ok=True)
            # No fsync: an entry that a power cut empties fails its checksum and is made anew.
            temporary.write_bytes(content)
            temporary.replace(entry)
        except OSError as error:
            self._full.fill_(True)
            temporary.unlink(missing_ok=True)
            print(
                f"The picture cache {self.folder} takes no more ({error.strerror}): going on without writing to it. "
                "Free space there, or type --data.cache FOLDER on another disk.",
                file=sys.stderr,
                flush=True,
            )


def _pack(picture: NDArray[np.uint8]) -> bytes:
    pixels = np.ascontiguousarray(picture).tobytes()
    return _HEADER.pack(_MAGIC, *picture.shape, zlib.crc32(pixels)) + pixels


def _unpack(entry: Path) -> NDArray[np.uint8] | None:
    try:
        content = entry.read_bytes()
    except OSError:
        return None
    if len(content) < _HEADER.size:
        return None
    magic, height, width, channels, checksum = _HEADER.unpack_from(content)
    pixels = memoryview(content)[_HEADER.size :]
    if magic != _MAGIC or len(pixels) != height * width * channels or zlib.crc32(pixels) != checksum:
        return None
    return np.frombuffer(pixels, dtype=np.uint8).reshape(height, width, channels)
