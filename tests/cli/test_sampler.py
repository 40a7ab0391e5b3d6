"""`lightning sampler`: the style sampler of a finished checkpoint."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules import Scenes
from support import toy
from support.commands import TINY, assert_equal, checkpoint_of, lightning, write_recipe
from support.pictures import make_folder
from support.styled import SAMPLER, registered, styled_run
from zoo.core.checkpoints import read_checkpoint
from zoo.core.files import lock_file
from zoo.core.images import from_uint8
from zoo.core.runs import Run


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    with registered():
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return styled_run(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def run(finished: Run, tmp_path: Path) -> Run:
    """A copy of a finished run without a fitted sampler."""
    folder = tmp_path / "runs" / "styled" / "a"
    shutil.copytree(finished.folder, folder)
    return Run(folder)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What each fit was given."""
    kept: list[dict[str, Any]] = []
    fit_sampler = toy.StyledRoom.fit_sampler

    def listening(
        self: toy.StyledRoom, loader: Any, *, steps: int = 1, mitigate_style_bias: bool = False, report: Any = None
    ) -> None:
        fit_sampler(self, loader, steps=steps, mitigate_style_bias=mitigate_style_bias, report=report)
        kept.append({**self.fits[-1], "seed": self.draws.seed, "training": self.training})

    monkeypatch.setattr(toy.StyledRoom, "fit_sampler", listening)
    return kept


def test_the_newest_checkpoint_gets_a_sampler_and_keeps_the_rest(
    run: Run, fits: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    before = checkpoint_of(run, 2)
    assert lightning("sampler", run.folder) == 0
    after = checkpoint_of(run, 2)
    changed = {
        name for name, value in after["state_dict"].items() if not torch.equal(value, before["state_dict"][name])
    }
    assert changed == {"sampler.weight", "sampler.bias", "sampler_fitted"}
    for checkpoint in (before, after):
        for name in changed:
            del checkpoint["state_dict"][name]
    assert_equal(after, before)  # loops, optimisers, hyperparameters and callbacks too
    (fit,) = fits
    assert (fit["steps"], fit["mitigate_style_bias"], fit["seed"], fit["training"]) == (1, False, 0, False)
    data = Scenes(**{**TINY["data"]["init_args"], "scenes_per_epoch": 6}, seed=0)
    data.setup("fit")
    batches = data.domain_loader("target", TINY["data"]["init_args"]["batch_size"], drop_last=True)
    expected = torch.cat([from_uint8(batch["target"]).mean((2, 3)) for batch in batches])
    assert torch.equal(fit["colours"], expected)  # the run's own data
    said = capsys.readouterr().out
    assert "6 styles, 1 steps" in said
    assert f"the checkpoint written to {run.checkpoint_path(2)}" in said
    assert not list(run.checkpoints.glob(".*"))


def test_it_does_what_the_training_would_have_done(run: Run, tmp_path: Path) -> None:
    styled_run(tmp_path, *SAMPLER, "--run.root", tmp_path / "trained")
    assert lightning("sampler", run.folder) == 0
    ours = checkpoint_of(run, 2)["state_dict"]
    theirs = checkpoint_of(Run(tmp_path / "trained" / "styled" / "a"), 2)["state_dict"]
    assert ours["sampler_fitted"]
    assert_equal(ours, theirs)


def test_options_reach_the_room_and_another_file_may_take_the_result(
    run: Run, fits: list[dict[str, Any]], tmp_path: Path
) -> None:
    before = run.checkpoint_path(2).read_bytes()
    folder = make_folder(tmp_path / "pictures", 5, 40, 50)
    words = [
        "--images",
        folder,
        "--steps",
        7,
        "--mitigate-style-bias",
        "--seed",
        3,
        "--output",
        tmp_path / "new" / "s.ckpt",
    ]
    assert lightning("sampler", run.checkpoint_path(2), *words) == 0
    assert run.checkpoint_path(2).read_bytes() == before
    assert read_checkpoint(tmp_path / "new" / "s.ckpt")["state_dict"]["sampler_fitted"]
    (fit,) = fits
    assert (fit["steps"], fit["mitigate_style_bias"], fit["seed"]) == (7, True, 3)
    assert fit["colours"].shape == (5, 3)
    assert (
        lightning("translate", tmp_path / "new" / "s.ckpt", folder, "--output", tmp_path / "out", "--latents", 1) == 0
    )


def test_a_checkpoint_without_its_run_needs_pictures(
    run: Run, fits: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "alone.ckpt"
    shutil.copy(run.checkpoint_path(2), alone)
    assert lightning("sampler", alone) == 2
    assert "lies in no run's folder that says what it was trained on. Say: --images FOLDER" in capsys.readouterr().err
    assert lightning("sampler", alone, "--images", make_folder(tmp_path / "pictures", 3)) == 0
    assert read_checkpoint(alone)["state_dict"]["sampler_fitted"]
    assert fits[0]["colours"].shape == (3, 3)


def test_a_run_that_is_being_written_is_left_alone(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    before = run.checkpoint_path(2).read_bytes()
    with lock_file(run.folder / ".lock", protects="the run"):
        assert lightning("sampler", run.folder) == 2
    assert "is in use by pid" in capsys.readouterr().err
    assert run.checkpoint_path(2).read_bytes() == before


def test_a_failure_leaves_the_old_checkpoint(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = run.checkpoint_path(2).read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(toy.StyledRoom, "fit_sampler", fail)
    assert lightning("sampler", run.folder) == 1
    assert run.checkpoint_path(2).read_bytes() == before


def test_a_room_without_a_sampler_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lightning("fit", "--config", write_recipe(tmp_path), "--trainer.max_steps", 1, "--run.name", "a") == 0
    capsys.readouterr()
    assert lightning("sampler", tmp_path / "runs" / "tiny" / "a") == 2
    said = capsys.readouterr().err
    assert said.startswith("lightning: CycleGAN has no style sampler to fit; ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    {
        "RUN --steps 0": "--steps is 0; expected at least 1",
        "RUN --output .": "--output . is a folder; expected a file",
        "RUN --stpes 3": "unrecognized arguments: --stpes 3. Did you mean '--steps'?",
        "RUN --images nowhere": "images: there is no folder",
        "RUN --device tpu9": "--device tpu9 is not to be had here",
        "nothing": "There is no checkpoint at nothing.",
        "": "the following arguments are required: checkpoint.",
    }.items(),
)
def test_mistakes(finished: Run, capsys: pytest.CaptureFixture[str], words: str, sentence: str) -> None:
    before = finished.checkpoint_path(2).read_bytes()
    assert lightning("sampler", *(str(finished.folder) if word == "RUN" else word for word in words.split())) == 2
    assert sentence in capsys.readouterr().err
    assert finished.checkpoint_path(2).read_bytes() == before


def test_a_setting_that_the_sampler_does_not_have(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(toy.StyledRoom, "fit_sampler", lambda self, loader: given.append(loader))
    assert lightning("sampler", run.folder, "--mitigate-style-bias") == 2
    assert "StyledRoom's sampler has no such setting: leave --mitigate-style-bias out." in capsys.readouterr().err
    assert lightning("sampler", run.folder) == 0
    assert len(given) == 1


def test_the_page_of_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert lightning("sampler", "--help") == 0
    assert "--mitigate-style-bias" in capsys.readouterr().out
