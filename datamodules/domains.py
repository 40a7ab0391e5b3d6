"""Pictures of any number of domains, a folder each: what StarGAN v2 learns from."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from datamodules.base import FixedStage, ImageDataModule
from datamodules.class_folders import class_pictures
from datamodules.domain_crops import CropAndResize
from datamodules.errors import DataError
from datamodules.folders import Check, PictureSet, check_pictures, lacking, name_bad
from datamodules.preprocess import Transform
from datamodules.sampling import Sample, epoch_order, sample_generator, to_chw

AS_IT_IS = Transform(preprocess="none", multiple=1)


def balance_weights(labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """How often each item is drawn: 1 over the number of items of its domain, so that all domains come alike.

    Args:
        labels: n numbers of domains, each of which has an item.
    """
    counts = np.bincount(labels)
    return 1 / counts[labels]


class DomainFiles:
    """Checked pictures of all domains.

    Attributes:
        sets: the pictures of each domain; a file that goes bad is replaced by another of its domain.
        labels: the domain of each picture, domain by domain.

    Args:
        pictures: by domain.
        seed: of the balanced draws and the pairs.
        max_bad_share: largest share of a domain's files that may go bad during training.
    """

    def __init__(self, pictures: Mapping[str, Sequence[Path]], *, seed: int, max_bad_share: float) -> None:
        self.sets = [
            PictureSet(name, paths, seed=seed, max_bad_share=max_bad_share) for name, paths in pictures.items()
        ]
        self.seed = seed
        counts = [len(paths) for paths in pictures.values()]
        self.labels: NDArray[np.int64] = np.repeat(np.arange(len(counts)), counts)
        self._starts = np.cumsum([0, *counts])
        self._reach = np.cumsum(balance_weights(self.labels))

    def __len__(self) -> int:
        return len(self.labels)

    def draw(self, i: int, name: str) -> tuple[int, int]:
        """Draw a picture for sample `i`, all domains alike: number of the domain, and of the picture in it."""
        at = sample_generator(self.seed, i, name).random() * self._reach[-1]
        item = min(int(np.searchsorted(self._reach, at, side="right")), len(self) - 1)
        domain = int(self.labels[item])
        return domain, item - int(self._starts[domain])

    def partner(self, domain: int, index: int) -> int:
        """The second reference of a domain's picture: another order of the domain's files, the same for the whole run.

        Every file is a first and a second reference once; some are their own partners, as in the official code.
        """
        return int(epoch_order(self.seed, 0, len(self.sets[domain]), str(domain), "partners")[index])

    def read(self, domain: int, index: int, *moment: int | str) -> NDArray[np.uint8]:
        """A picture as it is, uint8 h w 3."""
        return self.sets[domain].resized(index, AS_IT_IS, *moment)[0]


@dataclass(frozen=True)
class TrainedDomains:
    """Training samples: a picture of any domain, and two references of any domain, which may be the same one."""

    files: DomainFiles
    transform: CropAndResize
    seed: int

    def __call__(self, i: int) -> Sample:
        """Sample `i`."""
        domain, index = self.files.draw(i, "image")
        reference_domain, first = self.files.draw(i, "reference")
        second = self.files.partner(reference_domain, first)
        return {
            "image": self._prepared(i, "image", domain, index),
            "domain": domain,
            "reference": self._prepared(i, "reference", reference_domain, first),
            "reference2": self._prepared(i, "reference2", reference_domain, second),
            "reference_domain": reference_domain,
        }

    def _prepared(self, i: int, key: str, domain: int, index: int) -> Tensor:
        picture = self.files.read(domain, index, i)
        height, width = picture.shape[:2]
        drawn = self.transform.draw(height, width, sample_generator(self.seed, i, key, "crop and flip"))
        return to_chw(self.transform(picture, *drawn))


@dataclass(frozen=True)
class FixedDomains:
    """Evaluation samples: the domains in turn, each picture with references of another domain, in turn as well."""

    files: DomainFiles
    transform: CropAndResize
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> Sample:
        if not 0 <= i < self.count:
            raise IndexError(f"sample {i} of {self.count}")
        sets = self.files.sets
        domain, turn = i % len(sets), i // len(sets)
        other = (domain + 1 + turn % (len(sets) - 1)) % len(sets) if len(sets) > 1 else domain

        def picture(number: int, index: int) -> Tensor:
            return to_chw(self.transform(self.files.read(number, index % len(sets[number]))))

        return {
            "image": picture(domain, turn),
            "domain": domain,
            "reference": picture(other, turn),
            "reference2": picture(other, turn + 1),
            "reference_domain": other,
        }


class Domains(ImageDataModule):
    """Batches of `image` and `domain`, `reference`, `reference2` and `reference_domain`; domains int64 `b`.

    `<root>/<domain>/<picture>`; a domain's number is the place of its folder's name in natural order. What is no folder is
    passed over. Every sample draws its picture and its references' domain anew, each domain as often as any other. Defaults are
    those of the official code.

    Args:
        train: root of the pictures to learn from.
        validation: root of others, of the same domains; null for none.
        validation_count: samples in validation.
        size: side of the pictures in pixels; the aspect ratio is not kept.
        batch_size: samples per process and iteration.
        workers: loader processes; 0 loads in the training process.
        seed: of every draw, crop and flip, and of the pairs of references.
        crop_probability: share of training pictures that are cropped.
        crop_scale: least and largest share of a picture's area that a crop keeps.
        crop_ratio: least and largest ratio of a crop's width to its height.
        flip: mirror half of the training pictures.
        check: what `setup` looks at: `header` (quick), `full` (decodes every file) or `none`.
        min_side: smallest side of a picture in pixels; smaller ones are left out.
        max_bad_share: largest share of unusable files that is left out instead of refused, 0 to 1, rounded up to files.

    Raises:
        DataError: an argument is out of range; `setup` raises it for folders.
    """

    def __init__(
        self,
        *,
        train: str,
        validation: str | None = None,
        validation_count: int = 64,
        size: int = 256,
        batch_size: int = 8,
        workers: int = 4,
        seed: int = 0,
        crop_probability: float = 0.5,
        crop_scale: tuple[float, float] = (0.8, 1.0),
        crop_ratio: tuple[float, float] = (0.9, 1.1),
        flip: bool = True,
        check: Check = "header",
        min_side: int = 16,
        max_bad_share: float = 0.05,
    ) -> None:
        super().__init__(size=size, batch_size=batch_size, workers=workers, seed=seed)
        for option, number in (("validation_count", validation_count), ("min_side", min_side)):
            if number < 1:
                raise DataError(f"{option} is {number}; it must be at least 1: --data.{option} 16")
        if check not in get_args(Check):
            raise DataError(f"check is {check!r}; it must be 'header', 'full' or 'none'.")
        if not 0 <= max_bad_share <= 1:
            raise DataError(f"max_bad_share is {max_bad_share}; it is a share and must lie between 0 and 1.")
        self.roots = {"train": train, "validation": validation}
        self.validation_count = validation_count
        self.transform = CropAndResize(size, crop_probability, crop_scale, crop_ratio, flip)
        self.check: Check = check
        self.min_side, self.max_bad_share = min_side, max_bad_share
        self._files: dict[str, DomainFiles] = {}
        self._domains: list[str] = []
        self._bad: dict[Path, str] = {}

    @classmethod
    def missing(cls, settings: Mapping[str, Any]) -> list[str]:
        """A sentence for each folder of the settings that does not exist or holds no picture."""
        names = ("train", "validation")
        return [line for name in names if settings.get(name) for line in lacking([settings[name]], name)]

    def setup(self, stage: str | None = None) -> None:
        """Find and check the pictures of a stage: `fit`, `validate` or `test`; None stands for `fit`.

        Raises:
            DataError: a folder is missing or of another layout, too many files are bad, validation has other domains than
                training or a picture that is trained on, or there is none to validate on.
        """
        if stage == "predict":
            return
        if stage in {"fit", None}:
            self._load("train")
        if self.roots["validation"] is not None:
            self._load("validation")
        elif stage in {"validate", "test"}:
            raise DataError("There are no pictures for validation. Type --data.validation FOLDER")

    def _load(self, name: str) -> None:
        if name in self._files:
            return
        found = class_pictures(str(self.roots[name]), name)
        if self._domains and list(found) != self._domains:
            raise DataError(
                f"{name}: the folders are {', '.join(found)}, and the domains are {', '.join(self._domains)}: they must be the same, "
                f"for their order gives the numbers. Type --data.{name} FOLDER of the same domains"
            )
        checked = check_pictures(
            [path for paths in found.values() for path in paths],
            name,
            check=self.check,
            min_side=self.min_side,
            max_bad_share=self.max_bad_share,
        )
        if checked.bad and self._rank == 0:
            print(f"{name}: {len(checked.bad)} files left out: {name_bad(checked.bad)}", file=sys.stderr)
        good = set(checked.good)
        pictures = {domain: [path for path in paths if path in good] for domain, paths in found.items()}
        if empty := [domain for domain, paths in pictures.items() if not paths]:
            raise DataError(
                f"{name}: no picture of {empty[0]} can be used: {name_bad(checked.bad)}. Mend or replace them"
            )
        trained_on = {path for files in self._files.values() for one in files.sets for path in one.paths}
        if shared := trained_on & good:
            raise DataError(
                f"{name}: {len(shared)} pictures, such as {min(shared)}, are trained on too. Type --data.{name} FOLDER of its own"
            )
        self._domains, self._bad = list(pictures), {**self._bad, **checked.bad}
        self._files[name] = DomainFiles(pictures, seed=self.seed, max_bad_share=self.max_bad_share)

    @property
    def domains(self) -> list[str]:
        """The domains' names in the order of their numbers; known after `setup`."""
        return list(self._domains)

    def train_samples(self) -> Callable[[int], Sample]:
        """Sample `i` of the stream: a picture, and two references of one domain."""
        return TrainedDomains(self._files["train"], self.transform, self.seed)

    def fixed_samples(self, stage: FixedStage) -> FixedDomains | None:
        """Samples of validation and test, neither cropped nor flipped; none to predict."""
        if stage == "predict" or "validation" not in self._files:
            return None
        return FixedDomains(self._files["validation"], self.transform, self.validation_count)

    @property
    def epoch_length(self) -> int:
        """All training pictures."""
        return len(self._files["train"])

    def describe(self) -> dict[str, str | int]:
        """Pictures of each domain, and what was left out."""
        facts: dict[str, str | int] = {
            f"{name} pictures": ", ".join(f"{one.name} {len(one)}" for one in files.sets)
            for name, files in self._files.items()
        }
        facts["left out"] = f"{len(self._bad)}: {name_bad(self._bad)}" if self._bad else 0
        if went_bad := sum(one.went_bad for files in self._files.values() for one in files.sets):
            facts["went bad since"] = went_bad
        return facts

    def fingerprint(self) -> str:
        """A hash of domains, names and sizes of all files in use; the same wherever the roots lie."""
        digest = blake2b(digest_size=16)
        for name, files in sorted(self._files.items()):
            for one in files.sets:
                digest.update(f"\0{name} {one.name}".encode())
                for path in one.paths:
                    size = path.stat().st_size if path.exists() else -1
                    digest.update(f"\0{path.name}\0{size}".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()
