"""Opens a run's folder, says what starts, and keeps the clock."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from zoo.core.files import write_atomically
from zoo.core.records import describe_run, write_record
from zoo.core.runs import Run
from zoo.core.translator import Translator


class RunFolder(Callback):
    """Writes run.json and config.yaml before the first iteration and prints the opening lines; times training and validation.

    Args:
        run: the run; other ranks than the first learn it from there.
        config: the complete configuration as YAML text.
        command: the command line that started the run.
        title: the paper's name and title.
        seed: the run's seed.
    """

    def __init__(self, run: Run, config: str, command: list[str], title: str, seed: int) -> None:
        self.run = run
        self._config = config
        self._command = command
        self._title = title
        self._seed = seed
        self.began = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Tell every callback the run, on every rank the one that rank 0 has chosen."""
        self.run = Run(Path(trainer.strategy.broadcast(str(self.run.folder))))
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if hasattr(callback, "run"):
                callback.run = self.run
        if isinstance(pl_module, Translator):
            pl_module.bad_numbers.folder = self.run.folder

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what made this run, then say it."""
        self.began = True
        if isinstance(pl_module, Translator):
            pl_module.phases.end()  # of the set-up
            pl_module.phases.begin("training")
        if not trainer.is_global_zero:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        described = dict(data.describe()) if hasattr(data, "describe") else {}
        fingerprint = data.fingerprint() if hasattr(data, "fingerprint") else None
        record = describe_run(self._command, {"seed": self._seed}, {"fingerprint": fingerprint, **described})
        write_record(self.run, record)
        write_atomically(self.run.config, self._config.encode())
        for line in opening_lines(self._title, trainer, pl_module, described, self.run):
            print(line, flush=True)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock of the training while it is measured; a look before the training belongs to the set-up."""
        if isinstance(pl_module, Translator) and not trainer.sanity_checking:
            pl_module.phases.begin("validation")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let it go on."""
        if isinstance(pl_module, Translator) and not trainer.sanity_checking:
            pl_module.phases.end()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock; stage callbacks, which come before, have counted their work as phases of their own."""
        if isinstance(pl_module, Translator):
            pl_module.phases.end()


def opening_lines(
    title: str, trainer: Trainer, module: LightningModule, described: Mapping[str, Any], run: Run
) -> list[str]:
    """What a person wants to see when a training begins, one fact a line."""
    device = trainer.strategy.root_device
    threads = torch.get_num_threads()
    on_cpu = f"CPU, {threads} thread{'s' if threads > 1 else ''}"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else on_cpu
    batch = getattr(trainer.datamodule, "batch_size", None)  # type: ignore[attr-defined]
    facts = {
        "networks": ", ".join(f"{key} {count:,}" for key, count in parameter_counts(module).items()),
        "data": ", ".join(f"{key} {value}" for key, value in described.items()),
        "batch": f"{batch * trainer.world_size} ({trainer.world_size} x {batch})" if batch else "",
        "device": f"{name}" + (f", {trainer.world_size} processes" if trainer.world_size > 1 else ""),
        "precision": str(trainer.precision),
        "iterations": f"{trainer.global_step:,} done"
        + (f", {trainer.max_steps:,} in all" if trainer.max_steps > 0 else ""),
        "run": str(run.folder),
    }
    return [title, *(f"  {key:<11}{value}" for key, value in facts.items() if value)]


def parameter_counts(module: nn.Module) -> dict[str, int]:
    """Trainable parameters of each network that has any."""
    counts = {
        name: sum(p.numel() for p in network.parameters() if p.requires_grad)
        for name, network in module.named_children()
    }
    return {name: count for name, count in counts.items() if count}
