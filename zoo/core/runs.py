"""One run is one folder, and what lies in it."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from zoo.core.checkpoints import read_checkpoint
from zoo.core.files import write_atomically
from zoo.errors import ZooError

CHECKPOINT_NAME = re.compile(r"iteration_(\d+)\.ckpt$")
PACKAGES = ("translation-zoo", "torch", "lightning", "torchvision", "jsonargparse", "numpy", "pillow")


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

    def newest_loadable_checkpoint(self) -> tuple[Path, list[str]]:
        """The newest checkpoint that loads, and a sentence about each newer one that does not.

        Raises:
            ZooError: there is none.
        """
        complaints: list[str] = []
        for path in self.checkpoints_newest_first():
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
    """A folder for a new run; nothing is written yet.

    Args:
        root: the folder of all runs.
        recipe: the recipe's name, such as `cyclegan`.
        name: the run's own name; the time of its start by default.

    Raises:
        ZooError: a run of this name has begun already.
    """
    stem = name or datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    folder, number = root / recipe / stem, 2
    while name is None and folder.exists():
        folder, number = root / recipe / f"{stem}-{number}", number + 1
    if folder.exists() and any(folder.iterdir()):
        raise ZooError(
            f"{folder} holds a run already. Go on with it by --resume {folder}, or choose another name by --run.name NAME."
        )
    return Run(folder)


def find_run(root: Path, recipe: str, which: str | None = None) -> Run:
    """The run to resume.

    Args:
        root: the folder of all runs.
        recipe: the recipe's name.
        which: a run's folder or name, one of its checkpoints, or None for the recipe's latest run.

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
        if folder.is_file() and folder.parent.name == "checkpoints":
            return Run(folder.parent.parent)
        if (folder / "run.json").is_file():
            return Run(folder)
    names = ", ".join(str(folder) for folder in begun[-5:] or sorted(p.parent for p in root.glob("*/*/run.json"))[-5:])
    raise ZooError(f"There is no run {which!r}, neither as a folder nor in {family}. Runs: {names or 'none yet'}.")


def describe_run(command: list[str], seeds: Mapping[str, int], data: Mapping[str, Any]) -> dict[str, Any]:
    """What run.json holds: command, commit, versions, machine, data fingerprint, seeds, time of the start."""
    return {
        "command": command,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "machine": {"system": platform.platform(), "host": platform.node(), "executable": sys.executable},
        "seeds": dict(seeds),
        "data": dict(data),
    }


def write_record(run: Run, record: Mapping[str, Any]) -> None:
    """Write run.json; a resumed run adds an entry under `resumed` and keeps the first one."""
    if run.record.is_file():
        first = json.loads(run.record.read_text(encoding="utf-8"))
        record = {**first, "resumed": [*first.get("resumed", []), dict(record)]}
    write_atomically(run.record, (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the zoo's own checkout, with a plus sign where files differ from it; None when it is no checkout."""
    here = Path(__file__).resolve().parent
    try:
        answer = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
