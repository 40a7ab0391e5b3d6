"""The soak has to tell a leak from noise."""

import pytest
from benchmarks.soak import days_to_seconds, is_flat

NOISE = [0.0, 3.0, -2.0, 1.0, -3.0, 2.0] * 10


@pytest.mark.parametrize(
    ("column", "per_row", "flat"),
    [("memory_mib", 0.0, True), ("memory_mib", 1.0, False), ("shared_mib", 0.0, True), ("shared_mib", 0.1, False)],
)
def test_growth_shows_through_noise(column: str, per_row: float, flat: bool) -> None:
    assert is_flat(column, [800 + noise + per_row * row for row, noise in enumerate(NOISE)]) is flat


def test_warming_up_is_no_leak() -> None:
    assert is_flat("handles", [10.0 + row for row in range(12)] + [22.0] * 48)


def test_a_handle_lost_now_and_then_is_a_leak() -> None:
    assert not is_flat("handles", [20.0 + row // 10 for row in range(60)])


@pytest.mark.parametrize(("minutes", "text"), [(7, "00:00:07:00"), (90.5, "00:01:30:30"), (3000, "02:02:00:00")])
def test_how_long_is_said_as_the_trainer_wants_it(minutes: float, text: str) -> None:
    assert days_to_seconds(minutes) == text
