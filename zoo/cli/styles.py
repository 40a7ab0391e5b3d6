"""`lightning styles CHECKPOINT IMAGES... --references ROOT --output DIR`: grids and a film of a model of many domains and styles."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from datamodules.pictures import BadPictureError
from zoo.cli.parser import CommandParser
from zoo.cli.translate import find_pictures, pick_device, read
from zoo.core.films import FILM_FORMATS, check_film, save_film
from zoo.core.images import resize, save_png, to_pil
from zoo.core.loading import load_translator
from zoo.core.translator import Translator
from zoo.errors import ZooError
from zoo.registry import ROOMS, room_class

SHEETS = ("reference", "latent", "cycle", "film", "latent_film")
WITHOUT_REFERENCES = ("latent", "latent_film")
TRUNCATIONS = (0.5, 0.7, 1.0)
"""Of the official code's sheets of random styles."""

LATENTS = 10
COUNT = 8
RATE = 15.0  # frames per second: the official 30, shown at half the speed


def run(arguments: Sequence[str]) -> int:
    """Run `lightning styles`.

    Returns:
        0.

    Raises:
        ZooError: something a person can mend.
    """
    options = parse(arguments)
    model: Any = load_translator(options.checkpoint).to(pick_device(options.device))
    require_sheets(model)
    sheets = options.only or (
        list(SHEETS[:-1]) if options.references else ["latent"]
    )  # a film of random styles is long
    if not options.references and (lacking := sorted(set(sheets) - set(WITHOUT_REFERENCES))):
        raise ZooError(f"{' and '.join(lacking)} need references: --references FOLDER, with a folder per domain in it.")
    outputs = planned(options, sheets)
    found = find_pictures(options.images)[: options.count]
    images = read_square(found, model)
    if options.references:
        references, domains = read_references(options, model)
        if "film" in sheets and not (domains[1:] == domains[:-1]).any():
            raise ZooError(
                "A film goes from one reference to the next of the same domain: give at least two of one domain."
            )
    if "latent_film" in sheets and options.latents < 2:
        raise ZooError("A film goes from one random style to the next: --latents 2, or more.")
    if "cycle" in sheets:
        own = domains_of(found, model, options.source_domain, "--from").to(model.device)
    made: dict[str, tuple[Tensor, int]] = {}
    if "reference" in sheets:
        made["reference"] = model.reference_grid(images, references, domains)
    generator = torch.Generator().manual_seed(options.seed)
    latents = torch.randn(options.latents, model.latent_channels, generator=generator).to(images)
    if "latent" in sheets:
        for truncation in options.truncation:
            made[f"latent_{truncation:g}"] = model.latent_grid(images, latents, options.to or model.domains, truncation)
    if "cycle" in sheets:
        turn = torch.arange(len(images)) % len(references)
        made["cycle"] = model.cycle_grid(images, own, references[turn], domains[turn])
    for name, (cells, columns) in made.items():
        save_png(tiled(cells, columns), outputs[name])
        print(f"{name}: {outputs[name]}")
    if "film" in sheets:
        frames = model.film(images, references, domains.tolist())
        save_film(frames, outputs["film"], rate=RATE)
        print(f"film: {outputs['film']} ({len(frames)} frames)")
    if "latent_film" in sheets:
        frames = model.latent_film(images, latents, options.to or model.domains, options.truncation[-1])
        save_film(frames, outputs["latent_film"], rate=RATE)
        print(f"latent_film: {outputs['latent_film']} ({len(frames)} frames)")
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line.

    Raises:
        ZooError: an option is unknown, a word is missing or a number makes no sense.
    """
    parser = CommandParser(
        prog="lightning styles",
        synopsis="CHECKPOINT IMAGES... --references ROOT --output DIR",
        description="Grids of translations by references and by chance, the way there and back, and a film from style to style.",
        epilog="Example: lightning styles runs/starganv2/<name> data/afhq/val/cat --references data/afhq/val --output shown",
    )
    parser.add_argument("checkpoint", type=Path, help="a checkpoint file, or a run's folder (its newest checkpoint)")
    parser.add_argument("images", nargs="+", help="picture files, folders (searched through) and patterns")
    parser.add_argument(
        "--references",
        nargs="+",
        help="pictures in folders that are named like the domains, or a folder of such folders",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the sheets")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=SHEETS,
        help="some of the sheets (default: all but latent_film; without references, latent)",
    )
    parser.add_argument("--to", nargs="+", help="domains of random styles (default: all)")
    parser.add_argument(
        "--from", dest="source_domain", help="domain of the images, where their folder's name does not say it"
    )
    parser.add_argument("--count", type=int, default=COUNT, help=f"images, and references of each domain ({COUNT})")
    parser.add_argument("--latents", type=int, default=LATENTS, help=f"random styles of each domain ({LATENTS})")
    parser.add_argument(
        "--truncation", type=float, nargs="+", default=TRUNCATIONS, help="a sheet of random styles each (0.5 0.7 1)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random styles (0)")
    parser.add_argument("--film", default=".webp", help=f"format of the film: {', '.join(FILM_FORMATS)} (.webp)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there already")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps; auto takes the best there is")
    options = parser.parse_args(list(arguments))
    for name in ("count", "latents"):
        if getattr(options, name) < 1:
            raise ZooError(f"--{name} is {getattr(options, name)}; expected at least 1.")
    check_film(options.film)
    return options


def require_sheets(model: Translator) -> None:
    """Refuse a model that has no sheets of styles.

    Raises:
        ZooError: it has none; names the rooms that do.
    """
    if not hasattr(type(model), "reference_grid"):
        able = [name for name in sorted(ROOMS) if hasattr(room_class(name), "reference_grid")]
        raise ZooError(
            f"{type(model).__name__} has no sheets of styles. Rooms that do: {', '.join(able)}. Try: lightning translate"
        )


def planned(options: argparse.Namespace, sheets: Sequence[str]) -> dict[str, Path]:
    """Where each sheet goes.

    Raises:
        ZooError: a file is there already and `--overwrite` is off; nothing was done yet.
    """
    if options.output.exists() and not options.output.is_dir():
        raise ZooError(f"--output {options.output} is a file; expected a folder (it is made when missing).")
    names = [name for name in sheets if name in {"reference", "cycle"}]
    names += [f"latent_{truncation:g}" for truncation in options.truncation if "latent" in sheets]
    outputs = {name: options.output / f"{name}.png" for name in names}
    outputs |= {name: options.output / f"{name}{options.film}" for name in sheets if name.endswith("film")}
    there = [path for path in outputs.values() if path.exists()]
    if there and not options.overwrite:
        raise ZooError(f"{there[0]} is there already ({len(there)} such files). Give another --output, or --overwrite.")
    return outputs


def read_square(paths: Sequence[Path], model: Any) -> Tensor:
    """Pictures at the model's size, b 3 h w in [-1, 1] on its device.

    Raises:
        ZooError: one cannot be read.
    """
    pictures = []
    for path in paths:
        try:
            image = read(path, None)
        except BadPictureError as error:
            raise ZooError(f"{path}: {error}. Leave it out.") from error
        pictures.append(resize(image, model.image_size, model.image_size, filter="bilinear"))
    return torch.cat(pictures).to(model.device)


def read_references(options: argparse.Namespace, model: Any) -> tuple[Tensor, Tensor]:
    """References and the numbers of their domains, domain by domain.

    Raises:
        ZooError: none of them lies in a folder that is named like a domain.
    """
    found = [path for path in find_pictures(options.references) if path.resolve().parent.name in model.domains]
    if not found:
        raise ZooError(
            f"--references: no picture lies in a folder that is named like a domain ({', '.join(model.domains)}). Give a folder that "
            "has such folders in it."
        )
    chosen: list[Path] = []
    for domain in model.domains:
        chosen += [path for path in found if path.resolve().parent.name == domain][: options.count]
    return read_square(chosen, model), domains_of(chosen, model, None, "--references").to(model.device)


def domains_of(paths: Sequence[Path], model: Any, given: str | None, option: str) -> Tensor:
    """Numbers of the pictures' domains, by what was said or by the names of their folders.

    Raises:
        ZooError: a name is no domain.
    """
    names = [given or path.resolve().parent.name for path in paths]
    for name in names:
        if name not in model.domains:
            raise ZooError(
                f"The domain of the pictures is not known: {name!r} is none of {', '.join(model.domains)}. Say: {option} DOMAIN"
            )
    return torch.tensor([model.domains.index(name) for name in names])


def tiled(cells: Tensor, columns: int) -> Image.Image:
    """Cells b 3 h w in a grid without gaps, row by row."""
    rows = [torch.cat(list(row), dim=2) for row in cells.cpu().split(columns)]
    return to_pil(torch.cat(rows, dim=1))
