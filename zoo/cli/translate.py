"""`lightning translate WEIGHTS IMAGES... [--output DIR]`: pictures and films in, translated ones out."""

from __future__ import annotations

import argparse
import glob
import inspect
import sys
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from datamodules.pictures import BadPictureError, decode
from zoo.callbacks.judging import gives_attention
from zoo.cli.any_size import attend_any_size, translate_any_size
from zoo.cli.interpolations import BETWEEN, write_interpolations
from zoo.cli.lapses import named_styles, write_lapses
from zoo.cli.parser import CommandParser
from zoo.cli.sheets import sheet, thumbnail
from zoo.cli.suggest import did_you_mean
from zoo.cli.videos import VIDEOS, film_ending, is_film, open_film, sized, tensor_of, translate_film
from zoo.core.films import FILM_FORMATS, check_film, ffmpeg_library
from zoo.core.images import save_png
from zoo.core.translator import Translator
from zoo.errors import ZooError
from zoo.registry import ROOMS, room_class
from zoo.weights.load import load

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
SHEET = "sheet.png"
SHEET_ROWS, SHEET_COLUMNS = 16, 16
LATENTS = 6  # random styles per picture where nothing is said, as many as GP-UNIT's official inference gives
OPTIONS = {  # of the command, by the keyword of `Translator.translate` that they fill
    "reference": ("takes no exemplar", "--reference"),
    "latent": ("draws no random styles", "--latents"),
    "correspondence": ("has no strength of correspondence", "--correspondence"),
    "resolution": ("gives pictures of the size that they have", "--resolution"),
    "truncation": ("draws no random styles towards a mean", "--truncation"),
}


@dataclass(frozen=True)
class Style:
    """One way to translate every picture.

    Attributes:
        label: part of the file names; empty where there is one translation per picture.
        options: keywords of `translate`.
        exemplar: the picture whose style it is, `1 3 h w` in [-1, 1].
    """

    label: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    exemplar: Tensor | None = None


@dataclass(frozen=True)
class Job:
    """One picture and where its translations go, one per style.

    Attributes:
        picture: what is translated.
        outputs: files of the translations.
        maps: files of their attention maps; empty where none are asked for.
        film: whether it is a film.
    """

    picture: Path
    outputs: tuple[Path, ...]
    maps: tuple[Path, ...] = ()
    film: bool = False


def run(arguments: Sequence[str]) -> int:
    """Run `lightning translate`.

    Returns:
        0, or 1 if some pictures could not be read (the others are translated all the same).

    Raises:
        ZooError: something a person can mend.
    """
    options = parse(arguments)
    takes_films = options.lapse is None and options.interpolate is None
    pictures = find_pictures(options.images, SUFFIXES | VIDEOS if takes_films else SUFFIXES)
    films = {path: film_ending(path, options.film) for path in pictures if takes_films and is_film(path)}
    if films and options.attention is not None:
        raise ZooError(f"--attention is for pictures, and {next(iter(films))} is a film: leave one of them out.")
    if ".mp4" in films.values() or any(path.suffix.lower() in VIDEOS for path in films):
        ffmpeg_library()
    model = load(options.checkpoint).to(pick_device(options.device))
    styles = choose_styles(model, options)
    domain = own_domain(model) if options.to is None else options.to
    if options.lapse is not None:
        return write_lapses(model, pictures, styles, options)
    if options.interpolate is not None:
        return write_interpolations(model, pictures, styles, options)
    labels = [style.label for style in styles]
    maps = None if options.attention is None else Path(options.attention or options.output)
    jobs = plan(pictures, options.output, overwrite=options.overwrite, labels=labels, maps=maps, films=films)
    shown: list[list[Tensor]] = []
    failed = 0
    for number, job in enumerate(jobs, start=1):
        row: list[Tensor] = []
        try:
            for source, images, output in (film_translations if job.film else translations)(
                model, job, styles, domain, options.size
            ):
                print(f"{number}/{len(jobs)}  {job.picture} -> {output}", flush=True)
                row = row or [thumbnail(source)]
                if len(shown) < SHEET_ROWS and len(row) <= SHEET_COLUMNS:
                    row += [thumbnail(image.cpu()) for image in images]
        except BadPictureError as error:
            failed += 1
            print(f"lightning: left out {job.picture}: {error}", file=sys.stderr)
            continue
        if len(shown) < SHEET_ROWS:
            shown.append(row)
    if shown and options.sheet:
        tops = [(style.label, style.exemplar) for style in styles]
        save_png(sheet(shown, tops, attention=maps is not None), options.output / SHEET)
        print(f"Side by side: {options.output / SHEET}")
    each = f", in {len(styles)} styles each" if len(styles) > 1 else ""
    print(f"{len(jobs) - failed} of {len(jobs)} pictures are translated{each}, in {options.output}")
    if maps is not None:
        print(f"Attention maps: {maps}")
    return 1 if failed else 0


