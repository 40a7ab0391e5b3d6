"""Write a distilled content encoder as a file of its own: `python -m zoo.gpunit.export RUN --output encoder.safetensors`.

The file holds the encoder's tensors; its metadata says at which size and width it works, and how it was made. Give it to the
second stage as `--model.content_encoder encoder.safetensors`.
"""

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

from safetensors.torch import save

from zoo.core.checkpoints import read_checkpoint
from zoo.core.files import write_atomically
from zoo.core.loading import find_checkpoint, load_translator
from zoo.core.runs import find_run
from zoo.errors import ZooError
from zoo.gpunit.prior import PriorDistillation
from zoo.weights.gpunit import DEMO_FILE

KIND = "content encoder of GP-UNIT"


def export(place: Path, output: Path) -> dict[str, str]:
    """Write the content encoder of a checkpoint or run of the first stage.

    Args:
        place: a checkpoint, or a run's folder.
        output: the safetensors file.

    Returns:
        The file's metadata.

    Raises:
        ZooError: the checkpoint cannot be read, or is of another room.
    """
    path = find_checkpoint(place)
    room = load_translator(path)
    if not isinstance(room, PriorDistillation):
        raise ZooError(
            f"{path} holds a {type(room).__name__}; a content encoder comes out of zoo/gpunit_prior.yaml: give a run of it."
        )
    settings: dict[str, Any] = dict(room.hparams)
    checkpoint = read_checkpoint(path)
    metadata = {
        "kind": KIND,
        "channels": str(settings["channels"]),
        "image_size": str(room.image_size),
        "iterations": str(checkpoint["zoo"]["iteration"]),
        "seed": str(checkpoint["zoo"]["seed"]),
        "settings": json.dumps(settings, sort_keys=True, default=str),
        "figures": json.dumps(last_figures(path.parent.parent / "metrics.csv"), sort_keys=True),
    }
    state = {name: value.contiguous() for name, value in room.content_encoder.state_dict().items()}
    write_atomically(output, save(state, metadata))
    return metadata


def last_figures(metrics: Path) -> dict[str, float]:
    """What the last validation of a run measured; empty where there was none."""
    if not metrics.is_file():
        return {}
    with metrics.open(newline="", encoding="utf-8") as file:
        rows = [
            {name: float(value) for name, value in row.items() if name.startswith("val/") and value}
            for row in csv.DictReader(file)
        ]
    return next((row for row in reversed(rows) if row), {})


def main(arguments: list[str] | None = None) -> int:
    """Run the command; words of the process by default.

    Returns:
        0, or 2 if a person has something to mend.
    """
    parser = argparse.ArgumentParser(prog="python -m zoo.gpunit.export", description="Write a content encoder's file.")
    parser.add_argument(
        "run", nargs="?", type=Path, help="run or checkpoint of the first stage; the latest run by default"
    )
    parser.add_argument(
        "--output", type=Path, default=DEMO_FILE, help="the file to write; by default the one of the package"
    )
    options = parser.parse_args(arguments)
    try:
        place = options.run or find_run(Path("runs"), "gpunit_prior").folder
        metadata = export(place, options.output)
    except ZooError as error:
        print(f"export: {error}", file=sys.stderr)
        return 2
    size = f"{metadata['image_size']}x{metadata['image_size']}"
    print(f"{options.output}: content encoder for {size}, {metadata['iterations']} iterations, {metadata['figures']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
