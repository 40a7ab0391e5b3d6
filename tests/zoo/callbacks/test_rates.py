"""Rates that fall towards the end: by the iteration's number alone, on top of schedules."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback, Trainer, seed_everything

from support.commands import assert_equal, lightning, only_run, rows, write_recipe
from support.toy import ToyRoom
from support.training import fit
from zoo.callbacks import EnterStage, FadeRates
from zoo.core.checkpoints import read_checkpoint
from zoo.core.runs import Run
from zoo.errors import ZooError


class Rates(Callback):
    """Keeps the rates of generator and discriminator after each iteration."""

    def __init__(self) -> None:
        self.kept: list[tuple[float, ...]] = []

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.kept.append(tuple(optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers))


def train(folder: Path, iterations: int, *callbacks: Callback, resume: Path | None = None) -> ToyRoom:
    seed_everything(5, verbose=False)
    room = ToyRoom(learning_rate=0.01)
    fit(room, iterations, folder, callbacks=list(callbacks), resume=resume)
    return room


def test_all_rates_fall_on_a_straight_line_on_top_of_schedules(tmp_path: Path) -> None:
    rates = Rates()
    train(tmp_path, 8, FadeRates(at=2, until=6, to=0.2), rates)
    shares = [1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0.2]
    schedule = [1 / (1 + iteration / 10) for iteration in range(8)]  # the toy's own, of its discriminator
    wanted = [(0.01 * share, 0.01 * share * own) for share, own in zip(shares, schedule, strict=True)]
    assert [pytest.approx(pair) for pair in wanted] == rates.kept


def test_one_player_can_fall_alone(tmp_path: Path) -> None:
    rates = Rates()
    train(tmp_path, 3, FadeRates(at=0, until=2, players=["generator"]), rates)
    assert [generator for generator, _ in rates.kept] == pytest.approx([0.01, 0.005, 0])
    assert rates.kept[2][1] == pytest.approx(0.01 / 1.2)


def test_a_network_at_rate_zero_stays(tmp_path: Path) -> None:
    whole = train(tmp_path / "a", 5, FadeRates(at=1, until=3))
    short = train(tmp_path / "b", 3, FadeRates(at=1, until=3))
    for name, value in short.state_dict().items():
        assert torch.equal(value, whole.state_dict()[name]), name


@pytest.mark.parametrize("stop", [2, 3, 5])
def test_a_resume_changes_nothing(tmp_path: Path, stop: int) -> None:
    fade = {"at": 2, "until": 5, "to": 0.1}
    grows = EnterStage(1, at=3)
    train(tmp_path / "whole", 7, FadeRates(**fade), grows)  # type: ignore[arg-type]
    train(tmp_path / "parts", stop, FadeRates(**fade), grows)  # type: ignore[arg-type]
    checkpoint = Run(tmp_path / "parts").checkpoint_path(stop)
    train(tmp_path / "parts", 7, FadeRates(**fade), grows, resume=checkpoint)  # type: ignore[arg-type]
    ends = [read_checkpoint(Run(tmp_path / name).checkpoint_path(7)) for name in ("whole", "parts")]
    for part in ("state_dict", "optimizer_states"):
        assert_equal(ends[1][part], ends[0][part], part)


def test_the_optimisers_of_a_new_stage_fall_with_the_others(tmp_path: Path) -> None:
    rates = Rates()
    train(tmp_path, 4, FadeRates(at=0, until=4), EnterStage(1, at=2), rates)
    assert [generator for generator, _ in rates.kept] == pytest.approx([0.01, 0.0075, 0.005, 0.0025])


def test_cyclegan_fades_from_its_recipe_alone(tmp_path: Path) -> None:
    config = write_recipe(tmp_path)
    content = yaml.safe_load(config.read_text())
    content["trainer"]["callbacks"] = [
        {"class_path": "zoo.callbacks.FadeRates", "init_args": {"at": 0, "until": 2, "to": 0.5}}
    ]
    config.write_text(yaml.safe_dump(content))
    assert lightning("fit", "--config", config, "--trainer.max_steps", "3") == 0
    table = rows(only_run(tmp_path / "runs"))
    first = float(table[0]["learning_rate/0"])
    assert [float(row["learning_rate/0"]) / first for row in table] == pytest.approx([1, 0.75, 0.5])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"at": 1, "until": 1}, "at and until are both 1"),
        ({"at": 3, "until": 1}, "before at, 3"),
        ({"at": 0, "until": "grow"}, "The nearest: grow_at"),
        ({"at": 0, "until": 2, "players": ["critic", "generator"]}, "ToyRoom has no player 'critic'. The nearest: "),
    ],
)
def test_a_mistake_is_told_before_the_first_iteration(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    rates = Rates()
    with pytest.raises(ZooError, match=words):
        train(tmp_path, 2, FadeRates(**settings), rates)
    assert not rates.kept


@pytest.mark.parametrize("to", [1.0, -0.1])
def test_a_share_that_is_none_is_refused_at_once(to: float) -> None:
    with pytest.raises(ZooError, match="expected a share"):
        FadeRates(at=0, until=1, to=to)
