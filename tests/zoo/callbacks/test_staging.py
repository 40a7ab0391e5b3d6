"""Networks frozen for a while, and stages that begin at an iteration: in any room, from its settings alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor

from support.commands import assert_equal, checkpoint_of, lightning, only_run, write_recipe
from support.toy import ToyData, ToyRoom
from support.training import fit
from zoo.callbacks.staging import EnterStage, FreezeNetworks, Window, iteration_in, nearest_names, number_in
from zoo.core.checkpoints import read_checkpoint
from zoo.core.runs import Run
from zoo.errors import ZooError

KEPT = ("state_dict", "optimizer_states", "zoo", "global_step")


class Watch(Callback):
    """Keeps weights, buffers and Adam's state of the discriminator and the generator after each iteration."""

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []
        self.modes: list[bool] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.keep(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.keep(trainer, pl_module)
        self.modes.append(pl_module.discriminator.training)  # type: ignore[union-attr, arg-type]

    def keep(self, trainer: Trainer, pl_module: LightningModule) -> None:
        state = {name: value.detach().clone() for name, value in pl_module.state_dict().items()}
        names = {id(p): name for name, p in pl_module.named_parameters()}
        for optimizer in trainer.optimizers:
            for parameter, kept in optimizer.state.items():
                state |= {
                    f"{names[id(parameter)]}/{key}": torch.as_tensor(value).clone() for key, value in kept.items()
                }
        self.states.append(state)

    def moved(self, iteration: int, prefix: str) -> set[str]:
        """What of a network changed in an iteration: weights, buffers, the optimiser's state."""
        before, after = self.states[iteration], self.states[iteration + 1]
        return {
            name
            for name, value in after.items()
            if name.startswith(prefix) and not (name in before and torch.equal(value, before[name]))
        }


def train(folder: Path, iterations: int, *callbacks: Callback, resume: Path | None = None, **options: Any) -> ToyRoom:
    seed_everything(5, verbose=False)
    room = ToyRoom(**options)
    fit(room, iterations, folder, callbacks=list(callbacks), resume=resume, every=1, data=ToyData())
    return room


# Freezing -----------------------------------------------------------------------------------------------------------------------


def test_a_network_is_frozen_from_one_iteration_to_another_and_nothing_of_it_moves(tmp_path: Path) -> None:
    watch = Watch()
    train(tmp_path, 8, FreezeNetworks(["generator"], at=3, until=6), watch)
    for iteration in range(8):
        assert bool(watch.moved(iteration, "generator.")) == (iteration not in (3, 4, 5)), iteration
        assert watch.moved(iteration, "discriminator.")
    assert any(key.endswith("/exp_avg") for key in watch.moved(6, "generator."))


def test_momentum_and_weight_decay_do_not_move_a_frozen_network(tmp_path: Path) -> None:
    class Decayed(ToyRoom):
        def configure_optimizers(self) -> list[torch.optim.Optimizer]:
            optimizers = super().configure_optimizers()
            for optimizer in optimizers:
                optimizer.param_groups[0].update(weight_decay=0.5, betas=(0.99, 0.999))
            return optimizers

    seed_everything(5, verbose=False)
    watch = Watch()
    fit(Decayed(), 5, tmp_path, callbacks=[FreezeNetworks(["generator"], at=2), watch])
    assert [bool(watch.moved(iteration, "generator.")) for iteration in range(5)] == [True, True, False, False, False]


@pytest.mark.parametrize("eval_mode", [True, False])
def test_running_statistics_stay_as_well_unless_the_mode_is_left_alone(tmp_path: Path, eval_mode: bool) -> None:
    watch = Watch()
    freeze = FreezeNetworks(["discriminator"], at=2, until=4, eval_mode=eval_mode)
    train(tmp_path, 6, freeze, watch, norm="batch")
    for iteration in (2, 3):
        statistics = {
            "discriminator.1.running_mean",
            "discriminator.1.running_var",
            "discriminator.1.num_batches_tracked",
        }
        assert watch.moved(iteration, "discriminator.") == (set() if eval_mode else statistics)
    assert watch.modes == [True, True, not eval_mode, not eval_mode, True, True]
    assert "discriminator.1.running_mean" in watch.moved(4, "discriminator.")


def test_gradients_flow_through_a_frozen_network(tmp_path: Path) -> None:
    watch = Watch()
    train(tmp_path, 2, FreezeNetworks(["discriminator"]), watch)
    assert not watch.moved(0, "discriminator.")
    assert watch.moved(0, "generator.")


def test_a_network_can_be_frozen_as_its_moving_average(tmp_path: Path) -> None:
    watch = Watch()
    train(tmp_path, 6, FreezeNetworks(["generator"], at=3, averaged=True), watch, ema_decay=0.9)
    averages = {name for name in watch.states[3] if name.startswith("ema.generator.")}
    assert averages
    for name in averages:
        weight = watch.states[4][name.removeprefix("ema.")]
        assert torch.equal(weight, watch.states[3][name])
        assert torch.equal(weight, watch.states[6][name])
    assert any(not torch.equal(watch.states[3][name], watch.states[3][name.removeprefix("ema.")]) for name in averages)


def test_a_resume_behind_it_changes_nothing(tmp_path: Path) -> None:
    for name, stops in (("whole", [6]), ("resumed", [2, 3, 4, 6])):
        resume = None
        for stop in stops:
            train(
                tmp_path / name, stop, FreezeNetworks(["generator"], at=3, averaged=True), resume=resume, ema_decay=0.9
            )
            resume = Run(tmp_path / name).checkpoint_path(stop)
    ends = [read_checkpoint(Run(tmp_path / name).checkpoint_path(6)) for name in ("whole", "resumed")]
    for part in KEPT:
        assert_equal(ends[1][part], ends[0][part], part)


def test_one_network_may_have_several_windows(tmp_path: Path) -> None:
    watch = Watch()
    first, second = FreezeNetworks(["generator"], at=1, until=3), FreezeNetworks(["generator", "extra"], at=2, until=4)
    train(tmp_path, 7, FreezeNetworks(["generator"], at=5, until=6), first, second, watch)
    moved = [bool(watch.moved(iteration, "generator.")) for iteration in range(7)]
    assert moved == [True, False, False, False, True, False, True]


def test_an_empty_window_freezes_nothing(tmp_path: Path) -> None:
    watch = Watch()
    train(tmp_path, 3, FreezeNetworks(["generator"], at=1, until=1), watch)
    assert all(watch.moved(iteration, "generator.") for iteration in range(3))


def train_staged(folder: Path, resume: Path | None = None) -> None:
    train(folder, 8, FreezeNetworks(["discriminator"], at=3, until=6), EnterStage(1, at=4), norm="batch", resume=resume)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training that is left alone."""
    folder = tmp_path_factory.mktemp("whole")
    train_staged(folder)
    return Run(folder)


@pytest.mark.parametrize("crossing", [2, 3, 4, 5, 6, 7])
def test_a_resume_around_the_crossings_changes_nothing(tmp_path: Path, whole: Run, crossing: int) -> None:
    train_staged(tmp_path, whole.checkpoint_path(crossing))
    end, again = (read_checkpoint(run.checkpoint_path(8)) for run in (whole, Run(tmp_path)))
    assert end["optimizer_states"]
    for part in KEPT:
        assert_equal(again[part], end[part], part)


def test_a_resume_with_another_window_obeys_the_new_one(tmp_path: Path) -> None:
    train(tmp_path, 4, FreezeNetworks(["generator"], at=1))
    watch = Watch()
    train(tmp_path, 6, FreezeNetworks(["generator"], at=1, until=2), watch, resume=Run(tmp_path).checkpoint_path(4))
    assert watch.moved(0, "generator.")


def test_cyclegan_freezes_from_its_recipe_alone(tmp_path: Path) -> None:
    freeze = {
        "class_path": "zoo.callbacks.FreezeNetworks",
        "init_args": {"networks": ["to_target"], "at": "constant_epochs"},
    }
    trainer = {"accelerator": "cpu", "devices": 1, "max_steps": 6, "limit_val_batches": 0, "callbacks": [freeze]}
    config = write_recipe(tmp_path, trainer=trainer, checkpoints={"every": 1, "keep": 10})
    assert lightning("fit", "--config", config, "--model.iterations_per_epoch", 1, "--model.constant_epochs", 3) == 0
    run = only_run(tmp_path / "runs")
    names = [name for name in checkpoint_of(run, 3)["state_dict"] if name.startswith("to_target.")]
    size = len(names)
    for iteration in range(1, 6):
        before, after = checkpoint_of(run, iteration), checkpoint_of(run, iteration + 1)
        same = {n for n, value in after["state_dict"].items() if torch.equal(value, before["state_dict"][n])}
        assert set(names) <= same if iteration >= 3 else not set(names) & same, iteration
        assert not any(name.startswith("to_source.") for name in same)
        # Adam's moments of both generators: the first half is to_target's.
        moments = [checkpoint["optimizer_states"][0]["state"] for checkpoint in (before, after)]
        still = [i for i in moments[1] if torch.equal(moments[0][i]["exp_avg"], moments[1][i]["exp_avg"])]
        assert still == (list(range(size)) if iteration >= 3 else []), iteration


# Stages -------------------------------------------------------------------------------------------------------------------------


def test_a_stage_begins_at_its_iteration_once(tmp_path: Path) -> None:
    class Entered(ToyRoom):
        entered: list[tuple[int, int]]

        def build_stage(self, stage: int) -> None:
            self.entered = [*getattr(self, "entered", []), (stage, self.trainer.global_step)]
            super().build_stage(stage)

    seed_everything(5, verbose=False)
    room = Entered(grow_at=-1)
    fit(room, 6, tmp_path, callbacks=[EnterStage(2, at=4), EnterStage(1, at=2)])
    assert room.entered == [(1, 2), (2, 4)]
    assert room.stage == 2


def test_a_later_stage_passes_through_those_before_it(tmp_path: Path) -> None:
    room = train(tmp_path, 3, EnterStage(3, at=1))
    assert (room.stage, len(room.grown)) == (3, 3)


def test_networks_of_a_stage_can_be_frozen_when_they_are_there(tmp_path: Path) -> None:
    watch = Watch()
    train(tmp_path, 5, EnterStage(1, at=1), FreezeNetworks(["grown.0"], at=3), watch)
    assert [bool(watch.moved(iteration, "grown.")) for iteration in range(5)] == [False, True, True, False, False]


# What is refused ----------------------------------------------------------------------------------------------------------------


class Plain(LightningModule):
    """No room."""


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FreezeNetworks([]), "networks is empty"),
        (lambda: EnterStage(0, at=3), "stage is 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused_at_once(make: Callable[[], Callback], words: str) -> None:
    with pytest.raises(ZooError, match=words):
        make()


@pytest.mark.parametrize(
    ("callback", "words"),
    [
        (FreezeNetworks(["generatr"]), "ToyRoom has no network 'generatr'. The nearest: generator"),
        (FreezeNetworks(["generator.7"]), "no network 'generator.7'. The nearest: generator"),
        (FreezeNetworks(["generator"], at="grow"), "no argument of this name. The nearest: grow_at"),
        (FreezeNetworks(["generator"], at="zzz"), "The nearest: r1, norm, "),
        (FreezeNetworks(["generator"], at="norm"), "at is 'norm', which is 'none'; expected a number"),
        (FreezeNetworks(["generator"], at="pool"), "which is False; expected a number"),
        (FreezeNetworks(["generator"], at="learning_rate"), "which is 0.01; expected the number of an iteration"),
        (FreezeNetworks(["generator"], at=-1), "which is -1; expected the number of an iteration"),
        (FreezeNetworks(["generator"], at=5, until=4), r"until is 4 \(iteration 4\), before at, 5"),
        (
            FreezeNetworks(["generator"], averaged=True),
            "ToyRoom keeps no moving average of 'generator'. The nearest: none",
        ),
        (EnterStage(1, at="grow_at"), "EnterStage 1: at is 'grow_at', which is -1"),
    ],
)
def test_a_mistake_is_told_before_the_first_iteration(tmp_path: Path, callback: Callback, words: str) -> None:
    watch = Watch()
    with pytest.raises(ZooError, match=words):
        train(tmp_path, 2, callback, watch)
    assert not watch.states


def test_a_network_that_no_stage_brought_is_told_when_it_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match=r"no network 'grown\.5'\. The nearest: grown\.0"):
        train(tmp_path, 4, EnterStage(1, at=1), FreezeNetworks(["grown.5"], at=2))


def test_a_room_without_stages_is_told_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = write_recipe(tmp_path)
    content = yaml.safe_load(config.read_text())
    content["trainer"]["callbacks"] = [{"class_path": "zoo.callbacks.EnterStage", "init_args": {"stage": 1, "at": 2}}]
    config.write_text(yaml.safe_dump(content))
    assert lightning("fit", "--config", config) == 2
    assert "CycleGAN has no stages. Leave EnterStage out" in capfd.readouterr().err


def test_a_model_that_is_no_room_is_told_so() -> None:
    for callback in (EnterStage(1, at=2), FreezeNetworks(["generator"])):
        with pytest.raises(ZooError, match="works in rooms alone, and Plain is none"):
            callback.on_fit_start(Trainer(accelerator="cpu", logger=False, enable_checkpointing=False), Plain())


def test_numbers_and_names() -> None:
    room = ToyRoom(grow_at=7, learning_rate=0.5)
    assert number_in(room, "learning_rate", "x") == 0.5
    assert number_in(room, 3, "x") == 3
    assert iteration_in(room, "grow_at", "x") == 7
    assert nearest_names("frozn", ["norm", "frozen"]) == "frozen"
    assert nearest_names("x", []) == "none"
    window = Window(2, "grow_at", "somebody")
    window.resolve(room)
    assert [window.holds(iteration) for iteration in (1, 2, 6, 7)] == [False, True, True, False]
