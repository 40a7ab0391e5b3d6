"""The real command on tiny models: in this process, or in one of its own that can be killed."""

from __future__ import annotations

import csv
import multiprocessing
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, BinaryIO

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from zoo.cli.main import main
from zoo.core.checkpoints import read_checkpoint
from zoo.core.runs import Run

TINY: dict[str, Any] = {
    "model": {
        "class_path": "zoo.cyclegan.CycleGAN",
        "init_args": {
            "generator_channels": 4,
            "residual_blocks": 1,
            "discriminator_channels": 4,
            "discriminator_layers": 2,
            "pool_size": 3,
            "ema_decay": 0.9,
        },
    },
    "data": {
        "class_path": "datamodules.Scenes",
        "init_args": {"size": 32, "batch_size": 1, "workers": 0, "validation_count": 3, "test_count": 3},
    },
    "trainer": {
        "accelerator": "cpu",
        "devices": 1,
        "max_steps": 4,
        "val_check_interval": 2,
        "check_val_every_n_epoch": None,
    },
    "checkpoints": {"every": 2},
    "samples": {"every": 2, "count": 2},
    "metrics": {"every": 1},
}


def write_recipe(folder: Path, *, name: str = "tiny", **changes: Any) -> Path:
    """A tiny CycleGAN on scenes as a recipe, whose runs lie in `folder/runs`; `changes` replace whole top-level keys."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**TINY, "run": {"root": str(folder / "runs")}, **changes}))
    return path


def lightning(*words: object) -> int:
    """Run the command in this process.

    Returns:
        Its exit code.
    """
    try:
        return main([str(word) for word in words])
    except SystemExit as stop:
        return int(stop.code or 0)


@contextmanager
def in_its_own_process(log: Path, *words: object) -> Iterator[BaseProcess]:
    """Run the command in a process of its own; what it says goes into `log`, and it is killed at the end of the block."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "lightning.pytorch", "zoo.cli.fit"])  # it starts in no time
    process = context.Process(target=_run, args=(log, [str(word) for word in words]))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def wait_for(path: Path, process: BaseProcess, log: Path, seconds: float = 120) -> None:
    """Wait until a file appears.

    Raises:
        AssertionError: the process ended before, or it takes too long.
    """
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.is_alive(), log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.005)


def _run(log: Path, words: list[str]) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    # As in any process of the command: its loaders' workers are its own children, and notice when it is killed.
    multiprocessing.set_start_method("fork", force=True)
    # A shell that started the tests in its background lets them ignore this signal; the command is asked as from a terminal.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    sys.argv = ["lightning", *words]
    sys.exit(lightning(*words))


class Hang(Callback):
    """Stops a training for good at some point, and says so with a file, so that it can be killed there.

    Args:
        marker: the file that says that it hangs now.
        iteration: number of completed iterations.
        moment: `between` iterations, in the middle of `saving` a checkpoint, or before a `validation`. `SIGINT` and `SIGTERM`
            send that signal between iterations instead.
    """

    def __init__(self, marker: str, iteration: int, moment: str = "between") -> None:
        self.marker = Path(marker)
        self.iteration = iteration
        self.moment = moment

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step != self.iteration:
            return
        if self.moment == "between":
            self.hang()
        if self.moment in {"SIGINT", "SIGTERM"}:
            os.kill(os.getpid(), signal.Signals[self.moment])
        if self.moment == "saving":
            torch.save = self.save_half

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step == self.iteration and self.moment == "validation":
            self.hang()

    def save_half(self, checkpoint: dict[str, Any], file: BinaryIO) -> None:
        file.write(b"PK\x03\x04" + bytes(1000))
        file.flush()
        self.hang()

    def hang(self) -> None:
        self.marker.touch()
        time.sleep(600)


class Die(Callback):
    """Ends one rank's process on the spot after some iteration, the first time that it gets there.

    Args:
        marker: the file that says that it died.
        iteration: number of completed iterations.
        rank: of the process.
    """

    def __init__(self, marker: str, iteration: int, rank: int = 1) -> None:
        self.marker = Path(marker)
        self.iteration = iteration
        self.rank = rank

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.iteration and trainer.global_rank == self.rank and not self.marker.exists():
            self.marker.touch()
            os._exit(1)


def hanging(marker: Path, iteration: int, moment: str = "between") -> list[str]:
    """The options that make a training hang."""
    callback = "--trainer.callbacks"
    words = f"{callback}+=support.commands.Hang {callback}.marker={marker} {callback}.iteration={iteration}"
    return [*shlex.split(words), f"{callback}.moment={moment}"]


def only_run(root: Path) -> Run:
    """The one run there is."""
    (record,) = root.glob("*/*/run.json")
    return Run(record.parent)


def rows(run: Run, *without: str) -> list[dict[str, str]]:
    """The rows of metrics.csv, without some columns."""
    with run.metrics.open(newline="") as file:
        return [{key: value for key, value in row.items() if key not in without} for row in csv.DictReader(file)]


def checkpoint_of(run: Run, iteration: int) -> dict[str, Any]:
    return read_checkpoint(run.checkpoint_path(iteration))


def assert_equal(ours: Any, theirs: Any, where: str = "") -> None:
    """Nested dictionaries, lists, tensors and plain values are the same to the bit."""
    assert type(ours) is type(theirs), where
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            assert_equal(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(ours, (list, tuple)):
        assert len(ours) == len(theirs), where
        for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            assert_equal(a, b, f"{where}[{index}]")
    elif isinstance(ours, Tensor):
        assert torch.equal(ours, theirs), where
    else:
        assert ours == theirs, where
