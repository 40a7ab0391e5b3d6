"""UNIT on two processes: what one does with twice the batch, in both generations."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.rooms.unit import LATER_UNIT, SMALL_UNIT
from lightning.pytorch import seed_everything
from torch import Tensor

from datamodules import Scenes
from support.ranks import on_ranks
from support.training import fit
from zoo.unit import UNIT

pytestmark = pytest.mark.distributed


class Noiseless(UNIT):
    """Each process draws the noise of its own part of a batch; without it two of them can equal one."""

    def sample(self, mean_source: Tensor, mean_target: Tensor) -> tuple[Tensor, Tensor]:
        return mean_source, mean_target


def train(rank: int, folder: Path, world: int, room: type[UNIT], options: dict[str, Any]) -> dict[str, np.ndarray]:
    seed_everything(7, verbose=False)
    model = room(**{**SMALL_UNIT, "ema_decay": 0.5, **options}).double()
    model.check_ranks_every = 1
    data = Scenes(size=32, batch_size=4 // world, scenes_per_epoch=16, validation_count=2)
    strategy = "ddp" if world > 1 else "auto"
    fit(model, 3, folder, data=data, devices=world, strategy=strategy, limit_val_batches=0)
    return {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}


LATER = {**LATER_UNIT, "discriminator_scales": 2}


@pytest.mark.parametrize("options", [{}, LATER], ids=["paper", "munit_style"])
def test_two_ranks_equal_one_process_with_twice_the_batch(tmp_path: Path, options: dict[str, Any]) -> None:
    alone = train(0, tmp_path / "alone", 1, Noiseless, options)
    first, second = on_ranks(train, tmp_path / "two", 2, Noiseless, options)
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=f"ranks differ in {name}")
        np.testing.assert_allclose(value, alone[name], rtol=1e-6, atol=1e-9, err_msg=name)


def test_with_noise_of_their_own_ranks_stay_alike(tmp_path: Path) -> None:
    quiet, _ = on_ranks(train, tmp_path / "quiet", 2, Noiseless, {})
    first, second = on_ranks(train, tmp_path / "noisy", 2, UNIT, {})
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=f"ranks differ in {name}")
    assert any(not np.array_equal(value, quiet[name]) for name, value in first.items())
