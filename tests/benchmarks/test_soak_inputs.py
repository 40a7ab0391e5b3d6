"""A sample of the bad inputs of `make soak-inputs`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from benchmarks import soak_inputs
from benchmarks.soak_inputs import CASES, Models, kind_of, run_case

SAMPLE = 200


def test_a_sample_of_bad_inputs_costs_a_sentence_each(tmp_path: Path) -> None:
    Models.make(tmp_path)
    answers: Counter[str] = Counter()
    wrong = []
    for number in range(SAMPLE):
        kind, answer, complaint = run_case(number, 0, tmp_path)
        answers[answer] += 1
        if complaint:
            wrong.append(f"{number} {kind}: {complaint}")
    assert not wrong
    assert answers["refused"] > answers["read"] > 0
    assert {kind_of(number, 0) for number in range(SAMPLE)} == set(CASES)


@pytest.mark.parametrize("misdeed", ["raises", "warns", "says nothing", "talks"])
def test_what_is_wrong_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, misdeed: str) -> None:
    def case(numbers: object, folder: Path) -> str:
        import warnings

        if misdeed == "raises":
            raise IndexError("out of range")
        if misdeed == "warns":
            warnings.warn("something is odd", UserWarning, stacklevel=1)
        return soak_inputs.refused(ValueError("" if misdeed == "says nothing" else "a" * 9999))

    monkeypatch.setitem(soak_inputs.CASES, "picture", (case, 1))
    assert run_case(0, 0, tmp_path, "picture")[2]
