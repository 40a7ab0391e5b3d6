"""Rendered scenes with known truth: a textured background and one object, whose look alone tells the domains apart.

The true translation of every scene, the object's mask, and the style of every exemplar are known, so a translation can
be judged without another network's opinion of what it should have been. Scenes are drawn by `datamodules.scene_render`
from (seed, index) alone; training, validation and test take their indices from ranges that never meet.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from datamodules.base import FixedStage, ImageDataModule
from datamodules.errors import DataError
from datamodules.sampling import Sample
from datamodules.scene_daylight import REGIONS, DaylightMaker, DaylightSamples
from datamodules.scene_daylight import VERSION as DAYLIGHT_VERSION
from datamodules.scene_looks import FIXED_STYLES, LOOKS, SHAPE_OF_LOOK, SHAPES, Floats
from datamodules.scene_render import (
    VERSION,
    Content,
    ShapeRule,
    StyleRule,
    View,
    draw_content,
    draw_style,
    render,
    uniforms,
)

Task = Literal["unpaired", "domains", "pairs", "alone", "daylight"]

FIRST_SAMPLE = {"train": 0, "validation": 2**40, "test": 2**41}
"""First sample of each stage. Training would need 10^12 samples to reach validation."""

TWO_DOMAINS = ("source", "target")

_DOMAIN_STREAM = 2  # draw_content and draw_style use the streams 0 and 1


class Scene(NamedTuple):
    """One scene and everything that is true of it.

    Attributes:
        image: uint8 3 h w.
        mask: 1 h w in [0, 1], the share of each pixel that the object covers.
        domain: number of its look in the domains asked for.
        style: 8 numbers in the order of `datamodules.scene_looks.STYLE`.
        content: what a translation keeps.
    """

    image: Tensor
    mask: Tensor
    domain: int
    style: Floats
    content: Content


@dataclass(frozen=True)
class SceneMaker:
    """Makes any scene, and the same scene in any other domain and style; a pure function of its fields and the index.

    Attributes:
        domains: looks, by name; a domain's number is its place here.
        size: height and width in pixels.
        seed: of all scenes.
        shapes: `shared` draws the shape with the content; `per_domain` ties it to the look, so that a translation
            changes the shape too and keeps place, size, turn and background.
        styles: `varied` draws colours, frequency and phase for every scene; `fixed` gives each look one style.
    """

    domains: tuple[str, ...]
    size: int
    seed: int
    shapes: ShapeRule = "shared"
    styles: StyleRule = "varied"

    def style(self, index: int, domain: int) -> Floats:
        """The style that scene `index` has in this domain, 8 numbers."""
        if self.styles == "fixed":
            return np.array(FIXED_STYLES[self.domains[domain]], np.float32)
        return draw_style(self.seed, np.array([index]))[0]

    def paint(self, index: int, *views: tuple[int, Floats]) -> list[Scene]:
        """Paint the content of scene `index` once per (domain, style): each is the others' exact translation."""
        content = draw_content(self.seed, np.array([index]))
        looks = [list(LOOKS).index(self.domains[domain]) for domain, _ in views]
        shapes = [self._shape(content, self.domains[domain]) for domain, _ in views]
        images, masks = render(
            content,
            [
                View(look=np.array([look]), style=style[None], shape=np.array([shape]))
                for look, shape, (_, style) in zip(looks, shapes, views, strict=True)
            ],
            self.size,
        )
        return [
            Scene(torch.from_numpy(image[0]), torch.from_numpy(mask[0]), domain, style, content)
            for image, mask, (domain, style) in zip(images, masks, views, strict=True)
        ]

    def scene(self, index: int, domain: int) -> Scene:
        """Paint scene `index` in this domain and its own style."""
        return self.paint(index, (domain, self.style(index, domain)))[0]

    def _shape(self, content: Content, look: str) -> int:
        if self.shapes == "per_domain":
            return list(SHAPES).index(SHAPE_OF_LOOK[look])
        return int(content.shape[0])


