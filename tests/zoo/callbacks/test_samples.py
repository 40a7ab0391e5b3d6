"""Sample grids: always the same pictures, and a training that goes on as if nobody had looked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import seed_everything
from PIL import Image

from datamodules import Scenes
from support.toy import weights
from support.training import fit
from zoo.callbacks import SampleGrids
from zoo.callbacks.samples import gauges
from zoo.core.images import to_uint8
from zoo.core.runs import Run
from zoo.cyclegan import CycleGAN
from zoo.errors import ZooError

COLUMNS = 6  # source, translation, reconstruction, and the other way


class NoValidation(Scenes):
    def val_dataloader(self) -> Any:
        return []


def train(folder: Path, grids: SampleGrids | None, data: type[Scenes] = Scenes, iterations: int = 5) -> CycleGAN:
    seed_everything(3, verbose=False)
    room = CycleGAN(
        generator_channels=4,
        residual_blocks=1,
        discriminator_channels=4,
        generator_norm="batch",
        dropout=True,
        pool_size=2,
    )
    if grids is not None:
        grids.run = Run(folder)
    scenes = data(size=32, batch_size=2, validation_count=3)
    fit(room, iterations, folder, data=scenes, callbacks=[grids] if grids else [], precision="32-true")
    return room


def grid(folder: Path, iteration: int) -> np.ndarray:
    with Image.open(Run(folder).samples / f"iteration_{iteration:08d}.png") as picture:
        return np.array(picture)


def cells(picture: np.ndarray, rows: int, side: int = 32) -> np.ndarray:
    """The source column `rows side side 3` of a grid whose first label is narrower than a picture."""
    top = picture.shape[0] - rows * (side + 2)
    return np.stack([picture[top + r * (side + 2) : top + r * (side + 2) + side, 2 : 2 + side] for r in range(rows)])


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CycleGAN]:
    folder = tmp_path_factory.mktemp("watched")
    return folder, train(folder, SampleGrids(every=2, count=3))


def test_grids_come_when_they_should(watched: tuple[Path, CycleGAN]) -> None:
    folder, _ = watched
    names = sorted(path.name for path in Run(folder).samples.iterdir())
    assert names == [f"iteration_{n:08d}.png" for n in (2, 4, 5)]
    assert {grid(folder, n).shape for n in (2, 4, 5)} == {grid(folder, 2).shape}
    height, width, _ = grid(folder, 2).shape
    assert 3 * 34 < height < 3 * 34 + 30
    assert width >= COLUMNS * 34


def test_the_pictures_are_the_first_of_the_validation_data_each_time(watched: tuple[Path, CycleGAN]) -> None:
    folder, _ = watched
    scenes = Scenes(size=32, batch_size=2, validation_count=3)
    truth = torch.stack([scenes.fixed_samples("validation")[i]["source"] for i in range(3)]).permute(0, 2, 3, 1)
    for iteration in (2, 4, 5):
        np.testing.assert_array_equal(cells(grid(folder, iteration), 3), truth.numpy())
    assert not np.array_equal(grid(folder, 2), grid(folder, 4))  # the translations move


def test_nothing_in_the_training_moves(watched: tuple[Path, CycleGAN], tmp_path: Path) -> None:
    """Batch norm, dropout, the pool and the draws all notice a second look; none may."""
    alone = train(tmp_path, None)
    for name, value in weights(watched[1]).items():
        assert torch.equal(value, weights(alone)[name]), name


def test_without_validation_data_the_first_training_batch_is_shown(tmp_path: Path) -> None:
    train(tmp_path, SampleGrids(every=1, count=4), NoValidation, iterations=2)
    scenes = Scenes(size=32, batch_size=2)
    truth = torch.stack([scenes.train_samples()(i)["source"] for i in range(2)]).permute(0, 2, 3, 1)
    for iteration in (1, 2):
        np.testing.assert_array_equal(cells(grid(tmp_path, iteration), 2), truth.numpy())


def test_the_last_translation_is_the_models(watched: tuple[Path, CycleGAN]) -> None:
    folder, room = watched
    scenes = Scenes(size=32, batch_size=2, validation_count=3)
    sources = torch.stack([scenes.fixed_samples("validation")[i]["source"] for i in range(3)])
    columns = room.samples(
        {
            "source": scenes.on_after_batch_transfer({"x": sources}, 0)["x"],
            "target": torch.zeros(3, 3, 32, 32),
        }
    )
    expected = to_uint8(columns["translation"]).permute(0, 2, 3, 1).numpy()
    picture = grid(folder, 5)
    top = picture.shape[0] - 3 * 34
    found = [
        left
        for left in range(34, picture.shape[1] - 32)
        if np.array_equal(picture[top : top + 32, left : left + 32], expected[0])
    ]
    assert len(found) == 1


@pytest.mark.parametrize("options", [{"every": 0}, {"count": 0}])
def test_settings_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ZooError, match="both must be at least 1"):
        SampleGrids(**options)


def test_gauges_tell_copies_and_styles_that_are_one() -> None:
    source = torch.zeros(2, 3, 4, 4)
    assert gauges({"picture": source}) == {}
    assert gauges({"source": source, "translation": source + 0.5}) == {"gauge/distance_to_identity": 0.5}
    styles = {"random style 1": source + 0.5, "random style 2": source - 0.5}
    found = gauges({"source": source, "translation": source + 0.5, **styles})
    assert found["gauge/style_diversity"] == pytest.approx((0 + 1 + 1) / 3)
    assert gauges({"sample 1": source, "sample 2": source}) == {"gauge/style_diversity": 0.0}
    assert gauges({"source": source, "translation": source[..., :2]}) == {}
