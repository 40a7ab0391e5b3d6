"""Every recipe of the catalogue goes through the whole command at toy size; see `zoo.testing.check_room`."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.toys import TOYS, Ground, configs_of, use_of
from zoo.cli.lookup import PACKAGE, PLANNED
from zoo.testing import check_room, rows

WITHOUT_A_DISCRIMINATOR = {"gpunit_prior"}
RECIPES = sorted(path.stem for path in PACKAGE.glob("*.yaml") if path.name != PLANNED)


def test_every_recipe_is_in_the_matrix() -> None:
    assert sorted(TOYS) == RECIPES, "a recipe without its line in support.toys.TOYS, or a line without a recipe"


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("ground"))


@pytest.mark.distributed
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_passes_through_the_whole_command(recipe: str, tmp_path: Path, ground: Ground) -> None:
    toy = TOYS[recipe]
    run = check_room(
        *configs_of(recipe, tmp_path, ground),
        folder=tmp_path / "check",
        iterations=toy.iterations,
        interrupted=toy.interrupted,
        use=use_of(recipe, ground),
        domain=toy.domain,
        size=toy.size,
    )
    assert run.checkpoint_path(toy.iterations).is_file()
    told = {key for row in rows(run) for key in row if key.startswith("accuracy/")}
    assert bool(told) == (recipe not in WITHOUT_A_DISCRIMINATOR), "who is winning is not logged, see zoo.core.terms"