@dataclass(frozen=True)
class SceneSamples:
    """Samples of one task and stage: called, an endless stream; indexed, a finite list with the truth.

    Attributes:
        maker: paints the scenes.
        first: number of the first sample.
        count: how many there are when indexed.
    """

    maker: SceneMaker
    first: int
    count: int = 0

    def __call__(self, i: int) -> Sample:
        """Sample `i` of the stream, without the truth."""
        return self.sample(self.first + i, truth=False)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> Sample:
        if not 0 <= i < self.count:
            raise IndexError(f"sample {i} of {self.count}")
        return self.sample(self.first + i, truth=True)

    def sample(self, i: int, *, truth: bool) -> Sample:
        """Make sample `i`, with the true translation and masks when `truth` is set."""
        raise NotImplementedError

    def _domain(self, i: int, draw: int, other_than: int | None = None) -> int:
        """A uniformly drawn domain for sample `i`."""
        count = len(self.maker.domains)
        u = uniforms(self.maker.seed, _DOMAIN_STREAM, np.array([i]), 3)[0, draw]
        if other_than is None:
            return int(u * count)
        return (other_than + 1 + int(u * (count - 1))) % count


class UnpairedScenes(SceneSamples):
    """`source` and `target` from two domains, with contents and styles of their own.

    With the truth: `counterpart` is the source in the target's look and style, `mask` its object before and
    `counterpart_mask` after translation; `target_counterpart`, `target_mask` and `target_counterpart_mask` are the same
    for the way back, with the style of the source.
    """

    def alone(self, i: int, domain: int) -> Tensor:
        """The training picture of sample `i` in one domain, uint8 3 h w."""
        return self.maker.scene(2 * (self.first + i) + domain, domain).image

    def sample(self, i: int, *, truth: bool) -> Sample:
        """Make sample `i` from the scenes 2i and 2i + 1."""
        maker = self.maker
        views = [(domain, maker.style(2 * i + domain, domain)) for domain in range(2)]
        if not truth:
            return {
                "source": maker.paint(2 * i, views[0])[0].image,
                "target": maker.paint(2 * i + 1, views[1])[0].image,
            }
        source, counterpart = maker.paint(2 * i, *views)
        target_counterpart, target = maker.paint(2 * i + 1, *views)
        return {
            "source": source.image,
            "target": target.image,
            "counterpart": counterpart.image,
            "mask": source.mask,
            "counterpart_mask": counterpart.mask,
            "target_counterpart": target_counterpart.image,
            "target_mask": target.mask,
            "target_counterpart_mask": target_counterpart.mask,
        }


@dataclass(frozen=True)
class OneDomainScenes:
    """The first training scenes of one domain.

    Attributes:
        scenes: the training samples.
        key: "source" or "target".
        count: how many.
    """

    scenes: UnpairedScenes
    key: str
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> Sample:
        if not 0 <= i < self.count:
            raise IndexError(f"scene {i} of {self.count}")
        return {self.key: self.scenes.alone(i, TWO_DOMAINS.index(self.key))}


class DomainScenes(SceneSamples):
    """`image` of any `domain`, and two exemplars `reference`, `reference2` of any `reference_domain`.

    With the truth the exemplars' domain is another than the image's; `counterpart` is the image in the look and style
    of `reference`, `mask` its object before and `counterpart_mask` after translation.
    """

    def sample(self, i: int, *, truth: bool) -> Sample:
        """Make sample `i` from the scenes 3i, 3i + 1 and 3i + 2."""
        maker = self.maker
        domain = self._domain(i, 0)
        reference_domain = self._domain(i, 1, other_than=domain if truth else None)
        style = maker.style(3 * i + 1, reference_domain)
        views = [(domain, maker.style(3 * i, domain))] + ([(reference_domain, style)] if truth else [])
        image, *counterpart = maker.paint(3 * i, *views)
        sample: Sample = {
            "image": image.image,
            "domain": domain,
            "reference": maker.paint(3 * i + 1, (reference_domain, style))[0].image,
            "reference2": maker.scene(3 * i + 2, reference_domain).image,
            "reference_domain": reference_domain,
        }
        for true in counterpart:
            sample |= {"counterpart": true.image, "mask": image.mask, "counterpart_mask": true.mask}
        return sample


