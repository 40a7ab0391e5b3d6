"""The largest batch that fits: real iterations of a recipe, each size in a process of its own, its peak of memory measured.

On a GPU a batch fits if no allocation fails; on the CPU, if the peak of the process' resident memory stays below a limit.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from datamodules.errors import DataError
from zoo.cli.fit import ZooCLI, quieten
from zoo.errors import ZooError

LOOK_EVERY = 0.02  # seconds between two looks at the memory of a process
SILENCED = ("checkpoints", "samples", "metrics", "progress", "dashboards", "judge")
MESSAGES = (
    "not enough memory",
    "can't allocate memory",
    "out of memory",
)  # of allocators that raise no error of their own


class EnoughError(Exception):
    """The iterations that were asked for are done; nothing that comes at the end of a training is wanted."""


@dataclass(frozen=True)
class Probe:
    """One size of batch, tried.

    Attributes:
        batch: samples per batch.
        fits: whether the iterations went through within the limit.
        peak: largest memory in bytes that was seen, on the device of the training.
        seconds: of the last iteration; 0 where there was none.
        device: `cpu` or `cuda`.
    """

    batch: int
    fits: bool
    peak: int
    seconds: float = 0.0
    device: str = "cpu"


class Watch(Callback):
    """Ends a training after some iterations, and knows what the last one took.

    Args:
        iterations: how many.
    """

    def __init__(self, iterations: int) -> None:
        self.iterations = iterations
        self.seconds = 0.0
        self._began = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start the clock."""
        _wait_for(pl_module.device)
        self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop the clock and, in the end, the training."""
        _wait_for(pl_module.device)
        self.seconds = time.perf_counter() - self._began
        if trainer.global_step >= self.iterations:
            raise EnoughError


class ProbeCLI(ZooCLI):
    """A training that `Watch` ends."""

    watch: Watch

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer, and let it be watched."""
        trainer = super().instantiate_trainer(**kwargs)
        trainer.callbacks.append(self.watch)  # type: ignore[attr-defined]
        return trainer


def largest_batch(try_one: Callable[[int], Probe], up_to: int) -> tuple[Probe | None, Probe | None]:
    """Search by doubling, then by halving the gap until it is one, or a 32nd of what fits.

    Args:
        try_one: tries a batch.
        up_to: the largest batch to try.

    Returns:
        The largest batch that fits, None where not even one sample does; and the smallest one that was seen not to fit, None
        where all did.
    """
    best: Probe | None = None
    worst: Probe | None = None
    batch = 1
    while worst is None:
        probe = try_one(batch)
        best, worst = (probe, None) if probe.fits else (best, probe)
        if batch == up_to:
            break
        batch = min(2 * batch, up_to)
    while best is not None and worst is not None and worst.batch - best.batch > max(1, best.batch // 32):
        probe = try_one((best.batch + worst.batch) // 2)
        best, worst = (probe, worst) if probe.fits else (best, probe)
    return best, worst


def probe_in_a_child(words: Sequence[str], batch: int, *, iterations: int, limit: int | None) -> Probe:
    """Train some iterations with batches of a size, in a process of its own.

    Args:
        words: what stands behind `lightning fit`, configuration files looked up.
        batch: samples per batch.
        iterations: to train.
        limit: of memory in bytes, on whichever device the recipe trains; None for all that a GPU has.

    Raises:
        ZooError: the training cannot be done at all, for another reason than memory.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "lightning.pytorch", "zoo.cli.fit"])  # each child starts in no time
    ours, theirs = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="lightning-doctor-") as folder:
        arguments = [*words, *_settings(batch, folder)]
        process = context.Process(target=_train, args=(theirs, arguments, iterations, limit, folder))
        process.start()
        theirs.close()
        peak = 0
        try:
            while process.is_alive() and not ours.poll(LOOK_EVERY):
                peak = max(peak, resident(process.pid))
                if limit is not None and peak > limit and not _is_on_gpu(folder):
                    return Probe(batch, False, peak)
            answer = ours.recv() if ours.poll(0.1) else {}
        except EOFError:
            answer = {}
        finally:
            process.kill()
            process.join()
            ours.close()
        said = (Path(folder) / "log").read_text(errors="replace").strip()
    if "refused" in answer:
        raise ZooError(answer["refused"])
    if "error" in answer or (not answer and process.exitcode != -9):
        raise ZooError(
            f"The recipe does not train with batches of {batch}: {answer.get('error') or said[-300:] or 'no word'}"
        )
    if not answer:  # the system ended it, for want of memory
        return Probe(batch, False, peak)
    on_cpu = answer["device"] == "cpu"
    peak = max(peak, answer["peak"]) if on_cpu else answer["peak"]
    fits = answer["fits"] and not (on_cpu and limit is not None and peak > limit)
    return Probe(batch, fits, peak, answer["seconds"], answer["device"])


def resident(pid: int | None) -> int:
    """Bytes of memory that a process holds now; 0 where it has ended."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _settings(batch: int, folder: str) -> list[str]:
    words = ["--data.batch_size", str(batch), "--run.root", f"{folder}/runs", "--run.name", "probe"]
    words += ["--trainer.devices", "1", "--trainer.strategy", "auto", "--trainer.logger", "false"]
    words += ["--trainer.limit_val_batches", "0", "--trainer.num_sanity_val_steps", "0"]
    return words + [word for key in SILENCED for word in (f"--{key}.enabled", "false")]


def _train(answer: Connection, words: list[str], iterations: int, limit: int | None, folder: str) -> None:
    log = os.open(f"{folder}/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    quieten()
    if torch.cuda.is_available():
        Path(folder, "gpu").touch()
        if limit is not None:
            total = torch.cuda.get_device_properties(0).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), 0)
    watch = Watch(iterations)
    result: dict[str, Any] = {}
    try:
        cli = type("ProbeCLI", (ProbeCLI,), {"watch": watch})
        cli.start("fit", words, None, "probe", ["lightning", "doctor", *words])  # type: ignore[attr-defined]
        result = {"fits": True}  # a recipe of fewer iterations
    except EnoughError:
        result = {"fits": True}
    except (ZooError, DataError) as error:
        result = {"refused": str(error)}
    except SystemExit:  # what a training lacks was printed
        sys.stderr.flush()
        result = {
            "refused": " ".join(Path(folder, "log").read_text(errors="replace").removeprefix("lightning: ").split())
        }
    except (RuntimeError, MemoryError) as error:
        short = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        short = short or any(message in str(error).lower() for message in MESSAGES)
        result = {"fits": False} if short else {"error": f"{type(error).__name__}: {error}"}
    except Exception as error:
        result = {"error": f"{type(error).__name__}: {error}"}
    if "fits" in result:
        on_gpu = torch.cuda.is_available() and torch.cuda.max_memory_reserved() > 0
        peak = torch.cuda.max_memory_reserved() if on_gpu else _own_peak()
        result |= {"peak": peak, "seconds": watch.seconds, "device": "cuda" if on_gpu else "cpu"}
    answer.send(result)
    answer.close()


def _own_peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resident(os.getpid())


def _is_on_gpu(folder: str) -> bool:
    return Path(folder, "gpu").exists()


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
