"""Do the golden tests notice a wrong sign? Changes one place of a room's code at a time and runs the room's tests on it.

    python tests/benchmarks/mutations.py [--count 30] [--seed 0] [--rooms cyclegan sat] [--log runs/benchmarks/mutations.csv]

A mutant is the tree with one change, in a copy that is thrown away: a sign or an operator, a `detach` or `no_grad` that is gone, another
eps, a loss weight or a number a tenth larger, two statements or arguments that changed places, true for false, a sum for a mean. Places
are drawn at random, each sort of change alike; those that only word a message, check an argument, draw sample grids or measure are left
out. The golden files of `tests/golden/data` judge first; what they miss is given to the room's other tests. Whatever still passes has
survived: either it changes nothing, or a test is missing. The exit code is the number of survivors that `EQUIVALENT` does not explain.
"""

from __future__ import annotations

import argparse
import ast
import copy
import csv
import multiprocessing
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LOG = ROOT / "runs" / "benchmarks" / "mutations.csv"
COPIED = ("zoo", "datamodules", "configs", "tests", "pyproject.toml")
FILES = {  # what a training, its networks and its losses consist of, by room; evaluation and commands are measured by other tests
    "cyclegan": ["zoo/cyclegan.py", "zoo/blocks/image_pool.py"],
    "aggan": ["zoo/aggan.py"],
    "sat": ["zoo/sat.py"],
    "unit": ["zoo/unit/model.py", "zoo/unit/losses.py", "zoo/unit/generators.py", "zoo/unit/discriminators.py"],
    "gpunit": ["zoo/gpunit/model.py", "zoo/gpunit/losses.py", "zoo/gpunit/generator.py", "zoo/gpunit/discriminator.py"],
    "starganv2": ["zoo/starganv2/model.py", "zoo/starganv2/networks.py", "zoo/blocks/adversarial.py"],
    "alae": [
        "zoo/alae/model.py",
        "zoo/alae/game.py",
        "zoo/alae/losses.py",
        "zoo/alae/layers.py",
        "zoo/alae/networks.py",
    ],
    "biggan": ["zoo/biggan/model.py", "zoo/biggan/losses.py", "zoo/biggan/layers.py", "zoo/biggan/generator.py"],
    "hidt": ["zoo/hidt/model.py", "zoo/hidt/losses.py", "zoo/hidt/generator.py", "zoo/hidt/discriminators.py"],
    "consingan": ["zoo/consingan/model.py", "zoo/consingan/networks.py"],
    "singan": ["zoo/singan/model.py", "zoo/singan/losses.py", "zoo/singan/networks.py", "zoo/singan/pyramid.py"],
}
ASIDE = {
    *("samples", "validation_step", "test_step", "predict_step", "translate", "translate_batch", "missing", "setup"),
    *("on_validation_epoch_end", "on_validation_start", "sample", "animate", "log_terms", "compare"),
}
"""Methods that a training does without."""
CPU_SECONDS, SECONDS = 300, 3000.0  # that tests of a mutant may take; beyond them it hangs, which is noticed
EQUIVALENT: dict[str, str] = {
    "zoo/sat.py: fake.detach() -> fake": "the pool that takes it detaches, too",
    "zoo/singan/model.py: real_loss, fake_loss = (-on_real.mean(), on_fake.mean()); penalty = gradient_penalty(self.discriminator, "
    "real, fake, share) -> the other way round": "both passes over pictures come before either",
    "zoo/aggan.py: F.l1_loss(self.attend(to_target.picture, 'source').picture, source) -> F.l1_loss(source, self.attend(to_target.picture, "
    "'source').picture)": "the difference is absolute",
    "zoo/hidt/generator.py: if output == 'tanh':; if output == 'sigmoid': -> the other way round": "one excludes the other",
    "zoo/biggan/losses.py: rows.shape[0] > rows.shape[1] -> rows.shape[0] >= rows.shape[1]": "of a square matrix both have one norm",
    "zoo/biggan/model.py: torch.no_grad() -> torch.enable_grad()": "in the discriminator's turn no other weight asks for a gradient",
}
"""Survivors that change nothing, by `file: before -> after`, and why."""


