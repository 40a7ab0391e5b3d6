"""Pairs that one latent vector makes in two classes, and unpaired pictures beside them: what GP-UNIT's first stage learns from.

BigGAN, fed with one latent vector and several classes, gives pictures that share their layout. They come from folders in the
published layout of synImageNet291, or are drawn during training, or are rendered: there the layout is a scene's content and the
classes are its looks.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from datamodules.base import FixedSamples, FixedStage, ImageDataModule
from datamodules.cache import PictureCache
from datamodules.class_folders import ClassSet, LinkedSet, ReadOptions, class_folders, class_pictures
from datamodules.errors import DataError
from datamodules.folders import Check, lacking, name_bad, natural_key
from datamodules.generated_pairs import (
    FIRST_VALIDATION_NUMBER,
    IMAGE,
    PAIR,
    Detector,
    GeneratedPairs,
    PairSource,
    PictureDrawer,
    missing_of,
)
from datamodules.pictures import BadPictureError
from datamodules.preprocess import Transform, side_before_crop
from datamodules.sampling import Sample, sample_generator
from datamodules.scene_render import ShapeRule
from datamodules.scenes import Scenes
from datamodules.shards import find_shards

_ROOTS = ("pairs", "unpaired", "validation_pairs", "validation_unpaired")


class BigGANPairs(ImageDataModule):
    """Batches of pairs and unpaired pictures with the numbers of their classes and, where there are any, their masks.

    Keys: `x` and `y`, one layout in two classes `x_domain` and `y_domain`; `image`, of the class `domain`; `x_mask`, `y_mask`
    and `mask`. Masks from folders are pictures (instance maps in colour): uint8 `b 3 h w`, floats in [-1, 1] on the device.
    Rendered ones are `b 1 h w` in [0, 1]. Where no folder of masks is given, their keys are absent.

    The published layout is `<root>/<index>_<kind>/<n>.jpg`: a folder per class, and the same name `<n>` for the same latent
    vector in every folder of `pairs`. A class's number is the place of its folder's name in natural order among all folders of
    `pairs` and `unpaired`. As in the official code, `x` walks through the pictures; `y` has the name of `x` and the folder of a
    picture that is drawn uniformly, so both may be of one class. The four of a pair share crop and flip, and so do `image` and
    `mask`. Pictures are resized to a square with PIL's bilinear filter before the crop.

    Any of the four roots may be one of shards (`python -m datamodules.pack_shards`), whose masks lie in them too. Training then goes
    through the pictures of a few shards at a time, so that a disk or a network reads large files one after the other.

    With a generator, workers hand on numbers alone, and pairs (and unpaired pictures, where no folder gives them) are drawn on the
    device by `on_after_batch_transfer`: the same batches as with the folders that `lightning generate pairs` writes for as many numbers.

    Args:
        pairs: root of the pictures that share names.
        pairs_masks: root of their masks, at the same places, with the extension `.jpg`.
        unpaired: root of real pictures in the same layout without shared names; without it, `image` is drawn from `pairs` too.
        unpaired_masks: root of their masks.
        unpaired_counts: use the first pictures of each folder of `unpaired` alone, in natural order: one number for all folders,
            or a list for the last ones whose first number serves the rest. `[600, 29000]` is the official choice: 600 of each
            class and 29,000 faces from the last folder. Null for all.
        validation_pairs: as `pairs`, for validation and test.
        validation_pairs_masks: as `pairs_masks`, for validation and test.
        validation_unpaired: as `unpaired`, for validation and test.
        validation_unpaired_masks: as `unpaired_masks`, for validation and test.
        validation_count: samples in validation and in test, chosen once from the seed; at most as many as there are.
        generator: draws the pairs in place of the folder `pairs`, such as `zoo.biggan.pairs.PairGenerator`.
        detector: finds the objects in what the generator draws, such as `zoo.experts.mask_rcnn.MaskRCNN`; null for pictures
            without masks.
        rendered: looks of rendered scenes, by name, two or more; in place of all folders.
        shapes: of rendered objects: `shared` keeps the shape in a pair, `per_domain` ties it to the look.
        rendered_per_epoch: samples that count as an epoch where they have no end: rendered ones, and those of a generator.
        size: side of the pictures in pixels, a multiple of 4.
        load_size: side before the crop in pixels; null for 286/256 of `size`, rounded. Scenes are rendered at `size`.
        batch_size: pairs, and unpaired pictures, per process and iteration. The official loader's is 16.
        workers: loader processes; 0 loads in the training process.
        seed: of order, pairing, crops, flips and scenes.
        flip: mirror half of the training samples.
        cache: folder for resized pictures, which then load faster (height x width x 3 bytes each); null for none.
        check: what `setup` looks at: `header` (quick), `full` (decodes every file) or `none`.
        min_side: smallest side of a picture in pixels; smaller ones are left out.
        max_bad_share: largest share of unusable files that is left out instead of refused, 0 to 1, rounded up to files.

    Raises:
        DataError: an argument cannot be right; `setup` raises it for folders.
    """

    def __init__(
        self,
        *,
        pairs: str | None = None,
        pairs_masks: str | None = None,
        unpaired: str | None = None,
        unpaired_masks: str | None = None,
        unpaired_counts: int | list[int] | None = None,
        validation_pairs: str | None = None,
        validation_pairs_masks: str | None = None,
        validation_unpaired: str | None = None,
        validation_unpaired_masks: str | None = None,
        validation_count: int = 64,
        generator: PairSource | None = None,
        detector: Detector | None = None,
        rendered: list[str] | None = None,
        shapes: ShapeRule = "shared",
        rendered_per_epoch: int = 1000,
        size: int = 256,
        load_size: int | None = None,
        batch_size: int = 16,
        workers: int = 2,
        seed: int = 0,
        flip: bool = True,
        cache: str | None = None,
        check: Check = "header",
        min_side: int = 16,
        max_bad_share: float = 0.05,
    ) -> None:
        super().__init__(size=size, batch_size=batch_size, workers=workers, seed=seed)
        self.roots = {
            "pairs": pairs,
            "unpaired": unpaired,
            "validation_pairs": validation_pairs,
            "validation_unpaired": validation_unpaired,
        }
        self.masks = {
            "pairs": pairs_masks,
            "unpaired": unpaired_masks,
            "validation_pairs": validation_pairs_masks,
            "validation_unpaired": validation_unpaired_masks,
        }
        self.unpaired_counts = unpaired_counts
        self.validation_count = validation_count
        self.flip = flip
        self.cache_folder = cache
        self.check: Check = check
        self.min_side = min_side
        self.max_bad_share = max_bad_share
        load_size = side_before_crop(size) if load_size is None else load_size
        self.transform = Transform(load_size=load_size, size=size, interpolation="bilinear")
        self.generator, self.detector = generator, detector
        self.drawn_per_epoch = rendered_per_epoch
        self._refuse_nonsense(rendered)
        self.scenes = (
            Scenes(
                task="pairs",
                domains=tuple(rendered),
                size=size,
                batch_size=batch_size,
                workers=workers,
                seed=seed,
                shapes=shapes,
                scenes_per_epoch=rendered_per_epoch,
                validation_count=validation_count,
                test_count=validation_count,
            )
            if rendered
            else None
        )
        self._cache: PictureCache | None = None
        self._sets: dict[str, ClassSet] = {}
        self._labels: dict[str, int] = {}
        self._drawer: PictureDrawer | None = None

    def _refuse_nonsense(self, rendered: list[str] | None) -> None:
        folders = {**self.roots, **{f"{name}_masks": root for name, root in self.masks.items()}}
        given = [name for name, root in folders.items() if root]
        if rendered and given:
            raise DataError(
                f"Both rendered scenes and folders ({', '.join(given)}) are given; scenes bring all they need. Type "
                f"--data.rendered null, or leave the folders out"
            )
        if self.generator and (rendered or self.roots["pairs"]):
            other = "rendered scenes" if rendered else "the folder pairs"
            raise DataError(
                f"Both a generator and {other} are given. Type --data.{'rendered' if rendered else 'pairs'} null, or --data.generator null"
            )
        if self.detector and not self.generator:
            raise DataError(
                "A detector is given without a generator; folders have masks of their own: --data.pairs_masks FOLDER"
            )
        if not rendered and not self.roots["pairs"] and not self.generator:
            raise DataError(
                "There are no pairs. Type --data.pairs FOLDER for the published layout (FOLDER/7_bird/12.jpg), "
                "--data.generator zoo.biggan.pairs.PairGenerator to draw them, or "
                "--data.rendered '[plain, striped, dotted, checked]' for rendered ones"
            )
        for name in _ROOTS:
            if self.masks[name] and not self.roots[name]:
                raise DataError(f"{name}_masks is given without {name}. Type --data.{name} FOLDER")
        if self.roots["validation_unpaired"] and not self.roots["validation_pairs"] and not self.generator:
            raise DataError(
                "validation_unpaired is given without validation_pairs. Type --data.validation_pairs FOLDER"
            )
        if self.unpaired_counts is not None and not self.roots["unpaired"]:
            raise DataError("unpaired_counts is given without unpaired. Type --data.unpaired FOLDER")
        if self.check not in {"header", "full", "none"}:
            raise DataError(f"check is {self.check!r}; it must be 'header', 'full' or 'none'.")
        if not 0 <= self.max_bad_share <= 1:
            raise DataError(f"max_bad_share is {self.max_bad_share}; it is a share and must lie between 0 and 1.")
        for option, number in (("validation_count", self.validation_count), ("min_side", self.min_side)):
            if number < 1:
                raise DataError(f"{option} is {number}; it must be at least 1: --data.{option} 16")
        if self.size % self.transform.multiple:
            near = max(1, round(self.size / 4)) * 4
            raise DataError(f"size is {self.size}; networks that halve need a multiple of 4: --data.size {near}")

    @classmethod
    def missing(cls, settings: Mapping[str, Any]) -> list[str]:
        """A sentence for each folder that does not exist or holds no picture, and for what generator and detector lack."""
        names = [name for root in _ROOTS for name in (root, f"{root}_masks")]
        given = [name for name in names if settings.get(name) and not find_shards(settings[name], name)]
        found = [sentence for name in given for sentence in lacking([settings[name]], name)]
        return found + [sentence for name in ("generator", "detector") for sentence in missing_of(settings.get(name))]

    # Finding and checking

    def setup(self, stage: str | None = None) -> None:
        """Find and check the pictures of a stage: `fit`, `validate` or `test`; None stands for `fit`.

        Raises:
            DataError: a folder is missing or of another layout, a counterpart or a mask is missing, too many files are bad,
                or validation has a class or a picture of its own.
        """
        if self.scenes or stage == "predict":
            return
        if self.cache_folder and self._cache is None:
            self._cache = PictureCache(self.cache_folder)
        if not self._labels:
            roots = [name for name in ("pairs", "unpaired") if self.roots[name]]
            names = {folder for name in roots for folder in self._folder_names(name)}
            if self.generator:
                self.generator.setup()
                names |= set(self.generator.names())
            self._labels = {name: number for number, name in enumerate(sorted(names, key=natural_key))}
            if self.generator:
                drawn = [self._labels[name] for name in self.generator.names()]
                self._drawer = PictureDrawer(self.generator, self.detector, drawn, self.transform)
        wanted = ["validation_pairs", "validation_unpaired"]
        for name in ["pairs", "unpaired", *wanted] if stage in {"fit", None} else wanted:
            self._load(name)
        if stage in {"validate", "test"} and "validation_pairs" not in self._sets and not self.generator:
            raise DataError("There are no pictures for validation. Type --data.validation_pairs FOLDER")

    def _folder_names(self, name: str) -> list[str]:
        root = self.roots[name] or ""
        shards = find_shards(root, name)
        return list(shards.folders) if shards else [folder.name for folder in class_folders(root, name)]

    def _load(self, name: str) -> None:
        root = self.roots[name]
        if name in self._sets or root is None:
            return
        counts = self.unpaired_counts if name == "unpaired" else None
        shards = find_shards(root, name)
        if shards and self.masks[name]:
            raise DataError(
                f"{name}: {root} holds shards, whose masks lie in them. Type --data.{name}_masks null; to pack others: "
                "python -m datamodules.pack_shards --help"
            )
        pictures = shards.by_folder(counts, name) if shards else class_pictures(root, name, counts)
        if strange := [folder for folder in pictures if folder not in self._labels]:
            raise DataError(
                f"{name}: the folder {strange[0]} has no namesake among the {len(self._labels)} classes of the training folders. "
                f"Type --data.{name} FOLDER of the same classes"
            )
        training = self._sets.get(name.removeprefix("validation_"))
        if name.startswith("validation_") and training:
            files = {path for paths in pictures.values() for path in paths}
            if shared := files & set(training.pictures.paths):
                raise DataError(
                    f"{name}: {len(shared)} pictures, such as {min(shared)}, are trained on too. Type --data.{name} FOLDER of "
                    "its own"
                )
        # What lies in shards was looked at when it was packed.
        check: Check = "none" if shards else self.check
        quiet = self._rank != 0
        options = ReadOptions(self.seed, check, self.min_side, self.max_bad_share, self._cache, quiet, shards)
        kind = LinkedSet if name.endswith("pairs") else ClassSet
        self._sets[name] = kind(name, pictures, self._labels, self.masks[name], options)

    # What the base asks for

    @property
    def domains(self) -> list[str]:
        """The classes' names in the order of their numbers; those of folders are known after `setup`."""
        return list(self.scenes.domains) if self.scenes else list(self._labels)

    def _sources(self, prefix: str) -> tuple[LinkedSet, ClassSet]:
        """The sets that pairs and unpaired pictures are drawn from."""
        pairs = self._sets.get(f"{prefix}pairs")
        if not isinstance(pairs, LinkedSet):
            raise DataError(f"The {prefix or 'training '}pictures were not looked for yet: call setup first.")
        return pairs, self._sets.get(f"{prefix}unpaired", pairs)

    def _drawn(self, key: str, prefix: str, transform: Transform, *, flip: bool) -> GeneratedPairs:
        assert self.generator is not None
        labels = tuple(self._labels[name] for name in self.generator.names())
        count, first = (None, FIRST_VALIDATION_NUMBER) if prefix else (self.generator.count(), 0)
        stream = f"{prefix}{'pairs' if key == PAIR else 'image'}"
        return GeneratedPairs(labels, count, transform, self.seed, flip, stream, key, first, crop=not prefix)

    def _samples(self, prefix: str, transform: Transform, *, flip: bool, count: int = 0) -> "MixedSamples":
        if self.generator and f"{prefix}pairs" not in self._sets:
            image: Callable[[int], Sample] = self._drawn(IMAGE, prefix, transform, flip=flip)
            if real := self._sets.get(f"{prefix}unpaired"):
                image = UnpairedPictures(real, transform, self.seed, flip, f"{prefix}image")
            return MixedSamples((self._drawn(PAIR, prefix, transform, flip=flip), image), count)
        pairs, unpaired = self._sources(prefix)
        return MixedSamples(
            (
                PairedPictures(pairs, transform, self.seed, flip, f"{prefix}pairs"),
                UnpairedPictures(unpaired, transform, self.seed, flip, f"{prefix}image"),
            ),
            min(count, len(pairs)),
        )

    def train_samples(self) -> Callable[[int], Sample]:
        """Sample `i` of the stream: a pair and an unpaired picture."""
        if self.scenes:
            return self.scenes.train_samples()
        return self._samples("", self.transform, flip=self.flip)

    def fixed_samples(self, stage: FixedStage) -> FixedSamples | None:
        """The first `validation_count` samples of a fixed order, resized to `size`, not flipped; none to predict."""
        if stage == "predict":
            return None
        if self.scenes:
            return self.scenes.fixed_samples(stage)
        if not self.roots["validation_pairs"] and not self.generator:
            return None
        return self._samples("validation_", self.transform.for_evaluation(), flip=False, count=self.validation_count)

    @property
    def epoch_length(self) -> int:
        """Samples until the larger of pairs and unpaired pictures was gone through once.

        The official recipe counts in iterations alone: its 45,000 of 16 samples see 174,600 pictures of synImageNet291 4.1
        times and 203,600 real ones 3.5 times.
        """
        if self.scenes:
            return self.scenes.epoch_length
        if self.generator:
            drawn = len(self.generator.names()) * (self.generator.count() or 0) or self.drawn_per_epoch
            return max(drawn, len(self._sets.get("unpaired", ())))
        return max(map(len, self._sources("")))

    def describe(self) -> dict[str, str | int]:
        """Pictures and latent vectors, classes, masks and what was left out."""
        if self.scenes:
            return self.scenes.describe()
        facts: dict[str, str | int] = {"pairs": self.generator.describe()} if self.generator else {}
        without = ["what is drawn"] if self.generator and not self.detector else []
        for name, pictures in self._sets.items():
            label = name.replace("_", " ")
            if isinstance(pictures, LinkedSet):
                facts[label] = f"{len(pictures)} pictures of {len(pictures.names)} latent vectors"
            else:
                facts[label] = f"{len(pictures)} pictures"
            if pictures.shards:
                facts[f"{label}: shards"] = len(pictures.shards.files)
            facts[f"{label}: classes"] = len(set(pictures.labels.tolist()))
            without += [] if pictures.masks else [name]
        facts["classes"] = f"{len(self._labels)}: 0 {self.domains[0]} ... {len(self._labels) - 1} {self.domains[-1]}"
        lines = " ".join(f"--data.{name}_masks FOLDER" for name in without if name in _ROOTS)
        if self.generator and not self.detector:
            lines = f"--data.detector zoo.experts.mask_rcnn.MaskRCNN {lines}".strip()
        facts["masks"] = (
            f"none of {' and '.join(without)}: losses on their shapes are off ({lines})" if without else "all"
        )
        bad = {path: reason for pictures in self._sets.values() for path, reason in pictures.bad.items()}
        facts["left out"] = f"{len(bad)}: {name_bad(bad)}" if bad else 0
        if went_bad := sum(pictures.went_bad for pictures in self._sets.values()):
            facts["went bad since"] = went_bad
        return facts

    def fingerprint(self) -> str:
        """A hash of folders, names and sizes of all files in use, set by set; the same wherever the roots lie."""
        if self.scenes:
            return self.scenes.fingerprint()
        digest = blake2b(self.generator.fingerprint().encode() if self.generator else b"", digest_size=16)
        for name, pictures in sorted(self._sets.items()):
            for files in (pictures.pictures, pictures.masks) if pictures.masks else (pictures.pictures,):
                digest.update(f"\0{name} {files.name}".encode())
                for path, size in zip(files.paths, files.sizes(), strict=True):
                    digest.update(f"\0{path.parent.name}/{path.name}\0{size}".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    # Drawing

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Keep the numbers of what will be drawn on the CPU."""
        return PictureDrawer.keep_numbers(batch)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Draw the pictures that the batch has numbers of; then turn all uint8 into floats in [-1, 1]."""
        if self._drawer is not None:
            batch = self._drawer.fill(batch)
        return super().on_after_batch_transfer(batch, dataloader_idx)


@dataclass(frozen=True)
class MixedSamples:
    """Samples whose parts come from sources of their own: called, an endless stream; indexed, a finite list.

    Attributes:
        parts: each a pure function of the sample's number, with keys of its own.
        count: how many there are when indexed.
    """

    parts: tuple[Callable[[int], Sample], ...]
    count: int = 0

    def __call__(self, i: int) -> Sample:
        """Sample `i`."""
        return {key: value for part in self.parts for key, value in part(i).items()}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> Sample:
        if not 0 <= i < self.count:
            raise IndexError(f"sample {i} of {self.count}")
        return self(i)


@dataclass(frozen=True)
class UnpairedPictures:
    """`image`, `domain` and `mask` of sample `i`, drawn from (seed, i).

    Attributes:
        pictures: walked through in a fresh order every time.
        transform: prepares them; its crop covers a resized picture in evaluation.
        seed: of all draws.
        flip: mirror half of them.
        stream: tells apart the streams of one seed.
    """

    pictures: ClassSet
    transform: Transform
    seed: int
    flip: bool
    stream: str

    def __call__(self, i: int) -> Sample:
        """Make sample `i`; a file that went bad is replaced by another one."""
        index = self.pictures.index_of(i, self.seed, self.stream)
        replacements = sample_generator(self.seed, i, self.stream, "replacement")
        while True:
            try:
                return self._sample(i, index)
            except BadPictureError:
                index = int(replacements.integers(len(self.pictures)))

    def _sample(self, i: int, index: int) -> Sample:
        generator = sample_generator(self.seed, i, self.stream, index)
        crop, flip = self.transform.draw(self.transform.load_size, self.transform.load_size, generator)
        image, *mask = self.pictures.read(index, self.transform, crop, flip and self.flip)
        return {"image": image, "domain": int(self.pictures.labels[index]), **dict(zip(["mask"], mask, strict=False))}


@dataclass(frozen=True)
class PairedPictures(UnpairedPictures):
    """`x` and `y` of one latent vector, with their classes and masks; see `UnpairedPictures`."""

    pictures: LinkedSet

    def _sample(self, i: int, index: int) -> Sample:
        generator = sample_generator(self.seed, i, self.stream, index)
        crop, flip = self.transform.draw(self.transform.load_size, self.transform.load_size, generator)
        other = None
        while (
            other is None
        ):  # the picture of this latent vector may have been left out there; its own class always is there
            other = self.pictures.counterpart(index, int(generator.integers(len(self.pictures))))
        sample: Sample = {}
        for key, at in (("x", index), ("y", other)):
            image, *mask = self.pictures.read(at, self.transform, crop, flip and self.flip)
            sample |= {key: image, f"{key}_domain": int(self.pictures.labels[at])}
            sample |= dict(zip([f"{key}_mask"], mask, strict=False))
        return sample
