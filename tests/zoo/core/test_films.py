"""Films: what is written is what was given, whole or not at all."""

import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from zoo.core import films
from zoo.core.films import check_film, save_film
from zoo.errors import ZooError


def shades(count: int, height: int = 16, width: int = 24) -> list[Tensor]:
    """Plain frames, from dark to bright."""
    return [torch.full((3, height, width), 1.6 * number / count - 0.8) for number in range(count)]


@pytest.mark.parametrize("ending", [".webp", ".gif", ".png"])
def test_animations_have_the_format_of_their_ending(tmp_path: Path, ending: str) -> None:
    with Image.open(save_film(shades(3), tmp_path / f"film{ending}", rate=10)) as film:
        assert film.n_frames == 3
        assert film.size == (24, 16)
        film.seek(1)
        film.load()
        assert film.info["duration"] == 100


@pytest.mark.parametrize("ending", [".webp", ".gif"])
def test_each_frame_can_have_its_time(tmp_path: Path, ending: str) -> None:
    times = []
    with Image.open(save_film(shades(3), tmp_path / f"film{ending}", durations=[50, 200, 120])) as film:
        for number in range(3):
            film.seek(number)
            film.load()
            times.append(film.info["duration"])
    assert times == [50, 200, 120]


def test_an_mp4_holds_every_frame(tmp_path: Path) -> None:
    library = pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg, which writes MP4, is not here")
    path = save_film(iter(shades(7, 15, 23)), tmp_path / "film.mp4", rate=12.5)
    told, *frames = library.read_frames(str(path))
    assert told["size"] == (24, 16), "an odd side gets a pixel more"
    assert told["fps"] == 12.5
    assert len(frames) == 7
    for wanted, content in zip(shades(7, 15, 23), frames, strict=True):
        shown = np.frombuffer(content, np.uint8).reshape(16, 24, 3)
        assert np.abs(shown - (float(wanted[0, 0, 0]) + 1) / 2 * 255).max() < 6, (
            "H.264 keeps plain frames nearly as they are"
        )
    assert [file.name for file in tmp_path.iterdir()] == ["film.mp4"]


def test_frames_of_an_mp4_are_not_kept(tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg, which writes MP4, is not here")
    alive: list[weakref.ref[Tensor]] = []
    most = 0

    def frames() -> Iterator[Tensor]:
        nonlocal most
        for _ in range(20):
            frame = torch.full((3, 16, 16), 0.1)
            alive.append(weakref.ref(frame))
            most = max(most, sum(kept() is not None for kept in alive))
            yield frame

    save_film(frames(), tmp_path / "film.mp4")
    assert most <= 3


def fails() -> Iterator[Tensor]:
    yield from shades(2)
    raise RuntimeError("no third frame")


@pytest.mark.parametrize("ending", [".webp", ".mp4"])
def test_a_film_that_breaks_off_leaves_nothing(tmp_path: Path, ending: str) -> None:
    if ending == ".mp4":
        pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg, which writes MP4, is not here")
    with pytest.raises(RuntimeError, match="no third frame"):
        save_film(fails(), tmp_path / f"film{ending}")
    assert list(tmp_path.iterdir()) == []


def test_what_makes_no_film_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"not as \.avi"):
        save_film(shades(2), tmp_path / "film.avi")
    with pytest.raises(ValueError, match="at least one frame"):
        save_film([], tmp_path / "film.gif")
    with pytest.raises(ValueError, match="follow at one rate"):
        save_film(shades(2), tmp_path / "film.mp4", durations=[1, 2])
    with pytest.raises(ZooError, match=r"--film is \.avi; expected one of"):
        check_film(".avi")
    monkeypatch.setattr(films, "MOST_PIXELS", 2 * 16 * 24)
    with pytest.raises(ZooError, match=r"too many for \.gif"):
        save_film(shades(3), tmp_path / "film.gif")
    assert list(tmp_path.iterdir()) == []


def test_an_mp4_without_its_extra_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ZooError, match=r"pip install 'translation-zoo\[video\]'"):
        save_film(shades(2), tmp_path / "film.mp4")
    with pytest.raises(ZooError, match="imageio-ffmpeg, which is not installed"):
        check_film(".mp4")
    check_film(".gif")


def test_an_encoder_that_fails_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg, which writes MP4, is not here")
    monkeypatch.setattr(films, "CRF", "excellent")
    with pytest.raises(ZooError, match="ffmpeg could not write"):
        save_film(shades(3), tmp_path / "film.mp4")
    assert list(tmp_path.iterdir()) == []
