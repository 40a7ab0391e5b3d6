"""Keep the table of papers in a README up to date.

python -m zoo.cli.readme README.md            # write the table between its two marks
python -m zoo.cli.readme --check README.md    # exit with 2 if it is out of date
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from zoo.cli.catalog import Paper, papers
from zoo.cli.main import speak
from zoo.errors import ZooError

BEGIN = "<!-- papers:begin -->"
END = "<!-- papers:end -->"


def table(known: Sequence[Paper]) -> str:
    """The papers as a Markdown table."""
    rows = ["| Paper | Venue | Recipe | State |", "| --- | --- | --- | --- |"]
    for paper in known:
        title = paper.title.removeprefix(f"{paper.short}: ")
        recipes = "<br>".join(f"[`{recipe.shown}`]({recipe.shown})" for recipe in paper.recipes)
        rows.append(f"| **{paper.short}**: [{title}]({paper.link}) | {paper.published} | {recipes} | {paper.state} |")
    return "\n".join(rows)


def regenerate(text: str, known: Sequence[Paper]) -> str:
    """The text with a fresh table between its marks.

    Raises:
        ZooError: the marks are not there, each once, in their order.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in tail:
        raise ZooError(f"The table of papers stands between one {BEGIN} and one {END}; these marks were not found.")
    return f"{head}{BEGIN}\n{table(known)}\n{END}{tail}"


def run(argv: list[str] | None = None) -> int:
    """Write or check the table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m zoo.cli.readme", description="Write the README's table of papers.")
    parser.add_argument("readme", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 2 if the table is out of date")
    options = parser.parse_args(argv)
    if not options.readme.is_file():
        raise ZooError(f"There is no file {str(options.readme)!r}.")
    text = options.readme.read_text(encoding="utf-8")
    fresh = regenerate(text, papers())
    if fresh == text:
        return 0
    if options.check:
        raise ZooError(
            f"{options.readme}: the table of papers is out of date. Type: python -m zoo.cli.readme {options.readme}"
        )
    from zoo.core.files import write_atomically

    write_atomically(options.readme, fresh.encode())
    print(f"{options.readme}: the table of papers is up to date", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(speak(run))