def translations(
    model: Translator, job: Job, styles: Sequence[Style], domain: str, size: int | None
) -> Iterator[tuple[Tensor, tuple[Tensor, ...], Path]]:
    """Translate a picture in every style and write the files; yields the picture, what was made of it, and where it is."""
    source = read(job.picture, size)
    for index, (style, output) in enumerate(zip(styles, job.outputs, strict=True)):
        given = (model, source.to(model.device), domain)
        if job.maps:
            images: tuple[Tensor, ...] = attend_any_size(*given, **style.options)
        else:
            images = (translate_any_size(*given, **style.options),)
        for image, path in zip(images, (output, *job.maps[index : index + 1]), strict=True):
            save_png(image[0].cpu(), path)
        yield source, images, output


def film_translations(
    model: Translator, job: Job, styles: Sequence[Style], domain: str, size: int | None
) -> Iterator[tuple[Tensor, tuple[Tensor, ...], Path]]:
    """As `translations`, of a film; yields its first frame and that frame's translation."""
    film = open_film(job.picture, size)
    for style, output in zip(styles, job.outputs, strict=True):
        source, image = translate_film(model, film, output, domain, **style.options)
        yield source, (image,), output


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line.

    Raises:
        ZooError: an option is unknown or a word is missing.
    """
    parser = CommandParser(
        prog="lightning translate",
        synopsis="WEIGHTS IMAGES... [--output DIR]",
        description="Translate pictures and films with a trained model.",
        epilog="Examples: lightning translate runs/cyclegan/<name> photos/*.jpg --output translated. In the style of a picture: "
        "lightning translate runs/gpunit/<name> photos --reference dog.jpg --output translated",
    )
    parser.add_argument(
        "checkpoint",
        help="weights by name (lightning list --weights), a run's folder (its newest checkpoint), a checkpoint, or an official file",
    )
    parser.add_argument("images", nargs="+", help="pictures, films, folders (searched through) and patterns")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("translated"),
        help="folder for the translations, PNG files and films (default: translated)",
    )
    parser.add_argument("--to", help="domain to translate into (default: the room's own, mostly target)")
    parser.add_argument(
        "--reference",
        nargs="+",
        help="exemplars: picture files, folders and patterns; every picture is translated in the style of each",
    )
    parser.add_argument(
        "--latents",
        type=int,
        help=f"translate every picture in so many random styles (default, where a model can and no exemplar is given: {LATENTS})",
    )
    parser.add_argument(
        "--styles",
        nargs="+",
        metavar="NAME",
        help="translate every picture in these named styles; all stands for all of them",
    )
    parser.add_argument(
        "--lapse",
        type=int,
        metavar="FRAMES",
        help="write a time lapse of each picture instead, <name>_lapse.webp: so many frames from each of the styles to the next",
    )
    parser.add_argument(
        "--interpolate",
        type=int,
        metavar="STEPS",
        help=f"write a sheet, so many pictures along a side, of what lies between instead: {BETWEEN}",
    )
    parser.add_argument("--film", help=f"format of films: {', '.join(FILM_FORMATS)} (default: their own; lapses .webp)")
    parser.add_argument("--seed", type=int, help="of the random styles, the same for every picture (default: 0)")
    parser.add_argument(
        "--correspondence",
        type=float,
        help="how closely a translation follows the picture's content, for models that know it (1 as trained)",
    )
    parser.add_argument(
        "--truncation",
        type=float,
        help="how far random styles may be from the mean one, for models that know it: 0 to 1 (1)",
    )
    parser.add_argument(
        "--attention",
        nargs="?",
        const="",
        metavar="DIR",
        help="for models that have it, save where each picture was repainted, white on black: in DIR, or as <name>_attention.png "
        "beside the translation",
    )
    parser.add_argument("--size", type=int, help="shrink or enlarge the shorter side to this many pixels first")
    parser.add_argument("--resolution", type=int, help="shorter side of the results in pixels, for models that enlarge")
    parser.add_argument("--no-sheet", dest="sheet", action="store_false", help=f"write no side-by-side {SHEET}")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there already")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps; auto takes the best there is")
    options = parser.parse_args(list(arguments))
    if options.size is not None and options.size < 1:
        raise ZooError(f"--size is {options.size}; expected a number of pixels, such as --size 256.")
    if options.latents is not None and options.latents < 1:
        raise ZooError(f"--latents is {options.latents}; expected a number of styles, such as --latents {LATENTS}.")
    chance = (options.latents, options.seed, options.truncation)
    if options.styles and (options.reference or any(value is not None for value in chance)):
        raise ZooError(
            "--styles gives styles by their names: leave --reference, --latents, --seed and --truncation out."
        )
    if options.lapse is not None and options.lapse < 2:
        raise ZooError(
            f"--lapse is {options.lapse}; expected at least 2 frames from one style to the next, such as --lapse 30."
        )
    if options.interpolate is not None and options.interpolate < 2:
        raise ZooError(
            f"--interpolate is {options.interpolate}; expected at least 2 pictures a side, such as --interpolate 7."
        )
    if options.interpolate is not None and (options.lapse is not None or options.attention is not None):
        raise ZooError("--interpolate writes one sheet: leave --lapse and --attention out.")
    if options.film is not None:
        check_film(options.film)
    if options.reference and (options.latents is not None or options.seed is not None):
        raise ZooError("--reference gives the style by exemplars and --latents by chance: leave one of them out.")
    if options.reference and options.truncation is not None:
        raise ZooError("--truncation is for random styles, and --reference gives the style: leave one of them out.")
    return options


def translates(model: Translator) -> bool:
    """Whether a room translates at all: the first stage of a training may not."""
    return type(model).translate is not Translator.translate


def keywords(model: Translator) -> set[str]:
    """What a room's `translate` can be told beside the picture and the domain."""
    return set(inspect.signature(type(model).translate).parameters) & set(OPTIONS)


