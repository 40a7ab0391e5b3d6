"""Named protocols: their parts against definitions, and what they say where weights or pictures are lacking."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from support.training import fit
from zoo.alae import StyleALAE
from zoo.callbacks import GrowResolution
from zoo.core.images import save_png
from zoo.errors import ZooError
from zoo.metrics import latent_codes
from zoo.metrics.latent_codes import (
    PROTOCOLS,
    Gaussian,
    cut_to_pixels,
    frechet_distance,
    generation_distance,
    lacking,
    main,
    path_length,
    perceptual_reconstruction,
    pictures_of,
    read_pictures,
    reconstruction_distance,
)

SETTINGS: dict[str, Any] = {
    "start_channels": 2,
    "most_channels": 4,
    "levels": 3,
    "latent_channels": 6,
    "mapping_layers": 1,
    "epochs_per_level": 0,
    "level_batches": (2,),
}


def small() -> StyleALAE:
    torch.manual_seed(0)
    return StyleALAE(**SETTINGS).eval()


def colours(image: Tensor) -> Tensor:
    """Features: the mean colour."""
    assert image.dtype == torch.uint8
    return image.float().mean((2, 3)) / 255


def pixels(count: int, seed: int = 0, side: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def counted(rows: Tensor) -> Gaussian:
    found = Gaussian()
    for part in rows.split(7):
        found.add(part)
    return found


def test_the_frechet_distance_is_the_one_with_a_matrix_root() -> None:
    linalg = pytest.importorskip("scipy.linalg", reason="SciPy's matrix root is what this is compared with")
    numbers = np.random.default_rng(0)
    one, two = numbers.normal(size=(40, 5)), numbers.normal(size=(30, 5)) @ numbers.normal(size=(5, 5)) + 1
    covariances = [np.cov(rows, rowvar=False) for rows in (one, two)]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    wanted = ((one.mean(0) - two.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    found = frechet_distance(counted(torch.from_numpy(one)), counted(torch.from_numpy(two)))
    assert found == pytest.approx(wanted, rel=1e-8)
    same = counted(torch.from_numpy(one))
    assert frechet_distance(same, same) == pytest.approx(0, abs=1e-9)
    few = counted(torch.from_numpy(one[:4]))  # fewer rows than numbers in each
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ZooError, match="1 pictures have no covariance"):
        counted(torch.from_numpy(one[:1])).moments()


def test_pictures_are_cut_as_the_scripts_do() -> None:
    values = torch.tensor([-2.0, -1.0, 0.0, 0.999, 1.0, 2.0])
    assert cut_to_pixels(values).tolist() == [0, 0, 127, 253, 254, 255]
    assert cut_to_pixels(values, 127.5).tolist() == [0, 0, 127, 254, 255, 255]


def test_drawings_and_reconstructions_have_distances() -> None:
    model = small()
    real = [pixels(8, 1), pixels(8, 2)]
    drawn = generation_distance(model, real, colours, 20, batch=8)
    assert drawn > 0
    assert drawn == generation_distance(model, real, colours, 20, batch=8)  # the same draws at every call
    assert reconstruction_distance(model, real, colours) > 0

    class Perfect(StyleALAE):
        def reconstruct(self, image: Tensor, **_: Any) -> Tensor:
            return (image + 1) * 127.5 / 127 - 1  # what is whole after a product with 127

    perfect = Perfect(**SETTINGS)
    assert reconstruction_distance(perfect, real, colours) < 1e-4

    def apart(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).abs().mean((1, 2, 3))

    assert perceptual_reconstruction(model, real, apart) > 0.1
    lengths = path_length(model, lambda a, b: (a - b).square().sum((1, 2, 3)), "end", 8, "none")
    assert lengths > 0


def test_drawings_are_not_the_same_in_every_batch() -> None:
    model = small()
    seen: list[Tensor] = []

    def keep(image: Tensor) -> Tensor:
        seen.append(image)
        return colours(image)

    generation_distance(model, [pixels(4)], keep, 8, batch=4)
    assert not torch.equal(seen[1], seen[2])


def test_what_is_lacking_is_said_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    lines = lacking(["ppl_full", "fid_generation"], None)
    assert len(lines) == 3
    assert any("vgg16" in line and "ZOO_OFFLINE forbids the network" in line for line in lines)
    assert any("inception_tensorflow" in line for line in lines)
    assert lines[-1] == "fid_generation needs pictures. Type --images FOLDER"


def test_the_command_measures_a_run_or_says_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from datamodules import Scenes

    data = Scenes(task="alone", domains=("plain",), size=16, batch_size=2, validation_count=2)
    model = small()
    fit(model, 1, tmp_path / "run", data=data, every=1, callbacks=[GrowResolution()], limit_val_batches=0)
    for number, image in enumerate(pixels(6)):
        (tmp_path / "images").mkdir(exist_ok=True)
        save_png(image, tmp_path / "images" / f"{number}.png")
    checkpoint = str(tmp_path / "run" / "checkpoints" / "iteration_00000001.ckpt")
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    words = [checkpoint, "--images", str(tmp_path / "images"), "--samples", "6", "--face-crop", "none"]
    assert main(words) == 2
    assert "is not on this machine" in capsys.readouterr().err

    class Distance(torch.nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return (a - b).square().mean((1, 2, 3))

    class Inception(torch.nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return colours(image)

    monkeypatch.setattr(latent_codes, "missing_weights", lambda name: [])
    monkeypatch.setattr(latent_codes, "VGGLPIPS", lambda pretrained: Distance())
    monkeypatch.setattr(latent_codes, "TensorFlowInception", lambda pretrained: Inception())
    output = tmp_path / "figures.json"
    assert main([*words, "--output", str(output)]) == 0
    assert set(json.loads(output.read_text())) == {f"{name}_of_6" for name in PROTOCOLS}
    assert main([*words[:3], "--samples", "7", "--protocols", "fid_reconstruction"]) == 2
    assert "7 pictures are asked for, and 6 are there: --samples 6" in capsys.readouterr().err


def test_pictures_are_cut_to_the_models_size(tmp_path: Path) -> None:
    save_png(pixels(1, side=40)[0][:, :, :32], tmp_path / "a.png")
    (batch,) = pictures_of(read_pictures([str(tmp_path)], 16, "middle"), 1)
    assert batch.shape == (1, 3, 16, 16)
