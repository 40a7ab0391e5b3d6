"""Write a run's inference weights as a file that ships with the package: `python -m zoo.weights.ship RUN NAME`.

Only the networks that translating calls are kept: a picture is translated in every direction and style, and who took part is kept.
The metadata say what the file is bound to and what made it: licence, recipe, commit, figures.
"""

import argparse
import csv
import inspect
import json
import re
import shlex
import sys
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from zoo.core.checkpoints import read_checkpoint
from zoo.core.exported import facts_of
from zoo.core.files import write_atomically
from zoo.core.loading import find_checkpoint, load_translator
from zoo.core.runs import Run
from zoo.core.translator import Translator
from zoo.errors import ZooError
from zoo.weights.catalogue import plain, read_catalogue
from zoo.weights.shipped import FORMAT, PARTS, SHIPPED, Shipped, read_shipped

NAME = re.compile(r"[a-z0-9]+([-_][a-z0-9]+)*")
LARGEST = 20_000_000  # bytes: the package stays small
KEPT = ("room", "iteration", "stage", "frozen", "seed")


def ship(
    place: Path,
    name: str,
    folder: Path | None = None,
    *,
    licence: str = "MIT",
    description: str = "",
    half: bool = False,
) -> Shipped:
    """Write the weights of a run or a checkpoint.

    Args:
        place: a run's folder, or a checkpoint of one.
        name: what they will be called, such as `cyclegan-scenes`.
        folder: where to; the package's by default.
        licence: what their use is bound to; data that others own may bind them, too.
        description: what it is, in one line; by default what was trained on what.
        half: whether numbers are kept in 16 bits (bfloat16), half the size.

    Returns:
        What the file says of itself.

    Raises:
        ZooError: the checkpoint cannot be read, does not translate, or is too large; or the name is taken or no name.
    """
    if not NAME.fullmatch(name):
        raise ZooError(
            f"{name!r} is no name for weights. Expected: small letters, digits and single dashes, such as cyclegan-scenes"
        )
    if plain(name) in {plain(known) for known in [*PARTS, *read_catalogue()]}:
        raise ZooError(f"The name {name!r} is taken by other weights. What there is: lightning list --weights")
    path = find_checkpoint(place)
    model = load_translator(path)
    checkpoint = read_checkpoint(path)
    used = networks_of_inference(model)
    state = {key: value for key, value in model.state_dict().items() if _owner(key) in used or key in used}
    if half:
        state = {key: value.bfloat16() if value.is_floating_point() else value for key, value in state.items()}
    facts, kept_tensors = facts_of(model)
    room = checkpoint["zoo"]["room"]
    record = _record(path)
    metadata = {
        "format": FORMAT,
        "name": name,
        "room": room,
        "description": description or f"{type(model).__name__} after {checkpoint['zoo']['iteration']:,} iterations",
        "licence": licence,
        "recipe": recipe_of(record),
        "commit": str(record.get("commit") or "unknown"),
        "settings": json.dumps(_plain_settings(dict(model.hparams)), sort_keys=True),
        "kept": json.dumps({key: checkpoint["zoo"][key] for key in KEPT if key != "room"}, sort_keys=True),
        "facts": json.dumps(facts, sort_keys=True),
        "figures": json.dumps(last_figures(path.resolve().parent.parent / "metrics.csv"), sort_keys=True),
    }
    content = save({key: value.contiguous() for key, value in (state | kept_tensors).items()}, metadata)
    if len(content) > LARGEST:
        raise ZooError(
            f"{name} would have {len(content):,} bytes, and the package takes {LARGEST:,}. Train a smaller model, or keep half: --half"
        )
    output = (SHIPPED if folder is None else folder) / f"{name}.safetensors"
    write_atomically(output, content)
    return read_shipped(output)


def networks_of_inference(model: Translator) -> set[str]:
    """The networks (`generator`, `ema.generator`, ...) that translating and sample grids call, and the model's own buffers.

    Raises:
        ZooError: the model does not translate.
    """
    if type(model).translate is Translator.translate:
        raise ZooError(f"{type(model).__name__} does not translate, so nothing says what of it is needed.")
    called: set[str] = set()
    own_domain = inspect.signature(type(model).translate).parameters["to"].default
    translated = False

    def watch(name: str) -> Any:
        return lambda module, inputs, output: called.add(_owner(name))

    hooks = [module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name]
    try:
        named = getattr(model, "domains", [])  # or only their number
        domains = dict.fromkeys([own_domain, "target", "source", *(named if isinstance(named, list) else [])])
        for picture in _pictures(model):
            ways = [_translates(model, picture, to, options) for options in _ways(model) for to in domains]
            if translated := any(ways):
                break  # a model takes one kind of pictures
        with suppress(ZooError, LookupError):  # a grid also shows what is drawn from nothing, where a room can do that
            model.samples(dict.fromkeys(("source", "target", "image"), picture))
    finally:
        for hook in hooks:
            hook.remove()
    if not translated:
        raise ZooError(f"{type(model).__name__} translated nothing, neither by itself nor with an exemplar or a style.")
    own = {name for name, _ in [*model.named_buffers(recurse=False), *model.named_parameters(recurse=False)]}
    return called | own


