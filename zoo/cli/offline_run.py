"""What an offline run of Weights & Biases holds, read from its own file: no account, no network, no server.

`wandb` writes `offline-run-<time>-<id>/run-<id>.wandb` and can upload it later; it brings no reader for Python. The file is a log in
LevelDB's format (blocks of 32 KiB; a record is cut where a block ends) whose records are wandb's own protocol buffers.

    python -m zoo.cli.offline_run wandb/offline-run-* --output dashboard.png    # of one run: draw its dashboard
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.cli.main import speak
from zoo.cli.parser import CommandParser
from zoo.core.files import write_atomically
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
        finished: how many of these ended; wandb's own process may still be writing the last one.
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
    finished: int = 0
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
    elif kind == "exit":
        run.finished += 1
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


# Drawing ------------------------------------------------------------------------------------------------------------

SECTIONS = {  # headline, and the beginnings of the names that belong to it: the layout of docs/dashboards.md
    "Does it translate?": (
        "val/error",
        "val/style_accuracy",
        "val/object_iou",
        "val/attention_iou",
        "val/background_change",
    ),
    "Who is winning?": ("loss/adversarial", "loss/discriminator", "loss/generator", "accuracy/"),
    "What is kept?": ("loss/cycle", "loss/identity", "loss/reconstruction", "loss/content", "val/cycle_psnr"),
    "Is it healthy?": ("gauge/", "gradient_norm/", "learning_rate/", "seconds_per_iteration", "bad_iterations"),
}
COLUMNS = 5


def charts_of(run: OfflineRun) -> dict[str, list[list[str]]]:
    """Which names share a chart, by section: those that begin alike."""
    found: dict[str, list[list[str]]] = {}
    for headline, prefixes in SECTIONS.items():
        charts: dict[str, list[str]] = {}
        for prefix in prefixes:
            for name in run.names(prefix):
                charts.setdefault(prefix, []).append(name)
        if charts:
            found[headline] = list(charts.values())
    return found


def draw(run: OfflineRun, output: Path) -> None:
    """Draw an offline run's dashboard with matplotlib: pictures on top, then a row or more of charts per section.

    Args:
        run: what was read.
        output: the PNG file.

    Raises:
        ZooError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ZooError("Drawing needs matplotlib. Type: pip install 'translation-zoo[notebooks]'") from error
    from PIL import Image

    sections = charts_of(run)
    panels = {name: run.pictures(name) for name in run.names("samples/")}
    panels = {name: pictures for name, pictures in panels.items() if pictures}
    rows = [
        (headline, charts[at : at + COLUMNS])
        for headline, charts in sections.items()
        for at in range(0, len(charts), COLUMNS)
    ]
    figure = Figure(figsize=(14, 4.2 * bool(panels) + 2.5 * len(rows)), layout="constrained")
    figure.suptitle(f"{run.project} / {run.name}  ({run.identity})", x=0.01, ha="left", fontsize=13, weight="bold")
    heights = [4.0] * bool(panels) + [2.5] * len(rows)
    bands: Any = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    if panels:
        files = {name: pictures[max(pictures)] for name, pictures in panels.items()}
        sheets = {name: Image.open(path).convert("RGB") for name, path in files.items()}
        axes = bands[0].subplots(
            1, len(sheets), squeeze=False, width_ratios=[sheet.width for sheet in sheets.values()]
        )[0]
        for axis, (name, sheet) in zip(axes, sheets.items(), strict=True):
            axis.imshow(sheet)
            axis.set_title(f"{name}, iteration {max(panels[name])}" if name == "samples/grid" else name, fontsize=8)
            axis.axis("off")
    previous = ""
    for band, (headline, charts) in zip(bands[bool(panels) :], rows, strict=True):
        if headline != previous:
            band.suptitle(headline, x=0.01, ha="left", fontsize=11)
        previous = headline
        for axis, names in zip(
            band.subplots(1, COLUMNS, squeeze=False)[0], [*charts, *[[]] * COLUMNS][:COLUMNS], strict=True
        ):
            if not names:
                axis.axis("off")
            for name in names:
                axis.plot(*run.series(name), label=name, linewidth=1.2)
            axis.tick_params(labelsize=7)
            if names:
                axis.set_xlabel(AXIS, fontsize=7)
                axis.legend(fontsize=6)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    write_atomically(output, buffer.getvalue())


def run(arguments: Sequence[str]) -> int:
    """Run `python -m zoo.cli.offline_run`.

    Returns:
        0.

    Raises:
        ZooError: something a person can mend.
    """
    parser = CommandParser(
        prog="python -m zoo.cli.offline_run",
        synopsis="FOLDERS... --output PICTURE.png",
        description="Draw the dashboard of an offline run of Weights & Biases, without an account or a network.",
    )
    parser.add_argument(
        "folders", nargs="+", type=Path, help="wandb/offline-run-*, all starts of one run in their order"
    )
    parser.add_argument("--output", type=Path, required=True, help="the picture, a PNG file")
    options = parser.parse_args(list(arguments))
    draw(read_offline_run(options.folders), options.output)
    print(f"Drawn: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(speak(lambda: run(sys.argv[1:])))
