"""GP-UNIT's trainings that are killed and resumed end with the bits of ones that were left alone; and bfloat16."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.rooms.gpunit import SMALL_GPUNIT, SMALL_PRIOR
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor

from datamodules import Scenes
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
from support.training import fit
from zoo.core.checkpoints import read_checkpoint
from zoo.core.runs import Run
from zoo.gpunit import GPUNIT
from zoo.gpunit.prior import PriorDistillation

HALF = 3
KEPT = ("state_dict", "optimizer_states", "zoo", "global_step", "hyper_parameters")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As in the process that is killed: another number of threads adds up in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def recipe(folder: Path) -> tuple[Path, Path]:
    """The second stage with its sampler on small scenes, and the file that its content encoder comes from."""
    folder.mkdir()
    torch.manual_seed(1)
    encoder = folder / "encoder.pt"
    torch.save(GPUNIT(**SMALL_GPUNIT).content_encoder.state_dict(), encoder)
    settings = {**SMALL_GPUNIT, "content_encoder": str(encoder), "sampler_steps": 64, "sampler_batch": 8}
    scenes = {"size": 64, "batch_size": 2, "workers": 0, "scenes_per_epoch": 16, "validation_count": 2}
    trainer = {"accelerator": "cpu", "devices": 1, "max_steps": 2 * HALF, "val_check_interval": HALF}
    config = write_recipe(
        folder,
        model={"class_path": "zoo.gpunit.GPUNIT", "init_args": settings},
        data={"class_path": "datamodules.Scenes", "init_args": scenes},
        trainer={
            **trainer,
            "check_val_every_n_epoch": None,
            "callbacks": [{"class_path": "zoo.gpunit.sampler.FitStyleSampler"}],
        },
        checkpoints={"every": HALF, "keep": 3},
        samples={"every": HALF, "count": 1},
    )
    return config, encoder


def test_a_killed_second_stage_resumes_to_the_same_bits_without_its_initial_encoder(tmp_path: Path) -> None:
    config, _ = recipe(tmp_path / "whole")
    log = tmp_path / "whole.txt"
    with in_its_own_process(log, "fit", "--config", config) as process:
        process.join(120)
        assert process.exitcode == 0, log.read_text()
    whole = only_run(tmp_path / "whole" / "runs")

    config, encoder = recipe(tmp_path / "killed")
    marker, log = tmp_path / "hangs", tmp_path / "killed.txt"
    with in_its_own_process(log, "fit", "--config", config, *hanging(marker, HALF + 1)) as process:
        wait_for(marker, process, log)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    run = only_run(tmp_path / "killed" / "runs")
    assert [path.name for path in run.checkpoints_newest_first()] == [f"iteration_{HALF:08d}.ckpt"]
    encoder.unlink()
    assert lightning("fit", "--config", config, "--resume") == 0

    ends = [checkpoint_of(each, 2 * HALF) for each in (run, whole)]
    assert ends[0]["state_dict"]["sampler_fitted"]
    assert not checkpoint_of(run, HALF)["state_dict"]["sampler_fitted"]
    for end in ends:
        del end["hyper_parameters"]["content_encoder"]  # its path
    for part in KEPT:
        assert_equal(ends[0][part], ends[1][part], part)
    kept = [rows(each, "seconds_per_iteration") for each in (run, whole)]
    assert kept[0] == kept[1]
    for grid in whole.samples.iterdir():
        assert (run.samples / grid.name).read_bytes() == grid.read_bytes()


class Dies(Callback):
    """Ends a training in the middle."""

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == HALF + 1:
            raise InterruptedError


def test_an_interrupted_first_stage_resumes_to_the_same_bits(tmp_path: Path) -> None:
    def train(name: str, resume: Path | None = None, *callbacks: Callback) -> None:
        seed_everything(3, verbose=False)
        data = Scenes(task="pairs", domains=("plain", "striped", "dotted"), size=64, batch_size=2, validation_count=2)
        options: dict[str, Any] = {"data": data, "every": HALF, "resume": resume, "callbacks": list(callbacks)}
        fit(PriorDistillation(**SMALL_PRIOR), 2 * HALF, tmp_path / name, val_check_interval=HALF, **options)

    train("whole")
    with pytest.raises(InterruptedError):
        train("parts", None, Dies())
    whole, parts = Run(tmp_path / "whole"), Run(tmp_path / "parts")
    assert len(parts.checkpoints_newest_first()) == 1
    train("parts", parts.checkpoint_path(HALF))
    ends = [read_checkpoint(run.checkpoint_path(2 * HALF)) for run in (parts, whole)]
    assert ends[0]["optimizer_states"]
    for part in KEPT:
        assert_equal(ends[0][part], ends[1][part], part)


class Listening(Callback):
    """Keeps the terms of each iteration, and the types of what the discriminator sees and says."""

    def __init__(self) -> None:
        self.terms: list[dict[str, float]] = []
        self.types: list[tuple[torch.dtype, ...]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if isinstance(pl_module, GPUNIT):
            pl_module.discriminator.linear.register_forward_hook(self.note)

    def note(self, layer: torch.nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        self.types.append((inputs[0].dtype, output.dtype))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, GPUNIT | PriorDistillation)
        self.terms.append({name: float(value) for name, value in pl_module.terms.latest.items()})


def listened(room: type[GPUNIT | PriorDistillation], precision: str, folder: Path) -> Listening:
    """A few iterations in a precision, from the same weights and with the same pictures."""
    seed_everything(3, verbose=False)
    listening = Listening()
    options: dict[str, Any] = {"precision": precision, "limit_val_batches": 0, "callbacks": [listening]}
    if room is GPUNIT:
        fit(GPUNIT(**SMALL_GPUNIT), 3, folder, data=Scenes(size=64, batch_size=4), **options)
    else:
        data = Scenes(task="pairs", domains=("plain", "striped", "dotted"), size=64, batch_size=4)
        fit(PriorDistillation(**SMALL_PRIOR), 3, folder, data=data, **options)
    return listening


@pytest.mark.parametrize("room", [GPUNIT, PriorDistillation])
def test_bfloat16_learns_what_float32_learns(room: type[GPUNIT | PriorDistillation], tmp_path: Path) -> None:
    full, mixed = (listened(room, precision, tmp_path) for precision in ("32-true", "bf16-mixed"))
    assert full.terms != mixed.terms
    for ours, theirs in zip(mixed.terms, full.terms, strict=True):
        assert ours.keys() == theirs.keys()
        for name in theirs.keys() - {"loss/r1"}:
            assert ours[name] == pytest.approx(theirs[name], rel=0.05), name
    if room is PriorDistillation:
        return
    # The penalty at the first weights, which no rounding has touched yet, is that of full precision to the bit.
    assert mixed.terms[0]["loss/r1"] == full.terms[0]["loss/r1"] > 0
    judging, halved = (torch.float32,) * 2, (torch.bfloat16,) * 2
    assert mixed.types == [halved, judging, judging] * 3  # fooled; real and fake
