"""Kill trainings of every room, at named points and at random moments, and compare what is resumed with what was left alone.

    python tests/benchmarks/soak_kills.py [--count 200] [--seed 0] [--rooms cyclegan sat] [--log runs/benchmarks/soak_kills.csv]

Each recipe of the catalogue is trained once at toy size (tests/support/toys.py), a checkpoint after every iteration. Then it is trained
again and again, dies by SIGKILL, and is resumed; some resumes die, too. Checkpoints that are left have to load, and the end has to have
the same bits: weights, optimisers, pools, counters, rows of metrics.csv and sample grids. A validation that was killed behind its
iteration's checkpoint is not made up for: its measures alone may be missing. The exit code is 1 if anything differs; the log tells of each.

Trainings run in processes that are forked from one that has PyTorch already.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.commands import lightning
from support.toys import TOYS, Ground, configs_of
from zoo.callbacks.metrics import MetricsTable
from zoo.core import checkpoints, players
from zoo.core.runs import Run
from zoo.core.translator import Translator
from zoo.errors import ZooError
from zoo.testing import PARTS, differences, rows, small_training

LOG = Path(__file__).parents[2] / "runs" / "benchmarks" / "soak_kills.csv"
POINTS = ("between", "player", "saving", "saved", "pool", "metrics", "validation", "stage", "anywhere")
"""Where a training dies: between iterations, between two players' steps, with half a checkpoint written, with a whole one that has not its
name yet, while each rank's pools are gathered, with half a row written, before a validation, inside a change of stage; or at any moment."""
PATIENCE = 300.0


