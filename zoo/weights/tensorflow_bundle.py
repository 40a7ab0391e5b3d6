"""Reads checkpoints of TensorFlow's Saver (`NAME.index` and `NAME.data-00000-of-00001`) without TensorFlow.

The index is a sorted table in LevelDB's format: blocks of entries whose keys share their beginnings, a block of the blocks' places,
and a footer. Its values are protocol buffers that say where in the data file each variable lies. Nothing but numbers is
read, and whatever is read is checked: bounds, magic number, and the CRC-32C of every block and variable.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zoo.errors import ZooError

FOOTER, MAGIC = 48, 0xDB4775248B80FB57
TRAILER = 5  # behind each block: how it is compressed, and a checksum
FLOAT = 1  # TensorFlow's number of float32, the type of all weights


@dataclass(frozen=True)
class Variable:
    """Where a variable lies.

    Attributes:
        plain: whether it is of float32 and lies in the first data file, in one piece.
        shape: its sides.
        offset: of its first byte in the data file.
        size: in bytes.
        checksum: of these bytes, masked as TensorFlow does it.
    """

    plain: bool
    shape: tuple[int, ...]
    offset: int
    size: int
    checksum: int


def checkpoint_prefix(path: Path) -> Path:
    """The name that the files of a checkpoint share: any of them may be given, or that name itself."""
    suffixes = (".index", ".meta")
    return path.with_suffix("") if path.suffix in suffixes or path.suffix.startswith(".data-") else path


def read_index(path: Path) -> dict[str, Variable]:
    """List the variables of a checkpoint.

    Args:
        path: any of its files, or the name that they share.

    Raises:
        ZooError: there is no index, or it is damaged or of another format; says what was found.
    """
    index = _file(checkpoint_prefix(path), ".index")
    content = index.read_bytes()
    try:
        return {name.decode(): _variable(value) for name, value in _table(content) if name}
    except (ValueError, IndexError, struct.error) as error:
        raise ZooError(
            f"{index} is not a whole index of a TensorFlow checkpoint ({len(content):,} bytes): {error}"
        ) from error


def read_variable(path: Path, name: str, variable: Variable) -> Tensor:
    """Read a variable and compare its checksum (about a second for 10 MB).

    Args:
        path: as for `read_index`.
        name: of the variable, for messages.
        variable: from `read_index`.

    Raises:
        ZooError: it is not in the file as the index says, is damaged, or is no plain float32.
    """
    data = _file(checkpoint_prefix(path), ".data-00000-of-00001")
    if not variable.plain:
        raise ZooError(
            f"{name} in {data} is not float32 in one piece, and nothing else is read here. Export it to npz."
        )
    with data.open("rb") as file:
        file.seek(variable.offset)
        content = file.read(variable.size)
    if not len(content) == variable.size == 4 * prod(variable.shape):
        raise ZooError(f"{data} is cut off, or not of this index: {name} should have {variable.size:,} bytes in it.")
    if _masked(crc32c(content)) != variable.checksum:
        raise ZooError(f"{data} is damaged: the checksum of {name} is not that of the index. Download it again.")
    return torch.from_numpy(np.frombuffer(content, "<f4").reshape(variable.shape).copy())


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of some bytes."""
    table, checksum = _crc_table(), 0xFFFFFFFF
    for byte in data:
        checksum = table[(checksum ^ byte) & 0xFF] ^ (checksum >> 8)
    return checksum ^ 0xFFFFFFFF


@cache
def _crc_table() -> list[int]:
    table = list(range(256))
    for _ in range(8):
        table = [value >> 1 ^ 0x82F63B78 * (value & 1) for value in table]
    return table


def _masked(checksum: int) -> int:
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _file(prefix: Path, ending: str) -> Path:
    path = prefix.with_name(prefix.name + ending)
    if not path.is_file():
        raise ZooError(f"There is no {path}. A TensorFlow checkpoint is NAME.index and NAME.data-00000-of-00001.")
    return path


def _table(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a sorted table."""
    footer = content[-FOOTER:]
    if len(footer) < FOOTER or struct.unpack("<Q", footer[-8:])[0] != MAGIC:
        raise ValueError("it does not end as one")
    place = 0
    handles = []
    for _ in range(4):  # offset and size of the meta index and of the index
        number, place = _varint(footer, place)
        handles.append(number)
    for _, handle in _entries(_block(content, handles[2], handles[3])):
        offset, place = _varint(handle, 0)
        yield from _entries(_block(content, offset, _varint(handle, place)[0]))


def _block(content: bytes, offset: int, size: int) -> bytes:
    whole = content[offset : offset + size + TRAILER]
    if len(whole) < size + TRAILER:
        raise ValueError(f"a block of {size} bytes at {offset} reaches over its end")
    if whole[size]:
        raise ValueError("its blocks are compressed, which TensorFlow's Saver never did")
    if struct.unpack("<I", whole[size + 1 :])[0] != _masked(crc32c(whole[: size + 1])):
        raise ValueError(f"the checksum of the block at {offset} is wrong")
    return whole[:size]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block; each key begins like the one before."""
    end = len(block) - 4 - 4 * struct.unpack("<I", block[-4:])[0]
    place, key = 0, b""
    while place < end:
        shared, place = _varint(block, place)
        added, place = _varint(block, place)
        length, place = _varint(block, place)
        key = key[:shared] + block[place : place + added]
        place += added + length
        yield key, block[place - length : place]


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A number of 7 bits a byte, lowest first, and the place behind it."""
    number = shift = 0
    while True:
        byte = data[place]
        number |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return number, place


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of a protocol buffer's fields: whole numbers, or bytes."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        if tag & 7 == 0:
            value: int | bytes
            value, place = _varint(message, place)
        elif tag & 7 in (1, 5):
            size = 8 if tag & 7 == 1 else 4
            value, place = int.from_bytes(message[place : place + size], "little"), place + size
        elif tag & 7 == 2:
            size, place = _varint(message, place)
            value, place = message[place : place + size], place + size
        else:
            raise ValueError(f"a field is of the unknown kind {tag & 7}")
        yield tag >> 3, value


def _variable(message: bytes) -> Variable:
    """A `BundleEntryProto`: 1 type, 2 shape, 3 number of the file, 4 offset, 5 size, 6 checksum, 7 pieces."""
    numbers: dict[int, int] = {}
    shape: list[int] = []
    pieces = False
    for field, value in _fields(message):
        if isinstance(value, int):
            numbers[field] = value
        elif field == 2:
            sides = [side for number, side in _fields(value) if number == 2 and isinstance(side, bytes)]
            shape = [next((n for k, n in _fields(side) if k == 1 and isinstance(n, int)), 0) for side in sides]
        elif field == 7:
            pieces = True
    kind, file, offset, size, checksum = (numbers.get(field, 0) for field in (1, 3, 4, 5, 6))
    return Variable(kind == FLOAT and file == 0 and not pieces, tuple(shape), offset, size, checksum)