def own_domain(model: Translator) -> str:
    """The domain that a room translates into when nobody says: the default of its `translate`."""
    return str(inspect.signature(type(model).translate).parameters["to"].default)


def draws_styles(model: Translator) -> bool:
    """Whether a model translates in random styles, now: its sampler, where it has one, is fitted."""
    return "latent" in keywords(model) and bool(getattr(model, "sampler_fitted", True))


def needs_exemplar(model: Translator) -> bool:
    """Whether a model cannot translate without an exemplar."""
    return "reference" in keywords(model) and not draws_styles(model) and not getattr(model, "exemplar_optional", False)


def attentive_rooms() -> str:
    """The names of our rooms whose translations come with attention maps, as a list for a sentence."""
    return ", ".join(name for name in sorted(ROOMS) if gives_attention(room_class(name))) or "none"


def choose_styles(model: Translator, options: argparse.Namespace) -> list[Style]:
    """In which styles every picture is translated, by what the model can do and what was asked for.

    Raises:
        ZooError: the model does not take an option, or needs an exemplar, or an exemplar cannot be read.
    """
    room, known = type(model).__name__, keywords(model)
    if not translates(model):
        raise ZooError(f"{room} does not translate: it is trained for others to build upon.")
    wants_latents = options.latents is not None or options.seed is not None
    asked = {
        "reference": options.reference,
        "latent": wants_latents,
        "correspondence": options.correspondence is not None,
        "resolution": options.resolution is not None,
        "truncation": options.truncation is not None,
    }
    for keyword, (lack, option) in OPTIONS.items():
        if asked[keyword] and keyword not in known:
            option = "--seed" if keyword == "latent" and options.latents is None else option
            raise ZooError(f"{room} {lack}: leave {option} out.")
    if options.attention is not None and not gives_attention(type(model)):
        raise ZooError(f"{room} gives no attention maps: leave --attention out. Rooms that do: {attentive_rooms()}.")
    given = {name: getattr(options, name) for name in ("correspondence", "truncation", "resolution")}
    common = {name: value for name, value in given.items() if value is not None}
    if options.styles:
        return [Style(n, common | {"latent": s.to(model.device)}) for n, s in named_styles(model, options.styles)]
    if options.reference:
        return [
            Style(label, common | {"reference": e.to(model.device)}, e)
            for label, e in read_exemplars(options.reference)
        ]
    if wants_latents and not draws_styles(model):
        raise ZooError(
            f"The sampler of this {room} is not fitted, so it draws no styles yet. Fit it: lightning sampler {options.checkpoint}"
        )
    if needs_exemplar(model):
        raise ZooError(f"{room} translates in the style of an exemplar. Say which: --reference PICTURE")
    if not draws_styles(model):
        return [Style(options=common)]
    generator = torch.Generator().manual_seed(options.seed or 0)
    channels: Any = model.latent_channels
    latents = [torch.randn(1, channels, generator=generator) for _ in range(options.latents or LATENTS)]  # 1 z each
    return [
        Style(f"style{number}", common | {"latent": latent.to(model.device)})
        for number, latent in enumerate(latents, start=1)
    ]


