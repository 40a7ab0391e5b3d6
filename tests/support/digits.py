"""Tiny sets of digits in every layout that is published: NumPy archives, MNIST's IDX files, USPS of LIBSVM, SVHN of MATLAB."""

from __future__ import annotations

import bz2
import hashlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Arrays = dict[str, NDArray[Any]]

FIRST_VALUE = {"mnist": 10, "usps": 120, "svhn": 10, "svhn_extra": 10, "mnist_m": 60}


def coded(name: str, train: int = 12, test: int = 5, side: int = 16) -> Arrays:
    """A set whose pictures are of one grey each: `FIRST_VALUE` and on, the test's after the training's. Labels count up to 9."""
    values = FIRST_VALUE[name] + np.arange(train + test)
    shape = (train + test, side, side) + ((3,) if name not in {"mnist", "usps"} else ())
    images = np.broadcast_to(values.reshape(-1, *[1] * (len(shape) - 1)), shape).astype(np.uint8)
    labels = np.arange(train + test) % 10
    return {
        "train_images": images[:train],
        "train_labels": labels[:train],
        "test_images": images[train:],
        "test_labels": labels[train:],
    }


def noise(train: int = 6, test: int = 3, shape: tuple[int, ...] = (28, 28), seed: int = 0) -> Arrays:
    """A set of noise."""
    numbers = np.random.default_rng(seed)
    return {
        "train_images": numbers.integers(0, 256, (train, *shape), np.uint8),
        "train_labels": numbers.integers(0, 10, train),
        "test_images": numbers.integers(0, 256, (test, *shape), np.uint8),
        "test_labels": numbers.integers(0, 10, test),
    }


def printed(train: int = 200, test: int = 80, side: int = 16, seed: int = 0, *, inverted: bool = False) -> Arrays:
    """A set of printed digits that a small network learns in seconds: moved about a little, light on dark or the other way round."""
    numbers = np.random.default_rng(seed)
    font = ImageFont.load_default(size=side * 0.9)
    labels = numbers.integers(0, 10, train + test)
    images = np.empty((train + test, side, side), np.uint8)
    for picture, label in zip(images, labels, strict=True):
        canvas = Image.new("L", (side, side))
        at = side / 2 + numbers.uniform(-1.5, 1.5, 2)
        ImageDraw.Draw(canvas).text(tuple(at), str(label), fill=int(numbers.integers(180, 256)), font=font, anchor="mm")
        picture[:] = canvas
    if inverted:
        images = 255 - images
    return {
        "train_images": images[:train],
        "train_labels": labels[:train],
        "test_images": images[train:],
        "test_labels": labels[train:],
    }


def write_npz(root: Path, name: str, arrays: Arrays) -> Path:
    """One archive per set."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"{name}.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def write_mnist(root: Path, arrays: Arrays) -> None:
    """MNIST's four IDX files, unpacked where torchvision unpacks them."""
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        header = struct.pack(">IIII", 0x0803, *images.shape)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = struct.pack(">II", 0x0801, len(labels))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(header + labels.astype(np.uint8).tobytes())


def write_usps(root: Path, arrays: Arrays) -> None:
    """LIBSVM's two files of 16x16 digits: a label from 1 to 10, then 256 numbered values in [-1, 1]."""
    root.mkdir(parents=True, exist_ok=True)
    for split, name in (("train", "usps.bz2"), ("test", "usps.t.bz2")):
        lines = []
        for image, label in zip(arrays[f"{split}_images"], arrays[f"{split}_labels"], strict=True):
            # torchvision cuts fractions off: the middle of a grey level gives that level.
            values = (np.minimum(image.astype(np.float64) + 0.5, 255) / 255 * 2 - 1).flatten()
            lines.append(f"{label + 1} " + " ".join(f"{i}:{value:.6f}" for i, value in enumerate(values, 1)))
        (root / name).write_bytes(bz2.compress("\n".join(lines).encode() + b"\n"))


def write_svhn(root: Path, arrays: Arrays, monkeypatch: pytest.MonkeyPatch, training: str = "train") -> None:
    """SVHN's MATLAB files, `32 32 3 n`, whose zeros are called 10; torchvision is told their checksums in place of the published."""
    io = pytest.importorskip("scipy.io", reason="torchvision reads SVHN by SciPy, which is not here")
    from torchvision.datasets import SVHN

    root.mkdir(parents=True, exist_ok=True)
    known = dict(SVHN.split_list)
    for split, name in (("train", training), ("test", "test")):
        labels = arrays[f"{split}_labels"].astype(np.uint8)
        url, file, _ = known[name]
        pixels = arrays[f"{split}_images"].transpose(1, 2, 3, 0)
        io.savemat(root / file, {"X": pixels, "y": np.where(labels == 0, 10, labels)[:, None].astype(np.uint8)})
        known[name] = [url, file, hashlib.md5((root / file).read_bytes()).hexdigest()]
    monkeypatch.setattr(SVHN, "split_list", known)
