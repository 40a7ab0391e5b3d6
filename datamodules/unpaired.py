"""Two domains without pairs, as CycleGAN and its successors train on (`unaligned` data of the official code)."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from datamodules.base import FixedSamples, FixedStage, ImageDataModule
from datamodules.cache import PictureCache
from datamodules.errors import DataError
from datamodules.folders import (
    Check,
    Checked,
    PictureSet,
    check_pictures,
    find_pictures,
    lacking,
    name_bad,
    per_folder,
)
from datamodules.preprocess import Interpolation, Pixels, Preprocess, Transform, side_before_crop
from datamodules.sampling import Sample, epoch_order, sample_generator, to_chw, unpaired_indices

Folders = str | list[str]

_MANY = 20_000  # pictures whose check takes long enough (seconds) to be announced


class UnpairedFolders(ImageDataModule):
    """Pictures of two domains in folders, unpaired: batches of `source` and `target`.

    Folders are searched with everything below them, for jpg, png, webp, bmp and tif, and taken in natural order (9 before
    10). Defaults are those of CycleGAN (paper, section 4 and appendix; options of the official code in brackets). GP-UNIT
    resizes bilinearly, shares crop and flip between the two pictures of a sample and may take the first 4000 of a folder.

    Args:
        source: folder or folders of the first domain (A).
        target: folder or folders of the second domain (B).
        size: side of the training crop in pixels, a multiple of 4 [crop_size].
        load_size: side before the crop in pixels, at least `size`; null for 286/256 of it, rounded [load_size].
        batch_size: pictures of each domain per process and iteration.
        workers: loader processes; 0 loads in the training process.
        seed: of order, pairing, crops, flips and the validation split.
        preprocess: how pictures are brought to size, see `datamodules.preprocess.Transform` [preprocess].
        interpolation: of the resize: `bicubic`, `bilinear`, or `bilinear_tensorflow` as in TensorFlow 1.
        flip: mirror half of the training pictures [no_flip].
        shared_augmentation: source and target of one sample are cropped at the same place and mirrored together.
        channels: 3 for RGB, 1 for grey [input_nc].
        pairing: `random` draws the target's picture uniformly with replacement; `serial` walks through both [serial_batches].
        direction: `target_to_source` exchanges the two domains everywhere [direction BtoA].
        source_count: use the first pictures of each of the source's folders alone, in natural order: one number for all
            folders, or a list for the last ones whose first number serves the rest; null for all pictures.
        target_count: the same of the target's folders.
        validation_source: folders of validation pictures of the first domain.
        validation_target: the same of the second.
        validation_fraction: without such folders: this share of each domain, 0 to 0.5, is held out for validation.
        test_source: folders of test pictures of the first domain; without them, test looks at the validation pictures.
        test_target: the same of the second.
        predict: folders of pictures to translate from source to target; the test pictures when not given.
        cache: folder for resized pictures, which then load faster (height x width x 3 bytes each); null for none.
        check: what `setup` looks at: `header` (quick), `full` (decodes every file) or `none`.
        min_side: smallest side in pixels; smaller pictures are left out.
        max_bad_share: largest share of unusable files that is left out instead of refused, 0 to 1, rounded up to files.

    Raises:
        DataError: an argument cannot be right; `setup` raises it for folders.
    """

    def __init__(
        self,
        source: Folders,
        target: Folders,
        size: int = 256,
        load_size: int | None = None,
        batch_size: int = 1,
        workers: int = 2,
        seed: int = 0,
        preprocess: Preprocess = "resize_and_crop",
        interpolation: Interpolation = "bicubic",
        flip: bool = True,
        shared_augmentation: bool = False,
        channels: int = 3,
        pairing: Literal["random", "serial"] = "random",
        direction: Literal["source_to_target", "target_to_source"] = "source_to_target",
        source_count: int | list[int] | None = None,
        target_count: int | list[int] | None = None,
        validation_source: Folders | None = None,
        validation_target: Folders | None = None,
        validation_fraction: float = 0.0,
        test_source: Folders | None = None,
        test_target: Folders | None = None,
        predict: Folders | None = None,
        cache: str | None = None,
        check: Check = "header",
        min_side: int = 16,
        max_bad_share: float = 0.05,
    ) -> None:
        super().__init__(size=size, batch_size=batch_size, workers=workers, seed=seed)
        load_size = side_before_crop(size) if load_size is None else load_size
        self.transform = Transform(preprocess, load_size, size, channels, interpolation=interpolation)
        self.flip = flip
        self.shared_augmentation = shared_augmentation
        self.serial = pairing == "serial"
        self.direction = direction
        self.validation_fraction = validation_fraction
        self.cache_folder = cache
        self.check: Check = check
        self.min_side = max(min_side, size) if preprocess == "crop" else min_side
        self.max_bad_share = max_bad_share
        self.folders = {
            "source": as_list(source),
            "target": as_list(target),
            "validation_source": as_list(validation_source),
            "validation_target": as_list(validation_target),
            "test_source": as_list(test_source),
            "test_target": as_list(test_target),
            "predict": as_list(predict or (test_source if direction == "source_to_target" else test_target)),
        }
        self._refuse_nonsense(pairing)
        self._counts = {
            "source": per_folder(source_count, len(self.folders["source"]), "source_count"),
            "target": per_folder(target_count, len(self.folders["target"]), "target_count"),
        }
        self._cache: PictureCache | None = None
        self._checked: dict[str, Checked] = {}
        self._sets: dict[str, PictureSet] = {}

    def _refuse_nonsense(self, pairing: str) -> None:
        if pairing not in {"random", "serial"}:
            raise DataError(f"pairing is {pairing!r}; it must be 'random' or 'serial'.")
        if self.direction not in {"source_to_target", "target_to_source"}:
            raise DataError(f"direction is {self.direction!r}; it must be 'source_to_target' or 'target_to_source'.")
        if self.check not in {"header", "full", "none"}:
            raise DataError(f"check is {self.check!r}; it must be 'header', 'full' or 'none'.")
        for name, value, most in (
            ("validation_fraction", self.validation_fraction, 0.5),
            ("max_bad_share", self.max_bad_share, 1.0),
        ):
            if not 0 <= value <= most:
                raise DataError(f"{name} is {value}; it is a share and must lie between 0 and {most:g}.")
        if self.min_side < 1:
            raise DataError(f"min_side is {self.min_side}; it is a number of pixels and must be at least 1.")
        if self.transform.crops and self.size % self.transform.multiple:
            near = max(1, round(self.size / 4)) * 4
            raise DataError(f"size is {self.size}; networks that halve twice need a multiple of 4: --data.size {near}")
        if not self.transform.same_size and self.batch_size > 1 and self.check == "none":
            raise DataError(
                f"preprocess {self.transform.preprocess!r} leaves pictures at different sizes, which do not fit into a "
                "batch: --data.batch_size 1"
            )
        if self.shared_augmentation and self.transform.preprocess != "resize_and_crop":
            raise DataError(
                f"shared_augmentation needs pictures of one size to crop, and preprocess {self.transform.preprocess!r} leaves "
                "them at different ones: --data.preprocess resize_and_crop"
            )
        for name in ("source", "target"):
            if not self.folders[name]:
                raise DataError(f"{name} names no folder. Type --data.{name} FOLDER")
        both = _resolved(self.folders["source"]) & _resolved(self.folders["target"])
        if both:
            raise DataError(
                f"source and target are both {min(both)}; they must be two domains. Type --data.target FOLDER of the other"
            )
        for stage in ("validation", "test"):
            given = [name for name in (f"{stage}_source", f"{stage}_target") if self.folders[name]]
            if len(given) == 1:
                missing = f"{stage}_{'target' if given[0].endswith('source') else 'source'}"
                raise DataError(f"{given[0]} is given without {missing}. Type --data.{missing} FOLDER")
        if self.validation_fraction and self.folders["validation_source"]:
            raise DataError(
                "Both validation folders and validation_fraction are given. Type --data.validation_fraction 0, or leave the "
                "folders out"
            )

    @classmethod
    def missing(cls, settings: Mapping[str, Any]) -> list[str]:
        """A sentence for each folder that a training looks into and that does not exist or holds no picture.

        Test pictures and those to translate are not needed to train.
        """
        arguments = ("source", "target", "validation_source", "validation_target")
        return [sentence for name in arguments for sentence in lacking(as_list(settings.get(name)), name)]

    # Finding and checking

    def setup(self, stage: str | None = None) -> None:
        """Find and check the pictures of a stage: `fit`, `validate`, `test` or `predict`; None stands for `fit`.

        Raises:
            DataError: a folder is missing or empty, too many pictures are bad, or domains or splits share a picture.
        """
        if self.cache_folder and self._cache is None:
            self._cache = PictureCache(self.cache_folder)
        if stage == "predict":
            self._load("predict")
            return
        if stage in {"fit", None}:
            self._load("source")
            self._load("target")
        fixed: FixedStage = "test" if stage == "test" else "validation"
        prefix = self._prefix(fixed)
        if prefix is not None:
            self._load(f"{prefix}source")
            self._load(f"{prefix}target")
        elif stage in {"validate", "test"}:
            raise DataError(
                f"There are no pictures for {fixed}. Type --data.{fixed}_source FOLDER --data.{fixed}_target FOLDER, or "
                "--data.validation_fraction 0.1 to hold some of the training pictures out."
            )
        for one, other in (("source", "target"), ("source", "validation_source"), ("target", "validation_target")):
            self._refuse_shared(one, other)

    def _prefix(self, stage: FixedStage) -> str | None:
        """What the names of the sets begin with that an evaluation stage looks at; None where there are none."""
        if stage == "test" and self.folders["test_source"]:
            return "test_"
        if self.folders["validation_source"]:
            return "validation_"
        return "held_out_" if self.validation_fraction else None

    def _load(self, name: str) -> None:
        argument = name.removeprefix("held_out_")
        if argument in self._checked:
            return
        if not self.folders[argument]:
            raise DataError("There are no pictures to translate. Type --data.predict FOLDER")
        # Every file is looked at through and through before translations are promised for it.
        check: Check = "full" if argument == "predict" and self.check != "none" else self.check
        found = find_pictures(self.folders[argument], argument, self._counts.get(argument))
        if len(found) > _MANY and check != "none" and self._rank == 0:
            print(f"{argument}: checking {len(found):,} pictures (--data.check none skips this) ...", file=sys.stderr)
        checked = check_pictures(
            found,
            argument,
            check=check,
            min_side=self.min_side,
            max_bad_share=self.max_bad_share,
            cache=self._cache,
        )
        self._checked[argument] = checked
        if checked.bad and self._rank == 0:
            count = len(checked.bad) + len(checked.good)
            print(
                f"{argument}: {len(checked.bad)} of {count} pictures left out: {name_bad(checked.bad)}", file=sys.stderr
            )
        paths = checked.good
        if argument in {"source", "target"}:
            self._refuse_mixed_sizes(argument, checked)
            if self.validation_fraction:
                paths, held_out = hold_out(paths, self.validation_fraction, self.seed, argument)
                self._sets[f"held_out_{argument}"] = self._picture_set(f"held_out_{argument}", held_out)
        self._sets[argument] = self._picture_set(argument, paths)

    def _picture_set(self, name: str, paths: Sequence[Path]) -> PictureSet:
        return PictureSet(name, paths, seed=self.seed, max_bad_share=self.max_bad_share, cache=self._cache)

    def _refuse_mixed_sizes(self, argument: str, checked: Checked) -> None:
        if self.transform.same_size or self.batch_size == 1:
            return
        sizes = {self.transform.result_shape(*shape) for shape in checked.shapes}
        if len(sizes) > 1:
            (height, width), (other_height, other_width) = sorted(sizes)[:2]
            raise DataError(
                f"{argument}: preprocess {self.transform.preprocess!r} leaves pictures at {len(sizes)} different sizes "
                f"({width} x {height}, {other_width} x {other_height}, ...), which do not fit into a batch of "
                f"{self.batch_size}: --data.batch_size 1, or --data.preprocess resize_and_crop"
            )

    def _refuse_shared(self, one: str, other: str) -> None:
        if one in self._sets and other in self._sets:
            shared = set(self._sets[one].paths) & set(self._sets[other].paths)
            if shared:
                raise DataError(
                    f"{one} and {other} share {len(shared)} pictures, such as {min(shared)}; they must have none in common. "
                    f"Type --data.{other} FOLDER of its own."
                )

    # What the base asks for

    def _pair(self, prefix: str = "") -> tuple[PictureSet, PictureSet]:
        """Source and target sets in the chosen direction."""
        if f"{prefix}source" not in self._sets:
            raise DataError(f"The {prefix or 'training '}pictures were not looked for yet: call setup first.")
        source, target = self._sets[f"{prefix}source"], self._sets[f"{prefix}target"]
        return (target, source) if self.direction == "target_to_source" else (source, target)

    def train_samples(self) -> Callable[[int], Sample]:
        """Sample `i` of the stream: `source` and `target`, uint8 `c h w`."""
        return UnpairedSamples(
            *self._pair(),
            self.transform,
            seed=self.seed,
            flip=self.flip,
            serial=self.serial,
            shared=self.shared_augmentation,
        )

    def domain_samples(self, key: str) -> FixedSamples:
        """Every training picture of one domain once, in the chosen direction."""
        if key not in {"source", "target"}:
            raise DataError(f"There is no domain {key!r}; it must be 'source' or 'target'.")
        pictures = self._pair()[key == "target"]
        return OneDomain(key, pictures, self.transform, seed=self.seed, flip=self.flip)

    def fixed_samples(self, stage: FixedStage) -> FixedSamples | None:
        """In sorted order, resized to `size`, not flipped; the shorter domain begins again until the longer one ends.

        `predict` gives `source` and its `path`.
        """
        transform = self.transform.for_evaluation()
        if stage == "predict":
            return SinglePictures(self._sets["predict"], transform) if "predict" in self._sets else None
        prefix = self._prefix(stage)
        return None if prefix is None else FixedUnpaired(*self._pair(prefix), transform)

    @property
    def evaluation_batch_size(self) -> int:
        """As in training, but 1 where pictures keep different sizes."""
        return self.batch_size if self.transform.same_size else 1

    @property
    def epoch_length(self) -> int:
        """Samples of the paper's epoch: as many as the larger domain has pictures."""
        return max(map(len, self._pair()))

    def describe(self) -> dict[str, str | int]:
        """Pictures per domain and split, in the chosen direction, and what was left out."""
        facts: dict[str, str | int] = {}
        for prefix, label in (("", ""), ("held_out_", "held out "), ("validation_", "validation "), ("test_", "test ")):
            if f"{prefix}source" in self._sets:
                source, target = self._pair(prefix)
                facts[f"{label}source pictures"], facts[f"{label}target pictures"] = len(source), len(target)
        if "predict" in self._sets:
            facts["pictures to translate"] = len(self._sets["predict"])
        bad = {path: reason for checked in self._checked.values() for path, reason in checked.bad.items()}
        facts["left out"] = f"{len(bad)}: {name_bad(bad)}" if bad else 0
        went_bad = sum(pictures.went_bad for pictures in self._sets.values())
        if went_bad:
            facts["went bad since"] = went_bad
        return facts

    def fingerprint(self) -> str:
        """A hash of names and sizes of all files in use, set by set; the same wherever the folders lie."""
        digest = blake2b(digest_size=16)
        for name, pictures in sorted(self._sets.items()):
            digest.update(f"\0{name} {self.direction}".encode())
            for path in pictures.paths:
                size = path.stat().st_size if path.exists() else -1
                digest.update(f"\0{path.name}\0{size}".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


@dataclass(frozen=True)
class UnpairedSamples:
    """Training samples: crops and flips of both domains, independent ones or the same, all drawn from (seed, i)."""

    source: PictureSet
    target: PictureSet
    transform: Transform
    seed: int
    flip: bool
    serial: bool
    shared: bool

    def __call__(self, i: int) -> Sample:
        """Sample `i`."""
        indices = unpaired_indices(self.seed, i, len(self.source), len(self.target), serial=self.serial)
        sample: Sample = {}
        for key, pictures, index in zip(("source", "target"), (self.source, self.target), indices, strict=True):
            picture, _ = pictures.resized(index, self.transform, i)
            generator = sample_generator(self.seed, i, "both" if self.shared else key, "crop and flip")
            height, width = picture.shape[:2]
            crop, flip = self.transform.draw(height, width, generator)
            sample[key] = to_chw(self.transform.finish(picture, crop, flip and self.flip))
        return sample


@dataclass(frozen=True)
class OneDomain:
    """Every picture of a domain once, in an order, with crops and flips that are drawn from the seed."""

    key: str
    pictures: PictureSet
    transform: Transform
    seed: int
    flip: bool

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, i: int) -> Sample:
        index = int(epoch_order(self.seed, 0, len(self), self.key, "one pass")[i])
        picture, _ = self.pictures.resized(index, self.transform, "one pass")
        height, width = picture.shape[:2]
        crop, flip = self.transform.draw(height, width, sample_generator(self.seed, i, self.key, "one pass"))
        return {self.key: to_chw(self.transform.finish(picture, crop, flip and self.flip))}


