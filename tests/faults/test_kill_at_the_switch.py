"""A training that is killed around the switch to its second stage, and resumed, ends with the bits of one that was left alone."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from support.commands import (
    TINY,
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

SWITCH, END = 3, 6
STAGING = "zoo.callbacks.staging"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As in the processes that are killed: another number of threads adds up in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def recipe(folder: Path, optimizer: str) -> Path:
    """A tiny AGGAN on scenes, checkpointed after every iteration, with the callbacks of the paper's recipe."""
    folder.mkdir()
    sizes = {"generator_channels": 4, "residual_blocks": 1, "attention_channels": 4, "discriminator_channels": 4}
    options = {"discriminator_layers": 1, "pool_size": 2, "optimizer": optimizer, "ema_decay": 0.9}
    model = {"class_path": "zoo.aggan.AGGAN", "init_args": {**sizes, **options, "switch_iteration": SWITCH}}
    networks = {"networks": ["attention_source", "attention_target"], "at": "switch_iteration"}
    callbacks = [
        {"class_path": f"{STAGING}.FreezeNetworks", "init_args": networks},
        {"class_path": f"{STAGING}.EnterStage", "init_args": {"stage": 1, "at": "switch_iteration"}},
    ]
    trainer = {**TINY["trainer"], "max_steps": END, "val_check_interval": END, "callbacks": callbacks}
    return write_recipe(
        folder, model=model, trainer=trainer, checkpoints={"every": 1, "keep": END}, samples={"every": SWITCH}
    )


@pytest.fixture(scope="module", params=["torch", "tensorflow"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, str]:
    """The run that is left alone, and its optimiser."""
    root = tmp_path_factory.mktemp("whole")
    log = root / "log.txt"
    with in_its_own_process(log, "fit", "--config", recipe(root / "run", request.param)) as process:
        process.join(300)
        assert process.exitcode == 0, log.read_text()
    return only_run(root / "run" / "runs"), request.param


@pytest.mark.parametrize("kept", [SWITCH - 1, SWITCH, SWITCH + 1])
def test_a_run_killed_around_the_switch_ends_with_the_same_bits(
    tmp_path: Path, whole: tuple[Run, str], kept: int
) -> None:
    """`kept` iterations are in the newest checkpoint; the killed run has done one more."""
    unharmed, optimizer = whole
    config = recipe(tmp_path / "killed", optimizer)
    marker, log = tmp_path / "hangs", tmp_path / "log.txt"
    with in_its_own_process(log, "fit", "--config", config, *hanging(marker, kept + 1)) as process:
        wait_for(marker, process, log)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    run = only_run(config.parent / "runs")
    newest = checkpoint_of(run, kept)
    assert run.checkpoints_newest_first()[0] == run.checkpoint_path(kept)
    assert newest["zoo"]["stage"] == int(kept > SWITCH)  # the stage begins with the first iteration that is in it
    assert newest["zoo"]["frozen"] == (["attention_source", "attention_target"] if kept > SWITCH else [])
    assert lightning("fit", "--config", config, "--resume") == 0
    for iteration in range(kept + 1, END + 1):
        ours, theirs = (checkpoint_of(each, iteration) for each in (run, unharmed))
        assert theirs["zoo"]["ranks"][0]["pool_source"]["images"]
        for part in ("state_dict", "optimizer_states", "zoo", "global_step", "hyper_parameters"):
            assert_equal(ours[part], theirs[part], f"{iteration}: {part}")
    assert rows(run, "seconds_per_iteration") == rows(unharmed, "seconds_per_iteration")
    for grid in unharmed.samples.iterdir():
        assert (run.samples / grid.name).read_bytes() == grid.read_bytes()
