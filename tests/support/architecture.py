"""The rules of the house that a machine can check: functions from a parsed file to complaints."""

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from zoo.registry import ROOMS

ROOT = Path(__file__).parent.parent.parent
PLUMBING = {"blocks", "callbacks", "cli", "core", "experts", "metrics", "weights"}
FOUNDATION = {"__init__", "__main__", "errors", "registry"}
ON_TOP = {"cli", "testing"}  # `zoo.testing` takes a room through the whole command
FRONT_DOOR = {
    *("zoo", "zoo.__main__", "zoo.registry", "zoo.errors"),
    *("zoo.cli", "zoo.cli.main", "zoo.cli.catalog", "zoo.cli.lookup", "zoo.cli.pages", "zoo.cli.suggest"),
    *("zoo.cli.readme", "zoo.cli.new_room", "zoo.cli.download", "zoo.cli.weights"),
}
BEHIND_THE_DOOR = {
    *("zoo.cli.fit", "zoo.cli.translate", "zoo.cli.compare", "zoo.cli.sampler", "zoo.cli.generate"),
    *("zoo.cli.doctor", "zoo.cli.evaluate", "zoo.cli.export", "zoo.cli.playground"),
    *("zoo.cli.styles", "zoo.cli.align", "zoo.cli.single", "zoo.cli.directions", "zoo.cli.labels"),
    *("zoo.core.files", "zoo.weights.fetch", "zoo.weights.catalogue", "zoo.weights.data_sets", "zoo.weights.load"),
    *("zoo.weights.shipped", "zoo.weights.celeba", "zoo.core.translator"),
    *("datamodules.errors", "datamodules.imagenet291"),
}
MAY_IMPORT = {
    "core": {"core", "errors", "registry"},
    "blocks": {"core", "blocks", "errors"},
    "experts": {"core", "blocks", "experts", "weights", "errors"},
    "room": {"core", "blocks", "experts", "weights", "errors"},
    "callbacks": {"core", "blocks", "experts", "metrics", "callbacks", "errors"},
    "metrics": {"core", "blocks", "experts", "metrics", "weights", "errors"},
    "weights": {"core", "blocks", "weights", "errors", "registry"},
    "foundation": {"core", "blocks", "experts", "metrics", "errors", "registry"},
}
SEEDS_AND_FLAGS = {
    *("seed", "manual_seed", "manual_seed_all", "seed_everything", "filterwarnings", "simplefilter", "captureWarnings"),
    *("set_float32_matmul_precision", "use_deterministic_algorithms", "set_default_dtype", "set_default_device"),
    *("set_num_threads", "set_num_interop_threads", "set_start_method", "set_sharing_strategy", "basicConfig"),
    *("urlopen", "urlretrieve", "create_connection", "load_state_dict_from_url"),
}
RANDOM_CALLS = ("torch.rand", "torch.normal", "torch.bernoulli", "torch.multinomial", "torch.poisson", "random.")
LOOKS_AT_NUMBERS = ("validation", "on_validation", "test", "on_test", "predict", "on_predict")


@dataclass(frozen=True)
class Source:
    """A Python file of ours.

    Attributes:
        module: its dotted name.
        tree: the parsed file.
        text: the file.
    """

    module: str
    tree: ast.Module
    text: str

    @property
    def layer(self) -> str:
        """Where in the plan the file stands; a room's files are all `room`."""
        top, *rest = self.module.split(".")
        if top != "zoo":
            return top
        return layer_of(".".join(rest))

    @property
    def room(self) -> str:
        """Name of the module or folder below `zoo`."""
        return self.module.split(".")[1] if "." in self.module else ""


def layer_of(name: str) -> str:
    """The layer of `zoo.<name>`."""
    first = name.partition(".")[0]
    if first in PLUMBING | ON_TOP:
        return first
    return "foundation" if first in FOUNDATION or not first else "room"


def parse(module: str, text: str) -> Source:
    return Source(module, ast.parse(text), text)


@cache
def sources() -> tuple[Source, ...]:
    found = []
    for path in sorted([*(ROOT / "zoo").rglob("*.py"), *(ROOT / "datamodules").rglob("*.py")]):
        parts = path.relative_to(ROOT).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(parse(module, path.read_text(encoding="utf-8")))
    return tuple(found)


# Reading a tree ------------------------------------------------------------------------------------------------------


def imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names of all imports below a node; `from zoo import core` is `zoo.core`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def import_time(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run on import: all but the bodies of functions, of `if __name__ == "__main__"` and `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and any(word in ast.unparse(node.test) for word in ("__main__", "TYPE_CHECKING")):
            continue
        yield node
        yield from import_time(node)


def dotted(node: ast.AST) -> str:
    """`torch.nn.init` of an attribute chain; calls and subscripts inside it are empty names."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node.lineno, dotted(node.func)


# The rules: each yields complaints -----------------------------------------------------------------------------------


def arrows_run_one_way(source: Source) -> Iterator[str]:
    for name in imports(source.tree):
        top, *rest = name.split(".")
        if top == "datamodules":
            if source.layer not in ("datamodules", "cli", "metrics"):
                yield f"{source.module} imports {name}: rooms and data modules meet in the YAML"
        elif top == "zoo":
            yield from _arrow(source, name, rest)


def _arrow(source: Source, name: str, rest: list[str]) -> Iterator[str]:
    target, allowed = layer_of(".".join(rest)), MAY_IMPORT.get(source.layer, set())
    if source.layer == "datamodules":
        if name != "zoo.core.images" and not name.startswith("zoo.core.images."):
            yield f"{source.module} imports {name}: of zoo, data modules see zoo.core.images alone"
    elif source.layer in ON_TOP or rest == ["__version__"]:
        return
    elif target == "room":
        if source.layer != "room" or rest[0] != source.room:
            yield f"{source.module} imports {name}: no one imports a room, and a room no other room"
    elif source.module not in FRONT_DOOR and (rest[0] if target == "foundation" else target) not in allowed:
        yield f"{source.module} imports {name}: {source.layer} may import {sorted(allowed)}"


def the_front_door_is_light(source: Source) -> Iterator[str]:
    if source.module not in FRONT_DOOR:
        return
    at_import = {name for node in import_time(source.tree) for name in _own_imports(node)}
    for name in imports(source.tree):
        named_from = name.rpartition(".")[0]
        ours = name in FRONT_DOOR or named_from in FRONT_DOOR - {"zoo", "zoo.cli"} or name == "zoo.__version__"
        lazy = name == "yaml" or named_from in BEHIND_THE_DOOR
        if name.split(".")[0] in sys.stdlib_module_names or ours:
            continue
        if not lazy:
            yield f"{source.module} imports {name}: the front door knows the standard library alone"
        elif name in at_import:
            yield f"{source.module} imports {name} at import time, and not where it is needed"


def _own_imports(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from imports(node)


def rooms_draw_from_draws(source: Source) -> Iterator[str]:
    if source.layer != "room":
        return
    for name in imports(source.tree):
        if name.split(".")[0] == "random" or name.startswith("numpy.random"):
            yield f"{source.module} imports {name}: a room draws from self.draws alone"
    for line, name in calls(source.tree):
        if name.startswith(RANDOM_CALLS) or ".random." in name:
            yield f"{source.module}:{line} calls {name}: a room draws from self.draws alone"


def rooms_leave_backward_to_their_players(source: Source) -> Iterator[str]:
    if source.layer != "room":
        return
    for line, name in calls(source.tree):
        if name.endswith(".backward"):
            yield f"{source.module}:{line} calls {name}: ranks drift apart; use player.minimize"


def rooms_touch_no_logger(source: Source) -> Iterator[str]:
    if source.layer != "room":
        return
    for name in imports(source.tree):
        if name.split(".")[0] in {"wandb", "tensorboard"} or ".loggers" in name:
            yield f"{source.module} imports {name}: zoo.callbacks.dashboards hands what a room logs to loggers"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and node.attr in {"logger", "loggers"}:
            yield f"{source.module}:{node.lineno} looks for a logger; use log_terms, or self.log for measures"


def training_never_waits_for_the_device(source: Source) -> Iterator[str]:
    if source.layer != "room":
        return
    modules = [n for n in ast.walk(source.tree) if isinstance(n, ast.ClassDef) and "training_step" in ast.unparse(n)]
    for method in (node for module in modules for node in module.body if isinstance(node, ast.FunctionDef)):
        if method.name.startswith(LOOKS_AT_NUMBERS):
            continue
        for line, name in calls(method):
            if name.endswith((".item", ".tolist", ".numpy")):
                yield f"{source.module}:{line} calls {name} in {method.name}: the device is waited for"


def importing_changes_nothing(source: Source) -> Iterator[str]:
    for node in import_time(source.tree):
        if isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] in SEEDS_AND_FLAGS:
            yield f"{source.module}:{node.lineno} calls {dotted(node.func)} at import time"
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                inner = target.value if isinstance(target, ast.Subscript) else target
                if isinstance(inner, ast.Attribute):
                    yield f"{source.module}:{node.lineno} sets {ast.unparse(target)} at import time"


def files_are_small(source: Source) -> Iterator[str]:
    lines = len(source.text.splitlines())
    low, high = 0, 500
    if source.layer == "core":
        high = 249 if source.module == "zoo.core.translator" else 199
    elif source.layer == "room" and source.module.count(".") == 1 and f"{source.module}:" in " ".join(ROOMS.values()):
        low = 0 if is_folder(source) else 150
    if not low <= lines <= high:
        yield f"{source.module} has {lines} lines, and {low} to {high} are the rule"


def is_folder(source: Source) -> bool:
    return (ROOT / Path(*source.module.split("."))).is_dir()


def nothing_is_left_to_do(source: Source) -> Iterator[str]:
    for number, line in enumerate(source.text.splitlines(), 1):
        for word in ("TO" + "DO", "FIX" + "ME"):
            if word in line:
                yield f"{source.module}:{number} says {word}"


Rule = Callable[[Source], Iterator[str]]
RULES: tuple[Rule, ...] = (
    arrows_run_one_way,
    the_front_door_is_light,
    rooms_draw_from_draws,
    rooms_leave_backward_to_their_players,
    rooms_touch_no_logger,
    training_never_waits_for_the_device,
    importing_changes_nothing,
    files_are_small,
    nothing_is_left_to_do,
)
