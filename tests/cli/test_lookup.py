"""Where `--config` files are found, and what is caught before PyTorch is imported."""

import re
from pathlib import Path

import pytest

from zoo.cli.lookup import check_recipe, find_config, known_configs, read_yaml, repository, resolve_configs
from zoo.errors import ZooError

RECIPE = "model: {class_path: zoo.cyclegan.CycleGAN}\ndata: {class_path: datamodules.UnpairedFolders}\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in which the command is typed."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """The package folder as a wheel lays it out."""
    package = tmp_path / "site-packages" / "zoo"
    write(package / "cyclegan.yaml", RECIPE)
    write(package / "planned.yaml", "{}")
    write(package / "_configs" / "ddp.yaml", "trainer: {strategy: ddp}\n")
    write(package / "_configs" / "demo" / "cyclegan.yaml", "trainer: {max_steps: 300}\n")
    return package


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The package folder of an editable install."""
    root = tmp_path / "checkout"
    write(root / "pyproject.toml", "")
    write(root / "zoo" / "cyclegan.yaml", RECIPE)
    write(root / "configs" / "ddp.yaml", "trainer: {strategy: ddp}\n")
    return root / "zoo"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_given_path_goes_first(here: Path, wheel: Path) -> None:
    write(here / "zoo" / "cyclegan.yaml", RECIPE)
    found = find_config("zoo/cyclegan.yaml", wheel)
    assert (found.path, found.origin) == (Path("zoo/cyclegan.yaml"), "given")


def test_then_the_package(here: Path, wheel: Path) -> None:
    write(here / "zoo" / "another.yaml", RECIPE)  # a folder of this name does not hide the package
    found = find_config("zoo/cyclegan.yaml", wheel)
    assert (found.path, found.origin) == (wheel / "cyclegan.yaml", "package")
    assert find_config("configs/demo/cyclegan.yaml", wheel).path == wheel / "_configs" / "demo" / "cyclegan.yaml"


def test_then_the_repository_of_an_editable_install(here: Path, checkout: Path) -> None:
    found = find_config("configs/ddp.yaml", checkout)
    assert (found.path, found.origin) == (checkout.parent / "configs" / "ddp.yaml", "repository")
    assert repository(checkout) == checkout.parent


def test_a_wheel_has_no_repository(wheel: Path) -> None:
    assert repository(wheel) is None
    assert known_configs(wheel) == ["zoo/cyclegan.yaml", "configs/ddp.yaml", "configs/demo/cyclegan.yaml"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("zoo/cyclgan.yaml", "zoo/cyclegan.yaml"),
        ("cyclegan", "zoo/cyclegan.yaml"),
        ("cyclegan.yml", "zoo/cyclegan.yaml"),
        ("config/ddp.yaml", "configs/ddp.yaml"),
        ("configs/demo/cylegan.yaml", "configs/demo/cyclegan.yaml"),
    ],
)
def test_a_missing_file_names_the_places_and_the_nearest(given: str, meant: str, here: Path, wheel: Path) -> None:
    with pytest.raises(ZooError) as caught:
        find_config(given, wheel)
    message = str(caught.value)
    assert message.startswith(f"There is no configuration file {given!r}. Looked for {here / given}")
    assert message.endswith(f" Did you mean {meant}?")
    if given.startswith("zoo/"):
        assert str(wheel / "cyclgan.yaml") in message


def test_a_neighbour_in_the_same_folder_is_proposed(here: Path, wheel: Path) -> None:
    write(here / "experiments" / "horses.yaml", RECIPE)
    with pytest.raises(ZooError, match=re.escape("Did you mean experiments/horses.yaml?")):
        find_config("experiments/horse.yaml", wheel)


def test_a_folder_is_no_file(here: Path, wheel: Path) -> None:
    (here / "runs").mkdir()
    with pytest.raises(ZooError, match="expects a YAML file, and 'runs' is a folder"):
        find_config("runs", wheel)


@pytest.mark.parametrize(
    "spelling",
    [
        ["--config", "zoo/cyclegan.yaml"],
        ["--config=zoo/cyclegan.yaml"],
        ["-c", "zoo/cyclegan.yaml"],
        ["-czoo/cyclegan.yaml"],
        ["-c=zoo/cyclegan.yaml"],
    ],
)
def test_every_spelling_is_resolved(
    spelling: list[str], here: Path, wheel: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, paths = resolve_configs([*spelling, "--seed_everything", "3"], wheel)
    option = spelling[0][:2] if spelling[0][1] == "c" else "--config"
    assert arguments == [option, str(wheel / "cyclegan.yaml"), "--seed_everything", "3"]
    assert paths == [wheel / "cyclegan.yaml"]
    assert capsys.readouterr().err == (
        f"lightning: {option} zoo/cyclegan.yaml is {wheel / 'cyclegan.yaml'} (from the package)\n"
    )


def test_further_processes_of_a_run_stay_silent(
    here: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    resolve_configs(["--config", "zoo/cyclegan.yaml"], wheel)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("arguments", [["--config"], ["--config="], ["--config", "--trainer.max_steps=3"]])
def test_an_option_without_its_file(arguments: list[str], wheel: Path) -> None:
    with pytest.raises(ZooError, match="--config expects a file"):
        resolve_configs(arguments, wheel)


def test_what_is_not_yaml_names_line_and_column(tmp_path: Path) -> None:
    broken = write(tmp_path / "broken.yaml", "model:\n  class_path: a: b\n")
    with pytest.raises(ZooError, match=re.escape(f"{broken}:2:16: this is not YAML: mapping values are not allowed")):
        read_yaml(broken)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"model: \xff\xfe")
    with pytest.raises(ZooError, match="not a text file in UTF-8"):
        read_yaml(binary)
    with pytest.raises(ZooError, match="this is not YAML: could not determine a constructor"):
        read_yaml(write(tmp_path / "tagged.yaml", "model: !!python/object:os.system {}\n"))
    with pytest.raises(ZooError, match="cannot be read: No such file"):
        read_yaml(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("files", "arguments", "missing"),
    [
        (["trainer: {}"], [], "names no model and no data"),
        (["model: {class_path: a.B}"], [], "names no data"),
        (["model: null\ndata: {}"], [], "names no model"),
        ([], ["--trainer.max_steps=3"], "fit names no model and no data"),
        (["- model\n- data"], [], "not a list"),
        (["model"], [], "not a text"),
    ],
)
def test_a_recipe_without_model_or_data_is_refused(
    files: list[str], arguments: list[str], missing: str, tmp_path: Path
) -> None:
    paths = [write(tmp_path / f"{number}.yaml", text) for number, text in enumerate(files)]
    with pytest.raises(ZooError, match=missing):
        check_recipe("fit", paths, arguments)


@pytest.mark.parametrize(
    ("files", "arguments"),
    [
        ([RECIPE], []),
        ([RECIPE, "trainer: {}", ""], []),
        (["model: {class_path: a.B}", "data: {class_path: c.D}"], []),
        (["data: {class_path: c.D}"], ["--model=zoo.CycleGAN"]),
        ([], ["--model", "zoo.CycleGAN", "--data.size", "64", "--data=x"]),
        ([], ["--help"]),
        ([], ["--resume", "runs/cyclegan/first"]),
    ],
)
def test_a_whole_recipe_passes(files: list[str], arguments: list[str], tmp_path: Path) -> None:
    check_recipe("fit", [write(tmp_path / f"{n}.yaml", text) for n, text in enumerate(files)], arguments)