def read_exemplars(given: Sequence[str]) -> list[tuple[str, Tensor]]:
    """Exemplars with a label of its own each: the file's name, with its folder in front where two share a name.

    Raises:
        ZooError: a word means no picture, or a picture cannot be read.
    """
    found: dict[str, Tensor] = {}
    for picture in find_pictures(given):
        label = free_name(picture, found)
        try:
            found[label] = read(picture, None)
        except BadPictureError as error:
            raise ZooError(f"--reference {picture}: {error}") from error
    return list(found.items())


def find_pictures(given: Sequence[str], suffixes: Container[str] = frozenset(SUFFIXES)) -> list[Path]:
    """All pictures that files, folders and patterns mean, each once, in order; in folders, files with one of the suffixes.

    Raises:
        ZooError: a word means no picture.
    """
    found: dict[Path, None] = {}
    for word in given:
        path = Path(word).expanduser()
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.suffix.lower() in suffixes and file.is_file())
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


def plan(
    pictures: Sequence[Path],
    output: Path,
    *,
    overwrite: bool,
    labels: Sequence[str] = ("",),
    maps: Path | None = None,
    films: Mapping[Path, str] = MappingProxyType({}),
) -> list[Job]:
    """Where each translation goes: `<name>.png` or `<name>_<label>.png`, with the folder in front where two would share a name.

    Films have another ending. An attention map bears the name of its translation in another folder, and ends in `_attention` in the same.

    Args:
        pictures: to be translated.
        output: the folder.
        overwrite: whether files that are there may be replaced.
        labels: of the styles; an empty one leaves no trace in the name.
        maps: the folder of attention maps; None for none.
        films: the ending of each translated film, by the film.

    Raises:
        ZooError: a file is there already and `overwrite` is off; nothing was done yet.
    """
    for option, folder in (("--output", output), ("--attention", maps)):
        if folder is not None and folder.exists() and not folder.is_dir():
            raise ZooError(f"{option} {folder} is a file; expected a folder (it is made when missing).")
    beside = maps is not None and maps.resolve() == output.resolve()
    jobs: list[Job] = []
    taken = {Path(SHEET).stem}
    for picture in pictures:
        outputs, attention = [], []
        for label in labels:
            name = free_name(picture, taken, f"_{label}" if label else "")
            taken.add(name)
            outputs.append(output / f"{name}{films.get(picture, '.png')}")
            if maps is None:
                continue
            if beside:
                name = free_name(picture, taken, f"_{label}_attention" if label else "_attention")
                taken.add(name)
            attention.append(maps / f"{name}.png")
        jobs.append(Job(picture, tuple(outputs), tuple(attention), picture in films))
    files = [path for job in jobs for path in (*job.outputs, *job.maps)]
    there = [path for path in [*files, output / SHEET] if path.exists()]
    if there and not overwrite:
        raise ZooError(f"{there[0]} is there already ({len(there)} such files). Give another --output, or --overwrite.")
    inputs = {picture.resolve() for picture in pictures}
    if clash := next((path for path in files if path.resolve() in inputs), None):
        option = "--output" if clash.parent == output else "--attention"
        raise ZooError(f"{clash} is one of the pictures to translate, and would be replaced. Give another {option}.")
    return jobs


def free_name(picture: Path, taken: Container[str], ending: str = "") -> str:
    """A name that is not taken: the picture's, then with its folder's in front, then with a number behind."""
    longer = f"{picture.resolve().parent.name}_{picture.stem}{ending}"
    names = chain((f"{picture.stem}{ending}", longer), (f"{longer}_{number}" for number in count(2)))
    return next(name for name in names if name not in taken)


def read(picture: Path, size: int | None) -> Tensor:
    """A picture of any size and mode as `1 3 h w` in [-1, 1].

    Raises:
        BadPictureError: the file is no picture or is damaged.
    """
    return sized(tensor_of(decode(picture)), size)


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
