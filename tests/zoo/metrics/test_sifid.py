"""SIFID: both readings, pictures of every format scaled alike, and pairs by name."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from support.single_image import draw_picture
from zoo.errors import ZooError
from zoo.metrics.sifid import PatchFeatures, frechet_distance, main, moments, pairs_of, read, sifid


def test_the_readings_take_their_layers() -> None:
    picture = torch.zeros(1, 3, 40, 47)
    assert PatchFeatures("code")(picture).shape == (1, 64, 17, 21)
    assert PatchFeatures("paper")(picture).shape == (1, 192, 6, 8)
    for reading, least in (("code", 9), ("paper", 23)):
        features = PatchFeatures(reading)  # type: ignore[arg-type]
        assert features(torch.zeros(1, 3, least, least)).shape[1] > 0
        with pytest.raises(ZooError, match=f"needs {least} pixels"):
            features(torch.zeros(1, 3, least - 1, 50))


def test_the_distance_is_that_of_normal_distributions() -> None:
    scipy_linalg = pytest.importorskip("scipy.linalg")
    generator = torch.Generator().manual_seed(0)
    samples = [torch.randn(1, 6, 9, 8, generator=generator, dtype=torch.float64) * scale for scale in (1.0, 1.7)]
    (mean, covariance), (other_mean, other_covariance) = (moments(x) for x in samples)
    root = scipy_linalg.sqrtm(covariance.numpy() @ other_covariance.numpy()).real
    expected = (mean - other_mean).square().sum() + covariance.trace() + other_covariance.trace() - 2 * np.trace(root)
    assert torch.allclose(frechet_distance(mean, covariance, other_mean, other_covariance), expected)
    assert torch.allclose(covariance, torch.from_numpy(np.cov(samples[0].reshape(6, -1).numpy())))


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


def test_the_command_reads_published_weights_and_prints_the_mean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(1)
    own = {name: value for name, value in PatchFeatures("paper").own_state().items() if value.is_floating_point()}
    state = {name: value + 0.01 * torch.rand_like(value) for name, value in own.items()}
    torch.save({**state, "fc.weight": torch.zeros(3)}, tmp_path / "inception.pth")
    picture = draw_picture(tmp_path / "p.png", 40, 48)
    draw_picture(tmp_path / "fake" / "a.png", 40, 48)
    draw_picture(tmp_path / "fake" / "b.png", 48, 40)
    values = {}
    for reading in ("code", "paper"):
        words = [
            str(picture),
            str(tmp_path / "fake"),
            "--weights",
            str(tmp_path / "inception.pth"),
            "--reading",
            reading,
        ]
        assert main(words) == 0
        *rows, mean = capsys.readouterr().out.splitlines()
        numbers = [float(row.split()[0]) for row in rows]
        assert numbers[0] == pytest.approx(0, abs=1e-4)
        assert numbers[1] > 0
        assert float(mean.split()[0]) == pytest.approx(sum(numbers) / 2, abs=1e-4)
        assert f"mean of 2, SIFID ({reading})" in mean
        values[reading] = numbers[1]
    assert values["code"] != values["paper"]
    torch.save({"other": torch.zeros(2)}, tmp_path / "wrong.pth")
    with pytest.raises(ZooError, match="is no Inception v3"):
        main([str(picture), str(tmp_path / "fake"), "--weights", str(tmp_path / "wrong.pth")])
