"""Named protocols: their parts against definitions, and what they say where weights or pictures are lacking."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from zoo.alae import StyleALAE
from zoo.core.images import save_png
from zoo.errors import ZooError
from zoo.metrics.latent_codes import (
    PROTOCOLS,
    cut_to_pixels,
    generation_distance,
    path_length,
    perceptual_reconstruction,
    pictures_of,
    read_pictures,
    reconstruction_distance,
    run_protocol,
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


def test_each_protocol_measures_its_own_kind(tmp_path: Path) -> None:
    for number, image in enumerate(pixels(6)):
        save_png(image, tmp_path / f"{number}.png")
    model, data = small(), read_pictures([str(tmp_path)], 16, "middle")

    def apart(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().mean((1, 2, 3))

    for name, protocol in PROTOCOLS.items():
        network = colours if "fid" in name else apart
        given = data if protocol.needs_images else None
        assert run_protocol(protocol, model, network, given, samples=6, crop="none") > 0
        if protocol.needs_images:
            with pytest.raises(ZooError, match="Type --images FOLDER"):
                run_protocol(protocol, model, network, samples=6)
    with pytest.raises(ZooError, match="7 pictures are asked for, and 6 are there: --count 6"):
        run_protocol(PROTOCOLS["alae-fid-reconstruction"], model, colours, data, samples=7)


def test_pictures_are_cut_to_the_models_size(tmp_path: Path) -> None:
    save_png(pixels(1, side=40)[0][:, :, :32], tmp_path / "a.png")
    (batch,) = pictures_of(read_pictures([str(tmp_path)], 16, "middle"), 1)
    assert batch.shape == (1, 3, 16, 16)
