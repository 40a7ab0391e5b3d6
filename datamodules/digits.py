"""Digits of two sets without pairs, the source's with labels: what unsupervised domain adaptation learns from.

A training batch holds `source`, `target` and `source_label`. Labels of the target are in validation and test batches alone: what makes
training samples does not hold them. UNIT's digit networks learn from such batches (section on domain adaptation), and so does any
room that translates digits, whose translations `zoo.metrics.digits` measures.

The two coordinate channels that UNIT appends on SVHN are not made here. They are no pictures: only its generators get them, its
discriminators and the terms of reconstruction see digits without them, and `translate` is given digits without them, too. They are a
function of the place alone, which the room adds where the paper does.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
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
from datamodules.errors import DataError
from datamodules.sampling import Sample, epoch_order, shuffled_index

Interpolation = Literal["nearest", "bilinear", "bicubic"]
Part = Literal["train", "validation", "test"]

DOMAINS = ("source", "target")

_NOTHING_HELD_OUT = "There are no digits for validation. Type --data.validation_count 1000 to hold some out."

_PIL_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def nearest_indices(length: int, size: int) -> NDArray[np.int64]:
    """Which row of `length` each of `size` rows is taken from: floor(i * length / size), OpenCV's rule.

    PIL's nearest filter looks at the middles of pixels instead and takes other rows.
    """
    return np.arange(size) * length // size


@dataclass(frozen=True)
class DigitTransform:
    """Brings a digit to channels and size.

    Args:
        size: side of the result in pixels.
        channels: 3 for RGB, 1 for grey (PIL's luma), before the resize.
        interpolation: `nearest`, or PIL's `bilinear` or `bicubic`; a picture of that size is left as it is.
    """

    size: int
    channels: int
    interpolation: Interpolation

    def __call__(self, picture: NDArray[np.uint8]) -> Tensor:
        """Prepare uint8 `h w` or `h w 3`: uint8 `c size size`."""
        grey = picture.ndim == 2
        if self.channels == 1 and not grey:
            picture, grey = np.asarray(Image.fromarray(picture).convert("L")), True
        height, width = picture.shape[:2]
        if (height, width) != (self.size, self.size):
            if self.interpolation == "nearest":
                picture = picture[nearest_indices(height, self.size)][:, nearest_indices(width, self.size)]
            else:
                small = Image.fromarray(np.ascontiguousarray(picture))
                picture = np.asarray(small.resize((self.size, self.size), _PIL_FILTERS[self.interpolation]))
        planes = picture[None] if grey else picture.transpose(2, 0, 1)
        return torch.from_numpy(np.repeat(planes, 3, axis=0) if self.channels > len(planes) else planes.copy(order="C"))


@dataclass(frozen=True)
class DigitPictures:
    """Pictures of one domain without labels.

    Attributes:
        images: uint8 n h w, or n h w 3.
        rows: which of them, in order.
        transform: brings them to channels and size.
        inverted_copies: after all of them, all of them once more with every value v as 255 - v.
    """

    images: NDArray[np.uint8]
    rows: NDArray[np.int64]
    transform: DigitTransform
    inverted_copies: bool = False

    def __len__(self) -> int:
        return len(self.rows) * (1 + self.inverted_copies)

    def __getitem__(self, i: int) -> Tensor:
        if not 0 <= i < len(self):
            raise IndexError(f"digit {i} of {len(self)}")
        picture = self.transform(self.images[self.rows[i % len(self.rows)]])
        return picture if i < len(self.rows) else 255 - picture


@dataclass(frozen=True)
class UnpairedDigits:
    """Training samples; both domains walk through fresh orders of all their digits, each on its own, as UNIT's two loaders do.

    The official loaders leave out the last incomplete batch of each epoch; here the next epoch's digits fill it up.
    """

    source: DigitPictures
    source_labels: NDArray[np.int64]
    target: DigitPictures
    seed: int

    def __call__(self, i: int) -> Sample:
        """Sample `i`."""
        source = shuffled_index(self.seed, i, len(self.source), "source")
        target = shuffled_index(self.seed, i, len(self.target), "target")
        return {
            "source": self.source[source],
            "target": self.target[target],
            "source_label": int(self.source_labels[source % len(self.source_labels)]),
        }


@dataclass(frozen=True)
class FixedDigits:
    """Evaluation samples: every digit of the target once, in order, beside one of the source, with both labels."""

    source: DigitPictures
    source_labels: NDArray[np.int64]
    target: DigitPictures
    target_labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, i: int) -> Sample:
        other = i % len(self.source)
        return {
            "source": self.source[other],
            "target": self.target[i],
            "source_label": int(self.source_labels[other]),
            "target_label": int(self.target_labels[i]),
        }


@dataclass(frozen=True)
class SourceDigits:
    """The digits to translate, with their labels."""

    source: DigitPictures
    source_labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, i: int) -> Sample:
        return {"source": self.source[i], "source_label": int(self.source_labels[i])}


@dataclass(frozen=True)
class OneDomainDigits:
    """Every training digit of a domain once, in an order that is drawn from the seed."""

    key: str
    pictures: DigitPictures
    seed: int

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, i: int) -> Sample:
        return {self.key: self.pictures[int(epoch_order(self.seed, 0, len(self), self.key, "one pass")[i])]}


class Digits(ImageDataModule):
    """Digits of two sets: batches of `source`, `target` and `source_label`, int64 `b` from 0 to 9.

    Files are those of `datamodules.digit_files`: `<root>/<set>.npz`, else torchvision's. Training takes the sets' training
    splits, test and predict their test splits; validation is held out from training. Nothing is cropped or mirrored.

    UNIT's digit experiment is `source: svhn_extra`, `target: mnist`, `target_inverted_copies: true`, the other arguments left as
    they are: 531131 digits of 3 channels and 120000 of one. Several papers draw 2000 digits of MNIST and 1800 of USPS:
    `source_count: 2000`, `target_count: 1800`.

    Args:
        source: set of the labelled digits.
        target: set of the digits whose labels are for evaluation alone.
        root: folder of the files of all sets.
        download: let torchvision fetch what is missing into `root`.
        size: side of the pictures in pixels; others are resized.
        channels: 1 for grey, 3 for RGB; null for each set's own, 1 for MNIST and USPS, 3 for SVHN and MNIST-M.
        interpolation: of the resize; `nearest` as OpenCV does it, which UNIT's code uses, or PIL's `bilinear` or `bicubic`.
        batch_size: digits of each domain per process and iteration.
        workers: loader processes; 0 loads in the training process.
        seed: of order, held out digits and drawn subsets.
        source_count: train on this many digits of the source, drawn once from the seed; null for all.
        target_count: the same of the target.
        source_inverted_copies: train on every digit of the source twice, as it is and inverted (dark on light).
        target_inverted_copies: the same of the target.
        validation_count: training digits of each domain that are held out for validation, drawn once from the seed; 0 for none.
        validate_on_test: hold nothing out and let validation look at the test digits, as UNIT's official code does: the best of
            its looks is what it reports, so it chooses by the test.

    Raises:
        DataError: an argument cannot be right; `setup` raises it for files.
    """

    def __init__(
        self,
        *,
        source: DigitSetName = "mnist",
        target: DigitSetName = "usps",
        root: str = "data/digits",
        download: bool = False,
        size: int = 32,
        channels: int | None = None,
        interpolation: Interpolation = "nearest",
        batch_size: int = 64,
        workers: int = 0,
        seed: int = 0,
        source_count: int | None = None,
        target_count: int | None = None,
        source_inverted_copies: bool = False,
        target_inverted_copies: bool = False,
        validation_count: int = 0,
        validate_on_test: bool = False,
    ) -> None:
        super().__init__(size=size, batch_size=batch_size, workers=workers, seed=seed)
        if channels not in {None, 1, 3}:
            raise DataError(f"channels is {channels}; it must be 1 (grey), 3 (RGB) or null (each set's own).")
        if interpolation not in get_args(Interpolation):
            raise DataError(f"interpolation is {interpolation!r}; it must be 'nearest', 'bilinear' or 'bicubic'.")
        for option, count in (("source_count", source_count), ("target_count", target_count)):
            if count is not None and count < 1:
                raise DataError(f"{option} is {count}; it counts digits and must be at least 1: --data.{option} null")
        if validation_count < 0:
            raise DataError(f"validation_count is {validation_count}; it must be at least 0: --data.validation_count 0")
        if validation_count and validate_on_test:
            raise DataError(
                f"validation_count holds {validation_count} digits out, and validate_on_test looks at others: "
                "--data.validation_count 0, or --data.validate_on_test false"
            )
        own = {key: known_set(name, key).channels for key, name in (("source", source), ("target", target))}
        if source == target:
            other = "mnist" if source == "usps" else "usps"
            raise DataError(f"source and target are both {source}; they must be two sets: --data.target {other}")
        self.sets: dict[str, str] = {"source": source, "target": target}
        self.root = Path(root).expanduser().absolute()
        self.download = download
        self.transforms = {key: DigitTransform(size, channels or own[key], interpolation) for key in DOMAINS}
        self.inverted_copies = {"source": source_inverted_copies, "target": target_inverted_copies}
        self.validation_count = validation_count
        self.validate_on_test = validate_on_test
        self._counts = {"source": source_count, "target": target_count}
        self._digits: dict[tuple[str, Split], LabelledDigits] = {}

    @classmethod
    def missing(cls, settings: Mapping[str, Any]) -> list[str]:
        """A sentence for each set whose digits a training looks at, that are not here and will not be fetched."""
        if settings.get("download"):
            return []
        root = Path(settings.get("root", "data/digits")).expanduser().absolute()
        names = {"source": settings.get("source", "mnist"), "target": settings.get("target", "usps")}
        splits: tuple[Split, ...] = ("train", "test") if settings.get("validate_on_test") else ("train",)
        lines = [lacking_digits(name, key, root, split) for key, name in names.items() for split in splits]
        return list(dict.fromkeys(line for line in lines if line))

    # Finding and reading

    def prepare_data(self) -> None:
        """Fetch what is missing, where that is wanted; Lightning calls this in one process of each machine.

        Raises:
            DataError: a download failed, or nobody offers the set.
        """
        if self.download:
            for key in DOMAINS:
                for split in get_args(Split):
                    fetch_digits(self.sets[key], key, self.root, split)

    def setup(self, stage: str | None = None) -> None:
        """Read the digits of a stage: `fit`, `validate`, `test` or `predict`; None stands for `fit`.

        Raises:
            DataError: files are missing or hold something else, there are fewer digits than asked for, or validation is wanted
                and nothing is held out for it.
        """
        if stage == "validate" and not self.validation_count and not self.validate_on_test:
            raise DataError(_NOTHING_HELD_OUT)
        if self.trainer is None:
            self.prepare_data()
        for key in DOMAINS:
            if stage in {"fit", "validate", None}:
                self._read(key, "train")
            if stage in {"test", "predict"} or self.validate_on_test:
                self._read(key, "test")

    def _read(self, key: str, split: Split) -> None:
        if (key, split) not in self._digits:
            found = read_digits(self.sets[key], key, self.root, split)
            wanted = self.validation_count + (self._counts[key] or 1)
            if split == "train" and len(found.labels) < wanted:
                raise DataError(
                    f"{key}: {found.file} has {len(found.labels)} training digits; {self.validation_count} to be held out and "
                    f"{self._counts[key] or 'at least one'} to train on are more. Type --data.{key}_count null and "
                    "--data.validation_count 0 for all of them"
                )
            self._digits[key, split] = found

    def _rows(self, key: str, part: Part) -> NDArray[np.int64]:
        """Which digits of their split belong to a part, in the order of the files."""
        count = len(self._digits[key, "test" if part == "test" else "train"].labels)
        wanted = self._counts[key]
        if part == "test" or (not self.validation_count and wanted is None):
            return np.arange(count)
        order = epoch_order(self.seed, 0, count, key, "parts")
        first = self.validation_count
        return np.sort(order[:first] if part == "validation" else order[first:][:wanted])

    def _part(self, key: str, part: Part, *, copies: bool = False) -> tuple[DigitPictures, NDArray[np.int64]]:
        """Pictures of a part of one domain, and their labels without those of inverted copies."""
        split: Split = "test" if part == "test" else "train"
        if part == "validation" and not self.validation_count:
            raise DataError(_NOTHING_HELD_OUT)
        if (key, split) not in self._digits:
            raise DataError(f"The digits of the {part} part were not read yet; call setup first.")
        found, rows = self._digits[key, split], self._rows(key, part)
        pictures = DigitPictures(found.images, rows, self.transforms[key], copies and self.inverted_copies[key])
        return pictures, found.labels[rows]

    # What is handed out

    def train_samples(self) -> Callable[[int], Sample]:
        """The endless training samples, without labels of the target."""
        target, _ = self._part("target", "train", copies=True)
        return UnpairedDigits(*self._part("source", "train", copies=True), target, self.seed)

    def fixed_samples(self, stage: FixedStage) -> FixedSamples | None:
        """Every digit of the target's part once, with labels; `predict` gives the source's test digits. None is inverted."""
        if stage == "predict":
            return SourceDigits(*self._part("source", "test"))
        if stage == "validation" and self.validate_on_test:
            stage = "test"
        elif stage == "validation" and not self.validation_count:
            return None
        return FixedDigits(*self._part("source", stage), *self._part("target", stage))

    def domain_samples(self, key: str) -> FixedSamples:
        """Every training digit of one domain once, inverted copies too, without labels."""
        if key not in DOMAINS:
            raise DataError(f"There is no domain {key!r}; it must be 'source' or 'target'.")
        return OneDomainDigits(key, self._part(key, "train", copies=True)[0], self.seed)

    def labelled(self, key: str, part: Part, *, channels: int | None = None) -> tuple[Tensor, Tensor]:
        """All digits of one part of a domain with labels, prepared as in training but not inverted: for evaluation.

        Args:
            key: "source" or "target".
            part: `train` (what training sees), `validation` (what is held out from it) or `test`; valid after `setup` of "fit"
                or "test".
            channels: of the pictures, 1 or 3; None for this domain's.

        Returns:
            uint8 n c h w; int64 n.

        Raises:
            DataError: there is no such domain, or the part was not read yet.
        """
        if key not in DOMAINS:
            raise DataError(f"There is no domain {key!r}; it must be 'source' or 'target'.")
        pictures, labels = self._part(key, part)
        if channels is not None:
            pictures = replace(pictures, transform=replace(pictures.transform, channels=channels))
        images = torch.empty(len(pictures), pictures.transform.channels, self.size, self.size, dtype=torch.uint8)
        for i in range(len(pictures)):
            images[i] = pictures[i]
        return images, torch.from_numpy(labels)

    @property
    def epoch_length(self) -> int:
        """As many samples as the larger domain has training digits, inverted copies included."""
        return max(len(self._part(key, "train", copies=True)[0]) for key in DOMAINS)

    def describe(self) -> dict[str, str | int]:
        """Digits of each domain and split, and how they are prepared."""
        facts: dict[str, str | int] = {}
        for (key, split), found in self._digits.items():
            height, width = found.images.shape[1:3]
            side = f"{height}x{width} ({found.file})"
            if split == "test":
                facts[f"{key} test digits"] = f"{len(found.labels)} of {self.sets[key]}, {side}"
                continue
            pictures = self._part(key, "train", copies=True)[0]
            inverted = ", half of them inverted copies" if pictures.inverted_copies else ""
            facts[f"{key} digits"] = f"{len(pictures)} of {self.sets[key]}{inverted}, {side}"
            if self.validation_count:
                facts[f"held out {key} digits"] = self.validation_count
        shapes = "/".join(str(self.transforms[key].channels) for key in DOMAINS)
        facts["prepared"] = f"{self.size}x{self.size}, channels {shapes}, {self.transforms['source'].interpolation}"
        return facts

    def fingerprint(self) -> str:
        """A hash of all digits that were read, of which of them are used for what, and of how they are prepared."""
        digest = blake2b(repr(sorted(self.transforms.items())).encode(), digest_size=16)
        for (key, split), found in sorted(self._digits.items()):
            digest.update(f"\0{key} {split} {self.sets[key]} {self.inverted_copies[key]}".encode())
            held_out: tuple[Part, ...] = ("validation",) if self.validation_count and split == "train" else ()
            for array in (found.labels, *(self._rows(key, part) for part in (split, *held_out))):
                digest.update(f"\0{array.shape}".encode() + array.tobytes())
            for start in range(0, len(found.images), 10_000):  # a large set is no contiguous array
                digest.update(found.images[start : start + 10_000].tobytes())
        return digest.hexdigest()
