"""What stands in a run's folder and what is said before the first iteration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lightning.pytorch import LightningModule, Trainer
from torch import nn

from support.ranks import on_ranks
from support.toy import ToyData, ToyRoom
from support.training import fit
from zoo.callbacks import Metrics, RunFolder
from zoo.callbacks.run_folder import parameter_counts
from zoo.cli.fit import quieten
from zoo.core.runs import Run


class Described(ToyData):
    def describe(self) -> dict[str, str | int]:
        return {"vectors": 7}

    def fingerprint(self) -> str:
        return "abc"


def folder_of(run: Run) -> RunFolder:
    return RunFolder(run, "model: {}\n", ["lightning", "fit"], "Toy: two players on vectors", 7)


def test_the_folder_is_complete_before_the_first_iteration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path / "run")
    found: list[set[str]] = []

    class Watching(ToyRoom):
        def on_train_batch_start(self, batch: object, batch_idx: int) -> None:
            found.append({path.name for path in run.folder.iterdir()})

    metrics = Metrics(every=1)
    fit(Watching(frozen="discriminator"), 1, tmp_path, data=Described(), callbacks=[folder_of(run), metrics])
    assert found == [{"run.json", "config.yaml"}]
    assert metrics.run == run
    assert run.metrics.is_file()
    record = json.loads(run.record.read_text())
    assert record["command"] == ["lightning", "fit"]
    assert record["data"] == {"fingerprint": "abc", "vectors": 7}
    assert run.config.read_text() == "model: {}\n"
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "Toy: two players on vectors"
    assert said[1:] == [
        "  networks   generator 76, extra 20",  # what is frozen is not trained
        "  data       vectors 7",
        "  batch      4 (1 x 4)",
        said[4],
        "  precision  64-true",
        "  iterations 0 done, 1 in all",
        f"  run        {run.folder}",
    ]
    assert said[4].startswith("  device     CPU, ")


def test_data_that_cannot_be_described_trains_all_the_same(tmp_path: Path) -> None:
    fit(ToyRoom(), 1, tmp_path, callbacks=[folder_of(Run(tmp_path / "run"))])
    assert json.loads(Run(tmp_path / "run").record.read_text())["data"] == {"fingerprint": None}


def on_two_ranks(rank: int, folder: Path) -> tuple[str, str, list[str]]:
    """Both ranks come with another folder in mind, as where both were started in different seconds."""
    metrics, callback = Metrics(every=1), folder_of(Run(folder / f"of rank {rank}"))
    fit(ToyRoom(), 1, folder / "other", callbacks=[callback, metrics], devices=2, strategy="ddp")
    assert metrics.run is not None
    return callback.run.folder.name, metrics.run.folder.name, sorted(path.name for path in folder.iterdir())


@pytest.mark.distributed
def test_all_ranks_write_where_the_first_has_chosen(tmp_path: Path) -> None:
    first, second = on_ranks(on_two_ranks, tmp_path)
    assert first[:2] == second[:2] == ("of rank 0", "of rank 0")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["of rank 0"]


def test_only_what_is_trained_is_counted() -> None:
    module = nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.Linear(5, 5).requires_grad_(False), "c": nn.ReLU()})
    assert parameter_counts(module) == {"a": 9}


def test_a_stranger_to_the_base_gets_a_folder_too(tmp_path: Path) -> None:
    class Plain(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = nn.Linear(4, 1)

        def training_step(self, batch: dict[str, object], batch_idx: int) -> object:
            return self.network(batch["source"]).sum()

        def configure_optimizers(self) -> object:
            from torch.optim import SGD

            return SGD(self.parameters(), 0.1)

    quieten()
    run = Run(tmp_path / "run")
    metrics = Metrics(every=1)
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = Trainer(accelerator="cpu", devices=1, max_steps=2, callbacks=[folder_of(run), metrics], **quiet)
    trainer.fit(Plain(), datamodule=ToyData())
    assert len(run.metrics.read_text().splitlines()) == 3
