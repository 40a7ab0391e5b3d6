"""Checkpoints that are written whole or not at all, and read without unpickling."""

from __future__ import annotations

import pickle
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from zoo import registry
from zoo.core import sync
from zoo.core.files import write_atomically
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.core.translator import Translator


class Stateful(Protocol):
    """Something whose state a checkpoint keeps: tensors and plain values only."""

    def state_dict(self) -> dict[str, Any]: ...  # noqa: D102

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...  # noqa: D102


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes through a temporary file that is flushed to disk and renamed; reads tensors and plain values only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint atomically."""
        write_atomically(Path(path), lambda file: torch.save(checkpoint, file))

    def load_checkpoint(  # noqa: D102 - see read_checkpoint
        self,
        path: str | Path,
        map_location: Any | None = lambda storage, _: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        return read_checkpoint(Path(path), map_location)


def read_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint file without ever unpickling objects, and only if every checksum in it is right.

    Args:
        path: the file.
        map_location: where tensors go, as `torch.load` takes it.

    Raises:
        ZooError: there is no such file, it is cut off or damaged, or it holds more than tensors and plain values.
    """
    if not path.is_file():
        raise ZooError(
            f"There is no checkpoint at {path}. A run keeps its checkpoints in runs/<recipe>/<name>/checkpoints."
        )
    try:
        _check_sums(path)
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        if not zipfile.is_zipfile(path) and not _begins_as_pickle(path):  # neither of the two formats of torch.save
            raise ZooError(f"{path} is not a checkpoint ({path.stat().st_size} bytes of something else).") from error
        raise ZooError(
            f"{path} holds more than tensors and plain values, so it is not loaded: such a file can run code. If it comes from official "
            "code, extract its state dict there first."
        ) from error
    except Exception as error:  # on damaged files torch raises nearly anything
        told = " ".join(str(error).split())
        raise ZooError(
            f"{path} is not a whole checkpoint (cut off or damaged, {path.stat().st_size} bytes): {told}"
        ) from error
    if not isinstance(checkpoint, dict):
        raise ZooError(f"{path} holds a {type(checkpoint).__name__}, not a checkpoint.")
    return checkpoint


def _check_sums(path: Path) -> None:
    """Compare the checksums of a file of `torch.save`, which `torch.load` does not: a changed bit would be a changed weight."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")


def _begins_as_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) == b"\x80"


def room_entry(translator: Translator, frozen: Iterable[str], per_rank: Mapping[str, Stateful]) -> dict[str, Any]:
    """What a checkpoint says of a room under `zoo`: its name, where it stands, and what each rank holds; every rank has to ask."""
    return {
        "room": _registered_name(type(translator)),
        "iteration": translator.trainer.global_step,
        "stage": translator.stage,
        "frozen": sorted(frozen),
        "seed": translator.draws.seed,
        "ranks": sync.gather_plain({name: state.state_dict() for name, state in per_rank.items()}),
    }


def take_rank_part(ranks: Sequence[Mapping[str, Any]], per_rank: Mapping[str, Stateful]) -> None:
    """Give this rank what it held when the checkpoint was written; at another number of ranks nothing, and say so."""
    if len(ranks) == sync.world_size():
        for name, state in per_rank.items():
            if name in ranks[sync.rank()]:
                state.load_state_dict(ranks[sync.rank()][name])
    elif ranks and per_rank and sync.rank() == 0:
        change = f"This checkpoint was written by {len(ranks)} processes and {sync.world_size()} go on"
        print(f"lightning: {change}: {', '.join(per_rank)} start empty.", file=sys.stderr)


def _registered_name(room: type) -> str | None:
    try:
        return registry.room_name(room)
    except ZooError:  # a subclass in somebody's script trains and resumes, but only registered rooms load by name
        return None
