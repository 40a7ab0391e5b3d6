"""What processes send per iteration, against DistributedDataParallel's reducer in the very same training step."""

from __future__ import annotations

import pytest
from benchmarks.ranks import traffic
from benchmarks.rooms import ROOMS

from support.ranks import on_ranks

pytestmark = pytest.mark.distributed


@pytest.mark.parametrize(
    ("name", "ranks", "most"),
    [
        # The generators' turn has one backward pass, the discriminators' two; the reducer sends everything at each of them.
        pytest.param("cyclegan", 2, 1 / 3, id="two players, two backward passes in one turn"),
        pytest.param("cyclegan", 4, 1 / 3, id="four processes"),
        # Two accumulations for each of two steps of the discriminator, two for the generator.
        pytest.param("biggan", 2, 1 / 3, id="accumulation and several steps of the discriminator"),
        pytest.param("starganv2", 2, 0.7, id="four turns"),
    ],
)
def test_a_step_sends_its_own_players_gradients_once(name: str, ranks: int, most: float) -> None:
    ours = on_ranks(traffic, name, ranks, False, ranks=ranks)
    stock = on_ranks(traffic, name, ranks, True, ranks=ranks)
    assert all(answer == ours[0] for answer in ours)
    assert len({answer["weights"] for answer in stock}) == 1
    assert ours[0]["weights"] == pytest.approx(stock[0]["weights"], rel=1e-5)  # the same training
    share = ours[0]["gradients"] / stock[0]["gradients"]
    print(f"{name}, {ranks} processes: {ours[0]['gradients']} bytes for {stock[0]['gradients']}, {share:.3f}")
    assert 0 < share < most * 1.02  # a flag for each tensor comes along
    assert ours[0]["reduces"] == sum(ours[0]["steps"].values())  # one all-reduce per step, whatever was accumulated


def test_what_is_sent_is_what_moves() -> None:
    room, _ = ROOMS["cyclegan"].small()
    weights = [p.numel() for p in room.parameters()]
    sent = on_ranks(traffic, "cyclegan", 2, False)[0]
    assert sent["gradients"] == 4 * (sum(weights) + len(weights))  # and one flag for each tensor


def test_a_picture_and_its_noise_maps_are_not_sent_in_each_iteration() -> None:
    sent = on_ranks(traffic, "consingan", 2, False)[0]
    assert sent["others"] == 0
    assert sent["reduces"] == 3 + 1  # steps of the critic, and the generator's three on one gradient
