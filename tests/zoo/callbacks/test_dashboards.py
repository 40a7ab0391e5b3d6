"""Dashboards: an offline run of Weights & Biases is read back from its own file, and holds what a person wants to see."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
from jsonargparse import Namespace
from PIL import Image

from support.commands import lightning, rows, write_recipe
from zoo.callbacks.dashboards import _log, prepare_loggers, wandb_said_plainly
from zoo.cli.offline_run import OfflineRun, charts_of, read_offline_run
from zoo.cli.offline_run import run as draw_run
from zoo.core.runs import Run
from zoo.errors import ZooError

AGGAN: dict[str, Any] = {
    "generator_channels": 4,
    "residual_blocks": 1,
    "attention_channels": 4,
    "discriminator_channels": 4,
    "discriminator_layers": 1,
}
OFFLINE = ["--config", "configs/wandb.yaml", "--trainer.logger.offline", True, "--trainer.log_every_n_steps", 1]
SIDE = 32


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("dashboards")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"WANDB_CONSOLE": "off", "WANDB_SILENT": "true", "WANDB_DIR": str(folder)}.items():
            patch.setenv(name, value)
        patch.delenv("WANDB_MODE", raising=False)
        yield folder
        wandb.teardown()


def read(*folders: str | Path) -> OfflineRun:
    """Read a run that has ended; wandb's own process writes to its end, however busy the machine is."""
    end = time.monotonic() + 60
    while (found := read_offline_run([Path(folder) for folder in folders])).finished < len(folders):
        assert time.monotonic() < end, f"wandb did not end {folders[-1]}"
        time.sleep(0.1)
    return found


def train(place: Path, *words: object) -> None:
    model = {"class_path": "zoo.aggan.AGGAN", "init_args": AGGAN}
    recipe = write_recipe(place, model=model, judge={"enabled": True})
    assert lightning("fit", "--config", recipe, *OFFLINE, "--trainer.logger.save_dir", place, *words) == 0


@pytest.fixture(scope="module")
def run(place: Path) -> Run:
    """A run of four iterations that was resumed for two more."""
    train(place, "--run.name", "a", "--dashboards.checkpoints", "all")
    folder = place / "runs" / "tiny" / "a"
    train(place, "--resume", folder, "--dashboards.checkpoints", "last", "--trainer.max_steps", 6)
    return Run(folder)


@pytest.fixture(scope="module")
def seen(run: Run) -> OfflineRun:
    kept = json.loads((run.folder / "wandb.json").read_text())
    return read(*kept["folders"])


def test_a_resumed_run_continues_its_run(run: Run, seen: OfflineRun) -> None:
    kept = json.loads((run.folder / "wandb.json").read_text())
    assert seen.parts == len(kept["folders"]) == 2
    assert seen.identity == kept["id"]
    assert seen.name == "tiny/a"
    assert seen.project == "translation-zoo"
    assert [row["iteration"] for row in seen.rows] == [1, 2, 3, 4, 5, 6]
    assert [row["_step"] for row in seen.rows] == [1, 2, 3, 4, 5, 6]


def test_numbers_stand_under_the_names_of_metrics_csv_over_our_iteration(run: Run, seen: OfflineRun) -> None:
    table = {int(row["iteration"]): row for row in rows(run, "seconds_per_iteration")}
    names = {name for row in table.values() for name in row} - {"iteration"}
    assert {"loss/cycle_source", "learning_rate/0", "val/attention_iou"} <= names
    assert any(name.startswith("gradient_norm/") for name in names)
    assert names == set(seen.names()) - {"seconds_per_iteration", "iteration", *seen.names("samples/")}
    for name in names:
        iterations, values = seen.series(name)
        assert {str(i): f"{value:.6g}" for i, value in zip(iterations, values, strict=True)} == {
            row["iteration"]: row[name] for row in table.values() if row[name]
        }, name
    assert seen.axes["*"] == "iteration"
    assert all(value > 0 for value in seen.series("seconds_per_iteration")[1])


def opened(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture.convert("RGB"))


def test_grids_and_attention_are_image_panels(run: Run, seen: OfflineRun) -> None:
    assert seen.names("samples/") == ["samples/attention", "samples/attention_of_target", "samples/grid"]
    for name in seen.names("samples/"):
        assert sorted(seen.pictures(name)) == [2, 4, 6]
    for iteration, path in seen.pictures("samples/grid").items():
        sheet = opened(path)
        np.testing.assert_array_equal(sheet, opened(run.samples / f"iteration_{iteration:08d}.png"))
        maps = [opened(seen.pictures(f"samples/{name}")[iteration]) for name in ("attention", "attention_of_target")]
        top = sheet.shape[0] - 2 * (SIDE + 2)
        for attention in maps:
            first = attention[top : top + SIDE, 2 : 2 + SIDE]
            places = range(sheet.shape[1] - SIDE)
            assert sum(np.array_equal(sheet[top : top + SIDE, x : x + SIDE], first) for x in places) == 1
        assert not np.array_equal(*(attention[top:, 2 : 2 + SIDE] for attention in maps))


