"""What processes that train together tell one another per iteration, beside Lightning's `ddp_find_unused_parameters_true`.

    python tests/benchmarks/ranks.py [ROOM ...] [--ranks 2 4] [--csv runs/benchmarks/ranks.csv]

Counted on the CPU over gloo, with small networks: what a process hands to its all-reduces in one iteration. The stock figure is of the
very same training step, with the gradients averaged by DistributedDataParallel's reducer at each backward pass; what that sends
besides (which parameters were used, buffers) is not in it. Then, for the paper's own sizes, the bytes by the same count of
steps, and a model of the time that they take: an all-reduce of n processes moves 2 (n - 1) / n times its bytes over each process' link.
Link speeds are those that manufacturers publish, per direction; nothing of the model is measured.
"""

import argparse
import csv
import io
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

if __name__ in {"__main__", "__mp_main__"}:
    sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import torch.distributed as dist
from benchmarks.driving import drive
from benchmarks.rooms import ROOMS
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from support.ranks import on_ranks
from zoo.aggan import AGGAN
from zoo.biggan import BigGAN
from zoo.core import Translator, players, sync
from zoo.core.files import write_atomically
from zoo.cyclegan import CycleGAN
from zoo.gpunit import GPUNIT
from zoo.hidt import HiDT
from zoo.starganv2 import StarGANv2
from zoo.unit import UNIT

CSV = Path(__file__).parents[2] / "runs" / "benchmarks" / "ranks.csv"
COUNTED = 1  # the iteration that is counted, 0-based
LINKS = {
    "8 GPUs, NVLink 4 (450 GB/s)": (8, 450e9),
    "8 GPUs, PCIe 4.0 x16 (32 GB/s)": (8, 32e9),
    "64 GPUs, 400 Gb/s InfiniBand for each (50 GB/s)": (64, 50e9),
    "64 GPUs, 100 Gb/s Ethernet per machine of 8 (1.56 GB/s each)": (64, 12.5e9 / 8),
}
EFFICIENCY = 0.95
PAPERS: dict[str, Callable[[], Translator]] = {
    "aggan": AGGAN,
    "biggan": BigGAN,
    "cyclegan": CycleGAN,
    "gpunit": partial(GPUNIT, content_encoder="random", perceptual="random"),
    "hidt": HiDT,
    "starganv2": StarGANv2,
    "unit": UNIT,
}
"""Rooms by their defaults, which are the papers' sizes."""


