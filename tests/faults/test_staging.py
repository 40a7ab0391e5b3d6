"""Runs of three phases that are killed around a switch and resumed end with the bits of one that was left alone."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

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

RECIPE = Path(__file__).parents[2] / "zoo" / "sat.yaml"
FIRST, SECOND, END = 4, 8, 11
TINY: dict[str, Any] = {
    "generator_channels": 3,
    "residual_blocks": 1,
    "attention_encoder": "random",
    "attention_channels": 3,
    "discriminator_channels": 3,
    "discriminator_layers": 2,
    "distance": "l1",
    "lambda_step": 0.5,
    "lambda_interval": 3,
    "lambda_threshold": 0.75,
    "attention_lambda_threshold": 0.75,
    "attention_iteration": FIRST,
    "joint_iteration": SECOND,
    "pool_size": 3,
    "ema_decay": 0.5,
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As in the processes that are killed: another number of threads adds up in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def recipe(folder: Path) -> Path:
    """SAT's own phases, and beside them a network that is frozen for a while, at tiny sizes."""
    folder.mkdir()
    own = yaml.safe_load(RECIPE.read_text())
    freeze = {"networks": ["discriminator"], "at": FIRST - 1, "until": SECOND}
    frozen = {"class_path": "zoo.callbacks.FreezeNetworks", "init_args": freeze}
    trainer = {"accelerator": "cpu", "devices": 1, "max_steps": END, "limit_val_batches": 0}
    return write_recipe(
        folder,
        model={**own["model"], "init_args": {**own["model"]["init_args"], **TINY}},
        trainer={**trainer, "callbacks": [*own["trainer"]["callbacks"], frozen]},
        checkpoints={"every": 1, "keep": 3},
        samples={"every": END, "count": 1},
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run that is left alone."""
    root = tmp_path_factory.mktemp("whole")
    log = root / "log.txt"
    with in_its_own_process(log, "fit", "--config", recipe(root / "run")) as process:
        process.join(120)
        assert process.exitcode == 0, log.read_text()
    return only_run(root / "run" / "runs")


@pytest.mark.parametrize("switch", [FIRST, SECOND])
@pytest.mark.parametrize("around", [0, 1, 2], ids=["before", "at", "after"])
def test_a_run_killed_around_a_switch_ends_with_the_same_bits(
    tmp_path: Path, whole: Run, switch: int, around: int
) -> None:
    """It is killed in the iteration `switch + around`, so its last checkpoint is of the end of the one before."""
    config, marker, log = recipe(tmp_path / "killed"), tmp_path / "hangs", tmp_path / "log.txt"
    with in_its_own_process(log, "fit", "--config", config, *hanging(marker, switch + around)) as process:
        wait_for(marker, process, log)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    run = only_run(tmp_path / "killed" / "runs")
    newest = switch + around - 1
    assert run.checkpoints_newest_first()[0].name == f"iteration_{newest:08d}.ckpt"
    assert checkpoint_of(run, newest)["zoo"]["stage"] == (newest > FIRST) + (newest > SECOND)
    assert lightning("fit", "--config", config, "--resume") == 0

    ends = [checkpoint_of(each, END) for each in (run, whole)]
    assert ends[0]["zoo"]["stage"] == 2
    assert ends[0]["zoo"]["ranks"][0]["pool"]["images"]
    assert sum("AdaptiveLambda" in key for key in ends[0]["callbacks"]) == 2
    for part in ("state_dict", "optimizer_states", "callbacks", "zoo", "global_step", "hyper_parameters"):
        assert_equal(ends[0][part], ends[1][part], part)
    kept = [rows(each, "seconds_per_iteration") for each in (run, whole)]
    assert [bool(row["gradient_norm/discriminator"]) for row in kept[0]] == [
        not FIRST - 1 <= n < SECOND for n in range(END)
    ]  # of a frozen network no gradient has a norm
    assert [row["iteration"] for row in kept[0]] == [str(i) for i in range(1, END + 1)]
    assert kept[0] == kept[1]
    for grid in whole.samples.iterdir():
        assert (run.samples / grid.name).read_bytes() == grid.read_bytes()


def test_the_weights_curve_can_be_read_from_the_run(whole: Run) -> None:
    used = [float(row["weight/lambda_regularisation"]) for row in rows(whole)]
    stopped = [float(row["weight/lambda_regularisation_stopped"]) for row in rows(whole)]
    assert used[0] == used[FIRST] == 0
    assert used[SECOND:] == [used[SECOND - 1]] * (END - SECOND)
    assert set(stopped) <= {0.0, 1.0}
