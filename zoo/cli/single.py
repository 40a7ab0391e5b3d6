"""`lightning single TASK RUN ...`: what a model of a single picture does: make pictures, move, blend, paint, enlarge."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from torch import Tensor

from datamodules.errors import DataError
from zoo.cli.parser import CommandParser
from zoo.cli.suggest import did_you_mean
from zoo.cli.translate import find_pictures, free_name, pick_device, read
from zoo.core.films import ffmpeg_library, save_film
from zoo.core.images import save_png
from zoo.core.loading import load_translator
from zoo.core.translator import Translator
from zoo.errors import ZooError

TASKS = {
    "sample": "random pictures of the training picture's kind, of any size",
    "animate": "a GIF, WebP or MP4 of the training picture in motion",
    "harmonize": "make what was pasted into the picture fit in",
    "edit": "blend what was moved or changed in the picture",
    "paint": "turn a rough painting into a picture",
    "enlarge": "the training picture, larger and with more detail",
}
GIVEN_PICTURES = {"harmonize": "harmonization", "edit": "editing", "paint": "paint"}
METHODS = {"sample": "sample", "animate": "animate", "enlarge": "enlarge"}
USAGE = "lightning single TASK RUN [PICTURES...] --output DIR"
MOVIES = ("gif", "webp", "mp4")


def run(arguments: Sequence[str]) -> int:
    """Run `lightning single`.

    Returns:
        0.

    Raises:
        ZooError: something a person can mend.
    """
    task, *rest = arguments or [""]
    if task in ("-h", "--help"):
        print(page())
        return 0
    if task not in TASKS:
        raise ZooError(
            f"single has no task {task!r}.{did_you_mean(task, TASKS)} Tasks: {', '.join(TASKS)}. Usage: {USAGE}"
        )
    options = parse(task, rest)
    if options.output.exists() and not options.output.is_dir():
        raise ZooError(f"--output {options.output} is a file; expected a folder (it is made when missing).")
    model = load_translator(options.checkpoint).to(pick_device(options.device))
    work = {"sample": sample, "animate": animate, "enlarge": enlarge}.get(task, change)
    written = work(model, task, options)
    for path in written:
        print(path)
    return 0


def page() -> str:
    """The answer to `lightning single --help`."""
    lines = [f"Usage: {USAGE}", "", "Use a model of a single picture. Tasks:"]
    return "\n".join(
        [*lines, *(f"  {task:<11}{what}" for task, what in TASKS.items()), "", "Options: lightning single TASK --help"]
    )


def parse(task: str, arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line of a task.

    Raises:
        ZooError: an option is unknown, out of range, or missing.
    """
    pictures = " PICTURES..." if task in GIVEN_PICTURES else " [PICTURES...]" if task == "enlarge" else ""
    parser = CommandParser(
        prog=f"lightning single {task}",
        synopsis=f"RUN{pictures} --output DIR",
        description=f"With a model of a single picture: {TASKS[task]}.",
        epilog=None,
    )
    parser.add_argument("checkpoint", type=Path, help="a checkpoint file, or a run's folder (its newest checkpoint)")
    if pictures:
        many = "*" if task == "enlarge" else "+"
        parser.add_argument(
            "pictures",
            nargs=many,
            help="picture files, folders and patterns (enlarge: default is the training picture)",
        )
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there already")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps; auto takes the best there is")
    if task in METHODS:
        parser.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    if task == "sample":
        parser.add_argument("--count", type=int, default=10, help="how many pictures (default: 10)")
        parser.add_argument("--width", type=float, default=1.0, help="in widths of the training picture (default: 1)")
        parser.add_argument("--height", type=float, default=1.0, help="in heights of the training picture (default: 1)")
        parser.add_argument("--start", type=int, help="SinGAN: the first scale that is random (default: 0)")
    elif task == "animate":
        parser.add_argument("--frames", type=int, default=100, help="how many (default: 100)")
        parser.add_argument("--fps", type=int, default=10, help="frames per second (default: 10)")
        parser.add_argument(
            "--alpha", type=float, default=0.1, help="how strongly the walk is drawn back (default: 0.1)"
        )
        parser.add_argument(
            "--beta", type=float, nargs="+", default=[0.9], help="how smooth it is (default: 0.9); a movie for each"
        )
        parser.add_argument(
            "--start",
            type=int,
            nargs="+",
            default=[0],
            help="the first scale that moves (default: 0); a movie for each",
        )
        parser.add_argument(
            "--format", choices=MOVIES, default="gif", help="mp4 needs the package's extra video (default: gif)"
        )
    elif task == "enlarge":
        parser.add_argument("--factor", type=float, help="by what (default: what the model was trained for)")
    else:
        parser.add_argument("--start", type=int, help="SinGAN: the first scale that paints anew; low ones change much")
        if task != "paint":
            parser.add_argument(
                "--mask",
                type=Path,
                help="black but for what was changed: a file, or a folder with one per picture, of its name",
            )
            parser.add_argument(
                "--base",
                choices=("picture", "naive"),
                help="ConSinGAN: what lies outside of the mask (default: picture)",
            )
    options = parser.parse_args(list(arguments))
    for name, least in (("count", 1), ("frames", 2), ("fps", 1), ("width", 0.01), ("height", 0.01)):
        value = getattr(options, name, least)
        if value < least:
            raise ZooError(f"--{name} is {value}; expected {least} or more.")
    return options


