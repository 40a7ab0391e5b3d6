"""AGGAN on two processes: what one does with twice the batch, through both stages."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch import seed_everything

from datamodules import Scenes
from support.ranks import on_ranks
from support.training import fit
from zoo.aggan import AGGAN
from zoo.callbacks.staging import EnterStage, FreezeNetworks

pytestmark = pytest.mark.distributed

SMALL: dict[str, Any] = {
    "generator_channels": 4,
    "residual_blocks": 1,
    "attention_channels": 4,
    "discriminator_channels": 4,
    "discriminator_layers": 1,
    "pool_size": 0,  # each process draws its own
    "switch_iteration": 2,
    "ema_decay": 0.5,
}


def train(rank: int, folder: Path, world: int, optimizer: Any) -> dict[str, np.ndarray]:
    seed_everything(7, verbose=False)
    room = AGGAN(**SMALL, optimizer=optimizer).double()
    room.check_ranks_every = 1
    data = Scenes(size=32, batch_size=4 // world, scenes_per_epoch=16, validation_count=2)
    strategy = "ddp" if world > 1 else "auto"
    stage = [FreezeNetworks(["attention_source", "attention_target"], "switch_iteration")]
    stage += [EnterStage(1, "switch_iteration")]  # type: ignore[list-item]
    fit(room, 4, folder, data=data, devices=world, strategy=strategy, callbacks=stage, limit_val_batches=0)  # type: ignore[arg-type]
    assert room.stage == 1
    return {name: value.detach().numpy().copy() for name, value in room.state_dict().items()}


@pytest.mark.parametrize("optimizer", ["torch", "tensorflow"])
def test_two_ranks_equal_one_process_with_twice_the_batch(tmp_path: Path, optimizer: Any) -> None:
    alone = train(0, tmp_path / "alone", 1, optimizer)
    first, second = on_ranks(train, tmp_path / "two", 2, optimizer)
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=f"ranks differ in {name}")
        np.testing.assert_allclose(value, alone[name], rtol=1e-6, atol=1e-9, err_msg=name)
