"""Where the time went."""

from __future__ import annotations

import pytest

from zoo.core import phases
from zoo.core.phases import Phases, duration


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(phases, "time", clock)
    return clock


def test_one_clock_runs_at_a_time(clock: Clock) -> None:
    times = Phases()
    times.begin("set-up")
    clock.now += 2
    times.end()
    clock.now += 50  # between two phases nothing counts
    times.begin("training")
    clock.now += 10
    with times.during("validation"):
        clock.now += 3
        with times.during("grids"):
            clock.now += 0.25
    clock.now += 5
    with times.during("validation"):
        clock.now += 1
    times.end()
    clock.now += 50
    assert times.seconds == {"set-up": 2, "training": 15, "validation": 4, "grids": 0.25}
    assert times.describe() == "set-up 2 s, training 15 s, validation 4 s"
    assert times.describe(least=0) == "set-up 2 s, training 15 s, validation 4 s, grids 0 s"


def test_a_phase_that_fails_is_over(clock: Clock) -> None:
    times = Phases()

    def write() -> None:
        with times.during("grids"):
            clock.now += 1
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        write()
    clock.now += 1
    times.end()  # one end too many does no harm
    times.begin("training")
    clock.now += 4
    times.end()
    assert times.seconds == {"grids": 1, "training": 4}


def test_durations() -> None:
    assert [duration(s) for s in (0, 0.4, 59.6, 230, 3599, 3600, 90061)] == [
        "0 s",
        "0 s",
        "1 min 00 s",
        "3 min 50 s",
        "59 min 59 s",
        "1 h 00 min",
        "25 h 01 min",
    ]
