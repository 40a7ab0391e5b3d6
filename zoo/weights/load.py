"""From a name or a file to a model: `zoo.load("gpunit_cat2dog")`, `zoo.load("gpunit", "runs/gpunit/first")`.

A name is one of our own shipped weights or of the published ones; a path is a run, a checkpoint, a shipped file or an official file,
which is recognised by its keys and converted. The class comes from our registry, every key has to fit, and nothing is unpickled.
"""

from __future__ import annotations

import inspect
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from zoo.core.checkpoints import read_checkpoint
from zoo.core.exported import FACTS, give_facts, is_exported, read_exported
from zoo.core.files import lock_file
from zoo.core.loading import find_checkpoint, load_translator
from zoo.core.translator import Translator
from zoo.errors import ZooError
from zoo.registry import room_class, room_name, rooms
from zoo.weights import cyclegan, preflight
from zoo.weights.catalogue import WeightFile, find_entry, plain, read_catalogue
from zoo.weights.fetch import fetch
from zoo.weights.official import Content, Layout, describe, is_tensorflow, layout_called, read_content, recognise
from zoo.weights.shipped import Shipped, find_shipped, is_ours, names_near, read_shipped, shipped
from zoo.weights.unpack import unpack

Say = Callable[[str], object]


def load(name: str | Path, path: str | Path | None = None, **arguments: Any) -> Translator:
    """Build a model with its weights, in eval mode on the CPU.

    Args:
        name: shipped or published weights (`gpunit_cat2dog`, spelled with `_` or `-`); or the place of a run, a checkpoint or a file of
            weights; or, with `path`, the room (`gpunit`).
        path: the place of the room's weights.
        **arguments: constructor arguments of the room, for official files, where those that the file speaks of do not do.

    Raises:
        ZooError: there is no such name or file; the file is damaged, or of another model: says what it looks like, and which name fits.
    """
    if path is not None:
        return _from_place(Path(path).expanduser(), _room(str(name)), arguments)
    place = Path(name).expanduser()
    if place.exists() or _looks_like_a_path(str(name)):
        return _from_place(place, None, arguments)
    if (found := find_shipped(str(name))) is not None:
        _refuse_arguments(arguments, found.path)
        return _from_shipped(_whole(found))
    entry = _entry(str(name))
    return _from_place(fetch(entry.name), entry.room, {**entry.arguments, **arguments}, entry)


def initialise(model: nn.Module, source: str | Path) -> list[str]:
    """Start a model from weights instead of chance: those networks that the source has, each strictly; the others stay as they are.

    What is trained alone (discriminators, optimisers, schedules) begins anew unless the source is a checkpoint of our own, which
    brings its discriminators, too.

    Args:
        model: a room's model, built as its recipe says.
        source: what `load` takes: a name, a run, a checkpoint, or a file.

    Returns:
        The networks that begin anew.

    Raises:
        ZooError: see `load`; or the sizes differ: says which options to type.
    """
    room = _room_of(model)
    place, entry = Path(source).expanduser(), None
    if not place.exists():
        found = None if _looks_like_a_path(str(source)) else find_shipped(str(source))
        if found is not None:
            place = _whole(found).path
        elif not _looks_like_a_path(str(source)):
            entry = _entry(str(source))
            _same_room(entry.room, room, entry.name)
            place = fetch(entry.name)
    if place.is_dir() and any(place.glob("*_net_G_A.pth")):
        _same_room("cyclegan", room, str(place))
        cyclegan.load_model(model, place, say=_say)
        return []
    if is_ours(place):
        kept = read_shipped(place)
        _same_room(kept.room, room, str(place))
        return _without_a_sampler(model, _fill(model, _weights_of(_read_file(place)), str(place)))
    if is_exported(place):
        exported = read_exported(place)
        _same_room(_room_of(exported), room, str(place))
        return _without_a_sampler(model, _fill(model, exported.state_dict(), str(place)))
    place = _inside(place) if is_tensorflow(place) else _inside(find_checkpoint(place))
    content = read_content(place)
    if isinstance(theirs := content.get("zoo"), Mapping) and "state_dict" in content:
        _same_room(str(theirs.get("room")), room, str(place))
        return _without_a_sampler(model, _fill(model, content["state_dict"], str(place)))
    layout = _layout(content, place, room, entry)
    assert layout.load is not None
    layout.load(model, place, _say)
    holds = {*layout.holds, "ema"}
    fresh = [name for name, network in model.named_children() if name not in holds and list(network.parameters())]
    return _without_a_sampler(model, fresh)


