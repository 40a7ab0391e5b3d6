"""Which sample comes when: pure functions of (seed, i), so that a resumed run sees what an uninterrupted one would.

Training data is an endless stream. With a global batch of `batch_size * world_size` samples, iteration `n` on rank `r`
takes the samples `[n * batch_size * world_size + r * batch_size, ... + batch_size)`. Worker `w` of `W` makes the whole
batches `start + w`, `start + w + W`, ..., and since the loader asks its workers in turn, the stream is the same for any
number of them.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset, default_collate, get_worker_info

from datamodules.errors import DataError

Sample = dict[str, Any]

# An error travels to the training process as a sample under this key: raised in a worker, it would arrive as a page of
# traceback, and PyTorch would wait five seconds for every worker before it ends.
FAILURE = "failure"


def sample_generator(seed: int, i: int, *names: str | int) -> np.random.Generator:
    """The random numbers of sample `i`: a generator that depends on the arguments alone.

    Args:
        seed: of the whole stream.
        i: index of the sample, or of anything else that is counted.
        names: tell apart several independent streams of one sample, such as `"target", "flip"`.
    """
    key = blake2b(repr((seed, i, *names)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(key, dtype=np.uint64)))


@lru_cache(maxsize=8)
def epoch_order(seed: int, epoch: int, count: int, *names: str) -> NDArray[np.int64]:
    """The order in which an epoch visits `count` items: a permutation of `0 .. count - 1`, kept for the next call.

    Names tell apart several lists that are walked through side by side.
    """
    order = sample_generator(seed, epoch, "epoch_order", *names).permutation(count)
    order.setflags(write=False)
    return order


def shuffled_index(seed: int, i: int, count: int, *names: str) -> int:
    """Item of sample `i` when every epoch is a fresh permutation of `count` items."""
    epoch, position = divmod(i, count)
    return int(epoch_order(seed, epoch, count, *names)[position])


def unpaired_indices(
    seed: int, i: int, source_count: int, target_count: int, *, serial: bool = False
) -> tuple[int, int]:
    """Items of both domains for sample `i`, by CycleGAN's rule (`unaligned` data).

    An epoch has `max(source_count, target_count)` samples. The source walks through a fresh permutation of the epoch
    (modulo its count); the target is drawn uniformly with replacement. With `serial` both walk in sorted order.
    """
    length = max(source_count, target_count)
    if serial:
        return i % length % source_count, i % length % target_count
    target = int(sample_generator(seed, i, "target_index").integers(target_count))
    return shuffled_index(seed, i, length) % source_count, target


class SampleStream(IterableDataset[Sample]):
    """The endless training data of one rank.

    Args:
        sample: makes sample `i`; a pure function of `i`. It travels to worker processes, so it must not hold a trainer.
        batch_size: samples per rank and iteration.
        rank: of this process.
        world_size: number of processes.
        start: iteration at which the stream begins.
    """

    def __init__(
        self, sample: Callable[[int], Sample], *, batch_size: int, rank: int = 0, world_size: int = 1, start: int = 0
    ) -> None:
        super().__init__()
        if batch_size < 1 or not 0 <= rank < world_size or start < 0:
            raise DataError(
                "A stream needs batch_size >= 1, 0 <= rank < world_size and start >= 0; "
                f"found batch_size {batch_size}, rank {rank}, world_size {world_size}, start {start}."
            )
        self.sample = sample
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        # In shared memory: persistent workers hold a copy of this object and must hear of a new start.
        self._start = torch.tensor(start).share_memory_()

    def start_at(self, iteration: int) -> None:
        """Let the next pass over the stream begin at this iteration, in the workers too."""
        self._start.fill_(iteration)

    def __iter__(self) -> Iterator[Sample]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        n = int(self._start) + worker
        while True:
            first = (n * self.world_size + self.rank) * self.batch_size
            for i in range(first, first + self.batch_size):
                try:
                    yield self.sample(i)
                except DataError as error:
                    yield {FAILURE: str(error)}
            n += workers


class StreamLoader(DataLoader[Sample]):
    """A DataLoader over a `SampleStream` that asks where to begin each time it is iterated.

    Args:
        stream: the samples, or whole batches where `whole_batches` is set.
        start: answers with the number of completed iterations. Asked at every pass, because a trainer that limits the
            batches of an epoch begins a new pass in the middle of the run.
        whole_batches: whether the stream gives batches, which are handed on as they are.
        options: as for `DataLoader`.
    """

    def __init__(
        self, stream: SampleStream, *, start: Callable[[], int], whole_batches: bool = False, **options: Any
    ) -> None:
        if whole_batches:
            super().__init__(stream, batch_size=None, collate_fn=_as_it_is, **options)  # type: ignore[arg-type]
        else:
            super().__init__(stream, batch_size=stream.batch_size, collate_fn=collate, **options)
        self.stream = stream
        self.start = start

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self.stream.start_at(self.start())
        for batch in super().__iter__():
            if FAILURE in batch:
                raise DataError(batch[FAILURE])
            yield batch


def _as_it_is(batch: Sample) -> Sample:
    return batch


def collate(samples: list[Sample]) -> Sample:
    """A batch of samples; where one is a failure, that failure alone."""
    return next((sample for sample in samples if FAILURE in sample), None) or default_collate(samples)


class RankShard(DistributedSampler[Any]):
    """This rank's share of a finite data set, in order: items `rank`, `rank + world_size`, ...

    It is a `DistributedSampler` so that Lightning leaves it in place.

    Args:
        count: number of items.
        rank: of this process.
        world_size: number of processes.
        even: give every rank equally many, by beginning again at the front (at most `world_size - 1` repeats). Needed
            where ranks must run the same number of forwards, as in validation under DDP; else nothing is repeated.
    """

    def __init__(self, count: int, *, rank: int = 0, world_size: int = 1, even: bool = False) -> None:
        super().__init__(range(count), num_replicas=world_size, rank=rank, shuffle=False)  # type: ignore[arg-type]
        end = -(-count // world_size) * world_size if even else count
        self.indices = [i % count for i in range(rank, end, world_size)]

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


def to_chw(picture: NDArray[np.uint8]) -> Tensor:
    """A uint8 picture `h w c` as a contiguous uint8 tensor `c h w`."""
    return torch.from_numpy(picture.transpose(2, 0, 1).copy(order="C"))
