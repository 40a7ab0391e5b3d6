"""What an offline run of Weights & Biases holds, read from its own file: no account, no network, no server.

`wandb` writes `offline-run-<time>-<id>/run-<id>.wandb` and can upload it later; it brings no reader for Python. The file is a log in
LevelDB's format (blocks of 32 KiB; a record is cut where a block ends) whose records are wandb's own protocol buffers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.errors import ZooError

HEADER = b":W&B"
HEADER_BYTES = 7  # the letters, a magic number, a version
BLOCK = 32768
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
AXIS = "iteration"


@dataclass
class OfflineRun:
    """What a dashboard would show.

    Attributes:
        folder: of the newest part.
        identity: the run's id, the same in every part.
        name: its display name.
        project: the project it belongs to.
        parts: how many times it was started, resumes among them.
        config: nested settings.
        rows: values by name in the order in which they were logged, `iteration` among them.
        summary: the latest values.
        axes: the axis by pattern of names.
        artifacts: name, type, aliases, metadata and file names of each.
    """

    folder: Path
    identity: str = ""
    name: str = ""
    project: str = ""
    parts: int = 0
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, str] = field(default_factory=dict)
    artifacts: list[dict[str, Any]] = field(default_factory=list)

    def series(self, name: str) -> tuple[list[int], list[float]]:
        """Iterations and values of one name; where an iteration was lived twice, its last value."""
        found = {int(row[AXIS]): float(row[name]) for row in self.rows if isinstance(row.get(name), int | float)}
        return sorted(found), [found[iteration] for iteration in sorted(found)]

    def pictures(self, name: str) -> dict[int, Path]:
        """Files of an image panel by iteration."""
        found = {}
        for row in self.rows:
            picture = row.get(name)
            if isinstance(picture, dict) and picture.get("_type") == "image-file":
                found[int(row[AXIS])] = Path(row["_folder"]) / "files" / picture["path"]
        return found

    def names(self, prefix: str = "") -> list[str]:
        """Names that were logged, those of image panels among them."""
        return sorted({name for row in self.rows for name in row if name.startswith(prefix) and name[0] != "_"})


def read_offline_run(folders: Sequence[Path]) -> OfflineRun:
    """Read an offline run; one that was resumed has a folder per start.

    Args:
        folders: `offline-run-*`, in the order of the starts.

    Raises:
        ZooError: a folder holds no run, a file is damaged, or the folders belong to several runs.
    """
    if not folders:
        raise ZooError("No folder of an offline run was given; they are called wandb/offline-run-*.")
    run = OfflineRun(Path(folders[-1]))
    for folder in map(Path, folders):
        files = sorted(folder.glob("run-*.wandb"))
        if len(files) != 1:
            raise ZooError(f"{folder} holds no run of Weights & Biases (run-<id>.wandb); expected wandb/offline-run-*.")
        run.parts += 1
        for record in _records(files[0]):
            _take(run, record, folder)
    return run


def _take(run: OfflineRun, record: Any, folder: Path) -> None:
    kind = record.WhichOneof("record_type")
    if kind == "run":
        if run.identity not in {"", record.run.run_id}:
            raise ZooError(f"{folder} belongs to the run {record.run.run_id}, the folder before it to {run.identity}.")
        run.identity, run.project = record.run.run_id, record.run.project
        run.name = record.run.display_name or run.name
        _update(run.config, record.run.config.update)
    elif kind == "config":
        _update(run.config, record.config.update)
    elif kind == "history":
        row: dict[str, Any] = {"_folder": str(folder)}
        _update(row, record.history.item)
        run.rows.append(row)
    elif kind == "summary":
        _update(run.summary, record.summary.update)
    elif kind == "metric":
        run.axes[record.metric.name or record.metric.glob_name] = record.metric.step_metric
    elif kind == "request" and record.request.WhichOneof("request_type") == "log_artifact":
        _take_artifact(run, record.request.log_artifact.artifact)
    elif kind == "artifact":
        _take_artifact(run, record.artifact)


def _take_artifact(run: OfflineRun, artifact: Any) -> None:
    run.artifacts.append(
        {
            "name": artifact.name,
            "type": artifact.type,
            "aliases": list(artifact.aliases),
            "metadata": json.loads(artifact.metadata or "{}"),
            "files": [entry.path for entry in artifact.manifest.contents],
        }
    )


def _update(target: dict[str, Any], items: Any) -> None:
    """Set values by their names; where a name is a path, such as a picture and its file, the mappings on the way are made."""
    for item in items:
        *path, last = [item.key] if item.key else list(item.nested_key)
        place = target
        for name in path:
            place = place.setdefault(name, {})
        place[last] = json.loads(item.value_json)


def _records(path: Path) -> Iterator[Any]:
    from wandb.proto import wandb_internal_pb2

    content = path.read_bytes()
    if not content.startswith(HEADER):
        raise ZooError(f"{path} is not a file of Weights & Biases: it does not begin with {HEADER.decode()}.")
    place, parts = HEADER_BYTES, b""
    while place + 7 <= len(content):
        left = BLOCK - place % BLOCK
        if left < 7:  # too short for a header: zeros
            place += left
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        data = content[place + 7 : place + 7 + length]
        if kind not in (FULL, FIRST, MIDDLE, LAST) or len(data) < length:
            return  # the run was killed while it wrote
        place += 7 + length
        parts = data if kind in (FULL, FIRST) else parts + data
        if kind in (FULL, LAST):
            record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
            record.ParseFromString(parts)
            yield record
