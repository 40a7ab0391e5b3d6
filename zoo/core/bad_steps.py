"""What an iteration was made of, kept where its numbers went bad: its batch and its draws, in one file per rank."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from zoo.core.draws import Asked, Draws
from zoo.core.files import write_atomically
from zoo.errors import ZooError

FOLDER, ENTRY = "bad_steps", "bad_step"
BATCH, DRAW = "batch/", "draw/"


@dataclass(frozen=True)
class Step:
    """An iteration as it is remembered until its flags have arrived: no copies, and of draws only what makes them again."""

    iteration: int
    batch: object
    draws: Draws
    asked: Sequence[Asked]


@dataclass(frozen=True)
class KeptStep:
    """An iteration as a file gives it back.

    Attributes:
        iteration: its number, from 0.
        seed: of the run.
        rank: of the process that lived it.
        players: whose gradients were not finite.
        batch: tensors by name, as the room got them.
        tape: the draws in their order, each with its name.
    """

    iteration: int
    seed: int
    rank: int
    players: list[str]
    batch: dict[str, Tensor]
    tape: list[tuple[str, Tensor]]


def write_step(folder: Path, step: Step, players: Sequence[str]) -> Path:
    """Write `bad_steps/iteration_<number>_rank_<rank>.safetensors` into a run's folder.

    Args:
        folder: of the run.
        step: the iteration.
        players: whose gradients were not finite.

    Returns:
        The file.

    Raises:
        ZooError: it cannot be written.
    """
    batch = step.batch if isinstance(step.batch, Mapping) else {"": step.batch}
    tensors = {f"{BATCH}{name}": value for name, value in batch.items() if isinstance(value, Tensor)}
    drawn = step.draws.again(step.iteration, step.asked)
    tensors |= {f"{DRAW}{number:06d}/{name}": value for number, (name, value) in enumerate(drawn)}
    entry = {
        "iteration": step.iteration,
        "seed": step.draws.seed,
        "rank": step.draws.rank,
        "players": list(players),
    }
    path = folder / FOLDER / f"iteration_{step.iteration:08d}_rank_{step.draws.rank}.safetensors"
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_atomically(path, save(plain, {ENTRY: json.dumps(entry)}))
    return path


def read_step(path: Path) -> KeptStep:
    """Read what `write_step` wrote.

    Raises:
        ZooError: there is no such file, or it is another one.
    """
    if not path.is_file():
        raise ZooError(
            f"There is no file {path}. A training whose numbers go bad leaves runs/<recipe>/<name>/{FOLDER}/*.safetensors and says so."
        )
    try:
        with safe_open(path, framework="pt") as file:
            entry: dict[str, Any] = json.loads((file.metadata() or {})[ENTRY])
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        batch = {name.removeprefix(BATCH): value for name, value in tensors.items() if name.startswith(BATCH)}
        tape = [(name.split("/", 2)[2], value) for name, value in tensors.items() if name.startswith(DRAW)]
        numbers = {key: int(entry[key]) for key in ("iteration", "seed", "rank")}
        return KeptStep(**numbers, players=[str(player) for player in entry["players"]], batch=batch, tape=tape)
    except (SafetensorError, LookupError, TypeError, ValueError, OSError) as error:
        raise ZooError(
            f"{path} is no file of a bad iteration ({' '.join(str(error).split())[:200] or 'it holds none'})."
        ) from error


def where_not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """A sentence for each tensor that holds NaN or inf."""
    counts = {name: int((~torch.isfinite(value)).sum()) for name, value in tensors.items() if value.is_floating_point()}
    return [f"{name}: {count:,} of {tensors[name].numel():,} values" for name, count in counts.items() if count]
