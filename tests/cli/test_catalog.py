"""The catalogue: docstrings read without importing, recipes, the list, cards, citations and the README's table."""

import re
import sys
from pathlib import Path

import pytest

from zoo.cli import catalog, readme
from zoo.cli.catalog import Paper, collect, find_paper, module_file, papers, parse_story, read_room
from zoo.cli.lookup import PACKAGE, PLANNED
from zoo.cli.pages import WIDTH, bibtex, card_page, list_page
from zoo.errors import ZooError
from zoo.registry import ROOMS

STORY = '''r"""MirrorGAN: Translating Pictures by Mirrors: A Study.

Anna B. Author, Jean-Luc Writer, C.-C. Third. IEEE TIP 2031. https://example.org/mirror

A picture is mirrored, and mirrored
again.

Note: this paragraph starts like a heading and is none.

Losses:
    total = |M(M(x)) - x|
            + lambda_sharp |dM(x)|
    with M for the mirror and x for a picture, and with a remark that is long enough to be broken over two lines, at
    this place.

    A second paragraph of the block.

Differences:
    - The paper's mirror is made of glass, and it would be a long story to tell why this one here is made of something
      else.
    - None other.

State:
    trains

Cite::

    @article{author2031mirror,
      title = {Translating Pictures by Mirrors},
    }
"""

raise RuntimeError("the catalogue must not import a room")
'''
RECIPE = """# Mirrors on the horses of the paper.
# One evening on one GPU.

seed_everything: 7
model:
  class_path: mirrors.mirrorgan.MirrorGAN
  init_args: {width: 64, sharp: true, decay: null, schedule: {start: 3}, sizes: [64, 128]}
data:
  class_path: datamodules.UnpairedFolders
  init_args: {size: 256}
trainer: {max_steps: 1000, precision: 32-true}
"""


