"""HiDT on two processes: what one does with twice the batch, but for the pools of styles, which are each process' own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch import seed_everything
from torch import Tensor

from datamodules import Scenes
from support.ranks import on_ranks
from support.training import fit
from zoo.core import Draws
from zoo.hidt import HiDT

pytestmark = pytest.mark.distributed

SMALL: dict[str, Any] = {
    "generator_channels": 5,
    "encoder_blocks": 1,
    "decoder_blocks": 1,
    "mapping_channels": 4,
    "discriminator_channels": 2,
    "discriminator_levels": 2,
    "style_pool": 4,
    "learning_rate": 1e-3,
    "training_noise": False,
    "ema_decay": 0.5,
}


class SameStyle(Draws):
    """Draws one style for every picture, the same on every rank."""

    def normal(self, name: str, shape: Any, *, device: Any = None) -> Tensor:
        rank, self.rank = self.rank, 0
        try:
            return super().normal(name, (1, *shape[1:]), device=device).expand(*shape)
        finally:
            self.rank = rank


def train(rank: int, folder: Path, world: int, **options: Any) -> dict[str, np.ndarray]:
    seed_everything(7, verbose=False)
    room = HiDT(**SMALL, **options).double()
    room.draws = SameStyle()
    room.check_ranks_every = 1
    data = Scenes(task="daylight", size=16, batch_size=2 // world, validation_count=2)
    strategy = "ddp" if world > 1 else "auto"
    fit(room, 3, folder, data=data, devices=world, strategy=strategy, limit_val_batches=0)
    state = {name: value.detach().numpy().copy() for name, value in room.state_dict().items()}
    assert room.pool.rows is not None
    return {**state, "pool": room.pool.rows.numpy()}


def without_distribution(rank: int, folder: Path, world: int) -> dict[str, np.ndarray]:
    return train(rank, folder, world, lambda_distribution=0.0)


def test_two_ranks_equal_one_process_with_twice_the_batch(tmp_path: Path) -> None:
    alone = without_distribution(0, tmp_path / "alone", 1)
    first, second = on_ranks(without_distribution, tmp_path / "two", 2)
    assert not np.array_equal(first.pop("pool"), second.pop("pool")), (
        "each process keeps the styles of its own pictures"
    )
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=f"ranks differ in {name}")
        np.testing.assert_allclose(value, alone[name], rtol=1e-6, atol=1e-9, err_msg=name)


def test_with_pools_of_their_own_ranks_agree(tmp_path: Path) -> None:
    first, second = on_ranks(train, tmp_path / "two", 2)
    assert not np.array_equal(first.pop("pool"), second.pop("pool"))
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=f"ranks differ in {name}")
