"""Files that are whole or not there, their SHA-256, and locks that end with their process. Standard library alone."""

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from zoo.errors import ZooError

OUT_OF_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_held: set[int] = set()  # descriptors of the locks that this process holds


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 lower-case hex digits; the file is read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], object], *, size: int | None = None) -> None:
    """Write a file so that its name shows the old content or the whole new one, even after a power cut.

    The folder is made when missing. The temporary file `.<name>.<random>.part` beside it is removed on any failure.
    `content` is the bytes, or a function that writes them into the open binary file that it is given; `size` is how
    many bytes that function will write, where known. Errors that the function raises pass through unchanged.

    Raises:
        ZooError: the folder cannot be written, or the disk or the quota is full.
    """
    size = len(content) if isinstance(content, bytes) else size
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with _said_plainly(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = temporary.open("xb")
        try:
            with file:
                file.write(content) if isinstance(content, bytes) else content(file)
                file.flush()
                os.fsync(file.fileno())
        except Exception as error:
            if _is_out_of_space(error):
                free = f"{shutil.disk_usage(path.parent).free:,} bytes are free"
                needed = "" if size is None else f" and it needs {size:,}"
                advice = "Make room or raise the limit, then run the command again."
                raise ZooError(f"{path} does not fit on its disk or quota: {free}{needed}. {advice}") from error
            raise
        with _said_plainly(path):
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    with suppress(OSError):  # some network file systems cannot sync a folder; the file itself is safe by now
        os.fsync(folder)
    os.close(folder)


def _is_out_of_space(error: BaseException | None) -> bool:
    # torch.save hides the error of the file behind one of its own, so the errors behind it are looked at, too.
    while error and not (isinstance(error, OSError) and error.errno in OUT_OF_SPACE):
        error = error.__context__
    return error is not None


@contextmanager
def _said_plainly(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ZooError(f"{path} cannot be written: {error.strerror}. Choose a place that you may write to.") from error


@contextmanager
def lock_file(path: Path, *, protects: str, wait: float = 0.0) -> Iterator[None]:
    """Hold a lock that only one can have; it ends with the block, or with the process however that dies.

    The lock file at `path`, made with its folder when missing, says who holds the lock and stays, empty, afterwards.
    `protects` names what it guards in messages ("the run runs/cyclegan/first"); `wait` is how many seconds to wait
    for another holder, which is said on stderr: 0 refuses at once.

    Raises:
        ZooError: another process, or another part of this one, holds it; or the file cannot be made or locked.
    """
    with _said_plainly(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with _said_plainly(path):
            _acquire(lock, path, protects, wait)
    except BaseException:
        os.close(lock)
        raise
    _held.add(lock)
    try:
        yield
    finally:
        if lock in _held:  # a forked child that leaves this block has let go already
            _held.remove(lock)
            os.ftruncate(lock, 0)
            os.close(lock)


def _acquire(lock: int, path: Path, protects: str, wait: float) -> None:
    start, told = time.monotonic(), False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as error:
            holder = path.read_text(errors="replace").strip() or "another process"
            if time.monotonic() - start >= wait:
                raise ZooError(f"{protects} is in use by {holder}. Wait until it has ended, or end it.") from error
        if not told:
            told = True
            print(f"Waiting for {protects}, in use by {holder} ...", file=sys.stderr)
        time.sleep(0.1)
    now = datetime.now().astimezone()
    os.ftruncate(lock, 0)  # what a killed holder left
    os.pwrite(lock, f"pid {os.getpid()} on {socket.gethostname()} since {now:%Y-%m-%d %H:%M:%S %z}".encode(), 0)


def _let_go_in_child() -> None:
    # A forked data loader worker shares the lock and may outlive a killed parent: the lock is the parent's alone.
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go_in_child)
