"""Where the configuration files of the command line are found.

A path is looked up as given, then inside the installed package, then in the repository of an editable install: so
`--config zoo/cyclegan.yaml --config configs/ddp.yaml` means the same files in any folder.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from zoo.cli.suggest import nearest
from zoo.errors import ZooError

PACKAGE = Path(__file__).resolve().parent.parent
PLANNED = "planned.yaml"
OPTIONS = ("--config", "-c")


@dataclass(frozen=True)
class Found:
    """A configuration file that exists.

    Attributes:
        path: the path to open; the given one, unchanged, where that exists.
        origin: `given`, `package` or `repository`.
    """

    path: Path
    origin: str


def repository(package: Path = PACKAGE) -> Path | None:
    """The repository root of an editable install (or a checkout), None for an installed wheel."""
    return package.parent if (package.parent / "pyproject.toml").is_file() else None


def places(given: str, package: Path = PACKAGE) -> Iterator[Found]:
    """The files that a path may mean, in the order in which they are tried."""
    path = Path(given).expanduser()
    yield Found(path, "given")
    if path.is_absolute() or not path.parts:
        return
    first, rest = path.parts[0], path.parts[1:]
    if first == "zoo":
        yield Found(package.joinpath(*rest), "package")
    if first == "configs":
        yield Found(package.joinpath("_configs", *rest), "package")
    root = repository(package)
    if root is not None:
        yield Found(root / path, "repository")


def known_configs(package: Path = PACKAGE) -> list[str]:
    """Recipes, then overlays, spelled as one types them: `zoo/cyclegan.yaml`, `configs/demo/cyclegan.yaml`."""
    root = repository(package)
    overlays = root / "configs" if root else package / "_configs"
    recipes = sorted(f"zoo/{file.name}" for file in package.glob("*.yaml") if file.name != PLANNED)
    return recipes + sorted(f"configs/{file.relative_to(overlays).as_posix()}" for file in overlays.rglob("*.yaml"))


def demo_overlay(recipe: str, package: Path = PACKAGE) -> str | None:
    """The small overlay of one of our recipes as one types it, `configs/demo/cyclegan.yaml`, where there is one."""
    root = repository(package)
    overlays = root / "configs" if root else package / "_configs"
    return f"configs/demo/{recipe}.yaml" if (overlays / "demo" / f"{recipe}.yaml").is_file() else None


def find_config(given: str, package: Path = PACKAGE) -> Found:
    """Look a configuration file up.

    Args:
        given: the path as typed.
        package: folder of the installed package `zoo`.

    Raises:
        ZooError: no such file; names the places that were tried and the nearest file that exists.
    """
    tried = []
    for place in places(given, package):
        if place.path.is_file():
            return place
        if place.path.absolute() not in tried:
            tried.append(place.path.absolute())
    if Path(given).is_dir():
        raise ZooError(f"--config expects a YAML file, and {given!r} is a folder.{_nearest_config(given, package)}")
    looked = ", ".join(str(path) for path in tried)
    raise ZooError(f"There is no configuration file {given!r}. Looked for {looked}.{_nearest_config(given, package)}")


def resolve_configs(arguments: list[str], package: Path = PACKAGE) -> tuple[list[str], list[Path]]:
    """Replace the value of every `--config X`, `--config=X`, `-c X` and `-cX` by the file that it means.

    Says on stderr which file was taken wherever that is not the path as given.

    Returns:
        The arguments with looked-up paths, and these paths in their order.

    Raises:
        ZooError: a file is missing, or an option stands without one.
    """
    resolved: list[str] = []
    paths: list[Path] = []
    remaining = iter(arguments)
    for argument in remaining:
        option, given = _split(argument)
        if option is None:
            resolved.append(argument)
            continue
        if given is None:
            given = next(remaining, None)
        if not given or given.startswith("--"):
            raise ZooError(f"{option} expects a file: {option} zoo/cyclegan.yaml. Recipes: lightning list")
        found = find_config(given, package)
        # Lightning's launcher starts this command once more for each further process of the machine.
        if found.origin != "given" and os.environ.get("LOCAL_RANK", "0") == "0":
            print(f"lightning: {option} {given} is {found.path} (from the {found.origin})", file=sys.stderr)
        resolved += [option, str(found.path)]
        paths.append(found.path)
    return resolved, paths


def read_yaml(path: Path) -> object:
    """The content of a YAML file.

    Raises:
        ZooError: the file cannot be read or is not YAML; names file, line and column.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's is ten times as quick, but not everywhere
    try:
        return yaml.load(path.read_text(encoding="utf-8"), loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise ZooError(f"{where}: this is not YAML: {error.problem}.") from error
    except yaml.YAMLError as error:
        raise ZooError(f"{path}: this is not YAML: {' '.join(str(error).split())}") from error
    except UnicodeDecodeError as error:
        raise ZooError(f"{path}: this is not a text file in UTF-8 (byte {error.start}).") from error
    except OSError as error:
        raise ZooError(f"{path}: cannot be read: {error.strerror}.") from error


def check_recipe(command: str, paths: list[Path], arguments: list[str]) -> None:
    """Check that the given files and arguments together name a model and its data.

    Args:
        command: `fit`, `validate`, `test` or `predict`.
        paths: the configuration files, looked up.
        arguments: what stands behind the command.

    Raises:
        ZooError: a file is not YAML, is not a mapping, or model or data are missing.
    """
    given: set[str] = set()
    for path in paths:
        content = read_yaml(path)
        if content is not None and not isinstance(content, dict):
            raise ZooError(
                f"{path}: a recipe is a mapping with the keys model, data and trainer, not {_kind(content)}."
            )
        given |= {str(key) for key, value in (content or {}).items() if value is not None}
    given |= {argument[2:].partition("=")[0].partition(".")[0] for argument in arguments if argument.startswith("--")}
    if given & {"help", "resume", "ckpt_path"} or "-h" in arguments:
        return  # a page is asked for, or the run's own configuration is at hand
    missing = [key for key in ("model", "data") if key not in given]
    if missing:
        example = " ".join(["--config zoo/cyclegan.yaml", *(f"--config {path}" for path in paths)])
        raise ZooError(
            f"{', '.join(str(path) for path in paths) or command} names no {' and no '.join(missing)}. "
            f"Put a recipe first: lightning {command} {example}"
        )


def _split(argument: str) -> tuple[str | None, str | None]:
    """The configuration option of an argument and its value, where it carries one."""
    if argument in OPTIONS:
        return argument, None
    if argument.startswith("--config="):
        return "--config", argument.removeprefix("--config=")
    if argument.startswith("-c"):
        return "-c", argument.removeprefix("-c").removeprefix("=")
    return None, None


def _nearest_config(given: str, package: Path) -> str:
    """A sentence with the nearest file that exists, by its path or by its bare name; empty where none looks alike."""
    beside = Path(given).expanduser().parent.glob("*.yaml")
    known = [*known_configs(package), *(str(file) for file in beside if file.name != PLANNED)]
    # A recipe is found by its bare name too; the recipe itself goes before an overlay of the same name.
    spelled = {PurePath(path).stem: path for path in reversed(known)} | {path: path for path in known}
    match = nearest(given, spelled) or nearest(PurePath(given).stem, spelled)
    return f" Did you mean {spelled[match]}?" if match else " Recipes: lightning list"


def _kind(content: object) -> str:
    return {"list": "a list", "str": "a text"}.get(type(content).__name__, f"a {type(content).__name__}")
