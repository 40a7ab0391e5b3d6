import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from zoo.core.files import lock_file, sha256_of, write_atomically
from zoo.errors import ZooError

# zoo.core imports torch, which these processes do not need: its package is entered without its __init__.
LIGHT = """
import sys, types, zoo
core = sys.modules["zoo.core"] = types.ModuleType("zoo.core")
core.__path__ = [zoo.__path__[0] + "/core"]
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LIGHT + code, *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_bytes_and_writers_land_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "notes.txt"
    write_atomically(path, b"first")
    assert path.read_bytes() == b"first"
    write_atomically(path, lambda file: file.write(b"second"))
    assert path.read_bytes() == b"second"
    assert names(path.parent) == ["notes.txt"]


def test_the_file_has_ordinary_permissions(tmp_path: Path) -> None:
    write_atomically(tmp_path / "ours", b"")
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [KeyError("mine"), ConnectionResetError("lost"), KeyboardInterrupt()])
def test_a_failing_writer_leaves_the_old_content_and_its_own_error(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"old")

    def fail(file: BinaryIO) -> None:
        file.write(b"half of the new")
        raise error

    with pytest.raises(type(error)) as caught:
        write_atomically(path, fail)
    assert caught.value is error
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["notes.txt"]


def test_readers_never_see_a_part_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "counter"
    write_atomically(path, b"0" * 100_000)
    stop, torn = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            content = path.read_bytes()
            if len(content) != 100_000 or len(set(content)) != 1:
                torn.append(len(content))

    reader = threading.Thread(target=read)
    reader.start()
    for digit in b"123456789":
        write_atomically(path, bytes([digit]) * 100_000)
    stop.set()
    reader.join()
    assert torn == []


def write_to_full_device(file: BinaryIO) -> None:
    file.write(b"x")
    with Path("/dev/full").open("wb", buffering=0) as full:
        full.write(b"x")


def write_and_hide_the_reason(file: BinaryIO) -> None:
    try:
        write_to_full_device(file)
    except OSError:
        raise RuntimeError("unexpected pos 704 vs 598") from None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device that is always full")
@pytest.mark.parametrize("writer", [write_to_full_device, write_and_hide_the_reason])
def test_a_full_disk_is_told_with_needed_and_free_space(tmp_path: Path, writer: Callable[[BinaryIO], None]) -> None:
    path = tmp_path / "weights.pth"
    with pytest.raises(ZooError, match=r"weights\.pth does not fit .* bytes are free and it needs 5,000,000"):
        write_atomically(path, writer, size=5_000_000)
    assert names(tmp_path) == []


def test_a_limit_met_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    code = """if True:
        import resource, sys
        from pathlib import Path
        from zoo.core.files import write_atomically
        from zoo.errors import ZooError
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            write_atomically(Path(sys.argv[1]), b"x" * 50_000)
        except ZooError as error:
            print(error)
    """
    result = run(code, tmp_path / "big")
    assert f"{tmp_path / 'big'} does not fit" in result.stdout, result.stderr
    assert "needs 50,000" in result.stdout
    assert names(tmp_path) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ZooError, match=r"file/inside cannot be written: .*Choose a place"):
        write_atomically(tmp_path / "file" / "inside", b"")
    with pytest.raises(ZooError, match="folder cannot be written: Is a directory"):
        write_atomically(tmp_path / "folder", b"")
    assert names(tmp_path) == ["file", "folder"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into a read-only folder")
def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ZooError, match="notes cannot be written: Permission denied"):
        write_atomically(tmp_path / "notes", b"")


def test_sha256(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(content)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(content).hexdigest()


HOLD = """if True:
    import sys, time
    from pathlib import Path
    from zoo.core.files import lock_file
    with lock_file(Path(sys.argv[1]), protects="the run"):
        print("held", flush=True)
        time.sleep(float(sys.argv[2]))
"""


def hold(path: Path, seconds: float) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", LIGHT + HOLD, str(path), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_second_holder_is_refused_and_told_who_holds(tmp_path: Path) -> None:
    path = tmp_path / "run" / ".lock"
    with (
        lock_file(path, protects="the run runs/first"),
        pytest.raises(ZooError, match=rf"the run runs/first is in use by pid {os.getpid()} on \S+ since \d{{4}}-"),
        lock_file(path, protects="the run runs/first"),
    ):
        raise AssertionError("two holders")
    assert path.read_bytes() == b""
    with lock_file(path, protects="the run runs/first"):
        pass


def test_a_refused_holder_leaves_the_lock_alone(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with lock_file(path, protects="it"):
        told = path.read_text()
        for _ in range(2):
            with pytest.raises(ZooError, match=f"pid {os.getpid()}"), lock_file(path, protects="it"):
                raise AssertionError("two holders")
        assert path.read_text() == told


def test_the_lock_ends_with_a_failing_block(tmp_path: Path) -> None:
    with pytest.raises(KeyError), lock_file(tmp_path / ".lock", protects="it"):
        raise KeyError
    with lock_file(tmp_path / ".lock", protects="it"):
        pass


def test_a_killed_holder_lets_go_and_a_waiting_one_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / ".lock"
    with hold(path, 60) as holder:
        with pytest.raises(ZooError, match=f"pid {holder.pid} "), lock_file(path, protects="the run"):
            raise AssertionError("two holders")
        timer = threading.Timer(0.3, holder.send_signal, [signal.SIGKILL])
        timer.start()
        start = time.monotonic()
        with lock_file(path, protects="the run", wait=30):
            assert time.monotonic() - start > 0.2
            assert f"pid {os.getpid()} " in path.read_text()
        assert f"Waiting for the run, in use by pid {holder.pid} " in capsys.readouterr().err


def test_waiting_has_an_end(tmp_path: Path) -> None:
    with lock_file(tmp_path / ".lock", protects="it"):
        start = time.monotonic()
        with pytest.raises(ZooError, match="in use"), lock_file(tmp_path / ".lock", protects="it", wait=0.3):
            raise AssertionError("two holders")
        assert 0.3 <= time.monotonic() - start < 5


def test_a_forked_worker_that_outlives_its_killed_parent_does_not_hold_the_lock(tmp_path: Path) -> None:
    code = """if True:
        import os, signal, sys, time
        from pathlib import Path
        from zoo.core.files import lock_file
        with lock_file(Path(sys.argv[1]), protects="the run"):
            worker = os.fork()
            if worker == 0:
                os.close(1), os.close(2)
                time.sleep(60)
            print(worker, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    path = tmp_path / ".lock"
    worker = int(run(code, path).stdout)
    try:
        with lock_file(path, protects="the run"):
            pass
        os.kill(worker, 0)  # it is still there
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_forked_child_that_leaves_the_block_does_not_release_the_lock(tmp_path: Path) -> None:
    code = """if True:
        import os, sys
        from pathlib import Path
        from zoo.core.files import lock_file
        with lock_file(Path(sys.argv[1]), protects="the run"):
            child = os.fork()
            if child:
                _, status = os.waitpid(child, 0)
                print(status, Path(sys.argv[1]).read_text().startswith(f"pid {os.getpid()} "))
    """
    result = run(code, tmp_path / ".lock")
    assert result.stdout == "0 True\n", result.stderr


def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("zoo.core.files.fcntl.flock", refuse)
    with pytest.raises(ZooError, match=r"\.lock cannot be written: No locks available"):
        lock_file(tmp_path / ".lock", protects="it").__enter__()