class Kill(Callback):
    """Kills its process by SIGKILL at a named point of an iteration.

    Args:
        point: one of `POINTS`.
        iteration: number of completed iterations before the one in or behind which it happens.
    """

    def __init__(self, point: str, iteration: int) -> None:
        self.point = point
        self.iteration = iteration

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.point == "stage":  # the next one, whenever it comes: its networks are there, its optimisers are not
            assert isinstance(pl_module, Translator)
            type(pl_module).configure_optimizers = before(type(pl_module).configure_optimizers, die)  # type: ignore[method-assign]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step != self.iteration:
            return
        if self.point == "between":
            die()
        if self.point == "player":
            players.Turn.finish = before(players.Turn.finish, die, calls=2)  # type: ignore[method-assign]
        if self.point == "saving":
            torch.save = half_a_checkpoint
        if self.point == "saved":
            Path.replace = before(Path.replace, die)  # type: ignore[method-assign,assignment]
        if self.point == "pool":
            checkpoints.sync.gather_plain = before(checkpoints.sync.gather_plain, die)
        if self.point == "metrics":
            MetricsTable.add = half_a_row  # type: ignore[method-assign]

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.point == "validation" and not trainer.sanity_checking and trainer.global_step > self.iteration:
            die()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def before(function: Any, action: Any, calls: int = 1) -> Any:
    """A function that does something else first, at its so-manieth call."""
    left = [calls]

    def wrapped(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            action()
        return function(*arguments, **options)

    return wrapped


def half_a_checkpoint(checkpoint: dict[str, Any], file: BinaryIO) -> None:
    file.write(b"PK\x03\x04" + bytes(1000))
    file.flush()
    die()


def half_a_row(table: Any, iteration: int, values: Any) -> None:
    with table._path.open("a", encoding="utf-8") as file:
        file.write(f"{iteration},0.1")
    die()


# A kill and a resume -----------------------------------------------------------------------------------------------------------


def train(words: Sequence[object], log: Path, kill_after: float | None = None) -> int:
    """Run the command in a forked process, for so many seconds at most; its exit code."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "lightning.pytorch", "zoo.cli.fit", "zoo.testing", "datamodules"])
    process = context.Process(target=_command, args=([str(word) for word in words], str(log)))
    process.start()
    process.join(PATIENCE if kill_after is None else kill_after)
    if process.is_alive():
        process.kill()
        process.join()
    assert process.exitcode is not None
    return process.exitcode


def _command(words: list[str], log: str) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    multiprocessing.set_start_method("fork", force=True)  # its loaders' workers are its own children
    torch.set_num_threads(1)
    sys.argv = ["lightning", *words]
    os._exit(lightning(*words))


class Victim:
    """A recipe at toy size, the run of it that is left alone, and those that are killed.

    Args:
        recipe: its name.
        folder: for everything that is written.
        ground: what toys stand on.
    """

    def __init__(self, recipe: str, folder: Path, ground: Ground) -> None:
        self.recipe = recipe
        self.folder = folder
        self.log = folder / "log.txt"
        self.iterations = TOYS[recipe].iterations
        folder.mkdir(parents=True)
        configs = [f"--config={path}" for path in configs_of(recipe, folder, ground)]
        self.words = [*configs, *map(str, small_training(self.iterations, 1))]
        begin = time.monotonic()
        code = train(self._fit("whole"), self.log)
        assert code == 0, f"{recipe} does not train: {self.log.read_text()[-2000:]}"
        self.seconds = time.monotonic() - begin
        self.whole = self._run("whole")

    def _fit(self, name: str) -> list[object]:
        return ["fit", *self.words, "--run.root", self.folder, "--run.recipe", "soak", "--run.name", name]

    def _run(self, name: str) -> Run:
        return Run(self.folder / "soak" / name)

    def kill(self, name: str, deaths: Sequence[tuple[str, float]]) -> tuple[str, list[str]]:
        """Train, die as often as told, resume to the end; what happened, and what is wrong with it.

        Args:
            name: of the run.
            deaths: a point each, and the iteration; for `anywhere`, the share of the training's time.
        """
        run, told = self._run(name), []
        for point, when in deaths:
            words = self._resume(run) or self._fit(name)
            if point == "anywhere":
                code = train(words, self.log, kill_after=when * self.seconds)
            else:
                callback = "--trainer.callbacks"
                kill = (
                    f"{callback}+=benchmarks.soak_kills.Kill {callback}.point={point} {callback}.iteration={int(when)}"
                )
                code = train([*words, *kill.split()], self.log)
            told.append(f"{point} {when:.3g}: {'killed' if code == -signal.SIGKILL else f'ended with {code}'}")
            if code not in {0, -signal.SIGKILL}:
                return "; ".join(told), [f"it did not die, and ended with {code}"]
            for path in run.checkpoints_newest_first():
                try:
                    checkpoints.read_checkpoint(path)
                except ZooError as error:
                    return "; ".join(told), [f"a checkpoint does not load: {error}"]
        words = self._resume(run) or self._fit(name)
        told.append("resumed" if "--resume" in words else "begun anew")
        code = train(words, self.log)
        if code:
            return "; ".join(told), [f"the resume ended with {code}: {self.log.read_text().splitlines()[-1]}"]
        found = self._differences(run)
        shutil.rmtree(run.folder)
        return "; ".join(told), found

    def _resume(self, run: Run) -> list[object]:
        """The words that go on with a run; none where nothing was kept, and what a dead process left is out of the way."""
        if run.checkpoints_newest_first():
            return ["fit", *self.words, "--run.root", self.folder, "--run.recipe", "soak", "--resume", run.folder]
        shutil.rmtree(run.folder, ignore_errors=True)
        return []

    def _differences(self, run: Run) -> list[str]:
        ours, theirs = (
            checkpoints.read_checkpoint(each.checkpoint_path(self.iterations)) for each in (run, self.whole)
        )
        found = [d for part in PARTS for d in differences(ours.get(part), theirs.get(part), part)]
        kept, wanted = rows(run), rows(self.whole)
        if [row["iteration"] for row in kept] != [row["iteration"] for row in wanted]:
            return [*found, f"rows of metrics.csv: {[row['iteration'] for row in kept]}"]
        for row, expected_row in zip(kept, wanted, strict=True):
            for key in sorted({*row, *expected_row}):
                value, expected = row.get(key) or "", expected_row.get(key) or ""
                is_lost = not value and key.startswith("val/")  # a validation that was killed behind its checkpoint
                if value != expected and not is_lost:
                    found.append(f"metrics.csv, iteration {row['iteration']}: {key} is {value}, not {expected}")
        grids = {path.name: path for path in sorted(self.whole.samples.glob("*.png"))}
        lost = [name for name in grids if not (run.samples / name).is_file()]
        other = [
            name
            for name, path in grids.items()
            if name not in lost and (run.samples / name).read_bytes() != path.read_bytes()
        ]
        return [*found, *(f"samples/{name}" for name in [*lost, *other])]


def drawn(numbers: random.Random, iterations: int) -> list[tuple[str, float]]:
    """How often a training dies, once or twice, and where."""
    deaths: list[tuple[str, float]] = []
    for _ in range(1 + (numbers.random() < 0.25)):
        point = numbers.choice(POINTS)
        when = numbers.uniform(0.05, 1.0) if point == "anywhere" else float(numbers.randrange(iterations))
        deaths.append((point, when))
    return deaths


def main() -> int:
    """Kill, resume, compare, log."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="of trainings that are killed (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="of where and when (default: 0)")
    parser.add_argument("--rooms", nargs="+", choices=sorted(TOYS), default=sorted(TOYS), help="recipes (default: all)")
    parser.add_argument("--log", type=Path, default=LOG, help="a table with a row per killed training")
    options = parser.parse_args()
    options.log.parent.mkdir(parents=True, exist_ok=True)
    numbers, wrong, deaths = random.Random(options.seed), 0, 0
    shares = [
        options.count // len(options.rooms) + (n < options.count % len(options.rooms))
        for n in range(len(options.rooms))
    ]
    with (
        tempfile.TemporaryDirectory(prefix="kills") as scratch,
        options.log.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.writer(file)
        table.writerow(["recipe", "number", "what happened", "what is wrong", "seconds"])
        ground = Ground(Path(scratch) / "ground")
        for recipe, share in zip(options.rooms, shares, strict=True):
            if not share:
                continue
            victim = Victim(recipe, Path(scratch) / recipe, ground)
            for number in range(share):
                begin = time.monotonic()
                told, found = victim.kill(f"killed{number}", drawn(numbers, victim.iterations))
                deaths += told.count("killed")
                wrong += bool(found)
                seconds = f"{time.monotonic() - begin:.1f}"
                table.writerow([recipe, number, told, "; ".join(found[:5]), seconds])
                file.flush()
                print(f"{recipe} {number}: {told}{'; WRONG: ' + '; '.join(found[:5]) if found else ''}", flush=True)
            shutil.rmtree(victim.folder)
    print(
        f"{options.count} trainings died {deaths} times; {wrong} ended otherwise than those left alone. Log: {options.log}"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    from benchmarks.soak_kills import main as of_the_module  # the callback is known by this name, too

    sys.exit(of_the_module())
