"""`lightning translate --attention`: where each picture was repainted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from support.commands import TINY, lightning, write_recipe
from support.pictures import pixels
from zoo.callbacks.judging import gives_attention
from zoo.cli.sheets import sheet
from zoo.cli.translate import attend_any_size, attentive_rooms, plan, read
from zoo.core.images import to_uint8
from zoo.core.loading import load_translator
from zoo.core.runs import Run
from zoo.core.translator import Translator
from zoo.cyclegan import CycleGAN
from zoo.errors import ZooError

SIZES: dict[str, Any] = {
    "generator_channels": 4,
    "residual_blocks": 1,
    "attention_channels": 4,
    "discriminator_channels": 4,
    "discriminator_layers": 1,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("attention")
    recipe = write_recipe(folder, model={"class_path": "zoo.aggan.AGGAN", "init_args": SIZES})
    words = ["--trainer.max_steps", 1, "--run.name", "a", "--samples.enabled", False]
    assert lightning("fit", "--config", recipe, *words) == 0
    return Run(folder / "runs" / "tiny" / "a")


@pytest.fixture(scope="module")
def inattentive(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("cyclegan")
    assert TINY["model"]["class_path"] == "zoo.cyclegan.CycleGAN"
    assert lightning("fit", "--config", write_recipe(folder), "--trainer.max_steps", 1, "--run.name", "a") == 0
    return Run(folder / "runs" / "tiny" / "a")


def save(path: Path, height: int = 24, width: int = 32, number: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(height, width, number)).save(path)
    return path


def opened(path: Path) -> tuple[str, np.ndarray]:
    with Image.open(path) as picture:
        return picture.mode, np.array(picture)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert lightning("translate", *words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_maps_lie_beside_the_translations(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture, out = save(tmp_path / "a.png"), tmp_path / "out"
    assert lightning("translate", run.folder, picture, "--output", out, "--attention") == 0
    assert f"Attention maps: {out}" in capsys.readouterr().out
    assert names(out) == ["a.png", "a_attention.png", "sheet.png"]
    translation, attention = load_translator(run.folder).translate(read(picture, None), return_attention=True)  # type: ignore[call-arg]
    mode, shown = opened(out / "a_attention.png")
    assert mode == "L"
    np.testing.assert_array_equal(shown, (attention[0, 0] * 255).round().numpy())
    np.testing.assert_array_equal(opened(out / "a.png")[1], to_uint8(translation)[0].permute(1, 2, 0).numpy())
    with_map, plain = opened(out / "sheet.png")[1], tmp_path / "plain"
    assert lightning("translate", run.folder, picture, "--output", plain) == 0
    assert names(plain) == ["a.png", "sheet.png"]
    assert with_map.shape[1] > opened(plain / "sheet.png")[1].shape[1] + 32


@pytest.mark.parametrize("size", [(24, 32), (5, 7), (33, 30)])
@pytest.mark.parametrize("to", ["target", "source"])
def test_maps_have_a_folder_and_the_pictures_size(run: Run, tmp_path: Path, size: tuple[int, int], to: str) -> None:
    save(tmp_path / "in" / "a.png", *size)
    save(tmp_path / "in" / "b.png", *size, number=1)
    words = [tmp_path / "in", "--output", tmp_path / "out", "--attention", tmp_path / "deep" / "maps", "--to", to]
    assert lightning("translate", run.folder, *words) == 0
    assert names(tmp_path / "out") == ["a.png", "b.png", "sheet.png"]
    assert names(tmp_path / "deep" / "maps") == ["a.png", "b.png"]
    for name in ("a.png", "b.png"):
        assert opened(tmp_path / "deep" / "maps" / name)[1].shape == size
        assert opened(tmp_path / "out" / name)[1].shape == (*size, 3)


def test_a_room_without_attention_says_which_rooms_have_it(
    inattentive: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [inattentive.folder, save(tmp_path / "a.png"), "--output", tmp_path / "out", "--attention"]
    said = refused(capsys, *words)
    assert "CycleGAN gives no attention maps: leave --attention out. Rooms that do: aggan" in said
    assert not (tmp_path / "out").exists()
    assert "aggan" in attentive_rooms().split(", ")
    assert "cyclegan" not in attentive_rooms()
    assert not gives_attention(CycleGAN)


def test_nothing_is_overwritten_silently(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture, out = save(tmp_path / "in" / "a.png"), tmp_path / "out"
    words = [run.folder, picture, "--output", out]
    maps = save(tmp_path / "maps" / "a.png").parent
    assert "is there already (1 such files)" in refused(capsys, *words, "--attention", maps)
    assert not out.exists()
    assert lightning("translate", *words, "--attention", maps, "--overwrite") == 0
    assert opened(maps / "a.png")[0] == "L"
    said = refused(capsys, *words, "--attention", picture.parent, "--overwrite")
    assert "is one of the pictures to translate, and would be replaced. Give another --attention." in said
    assert "--attention" in refused(capsys, *words, "--overwrite", "--attention", picture)


def test_maps_beside_translations_get_names_of_their_own(tmp_path: Path) -> None:
    pictures = [tmp_path / "in" / name for name in ("a.png", "a_attention.png")]
    out = tmp_path / "out"
    first, second = plan(pictures, out, overwrite=False, maps=tmp_path / "in" / ".." / "out")
    found = [path.name for job in (first, second) for path in (*job.outputs, *job.maps)]
    assert found == ["a.png", "a_attention.png", "in_a_attention.png", "a_attention_attention.png"]
    (styled,) = plan(pictures[:1], out, overwrite=False, labels=["style1", "style2"], maps=out)
    assert [path.name for path in styled.maps] == ["a_style1_attention.png", "a_style2_attention.png"]
    (elsewhere,) = plan(pictures[:1], out, overwrite=False, labels=["style1"], maps=tmp_path / "maps")
    assert elsewhere.maps == (tmp_path / "maps" / "a_style1.png",)
    (without,) = plan(pictures[:1], out, overwrite=False)
    assert without.maps == ()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ZooError, match=r"--attention .* is a file"):
        plan(pictures, out, overwrite=False, maps=tmp_path / "file")


class Half(Translator):
    """Repaints the left half of what it sees."""

    size_multiple = 16

    def translate(self, image: torch.Tensor, *, to: str = "target", return_attention: bool = False) -> Any:
        attention = torch.zeros(len(image), 1, *image.shape[-2:])
        attention[..., : image.shape[-1] // 2] = 1
        return (-image, attention) if return_attention else -image


def test_maps_are_cut_back_as_translations_are() -> None:
    image = torch.rand(1, 3, 20, 24)
    translation, attention = attend_any_size(Half(), image, "target")
    assert torch.equal(translation, -image)
    assert attention.shape == (1, 1, 20, 24)
    assert attention[..., :16].eq(1).all()  # half of the padded 32
    assert attention[..., 16:].eq(-1).all()


def test_a_sheet_has_a_column_of_maps_for_every_style() -> None:
    colours, maps = torch.zeros(1, 3, 8, 8), torch.ones(1, 1, 8, 8)
    exemplar = torch.zeros(1, 3, 16, 16)
    styles = [("one", exemplar), ("two", exemplar)]
    rows = [[colours, colours, maps, colours, maps]] * 3
    wide = sheet(rows, styles, attention=True)
    narrow = sheet([[colours, colours, colours]] * 3, styles)
    assert wide.width > narrow.width
    assert wide.height == narrow.height
    cut = sheet([row[:3] for row in rows], styles, attention=True)  # of more styles than a sheet has room for
    assert cut.width < wide.width
