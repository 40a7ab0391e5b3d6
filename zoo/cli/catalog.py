"""What the zoo holds: the papers, told by the docstrings of their rooms, and their recipes.

No room is imported: the docstring is read with `ast`. It has this shape, and a room that departs from it is an error:

    CycleGAN: Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks.

    Jun-Yan Zhu, Taesung Park, Phillip Isola, Alexei A. Efros. ICCV 2017. https://arxiv.org/abs/1703.10593

    The idea, in any number of paragraphs.

    Losses:
        Any section is a heading with a colon and an indented block: Losses, Differences, Checkpoints, State.

    Cite::

        @inproceedings{...}
"""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from inspect import cleandoc
from pathlib import Path
from textwrap import dedent
from typing import Any

from zoo.cli.lookup import PACKAGE, PLANNED, read_yaml
from zoo.cli.suggest import did_you_mean
from zoo.errors import ZooError
from zoo.registry import ROOMS, rooms

HEADING = re.compile(r"([A-Z][A-Za-z ]*)::?$")
CITATION = re.compile(r"(?P<authors>.+?)\. (?P<venue>[^.]+) (?P<year>\d{4})\.? (?P<link>https?://\S+)", re.DOTALL)


@dataclass(frozen=True)
class Recipe:
    """A YAML file that trains a room.

    Attributes:
        path: the file.
        name: its stem, `cyclegan`.
        shown: the path as one types it, `zoo/cyclegan.yaml`.
        about: the comment on top of the file, on one line.
        content: the parsed file.
    """

    path: Path
    name: str
    shown: str
    about: str
    content: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Paper:
    """A paper and what the zoo has of it.

    Attributes:
        name: the room's name, `cyclegan`.
        short: what the field calls the paper, `CycleGAN`.
        paragraphs: the idea, one paragraph each.
        sections: further blocks of the docstring by their heading, their line breaks kept.
        recipes: empty where the paper is planned.
    """

    name: str
    short: str
    title: str
    authors: str
    venue: str
    year: str
    link: str
    paragraphs: tuple[str, ...] = ()
    sections: Mapping[str, str] = field(default_factory=dict)
    recipes: tuple[Recipe, ...] = ()
    planned: bool = False

    @property
    def state(self) -> str:
        """What works today, in a few words."""
        return "planned" if self.planned else " ".join(self.sections.get("State", "").split())

    @property
    def published(self) -> str:
        """Venue and year."""
        return f"{self.venue} {self.year}".strip()


@cache
def papers() -> tuple[Paper, ...]:
    """All papers: our rooms in alphabetical order, rooms of installed packages, then the planned ones."""
    return collect(rooms(), PACKAGE / PLANNED)


def collect(known: Mapping[str, str], planned: Path) -> tuple[Paper, ...]:
    """Read the papers of the given rooms, and those of the given plan that have no room yet.

    Args:
        known: `module:Class` by name.
        planned: a YAML file with short, title, authors, venue, year and link of each planned paper.

    Raises:
        ZooError: one of our own rooms does not tell its story in the agreed shape.
    """
    ours = [read_room(name, value) for name, value in sorted(known.items()) if name in ROOMS]
    others = [_read_foreign(name, value) for name, value in sorted(known.items()) if name not in ROOMS]
    return (*ours, *others, *(paper for paper in _read_plan(planned) if paper.name not in known))


def find_paper(name: str, known: tuple[Paper, ...] | None = None) -> Paper:
    """The paper of this name: the room's, a recipe's or the field's own name, whatever the case.

    Raises:
        ZooError: no paper has this name; says which is the nearest.
    """
    known = papers() if known is None else known
    spelled: dict[str, Paper] = {}
    for paper in known:
        for spelling in (paper.name, paper.short, *(recipe.name for recipe in paper.recipes)):
            spelled.setdefault(_plain(spelling), paper)
    if _plain(name) in spelled:
        return spelled[_plain(name)]
    names = [name for paper in known for name in (paper.name, *(recipe.name for recipe in paper.recipes))]
    raise ZooError(f"There is no paper {name!r}.{did_you_mean(name, names)} Try: lightning list")


def read_room(name: str, value: str) -> Paper:
    """Read the story of a room.

    Args:
        name: the room's name.
        value: its `module:Class`.

    Raises:
        ZooError: there is no such file, or its docstring has another shape.
    """
    module = value.partition(":")[0]
    file = module_file(module)
    if file is None:
        raise ZooError(f"The room {name!r} is {value} by the registry, and there is no such module.")
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")), clean=False)
    paper = parse_story(name, docstring or "", file)
    folder = file.parent.parent if file.name == "__init__.py" else file.parent
    # The recipe of a part of a large paper (zoo.gpunit.prior) lies beside the paper's folder, as the others do.
    above = [folder, *folder.parents][: max(1, module.count("."))]
    return replace(paper, recipes=next(filter(None, (recipes_of(module, place) for place in above)), ()))


