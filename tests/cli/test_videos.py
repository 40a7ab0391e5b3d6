"""`lightning translate` on films: as many frames, as quickly, each translated."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from support.commands import lightning, write_recipe
from support.pictures import pixels
from zoo.cli import videos
from zoo.cli.any_size import translate_any_size
from zoo.cli.videos import is_film, open_film, tensor_of, translate_film
from zoo.core.films import save_film
from zoo.core.images import to_uint8
from zoo.core.loading import load_translator
from zoo.core.runs import Run
from zoo.core.translator import Translator

HEIGHT, WIDTH = 24, 32
TIMES = [40, 200, 120]
pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg, which reads and writes videos, is not here")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("videos")
    words = ["--trainer.max_steps", 1, "--run.name", "a", "--samples.enabled", False]
    assert lightning("fit", "--config", write_recipe(folder), *words) == 0
    return Run(folder / "runs" / "tiny" / "a")


def frames(count: int) -> list[Tensor]:
    return [tensor_of(pixels(HEIGHT, WIDTH, number))[0] for number in range(count)]


def read_all(path: Path) -> np.ndarray:
    return np.stack([to_uint8(frame)[0].permute(1, 2, 0).numpy() for frame in open_film(path).frames()])


def test_an_animation_keeps_its_times_and_gets_every_frame_translated(run: Run, tmp_path: Path) -> None:
    source = save_film(frames(3), tmp_path / "walk.webp", durations=TIMES)
    out = tmp_path / "out"
    assert lightning("translate", run.folder, source, "--output", out) == 0
    assert open_film(out / "walk.webp").durations == tuple(TIMES)
    assert (out / "sheet.png").is_file()
    assert lightning("translate", run.folder, source, "--output", out, "--film", ".png", "--overwrite") == 0
    model = load_translator(run.folder)
    with Image.open(out / "walk.png") as lossless:
        assert lossless.n_frames == 3
        for number, frame in enumerate(open_film(source).frames()):
            lossless.seek(number)
            wanted = to_uint8(translate_any_size(model, frame, "target"))[0].permute(1, 2, 0).numpy()
            np.testing.assert_array_equal(np.asarray(lossless.convert("RGB")), wanted)
            assert lossless.info["duration"] == TIMES[number]


def test_a_video_keeps_its_rate_and_length(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "mixed"
    save_film(frames(5), folder / "walk.mp4", rate=12.5)
    Image.fromarray(pixels(HEIGHT, WIDTH, 1)).save(folder / "still.png")
    out = tmp_path / "out"
    assert lightning("translate", run.folder, folder, "--output", out, "--to", "source", "--size", 16) == 0
    assert "2 of 2 pictures are translated" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {"still.png", "walk.mp4", "sheet.png"}
    made = open_film(out / "walk.mp4")
    assert (made.rate, made.count) == (12.5, 5)
    shown = read_all(out / "walk.mp4")
    assert shown.shape == (5, 16, 22, 3), "21 pixels, and one more for the format"
    model = load_translator(run.folder)
    for number, frame in enumerate(open_film(folder / "walk.mp4", 16).frames()):
        wanted = to_uint8(translate_any_size(model, frame, "source"))[0].permute(1, 2, 0).numpy()
        given = to_uint8(frame)[0].permute(1, 2, 0).numpy()
        near, far = (np.abs(shown[number, :, :21].astype(float) - picture).mean() for picture in (wanted, given))
        assert near < 15, "colours of single pixels are what H.264 keeps least"
        assert near < far / 2
    assert lightning("translate", run.folder, folder / "walk.mp4", "--output", tmp_path / "gif", "--film", ".gif") == 0
    assert open_film(tmp_path / "gif" / "walk.gif").durations == (80,) * 5


class Watched(Translator):
    """Gives pictures back, and counts how many frames were decoded before."""

    def __init__(self) -> None:
        super().__init__()
        self.decoded = 0
        self.ahead: list[int] = []
        self.seen = 0

    def translate(self, image: Tensor, to: str = "target") -> Tensor:
        self.seen += 1
        self.ahead.append(self.decoded - self.seen)
        return image


@pytest.mark.parametrize("ending", [".mp4", ".gif", ".webp"])
def test_frames_are_decoded_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    path = save_film(frames(12), tmp_path / f"walk{ending}")
    model = Watched()
    read = videos.tensor_of

    def counted(content: np.ndarray) -> Tensor:
        model.decoded += 1
        return read(content)

    monkeypatch.setattr(videos, "tensor_of", counted)
    first, translation = translate_film(model, open_film(path), tmp_path / f"out{ending}", "target")
    assert model.ahead == [0] * 12
    assert torch.equal(first, translation)


def test_what_is_a_film(tmp_path: Path) -> None:
    save_film(frames(1), tmp_path / "one.gif")
    save_film(frames(2), tmp_path / "two.gif")
    save_film(frames(2), tmp_path / "two.png")
    (tmp_path / "damaged.webp").write_bytes(b"RIFF")
    found = {path.name: is_film(path) for path in [*tmp_path.iterdir(), tmp_path / "clip.MP4"]}
    assert found == {"one.gif": False, "two.gif": True, "two.png": False, "damaged.webp": False, "clip.MP4": True}


def test_broken_videos_are_left_out_in_one_sentence(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    whole = save_film(frames(20), folder / "whole.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[:200])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "letter.avi").write_text("Dear reader")
    animation = save_film(frames(4), folder / "half.gif").read_bytes()
    (folder / "half.gif").write_bytes(animation[: len(animation) // 2])
    assert lightning("translate", run.folder, folder, "--output", tmp_path / "out") == 1
    said = capsys.readouterr()
    assert "1 of 5 pictures are translated" in said.out
    lines = sorted(line for line in said.err.splitlines() if line.startswith("lightning: "))
    assert [line.partition(": left out ")[2] for line in lines] == [
        f"{folder / 'cut.mp4'}: not a video, or a damaged one",
        f"{folder / 'empty.mp4'}: the file is empty",
        *(line.partition(": left out ")[2] for line in lines if "half.gif: damaged" in line),
        f"{folder / 'letter.avi'}: not a video, or a damaged one",
    ]
    assert len(lines) == 4
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"whole.mp4", "sheet.png"}


def test_a_video_that_ends_early_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = save_film(frames(40), tmp_path / "walk.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    model = Watched()
    translate_film(model, open_film(tmp_path / "half.mp4"), tmp_path / "out.mp4", "target")
    assert 5 < model.seen < 36
    assert f"half.mp4 ended after {model.seen} of about 40 frames" in capfd.readouterr().err
    assert len(list(open_film(tmp_path / "out.mp4").frames())) == model.seen


def test_what_cannot_be_is_said_before_anything_is_read(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_film(frames(2), tmp_path / "walk.mp4")
    words = ("translate", run.folder, path, "--output", tmp_path / "out")
    assert lightning(*words, "--attention") == 2
    assert "--attention is for pictures, and" in capsys.readouterr().err
    assert lightning(*words, "--film", ".avi") == 2
    assert "expected one of .webp, .gif, .png, .mp4" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert lightning(*words) == 2
    assert "Type: pip install 'translation-zoo[video]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
