"""Scenes of several domains, judged on rooms whose figures are known."""

import pytest
import torch
from torch import Tensor

from datamodules import Scenes
from zoo.core.translator import Translator
from zoo.errors import ZooError
from zoo.metrics.domain_scenes import measure, palette_spread

LOOKS = ("plain", "striped", "checked")


class Copier(Translator):
    """Gives the reference itself, or what was there tinted by the latent."""

    def __init__(self) -> None:
        super().__init__()
        self.domains, self.image_size, self.latent_channels = list(LOOKS), 64, 3

    def translate(
        self, image: Tensor, *, to: str = "", reference: Tensor | None = None, latent: Tensor | None = None
    ) -> Tensor:
        if reference is not None:
            return reference
        assert latent is not None
        return (0.5 * image + 0.5 * latent.sign()[:, :, None, None]).clamp(-1, 1)


def test_all_ordered_pairs_are_judged_and_random_styles_compared() -> None:
    said: list[str] = []
    measures = measure(Copier(), Scenes(task="domains", domains=LOOKS), count=4, outputs=3, say=said.append)
    assert set(measures["pairs"]) == {f"{a}2{b}" for a in LOOKS for b in LOOKS if a != b}
    assert len(said) == 6
    assert measures["report"]["images"] == 24
    # References have the wanted look, and their objects lie elsewhere; the truth has all it should have.
    assert measures["report"]["style_accuracy"] > 0.9
    assert measures["report"]["object_iou"] < 0.5
    assert measures["report"]["counterpart/style_accuracy"] > 0.9
    assert measures["report"]["style_choice"] > 0.8
    assert measures["latent_style_accuracy"] < 0.5
    assert measures["repeated"] == 0
    assert measures["diversity"] > 0.05
    assert measures["true"] > 0.05


def test_palettes_of_equal_pictures_lie_nowhere_apart() -> None:
    image, mask = torch.zeros(1, 3, 64, 64), torch.ones(1, 1, 64, 64)
    assert palette_spread([image, image, image], mask).item() == 0
    # Two greys 0.5 apart: all six colours differ by it.
    assert palette_spread([image, image + 1], mask).item() == pytest.approx((6 / 8) ** 0.5 / 2, rel=0.01)


def test_numbers_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ZooError, match="each must be at least 2"):
        measure(Copier(), Scenes(task="domains", domains=LOOKS), outputs=1)
