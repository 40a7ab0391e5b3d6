"""Directions along which attributes change, and what edits of scenes are measured by."""

import pytest
import torch
from torch import Tensor

from zoo.core.images import to_uint8
from zoo.errors import ZooError
from zoo.metrics.judge import Judge
from zoo.metrics.latent_directions import explained, factor_directions, label_directions
from zoo.metrics.scene_codes import (
    FACTORS,
    SIZE_STEP,
    SceneMeasure,
    circle_distance,
    format_scenes,
    hue,
    measure_factors,
)

SIDE = 64


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Discs:
    """Paints a disc by six numbers behind a linear map, and reads them off again; so edits are exact.

    Args:
        deaf: whether edits change nothing.
    """

    device = torch.device("cpu")

    def __init__(self, deaf: bool = False) -> None:
        self.deaf = deaf
        self.map = torch.linalg.qr(numbers(8, 8, seed=5)).Q[:6]  # 6 numbers to 8
        self.directions: dict[str, Tensor] = {}

    def decode(self, codes: Tensor) -> Tensor:
        shown = codes.double() @ self.map.T
        place = (torch.arange(SIDE) + 0.5).double() / SIDE
        radius = (shown[:, 3].clamp(min=0) / torch.pi**0.5)[:, None, None]
        apart = (place[None, :, None] - shown[:, 5, None, None]).square() + (place - shown[:, 4, None, None]).square()
        inside = ((radius - apart.sqrt()) * SIDE + 0.5).clamp(0, 1)[:, None]
        colour = shown[:, :3, None, None]
        return (2 * (inside * colour + (1 - inside) * 0.5) - 1).float()

    def encode(self, image: Tensor) -> Tensor:
        mask = ((image - image[:, :, :1, :1]).abs().amax(1, keepdim=True) > 0.1).double()
        return measure_factors(image, mask) @ self.map

    def at_level(self, image: Tensor) -> Tensor:
        return image

    def edit_codes(self, codes: Tensor, changes: dict[str, Tensor]) -> Tensor:
        if self.deaf:
            return codes
        return codes + torch.stack([v[:, None] * self.directions[name].to(codes) for name, v in changes.items()]).sum(0)


def discs(count: int = 48) -> tuple[Discs, Tensor]:
    """A model, and the numbers of its pictures: vivid colours, sizes and places that fit in."""
    u = numbers(count, 5, seed=1)
    angle = 2 * torch.pi * u[:, :1]
    colour = 0.5 + 0.45 * torch.cos(angle - 2 * torch.pi / 3 * torch.arange(3))
    colour = colour * (0.8 + 0.2 * u[:, 4:])
    shown = torch.cat([colour, 0.3 + 0.1 * u[:, 1:2], 0.4 + 0.2 * u[:, 2:4]], 1)
    return Discs(), shown


def test_a_disc_is_measured() -> None:
    model, shown = discs()
    image = model.decode(shown @ model.map)
    radius = (shown[:, 3] / torch.pi**0.5)[:, None, None]
    place = (torch.arange(SIDE) + 0.5).double() / SIDE
    apart = (place[None, :, None] - shown[:, 5, None, None]).square() + (place - shown[:, 4, None, None]).square()
    mask = (apart.sqrt() < radius - 1 / SIDE)[:, None].double()
    found = measure_factors(image, mask)
    torch.testing.assert_close(found[:, :3], shown[:, :3], atol=1e-3, rtol=0)
    torch.testing.assert_close(found[:, 3], shown[:, 3], atol=0.04, rtol=0)
    torch.testing.assert_close(found[:, 4:], shown[:, 4:], atol=0.01, rtol=0)
    assert not measure_factors(image, torch.zeros_like(mask)).any()


