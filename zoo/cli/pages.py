"""The pages of the front door as text: help, list, card and cite."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from zoo.cli.catalog import Paper, Recipe
from zoo.cli.lookup import demo_overlay

WIDTH = 100
FULL_LINE = 98  # a line of a docstring's block that had no room for the next word
GROUPS: dict[str, dict[str, str]] = {
    "Train and measure": {
        "fit": "train a recipe",
        "validate": "measure a checkpoint on the validation data",
        "test": "measure a checkpoint on the test data",
        "predict": "translate a whole data set",
        "evaluate": "measure a model, or two folders, by a named protocol: FID, KID, LPIPS, the judge",
        "ray": "train a recipe on the machines of a Ray cluster, an extra",
        "replay": "look at an iteration whose numbers went bad: what was not finite first",
        "sampler": "fit the style sampler of a finished checkpoint",
        "directions": "find directions that change attributes of pictures, for ALAE",
    },
    "Translate": {
        "translate": "translate a picture or a folder of pictures",
        "compare": "put several runs side by side",
        "styles": "grids and a film of a model of many domains and styles",
        "single": "models of one picture: sample, animate, harmonize, edit, paint, enlarge",
        "playground": "a page in the browser: choose weights, drop a picture",
        "export": "write a model as a program, for ONNX or as plain weights, and check it",
    },
    "Make data": {
        "generate": "pairs of pictures that one latent vector gives in several classes",
        "align": "faces brought to where CelebA-HQ's are",
        "labels": "which class each pixel of a folder of pictures is of",
    },
    "Know your machine": {
        "doctor": "what is installed and what this machine can do; the largest batch that fits",
    },
    "Read and fetch": {
        "list": "the papers and what works today; --weights: all weights by name",
        "card": "the whole story of a paper: idea, losses, differences, checkpoints, settings",
        "cite": "the paper's BibTeX entry",
        "download": "published weights and data sets: what there is, or fetch some by name",
    },
}
COMMANDS = {command: summary for group in GROUPS.values() for command, summary in group.items()}
USAGE = {
    "list": "lightning list [--weights [--shipped]]",
    "card": "lightning card NAME",
    "cite": "lightning cite NAME",
    "download": "lightning download [NAME...] [--to FOLDER] [--keep] [--imagenet FOLDER] [--attribute NAME]",
}
EXAMPLES = {
    "lightning card cyclegan": "read the paper",
    "lightning fit --config zoo/cyclegan.yaml --config configs/demo/cyclegan.yaml": "train it on small rendered scenes",
}


def help_page() -> str:
    """The answer to `lightning --help`."""
    lines = ["lightning: image-to-image translation papers, one room each, one command to train them", ""]
    lines += ["Usage: lightning COMMAND [OPTIONS]", ""]
    for group, commands in GROUPS.items():
        lines += [group, *(f"  {command:<11}{summary}" for command, summary in commands.items()), ""]
    lines += ["Examples"]
    for command, purpose in EXAMPLES.items():
        lines += [f"  # {purpose}", f"  {command}"]
    lines += ["", "Options"]
    lines += ["  -h, --help   this page; after a command, the page of that command"]
    lines += ["  --version    our version and those of Python, PyTorch and Lightning"]
    lines += ["  --debug      show the traceback of an error"]
    lines += ["", "A --config file is looked up as given, then in the installed package, then in the repository."]
    return "\n".join(lines)


def command_page(command: str) -> str:
    """The answer to `lightning list --help` and its like."""
    source = "lightning download" if command == "download" else "lightning list"
    name = f"\n\nNAME is one of the names that `{source}` shows." if "NAME" in USAGE[command] else ""
    return f"Usage: {USAGE[command]}\n\n{COMMANDS[command][0].upper()}{COMMANDS[command][1:]}.{name}"


def list_page(papers: Sequence[Paper]) -> str:
    """A table of all recipes; a paper with several recipes has several rows."""
    rows = [("NAME", "PAPER", "VENUE", "STATE")]
    for paper in papers:
        names = [recipe.name for recipe in paper.recipes] or [paper.name]
        title = paper.title if paper.title.startswith(f"{paper.short}:") else f"{paper.short}: {paper.title}"
        rows += [
            (name, title if name == names[0] else "", paper.published, paper.state.removesuffix(".") or "-")
            for name in names
        ]
    name_width, venue_width = (max(len(row[column]) for row in rows) for column in (0, 2))
    state_width = min(max(len(row[3]) for row in rows), 34)
    widths = (name_width, WIDTH - name_width - venue_width - state_width - 6, venue_width, state_width)
    lines = [line for row in rows for line in _table_row(row, widths)]
    return "\n".join([*lines, "", "The whole story of one: lightning card NAME"])


def card_page(paper: Paper) -> str:
    """The whole story of a paper."""
    lines = [f"{paper.short}: {paper.title}" if not paper.title.startswith(f"{paper.short}:") else paper.title]
    lines = [*_wrap(lines[0]), *_wrap(paper.authors), f"{paper.published}  {paper.link}".strip(), ""]
    for paragraph in paper.paragraphs:
        lines += [*_wrap(paragraph), ""]
    for heading, text in paper.sections.items():
        if heading != "Cite":
            lines += [heading, *_indent(text), ""]
    if paper.planned:
        return "\n".join(
            [*lines, "This room is planned: there is no recipe yet. What can be trained today: lightning list"]
        )
    for recipe in paper.recipes:
        lines += [f"Recipe {recipe.shown}", *_recipe_lines(recipe), ""]
    lines += ["Type", *(f"  {command}" for command in _commands(paper))]
    return "\n".join(lines)


def bibtex(paper: Paper) -> str:
    """The BibTeX entry: the one of the room's docstring, else one made of what is known of the paper."""
    if "Cite" in paper.sections:
        return paper.sections["Cite"].strip()
    family = paper.authors.partition(",")[0].split()[-1:] or [paper.name]
    return "\n".join(
        [
            f"@misc{{{re.sub('[^a-z]', '', family[0].lower())}{paper.year}{paper.name},",
            f"  title = {{{paper.title}}},",
            f"  author = {{{' and '.join(paper.authors.split(', '))}}},",
            f"  year = {{{paper.year}}},",
            f"  note = {{{paper.published}}},",
            f"  url = {{{paper.link}}},",
            "}",
        ]
    )


