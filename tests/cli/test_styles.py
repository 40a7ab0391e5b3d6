"""`lightning styles`, `lightning align` and the other words of a model of many domains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from support.commands import lightning, rows, write_recipe
from support.pictures import make_folder
from zoo.core.loading import load_translator
from zoo.core.runs import Run
from zoo.experts.fan import FAN
from zoo.experts.fan_masks import LANDMARKS

LOOKS = ["plain", "striped", "dotted"]
SMALL: dict[str, Any] = {
    "image_size": 32,
    "domains": LOOKS,
    "channels": 2,
    "max_channels": 4,
    "style_channels": 3,
    "latent_channels": 2,
    "mapping_channels": 4,
}


def recipe(folder: Path, **model: Any) -> Path:
    scenes = {"task": "domains", "domains": LOOKS, "size": 32, "batch_size": 2, "workers": 0, "validation_count": 3}
    return write_recipe(
        folder,
        name="stars",
        model={"class_path": "zoo.starganv2.StarGANv2", "init_args": {**SMALL, **model}},
        data={"class_path": "datamodules.Scenes", "init_args": scenes},
        judge={"enabled": True},
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of two iterations. Not to be changed."""
    folder = tmp_path_factory.mktemp("stars")
    assert lightning("fit", "--config", recipe(folder), "--trainer.max_steps", 2, "--run.name", "a") == 0
    return Run(folder / "runs" / "stars" / "a")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for number, name in enumerate(LOOKS):
        make_folder(tmp_path / "pictures" / name, 2, height=40, width=36, start=10 * number)
    return tmp_path / "pictures"


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert lightning(*words) == 2
    return capsys.readouterr().err


def test_a_run_is_judged_and_says_how_to_translate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lightning("fit", "--config", recipe(tmp_path), "--trainer.max_steps", 2, "--run.name", "a") == 0
    said = capsys.readouterr().out
    assert "own exemplar nearer" in said
    assert "PICTURES --to DOMAIN --output translated" in said
    measures = rows(Run(tmp_path / "runs" / "stars" / "a"))[-1]
    assert {
        "val/style_accuracy",
        "val/style_choice",
        "loss/generator_latent",
        "weight/lambda_diversity",
    } <= measures.keys()


def test_sheets_and_a_film(run: Run, pictures: Path, tmp_path: Path) -> None:
    words = ["styles", run.folder, pictures / "plain", "--references", pictures, "--output", tmp_path / "shown"]
    assert lightning(*words, "--latents", 3, "--truncation", 0.5, 1.0) == 0
    shown = tmp_path / "shown"
    assert sorted(path.name for path in shown.iterdir()) == [
        "cycle.png",
        "film.webp",
        "latent_0.5.png",
        "latent_1.png",
        "reference.png",
    ]
    assert size_of(shown / "reference.png") == (3 * 32, 7 * 32)  # two sources; two references of each of three domains
    assert size_of(shown / "latent_1.png") == (2 * 32, (1 + 3 * 3) * 32)
    assert size_of(shown / "cycle.png") == (2 * 32, 4 * 32)
    with Image.open(shown / "film.webp") as film:
        assert film.size == (32 + 32 + 2 * 32, 64)
        assert film.n_frames > 31
    only = ["--only", "latent_film", "--latents", 2, "--to", "dotted", "--film", ".gif"]
    assert lightning("styles", run.folder, pictures / "plain", *only, "--output", tmp_path / "random") == 0
    assert [path.name for path in (tmp_path / "random").iterdir()] == ["latent_film.gif"]
    assert lightning("styles", run.folder, pictures / "plain", "--output", tmp_path / "chance", "--latents", 1) == 0
    assert sorted(path.name for path in (tmp_path / "chance").iterdir()) == [
        "latent_0.5.png",
        "latent_0.7.png",
        "latent_1.png",
    ]


def test_the_film_stays_within_domains(run: Run, pictures: Path) -> None:
    model: Any = load_translator(run.folder)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 3, 32, 32, generator=generator) * 2 - 1
    assert len(model.film(images[:1], images, [0, 0, 0])) == 2 * 31 + 10
    assert len(model.film(images[:1], images, [0, 0, 1])) == 31 + 10
    assert model.film(images[:1], images, [0, 1, 0]) == []
    latents = torch.randn(3, 2, generator=generator)
    frames = model.latent_film(images[:1], latents, LOOKS[:2])
    assert len(frames) == 2 * 2 * 31 + 10
    assert frames[0].shape == (3, 64, 32)
    assert torch.equal(frames[0][:, 32:], model.translate(images[:1], to="plain", latent=latents[:1], clamp=False)[0])
    mean = model.translate(images[:1], to="striped", latent=latents[:1], truncation=0.0, clamp=False)[0]
    torch.testing.assert_close(model.latent_film(images[:1], latents, LOOKS[1:2], 0.0)[40][:, 32:], mean)


