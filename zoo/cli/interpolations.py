"""`lightning translate --interpolate STEPS`: what lies between pictures or between styles, as a sheet."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from datamodules.pictures import BadPictureError
from zoo.cli.any_size import pad_to_size
from zoo.core.images import save_png
from zoo.core.translator import Translator
from zoo.errors import ZooError
from zoo.registry import ROOMS, room_class

if TYPE_CHECKING:
    from zoo.cli.translate import Style

BETWEEN = "four pictures (ALAE), a picture and the next (UNIT), four styles of each picture (GP-UNIT)"
SHEET = "interpolated.png"
ENDING = "_interpolated"
CORNERS = 4
OTHER = {"source": "target", "target": "source"}


def kind_of(room: type[Translator]) -> str | None:
    """Between what a room interpolates, by what its `interpolate` takes.

    Returns:
        `styles`: one picture, in styles between four; `square`: between the codes of four pictures; `line`: between the codes of one
        picture and the next; None: it has no such method.
    """
    method = getattr(room, "interpolate", None)
    known = set(inspect.signature(method).parameters) if method else set()
    if {"image", "corners"} <= known:
        return "styles"
    return "square" if "corners" in known else "line" if {"first", "last"} <= known else None


def write_interpolations(
    model: Any, pictures: Sequence[Path], styles: Sequence[Style], options: argparse.Namespace
) -> int:
    """Write a sheet of what lies between.

    Args:
        model: a translator in inference.
        pictures: of a line or a square; or those that are translated in styles between four, a sheet for each.
        styles: what `choose_styles` gave: four, where styles are what is interpolated.
        options: of `lightning translate`: `interpolate` pictures along each side, `to`, `size`, `output`, `overwrite`.

    Returns:
        0.

    Raises:
        ZooError: the room has no such method; numbers or sizes of pictures don't fit; a picture can't be read; a file is there already.
            Then nothing was written.
    """
    kind, steps = kind_of(type(model)), options.interpolate
    if kind is None:
        rooms = ", ".join(name for name in sorted(ROOMS) if kind_of(room_class(name))) or "none"
        raise ZooError(f"{type(model).__name__} does not interpolate: leave --interpolate out. Rooms that do: {rooms}.")
    if kind == "styles" and len(styles) != CORNERS:
        raise ZooError(
            f"Styles are interpolated between four corners, and there are {len(styles)}. Say which: --reference A B C D, or --latents 4"
        )
    if kind == "square" and len(pictures) != CORNERS:
        raise ZooError(f"{type(model).__name__} interpolates between four pictures, and there are {len(pictures)}.")
    if kind == "line" and len(pictures) < 2:
        raise ZooError(f"{type(model).__name__} interpolates from one picture to the next: give two or more.")
    outputs = _free(pictures if kind == "styles" else [None], options)
    images = [_read(picture, model, options) for picture in pictures]
    if kind == "styles":
        corners = torch.cat([_style_code(model, style) for style in styles]).unflatten(0, (2, 2))
        extra = {name: value for name, value in styles[0].options.items() if name == "correspondence"}
        for image, output in zip(images, outputs, strict=True):
            _save(model.interpolate(image, corners, steps=steps - 1, **extra), output)
    elif kind == "square":
        _save(model.interpolate(torch.cat([model.at_level(image) for image in images]), steps), outputs[0])
    else:
        if len(shapes := {tuple(image.shape[-2:]) for image in images}) > 1:
            sizes = " and ".join(f"{width}x{height}" for height, width in sorted(shapes))
            raise ZooError(f"The pictures are of {sizes} (rounded up); a line has one size. Cut them alike first.")
        to = options.to or str(inspect.signature(type(model).translate).parameters["to"].default)
        if to not in OTHER:
            raise ZooError(f"--to {to}: expected source or target.")
        rows = model.interpolate(torch.cat(images[:-1]), torch.cat(images[1:]), steps=steps, domain=OTHER[to], to=to)
        _save(rows, outputs[0])
    return 0


def _free(pictures: Sequence[Path | None], options: argparse.Namespace) -> list[Path]:
    """Where the sheets go; nothing that is there is overwritten unasked."""
    from zoo.cli.translate import free_name

    taken: set[str] = set()
    outputs = []
    for picture in pictures:
        name = SHEET if picture is None else f"{free_name(picture, taken, ENDING)}.png"
        taken.add(name.removesuffix(".png"))
        outputs.append(options.output / name)
    if (there := [path for path in outputs if path.exists()]) and not options.overwrite:
        raise ZooError(f"{there[0]} is there already ({len(there)} such files). Give another --output, or --overwrite.")
    return outputs


def _read(picture: Path, model: Translator, options: argparse.Namespace) -> Tensor:
    """A picture 1 3 h w in [-1, 1] of sides that the networks can take, on the model's device."""
    from zoo.cli.translate import read

    try:
        return pad_to_size(model, read(picture, options.size)).to(model.device)
    except BadPictureError as error:
        raise ZooError(f"{picture} cannot be read: {error}. Leave it out, or give another picture.") from error


def _style_code(model: Any, style: Style) -> Tensor:
    """A style's code 1 s: of its exemplar, or of its latent by the sampler."""
    with torch.no_grad():
        if style.exemplar is not None:
            code: Tensor = model.averaged.encode_style(model.at_image_size(style.exemplar.to(model.device)))
            return code
        found: Tensor = model.sample_styles(style.options["latent"])
        return found


def _save(cells: Tensor, output: Path) -> None:
    """Write cells r c 3 h w as one picture, and say so."""
    from zoo.cli.styles import tiled

    save_png(tiled(cells.flatten(0, 1), cells.shape[1]), output)
    print(f"{cells.shape[0]} x {cells.shape[1]} pictures: {output}")
