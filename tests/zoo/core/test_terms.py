"""Loss terms: where they can be looked at, that loggers get them over our iterations, and that nothing waits for the device."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from torch import Tensor

from support.toy import ToyData, ToyRoom
from support.training import fit
from zoo.callbacks import Dashboards, Metrics
from zoo.cli.fit import quieten
from zoo.core.runs import Run
from zoo.core.terms import Terms


class Listener(Logger):
    """Keeps what Lightning would write somewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[int | None, dict[str, Any]]] = []

    @property
    def name(self) -> str:
        return "listener"

    @property
    def version(self) -> int:
        return 0

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.heard.append((step, dict(metrics)))

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        pass


class Counting(ToyRoom):
    """Logs the iteration's number, and every third iteration a term more."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        super().training_step(batch, batch_idx)
        number = torch.tensor(float(self.iteration))
        self.log_terms({"number": number})
        if self.iteration % 3 == 0:
            self.log_terms({"third": number}, "rare")


class Stock(Counting):
    """The same through Lightning's own `log_dict`."""

    def log_terms(self, terms: Mapping[str, Tensor], prefix: str = "loss") -> None:
        self.log_dict({f"{prefix}/{name}": value.detach() for name, value in terms.items()}, batch_size=1)


class Looking(Callback):
    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.seen.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def train(
    room: type[ToyRoom], folder: Path, iterations: int = 7
) -> tuple[list[dict[str, float]], list[Any], str, dict]:
    quieten()
    looking, listener, metrics = Looking(), Listener(), Metrics(every=2)
    metrics.run = Run(folder)
    torch.manual_seed(0)
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=iterations,
        logger=listener,
        log_every_n_steps=3,
        callbacks=[looking, metrics, Dashboards()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(room(), datamodule=ToyData())
    kept = [row.split(",") for row in metrics.run.metrics.read_text().splitlines()]
    clock = kept[0].index("seconds_per_iteration")
    table = "\n".join(",".join(cell for at, cell in enumerate(row) if at != clock) for row in kept)
    last = {name: float(value) for name, value in trainer.callback_metrics.items()}
    for _, values in listener.heard:
        values.pop("seconds_per_iteration", None)
    return looking.seen, listener.heard, table, last


def test_everybody_sees_what_lightnings_own_log_would_show(tmp_path: Path) -> None:
    """The last value of each term, in every iteration, in metrics.csv and in loggers, at the same iterations."""
    ours, theirs = train(Counting, tmp_path / "ours"), train(Stock, tmp_path / "theirs")
    assert ours == theirs
    seen, heard, table, last = ours
    assert [values["loss/number"] for values in seen] == [0, 1, 2, 3, 4, 5, 6]
    assert [values["rare/third"] for values in seen] == [0, 0, 0, 3, 3, 3, 6]  # the last one stays
    assert [(step, values["loss/number"]) for step, values in heard] == [(3, 2.0), (6, 5.0), (7, 6.0)]
    assert not any("epoch" in values for _, values in heard)
    assert "loss/generator" in table.splitlines()[0]
    assert last["loss/number"] == 6


def test_a_value_is_kept_as_it_was_and_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    terms = Terms()
    value = torch.ones((), requires_grad=True)
    sum_of = value * 2
    monkeypatch.setattr(torch.Tensor, "item", lambda *_: pytest.fail("the device was waited for"))
    monkeypatch.setattr(torch.Tensor, "__float__", lambda *_: pytest.fail("the device was waited for"))
    terms.keep({"a": sum_of}, "loss")
    with torch.no_grad():
        sum_of += 5
    monkeypatch.undo()
    assert {name: float(kept) for name, kept in terms.latest.items()} == {"loss/a": 2.0}
    assert not terms.latest["loss/a"].requires_grad


def test_a_term_is_one_number() -> None:
    with pytest.raises(ValueError, match=r"the term 'a' has the shape \(2,\); a term is one number"):
        Terms().keep({"a": torch.zeros(2)}, "loss")


def test_a_discriminator_is_right_where_the_real_one_scores_higher() -> None:
    terms = Terms()
    real, fake = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True), torch.tensor([[0.0, 5.0], [2.0, 4.0]])
    terms.compare("first", real, fake)
    terms.compare("second", real.bfloat16(), fake.bfloat16() - 10)
    terms.compare("scales", [real, real[:1, :1]], [fake, fake[:1, :1]])
    assert {name: float(value) for name, value in terms.latest.items()} == {
        "accuracy/first": 0.5,  # a tie is no success
        "accuracy/second": 1.0,
        "accuracy/scales": 0.75,
    }
    assert not any(value.requires_grad for value in terms.latest.values())


def test_terms_cost_next_to_nothing(tmp_path: Path) -> None:
    """Lightning's own log takes about 0.2 ms per term and iteration."""

    class Many(ToyRoom):
        seconds = 0.0

        def training_step(self, batch: Any, batch_idx: int) -> None:
            super().training_step(batch, batch_idx)
            terms = {f"term{number}": torch.zeros(()) for number in range(9)}
            begin = time.process_time()
            self.log_terms(terms)
            self.terms.publish(self.trainer)
            self.seconds += time.process_time() - begin

    room = Many()
    fit(room, 200, tmp_path)
    assert room.seconds / 200 < 0.5e-3
