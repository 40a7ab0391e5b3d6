"""Make the notebooks from their scripts, run them, and keep them with what they show.

python notebooks/build.py                 # all notebooks, at full length
python notebooks/build.py quickstart      # one of them
python notebooks/build.py --check         # run nothing; exit with 1 if a notebook's cells are not its script's

A notebook is written as a script in jupytext's percent format, reviewed as such and never edited itself.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from traitlets.config import Config

from zoo.core.files import write_atomically

HERE = Path(__file__).resolve().parent
TIMEOUT = 1800  # seconds that one cell may take


def scripts() -> list[Path]:
    """The scripts that are notebooks."""
    return [path for path in sorted(HERE.glob("*.py")) if path.name != Path(__file__).name]


def from_script(script: Path) -> NotebookNode:
    """The notebook of a script, without outputs; the same script gives the same notebook to the byte."""
    notebook = jupytext.read(script, fmt="py:percent")
    notebook.metadata = NotebookNode(kernelspec={"name": "python3", "display_name": "Python 3", "language": "python"})
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
    return notebook


def sources(notebook: NotebookNode) -> list[tuple[str, str]]:
    """What a person reads of a notebook: kind and text of each cell."""
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def execute(notebook: NotebookNode, folder: Path, environment: Mapping[str, str]) -> NotebookNode:
    """Run all cells in order.

    Args:
        notebook: changed in place: it gets the outputs.
        folder: where the kernel starts.
        environment: of the kernel; give all variables that it needs.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    with TemporaryDirectory() as sockets:  # of ours alone: a port of the machine could be listened to
        client = NotebookClient(
            notebook,
            timeout=TIMEOUT,
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": str(folder)}},
            config=Config(KernelManager={"transport": "ipc", "ip": f"{sockets}/kernel"}),
        )
        return client.execute(env=dict(environment))


def main() -> int:
    """Build or check all notebooks; returns the exit code."""
    parser = argparse.ArgumentParser(description="Make the notebooks from their scripts and run them.")
    parser.add_argument(
        "--check", action="store_true", help="run nothing; say which notebooks differ from their scripts"
    )
    known = {script.stem: script for script in scripts()}
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones: {', '.join(known)} (default: all)")
    options = parser.parse_args()
    check = options.check
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"there is no notebook {unknown[0]!r}; there are {', '.join(known)}")
    stale = 0
    for script in [known[name] for name in options.names or known]:
        path = script.with_suffix(".ipynb")
        notebook = from_script(script)
        if check:
            if not path.is_file() or sources(nbformat.read(path, as_version=4)) != sources(notebook):
                print(f"{path.name} is not what {script.name} says. Type: make notebooks", file=sys.stderr)
                stale += 1
            continue
        print(f"{path.name} ...", flush=True)
        execute(notebook, HERE, os.environ)
        write_atomically(path, (nbformat.writes(notebook) + "\n").encode())
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
