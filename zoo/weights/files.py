"""Reading files of weights, of official codes and our own: tensors and plain values alone, and plain words where it fails."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from zoo.core.checkpoints import read_checkpoint
from zoo.errors import ZooError

DATA_PARALLEL = "module."  # what DataParallel puts before every key


def read_file(path: Path, *, safetensors: bool = True) -> dict[str, Any]:
    """Read a file of PyTorch, or a safetensors file where such are welcome; nothing is unpickled.

    Raises:
        ZooError: the file is missing or cut off, or something else: a web page, an object that could run code.
    """
    if path.is_file():
        with path.open("rb") as file:
            start = file.read(16)
        if start.lstrip().startswith(b"<"):
            raise ZooError(
                f"{path} is a web page, not weights: its download went wrong. Delete it, and download it again."
            )
        if start[8:9] == b"{":
            if not safetensors:
                raise ZooError(f"{path} is a safetensors file; expected was a PyTorch file (.pth, .pt).")
            try:
                return dict(load_file(path))
            except SafetensorError as error:
                raise ZooError(
                    f"{path} is not a whole safetensors file ({error}). Make or download it again."
                ) from error
        if not start.startswith((b"PK", b"\x80")):
            raise ZooError(f"{path} is no PyTorch file: it begins with {start!r}.")
    return read_checkpoint(path)


def state_of(content: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """The state dict that a content is, without what DataParallel puts before its keys; None for anything else."""
    if not content or not all(isinstance(value, Tensor) for value in content.values()):
        return None
    wrapped = all(key.startswith(DATA_PARALLEL) for key in content)
    return {key.removeprefix(DATA_PARALLEL) if wrapped else key: value for key, value in content.items()}


def some_names(content: Mapping[str, object]) -> str:
    """The first few names of a content, in words."""
    names = [str(key) for key in content]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") or "nothing"


def first_difference(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> str:
    """The first entry by name in which the shapes of two state dicts differ, as a sentence; empty where none does.

    Args:
        theirs: of a file.
        ours: of the model that it is meant for.
    """
    for key in sorted({**theirs, **ours}):
        shapes = [str(tuple(state[key].shape)) if key in state else "not there" for state in (theirs, ours)]
        if shapes[0] != shapes[1]:
            return f"{key} is {shapes[0]} in the file and {shapes[1]} in the model."
    return ""
