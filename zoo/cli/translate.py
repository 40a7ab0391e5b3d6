"""`lightning translate CHECKPOINT IMAGES... --output DIR`: pictures in, translated pictures out."""

from __future__ import annotations

import argparse
import glob
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.pictures import BadPictureError, decode
from zoo.cli.suggest import did_you_mean
from zoo.core.images import from_uint8, grid, resize, save_png
from zoo.core.loading import load_translator
from zoo.core.translator import Translator
from zoo.errors import ZooError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
SHEET = "sheet.png"
SHEET_ROWS, SHEET_SIDE = 16, 256


@dataclass(frozen=True)
class Job:
    """One picture and where its translation goes."""

    picture: Path
    output: Path


def run(arguments: Sequence[str]) -> int:
    """Run `lightning translate`.

    Returns:
        0, or 1 if some pictures could not be read (the others are translated all the same).

    Raises:
        ZooError: something a person can mend.
    """
    options = parse(arguments)
    jobs = plan(find_pictures(options.images), options.output, overwrite=options.overwrite)
    model = load_translator(options.checkpoint).to(pick_device(options.device))
    shown: list[tuple[Tensor, Tensor]] = []
    failed = 0
    for number, job in enumerate(jobs, start=1):
        try:
            source = read(job.picture, options.size)
        except BadPictureError as error:
            failed += 1
            print(f"lightning: left out {job.picture}: {error}", file=sys.stderr)
            continue
        translation = translate_any_size(model, source.to(model.device), options.to).cpu()
        save_png(translation[0], job.output)
        if len(shown) < SHEET_ROWS:
            shown.append((thumbnail(source), thumbnail(translation)))
        print(f"{number}/{len(jobs)}  {job.picture} -> {job.output}", flush=True)
    if shown and options.sheet:
        columns = {"source": [source for source, _ in shown], "translation": [result for _, result in shown]}
        save_png(grid({name: stacked(images) for name, images in columns.items()}), options.output / SHEET)
        print(f"Side by side: {options.output / SHEET}")
    print(f"{len(jobs) - failed} of {len(jobs)} pictures are translated, in {options.output}")
    return 1 if failed else 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line.

    Raises:
        ZooError: an option is unknown or a word is missing.
    """
    parser = _Parser(
        prog="lightning translate",
        description="Translate pictures with a trained model.",
        epilog="Example: lightning translate runs/cyclegan/<name> photos/*.jpg --output translated",
    )
    parser.add_argument("checkpoint", type=Path, help="a checkpoint file, or a run's folder (its newest checkpoint)")
    parser.add_argument("images", nargs="+", help="picture files, folders (searched through) and patterns")
    parser.add_argument("--output", type=Path, required=True, help="folder for the translations, PNG files")
    parser.add_argument("--to", default="target", help="domain to translate into (default: target)")
    parser.add_argument("--size", type=int, help="shrink or enlarge the shorter side to this many pixels first")
    parser.add_argument("--no-sheet", dest="sheet", action="store_false", help=f"write no side-by-side {SHEET}")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there already")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps; auto takes the best there is")
    options = parser.parse_args(list(arguments))
    if options.size is not None and options.size < 1:
        raise ZooError(f"--size is {options.size}; expected a number of pixels, such as --size 256.")
    return options


def find_pictures(given: Sequence[str]) -> list[Path]:
    """All pictures that files, folders and patterns mean, each once, in order.

    Raises:
        ZooError: a word means no picture.
    """
    found: dict[Path, None] = {}
    for word in given:
        path = Path(word).expanduser()
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        elif path.is_file():
            files = [path]
        else:
            files = sorted(Path(match) for match in glob.glob(str(path), recursive=True) if Path(match).is_file())  # noqa: PTH207 - patterns may be absolute
        if not files:
            beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
            what = (
                f"holds no picture ({', '.join(sorted(SUFFIXES))})"
                if path.is_dir()
                else "is no picture, folder or pattern that matches one"
            )
            raise ZooError(f"{word!r} {what}.{did_you_mean(path.name, beside)}")
        found |= dict.fromkeys(files)
    return list(found)


def plan(pictures: Sequence[Path], output: Path, *, overwrite: bool) -> list[Job]:
    """Where each translation goes: `<name>.png`, with the folder's name in front where two pictures share a name.

    Raises:
        ZooError: a file is there already and `overwrite` is off; nothing was done yet.
    """
    if output.exists() and not output.is_dir():
        raise ZooError(f"--output {output} is a file; expected a folder (it is made when missing).")
    jobs: list[Job] = []
    taken = {SHEET}
    for picture in pictures:
        name = f"{picture.stem}.png"
        if name in taken:
            name = f"{picture.resolve().parent.name}_{picture.stem}.png"
        number = 2
        while name in taken:
            name, number = f"{picture.resolve().parent.name}_{picture.stem}_{number}.png", number + 1
        taken.add(name)
        jobs.append(Job(picture, output / name))
    there = [path for path in [*(job.output for job in jobs), output / SHEET] if path.exists()]
    if there and not overwrite:
        raise ZooError(f"{there[0]} is there already ({len(there)} such files). Give another --output, or --overwrite.")
    inputs = {picture.resolve() for picture in pictures}
    if clash := next((job.output for job in jobs if job.output.resolve() in inputs), None):
        raise ZooError(f"{clash} is one of the pictures to translate, and would be replaced. Give another --output.")
    return jobs


def read(picture: Path, size: int | None) -> Tensor:
    """A picture of any size and mode as `1 3 h w` in [-1, 1].

    Raises:
        BadPictureError: the file is no picture or is damaged.
    """
    image = from_uint8(torch.from_numpy(decode(picture).copy()).permute(2, 0, 1)[None])
    if size is None:
        return image
    height, width = image.shape[-2:]
    scale = size / min(height, width)
    return resize(image, max(1, round(height * scale)), max(1, round(width * scale))).clamp(-1, 1)


def translate_any_size(model: Translator, image: Tensor, to: str) -> Tensor:
    """Translate a picture of any size: it is padded by mirroring to sides the networks can take, and cut back after."""
    height, width = image.shape[-2:]
    least = [max(side, model.smallest_size) for side in (width, height)]
    right, below = (
        wanted + -wanted % model.size_multiple - side for wanted, side in zip(least, (width, height), strict=True)
    )
    padded = image
    while right or below:  # a mirror reaches no further than the picture itself
        step_right, step_below = min(right, padded.shape[-1] - 1), min(below, padded.shape[-2] - 1)
        mode = "reflect" if (step_right or not right) and (step_below or not below) else "replicate"
        if mode == "replicate":
            step_right, step_below = right, below
        padded = F.pad(padded, (0, step_right, 0, step_below), mode=mode)
        right, below = right - step_right, below - step_below
    return model.translate(padded, to=to)[..., :height, :width]


def thumbnail(image: Tensor) -> Tensor:
    """A picture `1 3 h w` made small for the sheet."""
    height, width = image.shape[-2:]
    scale = min(1.0, SHEET_SIDE / max(height, width))
    return resize(image, max(1, round(height * scale)), max(1, round(width * scale)), filter="bilinear").clamp(-1, 1)


def stacked(images: Sequence[Tensor]) -> Tensor:
    """Pictures of several sizes as one batch, each in the upper left corner of white."""
    height, width = max(i.shape[-2] for i in images), max(i.shape[-1] for i in images)
    return torch.cat([F.pad(i, (0, width - i.shape[-1], 0, height - i.shape[-2]), value=1.0) for i in images])


def pick_device(name: str) -> torch.device:
    """The device to run on.

    Raises:
        ZooError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ZooError(
            f"--device {name} is not to be had here: {str(error).splitlines()[0]} Try --device cpu."
        ) from error
    return device


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        words = [word for word in message.split() if word.startswith("--")]
        hint = did_you_mean(words[0], self._options()) if words and "unrecognized" in message else ""
        raise ZooError(f"translate: {message}.{hint} Usage: lightning translate CHECKPOINT IMAGES... --output DIR")

    def _options(self) -> Iterator[str]:
        return (option for action in self._actions for option in action.option_strings)
