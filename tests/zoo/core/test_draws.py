"""Draws: a pure function of (seed, rank, iteration, name, count), or a tape."""

from __future__ import annotations

import random
from itertools import combinations

import numpy as np
import pytest
import torch

from zoo.core import Draws
from zoo.core.draws import seed_of

CPU = torch.device("cpu")


def drawn(seed: int = 3, rank: int = 0, iteration: int = 5, name: str = "noise") -> torch.Tensor:
    draws = Draws(seed, rank)
    draws.begin(iteration, CPU, torch.float32)
    return draws.normal(name, (4,))


def test_the_same_key_gives_the_same_numbers_and_any_other_key_others() -> None:
    assert torch.equal(drawn(), drawn())
    others = [drawn(), drawn(seed=4), drawn(rank=1), drawn(iteration=6), drawn(name="alpha"), drawn(3, 5, 0)]
    for a, b in combinations(others, 2):
        assert not torch.equal(a, b)


def test_what_else_an_iteration_draws_does_not_matter() -> None:
    draws = Draws(3)
    draws.begin(5, CPU, torch.float32)
    draws.uniform("other", (100,))
    torch.randn(7)
    assert torch.equal(draws.normal("noise", (4,)), drawn())


def test_a_repeated_name_gives_new_numbers_and_a_new_iteration_begins_again() -> None:
    draws = Draws(3)
    draws.begin(5, CPU, torch.float32)
    first, second = draws.normal("noise", (4,)), draws.normal("noise", (4,))
    assert not torch.equal(first, second)
    draws.begin(5, CPU, torch.float32)
    assert torch.equal(draws.normal("noise", (4,)), first)
    assert torch.equal(draws.normal("noise", (4,)), second)


def test_kinds_of_draws_have_their_shapes_types_and_ranges() -> None:
    draws = Draws(0)
    draws.begin(0, CPU, torch.float64)
    normal, uniform = draws.normal("n", (2000,)), draws.uniform("u", (2000,))
    integers, order = draws.integers("i", (500, 2), 3, 6), draws.permutation("p", 9)
    assert normal.dtype == uniform.dtype == torch.float64
    assert abs(float(normal.mean())) < 0.1
    assert abs(float(normal.std()) - 1) < 0.1
    assert 0 <= float(uniform.min()) < 0.01
    assert 0.99 < float(uniform.max()) < 1
    assert integers.dtype == order.dtype == torch.int64
    assert integers.shape == (500, 2)
    assert set(integers.flatten().tolist()) == {3, 4, 5}
    assert sorted(order.tolist()) == list(range(9))


def test_the_global_generators_begin_anew_with_each_iteration_too() -> None:
    def dropped(rank: int, iteration: int) -> tuple[float, float, float]:
        Draws(1, rank).begin(iteration, CPU, torch.float32)
        return float(torch.rand(())), random.random(), float(np.random.rand())  # noqa: NPY002

    assert dropped(0, 2) == dropped(0, 2)
    assert len({*dropped(0, 2), *dropped(1, 2), *dropped(0, 3)}) == 9


def test_looking_aside_is_the_same_every_time_and_leaves_the_streams_alone() -> None:
    draws = Draws(3)
    draws.begin(5, CPU, torch.float32)
    first = draws.normal("noise", (4,))
    state = torch.get_rng_state()
    looks = []
    for moment in ("samples", "samples", "judge"):
        with draws.aside(moment, 0):
            looks.append((draws.normal("noise", (4,)), torch.rand(2)))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(looks[0], looks[1], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(looks[0], looks[2], strict=True))
    assert not torch.equal(looks[0][0], first)
    second = draws.normal("noise", (4,))
    draws.begin(5, CPU, torch.float32)
    draws.normal("noise", (4,))
    assert torch.equal(draws.normal("noise", (4,)), second)  # as if nobody had looked


def test_a_tape_is_read_in_order() -> None:
    draws = Draws(0)
    tape = {0: [("noise", torch.arange(2.0)), ("index", torch.tensor([4]))], 1: [("order", torch.tensor([1, 0]))]}
    draws.replay(tape)
    draws.begin(0, CPU, torch.float64)
    assert draws.unread == 3
    noise = draws.normal("noise", (2,))
    assert noise.dtype == torch.float64
    assert noise.tolist() == [0, 1]
    with draws.aside("samples"):
        draws.normal("anything", (5,))  # a look reads nothing from the tape
    assert draws.integers("index", (1,), 0, 9, device="cpu").tolist() == [4]
    draws.begin(1, CPU, torch.float64)
    assert draws.permutation("order", 2).tolist() == [1, 0]
    assert draws.unread == 0


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [("alpha", (2,), "asks for 'alpha' of shape"), ("noise", (3,), "the tape has 'noise' of shape \\(2,\\)")],
)
def test_a_tape_enforces_names_and_shapes(name: str, shape: tuple[int, ...], message: str) -> None:
    draws = Draws(0)
    draws.replay({0: [("noise", torch.zeros(2))]})
    draws.begin(0, CPU, torch.float32)
    with pytest.raises(LookupError, match=message):
        draws.normal(name, shape)


def test_a_tape_ends() -> None:
    draws = Draws(0)
    draws.replay({0: []})
    draws.begin(0, CPU, torch.float32)
    with pytest.raises(LookupError, match="none left"):
        draws.uniform("noise", (1,))


def test_seeds_depend_on_every_part_and_on_where_it_stands() -> None:
    keys = [(1, 2), (12,), (1, "2"), (2, 1), (1, 2, 0), ("1", 2)]
    assert len({seed_of(*key) for key in keys}) == len(keys)
    assert all(0 <= seed_of(*key) < 2**63 for key in keys)
