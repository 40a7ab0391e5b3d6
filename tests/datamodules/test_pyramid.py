"""Batches that follow a network that grows."""

from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules import Scenes
from datamodules.errors import DataError
from datamodules.pyramid import GrowingStream, halve_pixels, legs_of, shrink

FIRST, BATCHES, SIZES = [0, 3, 5], [4, 2, 1], [4, 8, 16]


def scenes(**options: Any) -> Scenes:
    return Scenes(task="alone", domains=("plain",), size=16, **options)


def first_batches(count: int, **options: Any) -> list[Tensor]:
    data = scenes(**options)
    data.follow(FIRST, BATCHES, SIZES)
    loader = iter(data.train_dataloader())
    return [next(loader)["image"] for _ in range(count)]


def test_means_are_cut_to_whole_numbers() -> None:
    pixels = torch.tensor([[[0, 1, 255, 255], [1, 1, 255, 254]]], dtype=torch.uint8)
    assert halve_pixels(pixels).tolist() == [[[0, 254]]]
    assert halve_pixels(torch.full((3, 4, 4), 255, dtype=torch.uint8)).eq(255).all()
    with pytest.raises(DataError, match="3x4 has no half"):
        halve_pixels(torch.zeros(1, 4, 3, dtype=torch.uint8))
    with pytest.raises(DataError, match="can't be halved down to 5"):
        shrink(torch.zeros(1, 8, 8, dtype=torch.uint8), 5)


def test_legs_take_up_samples_one_after_the_other() -> None:
    legs = legs_of(FIRST, BATCHES, SIZES, world_size=2)
    assert [leg.first_sample for leg in legs] == [0, 3 * 4 * 2, 3 * 4 * 2 + 2 * 2 * 2]


def test_no_sample_is_left_out_or_seen_twice_by_several_processes() -> None:
    legs = legs_of(FIRST, BATCHES, SIZES, world_size=3)
    streams = [
        GrowingStream(lambda i: {"i": torch.tensor(i)}, legs=legs, size=16, rank=rank, world_size=3)
        for rank in range(3)
    ]
    seen = [int(i) for iteration in range(8) for stream in streams for i in stream.batch(iteration)["i"]]
    assert seen == list(range(3 * (3 * 4 + 2 * 2 + 3)))


def test_batches_have_the_size_and_number_of_their_iteration() -> None:
    batches = first_batches(7)
    assert [tuple(batch.shape) for batch in batches] == [
        *[(4, 3, 4, 4)] * 3,
        *[(2, 3, 8, 8)] * 2,
        *[(1, 3, 16, 16)] * 2,
    ]
    plain = scenes().train_samples()
    assert torch.equal(batches[0][1], shrink(plain(1)["image"], 4))
    assert torch.equal(batches[5][0], plain(16)["image"])


def test_workers_change_nothing() -> None:
    for ours, theirs in zip(first_batches(7), first_batches(7, workers=2), strict=True):
        assert torch.equal(ours, theirs)


def test_a_stream_begins_anywhere() -> None:
    data = scenes()
    data.follow(FIRST, BATCHES, SIZES)
    data._completed_iterations = lambda: 4  # type: ignore[method-assign]
    assert torch.equal(next(iter(data.train_dataloader()))["image"], first_batches(5)[4])


def test_pictures_that_are_too_small_are_refused() -> None:
    with pytest.raises(DataError, match=r"grows to 32 pixels, and the data gives 16: --data.size 32"):
        scenes().follow([0], [1], [32])


def test_what_goes_wrong_in_a_worker_arrives_as_a_sentence() -> None:
    data = scenes()
    data.follow([0], [2], [16])
    data.legs = legs_of([0], [2], [5], world_size=1)
    with pytest.raises(DataError, match="can't be halved down to 5"):
        next(iter(data.train_dataloader()))
