"""SIFID: both readings, pictures of every format scaled alike, and pairs by name."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from support.single_image import draw_picture
from zoo.errors import ZooError
from zoo.metrics.sifid import PatchFeatures, moments, pairs_of, read, sifid


def test_the_readings_take_their_layers() -> None:
    picture = torch.zeros(1, 3, 40, 47)
    assert PatchFeatures("code")(picture).shape == (1, 64, 17, 21)
    assert PatchFeatures("paper")(picture).shape == (1, 192, 6, 8)
    for reading, least in (("code", 9), ("paper", 23)):
        features = PatchFeatures(reading)  # type: ignore[arg-type]
        assert features(torch.zeros(1, 3, least, least)).shape[1] > 0
        with pytest.raises(ZooError, match=f"needs {least} pixels"):
            features(torch.zeros(1, 3, least - 1, 50))


def test_places_of_a_map_are_samples() -> None:
    maps = torch.randn(1, 6, 9, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean, covariance = moments(maps)
    assert torch.allclose(mean, maps.mean((0, 2, 3)))
    assert torch.allclose(covariance, torch.from_numpy(np.cov(maps.reshape(6, -1).numpy())))


def test_a_png_is_scaled_as_any_other_file(tmp_path: Path) -> None:
    png = draw_picture(tmp_path / "p.png", 40, 48)
    with Image.open(png) as picture:
        picture.save(tmp_path / "p.bmp")
    features = PatchFeatures()
    assert torch.equal(read(png), read(tmp_path / "p.bmp"))
    assert read(png).max() > 0.3  # as read by the released code, it would be nearly -1
    assert float(sifid(features, read(png), read(tmp_path / "p.bmp"))) == pytest.approx(0, abs=1e-6)
    assert float(sifid(features, read(png), -read(png))) > 1e-4


def test_pairs_are_made_by_name(tmp_path: Path) -> None:
    for name in ("castle", "castle_2", "river"):
        draw_picture(tmp_path / "real" / f"{name}.png")
    for name in ("river_0", "castle_2_7", "castle_1", "river"):
        draw_picture(tmp_path / "fake" / f"{name}.png")
    found = {fake.stem: real.stem for real, fake in pairs_of(tmp_path / "real", tmp_path / "fake")}
    assert found == {"river_0": "river", "castle_2_7": "castle_2", "castle_1": "castle", "river": "river"}
    one = pairs_of(tmp_path / "real" / "river.png", tmp_path / "fake")
    assert [real.stem for real, _ in one] == ["river"] * 4
    draw_picture(tmp_path / "fake" / "lake.png")
    with pytest.raises(ZooError, match="belongs to none of the real pictures"):
        pairs_of(tmp_path / "real", tmp_path / "fake")
