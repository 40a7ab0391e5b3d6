"""Scenes of several domains, judged on rooms whose figures are known."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules import Scenes
from zoo.core.checkpoints import SafeCheckpointIO
from zoo.core.translator import Translator
from zoo.errors import ZooError
from zoo.metrics.domain_scenes import main, measure, palette_spread
from zoo.starganv2 import StarGANv2

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


def test_the_command_judges_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small: dict[str, Any] = {
        "image_size": 32,
        "channels": 2,
        "max_channels": 4,
        "style_channels": 3,
        "latent_channels": 2,
    }
    for name, domains in (("good", list(LOOKS)), ("other", ["cat", "dog"])):
        model = StarGANv2(domains=domains, mapping_channels=4, **small)
        kept = {"room": "starganv2", "iteration": 0, "stage": 0, "frozen": [], "seed": 0, "ranks": []}
        checkpoint = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams), "zoo": kept}
        SafeCheckpointIO().save_checkpoint(checkpoint, tmp_path / f"{name}.ckpt")
    words = [str(tmp_path / "good.ckpt"), "--count", "2", "--outputs", "2", "--output", str(tmp_path / "report.json")]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "diversity of random styles" in said.out
    assert "least style accuracy" in said.out
    assert set(json.loads((tmp_path / "report.json").read_text())["pairs"]) == {
        f"{a}2{b}" for a in LOOKS for b in LOOKS if a != b
    }
    assert main([str(tmp_path / "other.ckpt")]) == 2
    assert "no look 'cat'" in capsys.readouterr().err
