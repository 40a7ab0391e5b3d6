"""The matrix that every room passes: `check_room` takes a recipe through the whole command at toy size, on the CPU.

    from zoo.testing import check_room

    def test_my_paper(tmp_path):
        check_room("zoo/mypaper.yaml", "configs/demo/mypaper.yaml", "tests/toys/mypaper.yaml", folder=tmp_path)

The last file makes networks, pictures and stages small: a whole check takes seconds. Rooms of other packages call it, too.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import math
import multiprocessing
import os
import re
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden
from PIL import Image
from torch import Tensor

from zoo.cli.main import main
from zoo.cli.translate import needs_exemplar, own_domain, translates
from zoo.core import sync
from zoo.core.checkpoints import read_checkpoint
from zoo.core.loading import load_translator
from zoo.core.runs import Run
from zoo.core.translator import Translator
from zoo.weights.ship import ship

PARTS = ("state_dict", "optimizer_states", "zoo", "callbacks", "global_step", "hyper_parameters")
"""Of a checkpoint: what an interrupted training and one that was left alone have to have in common."""
OF_THE_CLOCK = {"seconds_per_iteration"}
FLOAT = re.compile(r"-?(?:\d+\.\d*(?:e[-+]?\d+)?|\d+e[-+]?\d+|\d+)")
STARTS_WITHIN, AFTER_A_FAILURE = 240.0, 5.0  # seconds, for processes on a busy machine


def check_room(
    *configs: str | Path,
    folder: Path,
    iterations: int = 4,
    interrupted: int = 2,
    options: Sequence[object] = (),
    use: Sequence[str] = (),
    domain: str | None = None,
    size: int | None = None,
    ranks: int = 2,
) -> Run:
    """Take a recipe through fit, validate, test, predict, translate, resume, export and a training of two processes.

    Every step is the `lightning` command in this process, as `main([...])`; only the two ranks are processes of their own. What is
    asked for, step by step: the training gives finite numbers; its configuration, given back, gives the same bits; stopped in
    between and resumed, it ends with the bits of the training that was left alone; validate gives what the training measured; a
    translation is repeatable, and what was exported translates to the same files; all ranks hold the same bits after every iteration.

    Args:
        *configs: the recipe, its overlays, and last the one that makes it small.
        folder: an empty one, for everything that is written.
        iterations: of the whole training.
        interrupted: after how many of them a second training is stopped and resumed. There may be a change of stage behind it.
        options: further words for every training, such as `--model.pool_size 2`.
        use: the words of the command that a model is for where that is not `translate`; `{run}` and `{output}` are filled in.
        domain: into which pictures are translated; the room's own by default.
        size: of the square pictures that are translated, for rooms that know one alone; odd ones of two sizes by default.
        ranks: number of processes that train together; 1 leaves them out.

    Returns:
        The run that was left alone.

    Raises:
        AssertionError: something does not hold; the message names the step.
    """
    given = [word for config in configs for word in ("--config", str(config))] + [str(word) for word in options]
    limits = small_training(iterations, interrupted)
    with _one_thread():
        run = _train(folder / "whole", [*given, *limits])
        _check_numbers(run, iterations)
        _check_round_trip_and_resume(run, folder / "again", iterations, interrupted)
        _check_measures(run, iterations)
        _check_use(run, folder, use, domain, size)
    if ranks > 1:
        _check_ranks(folder / "ranks", [*given, *limits], ranks)
    return run


class RanksAgree(Callback):
    """Compares weights, buffers and optimisers of all ranks to the bit after every iteration."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Compare.

        Raises:
            ZooError: a weight or buffer differs.
            AssertionError: the state of an optimiser does.
        """
        sync.check_ranks_agree(pl_module)
        held = sync.gather_plain(digest([optimizer.state_dict() for optimizer in trainer.optimizers]))
        assert len(set(map(str, held))) == 1, f"optimisers of ranks differ after iteration {trainer.global_step}"


def digest(value: Any) -> str:
    """A checksum over nested dictionaries, lists, tensors and plain values, to the bit."""
    checksum = hashlib.blake2b(digest_size=16)

    def add(part: Any) -> None:
        if isinstance(part, dict):
            for key in sorted(part, key=str):
                checksum.update(repr(key).encode())
                add(part[key])
        elif isinstance(part, (list, tuple)):
            checksum.update(f"{len(part)}:".encode())
            for item in part:
                add(item)
        elif isinstance(part, Tensor):
            checksum.update(f"{part.dtype}{tuple(part.shape)}".encode())
            checksum.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        else:
            checksum.update(repr(part).encode())

    add(value)
    return checksum.hexdigest()


def differences(ours: object, theirs: object, where: str = "") -> Iterator[str]:
    """Where two nested dictionaries, lists, tensors and plain values are not the same to the bit."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted({*ours, *theirs}, key=str):
            if key not in ours or key not in theirs:
                yield f"{where}.{key} is in one alone"
            else:
                yield from differences(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(ours, (list, tuple)) and isinstance(theirs, (list, tuple)) and len(ours) == len(theirs):
        for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            yield from differences(a, b, f"{where}[{index}]")
    elif digest(ours) != digest(theirs):
        yield where


def same_end(run: Run, whole: Run, iterations: int) -> list[str]:
    """What differs between two runs after so many iterations: in their checkpoints, rows of metrics.csv and last sample grids."""
    ours, theirs = (read_checkpoint(each.checkpoint_path(iterations)) for each in (run, whole))
    found = [d for part in PARTS for d in differences(ours.get(part), theirs.get(part), part)]
    found += differences(rows(run), rows(whole), "metrics.csv")
    for grid in sorted(whole.samples.glob("*.png")):
        if not (run.samples / grid.name).is_file() or (run.samples / grid.name).read_bytes() != grid.read_bytes():
            found.append(f"samples/{grid.name}")
    return found


def rows(run: Run) -> list[dict[str, str]]:
    """The rows of a run's metrics.csv, without what the clock says, and what grids say: one is drawn wherever a training ends."""
    with run.metrics.open(newline="", encoding="utf-8") as file:
        return [
            {key: value for key, value in row.items() if key not in OF_THE_CLOCK and not key.startswith("gauge/")}
            for row in csv.DictReader(file)
        ]


# Steps -------------------------------------------------------------------------------------------------------------------------


def small_training(iterations: int, interrupted: int) -> list[str]:
    """Options for a short training that shows everything: checkpoints every so many iterations, a validation, a grid, all losses."""
    words = {
        "trainer.accelerator": "cpu",
        "trainer.devices": 1,
        "trainer.max_steps": iterations,
        "trainer.limit_val_batches": 2,
        "trainer.limit_test_batches": 2,
        "trainer.limit_predict_batches": 2,
        "trainer.val_check_interval": iterations,
        "trainer.check_val_every_n_epoch": "null",
        "checkpoints.every": interrupted,
        "checkpoints.keep": 100,
        "samples.every": iterations,
        "samples.count": 2,
        "metrics.every": 1,
        "judge.enabled": "false",
    }
    return [word for name, value in words.items() for word in (f"--{name}", str(value))]


def _train(root: Path, words: Sequence[str]) -> Run:
    command("fit", *words, "--run.root", root, "--run.recipe", "check", "--run.name", "run")
    return Run(root / "check" / "run")


def _check_numbers(run: Run, iterations: int) -> None:
    """Every iteration has left a row of finite losses, and the last a checkpoint that loads."""
    assert run.checkpoint_path(iterations).is_file(), f"fit: no checkpoint after {iterations} iterations"
    table = rows(run)
    assert [row["iteration"] for row in table] == [str(n) for n in range(1, iterations + 1)], (
        "fit: rows of metrics.csv are missing"
    )
    for row in table:
        values = {key: float(value) for key, value in row.items() if value}
        bad = [key for key, value in values.items() if not math.isfinite(value)]
        assert not bad, f"fit: {', '.join(bad)} not finite after iteration {row['iteration']}"
        assert any(key.startswith("loss/") for key in values), "fit: no loss is logged"
    load_translator(run.folder)


def _check_round_trip_and_resume(run: Run, root: Path, iterations: int, interrupted: int) -> None:
    """The configuration given back trains to the same bits; a resume in the middle changes nothing."""
    words = ["--config", run.config, "--run.root", root, "--run.recipe", "check", "--run.name", "run"]
    command("fit", *words, "--trainer.max_steps", interrupted)
    again = Run(root / "check" / "run")
    first, second = (yaml.safe_load(each.config.read_text(encoding="utf-8")) for each in (run, again))
    for settings in (first, second):
        settings["run"] = settings["trainer"]["max_steps"] = None
    assert first == second, f"configuration: given back it reads otherwise: {list(differences(second, first))[:5]}"
    ours, theirs = (read_checkpoint(each.checkpoint_path(interrupted))["optimizer_states"] for each in (again, run))
    # Weights may differ: of what a stage callback does at the end of a training, such as fitting a sampler, one has more.
    found = list(differences(ours, theirs, "optimizer_states"))
    assert not found, f"configuration: given back it trains otherwise: {found[:5]}"
    command("fit", "--resume", again.folder, "--trainer.max_steps", iterations)
    found = same_end(again, run, iterations)
    assert not found, f"resume: it ends otherwise than the run that was left alone: {found[:5]}"


def _check_measures(run: Run, iterations: int) -> None:
    """Validate gives what the training measured; test and predict work, where the room has something for them to do."""
    model = load_translator(run.folder)
    if not is_overridden("validation_step", model):
        return
    measured = {key: float(value) for key, value in rows(run)[-1].items() if key.startswith("val/") and value}
    at = ["--config", run.config, "--ckpt_path", run.checkpoint_path(iterations)]
    said = command("validate", *at)
    numbers = [float(number) for number in FLOAT.findall(said)]
    for name, value in measured.items():
        near = any(math.isclose(number, value, rel_tol=1e-4, abs_tol=1e-6) for number in numbers)
        assert near, f"validate: {name} is not the {value:g} that the training measured"
    command("test", *at)
    if translates(model):
        command("predict", *at)


def _check_use(run: Run, folder: Path, use: Sequence[str], domain: str | None, size: int | None) -> None:
    """The model does what it is for, twice alike, and so does what was exported, or written as our own weights are."""
    exported = folder / "exported.safetensors"
    command("export", run.folder, "--safetensors", "--output", exported)
    model, copy = load_translator(run.folder), load_translator(exported)
    found = list(differences(copy.state_dict(), model.state_dict()))
    assert not found, f"export: {found[:5]} differ"
    if use:
        made = [_made(folder / f"used{n}", [*use], {"run": str(run.folder)}) for n in (1, 2)]
    elif translates(model):
        words = _translation(model, folder / "pictures", domain, size)
        shipped = ship(run.folder, "check-toy", folder).path
        places = {"first": run.folder, "second": run.folder, "exported": exported, "shipped": shipped}
        made = [_made(folder / f"translated_{key}", words, {"run": str(place)}) for key, place in places.items()]
        assert len(made[0]) > 1, "translate: pictures are missing"
    else:
        return
    assert all(one == made[0] for one in made), f"{(use or ['translate'])[0]}: it does not give the same twice"


def _translation(model: Translator, folder: Path, domain: str | None, size: int | None) -> list[str]:
    """The words that translate two pictures, with an exemplar where the room needs one."""
    folder.mkdir(parents=True)
    numbers = np.random.default_rng(0)
    sizes = ((70, 67), (64, 81)) if size is None else ((size, size), (size, size))
    for name, shape in {"colour.png": (*sizes[0], 3), "grey picture.png": sizes[1]}.items():
        Image.fromarray(numbers.integers(0, 256, shape, np.uint8)).save(folder / name)
    words = ["translate", "{run}", str(folder), "--to", domain or own_domain(model), "--output", "{output}"]
    return [*words, "--reference", str(folder / "colour.png")] if needs_exemplar(model) else words


def _made(output: Path, words: Sequence[str], names: dict[str, str]) -> dict[str, bytes]:
    """The files that a command writes, by their names."""
    filled = {**names, "output": str(output)}
    command(*(re.sub(r"\{(\w+)\}", lambda match: filled[match[1]], word) for word in words))
    files = {path.relative_to(output).as_posix(): path for path in sorted(output.rglob("*")) if path.is_file()}
    assert files, f"{words[0]}: nothing was written"
    return {name: path.read_bytes() for name, path in files.items()}


def _check_ranks(root: Path, words: Sequence[str], ranks: int) -> None:
    """Processes that talk over gloo hold the same bits after every iteration, and write one run."""
    together = ["--trainer.devices", ranks, "--trainer.strategy", "ddp", "--checkpoints.every", 10_000]
    told = ["--trainer.callbacks+=zoo.testing.RanksAgree", "--trainer.limit_val_batches", 0, "--samples.enabled", False]
    place = ["--run.root", root, "--run.recipe", "check", "--run.name", "run"]
    on_ranks(["fit", *map(str, [*words, *together, *told, *place])], ranks)
    assert len(list(root.glob("*/*/run.json"))) == 1, "two ranks: they write more than one run"


# The command -------------------------------------------------------------------------------------------------------------------


def command(*words: object) -> str:
    """Run the command in this process, quietly.

    Returns:
        What it says on stdout.

    Raises:
        AssertionError: it fails; the message holds all that it said.
    """
    said, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:
            code = int(stop.code or 0)
    line = " ".join(map(str, words))
    assert code == 0, f"lightning {line} ends with {code}:\n{complained.getvalue()}\n{said.getvalue()[-2000:]}"
    return said.getvalue()


def on_ranks(words: Sequence[str], ranks: int) -> None:
    """Run the command in several processes that find each other over gloo, as a launcher starts them.

    Raises:
        AssertionError: one of them fails; the message holds what it said.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "lightning.pytorch", "zoo.cli.fit"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pipes, processes = [], []
    for rank in range(ranks):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_rank, args=(theirs, rank, port, list(words)))
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    try:
        complaints = list(_answers(pipes))
    finally:
        for process in processes:
            process.join(10)
            process.kill()
    assert not any(complaints), "two ranks: " + "\n".join(filter(None, complaints))


def _answers(pipes: Sequence[Connection]) -> Iterator[str]:
    """What each process complains of; nobody waits for the others of one that failed: they wait for it."""
    waiting, patience = list(pipes), STARTS_WITHIN
    while waiting:
        ready = wait(waiting, patience)
        if not ready:
            yield "no answer in time"
            return
        for pipe in ready:
            assert isinstance(pipe, Connection)
            waiting.remove(pipe)
            try:
                complaint = str(pipe.recv())
            except EOFError:
                complaint = "a process ended without a word"
            patience = AFTER_A_FAILURE if complaint else patience
            yield complaint


def _rank(pipe: Connection, rank: int, port: int, words: Sequence[str]) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    torch.set_num_threads(1)
    told: Any = rank_zero_only  # it looked its rank up when Lightning was imported, before the fork
    told.rank = rank
    sys.argv = ["lightning", *words]
    try:
        command(*words)
        pipe.send("")
    except BaseException as error:
        pipe.send(f"rank {rank}: {type(error).__name__}: {error}")


@contextmanager
def _one_thread() -> Iterator[None]:
    """Another number of threads adds up in another order: what is compared to the bit is computed by one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
