"""Drives a room's own training step through a real Trainer, and times or counts what it does."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.flop_counter import flop_registry

from zoo.cli.fit import quieten
from zoo.core import Translator


class _Repeated(IterableDataset[dict[str, Tensor]]):
    def __init__(self, batch: dict[str, Tensor]) -> None:
        self.batch = batch

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        while True:
            yield dict(self.batch)


def drive(
    room: Translator, batch: dict[str, Tensor], iterations: int, *callbacks: Callback, **trainer_options: Any
) -> None:
    """Train for some iterations on one and the same batch, on the CPU, in float32; nothing is written."""
    quieten()
    trainer = Trainer(
        accelerator="cpu",
        **{"devices": 1, **trainer_options},
        max_steps=iterations,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(room, train_dataloaders=DataLoader(_Repeated(batch), batch_size=None), val_dataloaders=[])


class Stopwatch:
    """Durations in seconds.

    Attributes:
        wall: as a person waits.
        cpu: as this process' threads work, together: on one thread, what the wall clock says on a quiet machine.
    """

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self._start = (0.0, 0.0)

    def start(self) -> None:
        """Begin a duration."""
        self._start = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """End it."""
        wall, cpu = self._start
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)


class Stamps(Callback):
    """Times training steps, and what the Trainer does between them.

    Args:
        steps: where the durations of training steps go.
        between: where those from the end of a step to the start of the next one go.
        warm_up: steps of a training that do not count.
    """

    def __init__(self, steps: Stopwatch, between: Stopwatch, warm_up: int) -> None:
        self.steps = steps
        self.between = between
        self.warm_up = warm_up

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """The Trainer is about to run the training step."""
        if batch_idx > self.warm_up:
            self.between.stop()
        self.steps.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """It has run."""
        if batch_idx >= self.warm_up:
            self.steps.stop()
        self.between.start()


class Flops(TorchDispatchMode):
    """Adds up the floating-point operations of everything that runs inside, backward passes included.

    Convolutions and matrix products count, by PyTorch's own formulas; a multiply-add is 2. An operation belongs to the network whose
    forward pass is running; in a backward pass, to the one that used the same weight, or else the same input, in its forward pass.

    Args:
        inside: names of the networks whose forward passes are running, the innermost last; who counts by network keeps it.

    Attributes:
        total: the operations so far.
        shares: those of each network by name; of what runs outside of all, by an empty one.
    """

    def __init__(self, inside: Sequence[str] = ()) -> None:
        super().__init__()
        self.total = 0
        self.shares: Counter[str] = Counter()
        self._inside = inside
        self._users: dict[int, str] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            operations = formula(*args, **(kwargs or {}), out_val=out)
            self.total += operations
            self.shares[self._owner(args)] += operations
        return out

    def _owner(self, args: Sequence[Any]) -> str:
        # From the last one on: a weight comes behind its input, and lives longer.
        places = [x.untyped_storage().data_ptr() for x in reversed(args) if isinstance(x, Tensor)]
        if self._inside and torch._C._current_graph_task_id() == -1:  # no backward pass is running
            self._users.update(dict.fromkeys(places, self._inside[-1]))
            return self._inside[-1]
        return next((self._users[place] for place in places if place in self._users), "")


class _ScalarReads(TorchDispatchMode):
    """Tells of operations whose result the host has to see before it can go on: `.item()`, `if tensor`, `nonzero` and so on."""

    WAITING = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)

    def __init__(self, note: Callable[[str, Tensor], None]) -> None:
        super().__init__()
        self._note = note

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(tag in func.tags for tag in self.WAITING):
            self._note(str(func), args[0])
        return func(*args, **(kwargs or {}))


class _WholeReads(TorchFunctionMode):
    """Tells of reads that leave no trace among the operations when the tensor is in the host's memory already."""

    READERS = (Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.__array__)

    def __init__(self, note: Callable[[str, Tensor], None]) -> None:
        super().__init__()
        self._note = note

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self.READERS:
            self._note(func.__name__, args[0])
        return func(*args, **(kwargs or {}))


