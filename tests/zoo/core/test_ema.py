"""Moving averages against their closed forms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from zoo.core import Ema


class Network(nn.Module):
    """One weight, one running statistic and one counter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(2, dtype=torch.float64))
        self.register_buffer("count", torch.tensor(0))

    def set(self, value: float) -> None:
        with torch.no_grad():
            self.weight.fill_(value)
            self.mean.fill_(10 * value)
            self.count.fill_(int(value))


def averaged(values: list[float], images: int = 0, **options: Any) -> tuple[float, float, int]:
    """The average's weight, statistic and counter after the network had these values, one per iteration."""
    network = Network()
    network.set(100)
    ema = Ema({"generator": network}, **options)
    for iteration, value in enumerate(values):
        network.set(value)
        ema.update(iteration, images)
    average = ema["generator"]
    assert isinstance(average, Network)
    return float(average.weight[0]), float(average.mean[1]), int(average.count)


def test_decay() -> None:
    weight, mean, count = averaged([1, 2, 3], decay=0.9)
    assert weight == pytest.approx(0.9**3 * 100 + 0.1 * (0.9**2 * 1 + 0.9 * 2 + 3), rel=1e-12)
    assert (mean, count) == (30, 3)  # buffers are copied


def test_half_life_counts_images() -> None:
    """After `half_life` images of a constant network, half of the old weight is left, whatever the batch."""
    for batch in (1, 5, 20):
        weight, _, _ = averaged([0] * (100 // batch), images=batch, half_life=100)
        assert weight == pytest.approx(50, rel=1e-12)


def test_until_the_start_iteration_a_copy_follows_and_a_given_one_stays() -> None:
    assert averaged([1, 2, 3], decay=0.9, start_iteration=2)[0] == pytest.approx(0.9 * 2 + 0.1 * 3, rel=1e-12)
    given = averaged([1, 2, 3], decay=0.9, start="given", start_iteration=2)
    assert given[0] == pytest.approx(0.9 * 100 + 0.1 * 3, rel=1e-12)
    assert averaged([1, 2], decay=0.9, start_iteration=2) == (2, 20, 2)
    assert averaged([1, 2], decay=0.9, start="given", start_iteration=2) == (100, 1000, 100)


def test_buffers_are_copied_averaged_or_kept() -> None:
    assert averaged([1, 2], decay=0.5, buffers="copy")[1:] == (20, 2)
    mean, count = averaged([1, 2], decay=0.5, buffers="average")[1:]
    assert (mean, count) == (pytest.approx(0.25 * 1000 + 0.25 * 10 + 0.5 * 20), 100)  # counters have no average
    assert averaged([1, 2], decay=0.5, buffers="keep")[1:] == (1000, 100)


@pytest.mark.parametrize(("decay", "expected"), [(0.0, 3.0), (1.0, 100.0)])
def test_the_ends_of_decay(decay: float, expected: float) -> None:
    assert averaged([1, 2, 3], decay=decay)[0] == expected


def test_averages_have_keys_of_their_own_and_are_for_inference_alone() -> None:
    class Room(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.generator = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
            self.ema = Ema({"generator": self.generator}, decay=0.5)

    room = Room().train()
    names = set(room.state_dict())
    assert {name for name in names if name.startswith("ema.")} == {
        f"ema.{name}" for name in names if name.startswith("generator.")
    }
    assert not any(module.training for module in room.ema.modules())
    assert room.generator.training
    assert not any(p.requires_grad for p in room.ema.parameters())
    assert len(list(room.parameters())) == 2 * len(list(room.generator.parameters()))
    other = Room()
    other.load_state_dict(room.state_dict())
    assert torch.equal(
        other.ema["generator"].get_parameter("0.weight"), room.ema["generator"].get_parameter("0.weight")
    )


@pytest.mark.parametrize("options", [{}, {"decay": 0.9, "half_life": 10}, {"decay": 1.5}, {"half_life": 0}])
def test_settings_that_make_no_average_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="decay"):
        Ema({"generator": Network()}, **options)
