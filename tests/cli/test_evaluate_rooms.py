"""`lightning evaluate` by the protocols of particular papers: StarGAN v2's, ALAE's codes and paths, and digits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from support.commands import lightning, only_run, write_recipe
from support.digits import printed, write_npz
from support.extractors import write_alexnet
from support.pictures import make_folder
from zoo.alae import StyleALAE
from zoo.cli.protocols import rooms
from zoo.core.checkpoints import SafeCheckpointIO
from zoo.core.translator import Translator
from zoo.metrics.digit_codes import PUBLISHED
from zoo.metrics.digits import KEPT, ROWS
from zoo.starganv2 import StarGANv2

DOMAINS = ("plain", "striped", "checked")
PAIRS = {f"{a}2{b}" for a in DOMAINS for b in DOMAINS if a != b}
SMALL: dict[str, Any] = {
    "image_size": 32,
    "channels": 2,
    "max_channels": 4,
    "style_channels": 3,
    "latent_channels": 2,
    "mapping_channels": 4,
}


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def save(model: Translator, room: str, path: Path, stage: int = 0) -> Path:
    kept = {"room": room, "iteration": 0, "stage": stage, "frozen": [], "seed": 0, "ranks": []}
    checkpoint = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams), "zoo": kept}
    SafeCheckpointIO().save_checkpoint(checkpoint, path)
    return path


def measured(output: Path, *words: object) -> dict[str, Any]:
    """The result of a measurement that has to succeed."""
    assert lightning("evaluate", *words, "--output", output) == 0
    found: dict[str, Any] = json.loads(output.read_text(), parse_constant=pytest.fail)
    return found


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The line that a mistake is answered with."""
    capsys.readouterr()
    assert lightning("evaluate", *words) == 2
    return capsys.readouterr().err


# StarGAN v2 ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def stargan(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return save(StarGANv2(domains=list(DOMAINS), **SMALL), "starganv2", tmp_path / "model.ckpt")


