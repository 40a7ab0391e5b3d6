"""Protocols by which generative autoencoders are measured, by name, as ALAE's official scripts do it.

    lightning evaluate RUN --protocol alae-fid-generation --images data/celeba/train

alae-fid-generation        50,000 drawings without truncation and with mixed styles, as in training, against 50,000 pictures
alae-fid-reconstruction    50,000 pictures encoded and painted, against the same pictures
ppl, ppl-end               path lengths between 50,000 pairs of codes w, anywhere or at the beginning, faces cropped
alae-lpips-reconstruction  10,000 pictures against their reconstructions, both averaged down to 256 pixels

Pictures become whole numbers as in the official scripts, cut after a product with 127 in which white is 254. Features are those of
TensorFlow's Inception and of VGG-16 (LPIPS); both are downloaded when they are asked for, and where that is not possible the command says
so before it measures anything. The official FID takes features from TensorFlow's own graph: ours come close, and are ours.
With fewer samples than a protocol says, a result is named after them, and is no figure to compare with published ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from datamodules.aligned import AlignedTransform, Crop, FixedAligned
from datamodules.base import FixedSamples
from datamodules.folders import PictureSet, check_pictures, find_pictures
from zoo.core.images import from_uint8
from zoo.errors import ZooError
from zoo.experts.inception_tensorflow import WEIGHTS as INCEPTION
from zoo.metrics.frechet import Gaussian
from zoo.metrics.path_length import Crop as FaceCrop
from zoo.metrics.path_length import Sampling, averaged_down, filtered_mean, path_distances

Kind = Literal["fid_generation", "fid_reconstruction", "path_length", "lpips"]


@dataclass(frozen=True)
class Protocol:
    """One way to measure.

    Attributes:
        kind: what is measured.
        samples: how many.
        network: published weights that it needs.
        needs_images: whether pictures of the data are needed.
        sampling: of paths.
    """

    kind: Kind
    samples: int
    network: str
    needs_images: bool = True
    sampling: Sampling = "full"


PROTOCOLS = {
    "alae-fid-generation": Protocol("fid_generation", 50_000, INCEPTION),
    "alae-fid-reconstruction": Protocol("fid_reconstruction", 50_000, INCEPTION),
    "ppl": Protocol("path_length", 50_000, "vgg16", needs_images=False),
    "ppl-end": Protocol("path_length", 50_000, "vgg16", needs_images=False, sampling="end"),
    "alae-lpips-reconstruction": Protocol("lpips", 10_000, "vgg16"),
}

Features = Callable[[Tensor], Tensor]
"""From pictures uint8 `b 3 h w` to features `b d`."""


def cut_to_pixels(image: Tensor, scale: float = 127.0) -> Tensor:
    """Whole numbers 0..255 of pictures about [-1, 1], cut and not rounded.

    Args:
        image: float, any shape.
        scale: 127 in the official scripts for FID and LPIPS, in which white is 254; 127.5 in the official demo.

    Returns:
        uint8.
    """
    return ((image + 1) * scale).clamp(0, 255).to(torch.uint8)


@torch.no_grad()
def generation_distance(
    model: Any, pictures: Iterable[Tensor], features: Features, samples: int, batch: int = 16
) -> float:
    """FID of drawings: without truncation, with mixed styles.

    Args:
        model: draws by `generate`.
        pictures: batches uint8 b 3 h w of the data.
        features: of both.
        samples: how many drawings.
        batch: drawings at once.
    """
    real, drawn = Gaussian(), Gaussian()
    for image in pictures:
        real.add(features(image.to(model.device)))
    with model.aside("fid"):
        while drawn.count < samples:
            count = min(batch, samples - drawn.count)
            latent = model.draws.normal("fid_latent", (count, model.latent_channels), device=model.device)
            drawn.add(features(cut_to_pixels(model.generate(latent.to(model.dtype), truncation=1.0, mix=True))))
    return real.distance(drawn)


@torch.no_grad()
def reconstruction_distance(model: Any, pictures: Iterable[Tensor], features: Features) -> float:
    """FID of reconstructions against the pictures uint8 `b 3 h w` that they are of."""
    real, painted = Gaussian(), Gaussian()
    for image in pictures:
        image = image.to(model.device)
        real.add(features(image))
        painted.add(features(cut_to_pixels(model.reconstruct(from_uint8(image).to(model.dtype)))))
    return real.distance(painted)


@torch.no_grad()
def perceptual_reconstruction(
    model: Any, pictures: Iterable[Tensor], distance: Callable[[Tensor, Tensor], Tensor]
) -> float:
    """The mean distance of reconstructions to the pictures uint8 `b 3 h w` that they are of, at 256 pixels at most, as whole numbers."""
    found = []
    for image in pictures:
        wanted = model.at_level(from_uint8(image.to(model.device)).to(model.dtype))
        painted = model.reconstruct(wanted)
        both = [from_uint8(cut_to_pixels(averaged_down(side))) for side in (painted, wanted)]
        found.append(distance(*both).cpu())
    return float(torch.cat(found).double().mean())


def path_length(
    model: Any, distance: Callable[[Tensor, Tensor], Tensor], sampling: Sampling, samples: int, crop: FaceCrop
) -> float:
    """The mean path length in w, without outliers, of pictures in [-1, 1] by a distance."""

    def of_pixels(one: Tensor, two: Tensor) -> Tensor:
        return distance(one.float() / 127.5 - 1, two.float() / 127.5 - 1)

    lengths = path_distances(model, of_pixels, samples=samples, minibatch=min(8, samples), sampling=sampling, crop=crop)
    return filtered_mean(lengths)


def read_pictures(folders: Sequence[str], side: int, crop: Crop) -> FixedAligned:
    """All pictures of some folders, cut and resized to a model's size.

    Raises:
        DataError: a folder is missing or empty, or too many files are bad.
    """
    good = check_pictures(find_pictures(folders, "images"), "images").good
    transform = AlignedTransform(load_size=side, size=side, multiple=1, crop=crop)
    return FixedAligned(PictureSet("images", good), transform, len(good))


def pictures_of(data: FixedSamples, count: int, batch: int = 16) -> Iterator[Tensor]:
    """The first pictures of a finite list in batches uint8 b 3 h w.

    Args:
        data: samples with `image`, uint8 3 h w.
        count: how many.
        batch: pictures at once.

    Raises:
        ZooError: there are fewer.
    """
    if len(data) < count:
        raise ZooError(
            f"{count} pictures are asked for, and {len(data)} are there: --count {len(data)}, or further --images."
        )
    for first in range(0, count, batch):
        yield torch.stack([data[i]["image"] for i in range(first, min(first + batch, count))])


def run_protocol(
    protocol: Protocol,
    model: Any,
    network: Callable[..., Tensor],
    data: FixedSamples | None = None,
    *,
    samples: int | None = None,
    crop: FaceCrop = "face",
) -> float:
    """Measure by one protocol.

    Args:
        protocol: one of `PROTOCOLS`.
        model: a StyleALAE.
        network: the one that the protocol names: features of pictures uint8 b 3 h w, or a distance of pictures in [-1, 1].
        data: pictures, for protocols that need some.
        samples: another number than the protocol's.
        crop: of path lengths.

    Raises:
        ZooError: there are too few pictures, or none where some are needed.
    """
    count = samples or protocol.samples
    if protocol.kind == "path_length":
        return path_length(model, network, protocol.sampling, count, crop)
    if data is None:
        raise ZooError("Pictures of the data are needed. Type --images FOLDER")
    pictures = pictures_of(data, count)
    if protocol.kind == "lpips":
        return perceptual_reconstruction(model, pictures, network)
    if protocol.kind == "fid_generation":
        return generation_distance(model, pictures, network, count)
    return reconstruction_distance(model, pictures, network)
