"""Notebooks run from the first cell to the last, and what is committed is what their scripts say."""

import os
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def load_build() -> ModuleType:
    spec = spec_from_file_location("build_notebooks", NOTEBOOKS / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = load_build()
SCRIPTS = build.scripts()


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def pictures(notebook: nbformat.NotebookNode) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


def printed(notebook: nbformat.NotebookNode) -> str:
    return "".join(output.text for output in outputs(notebook) if output.output_type == "stream")


def test_there_are_notebooks() -> None:
    assert [script.stem for script in SCRIPTS] == [
        *("attention", "biggan_pairs", "one_picture", "quickstart", "styles_and_references", "two_folders"),
    ]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_committed_notebook_is_its_script_executed(script: Path) -> None:
    path = script.with_suffix(".ipynb")
    committed = nbformat.read(path, as_version=4)
    nbformat.validate(committed)
    assert build.sources(committed) == build.sources(build.from_script(script)), "type: make notebooks"
    counts = [cell.execution_count for cell in committed.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)), "every cell ran once, in order"
    assert pictures(committed) >= 3
    assert not [output for output in outputs(committed) if output.output_type == "error"]
    text = path.read_text(encoding="utf-8")
    assert len(text) < 900_000
    for machine in (str(NOTEBOOKS.parent), str(Path.home()), "/tmp/"):
        assert machine not in text.replace("\\/", "/"), "a path of the machine that ran it"


def test_a_changed_script_is_noticed(tmp_path: Path) -> None:
    script = tmp_path / "quickstart.py"
    script.write_text((NOTEBOOKS / "quickstart.py").read_text(encoding="utf-8").replace("Quickstart", "Slow start", 1))
    assert build.sources(build.from_script(script)) != build.sources(build.from_script(NOTEBOOKS / "quickstart.py"))


def run(name: str, folder: Path, **variables: str) -> nbformat.NotebookNode:
    """Execute a notebook in a folder, shortened by environment variables."""
    # Coverage would slow the kernel down, and it is measured elsewhere. The kernel's own files stay in the test's folder, too.
    kept = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    own = {"OMP_NUM_THREADS": "1", "IPYTHONDIR": str(folder / "ipython")}
    return build.execute(build.from_script(NOTEBOOKS / f"{name}.py"), folder, kept | own | variables)


@pytest.mark.slow
def test_quickstart_runs(tmp_path: Path) -> None:
    notebook = run("quickstart", tmp_path, QUICKSTART_ITERATIONS="3")
    assert pictures(notebook) >= 4
    text = printed(notebook)
    assert "iterations 0 done, 3 in all" in text
    assert "6 of 6 pictures are translated" in text
    assert text.count("style accuracy") >= 2, "one table after the training, one for the test"
    (folder,) = (tmp_path / "runs" / "quickstart").iterdir()
    assert (folder / "checkpoints" / "iteration_00000003.ckpt").is_file()
    assert (folder / "translated" / "sheet.png").is_file()


@pytest.mark.slow
def test_attention_runs(tmp_path: Path) -> None:
    notebook = run("attention", tmp_path, ATTENTION_SHORT="1")
    assert pictures(notebook) == 4
    text = printed(notebook)
    assert "iterations 0 done, 6 in all" in text
    assert "generator: lambda 0.8, never stopped\nattention: lambda 0.8, never stopped" in text
    assert "attention IoU" in text
    assert "to_source: 0.0000" in text, "the frozen generator does not move"
    (moved,) = re.findall(r"to_target: (\d.\d+)", text)
    assert float(moved) > 0
    again = printed(run("attention", tmp_path, ATTENTION_SHORT="1"))
    assert again.count("Nothing is left to do") == 2


@pytest.mark.slow
def test_biggan_pairs_runs_and_does_nothing_twice(tmp_path: Path) -> None:
    first = run("biggan_pairs", tmp_path, BIGGAN_PAIRS_ITERATIONS="2")
    assert pictures(first) == 6
    said = printed(first)
    assert said.count("iterations 0 done, 2 in all") == 3
    assert said.count('"one_latent"') == 3
    assert said.count("The judge itself, on") == 2, "one table after the training, one for the test"
    runs = tmp_path / "runs"
    for recipe in ("biggan", "gpunit_prior", "gpunit"):
        assert (runs / recipe / "notebook" / "checkpoints" / "iteration_00000002.ckpt").is_file()
    assert len(list((runs / "biggan" / "notebook" / "pairs" / "train").glob("*/*.png"))) == 4 * 60
    again = printed(run("biggan_pairs", tmp_path, BIGGAN_PAIRS_ITERATIONS="2"))
    assert again.count("Nothing is left to do: 2 iterations are done") == 3
    assert again.count("nothing was lacking") == 2


@pytest.mark.slow
def test_two_folders_runs(tmp_path: Path) -> None:
    notebook = run("two_folders", tmp_path, TWO_FOLDERS_ITERATIONS="3")
    assert pictures(notebook) >= 3
    text = printed(notebook)
    assert "it holds plain, striped, unseen. Type --data.source" in text
    assert "source and target are both" in text
    assert "broken.png" in text
    assert "iterations 0 done, 3 in all" in text
    assert "24 of 24 pictures are translated" in text
    assert re.search(r"sources as they are +style accuracy 0\.0\d   object IoU 0\.[89]", text)


@pytest.mark.slow
def test_styles_and_references_runs(tmp_path: Path) -> None:
    notebook = run("styles_and_references", tmp_path, STYLES_ITERATIONS="3")
    assert pictures(notebook) == 5
    text = printed(notebook)
    assert "iterations 0 done, 3 in all" in text
    assert "frames of" in text
    shown = tmp_path / "runs" / "starganv2" / "notebook" / "shown"
    assert {path.name for path in shown.iterdir()} == {"reference.png", "film.webp", "latent_0.5.png", "latent_1.png"}


@pytest.mark.slow
def test_one_picture_runs(tmp_path: Path) -> None:
    notebook = run("one_picture", tmp_path, ONE_PICTURE_ITERATIONS="2")
    assert pictures(notebook) >= 5
    made = tmp_path / "runs" / "one_picture" / "made"
    assert {path.name for path in made.iterdir()} == {"same", "wide", "high", "start0_beta0.9.gif"}
    (away, apart) = re.findall(r": (\d+\.\d)", printed(notebook))[-2:]
    assert float(away) > 0
    assert float(apart) > 0