def missing_source(source: str, option: str) -> list[str]:
    """Say what stands in the way of `load` and `initialise`; an empty list means that all is here, or can be downloaded.

    Args:
        source: what they take.
        option: what a person types to say so, such as `--init_from`.

    Returns:
        Sentences, each with what to type.
    """
    if Path(source).expanduser().exists():
        return []
    if preflight.is_name(source):
        if find_shipped(source) is not None:
            return []
        known = {plain(name): name for name in read_catalogue()}
        source = known.get(plain(source), source)
        if source not in known.values():
            return [f"{option} {source}: {_no_name(source)}"]
    return preflight.missing_weights(source, option)


def names_of(room: str) -> list[str]:
    """The names that a room's weights can be had by: shipped ones first."""
    ours = [name for name, found in shipped().items() if found.room == room]
    return ours + [entry.name for entry in read_catalogue().values() if entry.room == room]


# Names ---------------------------------------------------------------------------------------------------------------


def _looks_like_a_path(name: str) -> bool:
    return not preflight.is_name(name)


def _room(name: str) -> str:
    known = rooms()
    if plain(name) in known:
        return plain(name)
    raise ZooError(f"There is no room named {name!r}.{names_near(name, known)} Rooms: {', '.join(sorted(known))}.")


def _room_of(model: nn.Module) -> str:
    return room_name(type(model))


def _entry(name: str) -> WeightFile:
    catalogue = read_catalogue()
    if plain(name) not in {plain(known) for known in catalogue}:
        raise ZooError(_no_name(name))
    entry = find_entry(name, catalogue)
    if not entry.room:
        part = layout_called(entry.converter).advice if entry.converter else ""
        raise ZooError(
            f"{entry.name} is no model of a room, but a part that rooms use: {entry.description}. {part}".rstrip()
        )
    return entry


def _no_name(name: str) -> str:
    if plain(name) in rooms():
        room = plain(name)
        found = names_of(room)
        there = f"There are {', '.join(found)}; or" if found else "None are shipped or published;"
        return f"{name} is a room; say which weights of it. {there} give a run or a file: zoo.load({room!r}, PATH)"
    known = {**shipped(), **{entry: None for entry, each in read_catalogue().items() if each.room}}
    return (
        f"There are no weights, no run and no file called {name!r}.{names_near(name, known)} "
        "What there is: lightning list --weights"
    )


def _whole(found: Shipped) -> Shipped:
    if not found.room:
        raise ZooError(f"{found.name} is no whole model, but {found.description}.")
    return found


def _same_room(theirs: str, ours: str, origin: str) -> None:
    if theirs != ours:
        names = names_of(ours)
        fits = f" Names that fit: {', '.join(names[:6])}." if names else ""
        raise ZooError(f"{origin} holds weights of {theirs}, and was asked for as {ours}.{fits}")


# Places --------------------------------------------------------------------------------------------------------------


def _from_place(
    place: Path, room: str | None, arguments: Mapping[str, Any], entry: WeightFile | None = None
) -> Translator:
    if place.is_dir() and any(place.glob("*_net_G_A.pth")):
        return _from_cyclegan_folder(place, room, arguments)
    if is_ours(place):
        kept = read_shipped(place)
        _same_room(kept.room, room or kept.room, str(place))
        _refuse_arguments(arguments, place)
        return _from_shipped(kept)
    if is_exported(place):
        model = read_exported(place)
        _same_room(_room_of(model), room or _room_of(model), str(place))
        _refuse_arguments(arguments, place)
        return model
    place = _inside(place if is_tensorflow(place) else find_checkpoint(place))
    content = read_content(place)
    kept_of_ours = content.get("zoo")
    if isinstance(kept_of_ours, Mapping) and "state_dict" in content:
        if kept_of_ours.get("room") is not None:
            _same_room(str(kept_of_ours["room"]), room or str(kept_of_ours["room"]), str(place))
        _refuse_arguments(arguments, place)
        return load_translator(place)
    layout = _layout(content, place, room, entry)
    assert layout.settings is not None
    assert layout.load is not None
    model = _build(layout.room, {**layout.settings(place, content), **arguments}, str(place))
    layout.load(model, place, _say)
    if layout.complete is not None:
        layout.complete(model)
    absent = [name for name, network in model.named_children() if name not in (*layout.holds, "ema")]
    return _guarded(model, absent, f"{place.name} is {layout.what}")


