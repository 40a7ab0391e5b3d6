"""A training that dies at a named point leaves checkpoints that load, and is resumed to the same bits; see `make soak-kills`."""

from __future__ import annotations

import pytest
from benchmarks.soak_kills import Victim

from support.toys import Ground


@pytest.fixture(scope="module")
def victims(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Victim]:
    root = tmp_path_factory.mktemp("victims")
    return {recipe: Victim(recipe, root / recipe, Ground(root / "ground")) for recipe in ("cyclegan", "sat")}


@pytest.mark.parametrize(
    ("recipe", "deaths"),
    [
        pytest.param("cyclegan", [("player", 2)], id="between the generators' step and the discriminators'"),
        pytest.param("cyclegan", [("pool", 2)], id="while the pools are gathered"),
        pytest.param("cyclegan", [("saved", 2)], id="before a whole checkpoint has its name"),
        pytest.param("cyclegan", [("metrics", 2)], id="with half a row written"),
        pytest.param("cyclegan", [("saving", 2), ("between", 3)], id="twice"),
        pytest.param("cyclegan", [("validation", 2)], id="behind the last checkpoint, before the end"),
        pytest.param("sat", [("stage", 3)], id="inside a change of stage"),
    ],
)
def test_a_run_that_died_at_a_named_point_ends_with_the_same_bits(
    victims: dict[str, Victim], recipe: str, deaths: list[tuple[str, float]]
) -> None:
    told, wrong = victims[recipe].kill("killed", deaths)
    assert told.count("killed") == len(deaths), told
    assert told.endswith("resumed"), told
    assert not wrong, told
