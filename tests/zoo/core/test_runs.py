"""Folders of runs."""

from __future__ import annotations

import json
import os
import re
from datetime import datetime, tzinfo
from pathlib import Path

import pytest
import torch

from zoo.core import runs
from zoo.core.records import describe_run, write_record
from zoo.core.runs import Run, checkpoint_iteration, find_run, new_run, writing
from zoo.errors import ZooError


def begun(root: Path, name: str, recipe: str = "toy", at: int = 0) -> Run:
    run = new_run(root, recipe, name)
    run.record.write_text("{}")
    os.utime(run.record, (at, at))
    return run


def test_runs_that_start_in_the_same_second_get_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Noon(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Noon:
            return cls(2030, 1, 2, 12, 0, 0)

    monkeypatch.setattr(runs, "datetime", Noon)
    names = [new_run(tmp_path, "toy").folder.relative_to(tmp_path).as_posix() for _ in range(3)]
    assert names == ["toy/20300102-120000", "toy/20300102-120000-2", "toy/20300102-120000-3"]


def test_a_name_is_refused_where_something_lies(tmp_path: Path) -> None:
    run = new_run(tmp_path, "toy", "first")
    assert new_run(tmp_path, "toy", "first") == run  # nothing was begun there
    run.record.write_text("{}")
    with pytest.raises(ZooError, match=f"--resume {re.escape(str(run.folder))}"):
        new_run(tmp_path, "toy", "first")
    (tmp_path / "toy" / "file").touch()
    with pytest.raises(ZooError, match="is there already"):
        new_run(tmp_path, "toy", "file")
    with pytest.raises(ZooError, match="cannot be made: Not a directory"):
        new_run(tmp_path / "toy" / "file", "toy")


@pytest.mark.parametrize("name", ["", "..", "a/b", "/abs"])
def test_a_name_is_a_folders_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ZooError, match=r"run\.name is"):
        new_run(tmp_path, "toy", name)
    with pytest.raises(ZooError, match=r"run\.recipe is"):
        new_run(tmp_path, name)


def test_one_writes_at_a_time_and_a_run_that_never_began_leaves_nothing(tmp_path: Path) -> None:
    run = new_run(tmp_path, "toy", "first")
    with writing(run), pytest.raises(ZooError, match="is in use by pid"), writing(run):
        pass
    assert not (tmp_path / "toy").exists()
    run = begun(tmp_path, "second")
    with pytest.raises(RuntimeError), writing(run):
        raise RuntimeError("the training failed")
    with writing(run):
        assert run.record.is_file()
    kept = new_run(tmp_path, "toy", "third")
    with writing(kept):
        (kept.folder / "notes.txt").write_text("a person's own")
    assert (kept.folder / "notes.txt").is_file()


def test_runs_are_found_by_folder_by_name_and_by_time(tmp_path: Path) -> None:
    old, new = begun(tmp_path, "a", at=2000), begun(tmp_path, "b", at=1000)
    other = begun(tmp_path, "c", recipe="other", at=3000)
    new_run(tmp_path, "toy", "never-begun")
    assert find_run(tmp_path, "toy") == old  # the one that began last
    assert find_run(tmp_path, "toy", "b") == new
    assert find_run(tmp_path, "toy", str(new.folder)) == new
    assert find_run(tmp_path, "", "c") == other
    with pytest.raises(ZooError, match="no run 'never-begun'"):
        find_run(tmp_path, "toy", "never-begun")
    with pytest.raises(ZooError, match="no run to resume"):
        find_run(tmp_path, "nothing")
    with pytest.raises(ZooError, match="Runs: none yet"):
        find_run(tmp_path / "nowhere", "toy", "a")


def test_the_newest_checkpoint_is_so_by_its_number(tmp_path: Path) -> None:
    run = new_run(tmp_path, "toy", "first")
    run.checkpoints.mkdir()
    for iteration in (99_999_999, 100_000_000, 7):
        torch.save({"a": torch.zeros(1)}, run.checkpoint_path(iteration))
    (run.checkpoints / ".iteration_200000000.ckpt.abc.part").touch()
    (run.checkpoints / "iteration_best.ckpt").touch()
    found = [checkpoint_iteration(path) for path in run.checkpoints_newest_first()]
    assert found == [100_000_000, 99_999_999, 7]
    assert run.newest_loadable_checkpoint() == (run.checkpoint_path(100_000_000), [])
    with pytest.raises(ZooError, match=r"expected iteration_<number>\.ckpt"):
        checkpoint_iteration(Path("best.ckpt"))


def test_a_record_says_what_made_a_run_and_keeps_how_it_began(tmp_path: Path) -> None:
    run = new_run(tmp_path, "toy", "first")
    for seed in (1, 2, 3):
        write_record(run, describe_run(["lightning", "fit"], {"seed": seed}, {"fingerprint": "f"}))
    record = json.loads(run.record.read_text())
    assert record["seeds"] == {"seed": 1}
    assert [entry["seeds"]["seed"] for entry in record["resumed"]] == [2, 3]
    assert record["versions"]["torch"]
    assert record["data"] == {"fingerprint": "f"}
    assert record["commit"] is None or re.fullmatch(r"[0-9a-f]{40}\+?", record["commit"])
