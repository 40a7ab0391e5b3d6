"""What the base takes for granted of Lightning. A test that fails here says which trick of the base to look at again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback

from support.ranks import on_ranks
from support.toy import ToyData, ToyRoom
from support.training import fit
from zoo.callbacks import Metrics
from zoo.cli.fit import quieten
from zoo.core.checkpoints import SafeCheckpointIO, read_checkpoint
from zoo.core.runs import Run
from zoo.errors import ZooError


class Stock(LightningModule):
    """Two optimisers in plain manual optimisation, as Lightning's documentation has it."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.first, self.second = torch.nn.Linear(4, 1), torch.nn.Linear(4, 1)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD(network.parameters(), 0.1) for network in (self.first, self.second)]

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        networks = (self.first, self.second)
        for mine, optimizer in zip(networks, self.optimizers(), strict=True):  # type: ignore[arg-type]
            for network in networks:
                network.requires_grad_(network is mine)
            optimizer.zero_grad()
            self.manual_backward(self.first(batch["source"]).sum() + self.second(batch["source"]).sum())
            optimizer.step()


def stock_trainer(folder: Path, **options: Any) -> Trainer:
    quieten()
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(accelerator="cpu", **{"devices": 1, **options}, max_steps=4, default_root_dir=folder, **quiet)


def test_stock_lightning_counts_every_step_of_every_optimiser(tmp_path: Path) -> None:
    """Or else the steps' hooks need not be blanked any more."""
    trainer = stock_trainer(tmp_path)
    trainer.fit(Stock(), datamodule=ToyData())
    assert trainer.global_step == 4
    assert trainer.fit_loop.epoch_loop.batch_idx == 1  # two batches, two optimisers


def test_the_loop_installs_the_steps_hooks_anew_for_each_batch(tmp_path: Path) -> None:
    """Which is why they are blanked at each step, and not once."""
    seen = []

    class Watching(ToyRoom):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            seen.append([optimizer._on_before_step.__name__ for optimizer in self.lightning_optimizers()])
            super().training_step(batch, batch_idx)
            assert self.trainer.global_step == batch_idx  # no step was counted

    trainer = fit(Watching(), 3, tmp_path)
    assert seen == [["_on_before_step", "_on_before_step"]] * 3
    assert trainer.global_step == 3


def test_a_step_that_calls_its_parents_is_one_iteration(tmp_path: Path) -> None:
    class Child(ToyRoom):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            super().training_step(batch, batch_idx)

    class Grandchild(Child):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            super().training_step(batch, batch_idx)

    assert fit(Grandchild(), 3, tmp_path).global_step == 3


def test_callbacks_see_the_iteration_counted(tmp_path: Path) -> None:
    """Intervals, names of checkpoints and rows of metrics.csv depend on it."""
    seen = []

    class Watching(Callback):
        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            seen.append(("start", trainer.global_step))

        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            seen.append(("end", trainer.global_step))

    fit(ToyRoom(), 2, tmp_path, callbacks=[Watching()])
    assert seen == [("start", 0), ("end", 1), ("start", 1), ("end", 2)]


def test_checkpoints_come_after_what_other_callbacks_write(tmp_path: Path) -> None:
    """So a resumed run finds every row up to its checkpoint."""
    rows = []

    class Late(Metrics):
        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            rows.append((trainer.global_step, Run(tmp_path).checkpoint_path(trainer.global_step).exists()))

    fit(ToyRoom(), 2, tmp_path, every=1, callbacks=[Late()])
    assert rows == [(1, False), (2, False)]
    assert Run(tmp_path).checkpoint_path(2).exists()


def test_a_resumed_loop_goes_on_counting(tmp_path: Path) -> None:
    fit(ToyRoom(), 3, tmp_path)
    room = ToyRoom()
    trainer = fit(room, 5, tmp_path, resume=Run(tmp_path).checkpoint_path(3))
    assert (trainer.global_step, room.iteration) == (5, 4)


def test_checkpoints_are_read_by_our_reader_from_the_start(tmp_path: Path) -> None:
    """It is installed in `setup`, which comes before a checkpoint is read."""

    class Trap:
        def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
            return Path.mkdir, (tmp_path / "sprung",)  # type: ignore[return-value]

    torch.save({"state_dict": {}, "trap": Trap()}, tmp_path / "trap.ckpt")
    with pytest.raises(ZooError, match="can run code"):
        fit(ToyRoom(), 1, tmp_path, resume=tmp_path / "trap.ckpt")
    assert not (tmp_path / "sprung").exists()
    assert isinstance(fit(ToyRoom(), 1, tmp_path).strategy.checkpoint_io, SafeCheckpointIO)


def test_float64_weights_are_not_rounded_on_the_way_in(tmp_path: Path) -> None:
    """Lightning converts after it has loaded; converting in `setup` comes before."""
    seed_everything(7, verbose=False)
    fit(ToyRoom(), 2, tmp_path)
    path = Run(tmp_path).checkpoint_path(2)
    kept = read_checkpoint(path)["state_dict"]["generator.0.weight"]
    assert not torch.equal(kept, kept.float().double())
    loaded = []

    class Watching(ToyRoom):
        def on_train_start(self) -> None:
            loaded.append(self.generator[0].weight.detach().clone())

    fit(Watching(), 3, tmp_path, resume=path)
    assert torch.equal(loaded[0], kept)


def in_ddp(rank: int, folder: Path) -> tuple[str, list[tuple[bool, bool]]]:
    """What stock DDP says to two players, and the reducer's switch before and during our backward passes."""
    message = ""
    try:
        stock_trainer(folder / "stock", devices=2, strategy="ddp").fit(Stock(), datamodule=ToyData())
    except RuntimeError as error:
        message = str(error)
    seen: list[tuple[bool, bool]] = []

    class Watching(ToyRoom):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            self.inside = self.trainer.strategy.model.require_backward_grad_sync
            super().training_step(batch, batch_idx)

        def on_train_batch_end(self, *_: Any) -> None:
            seen.append((self.inside, self.trainer.strategy.model.require_backward_grad_sync))

    seed_everything(7, verbose=False)
    fit(Watching(), 2, folder / "ours", devices=2, strategy="ddp")
    return message, seen


@pytest.mark.distributed
def test_stock_ddp_fails_at_a_change_of_player_and_its_reducer_is_kept_out(tmp_path: Path) -> None:
    for message, seen in on_ranks(in_ddp, tmp_path):
        assert "parameters that were not used in producing the loss" in message
        # Lightning switches it on again after each step: once would not be enough.
        assert seen == [(False, True), (False, True)]
