"""What a protocol is, what a measurement is given, and what it gives back."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from zoo.cli.lookup import find_config, read_yaml
from zoo.cli.parser import CommandParser
from zoo.cli.sampler import build_data, run_of
from zoo.cli.translate import pick_device
from zoo.core.files import sha256_of
from zoo.core.loading import find_checkpoint
from zoo.core.runs import Run
from zoo.core.translator import Translator
from zoo.errors import ZooError
from zoo.registry import room_name
from zoo.weights.fetch import fetch, find_entry
from zoo.weights.load import load, missing_source
from zoo.weights.preflight import missing_weights
from zoo.weights.shipped import find_shipped

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Measured:
    """What a protocol found.

    Attributes:
        figures: by name, the most important first: one number where nothing is drawn, or one for each seed.
        counts: of what was measured: pictures, pairs, scenes.
        data: where it comes from: folders, split, settings.
        settings: beside the protocol's own: what was chosen on the command line.
        details: whatever else belongs into the result, such as figures of each pair of domains.
        shown: names of the figures that are printed; all when empty.
        text: a table of the protocol's own, printed before the common one.
        remarks: sentences that a reader of the figures must know.
        name: what the result is called, where that is not the protocol's name.
    """

    figures: Mapping[str, float | Sequence[float]]
    counts: Mapping[str, int]
    data: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    shown: Sequence[str] = ()
    text: str = ""
    remarks: Sequence[str] = ()
    name: str = ""


@dataclass(frozen=True)
class Protocol:
    """A named way to measure; the networks that look at pictures are a part of it.

    Attributes:
        name: as one types it.
        about: what it measures, in one line.
        synopsis: what is typed beside `--protocol NAME`.
        figures: the numbers that it gives, in words.
        measure: measures.
        extractors: names of the published weights that it needs.
        settings: what is fixed, for the result: resize, antialias, rounding.
        add_options: adds the protocol's own options.
        takes_run: whether a run may be named.
        takes_data: whether `--data` and `--data.NAME` say what data it is about.
        example: a whole command.
    """

    name: str
    about: str
    synopsis: str
    figures: str
    measure: Callable[[Job], Measured]
    extractors: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    add_options: Callable[[CommandParser], None] = lambda parser: None
    takes_run: bool = True
    takes_data: bool = False
    example: str = ""


@dataclass(frozen=True)
class Extractor:
    """A file of weights whose network looks at pictures.

    Attributes:
        name: of the catalogue.
        path: the file.
        sha256: of the file, 64 digits.
        published: whether it is the published file, as far as its digest is known.
        state: that in words.
    """

    name: str
    path: Path
    sha256: str
    published: bool
    state: str

    def record(self) -> dict[str, Any]:
        """For the result."""
        return {
            "name": self.name,
            "file": str(self.path),
            "sha256": self.sha256,
            "published": self.published,
            "state": self.state,
        }


def find_extractor(name: str, given: Path | None = None) -> Extractor:
    """The file of an extractor: the published one, fetched where it is not here, or the given one.

    Args:
        name: of the catalogue.
        given: a person's own file; whatever it holds, it is the published one only by its digest.

    Raises:
        ZooError: it is not here and cannot be had: says file, digest and folder, and what to type.
    """
    entry = find_entry(name)
    if given is not None and not given.is_file():
        raise ZooError(f"--extractor {given}: there is no such file. Without it {entry.file} is taken ({entry.name}).")
    path = fetch(name) if given is None else given
    sha256 = sha256_of(path)
    fault = entry.fault(path.stat().st_size, sha256, None)
    if fault is not None:
        state = f"not the published {entry.file}: {fault}"
    elif entry.sha256:
        state = f"the published {entry.file}: all digits of its SHA-256 agree"
    else:
        state = f"taken for the published {entry.file}: the {len(entry.sha256_prefix)} digits of its SHA-256 that are known agree"
    return Extractor(name, path, sha256, fault is None, state)


class Job:
    """One measurement to be made: what was asked for, and the things that it takes, each found once.

    Args:
        protocol: by which is measured.
        options: of the command line.
        overrides: settings of the data by name, as typed behind `--data.`.

    Attributes:
        used: extractors that were found, and other files that measure, for the result.
        checkpoint: the model's files, once it is loaded.
    """

    def __init__(self, protocol: Protocol, options: argparse.Namespace, overrides: Mapping[str, str]) -> None:
        self.protocol = protocol
        self.options = options
        self.seeds: list[int] = list(options.seeds)
        self.overrides = {name: yaml.safe_load(value) for name, value in overrides.items()}
        self.device = pick_device(options.device)
        self.used: list[dict[str, Any]] = []
        self.checkpoint: dict[str, Any] | None = None
        self._model: Translator | None = None
        self._given = given_extractors(protocol, options.extractor or [])

    def say(self, line: str) -> None:
        """Tell a person how far it is, on stderr."""
        print(line, file=sys.stderr, flush=True)

    def refuse_missing(self, *names: str) -> None:
        """Say what stands in the way of extractors before anything is done; by default of all that the protocol needs.

        Raises:
            ZooError: one is not here and cannot be had.
        """
        wanted = [name for name in names or self.protocol.extractors if name not in self._given]
        if lines := [line for name in wanted for line in missing_weights(name)]:
            raise ZooError(" ".join(lines))

    def extractor(self, name: str) -> Extractor:
        """The file of one of the protocol's extractors, which the result will name."""
        found = find_extractor(name, self._given.get(name))
        self.used.append(found.record())
        return found

    def also_uses(self, name: str, path: Path, state: str) -> None:
        """Name another file in the result that takes part in the measurement."""
        self.used.append({"name": name, "file": str(path), "sha256": sha256_of(path), "state": state})

    @property
    def run(self) -> str:
        """The run or the weights that were named.

        Raises:
            ZooError: none were.
        """
        if self.options.run is None:
            raise ZooError(
                f"{self.protocol.name} measures a model: name its run or its weights. Usage: {usage(self.protocol)}"
            )
        name = str(self.options.run)
        if lines := missing_source(name, "RUN"):
            raise ZooError(" ".join(lines))
        if not Path(name).expanduser().exists() and (part := find_shipped(name)) is not None and not part.room:
            raise ZooError(f"{part.name} is no whole model, but {part.description}. Models: lightning list --weights")
        return name

    def model(self) -> Translator:
        """The model of the run, in eval mode on the device; loaded once."""
        if self._model is None:
            self._model = load(self.run).to(self.device).eval()
            files = weight_files(self.run)
            self.checkpoint = {
                "asked_for": self.run,
                "room": room_name(type(self._model)),
                "files": {str(path): sha256_of(path) for path in files},
            }
        return self._model

    def data_node(self, wanted: str, example: str) -> dict[str, Any]:
        """Class and settings of the data: of `--data`, of the run's own configuration, or of the recipe of shipped weights.

        Args:
            wanted: name of the class that the protocol is about, such as `Scenes`.
            example: a file that is about such data.

        Raises:
            ZooError: nothing says what the data is, or it is of another class.
        """
        content, origin = self._configuration()
        node = content.get("data")
        if not isinstance(node, Mapping):
            about = f"{origin} names no data" if origin else f"Nothing says which data {self.protocol.name} is about"
            raise ZooError(f"{about}. Type --data {example}")
        theirs = str(node.get("class_path", wanted))  # an overlay need not say it
        if theirs.rpartition(".")[2] != wanted:
            raise ZooError(
                f"{origin} is about {theirs}, and {self.protocol.name} measures datamodules.{wanted}. Type --data {example}"
            )
        settings = {"seed": content.get("seed_everything") or 0, **(node.get("init_args") or {}), **self.overrides}
        return {"class_path": f"datamodules.{wanted}", "init_args": settings}

    def own_preparation(self) -> dict[str, Any]:
        """Size, filter and way of the resize that the run was trained with, as far as its configuration tells."""
        node = self._configuration()[0].get("data")
        if not isinstance(node, Mapping):
            return {}
        unpaired = str(node.get("class_path")).rpartition(".")[2] == "UnpairedFolders"
        names = ("size", "interpolation", "preprocess") if unpaired else ("size",)
        settings = {**(node.get("init_args") or {}), **self.overrides}
        return {name: settings[name] for name in names if settings.get(name) is not None}

    def build(self, node: Mapping[str, Any], **settings: Any) -> Any:
        """The data module of a node, with some settings of our own."""
        return build_data({**node, "init_args": {**node["init_args"], **settings}})

    def _configuration(self) -> tuple[dict[str, Any], str]:
        """What says which data it is about, and where that stands; nothing where nothing does."""
        if files := self.options.data:
            return merged([find_config(file).path for file in files]), " and ".join(map(str, files))
        if self.options.run is None:
            return {}, ""
        place = Path(self.run).expanduser()
        if place.exists():
            path = weight_files(self.run)[0]
            owner = run_of(path) or Run(path.absolute().parents[1])
            return (merged([owner.config]), str(owner.config)) if owner.config.is_file() else ({}, "")
        shipped = find_shipped(self.run)
        words = shipped.recipe.split() if shipped is not None else []
        recipes = [after for word, after in pairwise(words) if word == "--config"]
        origin = f"{self.run}, from {' and '.join(recipes)}," if recipes else ""
        return merged([find_config(recipe).path for recipe in recipes]), origin


