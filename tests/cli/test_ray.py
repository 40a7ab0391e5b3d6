"""Ray Train drives a room: two processes on this machine's CPU, started by Ray."""

from __future__ import annotations

import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from support.commands import TINY, checkpoint_of, lightning, only_run, write_recipe
from zoo.cli.ray import begin_or_go_on

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is an extra: pip install 'translation-zoo[ray]'")


def data(batch_size: int) -> dict[str, object]:
    return {**TINY["data"], "init_args": {**TINY["data"]["init_args"], "batch_size": batch_size}}


@needs_ray
@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_two_workers_train_what_one_process_does_with_twice_the_batch_though_one_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The players average gradients over Ray's process group; what dies begins anew, and the one run goes on from its checkpoint."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    model = {**TINY["model"]["init_args"], "pool_size": 0}
    changes = {"model": {**TINY["model"], "init_args": model}, "samples": {"enabled": False}}
    alone, together = tmp_path / "alone", tmp_path / "together"
    for folder, batch_size in ((alone, 2), (together, 1)):
        folder.mkdir()
        write_recipe(folder, data=data(batch_size), **changes)
    options = ["--trainer.precision", "64-true"]
    assert lightning("fit", "--config", alone / "tiny.yaml", *options) == 0
    marker, callback = tmp_path / "died", "--trainer.callbacks"
    options += shlex.split(f"{callback}+=support.commands.Die {callback}.marker={marker} {callback}.iteration=3")
    ray = ["ray", "--workers", "2", "--failures", "1"]
    assert lightning(*ray, "--config", together / "tiny.yaml", *options) == 0
    assert marker.exists()
    ours = checkpoint_of(only_run(together / "runs"), 4)["state_dict"]
    expected = checkpoint_of(only_run(alone / "runs"), 4)["state_dict"]
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--workers", "0"], "workers is 0"),
        (["--trainer.devices", "2"], "--workers 1"),
        (["--trainer.strategy=ddp"], "Ray's to say"),
        (["--trainer.accelerator", "cpu"], "--gpus"),
    ],
)
def test_mistakes_are_answered_before_ray_starts(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "--trainer.accelerator" in words and find_spec("ray") is None:
        pytest.skip("asked after Ray was looked for")
    recipe = write_recipe(tmp_path)
    assert lightning("ray", "--config", recipe, *words) == 2
    assert sentence in capsys.readouterr().err


@needs_ray
def test_a_run_of_that_name_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs" / "tiny" / "first").mkdir(parents=True)
    assert lightning("ray", "--config", write_recipe(tmp_path), "--run.name", "first") == 2
    assert "--resume" in capsys.readouterr().err


def test_an_attempt_goes_on_where_the_last_one_with_a_checkpoint_broke_off(tmp_path: Path) -> None:
    def begun(name: str, *checkpoints: int) -> None:
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "run.json").write_text("{}")
        for iteration in checkpoints:
            (tmp_path / name / "checkpoints" / f"iteration_{iteration:08d}.ckpt").touch()

    assert begin_or_go_on(tmp_path, "first") == ["--run.name", "first"]
    begun("first")
    assert begin_or_go_on(tmp_path, "first") == ["--run.name", "first-2"]
    begun("first-2", 2, 4)
    assert begin_or_go_on(tmp_path, "first") == ["--resume", str(tmp_path / "first-2")]
    begun("first-3")
    assert begin_or_go_on(tmp_path, "first") == ["--resume", str(tmp_path / "first-2")]
