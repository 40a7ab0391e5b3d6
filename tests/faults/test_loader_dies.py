"""A loader process that dies is noticed, in a sentence, and costs nothing that was saved."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image

from support.commands import TINY, lightning, only_run, write_recipe
from zoo.cli.fit import worker_died


class KillLoader(Callback):
    """Kills the processes that load pictures after some iterations, as a system does that has no memory left."""

    def __init__(self, after: int = 2) -> None:
        self.after = after

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.after:
            for child in multiprocessing.active_children():
                assert child.pid is not None
                os.kill(child.pid, signal.SIGKILL)


def test_a_loader_process_that_dies_stops_the_run_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = np.random.default_rng(0)
    for folder in ("source", "target"):
        (tmp_path / folder).mkdir()
        for index in range(3):
            Image.fromarray(numbers.integers(0, 256, (32, 32, 3), np.uint8)).save(tmp_path / folder / f"{index}.png")
    folders = {"source": str(tmp_path / "source"), "target": str(tmp_path / "target"), "load_size": 32, "size": 32}
    data = {"class_path": "datamodules.UnpairedFolders", "init_args": {**folders, "workers": 1, "batch_size": 1}}
    killer = [{"class_path": f"{KillLoader.__module__}.KillLoader"}]
    trainer = {**TINY["trainer"], "max_steps": 40, "limit_val_batches": 0}
    recipe = write_recipe(tmp_path, data=data, trainer={**trainer, "callbacks": killer}, checkpoints={"every": 1})
    assert lightning("fit", "--config", recipe) == 2
    said = capsys.readouterr().err
    assert "A process that loads pictures died (killed by signal: Killed)" in said
    assert "--data.workers 1" in said
    run = only_run(tmp_path / "runs")
    assert run.newest_loadable_checkpoint()[0] == run.checkpoints_newest_first()[0]
    write_recipe(tmp_path, data=data, trainer=trainer, checkpoints={"every": 1})  # without the killer
    done = int(run.checkpoints_newest_first()[0].stem.rpartition("_")[2])
    words = ["--data.workers", 0, "--trainer.max_steps", done + 1]
    assert lightning("fit", "--config", recipe, "--resume", run.folder, *words) == 0


@pytest.mark.parametrize(
    ("told", "cause"),
    [
        ("DataLoader worker (pid 12) is killed by signal: Killed. ", "killed by signal: Killed"),
        ("DataLoader worker (pid(s) 12, 13) exited unexpectedly", "exited unexpectedly"),
    ],
)
def test_what_pytorch_tells_is_kept_short(told: str, cause: str) -> None:
    assert f"died ({cause})" in worker_died("fit", told)
    assert "--resume" not in worker_died("test", told)