def _from_cyclegan_folder(place: Path, room: str | None, arguments: Mapping[str, Any]) -> Translator:
    _same_room("cyclegan", room or "cyclegan", str(place))
    labels = sorted(path.name.removesuffix("_net_G_A.pth") for path in place.glob("*_net_G_A.pth"))
    label = "latest" if "latest" in labels else labels[-1]
    settings: dict[str, Any] = {}
    for part in ("G_A", "D_A"):
        if (file := place / f"{label}_net_{part}.pth").is_file():
            settings |= cyclegan.settings_of(cyclegan.read_state(file))
    model = _build("cyclegan", {**settings, **arguments}, str(place))
    cyclegan.load_model(model, place, label, _say)
    return model.eval()


def _layout(content: Content, place: Path, room: str | None, entry: WeightFile | None) -> Layout:
    layout = recognise(content)
    if layout is None or not layout.whole or (room is not None and layout.room != room):
        raise ZooError(_wrong(content, layout, place, room, entry))
    return layout


def _wrong(content: Content, layout: Layout | None, place: Path, room: str | None, entry: WeightFile | None) -> str:
    """What a file is that was taken for something else, and which name fits."""
    if "pytorch-lightning_version" in content and "state_dict" in content:
        return f"{place} is a checkpoint that does not say which room it belongs to: `lightning fit` did not write it."
    said = f"{place} looks like {describe(content)}"
    wanted = f", and {room} was asked for" if room is not None and (layout is None or layout.room != room) else ""
    if layout is not None and layout.whole:
        return f"{said}{wanted}. To load it: zoo.load({layout.room!r}, {str(place)!r})"
    advice = f" {layout.advice}" if layout is not None else ""
    names = names_of(room) if room else []
    fits = f" Names that fit {room}: {', '.join(names[:6])}." if names and entry is None else ""
    return f"{said}{wanted}.{advice}{fits}"


def _inside(place: Path) -> Path:
    """A file, or the one model in an archive of files, which is unpacked beside it."""
    if place.suffix != ".zip" or not zipfile.is_zipfile(place):
        return place
    with zipfile.ZipFile(place) as archive:
        if any(name.endswith("data.pkl") for name in archive.namelist()):
            return place  # a file of PyTorch
    folder = place.with_name(f"{place.name}.unpacked")
    with lock_file(place.with_name(f".{folder.name}.lock"), protects=f"unpacking {place.name}", wait=3600):
        if not folder.is_dir():
            bench = place.with_name(f".{folder.name}.bench")
            _remove(bench)
            unpack(place, bench)
            bench.rename(folder)
    found = sorted([*folder.rglob("G_ema.pth"), *folder.rglob("*.index")])
    if len(found) == 1:
        return found[0]
    some = ", ".join(str(path) for path in (found or sorted(folder.rglob("*")))[:6])
    many = f"{len(found)} models" if found else "no model whose name is known here"
    raise ZooError(f"{place.name} holds {many}: {some}. Say which: zoo.load(ROOM, PATH)")


def _remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    if folder.exists():
        folder.rmdir()


# Models --------------------------------------------------------------------------------------------------------------


def _build(room: str, settings: Mapping[str, Any], origin: str) -> Translator:
    cls = room_class(room)
    known = inspect.signature(cls).parameters
    if unknown := [name for name in settings if name not in known]:
        raise ZooError(
            f"{cls.__name__} has no argument {unknown[0]!r}.{names_near(unknown[0], dict.fromkeys(known))} Its arguments: "
            f"{', '.join(known)}."
        )
    try:
        with torch.random.fork_rng(devices=[]):  # initial weights, soon replaced, leave the streams where they are
            model: Translator = cls(**settings)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ZooError(f"{room} cannot be built as {origin} says: {error}") from error
    return model


def _from_shipped(kept: Shipped) -> Translator:
    model = _build(kept.room, kept.settings, str(kept.path))
    model.on_load_checkpoint({"zoo": {**kept.kept, "ranks": []}})
    tensors = _read_file(kept.path)
    absent = _fill(model, _weights_of(tensors), str(kept.path))
    give_facts(model, kept.facts, tensors)
    return _guarded(model, absent, f"{kept.name} is shipped for inference")


