"""metrics.csv."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from support.toy import ToyData, ToyRoom
from support.training import fit
from zoo.callbacks import Metrics
from zoo.callbacks.metrics import MetricsTable
from zoo.core.runs import Run
from zoo.errors import ZooError


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_columns_come_as_they_come_and_values_of_one_iteration_share_a_row(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    table = MetricsTable(path, 0)
    table.add(1, {"loss/b": 1.0, "loss/a": 0.123456789})
    table.add(2, {"loss/a": 2.0})
    table.add(2, {"val/x": 3e-10})
    table.add(3, {"loss/a": 4.0, "loss/c": float("nan")})
    assert path.read_text().splitlines()[0] == "iteration,loss/a,loss/b,val/x,loss/c"
    blank = {"loss/a": "", "loss/b": "", "val/x": "", "loss/c": ""}
    assert read(path) == [
        {**blank, "iteration": "1", "loss/a": "0.123457", "loss/b": "1"},
        {**blank, "iteration": "2", "loss/a": "2", "val/x": "3e-10"},
        {**blank, "iteration": "3", "loss/a": "4", "loss/c": "nan"},
    ]


def test_a_resumed_table_drops_what_will_be_lived_again_and_half_a_row(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    table = MetricsTable(path, 0)
    for iteration in range(1, 6):
        table.add(iteration, {"loss/a": float(iteration)})
    with path.open("a") as file:
        file.write("3")  # the beginning of row 30 or 300 of a run that was killed
    table = MetricsTable(path, 3)
    assert [row["iteration"] for row in read(path)] == ["1", "2", "3"]
    table.add(4, {"loss/a": -4.0})
    assert [row["loss/a"] for row in read(path)] == ["1", "2", "3", "-4"]


def test_an_empty_file_is_as_good_as_none(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.touch()
    MetricsTable(path, 0).add(1, {"a": 1.0})
    assert read(path) == [{"iteration": "1", "a": "1"}]


class Validating(ToyData):
    def val_dataloader(self) -> Any:
        return DataLoader([{"source": torch.zeros(4)}] * 4, 4)


class Measuring(ToyRoom):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/size", float(len(batch["source"])), batch_size=1)


def test_rows_hold_losses_rates_norms_and_measures(tmp_path: Path) -> None:
    metrics = Metrics(every=2)
    metrics.run = Run(tmp_path)
    fit(
        Measuring(),
        6,
        tmp_path,
        callbacks=[metrics],
        data=Validating(),
        val_check_interval=3,
        check_val_every_n_epoch=None,
    )
    rows = read(Run(tmp_path).metrics)
    assert [row["iteration"] for row in rows] == ["2", "3", "4", "6"]
    assert [row["val/size"] for row in rows] == ["", "4", "", "4"]  # the sanity check before the training leaves no row
    by_iteration = {row["iteration"]: row for row in rows}
    for row in (by_iteration[n] for n in ("2", "4", "6")):
        for column in ("loss/generator", "loss/discriminator", "seconds_per_iteration"):
            assert float(row[column]) > 0
        for player in ("generator", "discriminator"):
            assert float(row[f"gradient_norm/{player}"]) > 0
        assert row["bad_iterations"] == "0"
        assert float(row["learning_rate/0"]) == 0.01
    assert float(by_iteration["6"]["learning_rate/1"]) == pytest.approx(0.01 / 1.5, rel=1e-5)
    assert by_iteration["3"]["loss/generator"] == ""


def test_a_resumed_run_appends(tmp_path: Path) -> None:
    for iterations, resume in ((4, None), (6, Run(tmp_path).checkpoint_path(2))):
        metrics = Metrics(every=1)
        metrics.run = Run(tmp_path)
        fit(ToyRoom(), iterations, tmp_path, callbacks=[metrics], every=2, resume=resume)
    assert [row["iteration"] for row in read(Run(tmp_path).metrics)] == ["1", "2", "3", "4", "5", "6"]


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ZooError, match="metrics: every is 0; expected at least 1"):
        Metrics(every=0)
