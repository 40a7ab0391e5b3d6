"""`lightning directions RUN`: find directions in the space of codes along which attributes change, and keep them in the checkpoint."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.pictures import BadPictureError
from datamodules.scenes import Scenes
from zoo.cli.lookup import read_yaml
from zoo.cli.parser import CommandParser
from zoo.cli.sampler import build_data, run_of
from zoo.cli.translate import pick_device, read
from zoo.core.checkpoints import SafeCheckpointIO, read_checkpoint
from zoo.core.loading import find_checkpoint, load_translator
from zoo.core.runs import writing
from zoo.errors import ZooError
from zoo.metrics.latent_directions import explained, factor_directions, label_directions
from zoo.metrics.scene_codes import encoded, format_scenes, known_factors, measure_scenes, scenes_of
from zoo.weights.alae import read_directions

SCENES = 4096  # whose codes directions are found from
WORDS = {"0": 0, "1": 1, "-1": 0, "no": 0, "yes": 1, "false": 0, "true": 1}


def run(arguments: Sequence[str]) -> int:
    """Run `lightning directions`.

    Returns:
        0.

    Raises:
        ZooError: something a person can mend.
    """
    options = parse(arguments)
    path = find_checkpoint(options.checkpoint)
    model: Any = load_translator(path)
    if not hasattr(model, "directions"):
        raise ZooError(f"{type(model).__name__} has no codes to find directions of; StyleALAE has: zoo/alae.yaml")
    model.to(pick_device(options.device))
    output = options.output or path
    owner = run_of(output)
    with ExitStack() as held:
        if owner is not None:
            held.enter_context(writing(owner))
        data = None
        if options.published:
            found = published(options.published, model)
        elif options.labels:
            found = from_labels(model, options.labels, options.images)
        else:
            data = scenes_behind(path)
            found = from_scenes(model, data, options.count)
        model.directions = {**model.directions, **found}
        checkpoint = read_checkpoint(path)
        checkpoint["zoo"]["directions"] = {name: row.cpu().float() for name, row in model.directions.items()}
        SafeCheckpointIO().save_checkpoint(checkpoint, output)
    print(f"Directions of {', '.join(found)} are kept in {output}")
    if data is not None and options.measure:
        print(format_scenes(measure_scenes(model, data.maker, options.measure)), flush=True)
    print(f"Use them: lightning translate {output} PICTURES --to {next(iter(found))}+0.2 --output edited")
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line.

    Raises:
        ZooError: an option is unknown, a word is missing, or two sources of directions are given.
    """
    parser = CommandParser(
        prog="lightning directions",
        synopsis="RUN [--labels FILE --images FOLDER | --published NAME=FILE...] [--output FILE]",
        description="Find directions in the space of codes along which attributes of pictures change. Without options the pictures are the "
        "run's rendered scenes, whose colour, size and place are known.",
        epilog="Example: lightning directions runs/alae/<name> --labels smiles.csv --images photos",
    )
    parser.add_argument("checkpoint", type=Path, help="a checkpoint file, or a run's folder (its newest checkpoint)")
    parser.add_argument("--labels", type=Path, help="CSV file: pictures' names, then a column of 0 and 1 per attribute")
    parser.add_argument("--images", type=Path, help="folder of the pictures that --labels names")
    parser.add_argument(
        "--published", nargs="+", metavar="NAME=FILE", help="directions from NumPy files, such as smile=direction_1.npy"
    )
    parser.add_argument("--count", type=int, default=SCENES, help=f"rendered scenes to learn from (default: {SCENES})")
    parser.add_argument(
        "--measure", type=int, default=256, help="rendered scenes to try edits on; 0 for none (default: 256)"
    )
    parser.add_argument("--output", type=Path, help="where to write the checkpoint (default: in place of the old one)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps; auto takes the best there is")
    options = parser.parse_args(list(arguments))
    if options.labels and options.published:
        raise ZooError("--labels finds directions and --published reads them: leave one of them out.")
    if (options.labels is None) != (options.images is None):
        raise ZooError("--labels says what the pictures of --images show: give both.")
    if options.count < 16 or options.measure < 0:
        raise ZooError(
            f"--count is {options.count} and --measure {options.measure}; expected 16 or more, and 0 or more."
        )
    if options.output is not None and options.output.is_dir():
        raise ZooError(f"--output {options.output} is a folder; expected a file, such as --output directed.ckpt.")
    return options


