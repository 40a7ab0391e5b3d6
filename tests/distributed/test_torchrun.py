"""The command under torchrun, which starts the processes and tells them of each other: the way to several machines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from support.commands import TINY, checkpoint_of, lightning, only_run, rows, write_recipe

ROOT = Path(__file__).parents[2]


@pytest.mark.distributed
@pytest.mark.slow
def test_two_processes_of_torchrun_train_what_one_does_with_twice_the_batch(tmp_path: Path) -> None:
    model = {**TINY["model"], "init_args": {**TINY["model"]["init_args"], "pool_size": 0}}
    for folder, batch_size in (("alone", 2), ("together", 1)):
        data = {**TINY["data"], "init_args": {**TINY["data"]["init_args"], "batch_size": batch_size}}
        (tmp_path / folder).mkdir()
        write_recipe(tmp_path / folder, model=model, data=data, samples={"enabled": False})
    options = [
        "--config",
        str(ROOT / "configs" / "ddp.yaml"),
        "--trainer.accelerator",
        "cpu",
        "--trainer.max_steps",
        "2",
    ]
    options += ["--trainer.precision", "64-true"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "zoo", "fit", "--config", str(tmp_path / "together" / "tiny.yaml"), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [*command, "--trainer.devices", "2"], env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    together = only_run(tmp_path / "together" / "runs")  # one run, not one for each process
    assert done.stdout.count(str(together.folder)) >= 1
    assert lightning("fit", "--config", tmp_path / "alone" / "tiny.yaml", *options, "--trainer.strategy", "auto",
                     "--trainer.devices", "1") == 0  # fmt: skip
    alone = only_run(tmp_path / "alone" / "runs")
    assert [row["iteration"] for row in rows(together)] == [row["iteration"] for row in rows(alone)]
    ours, expected = (checkpoint_of(run, 2)["state_dict"] for run in (together, alone))
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-6, atol=1e-9, msg=name)
