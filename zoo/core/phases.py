"""Where the time of a command went."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Phases:
    """A clock for each phase of a run. One clock runs at a time: what happens inside another phase does not count for it.

    Attributes:
        seconds: what each phase took so far, in the order in which they first began.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._open: list[str] = []
        self._since = 0.0

    def begin(self, name: str) -> None:
        """Begin a phase; the clock of the one around it stops until `end`."""
        self._turn_over()
        self.seconds.setdefault(name, 0.0)
        self._open.append(name)

    def end(self) -> None:
        """End the present phase; the one around it goes on."""
        self._turn_over()
        if self._open:
            self._open.pop()

    @contextmanager
    def during(self, name: str) -> Iterator[None]:
        """Count the block as a phase."""
        self.begin(name)
        try:
            yield
        finally:
            self.end()

    def describe(self, least: float = 0.5) -> str:
        """One line, such as `training 3 min 50 s, sampler 20 s`; phases below `least` seconds are left out."""
        return ", ".join(f"{name} {duration(taken)}" for name, taken in self.seconds.items() if taken >= least)

    def _turn_over(self) -> None:
        now = time.monotonic()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now


def duration(seconds: float) -> str:
    """Seconds in words: `7 s`, `3 min 50 s`, `2 h 05 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