def require(model: Translator, task: str) -> None:
    """Refuse a model that has no such task.

    Raises:
        ZooError: it has not.
    """
    method = METHODS.get(task)
    able = hasattr(model, method) if method else "mask" in inspect.signature(type(model).translate).parameters
    if not able or (task == "paint" and "task" not in inspect.signature(type(model).translate).parameters):
        raise ZooError(
            f"{type(model).__name__} does not {task}. Models of a single picture do: zoo/singan.yaml (all tasks), zoo/consingan.yaml "
            "(sample, animate; trained for them also harmonize and edit)."
        )


def told(function: Any, given: Mapping[str, Any], room: str) -> dict[str, Any]:
    """Those options that were given, as keywords of a room's function.

    Raises:
        ZooError: the room does not know one of them.
    """
    known = inspect.signature(function).parameters
    found = {name: value for name, value in given.items() if value is not None}
    for name in found:
        if name not in known:
            raise ZooError(f"{room} does not know --{name} here: leave it out.")
    return found


def free(paths: Sequence[Path], overwrite: bool) -> None:
    """Refuse to replace files.

    Raises:
        ZooError: some are there.
    """
    there = [path for path in paths if path.exists()]
    if there and not overwrite:
        raise ZooError(f"{there[0]} is there already ({len(there)} such files). Give another --output, or --overwrite.")


def sample(model: Any, task: str, options: argparse.Namespace) -> list[Path]:
    """Draw pictures and write them."""
    require(model, task)
    paths = [options.output / f"sample_{number:03d}.png" for number in range(options.count)]
    free(paths, options.overwrite)
    given = {"height": options.height, "width": options.width, "start": options.start, "seed": options.seed}
    pictures = model.sample(options.count, **told(model.sample, given, type(model).__name__))
    return [save_png(picture[0].cpu(), path) for picture, path in zip(pictures, paths, strict=True)]


def animate(model: Any, task: str, options: argparse.Namespace) -> list[Path]:
    """Write a movie for each smoothness and start."""
    require(model, task)
    jobs = {
        options.output / f"start{start}_beta{beta:g}.{options.format}": (start, beta)
        for start, beta in product(options.start, options.beta)
    }
    free(list(jobs), options.overwrite)
    if options.format == "mp4":
        ffmpeg_library()
    for path, (start, beta) in jobs.items():
        frames = model.animate(options.frames, alpha=options.alpha, beta=beta, start=start, seed=options.seed)
        save_film((frame[0].cpu() for frame in frames), path, rate=options.fps)
    return list(jobs)


def enlarge(model: Any, task: str, options: argparse.Namespace) -> list[Path]:
    """Enlarge the training picture, or others."""
    require(model, task)
    pictures = find_pictures(options.pictures) if options.pictures else []
    paths = named(pictures, options.output) or [options.output / "enlarged.png"]
    free(paths, options.overwrite)
    wanted: list[Path | None] = [*pictures] or [None]
    for path, picture in zip(paths, wanted, strict=True):
        image = None if picture is None else read(picture, None).to(model.device)
        save_png(model.enlarge(options.factor, image=image, seed=options.seed)[0].cpu(), path)
    return paths


def change(model: Any, task: str, options: argparse.Namespace) -> list[Path]:
    """Harmonise, blend or paint pictures anew; with masks, the composites are written beside the whole results."""
    require(model, task)
    pictures = find_pictures(options.pictures)
    masks = (
        [mask_of(picture, options.mask) for picture in pictures]
        if getattr(options, "mask", None)
        else [None] * len(pictures)
    )
    whole = named(pictures, options.output)
    masked = [path.with_name(f"{path.stem}_masked.png") for path, mask in zip(whole, masks, strict=True) if mask]
    free([*whole, *masked], options.overwrite)
    room, own = type(model).__name__, GIVEN_PICTURES[task]
    takes_task = "task" in inspect.signature(model.translate).parameters
    if not takes_task and model.task not in GIVEN_PICTURES.values():
        raise ZooError(f"This {room} is trained for {model.task}. To {task}: train one with --model.task {own}")
    if not takes_task and model.task != own:
        raise ZooError(f"This {room} is trained for {model.task}, not for {own}: train one with --model.task {own}")
    given = {"start": options.start, "base": getattr(options, "base", None), "task": own if takes_task else None}
    keywords = told(model.translate, given, room)
    written = []
    for picture, mask, path in zip(pictures, masks, whole, strict=True):
        image = read_or_say(picture).to(model.device)
        written.append(save_png(model.translate(image, **keywords)[0].cpu(), path))
        if mask is not None:
            blended = model.translate(image, mask=read_or_say(mask).to(model.device), **keywords)
            written.append(save_png(blended[0].cpu(), path.with_name(f"{path.stem}_masked.png")))
    return written


def named(pictures: Sequence[Path], folder: Path) -> list[Path]:
    """A file for each picture's result: of its name, and with its folder's in front where two would share one."""
    taken: dict[str, None] = {}
    for picture in pictures:
        taken[free_name(picture, taken)] = None
    return [folder / f"{name}.png" for name in taken]


def read_or_say(path: Path) -> Tensor:
    """A picture as 1 3 h w in [-1, 1].

    Raises:
        ZooError: it cannot be read; the message names the file.
    """
    try:
        return read(path, None)
    except DataError as error:
        raise ZooError(f"{path}: {error}") from error


def mask_of(picture: Path, given: Path) -> Path:
    """The mask that belongs to a picture: the file itself, or the one of a folder that has its name, or its name and `_mask`.

    Raises:
        ZooError: there is none.
    """
    if given.is_file():
        return given
    names = (picture.stem, f"{picture.stem}_mask")
    near = [path for path in find_pictures([str(given)]) if path.stem in names]
    if not near:
        raise ZooError(
            f"--mask {given} holds none for {picture.name}; expected a picture named {names[0]} or {names[1]}."
        )
    return near[0]
