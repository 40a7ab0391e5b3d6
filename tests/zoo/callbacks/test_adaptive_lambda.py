"""A weight that grows until a loss says that it is enough, in any room."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from support.commands import assert_equal, lightning, only_run, rows, write_recipe
from support.toy import ToyRoom
from support.training import fit
from zoo.callbacks.adaptive_lambda import AdaptiveLambda, Induction
from zoo.core.checkpoints import read_checkpoint
from zoo.core.runs import Run
from zoo.errors import ZooError


class Weighted(ToyRoom):
    """A toy with weights of its losses, whose `loss/told` is a list of numbers."""

    told: list[float]

    def __init__(self, start: float = 0.25, growth: float = 0.5, patience: int = 2, **options: Any) -> None:
        super().__init__(**options)
        self.hparams.update(start=start, growth=growth, patience=patience)
        self.lambda_own = 7.0
        self.lambda_other = 1.0
        self.lambda_switch = True
        self.used: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.used.append(self.lambda_own)
        super().training_step(batch, batch_idx)
        if self.iteration < len(self.told) and self.told[self.iteration] >= 0:
            self.log_terms({"told": torch.tensor(self.told[self.iteration], dtype=torch.float64)})


def train(
    folder: Path, told: list[float], *callbacks: Callback, resume: Path | None = None, **options: Any
) -> Weighted:
    seed_everything(5, verbose=False)
    room = Weighted(**options)
    room.told = told
    fit(room, len(told), folder, callbacks=list(callbacks), resume=resume, every=1)
    return room


def adaptive(**changes: Any) -> AdaptiveLambda:
    settings = {"weight": "lambda_own", "loss": "loss/told", "step": 0.5, "interval": 2, "threshold": 1.0}
    return AdaptiveLambda(**{**settings, **changes})


# The rule -----------------------------------------------------------------------------------------------------------------------


def test_the_mean_of_an_interval_decides_and_a_stop_is_for_good() -> None:
    rule, values = Induction(step=0.5, interval=2, threshold=1.0), []
    for loss in [0.5, 1.5, 0.0, 0.1, 0.9, 1.2, 0.0, 0.0, 0.0, 0.0]:
        rule.observe([loss])
        values.append(rule.value)
    assert values == [0.0, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]  # 1.0 on average is not above; 1.05 is
    assert rule.stopped


def test_losses_may_come_one_by_one_or_together() -> None:
    losses = torch.rand(50, generator=torch.Generator().manual_seed(0)).mul(1.1).tolist()
    one_by_one, together = Induction(0.1, 3, 0.8), Induction(0.1, 3, 0.8)
    for loss in losses:
        one_by_one.observe([loss])
    together.observe(losses)
    assert vars(one_by_one) == vars(together)
    assert one_by_one.stopped
    assert one_by_one.value > 0


def test_a_loss_that_is_no_number_neither_raises_nor_stops() -> None:
    rule = Induction(0.1, 1, 1.0)
    rule.observe([float("nan"), 0.5, float("inf")])
    assert (rule.value, rule.stopped) == (0.1, True)


def test_impossible_rules_are_refused() -> None:
    for step, interval in ((-0.1, 1), (0.1, 0)):
        with pytest.raises(ZooError, match=r"step is .*, interval is .*; expected at least 0 and at least 1"):
            Induction(step, interval, 1.0)


# In a training ------------------------------------------------------------------------------------------------------------------


def test_the_weight_grows_between_its_iterations_and_stays_afterwards(tmp_path: Path) -> None:
    room = train(tmp_path, [0.0] * 10, adaptive(at=2, until=6))
    assert room.used == [7.0, 7.0, 0.0, 0.0, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0]


def test_the_weight_stops_when_the_loss_is_too_high(tmp_path: Path) -> None:
    room = train(tmp_path, [0.0, 0.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0], adaptive(start=0.25))
    assert room.used == [0.25, 0.25, 0.75, 0.75, 1.25, 1.25, 1.25, 1.25]


def test_it_begins_again_for_a_second_time(tmp_path: Path) -> None:
    told = [0.0, 0.0, 9.0, 9.0, 9.0, 0.0, 0.0, 0.0, 0.0]
    # In whatever order they stand.
    room = train(tmp_path, told, adaptive(at=5, until=8, interval=1, start=0.1), adaptive(until=5))
    assert room.used == [0.0, 0.0, 0.5, 0.5, 0.5, 0.1, 0.6, 1.1, 1.6]
    assert room.lambda_other == 1.0


def test_numbers_may_be_the_rooms_arguments(tmp_path: Path) -> None:
    room = train(tmp_path, [0.0] * 4, adaptive(start="start", step="growth", interval="patience"))
    assert room.used == [0.25, 0.25, 0.75, 0.75]


def test_iterations_without_the_loss_do_not_count(tmp_path: Path) -> None:
    absent = -1.0
    room = train(tmp_path, [0.0, absent, absent, 0.0, absent, 0.0], adaptive())
    assert room.used == [0.0, 0.0, 0.0, 0.0, 0.5, 0.5]


def test_the_weight_is_looked_at_once_per_interval_and_never_after_the_stop(tmp_path: Path, monkeypatch: Any) -> None:
    looks: list[int] = []
    observe = Induction.observe
    monkeypatch.setattr(Induction, "observe", lambda self, losses: (looks.append(len(losses)), observe(self, losses)))
    seed_everything(5, verbose=False)
    room = Weighted()
    room.told = [0.0] * 6 + [5.0] * 6
    fit(room, len(room.told), tmp_path, callbacks=[adaptive(interval=3)])
    assert looks == [3, 3, 3]


MOMENTS = [0.1, 0.2, 0.3, 0.9, 1.4, 1.5, 0.2, 0.2, 0.2, 0.2, 1.2, 0.1]


def train_twice_adaptive(folder: Path, resume: Path | None = None) -> Weighted:
    return train(folder, MOMENTS, adaptive(until=7, interval=3), adaptive(at=7, until=10), resume=resume)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """The folder of a training that is left alone, and the weights it used."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, train_twice_adaptive(folder).used


