"""Pictures that grow during a training: batches whose size and number follow the iteration, halved as pyramids of records are.

StyleGAN's and ALAE's records hold every picture once per size, each made from the next larger one by means of 2x2 pixels, cut to whole
numbers. Here the smaller ones are made when they are asked for, to the same numbers, before they leave the worker process.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from datamodules.errors import DataError
from datamodules.sampling import FAILURE, Sample, SampleStream, collate


@dataclass(frozen=True)
class Leg:
    """A part of a training in which batches stay alike.

    Attributes:
        first_iteration: with which it begins.
        first_sample: of the stream, with which it begins.
        batch_size: samples per process and iteration.
        size: side of the pictures in pixels.
    """

    first_iteration: int
    first_sample: int
    batch_size: int
    size: int


def legs_of(
    first_iterations: Sequence[int], batch_sizes: Sequence[int], sizes: Sequence[int], world_size: int
) -> tuple[Leg, ...]:
    """The legs of a training, which take up the samples one after the other.

    Args:
        first_iterations: of the legs, from 0 on, rising.
        batch_sizes: samples per process and iteration.
        sizes: sides of the pictures in pixels.
        world_size: number of processes.
    """
    legs: list[Leg] = []
    for first, batch, size in zip(first_iterations, batch_sizes, sizes, strict=True):
        sample = 0
        if legs:
            before = legs[-1]
            sample = before.first_sample + (first - before.first_iteration) * before.batch_size * world_size
        legs.append(Leg(first, sample, batch, size))
    return tuple(legs)


def halve_pixels(pixels: Tensor) -> Tensor:
    """Means of 2x2 pixels of uint8 `c h w`, cut to whole numbers: uint8 c h/2 w/2.

    Raises:
        DataError: a side is odd.
    """
    channels, height, width = pixels.shape
    if height % 2 or width % 2:
        raise DataError(f"A picture of {width}x{height} has no half; sides must be powers of two: --data.size 64")
    squares = pixels.to(torch.int16).view(channels, height // 2, 2, width // 2, 2)
    return squares.sum((2, 4)).div(4, rounding_mode="floor").to(torch.uint8)


def shrink(pixels: Tensor, size: int) -> Tensor:
    """Halve uint8 `c h w` until it is `size` pixels wide.

    Raises:
        DataError: that size is never met.
    """
    found = pixels
    while found.shape[-1] > size:
        found = halve_pixels(found)
    if found.shape[-1] != size:
        raise DataError(
            f"Pictures of {pixels.shape[-1]} pixels can't be halved down to {size}: give a size of {size} times a power of two, --data.size"
        )
    return found


class GrowingStream(SampleStream):
    """The endless training data of one rank, in whole batches that follow the legs of a training.

    Args:
        sample: makes sample `i`, its pictures in the largest size.
        legs: of the training, the first one from iteration 0 on.
        size: side of the pictures that `sample` gives; others, and what is no picture, are left alone.
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(
        self, sample: Callable[[int], Sample], *, legs: Sequence[Leg], size: int, rank: int = 0, world_size: int = 1
    ) -> None:
        super().__init__(sample, batch_size=1, rank=rank, world_size=world_size)
        self.legs, self.size = tuple(legs), size
        self._firsts = [leg.first_iteration for leg in self.legs]

    def __iter__(self) -> Iterator[Sample]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        iteration = int(self._start) + worker
        while True:
            yield self.batch(iteration)
            iteration += workers

    def batch(self, iteration: int) -> Sample:
        """This rank's batch of an iteration."""
        leg = self.legs[bisect_right(self._firsts, iteration) - 1]
        part = (iteration - leg.first_iteration) * self.world_size + self.rank
        first = leg.first_sample + part * leg.batch_size
        try:
            return collate([self._at_size(self.sample(first + i), leg.size) for i in range(leg.batch_size)])
        except DataError as error:
            return {FAILURE: str(error)}

    def _at_size(self, sample: Sample, size: int) -> Sample:
        return {key: shrink(value, size) if self._is_picture(value) else value for key, value in sample.items()}

    def _is_picture(self, value: Any) -> bool:
        return isinstance(value, Tensor) and value.dtype == torch.uint8 and value.shape[-2:] == (self.size, self.size)
