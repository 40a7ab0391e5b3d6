"""Accuracy of maps that were made from satellite pictures, of which the true maps are known.

    lightning evaluate RUN --protocol map --source data/maps/testA --target data/maps/testB

UNIT measures so what its weight sharing and its cycle are worth: a pixel is right where its colour is within 16 (of 0 to 255) of the
true map's; the figure is the share of right pixels, averaged over pictures. Only the way to the maps is measured: many satellite pictures
fit one map. What "within 16" says of a colour of three numbers is open, so there are three readings:

    all_channels   red, green and blue are each within 16: the strictest, and the one we take for the paper's
    per_channel    every number counts as a pixel of its own
    euclidean      the Euclidean distance of the colours is at most 16

Beside a model stand what it has to beat: the source as it is, and the true map of another place, which is what a translator would get
that makes faultless maps and does not look. The paper trained on the train split's satellite pictures and on the maps of these very
test pictures, without pairs (zoo/unit.yaml), so the maps, though not which is whose, were seen.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from datamodules.folders import find_pictures
from datamodules.pictures import decode
from datamodules.preprocess import Interpolation, Transform
from zoo.core.images import from_uint8, to_uint8
from zoo.core.translator import Translator
from zoo.errors import ZooError

Reading = Literal["all_channels", "per_channel", "euclidean"]
READINGS: tuple[Reading, ...] = get_args(Reading)
TOLERANCE = 16
"""Of 0 to 255, the tolerance itself included."""

MODEL, SOURCE, ELSEWHERE = "translated", "source as it is", "map of another place"


def pixel_accuracy(
    made: Tensor, true: Tensor, *, tolerance: float = TOLERANCE, reading: Reading = "all_channels"
) -> Tensor:
    """The share of pixels of each picture whose colour is right, float64 `b`.

    Args:
        made: uint8 b c h w.
        true: the same shape.
        tolerance: largest difference that is right, of 0 to 255.
        reading: of what a difference of colours is, see this module.

    Raises:
        ZooError: shapes differ, the pictures are not uint8, or there is no such reading.
    """
    if reading not in READINGS:
        raise ZooError(f"There is no reading {reading!r}; there are {', '.join(READINGS)}.")
    if made.shape != true.shape or made.ndim != 4 or {made.dtype, true.dtype} != {torch.uint8}:
        found = " and ".join(f"{image.dtype} {tuple(image.shape)}" for image in (made, true))
        raise ZooError(f"Maps are compared as uint8 pictures of one shape (b c h w), and these are {found}.")
    apart = (made.double() - true.double()).abs()
    if reading == "euclidean":
        right = apart.square().sum(1) <= tolerance**2
    elif reading == "all_channels":
        right = apart.amax(1) <= tolerance
    else:
        right = apart <= tolerance
    return right.flatten(1).double().mean(1)


def find_pairs(sources: str, targets: str) -> list[tuple[Path, Path]]:
    """The pictures of two folders that show the same place: those of one name, but for an ending `_A`, `_B` and the like.

    Args:
        sources: folder of the satellite pictures, as `1_A.jpg` or `1.jpg`.
        targets: folder of their true maps, as `1_B.jpg` or `1.png`.

    Raises:
        DataError: a folder is missing or empty.
        ZooError: a picture has no counterpart, or two have one name.
    """
    found: list[dict[str, Path]] = []
    for folder, argument in ((sources, "source"), (targets, "target")):
        named: dict[str, Path] = {}
        for path in find_pictures([folder], argument):
            place = re.sub(r"_[A-Za-z]$", "", path.stem)
            if place in named:
                raise ZooError(
                    f"{named[place]} and {path} have one name, so pairs cannot be told: leave one of them out."
                )
            named[place] = path
        found.append(named)
    source, target = found
    if alone := sorted(source.keys() ^ target.keys()):
        path = source.get(alone[0]) or target[alone[0]]
        raise ZooError(
            f"{path} has no counterpart in the other folder ({len(alone)} such pictures): each satellite picture needs its true map of "
            "the same name. --source FOLDER --target FOLDER"
        )
    return [(source[place], target[place]) for place in source]


def measure(
    pairs: Sequence[tuple[Path, Path]],
    model: Translator | None,
    *,
    size: int = 256,
    interpolation: Interpolation = "bicubic",
    tolerance: float = TOLERANCE,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure a translator on pairs.

    Args:
        pairs: files of a source and its true translation.
        model: the translator; without one there are the two rows that it has to beat alone.
        size: side that pictures are brought to, both of a pair alike.
        interpolation: filter of the resize.
        tolerance: see `pixel_accuracy`.
        say: called with a line now and then.

    Returns:
        `pictures`, `size`, `tolerance`, and `accuracy`: the mean over pictures by row and reading.

    Raises:
        ZooError: fewer than two pairs, or translations have another shape than maps.
    """
    if len(pairs) < 2:
        raise ZooError(f"{len(pairs)} pairs are too few: the map of another place needs another place.")
    transform = Transform("resize_and_crop", load_size=size, size=size, interpolation=interpolation)

    def read(path: Path) -> Tensor:
        pixels = transform(decode(path)).copy()
        return torch.from_numpy(pixels).permute(2, 0, 1)[None]

    sums: dict[str, dict[str, float]] = {}
    elsewhere = read(pairs[-1][1])
    for number, (source_file, target_file) in enumerate(pairs, start=1):
        source, true = read(source_file), read(target_file)
        rows = {SOURCE: source, ELSEWHERE: elsewhere}
        if model is not None:
            translation = to_uint8(model.translate(from_uint8(source.to(model.device))).float()).cpu()
            rows = {MODEL: translation, **rows}
        for row, made in rows.items():
            for reading in READINGS:
                share = float(pixel_accuracy(made, true, tolerance=tolerance, reading=reading))
                sums.setdefault(row, dict.fromkeys(READINGS, 0.0))[reading] += share
        elsewhere = true
        if number % 100 == 0:
            say(f"{number} of {len(pairs)}")
    accuracy = {row: {name: total / len(pairs) for name, total in readings.items()} for row, readings in sums.items()}
    return {"pictures": len(pairs), "size": size, "tolerance": tolerance, "accuracy": accuracy}


def format_report(report: dict[str, Any]) -> str:
    """Lay a report of `measure` out as a plain table."""
    size = f"{report['size']}x{report['size']}"
    lines = [
        f"share of pixels within {report['tolerance']:g} of the true map, mean of {report['pictures']} pictures at {size}",
        f"{'':24}" + "".join(f"{reading:>14}" for reading in READINGS),
    ]
    for row, readings in report["accuracy"].items():
        lines.append(f"{row:24}" + "".join(f"{readings[reading]:>14.4f}" for reading in READINGS))
    return "\n".join(lines)
