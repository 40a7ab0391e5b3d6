"""`lightning replay FILE`: one iteration whose numbers went bad, again: its batch, its draws, and what was not finite first.

A training that stops over NaN or inf leaves the file. The weights are those of the last checkpoint before it, older ones than the
iteration met unless one was written just then: the report says of how many iterations they are.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from zoo.cli.fit import ZooCLI, quieten
from zoo.cli.fit_probe import SILENCED, EnoughError
from zoo.cli.parser import CommandParser
from zoo.core.bad_steps import KeptStep, read_step, where_not_finite
from zoo.core.runs import Run, checkpoint_iteration
from zoo.core.translator import Translator
from zoo.errors import ZooError


def run(arguments: Sequence[str]) -> int:
    """Run `lightning replay`.

    Returns:
        0, whether the numbers are bad again or not.

    Raises:
        ZooError: something a person can mend.
    """
    quieten()
    options = parse(arguments)
    kept = read_step(options.file)
    owner = Run(options.file.resolve().parent.parent)
    if not owner.config.is_file():
        raise ZooError(
            f"{options.file} lies in no run's folder: {owner.config} is missing. Leave the file where the training wrote it."
        )
    checkpoint = options.checkpoint or owner.newest_loadable_checkpoint(before=kept.iteration + 1)[0]
    print(f"Iteration {kept.iteration} of {owner.folder}, process {kept.rank}, with the weights of {checkpoint}")
    look = Look(kept)
    replay(owner, checkpoint, look, options.device)
    print("\n".join(report(kept, look, owner, checkpoint_iteration(checkpoint))))
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line.

    Raises:
        ZooError: an option is unknown or a word is missing.
    """
    parser = CommandParser(
        prog="lightning replay",
        synopsis="FILE [--checkpoint FILE]",
        description="Live one iteration whose numbers went bad again, and say what was not finite first.",
        epilog="Example: lightning replay runs/cyclegan/<name>/bad_steps/iteration_00001170_rank_0.safetensors",
    )
    parser.add_argument(
        "file", type=Path, help="what the training wrote: RUN/bad_steps/iteration_<number>_rank_<rank>.safetensors"
    )
    parser.add_argument(
        "--checkpoint", type=Path, help="whose weights (default: the run's last one before that iteration)"
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="auto takes the best there is"
    )
    options = parser.parse_args(list(arguments))
    if options.checkpoint is not None and not options.checkpoint.is_file():
        raise ZooError(
            f"There is no checkpoint at {options.checkpoint}. Leave --checkpoint out for the run's last one before."
        )
    return options


