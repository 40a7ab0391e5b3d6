"""Pictures of one domain that show their subject in one place, such as aligned faces: what generative autoencoders learn from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, get_args

from datamodules.base import FixedSamples, FixedStage, ImageDataModule
from datamodules.cache import PictureCache
from datamodules.errors import DataError
from datamodules.folders import Check, PictureSet, check_pictures, find_pictures, lacking, name_bad
from datamodules.preprocess import Interpolation, Pixels, Transform, crop_box
from datamodules.sampling import Sample, sample_generator, shuffled_index, to_chw

Crop = Literal["middle", "celeba"]

CELEBA_ALIGNED = {"height": 218, "width": 178, "side": 128, "down": 15}
"""CelebA's aligned faces in pixels, and the square that ALAE cuts out of them."""


@dataclass(frozen=True)
class AlignedTransform(Transform):
    """Cuts a square out of a picture and resizes it; a square of the right size is left as it is.

    Args:
        interpolation: PIL's filter.
        crop: `middle` for the largest square, `celeba` for that of CelebA's aligned faces.
    """

    interpolation: Interpolation = "bilinear"
    crop: Crop = "middle"

    @property
    def fixed_settings(self) -> str:
        """All that the result of `resize` depends on beside the picture."""
        return f"{self.crop} square {super().fixed_settings}"

    def resize(self, picture: Pixels) -> Pixels:
        """Cut and resize uint8 `h w 3`.

        Raises:
            DataError: the picture is no aligned face of CelebA, and was announced as one.
        """
        height, width = picture.shape[:2]
        if self.crop == "celeba":
            if (height, width) != (CELEBA_ALIGNED["height"], CELEBA_ALIGNED["width"]):
                raise DataError(
                    f"A picture has {width}x{height} pixels, and CelebA's aligned faces have 178x218: take those, or --data.crop middle"
                )
            top, left, side, _ = crop_box(**CELEBA_ALIGNED)
        else:
            side = min(height, width)
            top, left, _, _ = crop_box(height=height, width=width, side=side)
        return super().resize(picture[top : top + side, left : left + side])