class PairedScenes(SceneSamples):
    """One content in two domains and styles, `x` and `y`, and an unpaired `image`, each with its domain and mask.

    The truth is in the sample at every stage: `y` is the true translation of `x`.
    """

    def sample(self, i: int, *, truth: bool) -> Sample:
        """Make sample `i` from the scenes 3i (both of the pair), 3i + 1 (style of `y`) and 3i + 2 (unpaired)."""
        maker = self.maker
        x_domain = self._domain(i, 0)
        y_domain = self._domain(i, 1, other_than=x_domain)
        x, y = maker.paint(
            3 * i, (x_domain, maker.style(3 * i, x_domain)), (y_domain, maker.style(3 * i + 1, y_domain))
        )
        alone = maker.scene(3 * i + 2, self._domain(i, 2))
        return {
            "x": x.image,
            "y": y.image,
            "x_domain": x_domain,
            "y_domain": y_domain,
            "x_mask": x.mask,
            "y_mask": y.mask,
            "image": alone.image,
            "domain": alone.domain,
            "mask": alone.mask,
        }


class ScenesAlone(SceneSamples):
    """One `image` of any `domain`; with the truth also its object's `mask`."""

    def sample(self, i: int, *, truth: bool) -> Sample:
        """Make sample `i`, scene `i`."""
        scene = self.maker.scene(i, self._domain(i, 0))
        sample: Sample = {"image": scene.image, "domain": scene.domain}
        return sample | {"mask": scene.mask} if truth else sample


_TASKS: dict[Task, type[SceneSamples]] = {
    "unpaired": UnpairedScenes,
    "domains": DomainScenes,
    "pairs": PairedScenes,
    "alone": ScenesAlone,
}
DAYLIGHT_TASK: Task = "daylight"


