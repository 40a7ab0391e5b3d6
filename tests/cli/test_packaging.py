"""The wheel: what is inside, and that the command works from it in folders that know nothing of us."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from zoo import __version__

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent


def call(command: Sequence[str | Path], folder: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, without the settings of the process that runs the tests."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COVERAGE"))}
    answer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == code, answer.stdout + answer.stderr
    return answer


def install(wheel: Path, folder: Path) -> Path:
    """Install a wheel into a fresh environment that sees this one's packages (not this checkout); returns its `bin`."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    call(
        [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--quiet", wheel], ROOT
    )
    own = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    # A path in a .pth file is searched, but .pth files there are not read: so the checkout's editable install is not seen.
    Path(own, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    call([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT], folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(wheel, tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="module")
def editable_scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("editable")
    hook = f"from hatchling.build import build_editable; build_editable({str(folder)!r})"
    call([sys.executable, "-c", hook], ROOT)
    (built,) = folder.glob("*.whl")
    return install(built, tmp_path_factory.mktemp("editable_installed"))


def test_everything_that_belongs_inside_is_inside(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        path.relative_to(ROOT).as_posix()
        for folder in ("zoo", "datamodules")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    overlays = {
        f"zoo/_configs/{path.relative_to(ROOT / 'configs').as_posix()}" for path in (ROOT / "configs").rglob("*.yaml")
    }
    assert {"zoo/planned.yaml", "zoo/cyclegan.yaml", "zoo/cli/room_template/room.py.txt"} <= wanted
    assert "zoo/_configs/demo/cyclegan.yaml" in overlays
    assert wanted | overlays <= inside
    strangers = {name for name in inside if not name.startswith(("zoo/", "datamodules/", "translation_zoo-"))}
    assert not strangers


def test_the_command_works_in_an_empty_folder(scripts: Path, tmp_path: Path) -> None:
    assert "\nunit " in call([scripts / "lightning", "list"], tmp_path).stdout
    assert (
        "lightning fit --config zoo/cyclegan.yaml" in call([scripts / "lightning", "card", "cyclegan"], tmp_path).stdout
    )
    assert call([scripts / "translation-zoo", "cite", "cyclegan"], tmp_path).stdout.startswith("@")
    for command in ([scripts / "lightning"], [scripts / "python", "-m", "zoo"]):
        assert call([*command, "--version"], tmp_path).stdout.startswith(f"translation-zoo {__version__} (Python ")
    assert list(tmp_path.iterdir()) == []


def test_configuration_files_are_found_in_the_wheel(scripts: Path, tmp_path: Path) -> None:
    package = Path(call([scripts / "python", "-c", "import zoo; print(zoo.__path__[0])"], tmp_path).stdout.strip())
    assert not package.is_relative_to(ROOT)
    demo = "configs/demo/cyclegan.yaml"
    said = call([scripts / "lightning", "fit", "--config", demo, "--config", "missing.yaml"], tmp_path, code=2).stderr
    assert f"--config {demo} is {package / '_configs' / 'demo' / 'cyclegan.yaml'} (from the package)" in said
    assert "There is no configuration file 'missing.yaml'." in said


def test_a_folder_with_a_zoo_of_its_own(scripts: Path, tmp_path: Path) -> None:
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "animals.yaml").write_text("elephant: 1\n")
    fit = [scripts / "lightning", "fit", "--config"]
    said = call([*fit, "zoo/cyclegan.yaml", "--config", "zoo/animal.yaml"], tmp_path, code=2).stderr
    assert "--config zoo/cyclegan.yaml is " in said
    assert "Did you mean zoo/animals.yaml?" in said
    assert "zoo/animals.yaml names no model and no data" in call([*fit, "zoo/animals.yaml"], tmp_path, code=2).stderr
    assert "\ncyclegan " in call([scripts / "python", "-m", "zoo", "list"], tmp_path).stdout


def test_an_editable_install_looks_into_its_repository(editable_scripts: Path, tmp_path: Path) -> None:
    where = call([editable_scripts / "python", "-c", "import zoo; print(zoo.__path__[0])"], tmp_path).stdout.strip()
    assert Path(where) == ROOT / "zoo"
    demo = "configs/demo/cyclegan.yaml"
    fit = [editable_scripts / "lightning", "fit", "--config", "zoo/cyclegan.yaml"]
    said = call([*fit, "--config", demo, "--config", "missing.yaml"], tmp_path, code=2).stderr
    assert f"--config zoo/cyclegan.yaml is {ROOT / 'zoo' / 'cyclegan.yaml'} (from the package)" in said
    assert f"--config {demo} is {ROOT / demo} (from the repository)" in said
    assert "\ncyclegan " in call([editable_scripts / "lightning", "list"], tmp_path).stdout


def test_the_recipe_of_the_wheel_is_understood(scripts: Path, tmp_path: Path) -> None:
    command = [scripts / "lightning", "fit", "--config", "zoo/cyclegan.yaml", "--config", "configs/demo/cyclegan.yaml"]
    printed = call([*command, "--print_config"], tmp_path).stdout
    assert "class_path: zoo.cyclegan.CycleGAN" in printed
