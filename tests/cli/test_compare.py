"""`lightning compare`: the same data, seeds and judge for several recipes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from zoo.cli.compare import spread
from zoo.cli.main import main

TINY = """
model:
  init_args:
    generator_channels: 4
    residual_blocks: 1
    discriminator_channels: 4
    discriminator_layers: 1
"""
SCENES = """
data:
  class_path: datamodules.Scenes
  init_args: {size: 32, batch_size: 2, workers: 0, validation_count: 2, test_count: 8}
"""
OPTIONS = ["--trainer.max_steps", "2", "--checkpoints.every", "1", "--trainer.accelerator", "cpu"]
OPTIONS += ["--progress.enabled", "false"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "wider.yaml").write_text(TINY.replace("generator_channels: 4", "generator_channels: 8"))
    (tmp_path / "scenes.yaml").write_text(SCENES)
    return tmp_path


def test_recipes_are_trained_judged_and_shown_alike(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipes = ["zoo/cyclegan.yaml+tiny.yaml", "zoo/cyclegan.yaml+wider.yaml"]
    words = ["compare", *recipes, "--data", "scenes.yaml", "--seeds", "0", "1", "--output", "out", *OPTIONS]
    assert main([*words, "--model.generator_chanels", "3"]) == 2  # and what is mended after a mistake is not refused
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "style accuracy" in printed
    assert "identity" in printed
    with (folder / "out" / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["recipe"], row["seed"]) for row in rows] == [
        ("cyclegan+tiny", "0"),
        ("cyclegan+tiny", "1"),
        ("cyclegan+wider", "0"),
        ("cyclegan+wider", "1"),
    ]
    assert int(float(rows[0]["parameters"])) < int(float(rows[2]["parameters"]))
    # The same test data for all: what does not depend on the model is equal, for each seed.
    assert rows[0]["identity/error"] == rows[2]["identity/error"]
    assert rows[0]["error"] != rows[2]["error"]
    assert json.loads((folder / "out" / "results.json").read_text())["seeds"] == [0, 1]
    with Image.open(folder / "out" / "grid.png") as grid:
        assert grid.width > 4 * 32  # source, two recipes, counterpart
    for recipe in ("cyclegan+tiny", "cyclegan+wider"):
        assert (folder / "out" / "runs" / recipe / "seed1" / "checkpoints" / "iteration_00000002.ckpt").is_file()

    # A second call takes the finished runs as they are and comes to the same figures.
    capsys.readouterr()
    assert main(words) == 0
    assert "done again" not in capsys.readouterr().err
    with (folder / "out" / "table.csv").open(newline="") as file:
        again = list(csv.DictReader(file))
    assert again == rows

    # Where the runs are those of other settings, nothing is mixed and nothing lost; what leaves the numbers alone may change.
    (folder / "tiny.yaml").write_text(TINY.replace("generator_channels: 4", "generator_channels: 6"))
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "other settings than now: model.init_args.generator_channels. " in error
    assert "--output" in error
    (folder / "tiny.yaml").write_text(TINY + "# the same\n")
    assert main([*words, "--trainer.max_steps", "3"]) == 2
    assert "other settings than now: trainer.max_steps. " in capsys.readouterr().err
    assert main([*words, "--checkpoints.every=2"]) == 0
    with (folder / "out" / "table.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == rows

    # All columns of the grid show the last seed's pictures: that seed alone makes the same grid.
    both = (folder / "out" / "grid.png").read_bytes()
    assert main([*words[:6], *words[7:]]) == 0
    assert (folder / "out" / "grid.png").read_bytes() == both


ATTENTIVE = """
model:
  init_args: {generator_channels: 4, residual_blocks: 1, attention_channels: 4, discriminator_channels: 4, discriminator_layers: 1}
"""


def test_attention_is_compared_where_a_room_gives_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "attentive.yaml").write_text(ATTENTIVE)
    recipes = ["zoo/cyclegan.yaml+tiny.yaml", "zoo/aggan.yaml+attentive.yaml"]
    assert main(["compare", *recipes, "--data", "scenes.yaml", "--output", "out", *OPTIONS]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("attention IoU")]
    cells = line.removeprefix("attention IoU").split()
    with (folder / "out" / "table.csv").open(newline="") as file:
        rows = {row["recipe"]: row for row in csv.DictReader(file)}
    assert cells == ["-", f"{float(rows['aggan+attentive']['attention_iou']):.4g}", "-", "-", "-"]
    assert rows["cyclegan+tiny"]["attention_iou"] == ""


def test_landscapes_are_compared_by_their_light(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "daylight.yaml").write_text(
        "data:\n  class_path: datamodules.Scenes\n  init_args:\n    task: daylight\n    size: 32\n    batch_size: 1\n"
        "    workers: 0\n    validation_count: 2\n    test_count: 3\n"
    )
    words = ["compare", "zoo/cyclegan.yaml+tiny.yaml", "--data", "daylight.yaml", "--output", "out", *OPTIONS]
    assert main(words) == 0
    printed = capsys.readouterr().out
    (line,) = [line for line in printed.splitlines() if line.startswith("own light nearer")]
    assert len(line.removeprefix("own light nearer").split()) == 1 + 3  # a recipe and three baselines
    with (folder / "out" / "table.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert 0 <= float(row["label_iou"]) <= 1


def test_folders_without_truth_are_compared_by_validation_measures(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for domain, colour in (("red", (200, 30, 20)), ("blue", (20, 40, 190))):
        for number in range(6):
            path = folder / "photos" / domain / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 40), tuple(c + 5 * number for c in colour)).save(path)
    (folder / "photos.yaml").write_text(
        "data:\n  class_path: datamodules.UnpairedFolders\n  init_args:\n"
        "    source: photos/red\n    target: photos/blue\n    size: 32\n    load_size: 36\n    workers: 0\n"
        "    validation_fraction: 0.34\n"
    )
    words = ["compare", "zoo/cyclegan.yaml+tiny.yaml", "--data", "photos.yaml", "--output", "out", *OPTIONS]
    assert main([*words, "--trainer.val_check_interval", "2"]) == 0
    printed = capsys.readouterr().out
    assert "val/cycle_psnr_source" in printed
    assert (folder / "out" / "grid.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["zoo/cyclegan.yaml"], "--data"),
        (["zoo/cyclgan.yaml", "--data", "scenes.yaml"], "cyclegan.yaml"),
        (["zoo/cyclegan.yaml", "--data", "tiny.yaml"], "no key 'data'"),
        (["zoo/cyclegan.yaml", "zoo/cyclegan.yaml", "--data", "scenes.yaml"], "same name"),
        (["zoo/cyclegan.yaml", "--data", "scenes.yaml", "--trainer.max_stepz", "2"], "--trainer.max_steps"),
    ],
)
def test_mistakes_are_told_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["compare", *words]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "is /" not in line]
    assert len(lines) == 1
    assert message in lines[0]


def test_spread_is_mean_and_standard_deviation() -> None:
    reports = [{"error": 1.0}, {"error": 3.0}, {}]
    assert spread(reports, "error") == "2 ± 1.4"
    assert spread(reports[:1], "error") == "1"
    assert spread(reports, "psnr") == "-"
