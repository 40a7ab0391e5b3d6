"""The table of iterations: what it compares with what."""

from __future__ import annotations

import csv
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))  # it is a script
    import step  # type: ignore[import-not-found]

    return step


def figures(**changes: Any) -> dict[str, Any]:
    measured = {"step_ms": 120.0, "trainer_ms": 0.5, "plain_ms": 110.0, "translate_ms": 9.0, "step_cpu_ms": 100.0}
    measured |= {"plain_cpu_ms": 80.0, "translate_cpu_ms": 8.0, "calibration": 1.07, "peak_mib": 700.0}
    measured |= {
        "start_mib": 300.0,
        "gflop": 8.0,
        "plain_gflop": 8.5,
        "forwards": "critic 7",
        "shares": "critic 100%",
        "host_reads": 1,
    }
    return measured | changes


def test_official_seconds_are_scaled_by_the_calibration(step: ModuleType, tmp_path: Path) -> None:
    row = step.row_of("consingan", {1: figures(), 2: figures(step_ms=70.0)})
    assert row["official_ms_scaled"] == pytest.approx(2 * 350)  # twice as slow at the five products as that machine
    assert row["to_official"] == pytest.approx(100 / 700)
    assert (row["goal"], row["to_plain"], row["step_ms_2"]) == (0.8, 1.25, 70.0)
    assert step.row_of("cyclegan", {1: figures()})["goal"] == 1.0
    facts = step.machine()
    step.write_csv(tmp_path / "new" / "step.csv", [row], facts)
    with (tmp_path / "new" / "step.csv").open(newline="") as file:
        (written,) = csv.DictReader(file)
    assert {"machine", "torch", "lightning", "torchvision", "numpy", "python", "load"} <= written.keys()
    assert float(written["calibration"]) == 1.07
    assert written["room"] == "consingan"
    assert float(written["translate_cpu_ms"]) == 8.0


def test_a_room_without_official_figures_is_measured_as_it_is(step: ModuleType) -> None:
    row = step.row_of("unit_digits", {1: figures(plain_ms=None, plain_cpu_ms=None, plain_gflop=None)})
    assert row["to_official"] is row["goal"] is row["to_plain"] is None
    lines = step.table([row], [1]).splitlines()
    assert len(lines[0].split("  ")) > 1
    assert "-" in lines[1].split()
    assert "unit_digits" in lines[1]