class AlignedPictures(ImageDataModule):
    """Batches of `image`, squares of one domain.

    Training walks through a fresh order of all pictures every epoch; half of them are mirrored. A network that grows gets smaller ones, see
    `datamodules.pyramid`.

    Args:
        train: folder of the pictures to learn from, or several.
        test: folder of others for validation and test, or several; null to hold the last `test_count` of `train` out, in natural order.
        test_count: number of test pictures: FFHQ's last 10,000 of 70,000; null for all of `test`, or none held out.
        validation_count: the first so many of the test pictures are looked at in validation.
        crop: `middle` for the largest square, `celeba` for that of CelebA's aligned faces.
        size: side of the pictures in pixels.
        batch_size: pictures per process and iteration.
        workers: loader processes; 0 loads in the training process.
        seed: of order and flips.
        flip: mirror half of the training pictures.
        cache: folder for resized pictures, which then load faster (size x size x 3 bytes each); null for none.
        check: what `setup` looks at: `header` (quick), `full` (decodes every file) or `none`.
        min_side: smallest side of a picture in pixels; smaller ones are left out.
        max_bad_share: largest share of unusable files that is left out instead of refused, 0 to 1, rounded up to files.

    Raises:
        DataError: an argument is out of range; `setup` raises it for folders.
    """

    def __init__(
        self,
        *,
        train: str | list[str],
        test: str | list[str] | None = None,
        test_count: int | None = None,
        validation_count: int = 256,
        crop: Crop = "middle",
        size: int = 128,
        batch_size: int = 32,
        workers: int = 4,
        seed: int = 0,
        flip: bool = True,
        cache: str | None = None,
        check: Check = "header",
        min_side: int = 16,
        max_bad_share: float = 0.05,
    ) -> None:
        super().__init__(size=size, batch_size=batch_size, workers=workers, seed=seed)
        for option, number in (("validation_count", validation_count), ("min_side", min_side)):
            if number < 1:
                raise DataError(f"{option} is {number}; it must be at least 1: --data.{option} 16")
        if test_count is not None and test_count < 1:
            raise DataError(f"test_count is {test_count}; it must be at least 1: --data.test_count null")
        for option, value, known in (("crop", crop, get_args(Crop)), ("check", check, get_args(Check))):
            if value not in known:
                raise DataError(f"{option} is {value!r}; it must be one of: {', '.join(known)}")
        if not 0 <= max_bad_share <= 1:
            raise DataError(f"max_bad_share is {max_bad_share}; it is a share and must lie between 0 and 1.")
        self.folders = {"train": _as_list(train), "test": _as_list(test)}
        self.test_count, self.validation_count, self.flip = test_count, validation_count, flip
        self.transform = AlignedTransform(load_size=size, size=size, multiple=1, crop=crop)
        self.cache_folder = cache
        self._reading = (check, min_side, max_bad_share)
        self._sets: dict[str, PictureSet] = {}
        self._bad: dict[Path, str] = {}

    @classmethod
    def missing(cls, settings: Mapping[str, Any]) -> list[str]:
        """A sentence for each folder of the settings that does not exist or holds no picture."""
        return [line for name in ("train", "test") for line in lacking(_as_list(settings.get(name)), name)]

    def setup(self, stage: str | None = None) -> None:
        """Find and check the pictures of a stage: `fit`, `validate`, `test` or `predict`; None stands for `fit`.

        Raises:
            DataError: a folder is missing or empty, too many files are bad, all would be held out, or there is nothing to test.
        """
        train = find_pictures(self.folders["train"], "train")
        if self.folders["test"]:
            test = find_pictures(self.folders["test"], "test")[: self.test_count]
            if shared := set(train) & set(test):
                raise DataError(
                    f"test: {len(shared)} pictures, such as {min(shared)}, are trained on too. Type --data.test FOLDER of its own"
                )
        else:
            count = self.test_count or 0
            if count >= len(train):
                raise DataError(
                    f"train: of {len(train)} pictures {count} would be held out for the test. Type --data.test_count {len(train) // 7 or 1}"
                )
            train, test = train[: len(train) - count], train[len(train) - count :]
        if stage in {"validate", "test", "predict"} and not test:
            raise DataError("There are no pictures for the test. Type --data.test FOLDER, or --data.test_count 1000")
        wanted = {"train": train, "test": test} if stage in {"fit", None} else {"test": test}
        for name, paths in wanted.items():
            if paths and name not in self._sets:
                self._sets[name] = self._checked(name, paths)

    def _checked(self, name: str, paths: Sequence[Path]) -> PictureSet:
        check, min_side, share = self._reading
        cache = PictureCache(self.cache_folder) if self.cache_folder else None
        found = check_pictures(paths, name, check=check, min_side=min_side, max_bad_share=share, cache=cache)
        self._bad |= found.bad
        return PictureSet(name, found.good, seed=self.seed, max_bad_share=share, cache=cache)

    def train_samples(self) -> Callable[[int], Sample]:
        """Sample `i` of the stream: one picture."""
        return AlignedSamples(self._sets["train"], self.transform, self.seed, self.flip)

    def fixed_samples(self, stage: FixedStage) -> FixedSamples | None:
        """Test pictures, not mirrored; validation looks at the first of them alone."""
        if "test" not in self._sets:
            return None
        pictures = self._sets["test"]
        count = min(self.validation_count, len(pictures)) if stage == "validation" else len(pictures)
        return FixedAligned(pictures, self.transform, count)

    @property
    def epoch_length(self) -> int:
        """All training pictures."""
        return len(self._sets["train"])

    def describe(self) -> dict[str, str | int]:
        """Pictures, how they are cut, and what was left out."""
        facts: dict[str, str | int] = {f"{name} pictures": len(pictures) for name, pictures in self._sets.items()}
        facts["prepared"] = f"{self.transform.crop} square, {self.size}x{self.size}"
        facts["left out"] = f"{len(self._bad)}: {name_bad(self._bad)}" if self._bad else 0
        if went_bad := sum(pictures.went_bad for pictures in self._sets.values()):
            facts["went bad since"] = went_bad
        return facts

    def fingerprint(self) -> str:
        """A hash of names and sizes of all files in use and how they are prepared; the same wherever the folders lie."""
        digest = blake2b(f"{self.transform.crop} {self.size} {self.flip}".encode(), digest_size=16)
        for name, pictures in sorted(self._sets.items()):
            digest.update(f"\0{name}".encode())
            for path in pictures.paths:
                size = path.stat().st_size if path.exists() else -1
                digest.update(f"\0{path.parent.name}/{path.name}\0{size}".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


@dataclass(frozen=True)
class AlignedSamples:
    """The endless training samples.

    Attributes:
        pictures: walked through in a fresh order every time.
        transform: prepares them.
        seed: of order and flips.
        flip: mirror half of them.
    """

    pictures: PictureSet
    transform: Transform
    seed: int
    flip: bool

    def __call__(self, i: int) -> Sample:
        """Sample `i`."""
        index = shuffled_index(self.seed, i, len(self.pictures), "image")
        picture, _ = self.pictures.resized(index, self.transform, i)
        flip = self.flip and float(sample_generator(self.seed, i, "flip").random()) < 0.5
        return {"image": to_chw(self.transform.finish(picture, (0, 0), flip))}


@dataclass(frozen=True)
class FixedAligned:
    """The first pictures of a set, as they are."""

    pictures: PictureSet
    transform: Transform
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> Sample:
        if not 0 <= i < self.count:
            raise IndexError(f"picture {i} of {self.count}")
        picture, path = self.pictures.resized(i, self.transform)
        return {"image": to_chw(self.transform.finish(picture, (0, 0), False)), "path": str(path)}


def _as_list(folders: str | list[str] | None) -> list[str]:
    return [] if folders is None else [folders] if isinstance(folders, str) else [str(folder) for folder in folders]