def last_figures(metrics: Path) -> dict[str, float]:
    """What the last validation of a run measured; empty where there was none."""
    if not metrics.is_file():
        return {}
    with metrics.open(newline="", encoding="utf-8") as file:
        rows = [
            {name: float(value) for name, value in row.items() if name and name.startswith("val/") and value}
            for row in csv.DictReader(file)
        ]
    return next((row for row in reversed(rows) if row), {})


def recipe_of(record: dict[str, Any]) -> str:
    """The configuration files and options of a run, as one types them, without the places of the machine that ran it."""
    words = [str(word) for word in record.get("command") or []]
    return shlex.join(["lightning", *(_shown(word) for word in words[1:])]) if words else "unknown"


def _shown(word: str) -> str:
    """A word of a command line without the machine's folders: `zoo/cyclegan.yaml`, whatever that lay in."""
    option, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
    path = Path(value)
    if path.suffix == ".yaml":
        for top in ("_configs", "configs", "zoo"):
            if top in path.parts:
                at = len(path.parts) - 1 - path.parts[::-1].index(top)
                value = Path("zoo" if top == "zoo" else "configs", *path.parts[at + 1 :]).as_posix()
                break
        else:
            value = path.name
    elif path.is_absolute():
        value = path.name
    return f"{option}{equals}{value}"


def _owner(key: str) -> str:
    """The network that a module or an entry belongs to."""
    parts = key.split(".")
    return ".".join(parts[:2]) if parts[0] == "ema" else parts[0]


def _ways(model: Translator) -> list[dict[str, Tensor]]:
    """Ways to translate: as it is, after an exemplar, and in a random style, where the model knows these."""
    known = inspect.signature(type(model).translate).parameters
    ways: list[dict[str, Tensor]] = [{}]
    if "reference" in known:
        ways.append({"reference": _pictures(model)[0]})
    channels = getattr(model, "latent_channels", None)
    if "latent" in known and channels and bool(getattr(model, "sampler_fitted", True)):
        ways.append({"latent": torch.zeros(2, channels)})
    return ways


def _translates(model: Translator, picture: Tensor, to: str, options: dict[str, Tensor]) -> bool:
    try:
        model.translate(picture, to=to, **options)
    except ZooError:  # a direction, a way, or a kind of pictures that this model has not
        return False
    return True


def _pictures(model: Translator) -> list[Tensor]:
    """Pairs of pictures that a model may take, `2 c h w`: in colour first, and of the smallest size last, which digits have alone."""
    sides = [max(getattr(model, "image_size", 0) or 64, model.smallest_size), model.smallest_size]
    sides = [side + -side % model.size_multiple for side in sides]
    return [torch.linspace(-1, 1, side).expand(2, c, side, side) for side, c in product(dict.fromkeys(sides), (3, 1))]


def _record(checkpoint: Path) -> dict[str, Any]:
    file = Run(checkpoint.resolve().parent.parent).record
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _plain_settings(settings: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(settings)
    except TypeError as error:
        raise ZooError(f"The settings of this model are no plain values: {error}") from error
    return settings


def main(arguments: list[str] | None = None) -> int:
    """Run the command; words of the process by default.

    Returns:
        0, or 2 if a person has something to mend.
    """
    parser = argparse.ArgumentParser(prog="python -m zoo.weights.ship", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="a run's folder, or a checkpoint of one")
    parser.add_argument("name", help="what the weights will be called, such as cyclegan-scenes")
    parser.add_argument("--output", type=Path, help="the folder to write to; by default the package's own")
    parser.add_argument("--licence", default="MIT", help="what their use is bound to")
    parser.add_argument("--description", default="", help="what it is, in one line")
    parser.add_argument("--half", action="store_true", help="keep numbers in 16 bits")
    options = parser.parse_args(arguments)
    try:
        written = ship(
            options.run,
            options.name,
            options.output,
            licence=options.licence,
            description=options.description,
            half=options.half,
        )
    except ZooError as error:
        print(f"ship: {error}", file=sys.stderr)
        return 2
    print(f"{written.path}: {written.description}, {written.size:,} bytes, {json.dumps(dict(written.figures))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
