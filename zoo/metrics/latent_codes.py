"""Protocols by which generative autoencoders are measured, by name, as ALAE's official scripts do it.

    python -m zoo.metrics.latent_codes RUN --protocols fid_generation lpips_reconstruction --images data/celeba/test

fid_generation        50,000 drawings without truncation and with mixed styles, as in training, against 50,000 pictures
fid_reconstruction    50,000 pictures encoded and painted, against the same pictures
ppl_full, ppl_end     path lengths between 50,000 pairs of codes w, anywhere or at the beginning, faces cropped
lpips_reconstruction  10,000 pictures against their reconstructions, both averaged down to 256 pixels

Pictures become whole numbers as in the official scripts, cut after a product with 127 in which white is 254. Features are those of
TensorFlow's Inception and of VGG-16 (LPIPS); both are downloaded when they are asked for, and where that is not possible the command says
so before it measures anything. The official FID takes features from TensorFlow's own graph: ours come close, and are ours.
With fewer samples than a protocol says, a result is named after them, and is no figure to compare with published ones.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from datamodules.aligned import AlignedTransform, Crop, FixedAligned
from datamodules.base import FixedSamples
from datamodules.errors import DataError
from datamodules.folders import PictureSet, check_pictures, find_pictures
from zoo.core.files import write_atomically
from zoo.core.images import from_uint8
from zoo.core.loading import load_translator
from zoo.errors import ZooError
from zoo.experts.inception_tensorflow import WEIGHTS as INCEPTION
from zoo.experts.inception_tensorflow import TensorFlowInception
from zoo.experts.lpips_vgg import VGGLPIPS
from zoo.metrics.path_length import Crop as FaceCrop
from zoo.metrics.path_length import Sampling, averaged_down, filtered_mean, path_distances
from zoo.weights.preflight import missing_weights

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
    "fid_generation": Protocol("fid_generation", 50_000, INCEPTION),
    "fid_reconstruction": Protocol("fid_reconstruction", 50_000, INCEPTION),
    "ppl_full": Protocol("path_length", 50_000, "vgg16", needs_images=False),
    "ppl_end": Protocol("path_length", 50_000, "vgg16", needs_images=False, sampling="end"),
    "lpips_reconstruction": Protocol("lpips", 10_000, "vgg16"),
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


class Gaussian:
    """Mean and covariance of features, counted batch by batch in float64."""

    def __init__(self) -> None:
        self.count = 0
        self._sum: Tensor | None = None
        self._products: Tensor | None = None

    def add(self, features: Tensor) -> None:
        """Count a batch `b d`."""
        rows = features.double().cpu()
        if self._sum is None or self._products is None:
            self._sum, self._products = torch.zeros_like(rows[0]), torch.zeros(rows.shape[1], rows.shape[1]).double()
        self._sum += rows.sum(0)
        self._products += rows.T @ rows
        self.count += len(rows)

    def moments(self) -> tuple[Tensor, Tensor]:
        """The mean `d` and the unbiased covariance `d d`.

        Raises:
            ZooError: fewer than two rows were counted.
        """
        if self.count < 2 or self._sum is None or self._products is None:
            raise ZooError(f"{self.count} pictures have no covariance: give two at least.")
        mean = self._sum / self.count
        return mean, (self._products - self.count * torch.outer(mean, mean)) / (self.count - 1)


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """The squared Frechet distance of two Gaussians: |m1 - m2|^2 + Tr(C1 + C2 - 2 (C1 C2)^(1/2))."""
    (mean, covariance), (other_mean, other_covariance) = one.moments(), other.moments()
    # The trace of the root is the sum of the roots of the product's eigenvalues, which are real and not below 0 but for rounding.
    roots = torch.linalg.eigvals(covariance @ other_covariance).real.clamp(min=0).sqrt()
    return float((mean - other_mean).square().sum() + covariance.trace() + other_covariance.trace() - 2 * roots.sum())


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
    return frechet_distance(real, drawn)


@torch.no_grad()
def reconstruction_distance(model: Any, pictures: Iterable[Tensor], features: Features) -> float:
    """FID of reconstructions against the pictures uint8 `b 3 h w` that they are of."""
    real, painted = Gaussian(), Gaussian()
    for image in pictures:
        image = image.to(model.device)
        real.add(features(image))
        painted.add(features(cut_to_pixels(model.reconstruct(from_uint8(image).to(model.dtype)))))
    return frechet_distance(real, painted)


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
            f"{count} pictures are asked for, and {len(data)} are there: --samples {len(data)}, or further --images."
        )
    for first in range(0, count, batch):
        yield torch.stack([data[i]["image"] for i in range(first, min(first + batch, count))])


def run_protocol(
    name: str, model: Any, data: FixedSamples | None, samples: int | None, crop: FaceCrop
) -> dict[str, float]:
    """Measure by one protocol.

    Args:
        name: of the protocol.
        model: a StyleALAE.
        data: pictures, for protocols that need some.
        samples: another number than the protocol's; the result then bears it in its name.
        crop: of path lengths.

    Raises:
        ZooError: weights or pictures are not to be had.
    """
    protocol = PROTOCOLS[name]
    count = samples or protocol.samples
    if protocol.kind == "path_length":
        value = path_length(model, VGGLPIPS(pretrained=True).to(model.device), protocol.sampling, count, crop)
    else:
        assert data is not None
        pictures = pictures_of(data, count)
        if protocol.kind == "lpips":
            value = perceptual_reconstruction(model, pictures, VGGLPIPS(pretrained=True).to(model.device))
        else:
            inception = TensorFlowInception(pretrained=True).to(model.device)
            value = (
                generation_distance(model, pictures, inception, count)
                if protocol.kind == "fid_generation"
                else reconstruction_distance(model, pictures, inception)
            )
    return {name if count == protocol.samples else f"{name}_of_{count}": value}


def lacking(names: Sequence[str], images: Sequence[str] | None) -> list[str]:
    """What stands in the way of protocols: sentences for a person, before anything is measured."""
    lines = [
        line for weights in sorted({PROTOCOLS[name].network for name in names}) for line in missing_weights(weights)
    ]
    if not images and (needing := [name for name in names if PROTOCOLS[name].needs_images]):
        lines.append(f"{', '.join(needing)} needs pictures. Type --images FOLDER")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print.

    Args:
        arguments: of the command line; those of the process when None.

    Returns:
        0, or 2 if a person has something to mend.
    """
    parser = argparse.ArgumentParser(
        prog="python -m zoo.metrics.latent_codes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="run or checkpoint of a StyleALAE")
    parser.add_argument(
        "--protocols", nargs="+", choices=list(PROTOCOLS), default=list(PROTOCOLS), help="what to measure"
    )
    parser.add_argument("--images", nargs="+", help="folders of pictures")
    parser.add_argument("--crop", choices=("middle", "celeba"), default="middle", help="how pictures are cut")
    parser.add_argument("--face-crop", choices=("face", "celeba", "none"), default="face", help="of path lengths")
    parser.add_argument("--samples", type=int, help="another number of samples than a protocol's own")
    parser.add_argument("--device", default="cpu", help="where to compute, such as cuda")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    options = parser.parse_args(arguments)
    try:
        if options.samples is not None and options.samples < 2:
            raise ZooError(f"--samples is {options.samples}; expected two at least.")
        model: Any = load_translator(options.run).to(options.device)
        if not hasattr(model, "map_latent"):
            raise ZooError(f"{type(model).__name__} has no codes to measure; StyleALAE has: zoo/alae.yaml")
        if missing := lacking(options.protocols, options.images):
            raise ZooError(" ".join(missing))
        data = None
        if options.images:
            data = read_pictures(options.images, model.level_size(model.stage), cast(Crop, options.crop))
        report: dict[str, float] = {}
        for name in options.protocols:
            report |= run_protocol(name, model, data, options.samples, options.face_crop)
            print(f"{list(report)[-1]:<28}{list(report.values())[-1]:.4f}", flush=True)
        if options.output is not None:
            write_atomically(options.output, json.dumps(report, indent=1).encode())
    except (ZooError, DataError) as error:
        print(f"latent_codes: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
