"""Pictures for protocols: folders read alike, and what a model makes of them.

A model's translations are measured as they would be saved: rounded to uint8, as in a PNG file. Every picture of a folder counts, so one
that cannot be read is a reason to stop and not to leave it out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from datamodules.errors import DataError
from datamodules.folders import check_pictures, find_pictures, name_bad
from datamodules.pictures import decode
from datamodules.preprocess import Interpolation, Preprocess, Transform
from zoo.cli.parser import CommandParser
from zoo.cli.protocols.base import Job
from zoo.cli.translate import draws_styles, needs_exemplar, own_domain, translate_any_size, translates
from zoo.core.images import from_uint8, to_uint8
from zoo.core.translator import Translator
from zoo.errors import ZooError

AS_SAVED = "translations are rounded to uint8, as in PNG files"


# Reading -------------------------------------------------------------------------------------------------------------


def pictures_in(folder: str, option: str) -> list[Path]:
    """All pictures in a folder and below it, in natural order.

    Args:
        folder: or one picture.
        option: of the command line that names it.

    Raises:
        ZooError: it is missing or empty, or holds a picture that cannot be read.
    """
    try:
        found = find_pictures([folder], option)
        checked = check_pictures(found, option, min_side=1, max_bad_share=1.0)
    except DataError as error:
        raise ZooError(str(error).replace("--data.", "--")) from error
    if checked.bad:
        raise ZooError(
            f"--{option}: {len(checked.bad)} of {len(found)} pictures cannot be read: {name_bad(checked.bad)}. Mend them or take them "
            "out: a measure counts every picture of a folder."
        )
    return found


def fingerprint(pictures: Sequence[Path]) -> str:
    """A hash of the names and sizes of files, the same wherever they lie, for a result."""
    digest = blake2b(digest_size=16)
    for path in pictures:
        digest.update(f"\0{path.name}\0{path.stat().st_size}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


@dataclass(frozen=True)
class Reader:
    """Reads pictures as uint8 `1 3 h w`, at their own size or as a training's validation prepares them.

    Attributes:
        size: in pixels, of what `preprocess` is about; None keeps the pictures' own.
        interpolation: filter of the resize.
        preprocess: how pictures get that size; squares that do not keep the aspect ratio by default.
        multiple: what both sides are multiples of at last.
    """

    size: int | None = None
    interpolation: Interpolation = "bicubic"
    preprocess: Preprocess = "resize_and_crop"
    multiple: int = 1

    def __call__(self, path: Path) -> Tensor:
        """Read a picture."""
        pixels = decode(path)
        if self.size is not None:
            prepare = Transform(
                self.preprocess, self.size, self.size, multiple=self.multiple, interpolation=self.interpolation
            )
            pixels = prepare(pixels)
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]

    @property
    def words(self) -> str:
        """What it does, for a result."""
        if self.size is None:
            return "at their own sizes"
        sides = (
            f"{self.size}x{self.size}" if self.preprocess == "resize_and_crop" else f"{self.size} ({self.preprocess})"
        )
        filtered = "not antialiased" if self.interpolation == "bilinear_tensorflow" else "antialiased"
        return f"resized to {sides}, {self.interpolation}, {filtered}, uint8"


def add_reading(parser: CommandParser) -> None:
    """The options of `reader_of`."""
    parser.add_argument(
        "--size", type=int, help="resize all pictures to this side first (as the run's were; else as they are)"
    )
    parser.add_argument(
        "--interpolation", choices=get_args(Interpolation), help="filter of that resize (the run's own; else bicubic)"
    )


def reader_of(options: Any, settings: Mapping[str, Any]) -> Reader:
    """How pictures are read: by the options, else as the run's data says.

    Raises:
        ZooError: the size is no size.
    """
    if options.size is not None and options.size < 1:
        raise ZooError(f"--size is {options.size}; expected a number of pixels, such as --size 256.")
    interpolation: Interpolation = options.interpolation or settings.get("interpolation") or "bicubic"
    if options.size is not None:
        return Reader(options.size, interpolation)
    return Reader(settings.get("size"), interpolation, settings.get("preprocess") or "resize_and_crop", multiple=4)


def own_folder(settings: Mapping[str, Any], key: str, given: str | None) -> tuple[str, str]:
    """A folder of the command line, else the test (or validation) folder of the run's data; and which split that is."""
    if given is not None:
        return given, "as given"
    backwards = settings.get("direction") == "target_to_source"
    domain = "source" if (key == "source") != backwards else "target"
    for part in ("test", "validation"):
        folders = settings.get(f"{part}_{domain}") or []
        folders = [folders] if isinstance(folders, str) else folders
        if len(folders) == 1:
            return str(folders[0]), part
    raise ZooError(f"The run's data names no single folder of test pictures. Type --{key} FOLDER")


# What a model makes --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Translations:
    """A model's translations of some pictures.

    Attributes:
        model: the translator.
        sources: what is translated.
        reader: reads them.
        to: the domain to translate into.
        references: exemplars to draw from, for models that need one.
    """

    model: Translator
    sources: Sequence[Path]
    reader: Reader
    to: str
    references: Sequence[Path] = ()

    def made(self, seed: int, sources: Sequence[Path] | None = None, outputs: int = 1) -> Iterator[list[Tensor]]:
        """Translate one picture after the other, `outputs` times each, in styles that are drawn from the seed.

        Returns:
            For each picture its translations, uint8 1 3 h w.
        """
        generator, channels = torch.Generator().manual_seed(seed), getattr(self.model, "latent_channels", None)
        self.model.draws.seed = seed
        for number, path in enumerate(self.sources if sources is None else sources):
            image = from_uint8(self.reader(path)).to(self.model.device)
            made = []
            for output in range(outputs):
                style: dict[str, Tensor] = {}
                if self.references:
                    place = int(torch.randint(len(self.references), (1,), generator=generator))
                    style["reference"] = from_uint8(self.reader(self.references[place])).to(self.model.device)
                elif draws_styles(self.model):
                    style["latent"] = torch.randn(1, channels, generator=generator).to(self.model.device)  # type: ignore[arg-type]
                with self.model.aside("evaluate", number, output):
                    made.append(to_uint8(translate_any_size(self.model, image, self.to, **style).float()).cpu())
            yield made

    @property
    def draws_anything(self) -> bool:
        """Whether two seeds give two translations of the first picture."""
        (one,), (other,) = (next(self.made(seed, self.sources[:1])) for seed in (0, 1))
        return not torch.equal(one, other)


def translations_of(job: Job, sources: Sequence[Path], reader: Reader) -> Translations:
    """Load the model of a run and make ready for its translations.

    Raises:
        ZooError: it does not translate into that domain, or needs exemplars and there are none.
    """
    model, options = job.model(), job.options
    if not translates(model):
        raise ZooError(f"{type(model).__name__} does not translate: it is trained for others to build upon.")
    to = own_domain(model) if options.to is None else options.to
    references = pictures_in(options.reference, "reference") if options.reference else []
    if needs_exemplar(model) and not references:
        raise ZooError(
            f"{type(model).__name__} translates in the style of an exemplar. Say from which pictures these are drawn: --reference FOLDER"
        )
    return Translations(model, sources, reader, to, references)


def add_translating(parser: CommandParser) -> None:
    """The options of `translations_of`."""
    parser.add_argument("--source", help="with a run: folder of the pictures to translate (the run's test pictures)")
    parser.add_argument("--to", help="with a run: domain to translate into (the room's own)")
    parser.add_argument("--reference", help="with a run: folder of exemplars, of which one is drawn for each picture")
