"""Pictures of many classes in folders, one per class: what class-conditional GANs learn from.

`<root>/<class>/<picture>`, the layout of ImageNet. A class's number is the place of its folder's name in natural order.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, get_args

from datamodules.base import FixedSamples, FixedStage, ImageDataModule
from datamodules.biggan_pairs import MixedSamples, UnpairedPictures
from datamodules.cache import PictureCache
from datamodules.class_folders import ClassSet, ReadOptions, class_folders, class_pictures
from datamodules.errors import DataError
from datamodules.folders import Check, lacking, name_bad, natural_key
from datamodules.preprocess import Interpolation, Pixels, Transform
from datamodules.sampling import Sample


@dataclass(frozen=True)
class MiddleSquare(Transform):
    """Cuts the largest square out of a picture's middle, then resizes it with PIL's bilinear filter: BigGAN's preparation.

    Args:
        interpolation: PIL's filter.
    """

    interpolation: Interpolation = "bilinear"

    @property
    def fixed_settings(self) -> str:
        """All that the result of `resize` depends on beside the picture."""
        return f"middle square {super().fixed_settings}"

    def resize(self, picture: Pixels) -> Pixels:
        """Cut and resize uint8 `h w 3`; halves are rounded to the even neighbour, as the official crop does."""
        height, width = picture.shape[:2]
        side = min(height, width)
        top, left = round((height - side) / 2), round((width - side) / 2)
        return super().resize(picture[top : top + side, left : left + side])


class ClassFolders(ImageDataModule):
    """Batches of `image` and `domain`, the number of its class, int64 `b`.

    The middle square of every picture is resized to `size`, as in the official BigGAN code, which mirrors none of ImageNet's.
    Training walks through a fresh order of all pictures every epoch.

    Args:
        train: root of the pictures to learn from, `<root>/<class>/<picture>`.
        validation: root of others, of the same classes; null for none.
        validation_count: samples in validation and in test, chosen once from the seed; at most as many as there are.
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
        train: str,
        validation: str | None = None,
        validation_count: int = 256,
        size: int = 128,
        batch_size: int = 256,
        workers: int = 4,
        seed: int = 0,
        flip: bool = False,
        cache: str | None = None,
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
        self.validation_count, self.flip = validation_count, flip
        self.transform = MiddleSquare(load_size=size, size=size, multiple=1)
        self.cache_folder = cache
        self._reading = (check, min_side, max_bad_share)
        self._sets: dict[str, ClassSet] = {}
        self._labels: dict[str, int] = {}

    @classmethod
    def missing(cls, settings: Mapping[str, Any]) -> list[str]:
        """A sentence for each folder of the settings that does not exist or holds no picture."""
        names = ("train", "validation")
        return [line for name in names if settings.get(name) for line in lacking([settings[name]], name)]

    def setup(self, stage: str | None = None) -> None:
        """Find and check the pictures of a stage: `fit`, `validate` or `test`; None stands for `fit`.

        Raises:
            DataError: a folder is missing or of another layout, too many files are bad, or validation has a class or a picture
                of its own or none at all.
        """
        if stage == "predict":
            return
        if not self._labels:
            names = [folder.name for folder in class_folders(str(self.roots["train"]), "train")]
            self._labels = {name: number for number, name in enumerate(sorted(names, key=natural_key))}
        check, min_side, max_bad_share = self._reading
        cache = PictureCache(self.cache_folder) if self.cache_folder else None
        options = ReadOptions(self.seed, check, min_side, max_bad_share, cache, quiet=self._rank != 0)
        for name in ("train", "validation") if stage in {"fit", None} else ("validation",):
            root = self.roots[name]
            if root is None or name in self._sets:
                continue
            pictures = class_pictures(root, name)
            if strange := sorted(pictures.keys() - self._labels.keys()):
                raise DataError(
                    f"{name}: the folder {strange[0]} has no namesake among the {len(self._labels)} classes of the training "
                    f"folders. Type --data.{name} FOLDER of the same classes"
                )
            self._refuse_trained_on(name, pictures)
            self._sets[name] = ClassSet(name, pictures, self._labels, None, options)
        if stage in {"validate", "test"} and "validation" not in self._sets:
            raise DataError("There are no pictures for validation. Type --data.validation FOLDER")

    def _refuse_trained_on(self, name: str, pictures: Mapping[str, list[Path]]) -> None:
        trained_on = set(self._sets["train"].pictures.paths) if "train" in self._sets and name != "train" else set()
        if shared := trained_on & {path for paths in pictures.values() for path in paths}:
            raise DataError(
                f"{name}: {len(shared)} pictures, such as {min(shared)}, are trained on too. Type --data.{name} FOLDER of its own"
            )

    @property
    def domains(self) -> list[str]:
        """The classes' names in the order of their numbers; known after `setup`."""
        return list(self._labels)

    def train_samples(self) -> Callable[[int], Sample]:
        """Sample `i` of the stream: a picture and the number of its class."""
        return UnpairedPictures(self._sets["train"], self.transform, self.seed, self.flip, "image")

    def fixed_samples(self, stage: FixedStage) -> FixedSamples | None:
        """The first `validation_count` samples of a fixed order, not flipped; none to predict."""
        if stage == "predict" or "validation" not in self._sets:
            return None
        pictures = self._sets["validation"]
        part = UnpairedPictures(pictures, self.transform, self.seed, False, "validation image")
        return MixedSamples((part,), min(self.validation_count, len(pictures)))

    @property
    def epoch_length(self) -> int:
        """All training pictures."""
        return len(self._sets["train"])

    def describe(self) -> dict[str, str | int]:
        """Pictures, classes and what was left out."""
        facts: dict[str, str | int] = {name: f"{len(pictures)} pictures" for name, pictures in self._sets.items()}
        facts["classes"] = f"{len(self._labels)}: 0 {self.domains[0]} ... {len(self._labels) - 1} {self.domains[-1]}"
        bad = {path: reason for pictures in self._sets.values() for path, reason in pictures.bad.items()}
        facts["left out"] = f"{len(bad)}: {name_bad(bad)}" if bad else 0
        if went_bad := sum(pictures.went_bad for pictures in self._sets.values()):
            facts["went bad since"] = went_bad
        return facts

    def fingerprint(self) -> str:
        """A hash of folders, names and sizes of all files in use; the same wherever the roots lie."""
        digest = blake2b(digest_size=16)
        for name, pictures in sorted(self._sets.items()):
            digest.update(f"\0{name}".encode())
            for path in pictures.pictures.paths:
                size = path.stat().st_size if path.exists() else -1
                digest.update(f"\0{path.parent.name}/{path.name}\0{size}".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()
