"""`make new-room`: what it writes is sound, and what it refuses."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from support.architecture import RULES, parse
from zoo.cli import new_room
from zoo.cli.catalog import collect, parse_story
from zoo.cli.lookup import PLANNED, check_recipe, read_yaml
from zoo.cli.new_room import FILES, fill, next_steps, write_room
from zoo.errors import ZooError

REPOSITORY = Path(__file__).parent.parent.parent
NAMES = ("mypaper", "my_second_paper")
"""Our own name, and one of several words."""
PLANNED_PAPER = {
    "short": "PlanGAN",
    "title": "PlanGAN: Learning from Plans",
    "authors": "Anna B. Author, Jean-Luc Writer",
    "venue": "ICCV",
    "year": 2031,
    "link": "https://example.org/plans",
}
"""A paper that is planned for a test alone: the real list may be empty."""


@pytest.mark.parametrize("name", NAMES)
def test_the_files_of_a_new_room_are_sound(name: str, tmp_path: Path) -> None:
    written = write_room(name, tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in written] == [file.format(name=name) for file in FILES.values()]
    room, recipe, demo, _ = written
    source = parse(f"zoo.{name}", room.read_text())
    assert [complaint for rule in RULES for complaint in rule(source)] == []
    assert 150 <= len(source.text.splitlines()) <= 500
    check_recipe("fit", [recipe, demo], [])
    content = read_yaml(recipe)
    assert isinstance(content, dict)
    assert content["model"]["class_path"] == f"zoo.{name}.{fill(name)['class_name']}"
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    for check in (["format", "--check"], ["check", "--no-cache"]):
        python_files = [str(path) for path in written if path.suffix == ".py"]
        ruff = subprocess.run(
            [sys.executable, "-m", "ruff", *check, *python_files],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ruff.returncode == 0, ruff.stdout + ruff.stderr


@pytest.fixture
def plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A list of planned papers with one of our own, in the place of the real one."""
    folder = tmp_path / "plans"
    folder.mkdir()
    (folder / PLANNED).write_text(yaml.safe_dump({"plangan": PLANNED_PAPER}))
    monkeypatch.setattr(new_room, "PACKAGE", folder)
    return folder / PLANNED


def test_a_planned_paper_starts_with_its_story(tmp_path: Path, plans: Path) -> None:
    room = write_room("plangan", tmp_path)[0]
    paper = parse_story("plangan", compile_docstring(room), room)
    assert (paper.short, paper.published) == ("PlanGAN", "ICCV 2031")
    assert paper.title.startswith("Learning from Plans")
    assert paper.sections["Cite"].startswith("@misc{author2031plangan,")
    assert "Take 'plangan' out of zoo/planned.yaml." in next_steps("plangan", [room], tmp_path)
    mine = write_room("mypaper", tmp_path)[0]
    assert parse_story("mypaper", compile_docstring(mine), mine).short == "Mypaper"
    assert "planned" not in next_steps("mypaper", [mine], tmp_path)


@pytest.mark.parametrize("content", ["", "# No paper is planned.\n", "{}\n"])
def test_a_room_can_be_started_when_nothing_is_planned(tmp_path: Path, plans: Path, content: str) -> None:
    plans.write_text(content)
    room = write_room("mypaper", tmp_path)[0]
    assert parse_story("mypaper", compile_docstring(room), room).short == "Mypaper"
    assert "planned" not in next_steps("mypaper", [room], tmp_path)
    assert papers_of(plans) == []


def papers_of(plans: Path) -> list[str]:
    return [paper.name for paper in collect({}, plans)]


def compile_docstring(file: Path) -> str:
    return parse("zoo.room", file.read_text()).tree.body[0].value.value  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize(
    ("name", "proposal"),
    [("MyPaper", "mypaper"), ("my-paper", "mypaper"), ("2unit", "unit"), ("class", "class_room"), ("", "mypaper")],
)
def test_a_bad_name_is_refused_and_a_better_one_proposed(name: str, proposal: str, tmp_path: Path) -> None:
    with pytest.raises(ZooError, match=f"cannot be a room's name.* NAME={proposal}$"):
        write_room(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "taken", ["zoo/mypaper.py", "zoo/mypaper.yaml", "zoo/mypaper/model.py", "tests/zoo/test_mypaper.py"]
)
def test_a_taken_name_is_refused(taken: str, tmp_path: Path) -> None:
    file = tmp_path / taken
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(ZooError, match="The name 'mypaper' is taken: "):
        write_room("mypaper", tmp_path)
    assert file.read_text() == "mine"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]


def test_a_registered_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match=r"zoo/registry\.py exists"):
        write_room("cyclegan", tmp_path)


def test_an_installed_package_has_no_place_for_a_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_room, "repository", lambda: None)
    with pytest.raises(ZooError, match="written into a checkout"):
        new_room.run(["mypaper"])


@pytest.mark.slow
def test_a_new_room_passes_its_own_test(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("zoo", "datamodules", "configs", "tests/support"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=ignored)
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}

    def type_in(*command: str) -> str:
        answer = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout

    advice = type_in("-m", "zoo.cli.new_room", "mypaper")
    line = next(line for line in advice.splitlines() if '"zoo.mypaper:' in line)
    registry = tmp_path / "zoo" / "registry.py"
    text = registry.read_text()
    start = "ROOMS: dict[str, str] = {\n"
    assert start in text
    registry.write_text(text.replace(start, f"{start}{line}\n"))
    assert "6 passed" in type_in("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/zoo/test_mypaper.py")
    assert "\nmypaper " in type_in("-m", "zoo", "list")
    demo = ("--config", "zoo/mypaper.yaml", "--config", "configs/demo/mypaper.yaml", "--trainer.max_steps=2")
    type_in("-m", "zoo", "fit", *demo, "--run.name=first")
    assert list((tmp_path / "runs" / "mypaper" / "first" / "checkpoints").iterdir())
