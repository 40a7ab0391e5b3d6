"""StarGAN v2 on two processes: their networks stay the same to the bit, whatever domains each of them sees."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch import seed_everything

from datamodules import Scenes
from support.ranks import on_ranks
from support.training import fit
from zoo.starganv2 import StarGANv2

pytestmark = pytest.mark.distributed

SMALL: dict[str, Any] = {
    "image_size": 32,
    "domains": ["plain", "striped", "dotted"],
    "channels": 2,
    "max_channels": 4,
    "style_channels": 3,
    "latent_channels": 2,
    "mapping_channels": 4,
}


def train(rank: int, folder: Path, world: int) -> dict[str, np.ndarray]:
    seed_everything(7, verbose=False)
    room = StarGANv2(**SMALL)
    room.check_ranks_every = 1
    data = Scenes(task="domains", domains=tuple(SMALL["domains"]), size=32, batch_size=2 // world, validation_count=2)
    start = {f"start/{name}": value.detach().numpy().copy() for name, value in room.state_dict().items()}
    fit(room, 3, folder, data=data, devices=world, strategy="ddp" if world > 1 else "auto", limit_val_batches=0)
    return start | {name: value.detach().numpy().copy() for name, value in room.state_dict().items()}


def test_two_ranks_agree(tmp_path: Path) -> None:
    first, second = on_ranks(train, tmp_path, 2)
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=f"ranks differ in {name}")
    for network in ("generator", "mapping_network", "style_encoder", "discriminator"):
        names = [name for name in first if name.startswith(f"{network}.")]
        assert any(not np.array_equal(first[name], first[f"start/{name}"]) for name in names)


def test_two_ranks_equal_one_process_with_twice_the_batch(tmp_path: Path) -> None:
    # Latents are drawn apart on each rank: here they are all 0.
    first, _ = on_ranks(train_without_chance, tmp_path / "two", 2)
    alone = train_without_chance(0, tmp_path / "one", 1)
    for name, value in first.items():
        np.testing.assert_allclose(value, alone[name], rtol=1e-6, atol=1e-9, err_msg=name)


class WithoutChance(StarGANv2):
    """All latents are 0."""

    def setup(self, stage: str) -> None:
        super().setup(stage)
        normal = self.draws.normal
        self.draws.normal = lambda *arguments, **options: 0 * normal(*arguments, **options)  # type: ignore[method-assign]


def train_without_chance(rank: int, folder: Path, world: int) -> dict[str, np.ndarray]:
    seed_everything(7, verbose=False)
    room = WithoutChance(**SMALL)
    data = Scenes(task="domains", domains=tuple(SMALL["domains"]), size=32, batch_size=2 // world, validation_count=2)
    fit(room, 2, folder, data=data, devices=world, strategy="ddp" if world > 1 else "auto", limit_val_batches=0)
    return {name: value.detach().numpy().copy() for name, value in room.state_dict().items()}