def test_regression_finds_the_map_that_made_the_codes() -> None:
    shown = numbers(200, 6, seed=2)
    rows = numbers(6, 8, seed=3)
    factors = dict(zip(FACTORS, shown.T, strict=True))
    codes = shown @ rows + 0.5 + 1e-9 * numbers(200, 8, seed=4)
    found = factor_directions(codes, factors)
    torch.testing.assert_close(torch.stack(list(found.values())), rows, atol=1e-6, rtol=0)
    assert min(explained(codes, factors, 100).values()) > 0.999
    unknown = explained(numbers(200, 8, seed=8), factors, 100)
    assert max(unknown.values()) < 0.3


def test_attributes_that_say_nothing_are_refused() -> None:
    codes, one = numbers(20, 3), numbers(20, 1)[:, 0]
    with pytest.raises(ZooError, match="size is the same in all 20 pictures"):
        factor_directions(codes, {"size": torch.ones(20)})
    with pytest.raises(ZooError, match="a, b follows from the others"):
        factor_directions(codes, {"a": one, "b": 2 * one})
    with pytest.raises(ZooError, match="2 pictures are too few"):
        factor_directions(codes[:2], {"a": one[:2], "b": one[:2]})


def test_labels_give_the_normal_between_them() -> None:
    codes = torch.randn(400, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    normal = torch.tensor([1.0, -2.0, 0.0, 0.5], dtype=torch.float64)
    found = label_directions(codes, {"smile": (codes @ normal > 0).long()})["smile"]
    assert float(torch.cosine_similarity(found, normal, dim=0)) > 0.98
    with pytest.raises(ZooError, match="smile: all 400 pictures have the label 1"):
        label_directions(codes, {"smile": torch.ones(400)})
    with pytest.raises(ZooError, match="labels are 0 or 1"):
        label_directions(codes, {"smile": torch.arange(400)})


def test_an_exact_edit_is_found_exact_and_a_deaf_one_deaf() -> None:
    judge = Judge.load(("plain",))
    figures = {}
    for deaf in (False, True):
        model, shown = discs()
        model.deaf = deaf
        images = to_uint8(model.decode(shown @ model.map))
        factors = dict(zip(FACTORS, shown.T, strict=True))
        model.directions = factor_directions(shown @ model.map, factors)
        measure = SceneMeasure(model, judge)
        figures[deaf] = {
            "hue": measure.hue_edit(images),
            "size": measure.size_edit(images),
            "size_down": measure.size_edit(images, -SIZE_STEP),
        }
        masks = measure.find(model.decode(shown @ model.map))
        figures[deaf]["reconstruction"] = measure.reconstructions(images, masks, torch.zeros(3, SIDE, SIDE))
    right, wrong = figures[False], figures[True]
    assert right["hue"]["hue_error"] < 15
    assert wrong["hue"]["hue_error"] == pytest.approx(120, abs=1)
    assert right["size"]["size_moved"] == pytest.approx(1, abs=0.25)
    assert right["size_down"]["size_moved"] == pytest.approx(1, abs=0.25)
    assert wrong["size"]["size_moved"] == 0
    assert right["size"]["colour_change"] < 0.05
    assert right["hue"]["middle_moved"] < 0.02
    assert right["hue"]["object_overlap"] > 0.9
    assert right["hue"]["background_change"] < 0.01
    assert right["hue"]["count"] == 48
    found = right["reconstruction"]
    assert found["object_iou"] > 0.9
    assert found["psnr"] > found["mean_image/psnr"] + 5
    assert found["mean_image/object_iou"] < 0.2
    assert "off by" in format_scenes(right)


def test_hues_lie_on_a_circle() -> None:
    colours = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [1.0, 1.0, 0], [0.5, 0.5, 0.5]])
    torch.testing.assert_close(hue(colours)[:4], torch.tensor([0, 1 / 3, 2 / 3, 1 / 6]))
    torch.testing.assert_close(
        circle_distance(torch.tensor([0.95, 0.2]), torch.tensor([0.05, 0.6])), torch.tensor([0.1, 0.4])
    )
