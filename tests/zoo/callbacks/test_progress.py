"""Progress in a terminal and in a log file."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest
from lightning.pytorch import Trainer

from support.toy import ToyRoom
from support.training import fit
from zoo.callbacks import Progress
from zoo.core.runs import Run
from zoo.errors import ZooError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(folder: Path, capsys: pytest.CaptureFixture[str], iterations: int = 5, **options: float) -> list[str]:
    fit(ToyRoom(), iterations, folder, callbacks=[Progress(**options)], enable_progress_bar=True)  # type: ignore[arg-type]
    return capsys.readouterr().err.splitlines()


def test_a_log_file_gets_a_line_now_and_then_and_one_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (last,) = lines(tmp_path, capsys)
    assert re.fullmatch(r"iteration 5 of 5, 0 s left, [\d.e+]+ it/s: generator [\d.]+, discriminator [\d.]+", last)
    every = lines(tmp_path, capsys, lines_every=0, losses=1)
    assert [line.split(",")[0] for line in every] == [f"iteration {n} of 5" for n in range(1, 6)]
    assert all("discriminator" not in line for line in every)


def test_a_training_without_end_has_no_end_to_tell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(
        ToyRoom(),
        -1,
        tmp_path,
        callbacks=[Progress(lines_every=0)],
        enable_progress_bar=True,
        max_epochs=1,
        limit_train_batches=2,
    )
    said = capsys.readouterr().err.splitlines()
    assert [re.match(r"iteration \d, [\d.e+]+ it/s: ", line) is not None for line in said] == [True, True]


def test_a_terminal_gets_a_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    fit(ToyRoom(), 3, tmp_path, callbacks=[Progress(seconds=0)], enable_progress_bar=True)
    said = terminal.getvalue()
    assert "\r" in said
    assert "| 3/3 [" in said
    assert re.search(r"generator=[\d.]+, discriminator=[\d.]+", said)
    assert said.endswith("\n")  # what is printed next stands on a line of its own
    terminal.truncate(0)
    fit(
        ToyRoom(),
        5,
        tmp_path,
        callbacks=[Progress(seconds=0)],
        enable_progress_bar=True,
        resume=Run(tmp_path).checkpoint_path(3),
    )
    assert "| 3/5 [" in terminal.getvalue()  # a resumed run's bar begins where it stands
    assert "| 5/5 [" in terminal.getvalue()


def test_the_bar_is_closed_before_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with pytest.raises(ZooError, match="not finite"):
        fit(ToyRoom(bad_iteration=1), 5, tmp_path, callbacks=[Progress(seconds=0)], enable_progress_bar=True)
    assert terminal.getvalue().endswith("\n")


def test_other_ranks_and_the_disabled_say_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class OtherRank(Progress):
        def setup(self, trainer: Trainer, *_: object, **__: object) -> None:
            self.disable()  # as Lightning does on every rank but the first

    for progress in (OtherRank(lines_every=0), Progress(enabled=False, lines_every=0)):
        fit(ToyRoom(), 2, tmp_path, callbacks=[progress], enable_progress_bar=True)
    assert capsys.readouterr().err == ""


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ZooError, match="none may be below 0"):
        Progress(losses=-1)
