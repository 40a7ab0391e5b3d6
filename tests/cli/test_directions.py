"""`lightning directions`: directions are found, read and used."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules import Scenes
from support.commands import lightning
from zoo.core.checkpoints import read_checkpoint
from zoo.core.images import save_png
from zoo.core.loading import load_translator

SMALL = [
    *("--model.start_channels", 2, "--model.most_channels", 4, "--model.levels", 3, "--model.latent_channels", 8),
    *("--model.mapping_layers", 1, "--model.epochs_per_level", 0, "--data.size", 16, "--data.validation_count", 2),
    *("--trainer.max_steps", 2, "--trainer.limit_val_batches", 0, "--trainer.accelerator", "cpu"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    configs = ["--config", "zoo/alae.yaml", "--config", "configs/demo/alae.yaml"]
    where = ["--run.root", root, "--run.name", "small"]
    assert lightning("fit", *configs, *SMALL, *where) == 0
    return root / "alae" / "small"


def checkpoint_of(run: Path) -> Path:
    return run / "checkpoints" / "iteration_00000002.ckpt"


def test_scenes_give_directions_and_translate_uses_them(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_checkpoint(checkpoint_of(run))
    assert lightning("directions", run, "--count", 64, "--measure", 8) == 0
    out = capsys.readouterr().out
    assert "R^2 on 16 others" in out
    assert re.search(r"mean image instead +PSNR [\d.]+ dB", out)
    after = read_checkpoint(checkpoint_of(run))
    assert set(after["zoo"]["directions"]) == {"red", "green", "blue", "size", "x", "y"}
    assert all(torch.equal(value, after["state_dict"][key]) for key, value in before["state_dict"].items())
    save_png(
        Scenes(task="alone", domains=("plain",), size=16).fixed_samples("test")[0]["image"], tmp_path / "scene.png"
    )
    pictures = {}
    for to in ("reconstruction", "red+0.5,size-0.1"):
        folder = tmp_path / to
        assert lightning("translate", run, tmp_path / "scene.png", "--to", to, "--output", folder, "--no-sheet") == 0
        pictures[to] = (folder / "scene.png").read_bytes()
    assert pictures["reconstruction"] != pictures["red+0.5,size-0.1"]
    assert lightning("translate", run, tmp_path / "scene.png", "--to", "age+1", "--output", tmp_path / "age") == 2
    assert "no direction 'age'; known: red, green, blue, size, x, y" in capsys.readouterr().err


def test_an_exemplar_lends_its_styles_and_none_is_needed(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = Scenes(task="alone", domains=("plain",), size=16).fixed_samples("test")
    for number in range(2):
        save_png(scenes[number]["image"], tmp_path / f"{number}.png")
    seen = {}
    for part in ("coarse", "fine", "reconstruction"):
        words = ["--output", tmp_path / part, "--no-sheet", "--to", part]
        exemplar = [] if part == "reconstruction" else ["--reference", tmp_path / "1.png"]
        assert lightning("translate", run, tmp_path / "0.png", *words, *exemplar) == 0
        (made,) = (tmp_path / part).glob("*.png")
        seen[part] = made.read_bytes()
    assert len(set(seen.values())) == 3
    words = ["--reference", tmp_path / "1.png", "--to", "finest", "--output", tmp_path / "x"]
    assert lightning("translate", run, tmp_path / "0.png", *words) == 2
    assert "Styles are 'coarse', 'middle' or 'fine'" in capsys.readouterr().err


def test_labels_give_directions(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes = Scenes(task="alone", domains=("plain",), size=16).fixed_samples("test")
    lines = ["name,warm,left"]
    for number in range(24):
        image = scenes[number]["image"]
        save_png(image, tmp_path / f"{number}.png")
        warm = int(image[0].float().mean() > image[2].float().mean())
        lines.append(f"{number}.png,{warm},{'yes' if number % 2 else 'no'}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    output = tmp_path / "labelled.ckpt"
    words = ["--labels", tmp_path / "labels.csv", "--images", tmp_path, "--output", output]
    assert lightning("directions", checkpoint_of(run), *words) == 0
    assert {"warm", "left"} <= set(load_translator(output).directions)  # type: ignore[arg-type]
    (tmp_path / "labels.csv").write_text("name,warm\n0.png,maybe\n")
    assert lightning("directions", checkpoint_of(run), *words) == 2
    assert "label 'maybe'; expected 0 or 1" in capsys.readouterr().err


def test_published_directions_are_kept(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = np.random.default_rng(0).normal(size=8)
    np.save(tmp_path / "direction_1.npy", row)
    output = tmp_path / "published.ckpt"
    words = ["--published", f"smile={tmp_path / 'direction_1.npy'}", "--output", output]
    assert lightning("directions", checkpoint_of(run), *words) == 0
    found = load_translator(output).directions["smile"]  # type: ignore[index]
    torch.testing.assert_close(found, torch.from_numpy(row).float())
    np.save(tmp_path / "direction_1.npy", row[:5])
    assert lightning("directions", checkpoint_of(run), *words) == 2
    assert "smile has 5 numbers, and this model's codes 8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--labels", "a.csv"], "give both"),
        (["--published", "smile"], "expected a name and a file"),
        (["--labels", "a.csv", "--images", ".", "--published", "a=b"], "leave one of them out"),
        (["--count", 3], "--count is 3"),
        (["--labels", "nowhere.csv", "--images", "."], "there is no such file"),
    ],
)
def test_mistakes_are_answered_in_one_line(
    run: Path, words: list[object], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lightning("directions", checkpoint_of(run), *words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_checkpoint_without_a_run_needs_to_be_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "copy.ckpt").write_bytes(checkpoint_of(run).read_bytes())
    assert lightning("directions", tmp_path / "copy.ckpt") == 2
    assert "lies in no run's folder" in capsys.readouterr().err