class Counts(Callback):
    """Counts what one iteration does, from the start of its training step to the start of the next one's.

    Host reads are those that would wait for a GPU. Two kinds of numbers live in the host's memory on every machine, so reading
    them is free: the step counters of optimisers, and draws that the room asked for with `device="cpu"`.

    Args:
        iteration: which one is counted, 0-based; where the training ends with it, what the end does is counted, too.

    Attributes:
        flops: floating-point operations.
        shares: those of each network (the room's children) by name, backward passes included.
        forwards: calls of each network (the room's children) by name; of a network that is never called as a whole, calls of its parts.
            Those that bypass `__call__` do not show.
        host_reads: the operations that made the host wait, by name.
    """

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration
        self.flops = 0
        self.shares: Counter[str] = Counter()
        self.forwards: Counter[str] = Counter()
        self.host_reads: list[str] = []
        self._trainer: Trainer
        self._host_draws: list[Tensor] = []
        self._counting = ExitStack()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Begin, or end where the next iteration begins."""
        if batch_idx == self.iteration:
            assert isinstance(pl_module, Translator)
            self._trainer = trainer
            self._begin(pl_module)
        elif batch_idx == self.iteration + 1:
            self._counting.close()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End with the training."""
        self._counting.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave nothing behind."""
        self._counting.close()

    def _begin(self, room: Translator) -> None:
        parts: Counter[str] = Counter()
        for name, network in room.named_children():
            hook = network.register_forward_pre_hook(lambda *_, name=name: self.forwards.update([name]))
            self._counting.callback(hook.remove)
            for part, inner in network.named_children():
                label = f"{name}.{part}"
                hook = inner.register_forward_pre_hook(lambda *_, label=label: parts.update([label]))
                self._counting.callback(hook.remove)
        self._counting.callback(
            lambda: self.forwards.update({k: n for k, n in parts.items() if k.partition(".")[0] not in self.forwards})
        )
        for kind in ("normal", "uniform", "integers", "permutation"):
            setattr(room.draws, kind, self._watched(getattr(room.draws, kind)))
            self._counting.callback(delattr, room.draws, kind)
        self._counting.enter_context(_WholeReads(self._note))
        self._counting.enter_context(_ScalarReads(self._note))
        flops = self._counting.enter_context(Flops(self._watch_networks(room)))
        self._counting.callback(lambda: (setattr(self, "flops", flops.total), setattr(self, "shares", flops.shares)))

    def _watch_networks(self, room: Translator) -> list[str]:
        """Keep a list of the networks whose forward passes are running; parts count, too, for a network may be called by its parts."""
        inside: list[str] = []
        for name, network in room.named_children():
            for part in network.modules():
                for hook in (
                    part.register_forward_pre_hook(lambda *_, name=name: inside.append(name)),
                    part.register_forward_hook(lambda *_: inside.pop() and None),
                ):
                    self._counting.callback(hook.remove)
        return inside

    def _watched(self, draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def watched(*args: Any, **options: Any) -> Tensor:
            value = draw(*args, **options)
            if str(options.get("device")) == "cpu":
                self._host_draws.append(value)
            return value

        return watched

    def _note(self, operation: str, tensor: Tensor) -> None:
        states = (state for optimizer in self._trainer.optimizers for state in optimizer.state.values())
        steps = (state.get("step") for state in states if isinstance(state, Mapping))
        if not any(tensor is known for known in (*self._host_draws, *steps)):
            self.host_reads.append(operation)


def calibrate(stopwatch: Stopwatch, repeat: int = 3) -> None:
    """Time five products of 2000 x 2000 float32 matrices, some times."""
    matrix = torch.rand(2000, 2000, generator=torch.Generator().manual_seed(0))
    torch.mm(matrix, matrix)
    for _ in range(repeat):
        stopwatch.start()
        for _ in range(5):
            torch.mm(matrix, matrix)
        stopwatch.stop()
