"""`lightning translate`: styles by name, and time lapses from one style to the next, as films."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from datamodules.pictures import BadPictureError
from zoo.cli.any_size import cut_back, pad_to_size
from zoo.cli.suggest import did_you_mean
from zoo.core.films import save_film
from zoo.core.translator import Translator
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.cli.translate import Style

SUFFIX, ENDING = "_lapse", ".webp"
RATE = 25.0  # frames per second


def named_styles(model: Translator, names: Sequence[str]) -> list[tuple[str, Tensor]]:
    """The styles of these names, `1 s` each; `all` stands for all that a model has.

    Raises:
        ZooError: the model has no named styles, or none of this name.
    """
    known: Mapping[str, Sequence[float]] = getattr(model, "named_styles", {})
    if not known:
        raise ZooError(f"{type(model).__name__} has no named styles: leave --styles out.")
    if unknown := [name for name in names if name not in known and name != "all"]:
        hint = did_you_mean(unknown[0], known)
        raise ZooError(f"There is no style named {unknown[0]!r}.{hint} Styles: {', '.join(known)}.")
    return [(name, torch.tensor([known[name]])) for name in (known if "all" in names else dict.fromkeys(names))]


def makes_lapses(room: type[Translator]) -> bool:
    """Whether a room can go from one style to the next: it has `time_lapse` and `encode_style`."""
    return hasattr(room, "time_lapse") and hasattr(room, "encode_style")


def write_lapses(
    model: Translator, pictures: Sequence[Path], styles: Sequence[Style], options: argparse.Namespace
) -> int:
    """Write a time lapse of each picture.

    Args:
        model: whose room makes time lapses.
        pictures: to be translated.
        styles: two or more, in the order in which they are reached.
        options: of `lightning translate`: `lapse` frames from one style to the next, `film`, `output`, `overwrite`, `size`.

    Returns:
        0, or 1 if some pictures could not be read.

    Raises:
        ZooError: the room makes none, there are too few styles, or a file is there already; then nothing was done yet.
    """
    from zoo.cli.translate import free_name, read

    if not makes_lapses(type(model)):
        raise ZooError(f"{type(model).__name__} makes no time lapses: leave --lapse out.")
    if len(styles) < 2:
        raise ZooError(
            f"A time lapse goes from one style to the next, and {len(styles)} was given. Say two or more: --styles day night, "
            "--reference DAY.jpg NIGHT.jpg or --latents 4"
        )
    taken: set[str] = set()
    outputs = []
    for picture in pictures:
        name = free_name(picture, taken, SUFFIX)
        taken.add(name)
        outputs.append(options.output / f"{name}{options.film or ENDING}")
    if (there := [path for path in outputs if path.exists()]) and not options.overwrite:
        raise ZooError(f"{there[0]} is there already ({len(there)} such files). Give another --output, or --overwrite.")
    way = torch.cat([style_of(model, style) for style in styles])  # k s
    failed = 0
    for number, (picture, output) in enumerate(zip(pictures, outputs, strict=True), start=1):
        try:
            source = read(picture, options.size).to(model.device)
        except BadPictureError as error:
            failed += 1
            print(f"lightning: left out {picture}: {error}", file=sys.stderr)
            continue
        padded = pad_to_size(model, source)
        lapse = model.time_lapse(padded, way, steps=options.lapse)  # type: ignore[operator]
        save_film((cut_back(frame, padded, source)[0].cpu() for frame in lapse), output, rate=RATE)
        print(f"{number}/{len(pictures)}  {picture} -> {output}", flush=True)
    print(
        f"{len(pictures) - failed} of {len(pictures)} time lapses through {len(styles)} styles are in {options.output}"
    )
    return 1 if failed else 0


def style_of(model: Translator, style: Style) -> Tensor:
    """The numbers `1 s` of a style: given, or those of its exemplar."""
    if style.exemplar is not None:
        return model.encode_style(style.exemplar.to(model.device))  # type: ignore[operator]
    latent: Tensor = style.options["latent"]
    return latent
