"""One run is one folder, and what lies in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path

from zoo.core.checkpoints import read_checkpoint
from zoo.core.files import lock_file
from zoo.errors import ZooError

CHECKPOINT_NAME = re.compile(r"iteration_(\d+)\.ckpt$")


@dataclass(frozen=True)
class Run:
    """A run's folder: `runs/<recipe>/<name>` with run.json, config.yaml, metrics.csv, samples/ and checkpoints/."""

    folder: Path

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie, one `iteration_<number>.ckpt` each."""
        return self.folder / "checkpoints"

    @property
    def samples(self) -> Path:
        """Where sample grids lie."""
        return self.folder / "samples"

    @property
    def config(self) -> Path:
        """The complete configuration, to be given back as `--config`."""
        return self.folder / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One row per logging interval."""
        return self.folder / "metrics.csv"

    @property
    def record(self) -> Path:
        """What made this run: command, commit, versions, data, seeds."""
        return self.folder / "run.json"

    def checkpoint_path(self, iteration: int) -> Path:
        """The checkpoint after a number of completed iterations."""
        return self.checkpoints / f"iteration_{iteration:08d}.ckpt"

    def checkpoints_newest_first(self) -> list[Path]:
        """All checkpoints by name, whether they load or not."""
        found = [path for path in self.checkpoints.glob("iteration_*.ckpt") if CHECKPOINT_NAME.search(path.name)]
        return sorted(found, key=checkpoint_iteration, reverse=True)

    def has_ended(self) -> bool:
        """Whether the last command that trained it came to its end: then it noted how long it took."""
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
            return "seconds" in (record.get("resumed") or [record])[-1]
        except (OSError, ValueError):
            return False

    def newest_loadable_checkpoint(self, before: int | None = None) -> tuple[Path, list[str]]:
        """The newest checkpoint that loads, and a sentence about each newer one that does not.

        Args:
            before: only checkpoints of fewer iterations; of all by default.

        Raises:
            ZooError: there is none.
        """
        complaints: list[str] = []
        for path in self.checkpoints_newest_first():
            if before is not None and checkpoint_iteration(path) >= before:
                continue
            try:
                read_checkpoint(path, "meta")
            except ZooError as error:
                complaints.append(str(error))
                continue
            return path, complaints
        raise ZooError(
            f"There is nothing to resume in {self.folder}: "
            + (
                " ".join(complaints)
                or "it holds no checkpoint (a run writes its first one after checkpoints.every iterations)."
            )
            + " Leave --resume out to start anew."
        )


def checkpoint_iteration(path: Path) -> int:
    """The number of completed iterations that a checkpoint's name tells."""
    match = CHECKPOINT_NAME.search(path.name)
    if match is None:
        raise ZooError(f"{path.name} is not a checkpoint's name; expected iteration_<number>.ckpt.")
    return int(match.group(1))


def new_run(root: Path, recipe: str, name: str | None = None) -> Run:
    """Make the folder of a new run; of runs that start in the same second each gets one of its own.

    Args:
        root: the folder of all runs.
        recipe: the recipe's name, such as `cyclegan`.
        name: the run's own name; the time of its start by default.

    Raises:
        ZooError: a run of this name has begun already, a name is no folder's name, or the folder cannot be made.
    """
    for key, value in (("recipe", recipe), ("name", name)):
        if value is not None and (Path(value).name != value or value in {"", ".."}):
            raise ZooError(f"run.{key} is {value!r}; expected the name of a folder, such as --run.{key} first.")
    stem = name or datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    for number in count(1):
        folder = root / recipe / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError as error:
            if name is None and folder.is_dir():
                continue
            if not folder.is_dir() or any(folder.iterdir()):
                raise ZooError(
                    f"{folder} is there already. Go on with that run by --resume {folder}, or choose another name by --run.name NAME."
                ) from error
        except OSError as error:
            raise ZooError(f"{folder} cannot be made: {error.strerror}. Choose another place by --run.root.") from error
        return Run(folder)
    raise AssertionError("unreachable")


@contextmanager
def writing(run: Run) -> Iterator[None]:
    """Keep every other writer out of a run's folder; where nothing was begun, the folder is removed again."""
    lock = run.folder / ".lock"
    with lock_file(lock, protects=f"the run {run.folder}"):
        try:
            yield
        finally:
            if not run.record.is_file():
                with suppress(OSError):  # whatever else lies there stays
                    lock.unlink()
                    run.folder.rmdir()
                    run.folder.parent.rmdir()


def find_run(root: Path, recipe: str, which: str | None = None) -> Run:
    """The run to resume.

    Args:
        root: the folder of all runs.
        recipe: the recipe's name.
        which: a run's folder or name, or None for the recipe's latest run.

    Raises:
        ZooError: there is no such run.
    """
    family = root / recipe
    begun = sorted(
        (p.parent for p in family.glob("*/run.json")), key=lambda folder: (folder / "run.json").stat().st_mtime
    )
    if which is None:
        if not begun:
            raise ZooError(f"There is no run to resume in {family}. Leave --resume out to start one.")
        return Run(begun[-1])
    for folder in (Path(which), family / which, *sorted(root.glob(f"*/{which}"))):
        if folder.is_file():
            raise ZooError(
                f"{folder} is a file. A run goes on from its newest checkpoint: --resume RUN_FOLDER; a new run starts from any: "
                f"--ckpt_path {folder}"
            )
        if (folder / "run.json").is_file():
            return Run(folder)
    names = ", ".join(str(folder) for folder in begun[-5:] or sorted(p.parent for p in root.glob("*/*/run.json"))[-5:])
    raise ZooError(f"There is no run {which!r}, neither as a folder nor in {family}. Runs: {names or 'none yet'}.")
