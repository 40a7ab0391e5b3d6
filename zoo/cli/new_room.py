"""Start a new room from a small one that trains: `make new-room NAME=mypaper`.

Writes the room, its recipe, a demo overlay and a test, and says which line to add to zoo/registry.py. A paper of zoo/planned.yaml
starts with its title, authors and citation filled in.
"""

import argparse
import keyword
import re
import sys
import textwrap
from pathlib import Path
from string import Template

from zoo.cli.catalog import Paper, collect
from zoo.cli.lookup import PACKAGE, PLANNED, repository
from zoo.cli.main import speak
from zoo.cli.pages import bibtex
from zoo.errors import ZooError
from zoo.registry import ROOMS

TEMPLATES = Path(__file__).parent / "room_template"
FILES = {
    "room.py.txt": "zoo/{name}.py",
    "recipe.yaml.txt": "zoo/{name}.yaml",
    "demo.yaml.txt": "configs/demo/{name}.yaml",
    "test.py.txt": "tests/zoo/test_{name}.py",
}


def write_room(name: str, root: Path) -> list[Path]:
    """Write the files of a new room.

    Args:
        name: the room's name: a Python identifier in lower case.
        root: the repository.

    Returns:
        The files that were written.

    Raises:
        ZooError: the name is no identifier, or taken.
    """
    check_name(name, root)
    facts = fill(name)
    written = []
    for template, target in FILES.items():
        path = root / target.format(name=name)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = Template((TEMPLATES / template).read_text(encoding="utf-8")).substitute(facts)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        written.append(path)
    return written


def check_name(name: str, root: Path) -> None:
    """Refuse a name that is no Python identifier in lower case, or that something else already has."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name) or keyword.issoftkeyword(name):
        example = re.sub(r"[^a-z0-9_]", "", name.lower()).lstrip("0123456789_") or "mypaper"
        example = f"{example}_room" if keyword.iskeyword(example) or keyword.issoftkeyword(example) else example
        raise ZooError(
            f"{name!r} cannot be a room's name: it takes lower-case letters, digits and _, starts with a letter and is no "
            f"word of Python. Try: make new-room NAME={example}"
        )
    places = [root / "zoo" / name, *(root / target.format(name=name) for target in FILES.values())]
    taken = [place.relative_to(root) for place in places if place.exists()]
    if taken or name in ROOMS:
        raise ZooError(
            f"The name {name!r} is taken: {taken[0] if taken else 'zoo/registry.py'} exists. Choose another one."
        )


def fill(name: str) -> dict[str, str]:
    """What the templates leave open: taken from zoo/planned.yaml where the paper is planned, else a form to fill in."""
    plan = {paper.name: paper for paper in collect({}, PACKAGE / PLANNED)}
    class_name = "".join(part.capitalize() for part in name.split("_"))
    form = Paper(
        name=name,
        short=class_name,
        title="The Full Title of the Paper",
        authors="First Author, Second Author",
        venue="VENUE",
        year="2026",
        link="https://example.org/paper",
    )
    paper = plan.get(name, form)
    return {
        "name": name,
        "class_name": re.sub(r"[^A-Za-z0-9]", "", paper.short),
        "short": paper.short,
        "title": paper.title.removeprefix(f"{paper.short}: "),
        "citation": textwrap.fill(f"{paper.authors}. {paper.published}. {paper.link}", 118, break_on_hyphens=False),
        "cite": textwrap.indent(bibtex(paper), "    "),
    }


def next_steps(name: str, written: list[Path], root: Path) -> str:
    """What was written and what is left to the person."""
    class_name = fill(name)["class_name"]
    lines = ["Written:", *(f"  {path.relative_to(root)}" for path in written)]
    lines += ["", "Add this line to ROOMS in zoo/registry.py:", f'    "{name}": "zoo.{name}:{class_name}",']
    if any(paper.name == name for paper in collect({}, PACKAGE / PLANNED)):
        lines += ["", f"Take {name!r} out of zoo/planned.yaml."]
    lines += ["", "Then:"]
    lines += [f"  lightning fit --config zoo/{name}.yaml --config configs/demo/{name}.yaml"]
    lines += [f"  .venv/bin/python -m pytest tests/zoo/test_{name}.py"]
    return "\n".join(lines)


def run(argv: list[str] | None = None) -> int:
    """Write a room into the repository of this install; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m zoo.cli.new_room", description="Start a new room.")
    parser.add_argument("name", help="the room's name, such as mypaper")
    options = parser.parse_args(argv)
    root = repository()
    if root is None:
        raise ZooError(
            "A new room is written into a checkout of the translation zoo, and this is an installed package. A room of a "
            "package of your own is announced by the entry point group 'translation_zoo.rooms'."
        )
    written = write_room(options.name, root)
    print(next_steps(options.name, written, root))
    return 0


if __name__ == "__main__":
    sys.exit(speak(run))