@dataclass(frozen=True)
class Mutation:
    """One change.

    Attributes:
        kind: its sort.
        file: where, from the root.
        line: of the file.
        before, after: the code, without its surroundings.
    """

    kind: str
    file: str
    line: int
    before: str
    after: str

    @property
    def name(self) -> str:
        """By which it is known when lines move."""
        return f"{self.file}: {self.before} -> {self.after}"


# Changes: each takes a node and gives others in its place ----------------------------------------------------------------------


def signs(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub) and not _is_text(node):
        yield _with(node, op=ast.Sub() if isinstance(node.op, ast.Add) else ast.Add())
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield node.operand


def operators(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Div):
        yield _with(node, op=ast.Div() if isinstance(node.op, ast.Mult) else ast.Mult())
    swapped = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
    if isinstance(node, ast.Compare) and type(node.ops[0]) in swapped:
        yield _with(node, ops=[swapped[type(node.ops[0])](), *node.ops[1:]])


def detaches(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in {"detach", "detach_"}:
            yield node.func.value
        if node.func.attr == "no_grad":
            yield _with(node, func=_with(node.func, attr="enable_grad"))


def eps(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Constant) and isinstance(node.value, float) and 0 < node.value < 1e-3:
        yield ast.Constant(node.value * 10)


def weights(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Attribute) and node.attr.startswith("lambda_") and isinstance(node.ctx, ast.Load):
        yield ast.BinOp(ast.Constant(1.1), ast.Mult(), node)
    if isinstance(node, ast.Constant) and isinstance(node.value, float) and node.value >= 1e-3:
        yield ast.Constant(node.value * 1.1)


def sums(node: ast.AST) -> Iterator[ast.AST]:
    swapped = {"mean": "sum", "sum": "mean", "abs": "square", "square": "abs"}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in swapped:
        yield _with(node, func=_with(node.func, attr=swapped[node.func.attr]))


def truths(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)


def arguments(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Call) and len(node.args) >= 2 and ast.dump(node.args[0]) != ast.dump(node.args[1]):
        yield _with(node, args=[node.args[1], node.args[0], *node.args[2:]])


def orders(node: ast.AST) -> Iterator[ast.AST]:
    """Two statements in a row that change places, where the second needs nothing that the first makes."""
    if not isinstance(node, ast.FunctionDef | ast.With):
        return
    for at in range(len(node.body) - 1):
        first, second = node.body[at : at + 2]
        documents = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        if documents or isinstance(second, ast.Return) or _is_check(first) or _is_check(second):
            continue
        made = {n.id for n in ast.walk(first) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        made |= {n.attr for n in ast.walk(first) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}
        used = {n.id for n in ast.walk(second) if isinstance(n, ast.Name)}
        used |= {n.attr for n in ast.walk(second) if isinstance(n, ast.Attribute)}
        if not made & used and any(isinstance(n, ast.Call) for n in ast.walk(first)):
            yield _with(node, body=[*node.body[:at], second, first, *node.body[at + 2 :]])


Change = Callable[[ast.AST], Iterator[ast.AST]]
CHANGES: tuple[Change, ...] = (signs, operators, detaches, eps, weights, sums, truths, arguments, orders)


def _with(node: ast.AST, **fields: Any) -> Any:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _is_check(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and any(isinstance(inner, ast.Raise) for inner in node.body)


def _is_text(node: ast.AST) -> bool:
    return any(
        isinstance(n, ast.JoinedStr) or (isinstance(n, ast.Constant) and isinstance(n.value, str))
        for n in ast.walk(node)
    )


# Places ------------------------------------------------------------------------------------------------------------------------


NUMBERS = frozenset({eps, weights, truths})
"""What may change in a constructor: other changes there are of the sizes of layers, which anything that runs notices."""


def places(tree: ast.AST) -> Iterator[tuple[ast.AST, bool]]:
    """Nodes of functions that compute something, and whether it is a constructor.

    Left out are annotations, defaults, decorators, messages, checks and looks aside.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from places(node)
        elif isinstance(node, ast.FunctionDef) and node.name not in ASIDE:
            yield node, node.name == "__init__"
            for statement in node.body:
                yield from ((inner, node.name == "__init__") for inner in _below(statement))


def _below(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.keyword) and node.arg == "strict":  # of zip: no sound program notices
        return
    if _is_check(node) or isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr | ast.arguments):
        return
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ASIDE:
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _below(child)


def mutations(file: str, text: str) -> Iterator[tuple[Mutation, Callable[[], str]]]:
    """Every mutation of a file, and what gives the file with it."""
    tree = ast.parse(text)
    found = list(places(tree))
    for change in CHANGES:
        for node, constructing in found:
            for changed in () if constructing and change not in NUMBERS else change(node):
                before, after = _shown(node, changed)
                mutation = Mutation(change.__name__, file, getattr(node, "lineno", 0), before, after)
                yield mutation, partial(_replaced, tree, node, changed)


def _shown(node: ast.AST, changed: ast.AST) -> tuple[str, str]:
    """What is different, in short: of exchanged statements these two."""
    if isinstance(node, ast.FunctionDef | ast.With) and isinstance(changed, ast.FunctionDef | ast.With):
        at = next(i for i, (a, b) in enumerate(zip(node.body, changed.body, strict=True)) if a is not b)
        first, second = (ast.unparse(statement).splitlines()[0] for statement in node.body[at : at + 2])
        return f"{first}; {second}", "the other way round"
    return ast.unparse(node), ast.unparse(changed)


def _replaced(tree: ast.Module, node: ast.AST, changed: ast.AST) -> str:
    class Replace(ast.NodeTransformer):
        def visit(self, visited: ast.AST) -> Any:
            return changed if visited is node else self.generic_visit(visited)

    # The transformer writes into the nodes that it passes, so they are copies; the place to change is itself.
    return ast.unparse(ast.fix_missing_locations(Replace().visit(copy.deepcopy(tree, {id(node): node}))))


def drawn(rooms: Sequence[str], count: int, seed: int) -> list[tuple[str, Mutation, str]]:
    """Mutations at random, each sort and each room alike: the room, the mutation, the mutated file."""
    numbers = random.Random(seed)
    pools = {
        room: [found for file in FILES[room] for found in mutations(file, (ROOT / file).read_text(encoding="utf-8"))]
        for room in rooms
    }
    chosen: dict[str, tuple[str, Mutation, Callable[[], str]]] = {}
    turns = [(room, change.__name__) for room in rooms for change in CHANGES]
    numbers.shuffle(turns)
    while len(chosen) < count:
        for room, kind in turns:
            candidates = [found for found in pools[room] if found[0].kind == kind and found[0].name not in chosen]
            if candidates and len(chosen) < count:
                mutation, text = numbers.choice(candidates)
                chosen[mutation.name] = (room, mutation, text)
        if not any(found[0].name not in chosen for pool in pools.values() for found in pool):
            break
    return [(room, mutation, text()) for room, mutation, text in chosen.values()]


# Judging -----------------------------------------------------------------------------------------------------------------------


def tests_of(room: str) -> list[list[str]]:
    """What judges a room, one list after the other: the golden tests, then its unit tests."""
    unit = [f"tests/zoo/{room}"] if (ROOT / "tests" / "zoo" / room).is_dir() else []
    unit += sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "zoo").glob(f"test_{room}*.py"))
    return [[f"tests/golden/test_{room}.py"], unit]


def passes(tree: Path, tests: Sequence[str], log: Path) -> bool:
    """Whether tests pass on a tree; they run in a process of their own that has PyTorch already, and is killed when it hangs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["torch", "torchvision", "lightning.pytorch", "pytest", "safetensors.torch", "kornia"]
    )
    process = context.Process(target=_run_tests, args=(str(tree), list(tests), str(log)))
    process.start()
    process.join(SECONDS)
    slow = process.is_alive()
    process.kill()
    process.join()
    return not slow and process.exitcode == 0


def _run_tests(tree: str, tests: list[str], log: str) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(tree)
    os.environ.pop("GOLDEN_ROOT", None)
    os.environ["PYTHONPATH"] = tree
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True
    for name in [name for name in sys.modules if name.split(".")[0] in {"zoo", "datamodules", "support", "benchmarks"}]:
        del sys.modules[name]
    sys.path[:] = [tree, *(place for place in sys.path if place not in {"", str(ROOT), str(ROOT / "tests")})]
    import pytest
    import torch

    torch.set_num_threads(1)
    options = ["-x", "-q", "-n0", "-p", "no:cacheprovider", "-m", "not slow and not distributed", "--tb=line"]
    code = int(pytest.main([*tests, *options]))
    sys.stdout.flush()
    os._exit(code)


def judge(room: str, mutation: Mutation | None, text: str, log: Path) -> str:
    """Who notices a mutation: `golden`, `unit`, or nobody: `SURVIVED`; without a mutation the golden tests alone are asked."""
    with tempfile.TemporaryDirectory(prefix="mutant") as scratch:
        tree = Path(scratch) / "tree"
        tree.mkdir()
        for name in COPIED:
            source = ROOT / name
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, tree / name, ignore=ignored) if source.is_dir() else shutil.copy(
                source, tree / name
            )
        if mutation is not None:
            (tree / mutation.file).write_text(text, encoding="utf-8")
        for name, tests in zip(("golden", "unit"), tests_of(room), strict=True):
            if mutation is None and name == "unit":
                break
            if tests and not passes(tree, tests, log):
                return name
    return "SURVIVED"


def main() -> int:
    """Draw, judge, report; returns the number of survivors that nothing explains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=30, help="of mutants (default: 30)")
    parser.add_argument("--seed", type=int, default=0, help="of the drawing (default: 0)")
    parser.add_argument("--rooms", nargs="+", choices=sorted(FILES), default=list(FILES), help="default: all of them")
    parser.add_argument("--only", help="a text that the name of a mutation holds: all of those, instead of a drawing")
    parser.add_argument(
        "--log", type=Path, default=LOG, help="a table of all mutants; what their tests said lies beside it"
    )
    options = parser.parse_args()
    options.log.parent.mkdir(parents=True, exist_ok=True)
    told = options.log.with_suffix(".txt")
    told.write_text("")
    chosen = drawn(options.rooms, 10**9 if options.only else options.count, options.seed)
    chosen = [entry for entry in chosen if not options.only or options.only in entry[1].name]
    for room in sorted({entry[0] for entry in chosen}):
        if judge(room, None, "", told) != "SURVIVED":
            print(f"The tests of {room} fail without any mutation: see {told}.", file=sys.stderr)
            return 1
    survivors = 0
    with options.log.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["room", "kind", "file", "line", "before", "after", "noticed by", "seconds"])
        for number, (room, mutation, text) in enumerate(chosen, 1):
            begin = time.monotonic()
            noticed = judge(room, mutation, text, told)
            explained = EQUIVALENT.get(mutation.name, "") if noticed == "SURVIVED" else ""
            survivors += noticed == "SURVIVED" and not explained
            seconds = time.monotonic() - begin
            what = [mutation.kind, mutation.file, mutation.line, mutation.before, mutation.after]
            table.writerow([room, *what, noticed, f"{seconds:.0f}"])
            file.flush()
            place = f"{mutation.file}:{mutation.line}  {mutation.before}  ->  {mutation.after}"
            line = f"{number}/{len(chosen)} {noticed:<9}{mutation.kind:<10}{place}"
            print(f"{line}  {explained}".rstrip(), flush=True)
    print(f"{survivors} of {len(chosen)} mutants survived without an explanation; table: {options.log}")
    return min(survivors, 125)


if __name__ == "__main__":
    sys.exit(main())
