"""Rooms of a single picture on two processes: each draws its own noise, and both end with the same model."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch import seed_everything

from datamodules import SingleImage
from support.ranks import on_ranks
from support.single_image import SMALL, draw_picture
from support.training import fit
from zoo.callbacks.grow_scales import GrowScales

pytestmark = pytest.mark.distributed


def train(rank: int, folder: Path, class_path: str, changes: dict[str, Any]) -> dict[str, np.ndarray]:
    seed_everything(7, verbose=False)
    module, _, name = class_path.rpartition(".")
    room = getattr(import_module(module), name)(**{**SMALL[class_path], **changes})
    room.check_ranks_every = 1
    data = SingleImage(str(folder / "p.png"))
    options = {"devices": 2, "strategy": "ddp", "precision": "32-true", "max_epochs": -1}
    trainer = fit(room, -1, folder, data=data, callbacks=[GrowScales(grids=False)], **options)  # type: ignore[arg-type]
    assert trainer.world_size == 2
    assert room.stage == room.scale_count((24, 28)) - 1
    return {name: value.detach().numpy().copy() for name, value in room.state_dict().items()}


@pytest.mark.parametrize(
    ("class_path", "changes"),
    [("zoo.consingan.ConSinGAN", {"norm": True, "stages": 3}), ("zoo.singan.SinGAN", {"scale_factor": 0.6})],
)
def test_ranks_agree_through_every_scale(class_path: str, changes: dict[str, Any], tmp_path: Path) -> None:
    draw_picture(tmp_path / "p.png")
    first, second = on_ranks(train, tmp_path, class_path, changes)
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=f"ranks differ in {name}")
    assert any(name.startswith("fixed.") for name in first)
