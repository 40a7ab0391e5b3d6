"""`lightning download`: what there is, and fetching some."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.commands import lightning
from support.http import Page, serve
from zoo.cli.download import size
from zoo.cli.pages import WIDTH
from zoo.weights import fetch as fetching
from zoo.weights.fetch import WeightFile, read_catalogue, weights_folder

BODIES = {"one": b"1" * 1000, "two": b"2" * 2000}


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, WeightFile]]:
    """A catalogue of two files on this machine, and an empty folder of downloads."""
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ZOO_OFFLINE", raising=False)
    with serve({f"/{name}.pth": Page(body) for name, body in BODIES.items()}) as server:
        known = {
            name: WeightFile(
                name=name,
                file=f"{name}.pth",
                urls=(f"{server.address}/{name}.pth",),
                size=len(body),
                sha256=hashlib.sha256(body).hexdigest(),
                licence="MIT",
                source="https://example.org",
                description=f"File {name}",
            )
            for name, body in BODIES.items()
        }
        monkeypatch.setattr(fetching, "read_catalogue", lambda *_: known)
        yield known


def test_alone_it_lists_what_there_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    entries = read_catalogue()
    first = next(iter(entries.values()))
    weights_folder().mkdir(parents=True)
    (weights_folder() / first.file).touch()
    assert lightning("download") == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert max(len(line) for line in lines[:-1]) <= WIDTH
    assert lines[-1] == f"Files lie in {weights_folder()}. To fetch some: lightning download NAME..."
    words = " ".join(said.split())
    for entry in entries.values():
        (row,) = [line for line in lines if line.startswith(f"{entry.name} ")]
        assert row.split()[2 if entry.size is None else 3] == ("yes" if entry == first else "no")
        assert size(entry.size) in row
        assert f"Licence: {entry.licence}." in words
    assert not [path for path in weights_folder().iterdir() if path.name != first.file]


def test_names_are_fetched_and_checked(catalogue: dict[str, WeightFile], capsys: pytest.CaptureFixture[str]) -> None:
    assert lightning("download", "two", "one", "two") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{name}: {weights_folder() / f'{name}.pth'}" for name in ("two", "one")
    ]
    for name, body in BODIES.items():
        assert (weights_folder() / f"{name}.pth").read_bytes() == body
    assert lightning("download") == 0
    assert [line.split()[3] for line in capsys.readouterr().out.splitlines()[1:3]] == ["yes", "yes"]


def test_weights_go_where_they_are_wanted(
    catalogue: dict[str, WeightFile], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lightning("download", "one", f"--to={tmp_path / 'here'}") == 0
    assert capsys.readouterr().out == f"one: {tmp_path / 'here' / 'one.pth'}\n"
    assert (tmp_path / "here" / "one.pth").read_bytes() == BODIES["one"]
    assert not (weights_folder() / "one.pth").exists()


def test_a_mistyped_name_fetches_nothing(catalogue: dict[str, WeightFile], capsys: pytest.CaptureFixture[str]) -> None:
    assert lightning("download", "one", "towo") == 2
    assert capsys.readouterr().err == "lightning: No published weights are called 'towo'. Did you mean 'two'?\n"
    assert not weights_folder().exists()


def test_what_cannot_be_had_is_told_and_the_others_are_fetched(
    catalogue: dict[str, WeightFile], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue["gone"] = WeightFile(
        **{**vars(catalogue["one"]), "name": "gone", "file": "gone.pth", "urls": (catalogue["one"].urls[0] + "x",)}
    )
    assert lightning("download", "gone", "two") == 2
    assert "gone.pth is needed, and it could not be downloaded" in capsys.readouterr().err
    assert (weights_folder() / "two.pth").is_file()
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    assert lightning("download", "one") == 2
    assert "ZOO_OFFLINE forbids the network" in capsys.readouterr().err


def test_options_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert lightning("download", "--help") == 0
    assert capsys.readouterr().out.startswith("Usage: lightning download [NAME...]")
    assert lightning("download", "--hepl") == 2
    assert "download has no option '--hepl'. Did you mean '--help'?" in capsys.readouterr().err


def test_sizes() -> None:
    assert [size(count) for count in (None, 123_456, 574_673_361, 2_340_000_000)] == ["-", "0 MB", "575 MB", "2.3 GB"]