class Traffic(Callback):
    """Counts what this process hands to all-reduces in one iteration.

    Attributes:
        gradients: bytes of gradients, flags included.
        reduces: how many all-reduces of gradients there are.
        others: bytes of all else, such as buffers.
        steps: steps of each player on gradients of its own.
    """

    def __init__(self) -> None:
        self.gradients = self.reduces = self.others = 0
        self.steps: Counter[str] = Counter()
        self._counting = self._averaging = False
        self._hook: Callable[..., Any] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the reducer's buckets pass by here; Lightning would do so on GPUs alone."""
        if self._hook is not None:
            model: Any = trainer.strategy.model
            model.register_comm_hook(None, self._hook)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Begin with the counted iteration."""
        self._counting = batch_idx == COUNTED

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End with it."""
        self._counting = False

    def watch(self, room: Translator) -> None:
        """Look over the shoulder of all collectives that the house uses, in this process, for good."""
        reduce, average = dist.all_reduce, sync.average_gradients

        def watched_reduce(tensor: Tensor, *arguments: Any, **options: Any) -> Any:
            if self._counting:
                if self._averaging:
                    self.note(tensor)
                else:
                    self.others += tensor.nbytes
            return reduce(tensor, *arguments, **options)

        def watched_average(parameters: Any) -> None:
            self._averaging = True
            if self._counting:
                first = id(parameters[0])
                names = [name for name, player in room._players.items() if first in map(id, player.parameters)]
                self.steps.update(names[:1])
            average(parameters)
            self._averaging = False

        dist.all_reduce = watched_reduce
        players.average_gradients = watched_average  # type: ignore[assignment]

    def note(self, tensor: Tensor) -> None:
        """Count an all-reduce of gradients."""
        if self._counting:
            self.gradients += tensor.nbytes
            self.reduces += 1

    def stock_strategy(self, room: Translator) -> DDPStrategy:
        """Let DistributedDataParallel average this room's gradients, as Lightning's strategy does, in this process, for good."""
        players.average_gradients = lambda parameters: None  # type: ignore[assignment]
        backward: Callable[..., None] = room.manual_backward

        def synced(loss: Tensor, *arguments: Any, **options: Any) -> None:
            model: Any = room.trainer.strategy.model
            model.require_backward_grad_sync = True
            backward(loss, *arguments, **options)

        room.manual_backward = synced  # type: ignore[method-assign]

        # The reducer looks at these annotations: no `from __future__ import annotations` here.
        def hook(group: Any, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
            self.note(bucket.buffer())
            return allreduce_hook(group, bucket)

        self._hook = hook
        return DDPStrategy(find_unused_parameters=True)


def traffic(rank: int, name: str, ranks: int, stock: bool) -> dict[str, Any]:
    """Train a small room on this rank for two iterations.

    Args:
        rank: of this process.
        name: of the room.
        ranks: how many there are.
        stock: whether DistributedDataParallel averages the gradients.

    Returns:
        Bytes of gradients and of all else, number of all-reduces of gradients, and a checksum of the weights.
    """
    torch.manual_seed(0)
    room, batch = ROOMS[name].small()
    # Each process sees pictures of its own.
    batch = {key: value * (1 - 0.2 * rank) if value.is_floating_point() else value for key, value in batch.items()}
    counter = Traffic()
    if stock:
        strategy = counter.stock_strategy(room)
    else:
        counter.watch(room)
        strategy = DDPStrategy()
    drive(room, batch, COUNTED + 1, counter, devices=ranks, strategy=strategy)
    weights = torch.cat([p.detach().flatten().double() for p in room.parameters()])
    return {
        "gradients": counter.gradients,
        "reduces": counter.reduces,
        "others": counter.others,
        "steps": dict(counter.steps),
        "weights": weights.abs().sum().item(),
        "parameters": sum(p.nbytes for p in room.parameters() if p.requires_grad),
    }


def paper_bytes(room_class: Callable[[], Translator], steps: Mapping[str, int]) -> int:
    """Bytes of gradients per iteration of a room at the paper's size, in float32.

    Args:
        room_class: builds the room by its defaults; on no device, so that it takes no memory.
        steps: how often each player averages gradients in an iteration, as counted with small networks.
    """
    with torch.device("meta"):
        room = room_class()
        room.configure_optimizers()
    return sum(n * sum(p.nbytes for p in room._players[name].parameters) for name, n in steps.items())


def model_lines(gradients: float, reduces: int) -> list[str]:
    """What an iteration's bytes take on published links, and how long an iteration has to be for that to matter little."""
    lines = []
    for link, (ranks, speed) in LINKS.items():
        seconds = 2 * (ranks - 1) / ranks * gradients / speed
        least = seconds * EFFICIENCY / (1 - EFFICIENCY)
        lines.append(
            f"    {link:<62}{1000 * seconds:>9.2f} ms in {reduces}; {EFFICIENCY:.0%} of linear from {1000 * least:.0f} ms per iteration on"
        )
    return lines


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help=f"of {', '.join(ROOMS)} (default: all)")
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4], help="numbers of processes (default: 2 4)")
    parser.add_argument("--csv", type=Path, default=CSV, help="where the table is written")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    papers: list[str] = []
    print(
        f"{'room':<18}{'ranks':>6}{'bytes':>12}{'reduces':>9}{'stock':>12}{'reduces':>9}{'of stock':>10}{'others':>9}"
    )
    for name in options.rooms or list(ROOMS):
        for ranks in options.ranks:
            ours, stock = (on_ranks(traffic, name, ranks, kind, ranks=ranks)[0] for kind in (False, True))
            row = {"room": name, "ranks": ranks, **{key: ours[key] for key in ("gradients", "reduces", "others")}}
            row |= {"stock_gradients": stock["gradients"], "stock_reduces": stock["reduces"]}
            rows.append(row | {"of_stock": round(ours["gradients"] / stock["gradients"], 4)})
            print(
                f"{name:<18}{ranks:>6}{ours['gradients']:>12,}{ours['reduces']:>9}{stock['gradients']:>12,}{stock['reduces']:>9}"
                f"{rows[-1]['of_stock']:>10.2f}{ours['others']:>9,}",
                flush=True,
            )
        if name in PAPERS:
            gradients = paper_bytes(PAPERS[name], ours["steps"])
            papers.append(f"{name}: {gradients / 1e6:.0f} MB of gradients per iteration")
            papers += model_lines(gradients, ours["reduces"])
    if papers:
        print("\nThe papers' sizes in float32, and what the model says of an all-reduce:", *papers, sep="\n")
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    options.csv.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.csv, text.getvalue().encode())
    print(f"written to {options.csv}")


if __name__ == "__main__":
    main()