def parse_story(name: str, docstring: str, file: Path) -> Paper:
    """Take the docstring of a room apart; `file` is named where that fails.

    Raises:
        ZooError: the first lines are not `Short: Title.` and `Authors. Venue Year. https://link`.
    """
    blocks = _blocks(cleandoc(docstring))
    paragraphs = [" ".join(text.split()) for heading, text in blocks if heading is None]
    short, colon, title = (paragraphs[0] if paragraphs else "").partition(": ")
    citation = CITATION.fullmatch(paragraphs[1]) if len(paragraphs) > 1 else None
    if not colon or citation is None:
        raise ZooError(
            f"{file}: a room's docstring starts with 'Short: Title of the paper.', an empty line, and "
            "'Authors. Venue Year. https://link'; see CONTRIBUTING.md."
        )
    return Paper(
        name=name,
        short=short,
        title=title.removesuffix("."),
        paragraphs=tuple(paragraphs[2:]),
        sections={heading: text for heading, text in blocks if heading is not None},
        authors=citation["authors"],
        venue=citation["venue"],
        year=citation["year"],
        link=citation["link"],
    )


def recipes_of(module: str, folder: Path) -> tuple[Recipe, ...]:
    """The YAML files of a folder whose model is a class of this module, and not of a room that lies inside it."""
    modules = {value.partition(":")[0] for value in ROOMS.values()}
    inside = tuple(f"{other}." for other in modules if other.startswith(f"{module}."))
    return tuple(
        recipe
        for recipe in _recipes(folder)
        if (path := recipe.content["model"]["class_path"]).startswith((f"{module}.", f"{module}:"))
        and not path.startswith(inside)
    )


def module_file(module: str) -> Path | None:
    """The file of a module, which is not imported (nor is a package above it)."""
    top, *rest = module.split(".")
    spec = find_spec(top)
    if spec is None or not rest:
        return Path(spec.origin) if spec is not None and spec.origin else None
    for place in spec.submodule_search_locations or ():
        base = Path(place, *rest)
        for file in (base.with_suffix(".py"), base / "__init__.py"):
            if file.is_file():
                return file
    return None


def _read_plan(file: Path) -> list[Paper]:
    plan = read_yaml(file)
    if plan is None:  # all papers are built, and only comments are left
        return []
    if not isinstance(plan, dict):
        raise ZooError(f"{file}: the plan is a mapping from a room's name to its paper.")
    keys = ("short", "title", "authors", "venue", "year", "link")
    found = []
    for name, entry in plan.items():
        if not isinstance(entry, dict) or set(entry) != set(keys):
            raise ZooError(f"{file}: {name!r} must have exactly the keys {', '.join(keys)}.")
        short, title, authors, venue, year, link = (str(entry[key]) for key in keys)
        found.append(Paper(str(name), short, title, authors, venue, year, link, planned=True))
    return found


@cache
def _recipes(folder: Path) -> tuple[Recipe, ...]:
    found = []
    for path in sorted(folder.glob("*.yaml")):
        content = read_yaml(path)
        if not isinstance(content, dict):
            continue
        model = content.get("model")
        if isinstance(model, dict) and isinstance(model.get("class_path"), str):
            shown = f"{folder.name}/{path.name}"
            found.append(Recipe(path=path, name=path.stem, shown=shown, about=_top_comment(path), content=content))
    return tuple(found)


def _top_comment(path: Path) -> str:
    words: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#") or (words and not line.strip("# ")):
            break
        words += line.strip("# ").split()
    return " ".join(words)


def _read_foreign(name: str, value: str) -> Paper:
    """A room of another package, whose faults must not take our own list down."""
    try:
        return read_room(name, value)
    except (ZooError, SyntaxError, OSError) as error:
        return Paper(name, name, value, "", "", "", "", sections={"State": f"no card: {error}"})


def _blocks(text: str) -> list[tuple[str | None, str]]:
    """Split a docstring into paragraphs (no heading) and headed, indented blocks."""
    blocks: list[tuple[str | None, list[str]]] = []
    lines = text.splitlines()
    heading: str | None = None
    fresh = True
    for number, line in enumerate(lines):
        indented = line.startswith(" ")
        following = next((later for later in lines[number + 1 :] if later.strip()), "")
        match = HEADING.fullmatch(line)
        if match and following.startswith(" "):
            heading = match.group(1)
            blocks.append((heading, []))
        elif not line.strip():
            fresh = True
            if heading is not None:
                blocks[-1][1].append("")
        elif heading is not None and indented:
            blocks[-1][1].append(line)
        else:
            if fresh or heading is not None:
                blocks.append((None, []))
            heading = None
            fresh = False
            blocks[-1][1].append(line)
    return [(name, dedent("\n".join(content)).strip("\n")) for name, content in blocks]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