def test_measures_are_in_the_summary(run: Run, seen: OfflineRun) -> None:
    last = rows(run)[-1]
    assert last["val/style_accuracy"]
    for name in ("val/style_accuracy", "val/attention_iou", "loss/cycle_source"):
        assert f"{seen.summary[name]:.6g}" == last[name]
    assert seen.summary["judge/error"] == pytest.approx(float(last["val/error"]), rel=1e-4)
    assert 0 < seen.summary["judge/identity/error"] < 1
    assert seen.summary["iterations"] == 6
    assert seen.summary["parameters/attention_source"] > 0
    assert seen.summary["seconds/training"] >= 0


def test_the_configuration_and_what_made_the_run_are_told(run: Run, seen: OfflineRun) -> None:
    assert seen.config["model"]["init_args"]["generator_channels"] == 4
    assert seen.config["data"]["class_path"] == "datamodules.Scenes"
    assert seen.config["record"]["versions"]["torch"]
    assert seen.config["record"]["resumed"]


def test_checkpoints_are_artifacts_by_option(run: Run, seen: OfflineRun) -> None:
    # Of `all` in the first start, whose last one is written again at the end; `last` in the second.
    assert [artifact["metadata"]["iteration"] for artifact in seen.artifacts] == [2, 4, 4, 6]
    last = seen.artifacts[-1]
    assert last["type"] == "model"
    assert last["name"] == f"tiny-{seen.identity}"
    assert set(last["aliases"]) == {"latest", "iteration_6"}
    assert last["metadata"] == {"iteration": 6, "recipe": "tiny", "run": "a"}
    assert last["files"] == ["iteration_00000006.ckpt"]


def test_what_is_switched_off_is_not_shown(place: Path) -> None:
    train(place, "--run.name", "quiet", "--dashboards.pictures", False, "--trainer.max_steps", 2)
    train(place, "--run.name", "off", "--dashboards.enabled", False, "--trainer.max_steps", 2)
    (folder,) = json.loads((place / "runs" / "tiny" / "quiet" / "wandb.json").read_text())["folders"]
    quiet = read(folder)
    assert quiet.names("loss/")
    assert not quiet.names("samples/")
    assert not quiet.artifacts
    assert not (place / "runs" / "tiny" / "off" / "wandb.json").is_file()