def _weights_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights among what a shipped file holds."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(FACTS)}


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ZooError(f"{path} is not a whole safetensors file ({error}).") from error


def _fill(model: nn.Module, state: Mapping[str, Tensor], origin: str) -> list[str]:
    """Load those networks that a state dict has, each strictly, and moving averages into their networks where these lack.

    Returns:
        The networks that it does not have.
    """
    given = dict(state)
    averaged = {key.split(".")[1] for key in given if key.startswith("ema.")}
    for name in averaged:
        if not any(key.startswith(f"{name}.") for key in given):  # shipped files have what is inferred with alone
            start = f"ema.{name}."
            given |= {key.removeprefix("ema."): value for key, value in given.items() if key.startswith(start)}
    ours = model.state_dict()
    if any(key.startswith("ema.") for key in ours) and not averaged:
        ours_averaged = {key.split(".")[1] for key in ours if key.startswith("ema.")}
        for name in ours_averaged:  # averages start from the weights
            given |= {f"ema.{key}": value for key, value in state.items() if key.startswith(f"{name}.")}
    elif not any(key.startswith("ema.") for key in ours):
        given = {key: value for key, value in given.items() if not key.startswith("ema.")}
    present = {_network(key) for key in given}
    wanted = {key for key in ours if _network(key) in present}
    if wrong := sorted(wanted ^ set(given)):
        what = "lacks" if wrong[0] in wanted else "has"
        raise ZooError(
            f"{origin} does not fit this {type(model).__name__}: it {what} {wrong[0]} ({len(wrong)} entries differ)."
        )
    if other := next((key for key in sorted(given) if given[key].shape != ours[key].shape), None):
        theirs, own = tuple(given[other].shape), tuple(ours[other].shape)
        raise ZooError(
            f"{origin} has other sizes than this {type(model).__name__}: {other} is {theirs}, and here {own}.{_options(model, origin)}"
        )
    model.load_state_dict(given, strict=False)
    return sorted({_network(key).removeprefix("ema.") for key in ours if _network(key) not in present})


def _network(key: str) -> str:
    """The network that an entry belongs to: `generator`, `ema.generator`; for a room's own buffers, the entry."""
    parts = key.split(".")
    return ".".join(parts[:2]) if parts[0] == "ema" else parts[0]


def _options(model: nn.Module, origin: str) -> str:
    """The options that make a model as large as the one that a file of ours was written from."""
    path, ours = Path(origin), dict(getattr(model, "hparams", {}))
    if is_exported(path):
        settings: Mapping[str, Any] = dict(read_exported(path).hparams)
    else:
        settings = read_shipped(path).settings if is_ours(path) else read_checkpoint(path).get("hyper_parameters", {})
    shapes = [name for name, value in settings.items() if name in ours and ours[name] != value]
    sizes = [name for name in shapes if not name.startswith(("lambda_", "learning_", "betas"))]
    flags = " ".join(f"--model.{name} {settings[name]}" for name in sizes[:8])
    return f" It was written with {flags}" if flags else ""


def _guarded(model: Translator, absent: Iterable[str], why: str) -> Translator:
    """Let networks that have no weights refuse to work, instead of giving noise."""
    parts = dict(model.named_modules())

    def guard(name: str) -> Callable[[nn.Module, Any], None]:
        def refuse(network: nn.Module, inputs: Any) -> None:
            raise ZooError(
                f"{why}: it has no weights of {name}, which this needs. Another direction has a file of its own."
            )

        return refuse

    for name in absent:
        for part in (name, f"ema.{name}"):
            for module in parts[part].modules() if part in parts else ():  # a room may call a part of a network alone
                module.register_forward_pre_hook(guard(name))
    return model.eval()


def _without_a_sampler(model: nn.Module, fresh: list[str]) -> list[str]:
    """Forget that a sampler of styles was fitted: the training moves the styles away from it."""
    if isinstance(fitted := getattr(model, "sampler_fitted", None), Tensor):
        fitted.fill_(False)
    return [name for name in fresh if name in dict(model.named_children())]


def _refuse_arguments(arguments: Mapping[str, Any], place: Path) -> None:
    if arguments:
        raise ZooError(f"{place} has settings of its own: leave {', '.join(arguments)} out.")


def _say(sentence: str) -> None:
    print(f"lightning: {sentence}", file=sys.stderr)