class Scenes(ImageDataModule):
    """Rendered scenes as batches: uint8 `b 3 h w` from the workers, floats in [-1, 1] on the device.

    Args:
        task: `unpaired` (source and target), `domains` (many domains with exemplars), `pairs` (one content twice), `alone` (pictures
            of any of the domains, and nothing beside), or `daylight`: two landscapes of one pile, each in a light of its own, see
            `datamodules.scene_daylight`. That has no domains: the next argument, shapes and styles are not looked at.
        domains: looks of the object, by name: two for `unpaired`, one or more for `alone`, two or more otherwise.
        size: height and width in pixels; the same scene at every size.
        batch_size: samples per process and iteration.
        workers: loader processes per process.
        seed: of all scenes.
        shapes: `shared`, or `per_domain` for a distant task that changes the object's shape with its look.
        styles: `varied`, or `fixed` for one style per look: then a translation without exemplar has one true answer.
        scenes_per_epoch: training samples that count as an epoch; the data itself is endless.
        validation_count: samples in validation.
        test_count: samples in the test (and in predict).

    Raises:
        DataError: an argument is out of range or a look is unknown.
    """

    def __init__(
        self,
        *,
        task: Task = "unpaired",
        domains: tuple[str, ...] = ("plain", "striped"),
        size: int = 64,
        batch_size: int = 4,
        workers: int = 0,
        seed: int = 0,
        shapes: ShapeRule = "shared",
        styles: StyleRule = "varied",
        scenes_per_epoch: int = 1000,
        validation_count: int = 64,
        test_count: int = 256,
    ) -> None:
        super().__init__(size=size, batch_size=batch_size, workers=workers, seed=seed)
        domains = tuple(domains)
        known = ", ".join(LOOKS)
        for name in domains:
            if name not in LOOKS:
                raise DataError(f"there is no look '{name}' among the scenes; the looks are: {known}")
        if len(set(domains)) != len(domains):
            raise DataError(f"domains names a look twice: {', '.join(domains)}; take different ones of: {known}")
        least = 1 if task == "alone" else 2
        if task != DAYLIGHT_TASK and (len(domains) < least or (task == "unpaired" and len(domains) > 2)):
            wanted = (
                "exactly two domains" if task == "unpaired" else "at least two domains" if least == 2 else "a domain"
            )
            hint = "; for more, type --data.task=domains" if len(domains) > 2 else ""
            raise DataError(f"task '{task}' needs {wanted}, found {len(domains)} ({', '.join(domains)}){hint}")
        for option, value, choices in (
            ("task", task, (*_TASKS, DAYLIGHT_TASK)),
            ("shapes", shapes, ("shared", "per_domain")),
            ("styles", styles, ("varied", "fixed")),
        ):
            if value not in choices:
                raise DataError(f"{option} is '{value}'; choose one of: {', '.join(choices)}")
        for option, number in (
            ("scenes_per_epoch", scenes_per_epoch),
            ("validation_count", validation_count),
            ("test_count", test_count),
        ):
            if not 1 <= number < FIRST_SAMPLE["validation"]:
                raise DataError(f"{option} is {number}; it must be at least 1: --data.{option}=64")
        if size < 16:
            raise DataError(f"size is {size}; below 16 pixels the looks cannot be told apart: --data.size=64")
        self.task = task
        self.domains = (DAYLIGHT_TASK,) if task == DAYLIGHT_TASK else domains
        self.maker = SceneMaker(domains=domains, size=size, seed=seed, shapes=shapes, styles=styles)
        self.daylight = DaylightMaker(size, seed) if task == DAYLIGHT_TASK else None
        self.scenes_per_epoch = scenes_per_epoch
        self.counts = {"validation": validation_count, "test": test_count}

    @property
    def classes(self) -> int:
        """How many classes the labels of a batch tell apart; 0 where there are none."""
        return len(REGIONS) if self.daylight else 0

    def train_samples(self) -> Callable[[int], Sample]:
        """The endless training scenes."""
        if self.daylight:
            return DaylightSamples(self.daylight, FIRST_SAMPLE["train"])
        return _TASKS[self.task](self.maker, FIRST_SAMPLE["train"])

    def fixed_samples(self, stage: FixedStage) -> SceneSamples | DaylightSamples:
        """The scenes of validation or test, with the truth; predict takes those of the test."""
        part = "test" if stage == "predict" else stage
        if self.daylight:
            return DaylightSamples(self.daylight, FIRST_SAMPLE[part], self.counts[part])
        return _TASKS[self.task](self.maker, FIRST_SAMPLE[part], self.counts[part])

    def domain_samples(self, key: str) -> OneDomainScenes:
        """The scenes of the first epoch's samples in one domain: `scenes_per_epoch` of them."""
        if self.task != "unpaired" or key not in TWO_DOMAINS:
            raise DataError(
                f"Scenes of task '{self.task}' have no domain '{key}' to go through; those of task 'unpaired' have "
                "'source' and 'target': --data.task=unpaired"
            )
        return OneDomainScenes(UnpairedScenes(self.maker, FIRST_SAMPLE["train"]), key, self.scenes_per_epoch)

    @property
    def epoch_length(self) -> int:
        """Training samples that count as an epoch."""
        return self.scenes_per_epoch

    def describe(self) -> dict[str, str | int]:
        """The task, the domains and the number of samples."""
        of_task: dict[str, str | int] = {
            "domains": ", ".join(self.maker.domains),
            "shapes and styles": f"{self.maker.shapes} shapes, {self.maker.styles} styles",
        }
        if self.daylight:
            of_task = {"labels": f"{', '.join(REGIONS)}, the true ones"}
        return {
            "rendered scenes": f"task {self.task}, {self.size}x{self.size}, endless training samples",
            **of_task,
            "validation samples": self.counts["validation"],
            "test samples": self.counts["test"],
        }

    def fingerprint(self) -> str:
        """A hash of the renderer's version and of every argument that changes a picture."""
        facts: tuple[object, ...] = ("scenes", VERSION, self.task, self.maker, tuple(self.counts.items()))
        if self.daylight:
            facts = ("scenes", DAYLIGHT_VERSION, self.task, self.daylight, tuple(self.counts.items()))
        return blake2b(repr(facts).encode(), digest_size=16).hexdigest()