def test_all_pairs_of_domains_are_measured_by_starganv2_s_protocol(
    stargan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("train", "test"):
        for k, name in enumerate(DOMAINS):
            make_folder(tmp_path / part / name, 2, height=40, width=40, start=10 * k)
    words = [
        stargan,
        "--protocol",
        "starganv2",
        "--train",
        "train",
        "--test",
        "test",
        "--figures",
        "lpips",
        "--batch",
        2,
    ]
    words += ["--outputs", 2, "--extractor", f"alexnet={write_alexnet(tmp_path / 'alexnet.pth')}"]
    result = measured(tmp_path / "result.json", *words, "--seeds", 0, 1)
    assert result["protocol"] == "distances-of-all-pairs"
    assert set(result["figures"]) == {"latent/perceptual_distance", "reference/perceptual_distance"}
    assert result["counts"]["plain, test"] == 2
    for seed, report in enumerate(result["details"]["pairs by seed"]):
        for kind in ("latent", "reference"):
            figure = result["figures"][f"{kind}/perceptual_distance"]
            assert set(report[kind]["lpips"]) == {"mean", *PAIRS}
            assert figure["values"][seed] == report[kind]["lpips"]["mean"]
    assert "no FID or LPIPS" in result["remarks"][0]
    assert "there is no folder" in refused(capsys, *words[:4], tmp_path / "nowhere", *words[5:])
    assert "--extractor NAME=FILE" in refused(capsys, *words[:-1], tmp_path / "alexnet.pth")


def test_scenes_of_all_pairs_are_judged(stargan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--protocol", "judge-domains", "--count", 2, "--outputs", 2, "--seeds", 0]
    result = measured(tmp_path / "result.json", stargan, *words)
    said = capsys.readouterr().out
    assert "diversity of random styles" in said
    assert "least style accuracy" in said
    assert set(result["details"]["pairs by seed"][0]) == PAIRS
    assert {"style_accuracy", "latent_style_accuracy", "diversity", "repeated", "true"} <= set(result["figures"])
    assert result["figures"]["repeated"]["mean"] == 0
    other = save(StarGANv2(domains=["cat", "dog"], **SMALL), "starganv2", tmp_path / "other.ckpt")
    assert "no look 'cat'" in refused(capsys, other, *words)


def test_random_styles_of_one_picture_are_compared(
    stargan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(tmp_path / "photos", 2, height=32, width=32)
    alexnet = write_alexnet(tmp_path / "alexnet.pth")
    words = [stargan, "--protocol", "lpips-diversity", "--source", "photos", "--extractor", alexnet]
    chance = measured(tmp_path / "chance.json", *words, "--to", "striped", "--outputs", 3, "--seeds", 0, 1)
    assert chance["counts"] == {"sources": 2, "translations": 6}
    assert len(set(chance["figures"]["perceptual_distance"]["values"])) == 2
    # Exemplars of one kind alone give one style.
    make_folder(tmp_path / "exemplar", 1, height=32, width=32)
    same = measured(
        tmp_path / "same.json", *words, "--to", "striped", "--reference", "exemplar", "--outputs", 2, "--seeds", 0
    )
    assert same["figures"]["perceptual_distance"]["mean"] == pytest.approx(0, abs=1e-7)
    assert "lava" in refused(capsys, *words, "--to", "lava")


# ALAE ------------------------------------------------------------------------------------------------------------------------


def test_codes_and_paths_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    small = {"start_channels": 2, "most_channels": 4, "levels": 3, "latent_channels": 6, "mapping_layers": 1}
    model = StyleALAE(**small, epochs_per_level=0, level_batches=(2,))  # type: ignore[arg-type]
    for stage in (1, 2):
        model.build_stage(stage)
        model.stage = stage
    run = save(model, "alae", tmp_path / "model.ckpt", stage=2)
    make_folder(tmp_path / "images", 4, height=20, width=20)

    class Small(torch.nn.Module):
        """Stands for a network of hundreds of megabytes: mean colours of pictures, or their distance."""

        @property
        def features(self) -> Small:
            return self

        def load_weights(self, weights: object) -> None:
            assert weights

        def forward(self, image: Tensor, other: Tensor | None = None) -> Tensor:
            if other is None:
                return image.float().mean((2, 3)) / 255
            return (image - other).square().mean((1, 2, 3))

    monkeypatch.setattr(rooms, "VGGLPIPS", Small)
    monkeypatch.setattr(rooms, "TensorFlowInception", Small)
    (tmp_path / "any.pth").write_bytes(b"any")
    common = ["--extractor", "any.pth", "--count", 4, "--seeds", 0, 1]
    for name, images, figure in (
        ("ppl", [], "path_length_of_features"),
        ("ppl-end", [], "path_length_of_features"),
        ("alae-fid-generation", ["--images", "images"], "frechet_distance"),
        ("alae-fid-reconstruction", ["--images", "images"], "frechet_distance"),
        ("alae-lpips-reconstruction", ["--images", "images"], "perceptual_distance"),
    ):
        crop = [] if images else ["--face-crop", "none"]
        result = measured(tmp_path / f"{name}.json", run, "--protocol", name, *images, *crop, *common)
        assert list(result["figures"]) == [f"{figure}_of_4"]
        if "reconstruction" not in name:  # there noise alone is drawn, and an untrained network adds none of it
            assert len(set(result["figures"][f"{figure}_of_4"]["values"])) == 2
        assert any("a figure of 4 is not to be compared" in remark for remark in result["remarks"])
        assert result["protocol"] == figure.replace("_", "-")
    lacking = ["--protocol", "alae-fid-generation", "--images", "images", "--extractor", "any.pth", "--count", 5]
    assert "5 pictures are asked for, and 4 are there: --count 4" in refused(capsys, run, *lacking)
    assert "SAT has no codes to measure" in refused(capsys, "sat-scenes", "--protocol", "ppl", "--extractor", "any.pth")


# Digits ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Printed digits, light on dark in one set and dark on light in the other."""
    folder = tmp_path_factory.mktemp("digits")
    write_npz(folder, "mnist", printed(400, 100))
    write_npz(folder, "usps", printed(300, 100, seed=1, inverted=True))
    return folder


@pytest.fixture(scope="module")
def run(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CycleGAN's run of two iterations on printed digits."""
    folder = tmp_path_factory.mktemp("run")
    settings = {"root": str(digits), "size": 16, "channels": 3, "batch_size": 2, "validation_count": 5, "seed": 0}
    data = {"class_path": "datamodules.Digits", "init_args": settings}
    recipe = write_recipe(folder, data=data, samples={"enabled": False})
    words = ["--trainer.max_steps", 2, "--trainer.limit_val_batches", 0, "--model.discriminator_layers", 1]
    assert lightning("fit", "--config", recipe, *words) == 0
    return only_run(folder / "runs").folder


DIGITS = ["--protocol", "digits", "--seeds", 0, 1, "--iterations", 3, "--batch", 4]


def test_a_run_is_measured_on_the_digits_it_was_trained_on(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    result = measured(tmp_path / "figures" / "result.json", run, *DIGITS)
    said = capsys.readouterr()
    assert "translated, 395 digits" in said.out
    trained = {f"trained on, {row}": count for row, count in zip(ROWS, (395, 395, 295), strict=True)}
    assert result["counts"] == {"digits": 100, **trained}
    assert set(result["figures"]) == {*ROWS, KEPT}
    assert all(len(figure["values"]) == 2 for figure in result["figures"].values())
    (checkpoint,) = (run / "checkpoints").glob("*.ckpt")
    again = measured(tmp_path / "again.json", checkpoint, *DIGITS)
    assert again["figures"] == result["figures"]


def test_options_hold_over_the_run_s_configuration(run: Path, tmp_path: Path) -> None:
    words = ["--on", "validation", "--to", "source", "--rows", "translated", "--data.target_count", "50"]
    result = measured(tmp_path / "result.json", run, *DIGITS, *words, "--data.validation_count=30")
    assert result["counts"] == {"digits": 30, "trained on, translated": 50}
    assert (result["data"]["from"], result["data"]["to"], result["data"]["split"]) == ("usps", "mnist", "validation")


def test_without_a_run_there_are_the_bounds(digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "data.yaml"
    settings = {"root": str(digits), "size": 16, "batch_size": 3, "workers": 1, "download": False}
    config.write_text(yaml.safe_dump({"data": {"class_path": "datamodules.Digits", "init_args": settings}}))
    result = measured(tmp_path / "result.json", "--data", config, *DIGITS)
    table = capsys.readouterr().out
    assert "source only, 400 digits" in table
    assert "target only, 300 digits" in table
    assert "translated" not in table
    assert set(result["figures"]) == {"source only", "target only"}
    assert result["checkpoint"] is None
    assert "--data.root" in refused(capsys, "--data", config, *DIGITS, "--data.root", tmp_path / "nowhere")
    assert "source and target are both mnist" in refused(capsys, "--data", config, *DIGITS, "--data.target", "mnist")
    config.write_text("data: {class_path: datamodules.Scenes}")
    assert "is about datamodules.Scenes" in refused(capsys, "--data", config, *DIGITS)
    config.write_text("model: 3")
    assert "names no data" in refused(capsys, "--data", config, *DIGITS)
    config.write_text("data: [")
    assert "this is not YAML" in refused(capsys, "--data", config, *DIGITS)


def test_codes_of_digits_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_npz(tmp_path / "digits", "mnist", printed(train=300, test=60))
    words = ["--data.root", tmp_path / "digits", "--data.size", 16, "--data.held_out", 60, "--data.workers", 0]
    small = ["--model.image_size", 16, "--model.hidden", 8, "--model.latent_channels", 4, "--data.batch_size", 4]
    ends = ["--trainer.max_steps", 2, "--trainer.limit_val_batches", 0, "--trainer.accelerator", "cpu"]
    where = ["--run.root", tmp_path / "runs", "--run.name", "small"]
    assert lightning("fit", "--config", "zoo/alae_mnist.yaml", *words, *small, *ends, *where) == 0
    run = tmp_path / "runs" / "alae_mnist" / "small"
    result = measured(tmp_path / "result.json", run, "--protocol", "digit-codes", "--count", 50)
    assert "different writers, linear SVM" in capsys.readouterr().out
    assert set(result["figures"]) == {
        f"{writers}/{name}/{size}" for writers, name in PUBLISHED for size in ("short", "long")
    }
    assert result["counts"] == {"digits learned from": 50}
    assert "measures datamodules.ClassDigits" in refused(
        capsys, run, "--protocol", "digit-codes", "--data", "zoo/alae.yaml"
    )