def given_extractors(protocol: Protocol, words: Sequence[str]) -> dict[str, Path]:
    """Files of `--extractor FILE` or `--extractor NAME=FILE` by the extractor that they stand for.

    Raises:
        ZooError: the protocol has no such extractor, or several and none is named.
    """
    found: dict[str, Path] = {}
    known = protocol.extractors
    for word in words:
        name, sign, path = word.partition("=")
        if not sign:
            name, path = (known[0] if len(known) == 1 else ""), word
        if name not in known:
            which = (
                f"It has {', '.join(known)}: --extractor NAME=FILE" if known else "It has none: leave --extractor out"
            )
            raise ZooError(f"--extractor {word}: {protocol.name} has no extractor {name or 'without a name'}. {which}.")
        found[name] = Path(path).expanduser()
    return found


def weight_files(name: str) -> list[Path]:
    """The files that hold the weights of a run or of weights by name, as `zoo.load` takes them."""
    place = Path(name).expanduser()
    if place.is_dir() and "checkpoints" not in (place.name, *(entry.name for entry in place.iterdir())):
        found = sorted(entry for entry in place.iterdir() if entry.is_file())  # an official folder
        return found or [find_checkpoint(place)]
    if place.exists():
        return [find_checkpoint(place)]
    shipped = find_shipped(name)
    return [fetch(name)] if shipped is None else [shipped.path]


def merged(paths: Sequence[Path]) -> dict[str, Any]:
    """Configuration files laid over each other as far as their data goes: another class begins its settings anew."""
    found: dict[str, Any] = {}
    for path in paths:
        content = read_yaml(path) or {}
        if not isinstance(content, dict):
            raise ZooError(f"{path}: expected a mapping with the key data.")
        node, before = content.pop("data", None), found.get("data", {})
        found |= content
        if isinstance(node, dict):
            same = node.get("class_path", before.get("class_path")) == before.get("class_path")
            settings = (
                {**(before.get("init_args") or {}), **(node.get("init_args") or {})} if same else node.get("init_args")
            )
            found["data"] = {**before, **node, "init_args": settings or {}}
    return found


def usage(protocol: Protocol) -> str:
    """How the protocol is typed."""
    return f"lightning evaluate {protocol.synopsis} --protocol {protocol.name}"
