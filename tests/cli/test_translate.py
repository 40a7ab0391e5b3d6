"""`lightning translate` on every odd picture there is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from support.commands import lightning, write_recipe
from support.pictures import make_folder, make_good, pixels
from zoo.cli.sheets import stacked
from zoo.cli.translate import find_pictures, parse, plan, read, translate_any_size
from zoo.core.images import to_uint8
from zoo.core.loading import load_translator
from zoo.core.runs import Run
from zoo.core.translator import Translator
from zoo.errors import ZooError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("translate")
    words = ["--trainer.max_steps", 2, "--run.name", "a", "--samples.enabled", False]
    assert lightning("fit", "--config", write_recipe(folder), *words) == 0
    return Run(folder / "runs" / "tiny" / "a")


def save(path: Path, height: int = 24, width: int = 32, number: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(height, width, number)).save(path)
    return path


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        assert picture.mode == "RGB"
        return picture.size


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert lightning("translate", *words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_a_translation_is_the_models(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = save(tmp_path / "a.png")
    model = load_translator(run.folder)
    for to, options in {"target": [], "source": ["--to", "source"]}.items():
        out = tmp_path / to
        assert lightning("translate", run.folder, picture, "--output", out, *options) == 0
        expected = to_uint8(model.translate(read(picture, None), to=to))[0].permute(1, 2, 0).numpy()
        with Image.open(out / "a.png") as translated:
            np.testing.assert_array_equal(np.array(translated), expected)
        said = capsys.readouterr().out
        assert f"1/1  {picture} -> {out / 'a.png'}" in said
        assert f"1 of 1 pictures are translated, in {out}" in said
        assert size_of(out / "sheet.png")[0] > 2 * 32
    by_file = tmp_path / "by file"
    assert lightning("translate", run.checkpoint_path(2), picture, "--output", by_file) == 0
    assert (by_file / "a.png").read_bytes() == (tmp_path / "target" / "a.png").read_bytes()


@pytest.mark.parametrize("kind", ["grey", "black and white", "alpha", "grey with alpha"])
def test_every_mode_becomes_colour(run: Run, tmp_path: Path, kind: str) -> None:
    rgb = make_good(kind, tmp_path / "a.png")
    assert lightning("translate", run.folder, tmp_path / "a.png", "--output", tmp_path / "out") == 0
    Image.fromarray(rgb).save(tmp_path / "plain.png")
    assert lightning("translate", run.folder, tmp_path / "plain.png", "--output", tmp_path / "out2") == 0
    assert (tmp_path / "out" / "a.png").read_bytes() == (tmp_path / "out2" / "plain.png").read_bytes()


def test_sixteen_bits_are_scaled_and_not_clipped(run: Run, tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 24 * 32).reshape(24, 32).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray((deep / 257).round().astype(np.uint8)).save(tmp_path / "flat.png")
    assert (
        lightning("translate", run.folder, tmp_path / "deep.png", tmp_path / "flat.png", "--output", tmp_path / "o")
        == 0
    )
    pictures = [np.array(Image.open(tmp_path / "o" / name)).astype(int) for name in ("deep.png", "flat.png")]
    assert np.abs(pictures[0] - pictures[1]).max() <= 2


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (1, 50), (33, 30), (64, 17)])
def test_every_size_comes_back(run: Run, tmp_path: Path, size: tuple[int, int]) -> None:
    save(tmp_path / "a.png", *size)
    assert lightning("translate", run.folder, tmp_path / "a.png", "--output", tmp_path / "out") == 0
    assert size_of(tmp_path / "out" / "a.png") == (size[1], size[0])


class Recording(Translator):
    """Gives back what it was shown, and keeps its size."""

    size_multiple = 16
    smallest_size = 40

    def translate(self, image: torch.Tensor, *, to: str = "target") -> torch.Tensor:
        self.shown = image
        return image


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (1, 100), (48, 48), (50, 100)])
def test_pictures_are_padded_by_mirroring_and_cut_back(size: tuple[int, int]) -> None:
    image = torch.arange(3.0 * size[0] * size[1]).view(1, 3, *size)
    model = Recording()
    assert torch.equal(translate_any_size(model, image, "target"), image)
    height, width = model.shown.shape[-2:]
    assert height % 16 == width % 16 == 0
    assert height >= 48
    assert width >= 48
    assert height < max(49, size[0] + 16)
    assert width < max(49, size[1] + 16)
    assert set(model.shown.flatten().tolist()) == set(image.flatten().tolist())
    if size == (50, 100):
        assert torch.equal(model.shown[..., 50:64, :100], image[..., 35:49, :].flip(-2))


def test_the_shorter_side_can_be_set(run: Run, tmp_path: Path) -> None:
    save(tmp_path / "a.png", 24, 48)
    for size, expected in ((12, (24, 12)), (48, (96, 48))):
        out = tmp_path / str(size)
        assert lightning("translate", run.folder, tmp_path / "a.png", "--output", out, "--size", size) == 0
        assert size_of(out / "a.png") == expected


def test_files_folders_and_patterns_are_searched(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(tmp_path / "one", 2)
    save(tmp_path / "one" / "deep er" / "bild – größe.JPG")
    save(tmp_path / "two" / "x1.png")
    save(tmp_path / "two" / "x2.png")
    (tmp_path / "one" / "notes.txt").write_text("no picture")
    monkeypatch.chdir(tmp_path)
    words = ["one", "two/x*.png", "two/x1.png", "--output", "out", "--no-sheet"]
    assert lightning("translate", run.folder, *words) == 0
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "000.png",
        "001.png",
        "bild – größe.png",
        "x1.png",
        "x2.png",
    ]
    assert "5 of 5 pictures" in capsys.readouterr().out
    assert find_pictures(["two/x2.png", "two"]) == [Path("two/x2.png"), Path("two/x1.png")]


def test_pictures_of_one_name_get_two(run: Run, tmp_path: Path) -> None:
    for folder, number in (("a", 1), ("b", 2), ("c/a", 3)):
        save(tmp_path / folder / "x.png", number=number)
    save(tmp_path / "a" / "x.bmp", number=4)
    save(tmp_path / "a" / "sheet.png", number=5)
    words = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    assert lightning("translate", run.folder, *words, "--output", tmp_path / "out") == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["a_sheet.png", "a_x.png", "a_x_2.png", "b_x.png", "sheet.png", "x.png"]
    pictures = {name: (tmp_path / "out" / name).read_bytes() for name in names}
    assert len(set(pictures.values())) == 6


def test_nothing_is_overwritten_silently(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture, out = save(tmp_path / "in" / "a.png"), tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_text("mine")
    assert "is there already (1 such files). Give another --output, or --overwrite." in refused(
        capsys, run.folder, picture, "--output", out
    )
    assert [path.name for path in out.iterdir()] == ["a.png"]
    assert (out / "a.png").read_text() == "mine"
    assert lightning("translate", run.folder, picture, "--output", out, "--overwrite") == 0
    assert size_of(out / "a.png") == (32, 24)
    capsys.readouterr()
    before = picture.read_bytes()
    said = refused(capsys, run.folder, picture, "--output", picture.parent, "--overwrite")
    assert "is one of the pictures to translate, and would be replaced" in said
    link = tmp_path / "link"
    link.symlink_to(picture.parent)
    assert "would be replaced" in refused(capsys, run.folder, picture, "--output", link, "--overwrite")
    assert picture.read_bytes() == before
    assert "is a file; expected a folder" in refused(capsys, run.folder, picture, "--output", picture)


def test_a_bad_file_is_named_and_the_others_are_done(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_folder(tmp_path / "in", 3)
    (folder / "001.png").write_bytes((folder / "001.png").read_bytes()[:100])
    (folder / "text.png").write_text("this is no picture")
    assert lightning("translate", run.folder, folder, "--output", tmp_path / "out") == 1
    said = capsys.readouterr()
    assert said.err.count("lightning: left out") == 2
    for name in ("001.png", "text.png"):
        assert f"left out {folder / name}: " in said.err
    assert "2 of 4 pictures are translated" in said.out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["000.png", "002.png", "sheet.png"]
    assert lightning("translate", run.folder, folder / "text.png", "--output", tmp_path / "none") == 1
    assert not (tmp_path / "none" / "sheet.png").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    {
        "RUN nothing.png --output OUT": "'nothing.png' is no picture, folder or pattern that matches one.",
        "RUN PICTURES/a.pgn --output OUT": "Did you mean 'a.png'?",
        "RUN PICTURES/empty --output OUT": "holds no picture (.bmp, ",
        "nothing PICTURES --output OUT": "There are no weights, no run and no file called 'nothing'.",
        "runs/nothing.ckpt PICTURES --output OUT": "There is no checkpoint at runs/nothing.ckpt.",
        "PICTURES PICTURES --output OUT": "it holds no checkpoint",
        "RUN PICTURES --output OUT --to nowhere": "translates to 'target' or to 'source', not to 'nowhere'",
        "RUN PICTURES --output OUT --size 0": "--size is 0; expected a number of pixels",
        "RUN PICTURES --output OUT --size big": "argument --size: invalid int value: 'big'.",
        "RUN PICTURES --output OUT --device tpu9": "--device tpu9 is not to be had here",
        "RUN PICTURES --output OUT --outptu X": "Did you mean '--output'?",
        "": "the following arguments are required: checkpoint, images.",
    }.items(),
)
def test_mistakes(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, sentence: str) -> None:
    save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "empty").mkdir()
    given = {"RUN": str(run.folder), "OUT": str(tmp_path / "out")}
    arguments = [given.get(word, word.replace("PICTURES", str(tmp_path / "in"))) for word in words.split()]
    assert sentence in refused(capsys, *arguments)
    assert not (tmp_path / "out").exists()


def test_the_page_of_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert lightning("translate", "--help") == 0
    assert "--no-sheet" in capsys.readouterr().out


def test_a_sheet_holds_pictures_of_several_sizes() -> None:
    column = stacked([torch.zeros(1, 3, 4, 6), torch.zeros(1, 3, 5, 2)])
    assert column.shape == (2, 3, 5, 6)
    assert column[0, :, :4].eq(0).all()
    assert column[0, :, 4:].eq(1).all()
    assert column[1, ..., 2:].eq(1).all()


def test_a_plan_is_made_before_anything_is_written(tmp_path: Path) -> None:
    jobs = plan([tmp_path / "a" / "x.jpg", tmp_path / "a" / "x.png"], tmp_path / "out", overwrite=False)
    assert [path.name for job in jobs for path in job.outputs] == ["x.png", "a_x.png"]
    assert not (tmp_path / "out").exists()
    with pytest.raises(ZooError, match="--size is -4"):
        parse(["c", "i", "--output", "o", "--size=-4"])
