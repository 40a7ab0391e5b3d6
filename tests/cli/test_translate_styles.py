"""`lightning translate` in the styles of exemplars, and in random ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from support.commands import lightning, write_recipe
from support.pictures import pixels
from support.styled import SAMPLER, registered, styled_run
from support.toy import PlainRoom, StyledRoom
from zoo.cli.sheets import sheet
from zoo.cli.translate import Style, choose_styles, parse, plan, read, translate_any_size
from zoo.core.images import to_uint8
from zoo.core.loading import load_translator
from zoo.core.runs import Run
from zoo.core.translator import Translator
from zoo.errors import ZooError


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    with registered():
        yield


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose sampler was fitted at the end of the training."""
    return styled_run(tmp_path_factory.mktemp("sampled"), *SAMPLER)


@pytest.fixture(scope="module")
def unsampled(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return styled_run(tmp_path_factory.mktemp("unsampled"))


@pytest.fixture(scope="module")
def exemplars_only(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return styled_run(tmp_path_factory.mktemp("plain"), room="PlainRoom")


@pytest.fixture(scope="module")
def styleless(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("cyclegan")
    assert lightning("fit", "--config", write_recipe(folder), "--trainer.max_steps", 1, "--run.name", "a") == 0
    return Run(folder / "runs" / "tiny" / "a")


def save(path: Path, height: int = 24, width: int = 32, number: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(height, width, number)).save(path)
    return path


def opened(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


def as_pixels(image: torch.Tensor) -> np.ndarray:
    return to_uint8(image)[0].permute(1, 2, 0).numpy()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert lightning("translate", *words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_every_picture_is_translated_in_the_style_of_every_exemplar(
    sampled: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = [save(tmp_path / "in" / f"{name}.png", number=number) for number, name in enumerate("ab")]
    exemplars = [save(tmp_path / "styles" / f"{name}.png", 11, 57, number + 5) for number, name in enumerate("xyz")]
    out = tmp_path / "out"
    words = [tmp_path / "in", "--reference", tmp_path / "styles", "--output", out, "--correspondence", 0.5]
    assert lightning("translate", sampled.folder, *words) == 0
    assert names(out) == [*(f"{a}_{x}.png" for a in "ab" for x in "xyz"), "sheet.png"]
    model = load_translator(sampled.folder)
    for picture in pictures:
        for exemplar in exemplars:
            expected = model.translate(read(picture, None), reference=read(exemplar, None), correspondence=0.5)  # type: ignore[call-arg]
            np.testing.assert_array_equal(opened(out / f"{picture.stem}_{exemplar.stem}.png"), as_pixels(expected))
    said = capsys.readouterr().out
    assert f"2/2  {pictures[1]} -> {out / 'b_z.png'}" in said
    assert f"2 of 2 pictures are translated, in 3 styles each, in {out}" in said


def test_random_styles_are_six_and_the_same_for_every_picture(sampled: Run, tmp_path: Path) -> None:
    picture, other = save(tmp_path / "a.png"), save(tmp_path / "b.png", 16, 16, 3)
    assert lightning("translate", sampled.folder, picture, other, "--output", tmp_path / "six") == 0
    assert names(tmp_path / "six") == [*(f"{a}_style{n}.png" for a in "ab" for n in range(1, 7)), "sheet.png"]
    assert len({(tmp_path / "six" / f"a_style{n}.png").read_bytes() for n in range(1, 7)}) == 6
    generator = torch.Generator().manual_seed(0)
    model = load_translator(sampled.folder)
    for number in range(6):
        latent = torch.randn(1, 3, generator=generator)
        expected = model.translate(read(other, None), latent=latent)  # type: ignore[call-arg]
        np.testing.assert_array_equal(opened(tmp_path / "six" / f"b_style{number + 1}.png"), as_pixels(expected))
    for seed, same in ((0, True), (7, False)):
        out = tmp_path / f"seed{seed}"
        assert lightning("translate", sampled.folder, other, "--output", out, "--latents", 2, "--seed", seed) == 0
        assert names(out) == ["b_style1.png", "b_style2.png", "sheet.png"]
        assert ((out / "b_style2.png").read_bytes() == (tmp_path / "six" / "b_style2.png").read_bytes()) == same


def test_the_sheet_has_exemplars_on_top_and_sources_on_the_left() -> None:
    white, grey, black = (torch.full((1, 3, 40, 40), value) for value in (1.0, 0.0, -1.0))
    styles = [("x", black), ("a much longer name than there is room for", grey)]
    picture = np.array(sheet([[grey, white, black], [black, grey, white]], styles))
    top = picture.shape[0] - 3 * 42
    centres = [top + 42 * row + 20 for row in range(3)]

    def column(start: int) -> list[int]:
        return [int(picture[centre, start + 20, 0]) for centre in centres]

    assert column(2) == [255, 128, 0]  # an empty cell, then the sources
    assert column(2 + 42) == [0, 255, 128]
    assert picture.shape[1] < 400
    plain = np.array(sheet([[grey, white]], [("", None)]))
    assert plain.shape[0] == picture.shape[0] - 2 * 42  # no row of exemplars where there are none


def test_names_never_clash(tmp_path: Path) -> None:
    pictures = [tmp_path / "p" / "a.png", tmp_path / "p" / "a_b.png", tmp_path / "q" / "a.png"]
    jobs = plan(pictures, tmp_path / "out", overwrite=False, labels=["b_c", "c"])
    outputs = [path.name for job in jobs for path in job.outputs]
    assert len(set(outputs)) == 6
    assert outputs[:3] == ["a_b_c.png", "a_c.png", "a_b_b_c.png"]
    assert outputs[3:] == ["p_a_b_c.png", "q_a_b_c.png", "q_a_c.png"]


def test_exemplars_of_one_name_are_told_apart(sampled: Run, tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    for number, folder in enumerate("st"):
        save(tmp_path / folder / "x.png", number=number)
    words = ["--reference", tmp_path / "s", tmp_path / "t", "--output", tmp_path / "out", "--no-sheet"]
    assert lightning("translate", sampled.folder, tmp_path / "a.png", *words) == 0
    assert names(tmp_path / "out") == ["a_t_x.png", "a_x.png"]


@pytest.mark.parametrize(
    ("run", "words", "sentence"),
    [
        ("styleless", "--reference IN/x.png", "CycleGAN takes no exemplar: leave --reference out."),
        ("styleless", "--latents 3", "CycleGAN draws no random styles: leave --latents out."),
        ("styleless", "--seed 3", "CycleGAN draws no random styles: leave --seed out."),
        ("styleless", "--correspondence 0.5", "CycleGAN has no strength of correspondence: leave --correspondence out."),
        ("exemplars_only", "", "PlainRoom translates in the style of an exemplar. Say which: --reference PICTURE"),
        ("exemplars_only", "--latents 2", "PlainRoom draws no random styles: leave --latents out."),
        ("unsampled", "", "StyledRoom translates in the style of an exemplar. Say which: --reference PICTURE"),
        ("unsampled", "--latents 2", "this StyledRoom is not fitted, so it draws no styles yet. Fit it: lightning sampler RUN"),
        ("sampled", "--reference IN/x.png --latents 2", "--reference gives the style by exemplars and --latents by chance: leave one"),
        ("sampled", "--latents 0", "--latents is 0; expected a number of styles, such as --latents 6."),
        ("sampled", "--reference IN/y.png", "is no picture, folder or pattern that matches one. Did you mean 'x.png'?"),
        ("sampled", "--reference IN/bad.png", "--reference IN/bad.png: "),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_before_any_work(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    run: str,
    words: str,
    sentence: str,
) -> None:
    save(tmp_path / "x.png")
    (tmp_path / "bad.png").write_text("no picture")
    folder = request.getfixturevalue(run).folder
    given = words.replace("IN", str(tmp_path)).split()
    said = refused(capsys, folder, tmp_path / "x.png", *given, "--output", tmp_path / "out")
    assert sentence.replace("IN", str(tmp_path)).replace("RUN", str(folder)) in said
    assert not (tmp_path / "out").exists()


def test_exemplars_serve_a_model_without_a_sampler(exemplars_only: Run, unsampled: Run, tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    for run in (exemplars_only, unsampled):
        out = tmp_path / run.folder.parts[-4]
        words = [tmp_path / "a.png", "--reference", tmp_path / "a.png", "--output", out]
        assert lightning("translate", run.folder, *words) == 0
        assert names(out) == ["a_a.png", "sheet.png"]


def test_a_room_of_one_size_gives_that_size_whole() -> None:
    class Fixed(Translator):
        def translate(self, image: torch.Tensor, *, to: str = "target") -> torch.Tensor:
            return torch.zeros(len(image), 3, 32, 32)

    for size in ((20, 50), (64, 64), (32, 32)):
        assert translate_any_size(Fixed(), torch.zeros(1, 3, *size), "target").shape == (1, 3, 32, 32)


def test_a_room_that_does_not_translate_says_so() -> None:
    with pytest.raises(ZooError, match="Translator does not translate: it is trained for others to build upon"):
        choose_styles(Translator(), parse(["run", "picture", "--output", "out"]))


def test_options_go_by_what_the_room_says_it_takes() -> None:
    class Strong(Translator):
        def translate(self, image: torch.Tensor, *, to: str = "target", correspondence: float = 1.0) -> torch.Tensor:
            return image

    def styles(model: Translator, *words: str) -> list[Style]:
        return choose_styles(model, parse(["run", "picture", "--output", "out", *words]))

    assert styles(Strong(), "--correspondence", "2") == [Style(options={"correspondence": 2.0})]
    assert styles(Strong()) == [Style()]
    room = StyledRoom()
    with pytest.raises(ZooError, match="Say which: --reference"):
        styles(room)
    room.sampler_fitted.fill_(True)
    assert [style.label for style in styles(room, "--latents", "2")] == ["style1", "style2"]
    with pytest.raises(ZooError, match="has no strength of correspondence"):
        styles(PlainRoom(), "--correspondence", "2")
