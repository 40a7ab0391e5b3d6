"""HiDT through the command: trained, resumed and put to use."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from support.commands import lightning, rows, write_recipe
from support.pictures import make_folder
from zoo.core.images import to_uint8
from zoo.core.loading import load_translator
from zoo.core.runs import Run
from zoo.hidt import HiDT
from zoo.hidt.styles import NAMED_STYLES, named_style

MODEL = {
    "generator_channels": 5,
    "encoder_blocks": 1,
    "decoder_blocks": 1,
    "mapping_channels": 6,
    "discriminator_channels": 2,
    "discriminator_levels": 2,
    "inference_size": 32,
}
DATA = {"task": "daylight", "size": 32, "batch_size": 1, "workers": 0, "validation_count": 3, "test_count": 3}


def recipe(folder: Path, **changes: Any) -> Path:
    model = {"class_path": "zoo.hidt.HiDT", "init_args": MODEL}
    data = {"class_path": "datamodules.Scenes", "init_args": DATA}
    return write_recipe(folder, name="hidt", **{"model": model, "data": data, "judge": {"enabled": True}, **changes})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of two iterations, judged."""
    folder = tmp_path_factory.mktemp("hidt")
    words = ["--run.name", "a", "--trainer.max_steps", 2, "--trainer.val_check_interval", 2]
    assert lightning("fit", "--config", recipe(folder), *words) == 0
    return Run(folder / "runs" / "hidt" / "a")


