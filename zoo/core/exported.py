"""A model in one safetensors file: weights, and the names and numbers that rebuild it. Nothing in it can run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from zoo import __version__, registry
from zoo.core.files import write_atomically
from zoo.core.translator import Translator
from zoo.errors import ZooError

ENTRY, CHECKSUM = "zoo", "checksum"
FACTS = "facts/"
MISFITS = (AttributeError, LookupError, TypeError, ValueError, RuntimeError, ArithmeticError)
"""What settings and states that a stranger wrote make a room raise."""


def write_exported(model: Translator, path: Path) -> None:
    """Write a model's weights, its room's name, its settings and its stage.

    Raises:
        ZooError: the room is not registered, so that nobody could find its class again.
    """
    entry = {
        "room": registry.room_name(type(model)),
        "settings": dict(model.hparams),
        "stage": model.stage,
        "version": __version__,
    }
    plain, kept = facts_of(model)
    if plain:
        entry["facts"] = plain
    try:
        text = json.dumps(entry)
    except TypeError as error:
        raise ZooError(f"The settings of {entry['room']} are no plain values: {error}") from error
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    tensors |= kept
    write_atomically(path, save(tensors, {ENTRY: text, CHECKSUM: _checksum(text, tensors)}))


def facts_of(model: Translator) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a model needs beside weights and settings, where it says so: plain values, and tensors by `facts/<name>/<key>`.

    A room says so by two methods of its own, `inference_facts` and `take_inference_facts`.
    """
    ask: Any = getattr(model, "inference_facts", dict)  # a room's own: most need nothing else
    facts: dict[str, Any] = ask()
    groups = {name: value for name, value in facts.items() if isinstance(value, Mapping)}
    plain = {name: value for name, value in facts.items() if name not in groups}
    tensors = {f"{FACTS}{name}/{key}": tensor for name, group in groups.items() for key, tensor in group.items()}
    return plain, {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def give_facts(model: Translator, plain: Mapping[str, Any], kept: Mapping[str, Tensor]) -> None:
    """The inverse of `facts_of`; of `kept`, tensors of other names are left alone."""
    facts: dict[str, Any] = dict(plain)
    for name, tensor in kept.items():
        if not name.startswith(FACTS):
            continue
        group, _, key = name.removeprefix(FACTS).partition("/")
        facts.setdefault(group, {})[key] = tensor
    take: Any = getattr(model, "take_inference_facts", None)
    if facts and take is not None:
        take(facts)


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Over everything that rebuilds a model: safetensors files have none of their own, and a changed bit would be a changed weight."""
    found = hashlib.blake2b(text.encode(), digest_size=16)
    for name in sorted(tensors):
        value = tensors[name]
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def is_exported(path: Path) -> bool:
    """Whether a file is one that `write_exported` wrote."""
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return ENTRY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def read_exported(path: Path) -> Translator:
    """Build the model of such a file, in eval mode on the CPU: its class is our registry's, its keys are strict.

    Raises:
        ZooError: the file is damaged, is no such file, or does not fit its room.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            entry: dict[str, Any] = json.loads(metadata.get(ENTRY, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise ZooError(f"{path} is not a whole safetensors file: {error}") from error
    if not isinstance(entry, dict) or "room" not in entry:
        raise ZooError(
            f"{path} does not say which room it belongs to: it was not written by `lightning export --safetensors`."
        )
    # Files of earlier versions have no checksum.
    if CHECKSUM in metadata and metadata[CHECKSUM] != _checksum(metadata[ENTRY], tensors):
        raise ZooError(
            f"{path} is damaged: its checksum is wrong. Write it again with lightning export, or copy it again."
        )
    room = registry.room_class(str(entry["room"]))
    try:
        model = cast(Translator, room(**entry["settings"]))
        model._grow_to(int(entry.get("stage", 0)))
        model.load_state_dict({name: tensor for name, tensor in tensors.items() if not name.startswith(FACTS)})
        give_facts(model, entry.get("facts", {}), tensors)
    except MISFITS as error:
        raise ZooError(f"{path} does not fit {entry['room']}: {' '.join(str(error).split())[:400]}") from error
    return model.eval()
