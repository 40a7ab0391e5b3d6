"""A training of one picture that is killed around the switch to another scale, and resumed, ends with the bits of one left alone."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from support.commands import (
    assert_equal,
    checkpoint_of,
    hanging,
    in_its_own_process,
    lightning,
    only_run,
    rows,
    wait_for,
)
from support.single_image import draw_picture, recipe
from zoo.core.runs import Run

LENGTH, STAGES = 2, 3
SWITCH, END = LENGTH * (STAGES - 1), LENGTH * STAGES
ROOMS: dict[str, dict[str, Any]] = {
    "zoo.consingan.ConSinGAN": {"stages": STAGES, "norm": True},
    "zoo.singan.SinGAN": {"scale_factor": 0.5, "min_size": 13},
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As in the processes that are killed: another number of threads adds up in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def config(folder: Path, room: str) -> Path:
    return recipe(folder, room, draw_picture(folder / "picture.png"), length=LENGTH, **ROOMS[room])


@pytest.fixture(scope="module", params=ROOMS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, str]:
    """The run that is left alone, and its room."""
    folder, room = tmp_path_factory.mktemp("whole") / "run", request.param
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert lightning("fit", "--config", config(folder, room)) == 0
    torch.set_num_threads(threads)
    return only_run(folder / "runs"), room


@pytest.mark.parametrize("kept", [SWITCH - 1, SWITCH, SWITCH + 1])
def test_a_run_killed_around_the_switch_ends_with_the_same_bits(
    tmp_path: Path, whole: tuple[Run, str], kept: int
) -> None:
    """`kept` iterations are in the newest checkpoint that is whole; the killed run has done one more iteration."""
    unharmed, room = whole
    assert unharmed.checkpoints_newest_first()[0] == unharmed.checkpoint_path(END)
    file = config(tmp_path / "killed", room)
    marker, log = tmp_path / "hangs", tmp_path / "log.txt"
    with in_its_own_process(log, "fit", "--config", file, *hanging(marker, kept + 1)) as process:
        wait_for(marker, process, log)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    run = only_run(file.parent / "runs")
    assert run.checkpoints_newest_first()[0] == run.checkpoint_path(kept)
    assert checkpoint_of(run, kept)["zoo"]["stage"] == (kept - 1) // LENGTH
    assert lightning("fit", "--config", file, "--resume") == 0
    for iteration in range(kept + 1, END + 1):
        ours, theirs = (checkpoint_of(each, iteration) for each in (run, unharmed))
        for part in ("state_dict", "optimizer_states", "zoo", "global_step", "hyper_parameters"):
            assert_equal(ours[part], theirs[part], f"{iteration}: {part}")
    assert rows(run, "seconds_per_iteration") == rows(unharmed, "seconds_per_iteration")
    for grid in unharmed.samples.iterdir():
        assert (run.samples / grid.name).read_bytes() == grid.read_bytes()