def published(given: Sequence[str], model: Any) -> dict[str, Tensor]:
    """Directions of NumPy files, by the names that were given with them.

    Raises:
        ZooError: a word has no name, or a direction is of another space.
    """
    names, paths = [], []
    for word in given:
        name, sign, path = word.partition("=")
        if not sign or not name or not path:
            raise ZooError(f"--published {word!r}: expected a name and a file, such as smile=direction_1.npy.")
        names.append(name)
        paths.append(Path(path).expanduser())
    found = read_directions(paths, names)
    for name, row in found.items():
        if len(row) != model.latent_channels:
            raise ZooError(
                f"--published {name} has {len(row)} numbers, and this model's codes {model.latent_channels}."
            )
    return found


def from_labels(model: Any, labels: Path, images: Path) -> dict[str, Tensor]:
    """Directions by a linear support vector machine for each labelled attribute.

    Raises:
        ZooError: file and folder do not fit, or a picture can't be read.
    """
    table = read_labels(labels)
    codes = []
    for name in table["name"]:
        try:
            codes.append(model.encode(read(images / name, None).to(model.device)).cpu())
        except BadPictureError as error:
            raise ZooError(f"{labels}: {images / name}: {error}") from error
    attributes = {key: torch.tensor(values) for key, values in table.items() if key != "name"}
    return label_directions(torch.cat(codes), attributes)


def read_labels(path: Path) -> dict[str, list[Any]]:
    """A CSV file of labels: columns by their heading, the first one as `name`; others are 0 or 1 (also yes, no, -1).

    Raises:
        ZooError: it is missing or of another shape.
    """
    if not path.is_file():
        raise ZooError(f"--labels {path}: there is no such file.")
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if row]
    if len(rows) < 2 or len(rows[0]) < 2 or any(len(row) != len(rows[0]) for row in rows):
        raise ZooError(f"{path}: expected a line of headings, name and attributes, and a line for each picture.")
    heading, *lines = rows
    table: dict[str, list[Any]] = {"name": [line[0].strip() for line in lines]}
    for column, attribute in enumerate(heading[1:], 1):
        words = [line[column].strip().lower() for line in lines]
        if unknown := [word for word in words if word not in WORDS]:
            raise ZooError(f"{path}: {attribute.strip()} has the label {unknown[0]!r}; expected 0 or 1.")
        table[attribute.strip()] = [WORDS[word] for word in words]
    return table


def scenes_behind(checkpoint: Path) -> Scenes:
    """The rendered scenes that a checkpoint's run learned from.

    Raises:
        ZooError: it lies in no run's folder, or learned from something else.
    """
    owner = run_of(checkpoint)
    config = read_yaml(owner.config) if owner is not None and owner.config.is_file() else None
    node = config.get("data") if isinstance(config, Mapping) else None
    other = "Say what is known: --labels FILE --images FOLDER, or --published NAME=FILE"
    if not isinstance(config, Mapping) or not isinstance(node, Mapping):
        raise ZooError(f"{checkpoint} lies in no run's folder that says what it was trained on. {other}")
    if not str(node.get("class_path")).endswith("Scenes"):
        raise ZooError(f"This run learned from {node.get('class_path')}, of whose pictures nothing is known. {other}")
    settings = {"seed": config.get("seed_everything") or 0, **(node.get("init_args") or {})}
    data = build_data({**node, "init_args": settings})
    assert isinstance(data, Scenes)
    return data


def from_scenes(model: Any, data: Scenes, count: int) -> dict[str, Tensor]:
    """Directions of colour, size and place, by what training scenes show; says how well codes know them."""
    images, masks = scenes_of(data.maker, count)
    codes, factors = encoded(model, images), known_factors(images, masks)
    known = count * 3 // 4
    if known > codes.shape[1] + 1:
        shares = ", ".join(f"{name} {share:.2f}" for name, share in explained(codes, factors, known).items())
        print(f"codes of {count} scenes; read off linearly (R^2 on {count - known} others): {shares}", flush=True)
    return factor_directions(codes, factors)