@pytest.mark.parametrize("moment", [2, 3, 6, 7, 8, 11])  # within intervals, at their ends, at the end of a window
def test_a_resume_at_any_moment_changes_nothing(tmp_path: Path, whole: tuple[Path, list[float]], moment: int) -> None:
    folder, used = whole
    parts = train_twice_adaptive(tmp_path, Run(folder).checkpoint_path(moment))
    end, again = (read_checkpoint(Run(each).checkpoint_path(len(MOMENTS))) for each in (folder, tmp_path))
    assert used[7] == 0.0
    assert parts.used == used[moment:]
    assert len(end["callbacks"]) == 2
    for part in ("callbacks", "state_dict", "optimizer_states"):
        assert_equal(again[part], end[part], part)


def test_a_stop_survives_a_resume(tmp_path: Path) -> None:
    told = [5.0, 5.0, 0.0, 0.0, 0.0, 0.0]
    train(tmp_path, told[:3], adaptive())
    assert train(tmp_path, told, adaptive(), resume=Run(tmp_path).checkpoint_path(3)).used == [0.0, 0.0, 0.0]


def test_a_run_without_it_can_go_on_with_it(tmp_path: Path) -> None:
    train(tmp_path, [0.0] * 3)
    assert train(tmp_path, [0.0] * 6, adaptive(), resume=Run(tmp_path).checkpoint_path(3)).used == [0.0, 0.0, 0.5]


class Steps(Callback):
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.logged: list[tuple[float, float]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        shown = trainer.callback_metrics
        self.logged.append((float(shown["weight/lambda_own"]), float(shown["weight/lambda_own_stopped"])))


def test_weight_and_stop_are_logged_as_each_iteration_used_them(tmp_path: Path) -> None:
    told = [0.0, 0.0, 5.0, 0.0, 0.0]
    steps = Steps()
    room = train(tmp_path, told, adaptive(interval=1), steps)
    assert [weight for weight, _ in steps.logged] == room.used == [0.0, 0.5, 1.0, 1.0, 1.0]
    assert [stopped for _, stopped in steps.logged] == [0, 0, 0, 1, 1]
    resumed = Steps()
    train(tmp_path, told, adaptive(interval=1), resumed, resume=Run(tmp_path).checkpoint_path(2))
    assert resumed.logged == steps.logged[2:]


def test_cyclegans_cycle_weight_grows_from_its_recipe_alone(tmp_path: Path) -> None:
    arguments = {"weight": "lambda_cycle_source", "loss": "loss/adversarial_target", "interval": 2, "start": 1.0}
    grow = {"class_path": "zoo.callbacks.AdaptiveLambda", "init_args": {**arguments, "step": 0.5, "threshold": 100.0}}
    trainer = {"accelerator": "cpu", "devices": 1, "max_steps": 5, "limit_val_batches": 0, "callbacks": [grow]}
    config = write_recipe(tmp_path, trainer=trainer)
    assert lightning("fit", "--config", config) == 0
    shown = [float(row["weight/lambda_cycle_source"]) for row in rows(only_run(tmp_path / "runs"))]
    assert shown == [1.0, 1.0, 1.5, 1.5, 2.0]
    for row, weight in zip(rows(only_run(tmp_path / "runs")), shown, strict=True):
        terms = {key.removeprefix("loss/"): float(value) for key, value in row.items() if key.startswith("loss/")}
        total = terms["adversarial_target"] + terms["adversarial_source"]
        total += weight * terms["cycle_source"] + 10 * terms["cycle_target"]
        total += 0.5 * (10 * terms["identity_target"] + weight * terms["identity_source"])
        assert terms["generators"] == pytest.approx(total, rel=1e-4)


# What is refused ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("callbacks", "words"),
    [
        ([adaptive(weight="lambda_onw")], "has no weight 'lambda_onw'. The nearest: lambda_own"),
        ([adaptive(weight="lambda_switch")], "has no weight 'lambda_switch'"),
        ([adaptive(weight="generator")], "The nearest: "),
        ([adaptive(loss="loss/tld")], "logs no term 'loss/tld'. The nearest: loss/told"),
        ([adaptive(step="grwth")], "step is 'grwth', and Weighted has no argument of this name. The nearest: growth"),
        ([adaptive(interval=0)], "interval is 0"),
        ([adaptive(until=3), adaptive(at=2)], "two of them hold iteration 2"),
        ([adaptive(), adaptive(at=2)], "two of them hold iteration 2"),
    ],
)
def test_a_mistake_is_told(tmp_path: Path, callbacks: list[Callback], words: str) -> None:
    with pytest.raises(ZooError, match=words):
        train(tmp_path, [0.0] * 3, *callbacks)


def test_two_weights_may_grow_at_once(tmp_path: Path) -> None:
    room = train(tmp_path, [0.0] * 4, adaptive(), adaptive(weight="lambda_other", interval=1))
    assert (room.lambda_own, room.lambda_other) == (1.0, 2.0)
