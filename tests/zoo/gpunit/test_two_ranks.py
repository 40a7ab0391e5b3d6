"""GP-UNIT on two processes: what one does with twice the batch, and one sampler for all."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch import seed_everything

from datamodules import Scenes
from support.ranks import on_ranks
from support.training import fit
from zoo.gpunit import GPUNIT
from zoo.gpunit.sampler import FitStyleSampler

pytestmark = pytest.mark.distributed

SMALL: dict[str, Any] = {
    "image_size": 64,
    "content_channels": 2,
    "generator_channels": 2,
    "style_channels": 8,
    "style_width": 8,
    "bottleneck": 8,
    "discriminator_channels": 2,
    "discriminator_max_channels": 4,
    "content_encoder": "random",
    "perceptual": None,
    "style_flip": False,  # each process draws its own
    "latent_channels": 5,
    "sampler_channels": 8,
    "sampler_steps": 64,
    "sampler_batch": 8,
}


def train(rank: int, folder: Path, world: int) -> dict[str, np.ndarray]:
    seed_everything(7, verbose=False)
    room = GPUNIT(**SMALL)
    room.check_ranks_every = 1
    data = Scenes(size=64, batch_size=4 // world, scenes_per_epoch=16, validation_count=2)
    strategy = "ddp" if world > 1 else "auto"
    fit(
        room, 3, folder, data=data, devices=world, strategy=strategy, callbacks=[FitStyleSampler()], limit_val_batches=0
    )
    return {name: value.detach().numpy().copy() for name, value in room.state_dict().items()}


def test_two_ranks_equal_one_process_with_twice_the_batch(tmp_path: Path) -> None:
    alone = train(0, tmp_path / "alone", 1)
    first, second = on_ranks(train, tmp_path / "two", 2)
    assert first["sampler_fitted"]
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=f"ranks differ in {name}")
        if not name.startswith("sampler."):  # whose nearest samples a last digit may change
            np.testing.assert_allclose(value, alone[name], rtol=1e-5, atol=1e-7, err_msg=name)