class Look(Callback):
    """Turns the next iteration into the kept one, and notes every module whose output is not finite though its input is.

    Args:
        kept: the iteration.
    """

    def __init__(self, kept: KeptStep) -> None:
        self.kept = kept
        self.modules: list[str] = []
        self.norms: dict[str, Tensor] = {}
        self.terms: dict[str, Tensor] = {}
        self.operation = ""
        self._hooks: list[Any] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the clock and the draws, and begin to listen."""
        assert isinstance(pl_module, Translator)
        progress = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress.total
        progress.ready = progress.completed = self.kept.iteration
        pl_module.draws.seed, pl_module.draws.rank = self.kept.seed, self.kept.rank
        pl_module.draws.replay({self.kept.iteration: self.kept.tape})
        for name, module in pl_module.named_modules():
            if name:
                self._hooks.append(module.register_forward_hook(self._listener(name, module), with_kwargs=True))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note what the iteration gave; nothing that comes after it is wanted."""
        raise EnoughError

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Note loss terms and gradient norms, as far as the iteration has come."""
        assert isinstance(pl_module, Translator)
        self.terms, self.norms = dict(pl_module.terms.latest), dict(pl_module.bad_numbers.gradient_norms)
        for hook in self._hooks:
            hook.remove()

    def _listener(self, name: str, module: nn.Module) -> Any:
        def listen(_: nn.Module, given: Any, named: Any, made: Any) -> None:
            if all(map(_is_finite, _tensors((given, named)))) and not all(map(_is_finite, _tensors(made))):
                self.modules.append(f"{name} ({type(module).__name__})")

        return listen


class OneBatch(LightningDataModule):
    """The kept batch, time and again."""

    def __init__(self, batch: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.batch = dict(batch) if set(batch) != {""} else batch[""]
        self.batch_size = 1

    def train_dataloader(self) -> DataLoader[Any]:
        """A loader that hands on the batch as it is."""
        return DataLoader(_Again(self.batch), batch_size=None)


class _Again(IterableDataset[Any]):
    def __init__(self, sample: Any) -> None:
        self.sample = sample

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield self.sample


class ReplayCLI(ZooCLI):
    """A training of one iteration, on a batch that comes from a file."""

    look: Look

    def instantiate_classes(self) -> None:
        """Build everything, put the kept batch in the place of the data, and keep of the ranks' parts the one that is asked for."""
        super().instantiate_classes()
        self.datamodule = OneBatch(self.look.kept.batch)
        model, take = self.model, self.model.on_load_checkpoint

        def take_one_rank(checkpoint: dict[str, Any]) -> None:
            kept = checkpoint.get("zoo", {})
            ranks = kept.get("ranks", [])[self.look.kept.rank :][:1]
            take({**checkpoint, "zoo": {**kept, "ranks": ranks}})

        model.on_load_checkpoint = take_one_rank

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer, and look."""
        trainer = super().instantiate_trainer(**kwargs)
        trainer.callbacks.append(self.look)  # type: ignore[attr-defined]
        return trainer


def replay(owner: Run, checkpoint: Path, look: Look, device: str) -> None:
    """Live the kept iteration with a checkpoint's weights; what it gave is noted by `look`.

    Raises:
        ZooError: the run's settings cannot be built any more.
    """
    last = max(look.kept.iteration, checkpoint_iteration(checkpoint)) + 1
    with tempfile.TemporaryDirectory(prefix="lightning-replay-") as folder:
        words = [
            "--config",
            str(owner.config),
            "--ckpt_path",
            str(checkpoint),
            "--run.root",
            folder,
            "--run.name",
            "replay",
        ]
        words += ["--trainer.max_steps", str(last), "--trainer.accelerator", device, "--trainer.devices", "1"]
        words += ["--trainer.strategy", "auto", "--trainer.num_nodes", "1", "--trainer.logger", "false"]
        words += ["--trainer.limit_val_batches", "0", "--trainer.num_sanity_val_steps", "0"]
        words += ["--trainer.detect_anomaly", "true", "--numbers.action", "continue"]
        words += [word for key in SILENCED for word in (f"--{key}.enabled", "false")]
        cli: Any = type("ReplayCLI", (ReplayCLI,), {"look": look})
        with _forward_calls() as said:
            try:
                cli.start("fit", words, None, "replay", ["lightning", "replay"])
            except EnoughError:
                pass
            except RuntimeError as error:
                if "nan values" not in str(error):
                    raise
                look.operation = f"{str(error).rstrip('.')}{said()}"


@contextmanager
def _forward_calls() -> Iterator[Any]:
    """What anomaly detection tells of the operation behind a bad gradient: the last line of ours in the traceback of its forward call."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")

        def last_line() -> str:
            text = "".join(str(each.message) for each in caught if "forward call" in str(each.message))
            lines = re.findall(r'File "([^"]*)", line (\d+), in (\w+)', text)
            ours = [line for line in lines if f"{Path(__file__).parents[1]}/" in line[0]]
            return "" if not ours else f", called at {ours[-1][0]}:{ours[-1][1]} in {ours[-1][2]}"

        yield last_line


def report(kept: KeptStep, look: Look, owner: Run, weights: int) -> list[str]:
    """What a person reads: the batch, the modules, the terms and the gradients, and what to do next."""
    lines = [f"  batch      {line} are not finite" for line in where_not_finite(kept.batch)]
    lines += [f"  module     {name}: finite in, not finite out" for name in look.modules[:3]]
    lines += [f"  term       {name} is {float(term)}" for name, term in look.terms.items() if not _is_finite(term)]
    lines += [
        f"  gradient   of {name}: norm {float(norm)}" for name, norm in look.norms.items() if not _is_finite(norm)
    ]
    lines += [f"  operation  {look.operation}"] * bool(look.operation)
    again = f"lightning fit --resume {owner.folder} --trainer.max_steps {kept.iteration + 2} --trainer.detect_anomaly true --debug"
    if lines:
        return [*lines, "Go on with a lower learning rate, or leave such steps out: --numbers.action skip"]
    return [
        f"  All numbers of this step are finite with weights of {weights} iterations; those of {', '.join(kept.players)} were not with "
        f"{kept.iteration}. What went bad grew in between; to live that again: {again}"
    ]


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)


def _is_finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value).all())
