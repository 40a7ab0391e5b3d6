"""Our own weights: small safetensors files in the package, whose metadata say what made them. Read without PyTorch.

A whole model is `zoo/weights/shipped/<name>.safetensors`, written by `python -m zoo.weights.ship RUN NAME`. Parts of models that
rooms and measurements stand on are shipped beside these.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from zoo.errors import ZooError
from zoo.weights.catalogue import plain

SHIPPED = Path(__file__).parent / "shipped"
PACKAGE = Path(__file__).parents[1]
FORMAT = "weights of the translation zoo, 1"
LONGEST_HEADER = 10_000_000  # bytes
PARTS = {
    "content_encoder_64": (
        PACKAGE / "gpunit" / "content_encoder_64.safetensors",
        "GP-UNIT's content encoder for 64x64 scenes: --model.content_encoder demo",
    ),
    "judge_64": (
        PACKAGE / "metrics" / "judge_64.safetensors",
        "the classifier and the segmenter that judge translations of scenes",
    ),
}
"""Files that are no whole models, with what they are for."""


@dataclass(frozen=True)
class Shipped:
    """A file of weights that comes with the package.

    Attributes:
        name: what `zoo.load` and the commands call it.
        path: the file.
        room: that it holds a model of; empty for parts.
        description: what it is, in one line.
        licence: what its use is bound to.
        recipe: what trained it: configuration files and options, as one types them.
        commit: of the code that trained it.
        settings: the room's constructor arguments.
        kept: where the training stood: iteration, stage, seed, frozen networks.
        facts: plain values that a room's inference needs beside weights and settings.
        figures: what its last validation measured.
    """

    name: str
    path: Path
    room: str = ""
    description: str = ""
    licence: str = "MIT"
    recipe: str = ""
    commit: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    kept: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size


def read_header(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file.

    Raises:
        ZooError: it is none, or is cut off.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if 0 < length <= LONGEST_HEADER else None
    except (OSError, ValueError) as error:
        raise ZooError(f"{path} is not a whole safetensors file ({error}).") from error
    if not isinstance(header, dict):
        raise ZooError(f"{path} is not a safetensors file.")
    return {str(key): str(value) for key, value in (header.get("__metadata__") or {}).items()}


def is_ours(path: Path) -> bool:
    """Whether a file is a whole model that `zoo.weights.ship` wrote."""
    if path.suffix != ".safetensors":
        return False
    try:
        return read_header(path).get("format") == FORMAT
    except ZooError:
        return False


def read_shipped(path: Path) -> Shipped:
    """What a file of a whole model says of itself.

    Raises:
        ZooError: it is none, or its metadata are not whole.
    """
    header = read_header(path)
    if header.get("format") != FORMAT:
        raise ZooError(f"{path} is not a model that this project ships: its metadata say {header.get('format')!r}.")
    try:
        return Shipped(
            name=header["name"],
            path=path,
            room=header["room"],
            description=header["description"],
            licence=header["licence"],
            recipe=header["recipe"],
            commit=header["commit"],
            settings=json.loads(header["settings"]),
            kept=json.loads(header["kept"]),
            facts=json.loads(header.get("facts", "{}")),
            figures=json.loads(header["figures"]),
        )
    except (KeyError, ValueError) as error:
        raise ZooError(f"{path}: its metadata are not whole ({error}). Write it again: zoo.weights.ship") from error


def shipped(folder: Path | None = None) -> dict[str, Shipped]:
    """All weights that come with the package by name: whole models, then parts.

    Args:
        folder: of the whole models; the package's by default.
    """
    folder = SHIPPED if folder is None else folder
    models = {path.stem: read_shipped(path) for path in sorted(folder.glob("*.safetensors"))}
    parts = {
        name: Shipped(name, path, description=description)
        for name, (path, description) in PARTS.items()
        if path.is_file()
    }
    return {**models, **parts}


def find_shipped(name: str) -> Shipped | None:
    """The shipped weights of a name, spelled with `_` or `-`; None where there are none."""
    return {plain(known): found for known, found in shipped().items()}.get(plain(name))


def names_near(name: str, known: Mapping[str, object]) -> str:
    """A sentence to append to an error message: ` Did you mean 'x'?`, or nothing."""
    spelled = {plain(each): each for each in known}
    near = get_close_matches(plain(name), spelled, n=1)
    return f" Did you mean {spelled[near[0]]!r}?" if near else ""
