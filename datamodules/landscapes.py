"""One pile of pictures without domains, as HiDT trains on: landscapes at any time of day, with labels of their regions or without."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from datamodules.base import FixedSamples, FixedStage, ImageDataModule
from datamodules.cache import PictureCache
from datamodules.errors import DataError
from datamodules.folders import Check, PictureSet, check_pictures, find_pictures, lacking, missing_folder, name_bad
from datamodules.preprocess import Transform
from datamodules.sampling import Sample, sample_generator, shuffled_index, to_chw
from datamodules.unpaired import Folders, SinglePictures, as_list, hold_out

NO_CLASS = 255
"""The label of pixels that no class claims."""

LABEL_SUFFIX = ".png"


class Landscapes(ImageDataModule):
    """Batches of `source` and `target`: two pictures of one and the same pile, and with labels `source_labels` and `target_labels`.

    Pictures are found, checked and read as in `datamodules.UnpairedFolders`. The shorter side is resized to `load_size` by PIL's bicubic
    filter, then a square is cut out at random and half of the squares are mirrored, as HiDT's published configuration says. An epoch
    shows every picture once.

    Labels lie in a folder of the same layout, `<labels>/<path of the picture>.png`, as pictures whose first channel holds class numbers
    (255 for no class); `lightning labels` writes such a folder. They become int64 `b h w`.

    Args:
        images: folder or folders of pictures.
        labels: folder or folders of labels, as many; null to train without.
        classes: how many classes the labels tell apart, from 0 on; needed with `labels`.
        size: side of the crop in pixels, a multiple of 4.
        load_size: shorter side before the crop; null for `size`.
        batch_size: samples, of two pictures each, per process and iteration.
        workers: loader processes; 0 loads in the training process.
        seed: of order, crops, flips and the validation split.
        flip: mirror half of the training pictures.
        validation_images: folders of validation pictures; each is the exemplar of the one before it.
        validation_fraction: without such folders: this share of the pictures, 0 to 0.5, is held out.
        predict: folders of pictures to translate.
        cache: folder for resized pictures, which then load faster; null for none.
        check: what `setup` looks at: `header` (quick), `full` (decodes every file) or `none`.
        min_side: smallest side in pixels; smaller pictures are left out.
        max_bad_share: largest share of unusable files that is left out instead of refused, 0 to 1, rounded up to files.

    Raises:
        DataError: an argument cannot be right; `setup` raises it for folders.
    """

    def __init__(
        self,
        images: Folders,
        labels: Folders | None = None,
        classes: int = 0,
        size: int = 256,
        load_size: int | None = None,
        batch_size: int = 2,
        workers: int = 2,
        seed: int = 0,
        flip: bool = True,
        validation_images: Folders | None = None,
        validation_fraction: float = 0.0,
        predict: Folders | None = None,
        cache: str | None = None,
        check: Check = "header",
        min_side: int = 16,
        max_bad_share: float = 0.05,
    ) -> None:
        super().__init__(size=size, batch_size=batch_size, workers=workers, seed=seed)
        self.transform = Transform("shorter_side_and_crop", size if load_size is None else load_size, size)
        self.folders = {
            "images": as_list(images),
            "validation_images": as_list(validation_images),
            "predict": as_list(predict),
        }
        self.label_folders = as_list(labels)
        self.classes = classes if labels else 0
        self.flip, self.validation_fraction = flip, validation_fraction
        self.check: Check = check
        self.min_side, self.max_bad_share = min_side, max_bad_share
        self.cache_folder = cache
        self._refuse_nonsense(classes)
        self._sets: dict[str, PictureSet] = {}
        self._bad: dict[Path, str] = {}
        self._labels: dict[Path, Path] = {}

    def _refuse_nonsense(self, classes: int) -> None:
        if not self.folders["images"]:
            raise DataError("images names no folder. Type --data.images FOLDER")
        if self.size % self.transform.multiple:
            raise DataError(
                f"size is {self.size}; networks that halve twice need a multiple of 4: --data.size {round(self.size / 4) * 4 or 4}"
            )
        if self.check not in get_args(Check):
            raise DataError(f"check is {self.check!r}; it must be 'header', 'full' or 'none'.")
        for name, value, most in (
            ("validation_fraction", self.validation_fraction, 0.5),
            ("max_bad_share", self.max_bad_share, 1.0),
        ):
            if not 0 <= value <= most:
                raise DataError(f"{name} is {value}; it is a share and must lie between 0 and {most:g}.")
        if self.min_side < 1:
            raise DataError(f"min_side is {self.min_side}; it is a number of pixels and must be at least 1.")
        if self.validation_fraction and self.folders["validation_images"]:
            raise DataError(
                "Both validation_images and validation_fraction are given. Type --data.validation_fraction 0, or leave the folders out"
            )
        if self.label_folders and len(self.label_folders) != len(self.folders["images"]):
            raise DataError(
                f"labels names {len(self.label_folders)} folders and images {len(self.folders['images'])}: each folder of pictures has "
                "one of labels, in the same order. Type --data.labels [FOLDER, ...]"
            )
        if self.label_folders and not 1 <= classes <= NO_CLASS:
            raise DataError(
                f"classes is {classes}; labels tell 1 to {NO_CLASS} classes apart, and how many must be said: --data.classes 3"
            )

    @classmethod
    def missing(cls, settings: Mapping[str, Any]) -> list[str]:
        """A sentence for each folder that a training looks into and that does not exist or holds no picture."""
        names = ("images", "labels", "validation_images")
        return [sentence for name in names for sentence in lacking(as_list(settings.get(name)), name)]

    def setup(self, stage: str | None = None) -> None:
        """Find and check the pictures of a stage: `fit`, `validate`, `test` or `predict`; None stands for `fit`.

        Raises:
            DataError: a folder is missing or empty, too many pictures are bad, there are fewer than two, a picture has no labels, or
                validation shows what is trained on.
        """
        if stage == "predict":
            if not self.folders["predict"]:
                raise DataError("There are no pictures to translate. Type --data.predict FOLDER")
            self._load("predict", check="full" if self.check != "none" else "none")
            return
        if stage in {"fit", None} or self.validation_fraction:
            self._load("images")
        if self.folders["validation_images"]:
            self._load("validation_images")
            if shared := set(self._paths("images")) & set(self._paths("validation_images")):
                raise DataError(
                    f"validation_images: {len(shared)} pictures, such as {min(shared)}, are trained on too. Type "
                    "--data.validation_images FOLDER of its own"
                )
        elif stage in {"validate", "test"} and not self.validation_fraction:
            raise DataError(
                "There are no pictures for validation. Type --data.validation_images FOLDER, or --data.validation_fraction 0.1"
            )

    def _load(self, name: str, check: Check | None = None) -> None:
        if name in self._sets:
            return
        found = find_pictures(self.folders[name], name)
        checked = check_pictures(
            found,
            name,
            check=check or self.check,
            min_side=self.min_side,
            max_bad_share=self.max_bad_share,
            cache=PictureCache(self.cache_folder) if self.cache_folder else None,
        )
        self._bad |= checked.bad
        if checked.bad and self._rank == 0:
            print(
                f"{name}: {len(checked.bad)} of {len(found)} pictures left out: {name_bad(checked.bad)}",
                file=sys.stderr,
            )
        paths = checked.good
        if name == "images":
            if self.label_folders:
                self._labels = labels_of(paths, self.folders["images"], self.label_folders)
            if self.validation_fraction:
                paths, held_out = hold_out(paths, self.validation_fraction, self.seed, name)
                self._sets["validation_images"] = self._picture_set("validation_images", held_out)
        if name != "predict" and len(paths) < 2:
            raise DataError(
                f"{name}: {len(paths)} picture is too few; pictures exchange their light two by two. Add some, or type --data.{name} FOLDER"
            )
        self._sets[name] = self._picture_set(name, paths)

    def _picture_set(self, name: str, paths: Sequence[Path]) -> PictureSet:
        cache = PictureCache(self.cache_folder) if self.cache_folder else None
        return PictureSet(name, paths, seed=self.seed, max_bad_share=self.max_bad_share, cache=cache)

    def _paths(self, name: str) -> list[Path]:
        return self._sets[name].paths if name in self._sets else []

    # What the base asks for

    def train_samples(self) -> Callable[[int], Sample]:
        """Sample `i` of the stream."""
        if "images" not in self._sets:
            raise DataError("The training pictures were not looked for yet: call setup first.")
        return LandscapePairs(self._sets["images"], self.transform, self.seed, self.flip, self._labels, self.classes)

    def fixed_samples(self, stage: FixedStage) -> FixedSamples | None:
        """In sorted order, the crop in the middle, not flipped; held-out pictures with labels; `predict` gives `source` and its `path`."""
        transform = self.transform.for_evaluation()
        if stage == "predict":
            return SinglePictures(self._sets["predict"], transform) if "predict" in self._sets else None
        if "validation_images" not in self._sets:
            return None
        return FixedLandscapes(self._sets["validation_images"], transform, self._labels, self.classes)

    @property
    def epoch_length(self) -> int:
        """Samples until every picture was shown once: half as many as there are pictures."""
        return -(-len(self._sets["images"]) // 2)

    def describe(self) -> dict[str, str | int]:
        """Pictures, labels, and what was left out."""
        facts: dict[str, str | int] = {
            name.replace("_", " "): f"{len(pictures)} pictures" for name, pictures in self._sets.items()
        }
        facts["labels"] = f"of {self.classes} classes" if self._labels else "none"
        facts["left out"] = f"{len(self._bad)}: {name_bad(self._bad)}" if self._bad else 0
        if went_bad := sum(pictures.went_bad for pictures in self._sets.values()):
            facts["went bad since"] = went_bad
        return facts

    def fingerprint(self) -> str:
        """A hash of names and sizes of all files in use, set by set; the same wherever the folders lie."""
        digest = blake2b(digest_size=16)
        for name, pictures in sorted(self._sets.items()):
            digest.update(f"\0{name} {self.classes}".encode())
            for path in pictures.paths:
                for file in (path, self._labels.get(path)):
                    if file is not None:
                        size = file.stat().st_size if file.exists() else -1
                        digest.update(f"\0{file.name}\0{size}".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


# Labels --------------------------------------------------------------------------------------------------------------------------


def labels_of(pictures: Sequence[Path], folders: Sequence[str], label_folders: Sequence[str]) -> dict[Path, Path]:
    """The file of labels of each picture.

    Args:
        pictures: absolute paths below the folders.
        folders: of pictures.
        label_folders: of labels, one for each.

    Raises:
        DataError: a picture has none.
    """
    roots = [Path(folder).expanduser().absolute() for folder in folders]
    label_roots = [Path(folder).expanduser().absolute() for folder in label_folders]
    for root in label_roots:
        if not root.exists():
            raise DataError(missing_folder(root, "labels"))
    found: dict[Path, Path] = {}
    lost: list[Path] = []
    for picture in pictures:
        place = next(number for number, root in enumerate(roots) if picture == root or root in picture.parents)
        base = roots[place] if roots[place].is_dir() else roots[place].parent
        label = (label_roots[place] / picture.relative_to(base)).with_suffix(LABEL_SUFFIX)
        found[picture] = label
        if not label.is_file():
            lost.append(picture)
    if lost:
        raise DataError(
            f"labels: {len(lost)} of {len(pictures)} pictures have none, such as {lost[0]}, for which {found[lost[0]]} was looked for. "
            f"Make them: lightning labels {folders[0]} --output {label_folders[0]}"
        )
    return found


def read_labels(path: Path, classes: int, height: int, width: int) -> NDArray[np.uint8]:
    """Class numbers of a picture, resized without mixing.

    Args:
        path: of a picture file whose first channel holds them; a palette's numbers count, not its colours.
        classes: how many there are.
        height: of the result.
        width: of the result.

    Returns:
        uint8 height width; 255 for no class.

    Raises:
        DataError: the file cannot be read, or holds another number.
    """
    try:
        with Image.open(path) as file:
            numbers = file if file.mode in {"P", "L", "1"} else file.getchannel(0)
            labels = np.asarray(numbers.resize((width, height), Image.Resampling.NEAREST)).astype(np.uint8)
    except (OSError, ValueError) as error:
        raise DataError(
            f"labels: {path} cannot be read ({error}). Make it again, or type --data.labels null"
        ) from error
    strange = labels[(labels >= classes) & (labels != NO_CLASS)]
    if strange.size:
        raise DataError(
            f"labels: {path} holds the class {strange.max()}, and classes is {classes}: 0 to {classes - 1} and {NO_CLASS} for none are "
            f"expected. Type --data.classes {int(strange.max()) + 1}, or mend the labels"
        )
    return labels


def cut_labels(labels: NDArray[np.uint8], crop: tuple[int, int], size: int, *, flip: bool) -> Tensor:
    """A square of labels `h w` with its left upper corner at (left, top), mirrored or not: int64 size size."""
    left, top = crop
    cut = labels[top : top + size, left : left + size]
    return torch.from_numpy((cut[:, ::-1] if flip else cut).astype(np.int64))


# Samples -------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LandscapePairs:
    """Training samples: the next two pictures of a fresh order, crops and flips of their own, all drawn from (seed, i)."""

    pictures: PictureSet
    transform: Transform
    seed: int
    flip: bool
    labels: Mapping[Path, Path]
    classes: int

    def __call__(self, i: int) -> Sample:
        """Sample `i`."""
        sample: Sample = {}
        for number, key in enumerate(("source", "target")):
            index = shuffled_index(self.seed, 2 * i + number, len(self.pictures))
            picture, path = self.pictures.resized(index, self.transform, i, key)
            height, width = picture.shape[:2]
            crop, flip = self.transform.draw(height, width, sample_generator(self.seed, i, key, "crop and flip"))
            sample[key] = to_chw(self.transform.finish(picture, crop, flip and self.flip))
            if self.labels:
                labels = read_labels(self.labels[path], self.classes, height, width)
                sample[f"{key}_labels"] = cut_labels(labels, crop, self.transform.size, flip=flip and self.flip)
        return sample


@dataclass(frozen=True)
class FixedLandscapes:
    """Evaluation samples in order: each picture, and the next one as its exemplar; labels of those pictures that have some."""

    pictures: PictureSet
    transform: Transform
    labels: Mapping[Path, Path]
    classes: int

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, i: int) -> Sample:
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        sample: Sample = {}
        for key, index in (("source", i), ("target", (i + 1) % len(self))):
            picture, path = self.pictures.resized(index, self.transform)
            crop = self.transform.centre(*picture.shape[:2])
            sample[key] = to_chw(self.transform.finish(picture, crop, flip=False))
            if path in self.labels:
                labels = read_labels(self.labels[path], self.classes, *picture.shape[:2])
                sample[f"{key}_labels"] = cut_labels(labels, crop, self.transform.size, flip=False)
        return sample
