"""Perceptual path length, as StyleGAN measures it and ALAE's official script computes it (Karras et al. 2019, section 4.1).

A tiny step along a path between two codes changes a picture by so much, as a network sees it, divided by the square of the step. Short
paths are those on which nothing appears or goes that neither end has.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.core.draws import Draws
from zoo.errors import ZooError

Space = Literal["w", "z"]
Sampling = Literal["full", "end"]
Crop = Literal["none", "face", "celeba"]
Distance = Callable[[Tensor, Tensor], Tensor]
"""From two batches of pictures `b c h w` in 0..255 to squared distances `b`."""

LARGEST = 256  # pixels; larger crops are averaged down to it
LEAST_PERCENT, MOST_PERCENT = 1, 99  # distances outside count as outliers


class Paints(Protocol):
    """A generator with a mapping: what a path length is measured of."""

    draws: Draws
    latent_channels: int

    def aside(self, *moment: int | str) -> AbstractContextManager[None]:
        """Draws of their own, and nothing moves."""

    def map_latent(self, latent: Tensor) -> Tensor:
        """Codes w, b z, of latent codes b z."""

    def noise_maps(self, count: int = 1) -> list[Tensor]:
        """Maps of noise for so many pictures."""

    def decode(self, codes: Tensor, *, noise: list[Tensor]) -> Tensor:
        """Pictures b c h w, about [-1, 1], of codes b z."""


def slerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Points on the great circles between the directions of `b z` and `b z`, at shares b 1; of length 1."""
    a, b = F.normalize(a, dim=-1, eps=0.0), F.normalize(b, dim=-1, eps=0.0)
    cosine = (a * b).sum(-1, keepdim=True)
    angle = share * torch.acos(cosine)
    across = F.normalize(b - cosine * a, dim=-1, eps=0.0)
    return F.normalize(a * torch.cos(angle) + across * torch.sin(angle), dim=-1, eps=0.0)


def cropped(image: Tensor, crop: Crop) -> Tensor:
    """Cut out what a path length looks at.

    Args:
        image: b c h w.
        crop: `face` for aligned FFHQ faces, as the official script always does; `celeba` for faces cut out wider; `none`.
    """
    height, width = image.shape[2:]
    if crop == "face":
        unit = height // 8
        return image[:, :, 3 * unit : 7 * unit, 2 * unit : 6 * unit]
    if crop == "celeba":
        half = int(4 / 8 * (2 / 1.641) * height) // 2
        middle, centre = int(5 / 8 * height), int(4 / 8 * width)
        return image[:, :, middle - half : middle + half, centre - half : centre + half]
    return image


def averaged_down(image: Tensor, largest: int = LARGEST) -> Tensor:
    """Pictures `b c h w` averaged by a whole factor, so that they are no higher than `largest` pixels."""
    factor = image.shape[2] // largest
    return F.avg_pool2d(image, factor) if factor > 1 else image


def path_distances(
    model: Paints,
    distance: Distance,
    *,
    samples: int = 50_000,
    minibatch: int = 4,
    epsilon: float = 1e-4,
    space: Space = "w",
    sampling: Sampling = "full",
    crop: Crop = "face",
) -> Tensor:
    """Measure the steps of random paths.

    Args:
        model: paints pictures; one map of noise serves all pictures of a minibatch.
        distance: of pictures in 0..255; the published figures take LPIPS of VGG-16.
        samples: number of paths.
        minibatch: paths that are painted at once; at most `samples`.
        epsilon: length of a step, as a share of its path.
        space: of the paths: straight lines between codes w, or great circles between latent codes z.
        sampling: steps anywhere on a path, or at its beginning.
        crop: what is looked at.

    Returns:
        Distances over epsilon squared, `n`: whole minibatches, at least as many as asked for.

    Raises:
        ZooError: a number makes no sense.
    """
    if samples < 1 or not 1 <= minibatch <= samples or epsilon <= 0:
        raise ZooError(
            f"A path length of {samples} samples in minibatches of {minibatch} with steps of {epsilon}: expected were positive numbers, "
            "and minibatches no larger than all samples."
        )
    found = []
    with model.aside("path_length", space, sampling):
        for _ in range(-(-samples // minibatch)):
            latent = model.draws.normal("path_latent", (2 * minibatch, model.latent_channels))
            share = model.draws.uniform("path_share", (minibatch,))[:, None]
            if sampling == "end":
                share = torch.zeros_like(share)
            if space == "z":
                ends = [slerp(latent[0::2], latent[1::2], place) for place in (share, share + epsilon)]
                codes = model.map_latent(torch.stack(ends, 1).flatten(0, 1))
            else:
                w = model.map_latent(latent)
                steps = [torch.lerp(w[0::2], w[1::2], place) for place in (share, share + epsilon)]
                codes = torch.stack(steps, 1).flatten(0, 1)
            image = model.decode(codes, noise=model.noise_maps())
            image = (averaged_down(cropped(image, crop)) + 1) * (255 / 2)
            found.append(distance(image[0::2], image[1::2]) / epsilon**2)
    return torch.cat(found)


def filtered_mean(distances: Tensor) -> float:
    """The mean of distances `n` without those below the 1st and above the 99th percentile, which are numbers among them."""
    ordered = distances.flatten().double().sort().values
    last = len(ordered) - 1
    lower = ordered[int(LEAST_PERCENT / 100 * last)]
    upper = ordered[-int(-MOST_PERCENT / 100 * last // 1)]
    return float(ordered[(ordered >= lower) & (ordered <= upper)].mean())
