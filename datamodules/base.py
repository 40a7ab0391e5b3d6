"""What all DataModules share: streams that resume exactly, fixed evaluation loaders, and uint8 until the device."""

import os
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.errors import DataError
from datamodules.preprocess import LARGEST_SIDE
from datamodules.pyramid import GrowingStream, Leg, legs_of
from datamodules.sampling import RankShard, Sample, SampleStream, StreamLoader
from zoo.core.images import from_uint8

FixedStage = Literal["validation", "test", "predict"]
MOST_WORKERS = max(32, 4 * (os.cpu_count() or 1))
"""Loader processes of one process; ten thousand take the machine down before anyone can ask why."""


class FixedSamples(Protocol):
    """A finite list of samples; the i-th is always the same. It travels to worker processes."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> Sample: ...


class ImageDataModule(LightningDataModule):
    """Pictures as dictionaries: uint8 `b c h w` from the workers, floats in [-1, 1] on the device.

    A subclass gives `train_samples`, `fixed_samples`, `epoch_length`, `describe` and `fingerprint`, and does its slow
    work (reading folders) in `setup`.

    Args:
        size: side of the square pictures that networks see, in pixels.
        batch_size: samples per process and iteration.
        workers: loader processes per process; 0 loads in the training process itself.
        seed: of every random choice about data.

    Raises:
        DataError: an argument is out of range.
    """

    def __init__(self, *, size: int, batch_size: int, workers: int, seed: int) -> None:
        super().__init__()
        for name, value, least in (
            ("size", size, 1),
            ("batch_size", batch_size, 1),
            ("workers", workers, 0),
            ("seed", seed, 0),
        ):
            if value < least:
                raise DataError(f"{name} is {value}; it must be at least {least}: --data.{name} {least}")
        if size > LARGEST_SIDE:
            raise DataError(
                f"size is {size}; it is a side in pixels and must be at most {LARGEST_SIDE}: --data.size 256"
            )
        if workers > MOST_WORKERS:
            told = f"workers is {workers}, and this machine has {os.cpu_count()} cores"
            raise DataError(f"{told}; it is a number of processes and must be at most {MOST_WORKERS}: --data.workers 4")
        # A rank may have nothing to do where there are fewer pictures than ranks.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.size = size
        self.batch_size = batch_size
        self.workers = workers
        self.seed = seed
        self.legs: tuple[Leg, ...] = ()

    @classmethod
    def missing(cls, settings: Mapping[str, Any]) -> list[str]:
        """What a training with these constructor arguments needs and this machine lacks.

        Args:
            settings: constructor arguments by name; those left out have their defaults.

        Returns:
            A sentence for each thing, with the line to type; nothing where all is there. Nothing is built for it.
        """
        return []

    # What a subclass gives

    @abstractmethod
    def train_samples(self) -> Callable[[int], Sample]:
        """A picklable pure function from the index of a sample to the sample: uint8 `c h w` pictures and the like."""

    @abstractmethod
    def fixed_samples(self, stage: FixedStage) -> FixedSamples | None:
        """The samples of an evaluation stage, or None where there are none."""

    def domain_samples(self, key: str) -> FixedSamples:
        """Every training picture of one domain once, as `domain_loader` hands them out; valid after `setup("fit")`.

        Args:
            key: "source" or "target".

        Raises:
            DataError: this data has no such domain.
        """
        raise DataError(
            f"{type(self).__name__} has no domain {key!r} to go through picture by picture. It takes data of two domains: "
            "--data datamodules.UnpairedFolders"
        )

    @property
    @abstractmethod
    def epoch_length(self) -> int:
        """Samples in what the paper calls an epoch; valid after `setup`."""

    @abstractmethod
    def describe(self) -> dict[str, str | int]:
        """What a person wants to know about the data before training; valid after `setup`."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A stable hash of what data this is, wherever it lies; valid after `setup`."""

    # What every subclass gets

    @property
    def iterations_per_epoch(self) -> int:
        """The paper's epoch in iterations at this global batch; a last incomplete batch does not count."""
        return max(1, self.epoch_length // (self.batch_size * self._world_size))

    @property
    def evaluation_batch_size(self) -> int:
        """Samples per batch in validation, test and predict."""
        return self.batch_size

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    def _completed_iterations(self) -> int:
        return self.trainer.global_step if self.trainer else 0

    def _loader_options(self, *, persistent: bool) -> dict[str, Any]:
        return {
            "num_workers": self.workers,
            "persistent_workers": persistent and self.workers > 0,
            "pin_memory": torch.cuda.is_available(),
            # Its own generator: a loader without one draws from the global generator each time it is iterated.
            "generator": torch.Generator().manual_seed(self.seed),
        }

    def follow(self, first_iterations: Sequence[int], batch_sizes: Sequence[int], sizes: Sequence[int]) -> None:
        """Let training batches follow a network that grows, in place of `batch_size` and `size`.

        Args:
            first_iterations: with which each part of the training begins, from 0 on.
            batch_sizes: samples per process and iteration in each part.
            sizes: sides of the pictures in pixels, `size` halved some times; evaluation pictures keep `size`.

        Raises:
            DataError: the pictures are smaller than a part wants.
        """
        if max(sizes) > self.size:
            raise DataError(
                f"The model grows to {max(sizes)} pixels, and the data gives {self.size}: --data.size {max(sizes)}"
            )
        self.legs = legs_of(first_iterations, batch_sizes, sizes, self._world_size)

    def train_dataloader(self) -> DataLoader[Sample]:
        """The endless stream of this rank, beginning at the trainer's completed iterations."""
        if self.legs:
            growing = GrowingStream(
                self.train_samples(), legs=self.legs, size=self.size, rank=self._rank, world_size=self._world_size
            )
            options = self._loader_options(persistent=True)
            return StreamLoader(growing, start=self._completed_iterations, whole_batches=True, **options)
        stream = SampleStream(
            self.train_samples(), batch_size=self.batch_size, rank=self._rank, world_size=self._world_size
        )
        return StreamLoader(stream, start=self._completed_iterations, **self._loader_options(persistent=True))

    def val_dataloader(self) -> DataLoader[Sample] | list[DataLoader[Sample]]:
        """The fixed validation samples of this rank; an empty list where there are none."""
        return self._fixed_loader("validation")

    def test_dataloader(self) -> DataLoader[Sample] | list[DataLoader[Sample]]:
        """The fixed test samples of this rank, none twice."""
        return self._fixed_loader("test")

    def predict_dataloader(self) -> DataLoader[Sample] | list[DataLoader[Sample]]:
        """The pictures of this rank to be translated, none twice."""
        return self._fixed_loader("predict")

    def domain_loader(self, key: str, batch_size: int, *, drop_last: bool = False) -> DataLoader[Sample]:
        """One pass over the training pictures of one domain: each once, shuffled, with the crops and flips of training.

        The same pass at every call and on every rank. No trainer moves these batches: `on_after_batch_transfer` makes
        floats of them.

        Args:
            key: "source" or "target".
            batch_size: pictures per batch.
            drop_last: leave out a last batch that is not full, unless it is the only one.

        Returns:
            Batches `{key: uint8 b c h w}`.

        Raises:
            DataError: this data has no such domain.
        """
        samples = self.domain_samples(key)
        return DataLoader(
            samples,  # type: ignore[arg-type]
            batch_size=batch_size,
            drop_last=drop_last and len(samples) >= batch_size,
            **self._loader_options(persistent=False),
        )

    def _fixed_loader(self, stage: FixedStage) -> DataLoader[Sample] | list[DataLoader[Sample]]:
        samples = self.fixed_samples(stage)
        if samples is None:
            return []
        shard = RankShard(len(samples), rank=self._rank, world_size=self._world_size, even=stage == "validation")
        return DataLoader(
            samples,  # type: ignore[arg-type]
            batch_size=self.evaluation_batch_size,
            sampler=shard,
            **self._loader_options(persistent=stage == "validation"),
        )

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Turn a batch's uint8 pictures into floats in [-1, 1] of the trainer's precision; leave the rest alone."""
        return {
            key: self._scaled(value) if isinstance(value, Tensor) and value.dtype == torch.uint8 else value
            for key, value in batch.items()
        }

    def _scaled(self, image: Tensor) -> Tensor:
        scaled = from_uint8(image)
        # Lightning converts batches before they reach the device, when pictures are still integers: do it now.
        return self.trainer.precision_plugin.convert_input(scaled) if self.trainer else scaled
