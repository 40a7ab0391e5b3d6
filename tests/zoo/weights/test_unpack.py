"""Archives of strangers do no harm."""

from __future__ import annotations

import bz2
import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from zoo.errors import ZooError
from zoo.weights.unpack import expand, unpack

FILES = {"set/a.txt": b"a" * 1000, "set/deep/b.txt": b"b", "top.txt": b""}


def make_zip(path: Path, files: dict[str, bytes], **changes: int) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            for field, value in changes.items():
                setattr(info, field, value)
            archive.writestr(info, body)
    return path


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w:gz", **changes: object) -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            for field, value in changes.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(body))
    return path


MAKERS: list[Callable[[Path, dict[str, bytes]], Path]] = [make_zip, make_tar]


def inside(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("make", MAKERS)
def test_an_archive_comes_out_as_it_went_in(make: Callable[..., Path], tmp_path: Path) -> None:
    litter = {"__MACOSX/set/._a.txt": b"x", "set/.DS_Store": b"x"}
    assert unpack(make(tmp_path / "archive", FILES | litter), tmp_path / "out") == 3
    assert inside(tmp_path / "out") == FILES


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tars_of_all_kinds(mode: str, tmp_path: Path) -> None:
    unpack(make_tar(tmp_path / "archive", FILES, mode), tmp_path / "out")
    assert inside(tmp_path / "out") == FILES


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    "name", ["../out.txt", "a/../../out.txt", "/etc/out.txt", "C:/out.txt", "..\\out.txt", "a/" * 30 + "b"]
)
def test_names_that_lead_elsewhere_are_refused(make: Callable[..., Path], name: str, tmp_path: Path) -> None:
    archive = make(tmp_path / "archive", {name: b"evil"})
    with pytest.raises(ZooError, match=r"leads out of its folder|folders deep"):
        unpack(archive, tmp_path / "folder" / "out")
    assert inside(tmp_path / "folder") == {}
    assert not Path("/etc/out.txt").exists()


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    link = make_zip(tmp_path / "link.zip", {"a": b"/etc/passwd"}, external_attr=(stat.S_IFLNK | 0o777) << 16)
    with pytest.raises(ZooError, match="'a', a link or a device"):
        unpack(link, tmp_path / "out")
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
        archive = make_tar(tmp_path / "link.tar", {"a": b""}, "w", type=kind, linkname="/etc/passwd")
        with pytest.raises(ZooError, match="'a', a link or a device"):
            unpack(archive, tmp_path / "out")
    assert inside(tmp_path / "out") == {}


@pytest.mark.parametrize("make", MAKERS)
def test_a_bomb_is_not_set_off(make: Callable[..., Path], tmp_path: Path) -> None:
    archive = make(tmp_path / "bomb", {"zeros": bytes(5_000_000)})
    assert archive.stat().st_size < 20_000
    with pytest.raises(ZooError, match="far more than it may"):
        unpack(archive, tmp_path / "out", largest=1_000_000)
    assert sum(map(len, inside(tmp_path / "out").values())) <= 1_000_000
    unpack(archive, tmp_path / "fine", largest=5_000_000)


def test_the_allowance_follows_from_the_archives_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.weights.unpack.LEAST_ALLOWED", 1000)
    with pytest.raises(ZooError, match="far more than it may"):
        unpack(make_zip(tmp_path / "bomb", {"zeros": bytes(5_000_000)}), tmp_path / "out")


def test_a_zip_that_lies_about_its_sizes_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "liar.zip", {"zeros": bytes(5_000_000)})
    body = archive.read_bytes()
    archive.write_bytes(body.replace((5_000_000).to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    with pytest.raises(ZooError, match="not a whole archive"):
        unpack(archive, tmp_path / "out", largest=1_000_000)


@pytest.mark.parametrize("make", MAKERS)
def test_a_name_may_stand_once(make: Callable[..., Path], tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    if make is make_zip:
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("a", b"1")
            with pytest.warns(UserWarning, match="Duplicate"):
                file.writestr("a", b"2")
    else:
        with tarfile.open(archive, "w") as tar:
            for _ in range(2):
                tar.addfile(tarfile.TarInfo("a"), io.BytesIO())
    with pytest.raises(ZooError, match="'a' twice"):
        unpack(archive, tmp_path / "out")


def test_damaged_encrypted_and_other_files_are_told(tmp_path: Path) -> None:
    whole = make_zip(tmp_path / "whole.zip", {"a": bytes(range(256)) * 100})
    body = bytearray(whole.read_bytes())
    body[60] ^= 0xFF
    (tmp_path / "bits.zip").write_bytes(body)
    (tmp_path / "cut.tar.gz").write_bytes(
        make_tar(tmp_path / "t.tar.gz", {"a": FILES["set/a.txt"] * 50}).read_bytes()[:100]
    )
    (tmp_path / "text").write_bytes(b"hello")
    for name, said in [
        ("bits.zip", "not a whole archive"),
        ("cut.tar.gz", r"not a whole archive|no zip or tar"),
        ("text", "no zip or tar"),
    ]:
        with pytest.raises(ZooError, match=said):
            unpack(tmp_path / name, tmp_path / "out" / name)
    body = bytearray(whole.read_bytes())
    at = body.rindex(b"PK\x01\x02")
    body[at + 8] |= 1
    (tmp_path / "secret.zip").write_bytes(body)
    with pytest.raises(ZooError, match="is encrypted"):
        unpack(tmp_path / "secret.zip", tmp_path / "out" / "secret")


def test_too_many_files_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.weights.unpack.MOST_FILES", 2)
    with pytest.raises(ZooError, match="more than 2 files"):
        unpack(make_zip(tmp_path / "many.zip", FILES), tmp_path / "out")


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("zoo.weights.unpack.shutil.disk_usage", lambda _: usage)
    with pytest.raises(ZooError, match=r"needs 1,001 bytes .* and 10 are free"):
        unpack(make_zip(tmp_path / "a.zip", FILES), tmp_path / "out")
    assert inside(tmp_path / "out") == {}


@pytest.mark.parametrize(("ending", "compress"), [("gz", gzip.compress), ("bz2", bz2.compress)])
def test_single_files_are_expanded_whole_or_not_at_all(
    ending: str, compress: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    packed = tmp_path / f"a.{ending}"
    packed.write_bytes(compress(b"digits" * 1000))
    expand(packed, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"digits" * 1000
    with pytest.raises(ZooError, match="far more than it may"):
        expand(packed, tmp_path / "b", largest=10)
    for body in (packed.read_bytes()[:-9], b"hello"):
        packed.write_bytes(body)
        with pytest.raises(ZooError, match="is not a whole file"):
            expand(packed, tmp_path / "b")
    with pytest.raises(ZooError, match="is no compressed file"):
        expand(tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "b").exists()