def _recipe_lines(recipe: Recipe) -> list[str]:
    content = recipe.content
    data = content.get("data")
    model_class, model = _class_and_settings(content["model"])
    data_class, data_settings = _class_and_settings(data)
    trainer = content.get("trainer") if isinstance(content.get("trainer"), dict) else {}
    seed = {"seed": content["seed_everything"]} if "seed_everything" in content else {}
    rows = {
        "model": (model_class, model),
        "data": (data_class, data_settings),
        "trainer": ("", {**(trainer or {}), **seed}),
    }
    lines = [f"  {line}" for line in _wrap(recipe.about, WIDTH - 2)] if recipe.about else []
    for name, (class_path, settings) in rows.items():
        text = "; ".join(filter(None, [class_path, ", ".join(_plain_settings(settings))]))
        if text:
            lines += textwrap.wrap(text, WIDTH, initial_indent=f"  {name:<9}", subsequent_indent=" " * 11)
    return lines


def _class_and_settings(node: object) -> tuple[str, dict[str, Any]]:
    """Class path and arguments of a node such as `{class_path: zoo.cyclegan.CycleGAN, init_args: {...}}`."""
    if not isinstance(node, dict):
        return str(node or ""), {}
    settings = node.get("init_args")
    return str(node.get("class_path", "")), settings if isinstance(settings, dict) else {}


def _plain_settings(settings: dict[str, Any]) -> Iterable[str]:
    """Settings that fit on a line: texts, numbers, switches and short lists of these."""
    for name, value in settings.items():
        if isinstance(value, dict) or (
            isinstance(value, list) and any(isinstance(item, dict | list) for item in value)
        ):
            continue
        shown = {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
        yield f"{name} {'null' if value is None else shown}"


def _commands(paper: Paper) -> list[str]:
    commands = []
    for recipe in paper.recipes:
        commands.append(f"lightning fit --config {recipe.shown}")
        demo = demo_overlay(recipe.name)
        if demo:
            commands.append(f"{commands[-1]} --config {demo}")
    return [*commands, f"lightning cite {paper.name}"]


def _table_row(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    cells = [_wrap(cell, width) or [""] for cell, width in zip(row, widths, strict=True)]
    height = max(len(cell) for cell in cells)
    padded = [cell + [""] * (height - len(cell)) for cell in cells]
    columns = zip(*padded, strict=True)
    return [
        "  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip() for line in columns
    ]


def _wrap(text: str, width: int = WIDTH) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def _indent(text: str) -> list[str]:
    """A block of a docstring, two columns to the right and no wider than the page."""
    lines: list[str] = []
    for line in _rejoin(text.splitlines()):
        start = " " * (2 + _depth(line))
        more = start + "  " * line.lstrip().startswith("- ")
        lines += textwrap.wrap(
            line.strip(),
            WIDTH,
            initial_indent=start,
            subsequent_indent=more,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]
    return lines


def _rejoin(lines: Sequence[str]) -> list[str]:
    """Undo the line breaks inside sentences: those after a line that was full. Formulas and tables keep theirs."""
    joined: list[str] = []
    previous = ""
    for line in lines:
        words = line.split()
        soft = previous and words and len(previous) + 1 + len(words[0]) > FULL_LINE and words[0] != "-"
        text_depth = _depth(joined[-1]) + 2 * joined[-1].lstrip().startswith("- ") if joined else 0
        if soft and _depth(line) == text_depth:
            joined[-1] += f" {line.strip()}"
        else:
            joined.append(line)
        previous = line
    return joined


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())
