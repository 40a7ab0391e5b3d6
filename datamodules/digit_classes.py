"""Digits of one set with their classes: what autoencoders of digits learn from, and what their features are tried on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.base import FixedSamples, FixedStage, ImageDataModule
from datamodules.digit_files import (
    DigitSetName,
    LabelledDigits,
    Split,
    fetch_digits,
    known_set,
    lacking_digits,
    read_digits,
)
from datamodules.digits import DigitTransform, Interpolation
from datamodules.errors import DataError
from datamodules.sampling import Sample, epoch_order, shuffled_index

Part = Literal["train", "same_writers", "test"]


class ClassDigits(ImageDataModule):
    """Digits of one set: batches of `image`, and of `label` outside the training, int64 `b` from 0 to 9.

    Of the training digits some are held out, which the same people wrote; the test digits are other people's.

    Args:
        source: the set.
        root: folder of its files, see `datamodules.digit_files`.
        download: let torchvision fetch what is missing into `root`.
        size: side of the pictures in pixels; others are resized.
        channels: 1 for grey, 3 for RGB; null for the set's own.
        interpolation: of the resize.
        batch_size: digits per process and iteration.
        workers: loader processes; 0 loads in the training process.
        seed: of the order and of the held out digits.
        held_out: training digits that nothing trains on, drawn once from the seed; 10,000 of MNIST's 60,000 in the paper.
        validation_count: the first so many of them are looked at in validation.

    Raises:
        DataError: an argument cannot be right; `setup` raises it for files.
    """

    def __init__(
        self,
        *,
        source: DigitSetName = "mnist",
        root: str = "data/digits",
        download: bool = False,
        size: int = 28,
        channels: int | None = None,
        interpolation: Interpolation = "bilinear",
        batch_size: int = 128,
        workers: int = 0,
        seed: int = 0,
        held_out: int = 10_000,
        validation_count: int = 1000,
    ) -> None:
        super().__init__(size=size, batch_size=batch_size, workers=workers, seed=seed)
        if channels not in {None, 1, 3}:
            raise DataError(f"channels is {channels}; it must be 1 (grey), 3 (RGB) or null (the set's own).")
        if interpolation not in get_args(Interpolation):
            raise DataError(f"interpolation is {interpolation!r}; it must be 'nearest', 'bilinear' or 'bicubic'.")
        if held_out < 1 or validation_count < 1:
            raise DataError(
                f"held_out is {held_out} and validation_count {validation_count}; both must be at least 1: --data.held_out 1000"
            )
        self.source = source
        self.root = Path(root).expanduser().absolute()
        self.download = download
        self.transform = DigitTransform(size, channels or known_set(source, "source").channels, interpolation)
        self.held_out, self.validation_count = held_out, validation_count
        self._digits: dict[Split, LabelledDigits] = {}

    @classmethod
    def missing(cls, settings: Mapping[str, Any]) -> list[str]:
        """A sentence for the set's digits, if they are not here and will not be fetched."""
        if settings.get("download"):
            return []
        root = Path(settings.get("root", "data/digits")).expanduser().absolute()
        line = lacking_digits(settings.get("source", "mnist"), "source", root, "train")
        return [line] if line else []

    def prepare_data(self) -> None:
        """Fetch what is missing, where that is wanted.

        Raises:
            DataError: a download failed, or nobody offers the set.
        """
        if self.download:
            for split in get_args(Split):
                fetch_digits(self.source, "source", self.root, split)

    def setup(self, stage: str | None = None) -> None:
        """Read the digits of a stage; None stands for `fit`.

        Raises:
            DataError: files are missing or hold something else, or all digits would be held out.
        """
        if self.trainer is None:
            self.prepare_data()
        for split in ("train", "test") if stage in {"test", "predict"} else ("train",):
            self._read(split)

    def _read(self, split: Split) -> None:
        if split in self._digits:
            return
        found = read_digits(self.source, "source", self.root, split)
        if split == "train" and self.held_out >= len(found.labels):
            raise DataError(
                f"source: {found.file} has {len(found.labels)} training digits, and {self.held_out} are to be held out: "
                f"--data.held_out {max(1, len(found.labels) // 6)}"
            )
        self._digits[split] = found

    def _rows(self, part: Part) -> tuple[LabelledDigits, NDArray[np.int64]]:
        """The digits of a part's split, and which of them belong to it."""
        split: Split = "test" if part == "test" else "train"
        self._read(split)
        found = self._digits[split]
        count = len(found.labels)
        if part == "test":
            return found, np.arange(count)
        order = epoch_order(self.seed, 0, count, "held out")
        return found, np.sort(order[: self.held_out] if part == "same_writers" else order[self.held_out :])

    def labelled(self, part: Part, count: int | None = None) -> tuple[Tensor, Tensor]:
        """Digits of a part with their classes, as they are in training; read when they are first asked for.

        Args:
            part: `train`, `same_writers` (held out from the training digits) or `test`.
            count: the first so many; None for all.

        Returns:
            uint8 n c h w; int64 n.
        """
        found, rows = self._rows(part)
        rows = rows[:count]
        images = torch.stack([self.transform(found.images[row]) for row in rows])
        return images, torch.from_numpy(found.labels[rows])

    def train_samples(self) -> Callable[[int], Sample]:
        """The endless training samples, without classes."""
        found, rows = self._rows("train")
        return ShuffledDigits(found.images, rows, self.transform, self.seed)

    def fixed_samples(self, stage: FixedStage) -> FixedSamples:
        """Held out digits for validation, the test digits otherwise, with their classes."""
        found, rows = self._rows("same_writers" if stage == "validation" else "test")
        if stage == "validation":
            rows = rows[: self.validation_count]
        return FixedClassDigits(found, rows, self.transform)

    @property
    def epoch_length(self) -> int:
        """All digits that are trained on."""
        return len(self._rows("train")[1])

    def describe(self) -> dict[str, str | int]:
        """Digits of each part, and how they are prepared."""
        found, rows = self._rows("train")
        return {
            "digits": f"{len(rows)} of {self.source} ({found.file})",
            "held out, same writers": self.held_out,
            "prepared": f"{self.size}x{self.size}, {self.transform.channels} channels",
        }

    def fingerprint(self) -> str:
        """A hash of all digits that were read, of which of them are trained on, and of how they are prepared."""
        digest = blake2b(repr(self.transform).encode(), digest_size=16)
        for split, found in sorted(self._digits.items()):
            digest.update(f"\0{split} {self.source} {found.images.shape}".encode() + found.labels.tobytes())
            digest.update(np.ascontiguousarray(found.images).tobytes())
        digest.update(f"\0{self.held_out} {self.seed}".encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class ShuffledDigits:
    """Training samples: a fresh order of all digits every epoch."""

    images: NDArray[np.uint8]
    rows: NDArray[np.int64]
    transform: DigitTransform
    seed: int

    def __call__(self, i: int) -> Sample:
        """Sample `i`."""
        row = self.rows[shuffled_index(self.seed, i, len(self.rows), "image")]
        return {"image": self.transform(self.images[row])}


@dataclass(frozen=True)
class FixedClassDigits:
    """Digits in order, with their classes."""

    digits: LabelledDigits
    rows: NDArray[np.int64]
    transform: DigitTransform

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Sample:
        if not 0 <= i < len(self):
            raise IndexError(f"digit {i} of {len(self)}")
        row = self.rows[i]
        return {"image": self.transform(self.digits.images[row]), "label": int(self.digits.labels[row])}
