"""A run that is killed and resumed ends with the bits of one that was left alone."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from support.commands import (
    assert_equal,
    checkpoint_of,
    hanging,
    in_its_own_process,
    lightning,
    only_run,
    rows,
    wait_for,
    write_recipe,
)
from zoo.core.runs import Run

HALF = 5  # in the middle of the second epoch of 3 and 4 pictures


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As in the processes that are killed: another number of threads adds up in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Settings of UnpairedFolders for 3 and 4 pictures of noise, and 2 for validation."""
    root = tmp_path_factory.mktemp("pictures")
    numbers = np.random.default_rng(0)
    for folder, count in {"source": 3, "target": 4, "validation_source": 2, "validation_target": 2}.items():
        (root / folder).mkdir()
        for index in range(count):
            Image.fromarray(numbers.integers(0, 256, (40, 44, 3), np.uint8)).save(root / folder / f"{index}.png")
    names = ("source", "target", "validation_source", "validation_target")
    return {**{name: str(root / name) for name in names}, "load_size": 36, "size": 32, "batch_size": 1}


def recipe(folder: Path, folders: dict[str, Any], workers: int = 0) -> Path:
    folder.mkdir()
    data = {"class_path": "datamodules.UnpairedFolders", "init_args": {**folders, "workers": workers}}
    trainer = {"accelerator": "cpu", "devices": 1, "max_steps": 2 * HALF, "val_check_interval": HALF}
    return write_recipe(
        folder,
        data=data,
        trainer={**trainer, "check_val_every_n_epoch": None},
        checkpoints={"every": HALF, "keep": 3},
        samples={"every": HALF, "count": 1},
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, folders: dict[str, Any]) -> Run:
    """The run that is left alone."""
    root = tmp_path_factory.mktemp("whole")
    log = root / "log.txt"
    with in_its_own_process(log, "fit", "--config", recipe(root / "run", folders)) as process:
        process.join(120)
        assert process.exitcode == 0, log.read_text()
    return only_run(root / "run" / "runs")


def kill(config: Path, iteration: int, moment: str = "between") -> tuple[Run, str]:
    """Start a run and kill it at a point; the run and what it said."""
    root = config.parent
    marker, log = root / "hangs", root / "log.txt"
    with in_its_own_process(log, "fit", "--config", config, *hanging(marker, iteration, moment)) as process:
        wait_for(marker, process, log)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    return only_run(root / "runs"), log.read_text()


def assert_same_end(run: Run, whole: Run, *, unvalidated: int | None = None) -> None:
    ends = [checkpoint_of(each, 2 * HALF) for each in (run, whole)]
    assert ends[0]["optimizer_states"]
    assert ends[0]["zoo"]["ranks"][0]["pool_source"]["images"]
    assert any(key.startswith("ema.to_target.") for key in ends[0]["state_dict"])
    for part in ("state_dict", "optimizer_states", "zoo", "global_step", "hyper_parameters"):
        assert_equal(ends[0][part], ends[1][part], part)
    kept = [rows(each, "seconds_per_iteration") for each in (run, whole)]
    assert [row["iteration"] for row in kept[0]] == [str(i) for i in range(1, 2 * HALF + 1)]
    if unvalidated is not None:
        for row in kept[1]:
            row.update({key: "" for key in row if key.startswith("val/") and row["iteration"] == str(unvalidated)})
    assert kept[0] == kept[1]
    for grid in whole.samples.iterdir():
        assert (run.samples / grid.name).read_bytes() == grid.read_bytes()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_and_resumed_run_ends_with_the_same_bits(
    tmp_path: Path, folders: dict[str, Any], whole: Run, workers: int
) -> None:
    config = recipe(tmp_path / "killed", folders, workers)
    run, _ = kill(config, HALF + 3)
    assert [path.name for path in run.checkpoints_newest_first()] == [f"iteration_{HALF:08d}.ckpt"]
    assert rows(run)[-1]["iteration"] == str(HALF + 2)  # a future that will be lived again
    assert lightning("fit", "--config", config, "--resume") == 0
    assert_same_end(run, whole)


def test_a_run_killed_while_it_writes_a_checkpoint_goes_on_from_the_one_before(
    tmp_path: Path, folders: dict[str, Any], whole: Run
) -> None:
    config = recipe(tmp_path / "killed", folders)
    run, _ = kill(config, 2 * HALF, "saving")
    (part,) = run.checkpoints.glob(".*.part")
    assert part.stat().st_size > 0
    assert [path.name for path in run.checkpoints_newest_first()] == [f"iteration_{HALF:08d}.ckpt"]
    assert lightning("fit", "--config", config, "--resume", run.folder) == 0
    assert not part.exists()
    assert_same_end(run, whole)


def test_a_run_killed_between_a_checkpoint_and_its_validation_lacks_that_validation_alone(
    tmp_path: Path, folders: dict[str, Any], whole: Run
) -> None:
    config = recipe(tmp_path / "killed", folders)
    run, _ = kill(config, HALF, "validation")
    assert lightning("fit", "--config", config, "--resume") == 0
    assert_same_end(run, whole, unvalidated=HALF)


@pytest.mark.parametrize(("sent", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_run_that_is_asked_to_stop_says_so_in_a_line_and_resumes(
    tmp_path: Path, folders: dict[str, Any], whole: Run, sent: str, code: int
) -> None:
    config = recipe(tmp_path / "stopped", folders)
    log = tmp_path / "log.txt"
    with in_its_own_process(log, "fit", "--config", config, *hanging(tmp_path / "unused", HALF + 1, sent)) as process:
        process.join(60)
        assert process.exitcode == code
    said = log.read_text()
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("lightning: stopped by ")
    stopped = only_run(config.parent / "runs")
    assert f"iteration {HALF + 1} is saved; go on with lightning fit --resume {stopped.folder}" in said
    assert stopped.checkpoint_path(HALF + 1).is_file()
    assert lightning("fit", "--config", config, "--resume") == 0
    assert_same_end(stopped, whole)