def test_the_last_line_says_how_to_see_it(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(place, "--run.name", "told", "--trainer.max_steps", 1)
    kept = json.loads((place / "runs" / "tiny" / "told" / "wandb.json").read_text())
    assert f"dashboard  wandb sync {kept['folders'][0]}" in capfd.readouterr().out


def test_other_loggers_get_the_numbers_at_the_same_iterations(tmp_path: Path) -> None:
    words = ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", tmp_path / "csv", "--run.name", "a"]
    assert lightning("fit", "--config", write_recipe(tmp_path), *words, "--trainer.log_every_n_steps", 2) == 0
    (path,) = (tmp_path / "csv").rglob("metrics.csv")
    header, *lines = [line.split(",") for line in path.read_text().splitlines()]
    steps = [line[header.index("step")] for line in lines if line[header.index("loss/generators")]]
    assert steps == ["2", "4"]
    assert "epoch" not in header
    assert "val/cycle_psnr_source" in header


def test_what_is_lived_again_is_not_logged_twice(place: Path) -> None:
    experiment = wandb.init(project="p", dir=place, mode="offline", settings=wandb.Settings(console="off"))
    for iteration, value in ((2, 0.2), (4, 0.4), (3, 0.3), (5, 0.5)):
        _log(experiment, {"loss/a": value}, iteration)
    folder = Path(experiment.dir).parent
    experiment.finish()
    assert read(folder).series("loss/a") == ([2, 4, 5], [0.2, 0.4, 0.5])


def wandb_settings(**given: object) -> Namespace:
    return Namespace(class_path="lightning.pytorch.loggers.WandbLogger", init_args=Namespace(id=None, **given))


def test_a_sweeps_agent_names_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs, named = wandb_settings(), wandb_settings(), wandb_settings(version="mine", name="best")
    prepare_loggers([ours], Run(tmp_path / "cyclegan" / "first"))
    monkeypatch.setenv("WANDB_RUN_ID", "sweep123")
    prepare_loggers(theirs, Run(tmp_path / "cyclegan" / "first"))
    prepare_loggers(named, Run(tmp_path / "cyclegan" / "first"))
    assert ours.init_args.name == "cyclegan/first"
    assert len(ours.init_args.id) == 10
    assert theirs.init_args.id == "sweep123"
    assert (named.init_args.id, named.init_args.version, named.init_args.name) == ("mine", None, "best")


def test_without_an_account_one_line_says_what_to_type(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    words = ["fit", "--config", str(recipe), "--config", "configs/wandb.yaml", "--run.name", "a"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    environment |= {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc"), "WANDB_SILENT": "true"}
    command = [sys.executable, "-m", "zoo", *words, "--trainer.logger.save_dir", str(tmp_path)]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 2, answer.stderr
    said = answer.stderr.splitlines()[-1]
    assert said.startswith("lightning: Weights & Biases did not begin: ")
    assert said.endswith("--trainer.logger.offline true")
    assert not (tmp_path / "runs" / "tiny").exists()


def test_errors_of_others_pass_through() -> None:
    with pytest.raises(ValueError, match="mine"), wandb_said_plainly():
        raise ValueError("mine")


def tensorboard_settings() -> Namespace:
    node = Namespace(class_path="lightning.pytorch.loggers.TensorBoardLogger")
    node.init_args = Namespace(save_dir="tensorboard", name="lightning_logs", version=None)
    return node


@pytest.mark.skipif(find_spec("tensorboard") is not None, reason="TensorBoard is installed here")
def test_without_tensorboard_one_line_says_what_to_type(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--config", write_recipe(tmp_path), "--config", "configs/tensorboard.yaml", "--run.name", "a"]
    assert lightning("fit", *words) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(
        "lightning: TensorBoard is not installed here. Type: pip install 'translation-zoo[tensorboard]'"
    )
    assert not (tmp_path / "runs" / "tiny").exists()


def test_tensorboard_gets_a_place_per_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.callbacks.dashboards.find_spec", lambda name: name)
    node = tensorboard_settings()
    prepare_loggers(node, Run(tmp_path / "cyclegan" / "first"), "checkpoints/iteration_00000040.ckpt")
    assert (node.init_args.name, node.init_args.version) == ("cyclegan", "first")
    assert node.dict_kwargs == {"purge_step": 41}


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="needs the package tensorboard, an extra")
def test_tensorboard_shows_numbers_and_pictures(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = ["--config", write_recipe(tmp_path), "--config", "configs/tensorboard.yaml", "--run.name", "a"]
    words += ["--trainer.logger.save_dir", tmp_path / "tensorboard", "--trainer.log_every_n_steps", 1]
    assert lightning("fit", *words) == 0
    found = EventAccumulator(str(tmp_path / "tensorboard" / "tiny" / "a"))
    found.Reload()
    assert [event.step for event in found.Scalars("loss/generators")] == [1, 2, 3, 4]
    assert [event.step for event in found.Images("samples/grid")] == [2, 4]


def test_a_file_that_was_cut_off_gives_what_is_whole(seen: OfflineRun, tmp_path: Path) -> None:
    (file,) = seen.folder.glob("*.wandb")
    content = file.read_bytes()
    kept = tmp_path / "offline-run-1"
    kept.mkdir()
    (kept / file.name).write_bytes(content[: len(content) // 2])
    assert len(read_offline_run([kept]).config) > 0
    (kept / file.name).write_bytes(b"PK" + content)
    with pytest.raises(ZooError, match="is not a file of Weights & Biases"):
        read_offline_run([kept])


def test_a_dashboard_is_drawn_from_the_file(seen: OfflineRun, tmp_path: Path) -> None:
    assert charts_of(seen)["Who is winning?"] == [
        ["loss/adversarial_source", "loss/adversarial_target"],
        ["loss/discriminator_source", "loss/discriminator_target"],
        ["accuracy/discriminator_source", "accuracy/discriminator_target"],
    ]
    assert ["val/attention_iou", "val/attention_iou_target"] in charts_of(seen)["Does it translate?"]
    pytest.importorskip("matplotlib", reason="drawing needs matplotlib, an extra")
    assert draw_run([str(seen.folder), "--output", str(tmp_path / "dashboard.png")]) == 0
    picture = opened(tmp_path / "dashboard.png")
    assert min(picture.shape[:2]) > 500
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100
    with pytest.raises(ZooError, match="--output"):
        draw_run([str(seen.folder)])


def test_what_is_no_offline_run_is_refused(run: Run, seen: OfflineRun, place: Path) -> None:
    with pytest.raises(ZooError, match="holds no run of Weights & Biases"):
        read_offline_run([run.folder])
    other = wandb.init(project="p", dir=place, mode="offline", settings=wandb.Settings(console="off"))
    folder = Path(other.dir).parent
    other.finish()
    read(folder)
    with pytest.raises(ZooError, match="belongs to the run"):
        read_offline_run([seen.folder, folder])
    with pytest.raises(ZooError, match="No folder"):
        read_offline_run([])