def test_truncation_and_domains_of_translate(
    run: Run, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["translate", run.folder, pictures / "plain" / "000.png", "--latents", 2]
    for name, more in (("mean", ["--truncation", 0]), ("free", [])):
        assert lightning(*words, "--to", "dotted", "--output", tmp_path / name, *more) == 0
    first, second = (np.asarray(Image.open(tmp_path / "mean" / f"000_style{i}.png").copy()) for i in (1, 2))
    np.testing.assert_array_equal(first, second)
    assert size_of(tmp_path / "free" / "000_style1.png") == (36, 40)
    assert "no domain to translate into was named" in refused(capsys, *words, "--output", tmp_path / "x")
    exemplar = ["--reference", pictures / "dotted" / "000.png"]
    said = refused(capsys, *words[:3], "--to", "dotted", *exemplar, "--truncation", 0.5, "--output", tmp_path / "x")
    assert "--truncation is for random styles, and --reference gives the style: leave one of them out" in said
    assert lightning(*words[:3], "--to", "dotted", *exemplar, "--output", tmp_path / "by") == 0


def test_mistakes_of_styles_are_told(
    run: Run, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words: list[object] = ["styles", run.folder, pictures / "plain"]
    output = ["--output", tmp_path / "shown"]
    both = [*words, "--references", pictures, *output]
    assert "need references" in refused(capsys, *words, *output, "--only", "film")
    assert "no picture lies in a folder" in refused(
        capsys, *words, "--references", make_folder(tmp_path / "zebra", 1), *output
    )
    assert "'zebra' is none of plain, striped, dotted. Say: --from" in refused(
        capsys, "styles", run.folder, tmp_path / "zebra", *both[3:], "--only", "cycle"
    )
    assert "--film is .avi; expected one of .webp, .gif, .png, .mp4" in refused(capsys, *both, "--film", ".avi")
    assert "--count is 0" in refused(capsys, *both, "--count", 0)
    one = ["--references", pictures / "plain", "--count", 1]
    assert "at least two of one domain" in refused(capsys, *words, *one, *output, "--only", "film")
    assert "--latents 2, or more" in refused(capsys, *words, *output, "--only", "latent_film", "--latents", 1)
    assert not (tmp_path / "shown").exists()
    assert lightning(*both, "--only", "reference") == 0
    assert "is there already (1 such files)" in refused(capsys, *both, "--only", "reference")
    folder = tmp_path / "cyclegan"
    folder.mkdir()
    assert lightning("fit", "--config", write_recipe(folder), "--trainer.max_steps", 1, "--run.name", "a") == 0
    said = refused(capsys, "styles", folder / "runs" / "tiny" / "a", pictures, *output)
    assert "CycleGAN has no sheets of styles. Rooms that do: starganv2" in said


def test_a_training_goes_on_from_weights(run: Run, tmp_path: Path) -> None:
    more = ["--trainer.max_steps", 1, "--run.name", "b", "--init_from", run.folder, "--model.discriminator_warmup", 1]
    assert lightning("fit", "--config", recipe(tmp_path), *more) == 0
    first, second = load_translator(run.folder), load_translator(tmp_path / "runs" / "stars" / "b")
    for key, value in first.state_dict().items():
        if key.startswith("ema."):
            assert torch.equal(second.state_dict()[key], value)


def test_faces_are_aligned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": FAN().own_state()}, tmp_path / "wing.ckpt")
    np.savez(tmp_path / "mean.npz", mean=np.random.default_rng(0).uniform(60, 200, (LANDMARKS, 2)))
    faces = make_folder(tmp_path / "faces", 1)
    (faces / "broken.png").write_bytes(b"no picture")
    words = [
        "align",
        faces,
        "--landmarks",
        tmp_path / "wing.ckpt",
        "--mean",
        tmp_path / "mean.npz",
        "--output",
        tmp_path / "out",
    ]
    assert lightning(*words) == 1
    assert size_of(tmp_path / "out" / "000.png") == (256, 256)
    assert "left out" in capsys.readouterr().err
    assert "is there already" in refused(capsys, *words)


def test_missing_files_of_alignment_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    said = refused(capsys, "align", make_folder(tmp_path / "faces", 1), "--output", tmp_path / "out")
    assert "lightning download starganv2_fan" in said
    assert "lightning download starganv2_landmark_mean" in said
