"""`lightning replay`: what a training leaves whose numbers go bad, and that iteration again."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from support.commands import lightning, only_run, write_recipe
from zoo.core.bad_steps import KeptStep, Step, read_step, write_step
from zoo.core.draws import Draws
from zoo.core.runs import Run
from zoo.errors import ZooError


@pytest.fixture(scope="module")
def gone_bad(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A CycleGAN whose first step threw its weights far away; a checkpoint after each iteration. Not to be changed."""
    folder = tmp_path_factory.mktemp("bad")
    words = [
        "--run.root",
        folder,
        "--model.learning_rate",
        1e30,
        "--checkpoints.every",
        1,
        "--samples.enabled",
        "false",
    ]
    assert lightning("fit", "--config", write_recipe(folder), *words) == 2
    return only_run(folder)


@pytest.fixture
def kept(gone_bad: Run) -> Path:
    (path,) = (gone_bad.folder / "bad_steps").iterdir()
    return path


def test_the_batch_and_the_draws_of_the_bad_iteration_are_kept(kept: Path) -> None:
    step = read_step(kept)
    assert kept.name == f"iteration_{step.iteration:08d}_rank_0.safetensors"
    assert {"source", "target"} <= set(step.batch)
    assert step.batch["source"].shape == (1, 3, 32, 32)
    assert step.batch["source"].abs().max() <= 1
    assert "generators" in step.players


def test_the_message_says_the_command_and_it_names_what_was_not_finite_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--run.root", tmp_path, "--model.learning_rate", 1e30, "--checkpoints.every", 1]
    assert lightning("fit", "--config", write_recipe(tmp_path), *words) == 2
    command = re.search(r"that iteration alone: lightning (replay \S+)", capsys.readouterr().err)
    assert command
    before = sorted(path.name for path in tmp_path.rglob("*"))
    assert lightning(*command[1].split()) == 0
    said = capsys.readouterr().out
    run = only_run(tmp_path)
    assert f"with the weights of {run.checkpoints}" in said
    assert re.search(r"module +\w+[\w.]* \(\w+\): finite in, not finite out", said)
    assert re.search(r"term +loss/\w+ is (nan|inf)|operation +Function", said)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before, "a look writes nothing"


def test_a_bad_picture_is_named(gone_bad: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    shutil.copytree(gone_bad.folder, folder)
    (path,) = (folder / "bad_steps").iterdir()
    step = read_step(path)
    step.batch["source"][0, 0, 0, :2] = torch.nan
    _write_again(path, step)
    assert lightning("replay", path) == 0
    assert "batch      source: 2 of 3,072 values are not finite" in capsys.readouterr().out


def test_finite_numbers_of_older_weights_say_where_to_look_next(
    gone_bad: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path)
    assert lightning("fit", "--config", recipe, "--run.root", tmp_path / "good", "--trainer.max_steps", 1) == 0
    good = only_run(tmp_path / "good")
    (path,) = (gone_bad.folder / "bad_steps").iterdir()
    (good.folder / "bad_steps").mkdir()
    shutil.copy(path, good.folder / "bad_steps")
    assert lightning("replay", good.folder / "bad_steps" / path.name) == 0
    said = capsys.readouterr().out
    assert "All numbers of this step are finite with weights of 1 iterations" in said
    assert f"lightning fit --resume {good.folder}" in said


@pytest.mark.parametrize("content", ["nothing", "text", "tensors"])
def test_other_files_are_refused(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.safetensors"
    if content == "text":
        path.write_text("a text")
    elif content == "tensors":
        save_file({"a": torch.zeros(1)}, path)
    assert lightning("replay", path) == 2
    said = capsys.readouterr().err
    assert ("There is no file" if content == "nothing" else "is no file of a bad iteration") in said


def test_a_file_that_was_moved_says_where_it_belongs(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = shutil.copy(kept, tmp_path)
    assert lightning("replay", moved) == 2
    assert "lies in no run's folder" in capsys.readouterr().err
    assert lightning("replay", kept, "--checkpoint", tmp_path / "none.ckpt") == 2
    assert "There is no checkpoint at" in capsys.readouterr().err


def test_draws_are_made_again_in_their_order() -> None:
    draws = Draws(seed=5, rank=1)
    draws.normal("z", (1,))
    assert draws.asked is None  # those of inference are not kept
    draws.begin(3, torch.device("cpu"), torch.float64)
    first = [draws.normal("z", (2, 3)), draws.uniform("t", (4,)), draws.normal("z", (2, 3))]
    first += [draws.integers("k", (5,), 0, 9), draws.permutation("order", 6)]
    with draws.aside("validation"):
        draws.normal("z", (1,))
    asked = draws.asked
    draws.begin(4, torch.device("cpu"), torch.float32)
    draws.normal("z", (1,))
    again = draws.again(3, asked)
    assert [name for name, _ in again] == ["z", "t", "z", "k", "order"]
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, (_, b) in zip(first, again, strict=True))
    assert [name for name, *_ in [ask[1:] for ask in draws.asked]] == ["z"]


def test_a_disk_that_is_full_does_not_hide_what_went_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise ZooError(f"{path} does not fit on its disk")

    monkeypatch.setattr("zoo.core.bad_steps.write_atomically", full)
    words = ["--run.root", tmp_path, "--model.learning_rate", 1e30]
    assert lightning("fit", "--config", write_recipe(tmp_path), *words) == 2
    said = capsys.readouterr().err
    assert "were not finite" in said
    assert "could not be kept" in said


def _write_again(path: Path, step: KeptStep) -> None:
    path.unlink()
    again = Step(step.iteration, step.batch, Draws(step.seed, step.rank), [])
    assert write_step(path.parents[1], again, step.players) == path
