import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as torchvision

from support.pictures import pixels
from zoo.core import images

ALL = torch.arange(256, dtype=torch.uint8)


def by_torchvision(values: torch.Tensor) -> torch.Tensor:
    picture = Image.fromarray(values.reshape(16, 16).numpy())
    return torchvision.normalize(torchvision.to_tensor(picture), [0.5], [0.5]).flatten()


def test_all_bytes_scale_as_to_tensor_and_normalize_do() -> None:
    assert torch.equal(images.from_uint8(ALL), by_torchvision(ALL))
    assert images.from_uint8(ALL).dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_all_bytes_scale_the_same_on_a_gpu() -> None:
    assert torch.equal(images.from_uint8(ALL.cuda()).cpu(), by_torchvision(ALL))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uint8_survives_the_round_trip(dtype: torch.dtype) -> None:
    assert torch.equal(images.to_uint8(images.from_uint8(ALL).to(dtype)), ALL)


def test_to_uint8_rounds_to_nearest_and_clamps() -> None:
    values = torch.tensor([-2.0, -1.0, 0.6 / 127.5 - 1, 0.4 / 127.5 - 1, 1.0, 3.0, float("nan"), float("inf")])
    assert images.to_uint8(values).tolist() == [0, 0, 1, 0, 255, 255, 0, 255]
    assert images.to_uint8(torch.ones(1, dtype=torch.bfloat16)).item() == 255


def test_pil_round_trip() -> None:
    picture = Image.fromarray(pixels())
    tensor = images.from_pil(picture)
    assert tensor.shape == (3, 24, 32)
    np.testing.assert_array_equal(np.asarray(images.to_pil(tensor)), pixels())
    assert images.to_pil(tensor[:1]).mode == "L"
    with pytest.raises(ValueError, match=r"not \(2, 24, 32\)"):
        images.to_pil(tensor[:2])


@pytest.mark.parametrize("channels", [1, 3])
def test_resize_pixels_is_pil(channels: int) -> None:
    picture = pixels()[:, :, :channels]
    found = images.resize_pixels(picture, 11, 17)
    expected = Image.fromarray(picture.squeeze()).resize((17, 11), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(found.squeeze(), np.asarray(expected))
    assert found.shape == (11, 17, channels)
    assert images.resize_pixels(picture, 24, 32) is picture


@pytest.mark.parametrize("filter", ["bilinear", "bicubic"])
def test_resize_is_antialiased_and_differentiable(filter: str) -> None:
    stripes = torch.zeros(1, 1, 32, 32)
    stripes[..., ::2] = 1
    small = images.resize(stripes.requires_grad_(), 8, 8, filter=filter)  # type: ignore[arg-type]
    assert small.shape == (1, 1, 8, 8)
    assert (small[..., 2:-2] - 0.5).abs().max() < 0.1
    small.sum().backward()
    assert stripes.grad is not None
    assert images.resize(stripes, 32, 32) is stripes


def test_grid_lays_out_named_columns() -> None:
    columns = {"source": torch.full((2, 3, 8, 60), -1.0), "mask": torch.zeros(1, 1, 6, 40)}
    sheet = np.asarray(images.grid(columns, gap=2))
    top = sheet.shape[0] - 2 * (8 + 2)
    assert sheet.shape[1] == 2 + 60 + 2 + 40 + 2
    assert (sheet[top : top + 8, 2:62] == 0).all()
    assert (sheet[top + 10 : top + 18, 2:62] == 0).all()
    assert (sheet[top : top + 6, 64:104] == 128).all()
    assert (sheet[top + 10 :, 64:] == 255).all()
    assert (sheet[: top - 2, 2:62] < 128).any()
    assert (sheet[: top - 2, 64:104] < 128).any()


def test_grid_gives_long_labels_room() -> None:
    narrow = images.grid({"reconstruction of the source": torch.zeros(1, 3, 8, 8)})
    assert narrow.width > 100
    with pytest.raises(ValueError, match="at least one column"):
        images.grid({})


def test_save_png_is_whole_or_not_there(tmp_path: Path) -> None:
    path = images.save_png(images.from_pil(Image.fromarray(pixels())), tmp_path / "new/a.png")
    np.testing.assert_array_equal(np.asarray(Image.open(path)), pixels())

    class Failing(Image.Image):
        def save(self, *arguments: object, **options: object) -> None:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        images.save_png(Failing(), path)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), pixels())
    assert [entry.name for entry in path.parent.iterdir()] == ["a.png"]


def test_psnr() -> None:
    a = torch.zeros(2, 3, 4, 4)
    b = a.clone()
    b[1] += 0.2
    found = images.psnr(a, b)
    assert found[0] == float("inf")
    assert found[1].item() == pytest.approx(20.0, abs=1e-5)
    levels = torch.tensor([[[[0]]]], dtype=torch.uint8)
    assert images.psnr(levels, levels + 255, data_range=255).item() == 0


@pytest.mark.parametrize("scale", [0.37, 0.5, 1.0, 1.26, 2.0])
def test_the_cubic_resize_keeps_flat_pictures_and_rounds_sizes_up(scale: float) -> None:
    grey = images.from_uint8(torch.full((1, 3, 21, 34), 90, dtype=torch.uint8))
    resized = images.resize_cubic(grey, scale)
    assert resized.shape == (1, 3, math.ceil(21 * scale), math.ceil(34 * scale))
    # Cut to 8 bits, not rounded: what float32 makes of a grey level may lie just below it.
    assert torch.allclose(resized, resized[0, 0, 0, 0].expand_as(resized), atol=1e-6)
    assert ((resized - grey[0, 0, 0, 0]).abs() <= 2 / 255 + 1e-6).all()


def test_the_cubic_resize_cuts_to_eight_bits_and_passes_no_gradient() -> None:
    picture = (torch.rand(1, 3, 9, 8) * 2 - 1).requires_grad_()
    cut = images.resize_cubic(picture, 1.0)
    assert not cut.requires_grad
    levels = (cut + 1) * 127.5
    assert torch.allclose(levels, levels.round(), atol=1e-3)
    assert ((picture - cut) < 2 / 255 + 1e-6).all()
    assert images.resize_cubic(picture.double(), 0.5).dtype == torch.float64
    with pytest.raises(AssertionError, match="a scale or a size"):
        images.resize_cubic(picture)