def test_a_training_is_judged_by_what_is_known_of_landscapes(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    last = rows(run)[-1]
    for name in ("label_iou", "tone_error", "tone_choice", "psnr", "mask_accuracy", "style_distance"):
        assert float(last[f"val/{name}"]) >= 0, name
    assert float(last["loss/mask"]) > 0
    assert list(run.samples.glob("*.png"))
    assert lightning("test", "--config", run.config, "--ckpt_path", run.checkpoint_path(2)) == 0
    assert "own light nearer" in capsys.readouterr().out


def test_every_picture_in_the_light_of_every_exemplar(run: Run, tmp_path: Path) -> None:
    contents, exemplars = make_folder(tmp_path / "contents", 2, 40, 56), make_folder(tmp_path / "styles", 3, 50, 40, 7)
    out = tmp_path / "out"
    assert lightning("translate", run.folder, contents, "--reference", exemplars, "--output", out) == 0
    assert len(list(out.glob("00[01]_00[012].png"))) == 6
    with Image.open(out / "000_001.png") as picture:
        assert picture.size == (56, 40), "a picture of any size keeps it"


def test_named_styles_are_those_of_the_authors(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = make_folder(tmp_path / "contents", 1, 32, 48) / "000.png"
    words = ["translate", run.folder, picture, "--output"]
    assert lightning(*words, tmp_path / "named", "--styles", "night", "day") == 0
    model = load_translator(run.folder)
    assert isinstance(model, HiDT)
    source = torch.from_numpy(np.asarray(Image.open(picture)).copy()).permute(2, 0, 1)[None] / 127.5 - 1
    expected = to_uint8(model.translate(source, latent=named_style("night")))[0].permute(1, 2, 0).numpy()
    found = np.asarray(Image.open(tmp_path / "named" / "000_night.png")).astype(int)
    assert np.abs(found - expected).max() <= 1
    assert lightning(*words, tmp_path / "all", "--styles", "all", "--no-sheet") == 0
    assert len(list((tmp_path / "all").iterdir())) == len(NAMED_STYLES)
    capsys.readouterr()
    for wrong, message in (
        (["--styles", "nigt"], "There is no style named 'nigt'. Did you mean 'night'"),
        (["--styles", "night", "--seed", 3], "leave --reference, --latents, --seed and"),
        (["--resolution", 512], "leave --resolution out"),
        (["--lapse", 1], "expected at least 2 frames"),
        (["--styles", "night", "--lapse", 3], "Say two or more"),
    ):
        assert lightning(*words, tmp_path / "wrong", *wrong) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize("styles", ["names", "exemplars", "chance"])
def test_a_time_lapse_goes_from_style_to_style(run: Run, tmp_path: Path, styles: str) -> None:
    contents = make_folder(tmp_path / "contents", 2, 33, 50)
    words = {
        "names": ["--styles", "day", "night"],
        "exemplars": ["--reference", make_folder(tmp_path / "styles", 2, 40, 40, 5)],
        "chance": ["--latents", 2, "--seed", 1],
    }[styles]
    command = ["translate", run.folder, contents, "--output", tmp_path / "out", "--lapse", 4, *words]
    assert lightning(*command) == 0
    files = sorted((tmp_path / "out").iterdir())
    assert [file.name for file in files] == ["000_lapse.webp", "001_lapse.webp"]
    with Image.open(files[0]) as video:
        assert video.n_frames == 4  # type: ignore[attr-defined]
        assert video.size == (50, 33)
        first = np.asarray(video.convert("RGB")).astype(int)
        video.seek(3)
        last = np.asarray(video.convert("RGB")).astype(int)
    singles = ["translate", run.folder, contents, "--output", tmp_path / "single", "--no-sheet", *words]
    assert lightning(*singles) == 0
    by_style = [np.asarray(Image.open(file)).astype(int) for file in sorted((tmp_path / "single").glob("000_*.png"))]
    ends = (first, by_style[0], by_style[1]), (last, by_style[1], by_style[0])
    for frame, own, other in ends:  # the video is compressed
        assert np.abs(frame - own).mean() < 16
        assert np.abs(frame - own).mean() < np.abs(frame - other).mean()
    assert lightning(*command) == 2, "nothing is overwritten unasked"
    assert lightning(*command, "--overwrite", "--film", ".gif") == 0
    assert {file.name for file in (tmp_path / "out").glob("*.gif")} == {"000_lapse.gif", "001_lapse.gif"}


def test_what_other_rooms_cannot_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lightning("fit", "--config", write_recipe(tmp_path), "--run.name", "c", "--trainer.max_steps", 1) == 0
    words = ["translate", tmp_path / "runs/tiny/c", make_folder(tmp_path / "p", 1), "--output", tmp_path / "out"]
    capsys.readouterr()
    assert lightning(*words, "--styles", "night") == 2
    assert "CycleGAN has no named styles: leave --styles out" in capsys.readouterr().err
    assert lightning(*words, "--lapse", 4) == 2
    assert "CycleGAN makes no time lapses: leave --lapse out" in capsys.readouterr().err


def test_the_enhancement_stands_on_a_run_and_enlarges_through_the_command(run: Run, tmp_path: Path) -> None:
    own = {key: value for key, value in MODEL.items() if not key.startswith(("discriminator", "inference"))}
    sizes = {"enhancer_channels": 4, "enhancer_groups": 1, "enhancer_growth": 2, "discriminator_channels": 2}
    model = {
        "class_path": "zoo.hidt.enhancement.HiDTEnhancer",
        "init_args": {
            **own,
            **sizes,
            "translator": str(run.folder),
            "perceptual": None,
            "inference_size": 32,
            "tile": 16,
        },
    }
    data = {"class_path": "datamodules.Scenes", "init_args": {**DATA, "size": 64}}
    path = recipe(tmp_path, model=model, data=data, judge={"enabled": False})
    words = ["--run.name", "e", "--trainer.max_steps", 2, "--trainer.val_check_interval", 2]
    assert lightning("fit", "--config", path, *words) == 0
    picture = make_folder(tmp_path / "contents", 1, 60, 60) / "000.png"
    command = ["translate", tmp_path / "runs/hidt/e", picture, "--styles", "night", "--no-sheet", "--output"]
    assert lightning(*command, tmp_path / "out") == 0
    assert lightning(*command, tmp_path / "large", "--resolution", 256) == 0
    for folder, side in (("out", 128), ("large", 256)):
        with Image.open(tmp_path / folder / "000_night.png") as result:
            assert result.size == (side, side)


def test_one_folder_of_pictures_is_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pile = make_folder(tmp_path / "pile", 5, 40, 50)
    data = {
        "class_path": "datamodules.Landscapes",
        "init_args": {"images": str(pile), "size": 32, "batch_size": 1, "workers": 0, "validation_fraction": 0.4},
    }
    words = ["--run.name", "b", "--trainer.max_steps", 2, "--trainer.val_check_interval", 2]
    assert lightning("fit", "--config", recipe(tmp_path, data=data, judge={"enabled": False}), *words) == 0
    output = capsys.readouterr()
    assert "has no segmentation labels, so the losses on masks are off" in output.err
    assert "labels none" in output.out
    last = rows(Run(tmp_path / "runs" / "hidt" / "b"))[-1]
    assert "loss/mask" not in last
    assert float(last["val/reconstruction_psnr"]) > 0
