"""Checkpoints that are whole or not there, and cannot run code."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.core.checkpoints import SafeCheckpointIO, read_checkpoint
from zoo.errors import ZooError


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
        return os.mkdir, (str(self.marker),)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "a.ckpt"
    SafeCheckpointIO().save_checkpoint({"weights": torch.arange(3), "plain": [1, "two", (3.0, None)]}, path)
    assert [file.name for file in path.parent.iterdir()] == ["a.ckpt"]
    read = SafeCheckpointIO().load_checkpoint(path, weights_only=False)  # whatever Lightning asks for
    assert torch.equal(read["weights"], torch.arange(3))
    assert read["plain"] == [1, "two", (3.0, None)]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    SafeCheckpointIO().save_checkpoint({"version": 1}, path)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        SafeCheckpointIO().save_checkpoint({"version": 2, "cannot be saved": lambda: None}, path)
    assert read_checkpoint(path) == {"version": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["a.ckpt"]


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_would_run_code_is_refused_and_does_not(tmp_path: Path, zipped: bool) -> None:
    path, marker = tmp_path / "trap.ckpt", tmp_path / "sprung"
    torch.save({"state_dict": Trap(marker)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ZooError, match="holds more than tensors and plain values"):
        read_checkpoint(path)
    with pytest.raises(ZooError, match="can run code"):
        SafeCheckpointIO().load_checkpoint(path, weights_only=False)
    assert not marker.exists()
    torch.load(path, weights_only=False)  # the trap is a real one
    assert marker.exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is not a whole checkpoint|is not a checkpoint"),
        (b"<!DOCTYPE html><html>not found</html>", "is not a checkpoint .*something else"),
        (b"PK\x03\x04" + bytes(100), "is not a whole checkpoint .*104 bytes"),
    ],
)
def test_a_file_that_is_something_else_is_said_to_be(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "a.ckpt"
    path.write_bytes(content)
    with pytest.raises(ZooError, match=sentence):
        read_checkpoint(path)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("map_location", ["cpu", "meta"])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, share: float, map_location: str) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"weights": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ZooError, match="cut off or damaged"):
        read_checkpoint(path, map_location)


def test_a_missing_file_and_a_bare_tensor_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="There is no checkpoint at"):
        read_checkpoint(tmp_path)
    torch.save(torch.zeros(2), tmp_path / "a.ckpt")
    with pytest.raises(ZooError, match="holds a Tensor, not a checkpoint"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_a_changed_bit_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    """torch.load itself gives other weights without a word."""
    path = tmp_path / "a.ckpt"
    written = {"weights": torch.arange(300.0), "iteration": 4}
    torch.save(written, path)
    whole = path.read_bytes()
    told = silent = 0
    for bit in range(0, 8 * len(whole), 101):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            read = read_checkpoint(path)
        except ZooError:
            told += 1
            continue
        # Bits of names, times and padding in the archive say nothing of the content.
        assert torch.equal(read["weights"], written["weights"])
        assert read["iteration"] == 4
        silent += 1
    assert told > silent
