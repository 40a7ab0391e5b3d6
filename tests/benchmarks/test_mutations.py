"""The mutations that `python tests/benchmarks/mutations.py` draws are the ones that it says."""

from __future__ import annotations

import ast

import pytest
from benchmarks.mutations import CHANGES, FILES, ROOT, drawn, mutations

SNIPPET = '''
class Room:
    def __init__(self):
        self.slope = 0.2

    def step(self, x, y):
        """Docstrings - and messages + signs in them - stay."""
        if x < 0:
            raise ValueError("x - y is " + str(x - y))
        a = -f(x, y).detach()
        b = g(a) * self.lambda_cycle
        c = h(x, real=True)
        return a.mean() + b + 1e-8

    def samples(self, x, y):
        return x - y
'''
CHANGED = {
    ("signs", "a.mean() + b - 1e-08"),
    ("signs", "a.mean() - b"),
    ("signs", "f(x, y).detach()"),
    ("operators", "g(a) / self.lambda_cycle"),
    ("detaches", "f(x, y)"),
    ("eps", "1e-07"),
    ("weights", "1.1 * self.lambda_cycle"),
    ("weights", "0.22000000000000003"),
    ("sums", "a.sum()"),
    ("truths", "False"),
    ("arguments", "f(y, x)"),
}


def test_every_place_is_changed_and_nothing_else() -> None:
    found = [mutation for mutation, _ in mutations("room.py", SNIPPET)]
    assert {(m.kind, m.after) for m in found if m.kind != "orders"} == CHANGED
    assert [m.before for m in found if m.kind == "orders"] == ["b = g(a) * self.lambda_cycle; c = h(x, real=True)"]


def test_a_mutant_differs_in_one_place() -> None:
    whole = ast.unparse(ast.parse(SNIPPET)).splitlines()
    for mutation, text in mutations("room.py", SNIPPET):
        lines = text().splitlines()
        assert len(lines) == len(whole)
        assert sum(a != b for a, b in zip(lines, whole, strict=True)) == (2 if mutation.kind == "orders" else 1)


@pytest.mark.parametrize("room", FILES)
def test_every_room_has_mutants_of_most_sorts(room: str) -> None:
    kinds = {mutation.kind for file in FILES[room] for mutation, _ in mutations(file, (ROOT / file).read_text())}
    assert len(kinds) >= len(CHANGES) - 2


def test_a_drawing_is_repeatable_and_without_repeats() -> None:
    first, again, other = (drawn(["sat", "singan"], 12, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert len({mutation.name for _, mutation, _ in first}) == 12