@dataclass(frozen=True)
class FixedUnpaired:
    """Evaluation samples in order: index modulo the number of pictures of each domain."""

    source: PictureSet
    target: PictureSet
    transform: Transform

    def __len__(self) -> int:
        return max(len(self.source), len(self.target))

    def __getitem__(self, i: int) -> Sample:
        return {
            key: to_chw(_centred(pictures, i % len(pictures), self.transform)[0])
            for key, pictures in (("source", self.source), ("target", self.target))
        }


@dataclass(frozen=True)
class SinglePictures:
    """Pictures to translate, with the files they came from."""

    pictures: PictureSet
    transform: Transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, i: int) -> Sample:
        picture, path = _centred(self.pictures, i, self.transform)
        return {"source": to_chw(picture), "path": str(path)}


def _centred(pictures: PictureSet, index: int, transform: Transform) -> tuple[Pixels, Path]:
    picture, path = pictures.resized(index, transform)
    return transform.finish(picture, transform.centre(*picture.shape[:2]), flip=False), path


def hold_out(paths: Sequence[Path], share: float, seed: int, argument: str) -> tuple[list[Path], list[Path]]:
    """Split into training and validation. By a hash of each name, so that one file more or less moves no other."""
    count = max(1, round(share * len(paths)))
    if count >= len(paths):
        raise DataError(
            f"{argument}: {len(paths)} pictures are too few to hold some out. Set validation_fraction to 0."
        )

    def rank(path: Path) -> bytes:
        return blake2b(f"{seed}/{path.parent.name}/{path.name}".encode("utf-8", "surrogateescape")).digest()

    held_out = set(sorted(paths, key=rank)[:count])
    return [path for path in paths if path not in held_out], [path for path in paths if path in held_out]


def as_list(folders: Folders | None) -> list[str]:
    """A folder, several or none as a list."""
    if folders is None:
        return []
    return [str(folder) for folder in folders] if isinstance(folders, (list, tuple)) else [str(folders)]


def _resolved(folders: Sequence[str]) -> set[Path]:
    return {Path(folder).expanduser().resolve() for folder in folders}
