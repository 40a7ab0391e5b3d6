"""run.json: what made a run."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from zoo.core.files import write_atomically
from zoo.core.runs import Run

PACKAGES = ("translation-zoo", "torch", "lightning", "torchvision", "jsonargparse", "numpy", "pillow")


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


def note_phases(run: Run, seconds: Mapping[str, float]) -> None:
    """Add to run.json what each phase of the command that just ended took, in seconds; a resume's stand in its own entry."""
    record = json.loads(run.record.read_text(encoding="utf-8"))
    (record.get("resumed") or [record])[-1]["seconds"] = {name: round(taken, 1) for name, taken in seconds.items()}
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
