import pickle
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules.errors import DataError
from datamodules.sampling import (
    RankShard,
    SampleStream,
    StreamLoader,
    epoch_order,
    sample_generator,
    shuffled_index,
    to_chw,
    unpaired_indices,
)

# Tests use more workers than a small machine has cores.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


class Numbers:
    """Sample i is i; from `bad_from` on there are none."""

    def __init__(self, bad_from: int = 10**9) -> None:
        self.bad_from = bad_from

    def __call__(self, i: int) -> dict[str, Tensor]:
        if i >= self.bad_from:
            raise DataError(f"sample {i} is not there; type this instead")
        return {"i": torch.tensor(i)}


def batches(
    count: int, *, workers: int = 0, start: int = 0, batch: int = 2, rank: int = 0, world: int = 1
) -> list[list[int]]:
    stream = SampleStream(Numbers(), batch_size=batch, rank=rank, world_size=world)
    loader = StreamLoader(stream, start=lambda: start, num_workers=workers)
    return [sample["i"].tolist() for sample in islice(loader, count)]


def test_generator_depends_on_all_its_arguments_and_nothing_else() -> None:
    def numbers(*key: Any) -> tuple[float, ...]:
        return tuple(sample_generator(*key).random(3))

    assert numbers(1, 2, "a") == numbers(1, 2, "a")
    others = [(1, 2, "b"), (1, 3, "a"), (2, 2, "a"), (1, 2), (1, 2, "a", 0), (12, 0), (1, 20)]
    assert len({numbers(*key) for key in [*others, (1, 2, "a")]}) == len(others) + 1


def test_generator_leaves_global_streams_alone() -> None:
    before = pickle.dumps(np.random.get_state())  # noqa: NPY002
    state = torch.get_rng_state()
    sample_generator(0, 1, "x").random()
    assert pickle.dumps(np.random.get_state()) == before  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), state)


def test_an_epoch_visits_everything_once_in_a_new_order() -> None:
    first, second = epoch_order(0, 0, 50), epoch_order(0, 1, 50)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first.tolist() != second.tolist() != list(range(50))
    assert [shuffled_index(0, i, 50) for i in range(50, 100)] == second.tolist()


def test_named_lists_are_walked_through_in_orders_of_their_own() -> None:
    assert epoch_order(0, 0, 50, "pairs").tolist() != epoch_order(0, 0, 50, "image").tolist()
    assert sorted(shuffled_index(0, i, 9, "pairs") for i in range(9)) == list(range(9))


@pytest.mark.parametrize(("sources", "targets"), [(7, 20), (20, 7)])
def test_cyclegan_rule_walks_through_sources_and_draws_targets(sources: int, targets: int) -> None:
    pairs = [unpaired_indices(3, i, sources, targets) for i in range(20)]
    seen = np.bincount([source for source, _ in pairs], minlength=sources)
    assert seen.sum() == 20
    assert seen.min() >= 20 // sources
    drawn = [unpaired_indices(3, i, sources, targets)[1] for i in range(targets * 400)]
    counts = np.bincount(drawn, minlength=targets)
    assert len(counts) == targets
    assert abs(counts - 400).max() < 5 * 20  # five standard deviations of a Poisson count


def test_serial_pairing_walks_through_both() -> None:
    assert [unpaired_indices(0, i, 2, 3, serial=True) for i in range(4)] == [(0, 0), (1, 1), (0, 2), (0, 0)]


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_stream_is_the_same_for_any_number_of_workers(workers: int) -> None:
    assert batches(5, workers=workers) == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_stream_continues_the_uninterrupted_one(workers: int) -> None:
    assert batches(4, workers=workers, start=3) == batches(7)[3:]


def test_ranks_share_each_global_batch_without_overlap() -> None:
    by_rank = [batches(4, rank=rank, world=3, workers=rank) for rank in range(3)]
    for n in range(4):
        together = [i for rank in by_rank for i in rank[n]]
        assert together == list(range(n * 6, n * 6 + 6))


@pytest.mark.parametrize("workers", [0, 2])
def test_each_pass_begins_at_the_completed_iterations(workers: int) -> None:
    done = [0]
    stream = SampleStream(Numbers(), batch_size=1)
    loader = StreamLoader(stream, start=lambda: done[0], num_workers=workers, persistent_workers=workers > 0)
    assert [sample["i"].item() for sample in islice(loader, 3)] == [0, 1, 2]
    done[0] = 3
    assert [sample["i"].item() for sample in islice(loader, 3)] == [3, 4, 5]


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_from_workers_are_one_sentence(workers: int) -> None:
    loader = StreamLoader(SampleStream(Numbers(bad_from=3), batch_size=1), start=lambda: 0, num_workers=workers)
    passing: Iterator[Any] = iter(loader)
    with pytest.raises(DataError) as caught:
        list(islice(passing, 6))
    assert str(caught.value) == "sample 3 is not there; type this instead"


@pytest.mark.parametrize("bad", [{"batch_size": 0}, {"rank": 2, "world_size": 2}, {"start": -1}])
def test_stream_refuses_nonsense(bad: dict[str, int]) -> None:
    with pytest.raises(DataError, match="A stream needs"):
        SampleStream(Numbers(), **{"batch_size": 1, **bad})


@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_shards_cover_everything_once(count: int) -> None:
    shards = [list(RankShard(count, rank=rank, world_size=3)) for rank in range(3)]
    assert sorted(i for shard in shards for i in shard) == list(range(count))


@pytest.mark.parametrize("count", [1, 2, 7, 9])
def test_even_shards_have_one_length_and_repeat_as_little_as_possible(count: int) -> None:
    shards = [list(RankShard(count, rank=rank, world_size=3, even=True)) for rank in range(3)]
    assert {len(shard) for shard in shards} == {-(-count // 3)}
    together = [i for shard in shards for i in shard]
    assert set(together) == set(range(count))
    assert len(together) - count <= 2


@pytest.mark.parametrize("channels", [1, 3])
def test_to_chw_copies_read_only_pictures(channels: int) -> None:
    picture = np.arange(2 * 3 * channels, dtype=np.uint8).reshape(2, 3, channels)
    picture.setflags(write=False)
    tensor = to_chw(picture)
    assert tensor.shape == (channels, 2, 3)
    assert tensor.is_contiguous()
    assert tensor[channels - 1, 1, 2] == picture[1, 2, channels - 1]
