"""Pairs that a generator draws during training: the workers hand on numbers, the pictures are drawn where they are needed.

What draws is known by its shape alone (`PairSource`): a room's class, built from the YAML. Number n of a source is file `<n>.png` of
`lightning generate pairs`: with as many numbers as there are files, the batches are those of the folders, to one grey level.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import torch
from torch import Tensor

from datamodules.preprocess import Transform
from datamodules.sampling import Sample, sample_generator, shuffled_index
from zoo.core.images import resize

FIRST_VALIDATION_NUMBER = 2**40
"""Number of the first latent vector of validation; training would need 10^11 iterations to reach it."""

PAIR, IMAGE = "pair_number", "image_number"
VIEW = {PAIR: "pair_view", IMAGE: "image_view"}
"""Keys of what travels in place of pictures: numbers, and (left, top, whether to mirror) of the crop."""


class PairSource(Protocol):
    """What draws pictures by number and domain, such as `zoo.biggan.pairs.PairGenerator`."""

    def setup(self) -> None:
        """Read what is needed; may be called again."""
        ...

    def names(self) -> list[str]:
        """The domains' names; after `setup`."""
        ...

    def count(self) -> int | None:
        """How many numbers there are; None for no end of them."""
        ...

    def draw(self, numbers: Sequence[int], domains: Tensor) -> Tensor:
        """Pictures uint8 b 3 h w, on the device of the domains' numbers, int64 b."""
        ...

    def describe(self) -> str:
        """What draws, in words."""
        ...

    def fingerprint(self) -> str:
        """A hash of all that the pictures follow from."""
        ...


class Detector(Protocol):
    """What finds objects in drawn pictures, such as `zoo.experts.mask_rcnn.MaskRCNN`."""

    def instance_maps(self, image: Tensor) -> Tensor:
        """A colour per object on black, uint8 b 3 h w, from pictures of the same shape."""
        ...


@dataclass(frozen=True)
class GeneratedPairs:
    """`x_domain`, `y_domain` and the number of sample `i`'s pair, or `domain` and the number of its `image`.

    With a finite count of numbers, samples are those of folders of so many files, see `datamodules.biggan_pairs`.

    Attributes:
        labels: the classes' numbers, in the order of the source's domains.
        count: of numbers; None for no end.
        transform: whose crop is drawn.
        seed: of all draws.
        flip: mirror half of them.
        stream: tells apart the streams of one seed.
        key: `PAIR` or `IMAGE`.
        first: number of the first latent vector.
        crop: give the crop, too; without it pictures are resized to the size of one.
    """

    labels: tuple[int, ...]
    count: int | None
    transform: Transform
    seed: int
    flip: bool
    stream: str
    key: str = PAIR
    first: int = 0
    crop: bool = True

    def __call__(self, i: int) -> Sample:
        """Make sample `i`."""
        domains = len(self.labels)
        # Pictures are counted domain by domain, as in folders; without an end, each has a number of its own.
        pictures = domains * self.count if self.count else domains
        index = shuffled_index(self.seed, i, pictures, self.stream) if self.count else i
        generator = sample_generator(self.seed, i, self.stream, index)
        (left, top), mirror = self.transform.draw(self.transform.load_size, self.transform.load_size, generator)
        sample: Sample = {VIEW[self.key]: torch.tensor([left, top, mirror and self.flip])} if self.crop else {}
        if self.count:
            domain, number = divmod(index, self.count)
        else:
            number = 2 * i + (self.key == IMAGE)
            domain = int(generator.integers(domains))
        sample |= {self.key: self.first + number, ("domain" if self.key == IMAGE else "x_domain"): self.labels[domain]}
        if self.key == PAIR:
            sample["y_domain"] = self.labels[int(generator.integers(pictures)) // (self.count or 1)]
        return sample


class PictureDrawer:
    """Turns the numbers of a batch into pictures, on the batch's device.

    Args:
        source: draws them.
        detector: finds their objects; None for no masks.
        labels: the classes' numbers, in the order of the source's domains.
        transform: of training; pictures without a crop are resized to its `size`.
    """

    def __init__(
        self, source: PairSource, detector: Detector | None, labels: Sequence[int], transform: Transform
    ) -> None:
        self.source, self.detector, self.transform = source, detector, transform
        self.domains = torch.full((max(labels) + 1,), -1).scatter(0, torch.tensor(labels), torch.arange(len(labels)))

    @staticmethod
    def keep_numbers(batch: Mapping[str, Any]) -> dict[str, Any]:
        """Turn numbers into lists before the batch leaves the CPU: latent vectors are made there, and nothing waits for the device."""
        return {
            key: value.tolist() if key in (PAIR, IMAGE) and isinstance(value, Tensor) else value
            for key, value in batch.items()
        }

    @torch.no_grad()
    def fill(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Replace numbers by pictures `x`, `y` and `image`, and by masks where there is a detector: uint8 b 3 h w.

        Args:
            batch: best after `keep_numbers`; the rest of it stays.
        """
        filled = {key: value for key, value in batch.items() if key not in (*VIEW, *VIEW.values())}
        wanted = [("x", "x_domain", PAIR), ("y", "y_domain", PAIR)] if PAIR in batch else []
        wanted += [("image", "domain", IMAGE)] if IMAGE in batch else []
        if not wanted:
            return filled
        labels = torch.cat([batch[domain] for _, domain, _ in wanted])
        known = self.keep_numbers(batch)
        numbers = [number for _, _, key in wanted for number in known[key]]
        counts = [len(batch[key]) for _, _, key in wanted]
        pictures = self.source.draw(numbers, self.domains.to(labels.device)[labels])
        drawn = {"": pictures} | ({"_mask": self.detector.instance_maps(pictures)} if self.detector else {})
        for ending, images in drawn.items():
            for (name, _, key), part in zip(wanted, images.split(counts), strict=True):
                ready = self._prepare(part, batch.get(VIEW[key]))
                filled["mask" if name + ending == "image_mask" else name + ending] = ready
        return filled

    def _prepare(self, images: Tensor, views: Tensor | None) -> Tensor:
        """Resize, crop and mirror, as PIL does to one grey level."""
        size = self.transform.size
        side = size if views is None else self.transform.load_size
        resized = resize(images.float(), side, side, filter="bilinear").round().clamp(0, 255).to(torch.uint8)
        if views is None:
            return resized
        # Picked out by index: where to cut is known to the device alone.
        along = torch.arange(size, device=images.device)
        left, top, mirror = views[:, :1], views[:, 1:2], views[:, 2:].bool()
        rows, columns = top + along, left + torch.where(mirror, along.flip(0), along)  # b h, b w
        pictures = torch.arange(len(images), device=images.device)[:, None, None, None]
        channels = torch.arange(3, device=images.device)[:, None, None]
        return resized[pictures, channels, rows[:, None, :, None], columns[:, None, None, :]]


def missing_of(node: Any) -> list[str]:
    """What the class of a `class_path` node says is missing for it, before anything is built; nothing where it says nothing."""
    if not isinstance(node, Mapping) or "class_path" not in node:
        return []
    module, _, name = str(node["class_path"]).rpartition(".")
    ask: Callable[[Mapping[str, Any]], list[str]] | None = getattr(
        getattr(import_module(module), name), "missing", None
    )
    return ask(node.get("init_args") or {}) if ask else []