@pytest.fixture
def mirrors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with one room and two recipes, which fails when imported."""
    package = tmp_path / "mirrors"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (package / "mirrorgan.py").write_text(STORY)
    (package / "mirrorgan.yaml").write_text(RECIPE)
    (package / "mirrorgan-small.yaml").write_text("model: {class_path: mirrors.mirrorgan.MirrorGAN}\ndata: null\n")
    (package / "overlay.yaml").write_text("trainer: {max_steps: 3}\n")
    monkeypatch.syspath_prepend(tmp_path)
    catalog._recipes.cache_clear()
    return package


@pytest.fixture
def paper(mirrors: Path) -> Paper:
    return read_room("mirrorgan", "mirrors.mirrorgan:MirrorGAN")


def test_a_room_is_read_and_not_imported(paper: Paper) -> None:
    assert (paper.short, paper.title) == ("MirrorGAN", "Translating Pictures by Mirrors: A Study")
    assert paper.authors == "Anna B. Author, Jean-Luc Writer, C.-C. Third"
    assert (paper.venue, paper.year, paper.link) == ("IEEE TIP", "2031", "https://example.org/mirror")
    assert paper.paragraphs == (
        "A picture is mirrored, and mirrored again.",
        "Note: this paragraph starts like a heading and is none.",
    )
    assert list(paper.sections) == ["Losses", "Differences", "State", "Cite"]
    assert paper.sections["Losses"].startswith("total = |M(M(x)) - x|\n        + lambda_sharp")
    assert paper.sections["Losses"].endswith("\n\nA second paragraph of the block.")
    assert paper.state == "trains"
    assert "mirrors" not in sys.modules


def test_recipes_are_the_yaml_files_with_this_model(paper: Paper) -> None:
    assert [recipe.shown for recipe in paper.recipes] == ["mirrors/mirrorgan-small.yaml", "mirrors/mirrorgan.yaml"]
    assert paper.recipes[1].about == "Mirrors on the horses of the paper. One evening on one GPU."
    assert paper.recipes[0].about == ""


def test_card(paper: Paper) -> None:
    card = card_page(paper)
    assert card.splitlines()[0] == "MirrorGAN: Translating Pictures by Mirrors: A Study"
    assert "  total = |M(M(x)) - x|\n          + lambda_sharp |dM(x)|\n" in card
    assert max(len(line) for line in card.splitlines()) <= WIDTH
    words = " ".join(card.split())
    assert "long enough to be broken over two lines, at this place. A second" in words
    assert "- The paper's mirror is made of glass" in words
    assert re.search(r"^    else\.$|^    \S.* else\.$", card, re.MULTILINE), "bullets continue below their text"
    assert "model mirrors.mirrorgan.MirrorGAN; width 64, sharp true, decay null, sizes [64, 128]" in words
    assert "data datamodules.UnpairedFolders; size 256" in words
    assert "trainer max_steps 1000, precision 32-true, seed 7" in words
    assert "\n  lightning fit --config mirrors/mirrorgan.yaml\n" in card
    assert "@article" not in card


def test_cite(paper: Paper) -> None:
    assert bibtex(paper) == "@article{author2031mirror,\n  title = {Translating Pictures by Mirrors},\n}"
    authors = "Yunjey Choi, Youngjung Uh, Jaejun Yoo"
    planned = Paper(
        "plans", "Plans", "Learning from Plans", authors, "CVPR", "2020", "https://example.org", planned=True
    )
    assert bibtex(planned).startswith("@misc{choi2020plans,\n")
    assert "author = {Yunjey Choi and Youngjung Uh and" in bibtex(planned)


def test_list_has_a_row_for_each_recipe(paper: Paper) -> None:
    page = list_page([paper])
    assert re.search(r"^mirrorgan-small +MirrorGAN: Translating .* IEEE TIP 2031 +trains$", page, re.MULTILINE)
    assert re.search(r"^mirrorgan +IEEE TIP 2031 +trains$", page, re.MULTILINE)


@pytest.mark.parametrize("name", ["mirrorgan", "MirrorGAN", "mirrorgan-small", "mirrorgan_small"])
def test_a_paper_is_found_by_any_of_its_names(name: str, paper: Paper) -> None:
    assert find_paper(name, (paper,)) is paper
    with pytest.raises(ZooError, match=r"There is no paper 'mirorgan'\. Did you mean 'mirrorgan'"):
        find_paper("mirorgan", (paper,))


@pytest.mark.parametrize(
    "docstring",
    [
        "",
        "A module.",
        "MirrorGAN: Title.",
        "MirrorGAN: Title.\n\nAnna Author. IEEE TIP. https://example.org",
        "MirrorGAN: Title.\n\nAnna Author, IEEE TIP 2031",
    ],
)
def test_a_story_of_another_shape_is_refused(docstring: str) -> None:
    with pytest.raises(ZooError, match=r"mirrorgan\.py: a room's docstring starts with"):
        parse_story("mirrorgan", docstring, Path("mirrorgan.py"))


def test_a_registered_module_that_is_not_there(mirrors: Path) -> None:
    with pytest.raises(ZooError, match="there is no such module"):
        read_room("glass", "mirrors.glass:Glass")
    assert module_file("mirrors") == mirrors / "__init__.py"
    assert module_file("no_such_package.room") is None


def test_a_faulty_room_of_another_package_does_not_take_the_list_down(mirrors: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("{}")
    (mirrors / "broken.py").write_text("def broken(:\n")
    known = {"broken": "mirrors.broken:Broken", "mirrorgan": "mirrors.mirrorgan:MirrorGAN"}
    broken, fine = collect(known, plan)
    assert broken.state.startswith("no card: ")
    assert fine.state == "trains"
    assert "broken" in list_page([broken, fine])


def test_a_room_inside_a_large_ones_folder_has_its_own_recipe(mirrors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (mirrors / "large").mkdir()
    for file in ("__init__", "part"):
        (mirrors / "large" / f"{file}.py").write_text(STORY)
    for name, path in {"large": "large.Large", "part": "large.part.Part"}.items():
        (mirrors / f"{name}.yaml").write_text(f"model: {{class_path: mirrors.{path}}}\n")
    values = {"large": "mirrors.large:Large", "part": "mirrors.large.part:Part"}
    for name, value in values.items():
        monkeypatch.setitem(ROOMS, name, value)
    found = {name: [recipe.shown for recipe in read_room(name, value).recipes] for name, value in values.items()}
    assert found == {"large": ["mirrors/large.yaml"], "part": ["mirrors/part.yaml"]}


def test_every_paper_of_the_house_is_known() -> None:
    names = {paper.name for paper in papers()}
    assert names >= {"cyclegan", "gpunit", "biggan", "aggan", "sat", "unit", "starganv2", "alae", "consingan", "singan"}
    assert {paper.name for paper in papers() if not paper.planned} >= set(ROOMS)


def test_no_paper_is_both_planned_and_built() -> None:
    planned = {paper.name for paper in collect({}, PACKAGE / PLANNED)}
    assert not planned & set(ROOMS), "take the paper out of zoo/planned.yaml"


def test_the_rooms_tell_their_whole_story() -> None:
    for paper in papers():
        if paper.name in ROOMS:
            assert set(paper.sections) >= {"Losses", "Differences", "Checkpoints", "State", "Cite"}
            assert paper.paragraphs
            assert paper.recipes
            assert bibtex(paper).startswith("@")


def test_a_plan_with_a_missing_key_is_refused(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("gpunit: {short: GP-UNIT, title: T}\n")
    with pytest.raises(ZooError, match="'gpunit' must have exactly the keys short, title, authors"):
        collect({}, plan)
    plan.write_text("- gpunit\n")
    with pytest.raises(ZooError, match="the plan is a mapping"):
        collect({}, plan)


def test_the_table_of_a_readme_is_written_and_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "README.md"
    file.write_text(f"# Zoo\n\n{readme.BEGIN}\nold\n{readme.END}\n\nMore.\n")
    with pytest.raises(ZooError, match=r"out of date\. Type: python -m zoo\.cli\.readme"):
        readme.run(["--check", str(file)])
    assert readme.run([str(file)]) == 0
    text = file.read_text()
    assert text.startswith(f"# Zoo\n\n{readme.BEGIN}\n| Paper | Venue | Recipe | State |\n")
    assert text.endswith(f"|\n{readme.END}\n\nMore.\n")
    for paper in papers():
        assert f"| **{paper.short}**: [" in text
    assert readme.run(["--check", str(file)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


@pytest.mark.parametrize("text", ["", readme.BEGIN, f"{readme.END}{readme.BEGIN}", (readme.BEGIN + readme.END) * 2])
def test_a_readme_without_its_marks_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text(text)
    with pytest.raises(ZooError, match="these marks were not found"):
        readme.run([str(file)])
    with pytest.raises(ZooError, match="There is no file"):
        readme.run([str(tmp_path / "absent.md")])
