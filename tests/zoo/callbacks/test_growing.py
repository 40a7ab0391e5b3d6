"""Networks that grow: the schedule, and what is said where it can't be followed."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules import Scenes
from support.toy import ToyData, ToyRoom
from support.training import fit
from zoo.alae import StyleALAE
from zoo.callbacks.growing import GrowResolution, Growth, shared_batches
from zoo.errors import ZooError

pytestmark = pytest.mark.filterwarnings("ignore:You defined a `validation_step`")

SMALL: dict[str, Any] = {
    "start_channels": 2,
    "most_channels": 2,
    "levels": 2,
    "latent_channels": 3,
    "mapping_layers": 1,
    "images_per_epoch": 8,
    "level_rates": (0.001,),
    "level_batches": (4,),
}


def test_a_level_begins_at_a_blend_of_exactly_zero_and_ends_it_at_half() -> None:
    growth = Growth(4, 4, 100, [10, 5], [0.1, 0.2, 0.3])
    assert growth.first_iterations == [0, 40, 120, 200]
    for level, first in enumerate(growth.first_iterations):
        moment = growth.at_iteration(first)
        assert (moment.level, moment.blend, moment.transition) == (level, 0.0 if level else 1.0, level > 0)
    half = growth.at_iteration(40 + 40)
    assert (half.blend, half.transition) == (1.0, False)
    assert growth.at_iteration(40 + 20).blend == pytest.approx(0.5)
    assert growth.at_iteration(40 + 39).blend == pytest.approx(0.5 + 0.5 * math.sin(math.pi * (39 / 40) - math.pi / 2))
    assert [growth.at_iteration(i).batch for i in (0, 40, 500)] == [10, 5, 5]
    assert [growth.at_iteration(i).rate for i in (0, 40, 120, 10_000)] == [0.1, 0.2, 0.3, 0.3]
    assert growth.at_iteration(10_000).level == 3


def test_iterations_and_epochs_agree() -> None:
    growth = Growth(3, 3, 50, [16, 7, 3], [0.1])
    iteration = 0
    for epoch in range(12):
        for number in range(50 // growth.at(epoch, 0).batch):
            assert growth.at_iteration(iteration) == growth.at(epoch, number * growth.at(epoch, 0).batch)
            iteration += 1


def test_no_epochs_train_the_last_level() -> None:
    growth = Growth(5, 0, 100, [8, 4], [0.1, 0.2])
    assert growth.at_iteration(0) == growth.at_iteration(99_999) == (4, 1.0, False, 4, 0.2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((0, 1, 8, [1], [1.0]), "0 levels"),
        ((2, 1, 8, [], [1.0]), r"batches \[\]"),
        ((2, 1, 8, [9], [1.0]), "9 pictures"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(arguments: tuple[Any, ...], said: str) -> None:
    with pytest.raises(ZooError, match=said):
        Growth(*arguments)


def test_processes_share_batches_evenly() -> None:
    assert shared_batches(12, 3) == [12]
    assert shared_batches((8, 4), 2) == [8, 4]
    with pytest.raises(ZooError, match="3 processes can't share a batch of 8"):
        shared_batches([6, 8], 3)


def test_what_is_trained_when_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for epochs, said in (
        (1, "4x4 in batches of 4 from iteration 0, 8x8 in batches of 4 from iteration 2"),
        (0, "not at all"),
    ):
        data = Scenes(task="alone", domains=("plain",), size=16, batch_size=2, validation_count=2)
        model = StyleALAE(**SMALL, epochs_per_level=epochs)
        fit(model, 1, tmp_path / str(epochs), data=data, callbacks=[GrowResolution()], limit_val_batches=0)
        assert said in capsys.readouterr().out


def test_a_room_without_levels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="ToyRoom has no levels"):
        fit(ToyRoom(), 1, tmp_path, callbacks=[GrowResolution()])


def test_data_that_cannot_follow_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="ToyData can't change"):
        fit(StyleALAE(**SMALL), 1, tmp_path, data=ToyData(), callbacks=[GrowResolution()])


@pytest.mark.parametrize(
    ("callback", "said"),
    [
        (GrowResolution(levels="level"), "no argument of this name. The nearest: level"),
        (GrowResolution(batches="batch"), "batches is 'batch'"),
        (GrowResolution(rates="ema_start"), "rates are 'independent'"),
    ],
)
def test_settings_that_make_no_sense_are_named(tmp_path: Path, callback: GrowResolution, said: str) -> None:
    with pytest.raises(ZooError, match=said):
        fit(StyleALAE(**SMALL), 1, tmp_path, data=ToyData(), callbacks=[callback])


def test_a_checkpoint_beyond_the_numbers_is_refused(tmp_path: Path) -> None:
    def data() -> Scenes:
        return Scenes(task="alone", domains=("plain",), size=16, batch_size=2, validation_count=2)

    options: dict[str, Any] = {"callbacks": [GrowResolution()], "limit_val_batches": 0}
    torch.manual_seed(0)
    fit(StyleALAE(**SMALL, epochs_per_level=1), 3, tmp_path / "a", data=data(), every=1, **options)
    longer = StyleALAE(**SMALL, epochs_per_level=5)
    checkpoint = tmp_path / "a" / "checkpoints" / "iteration_00000003.ckpt"
    with pytest.raises(
        ZooError, match="has grown to level 1, and by the recipe's numbers iteration 3 belongs to level 0"
    ):
        fit(longer, 4, tmp_path / "b", data=data(), resume=checkpoint, **{**options, "callbacks": [GrowResolution()]})
