"""When checkpoints are written, and which are kept."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from support.commands import assert_equal
from support.toy import ToyRoom, weights
from support.training import fit
from zoo.callbacks import Checkpoints
from zoo.core.checkpoints import read_checkpoint
from zoo.core.runs import Run, checkpoint_iteration
from zoo.errors import ZooError


def kept(folder: Path) -> list[int]:
    return [checkpoint_iteration(path) for path in reversed(Run(folder).checkpoints_newest_first())]


def train(folder: Path, iterations: int, resume: Path | None = None, **options: int) -> None:
    """Train with the callback under test; the one of `fit` keeps quiet in a folder of its own."""
    checkpoints = Checkpoints(**options)
    checkpoints.run = Run(folder)
    fit(ToyRoom(), iterations, folder / "other", callbacks=[checkpoints], resume=resume)


def test_every_so_many_iterations_and_at_the_end(tmp_path: Path) -> None:
    train(tmp_path, 7, every=3, keep=100)
    assert kept(tmp_path) == [3, 6, 7]
    assert [read_checkpoint(Run(tmp_path).checkpoint_path(n))["zoo"]["iteration"] for n in kept(tmp_path)] == [3, 6, 7]


def test_the_newest_are_kept_and_some_for_good(tmp_path: Path) -> None:
    train(tmp_path, 9, every=1, keep=2, keep_every=4)
    assert kept(tmp_path) == [4, 8, 9]


def test_one_is_enough(tmp_path: Path) -> None:
    train(tmp_path, 5, every=2, keep=1)
    assert kept(tmp_path) == [5]


def test_a_resumed_run_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    train(tmp_path, 4, every=2, keep=2)
    part = Run(tmp_path).checkpoints / ".iteration_00000006.ckpt.0a1b.part"
    part.write_bytes(b"what a killed run was writing")
    theirs = Run(tmp_path).checkpoints / ".notes.part"
    theirs.touch()
    train(tmp_path, 5, Run(tmp_path).checkpoint_path(4), every=2, keep=2)
    assert kept(tmp_path) == [4, 5]
    assert not part.exists()
    assert theirs.exists()


class Ask(Callback):
    """Sends a signal, the same as often as told, after some iteration."""

    def __init__(self, iteration: int, times: int = 1, sent: signal.Signals = signal.SIGINT) -> None:
        self.iteration, self.times, self.sent = iteration, times, sent

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.iteration:
            for _ in range(self.times):
                signal.raise_signal(self.sent)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as at a terminal: a shell starts what is in its background with that signal ignored, tests among it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_who_asks_to_stop_loses_no_iteration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sent: signal.Signals
) -> None:
    checkpoints = Checkpoints(every=5)
    checkpoints.run = Run(tmp_path)
    with pytest.raises(SystemExit):
        fit(ToyRoom(), 20, tmp_path / "other", callbacks=[checkpoints, Ask(7, sent=sent)])
    assert kept(tmp_path) == [5, 8]
    assert f"iteration 8 is saved; go on with lightning fit --resume {tmp_path}" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is not checkpoints._ask
    train(tmp_path, 9, Run(tmp_path).checkpoint_path(8), every=5)
    assert kept(tmp_path) == [8, 9]


@pytest.mark.usefixtures("interruptible")
def test_a_run_that_is_told_to_ignore_interrupts_goes_on(tmp_path: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    checkpoints = Checkpoints(every=5)
    checkpoints.run = Run(tmp_path)
    fit(ToyRoom(), 9, tmp_path / "other", callbacks=[checkpoints, Ask(7)])
    assert kept(tmp_path) == [5, 9]


@pytest.mark.usefixtures("interruptible")
def test_who_asks_twice_is_obeyed_at_once(tmp_path: Path) -> None:
    checkpoints = Checkpoints(every=5)
    checkpoints.run = Run(tmp_path)
    with pytest.raises(SystemExit):
        fit(ToyRoom(), 20, tmp_path / "other", callbacks=[checkpoints, Ask(7, times=2)])
    assert kept(tmp_path) == [5]


class Finish(Callback):
    """A stage callback that changes the model when the training is over."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with torch.no_grad():
            pl_module.extra.weight.fill_(7.0)  # type: ignore[union-attr, operator]


@pytest.mark.parametrize("every", [2, 3])
@pytest.mark.parametrize("first", [True, False])
def test_the_last_one_holds_what_a_stage_callback_did_at_the_end(tmp_path: Path, every: int, first: bool) -> None:
    """Whether the last iteration was one to be saved anyway or not, and wherever the callback stands in the list."""
    checkpoints, finish = Checkpoints(every=every), Finish()
    checkpoints.run = Run(tmp_path)
    room = ToyRoom()
    callbacks = [finish, checkpoints] if first else [checkpoints, finish]
    fit(room, 4, tmp_path / "other", callbacks=callbacks)
    assert kept(tmp_path) == ([2, 4] if every == 2 else [3, 4])
    saved = [read_checkpoint(Run(tmp_path).checkpoint_path(n))["state_dict"]["extra.weight"] for n in kept(tmp_path)]
    assert [bool((weight == 7).all()) for weight in saved] == [False, True]


def test_the_last_iteration_is_safe_while_a_stage_callback_works(tmp_path: Path) -> None:
    found: list[list[int]] = []

    class Working(Callback):
        def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            found.append(kept(tmp_path))

    checkpoints = Checkpoints(every=2)
    checkpoints.run = Run(tmp_path)
    fit(ToyRoom(), 4, tmp_path / "other", callbacks=[Working(), checkpoints])
    assert found == [[2, 4]]


@pytest.mark.parametrize("every", [2, 3])
def test_a_training_goes_on_from_its_end_as_if_it_had_none(tmp_path: Path, every: int) -> None:
    for folder, iterations in (("parts", 4), ("whole", 7)):
        seed_everything(7, verbose=False)
        room = ToyRoom(norm="batch", ema_decay=0.9)
        fit(room, iterations, tmp_path / folder, every=every)
    resumed = ToyRoom(norm="batch", ema_decay=0.9)
    fit(resumed, 7, tmp_path / "parts", every=every, resume=Run(tmp_path / "parts").checkpoint_path(4))
    assert_equal(weights(resumed), weights(room))


def test_a_run_with_nothing_left_to_do_writes_nothing(tmp_path: Path) -> None:
    train(tmp_path, 4, every=2, keep=2)
    before = Run(tmp_path).checkpoint_path(4).stat().st_mtime_ns
    train(tmp_path, 4, Run(tmp_path).checkpoint_path(4), every=2, keep=2)
    assert Run(tmp_path).checkpoint_path(4).stat().st_mtime_ns == before


def test_checkpoints_of_a_later_time_are_left_alone(tmp_path: Path) -> None:
    """A damaged newer one is overwritten when its iteration comes again, not counted among those to keep."""
    train(tmp_path, 6, every=2, keep=3)
    Run(tmp_path).checkpoint_path(6).write_bytes(b"damaged")
    train(tmp_path, 5, Run(tmp_path).checkpoint_path(4), every=5, keep=2)
    assert kept(tmp_path) == [4, 5, 6]


def test_without_a_run_there_is_nowhere_to_write(tmp_path: Path) -> None:
    fit(ToyRoom(), 2, tmp_path / "other", callbacks=[Checkpoints(every=1)])
    assert kept(tmp_path) == []


@pytest.mark.parametrize("options", [{"every": 0}, {"keep": 0}, {"keep_every": -1}])
def test_settings_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ZooError, match="expected at least 1, 1 and 0"):
        Checkpoints(**options)
