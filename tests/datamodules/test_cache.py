import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.cache import PictureCache
from datamodules.errors import DataError
from support.pictures import make_folder, pixels


class Maker:
    def __init__(self, number: int = 0) -> None:
        self.calls = 0
        self.number = number

    def __call__(self) -> NDArray[np.uint8]:
        self.calls += 1
        return pixels(number=self.number)


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "in", 1) / "000.png"


def entries(cache: PictureCache) -> list[Path]:
    return [path for path in cache.folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_hit_equals_what_was_made(tmp_path: Path, original: Path, channels: int) -> None:
    expected = pixels()[:, :, :channels]
    cache = PictureCache(tmp_path / "cache")
    np.testing.assert_array_equal(cache.picture(original, "s", lambda: expected), expected)
    found = PictureCache(tmp_path / "cache").picture(original, "s", lambda: pixels(number=9))
    np.testing.assert_array_equal(found, expected)


def test_settings_and_changed_files_are_told_apart(tmp_path: Path, original: Path) -> None:
    cache, make = PictureCache(tmp_path / "cache"), Maker()
    cache.picture(original, "286", make)
    cache.picture(original, "286", make)
    assert make.calls == 1
    cache.picture(original, "143", make)
    assert make.calls == 2
    os.utime(original, ns=(5, 5))
    cache.picture(original, "286", make)
    assert make.calls == 3


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "header"])
def test_a_damaged_entry_is_made_anew(tmp_path: Path, original: Path, damage: str) -> None:
    cache, make = PictureCache(tmp_path / "cache"), Maker()
    cache.picture(original, "s", make)
    (entry,) = entries(cache)
    content = bytearray(entry.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    if damage == "header":
        content[8:12] = b"\xff" * 4
    entry.write_bytes({"truncated": content[:-7], "empty": b""}.get(damage, content))
    np.testing.assert_array_equal(cache.picture(original, "s", make), pixels())
    assert make.calls == 2
    cache.picture(original, "s", make)
    assert make.calls == 2


def test_an_interrupted_write_leaves_no_entry(tmp_path: Path, original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, make = PictureCache(tmp_path / "cache"), Maker()

    def killed(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            cache.picture(original, "s", make)
    assert not [path for path in entries(cache) if path.suffix == ".pixels"]
    np.testing.assert_array_equal(cache.picture(original, "s", make), pixels())


def test_a_full_disk_is_said_once_and_work_goes_on(
    tmp_path: Path, original: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, make = PictureCache(tmp_path / "cache"), Maker()

    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    for _ in range(2):
        np.testing.assert_array_equal(cache.picture(original, "s", make), pixels())
    message = capsys.readouterr().err
    assert message.count("takes no more (No space left on device)") == 1
    assert "--data.cache" in message
    assert not entries(cache)


def test_a_folder_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cache: the folder .*file/cache cannot be made .* --data.cache null"):
        PictureCache(tmp_path / "file/cache")


def test_a_vanished_original_is_left_to_its_maker(tmp_path: Path) -> None:
    make = Maker()
    PictureCache(tmp_path / "cache").picture(tmp_path / "gone.png", "s", make)
    assert make.calls == 1


@pytest.mark.parametrize("document", [b"", b"[1]", b'{"a": 1}', b'{"a": ["", "x", 2]}', b"\xff\xfe"])
def test_a_damaged_check_is_no_check(tmp_path: Path, document: bytes) -> None:
    cache = PictureCache(tmp_path / "cache")
    result: dict[str, Any] = {"/a/b.png": ("", 3, 4), "/a/c.png": ("damaged", 0, 0)}
    cache.keep_check("key", result)
    assert cache.known_check("key") == result
    assert cache.known_check("another") is None
    (entry,) = entries(cache)
    assert json.loads(entry.read_bytes())
    entry.write_bytes(document)
    assert cache.known_check("key") is None
