"""Codes of digits, read by classifiers: from a run's folder to the table."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from datamodules import ClassDigits
from support.digits import printed, write_npz
from zoo.core.images import from_uint8
from zoo.errors import ZooError
from zoo.metrics.digit_codes import PUBLISHED, format_report, measure


class Pixels:
    """Gives pixels for features: the printed digits are told apart by them."""

    device = torch.device("cpu")

    def features(self, image: Tensor) -> dict[str, Tensor]:
        return {"short": image[:, :, ::2, ::2].flatten(1), "long": image.flatten(1)}


class Nothing(Pixels):
    """Gives features that say nothing."""

    def features(self, image: Tensor) -> dict[str, Tensor]:
        return {name: torch.ones(len(image), 2) for name in ("short", "long")}


@pytest.fixture
def data(tmp_path: Path) -> ClassDigits:
    write_npz(tmp_path / "digits", "mnist", printed(train=300, test=60))
    return ClassDigits(root=str(tmp_path / "digits"), size=16, held_out=60, validation_count=20)


def test_good_features_are_read_and_empty_ones_are_not(data: ClassDigits) -> None:
    good, bad = measure(Pixels(), data), measure(Nothing(), data)
    wanted = {f"{writers}/{name}/{size}" for writers, name in PUBLISHED for size in ("short", "long")}
    assert set(good) == set(bad) == wanted
    assert min(good.values()) > 0.6
    assert max(bad.values()) < 0.35
    images, labels = data.labelled("test")
    assert Pixels().features(from_uint8(images))["long"].shape == (60, 256)
    assert labels.shape == (60,)
    table = format_report(good, 240)
    assert "93.79" in table
    assert table.count("\n") == 5


def test_the_nearest_neighbour_is_the_nearest(data: ClassDigits) -> None:
    (train, labels), (test, wanted) = data.labelled("train"), data.labelled("test")
    nearest = torch.cdist(from_uint8(test).flatten(1).double(), from_uint8(train).flatten(1).double()).argmin(1)
    share = float((labels[nearest] == wanted).double().mean())
    assert measure(Pixels(), data)["different writers/nearest neighbour/long"] == pytest.approx(share, abs=1e-9)


def test_one_class_teaches_nothing(data: ClassDigits) -> None:
    with pytest.raises(ZooError, match="The 1 digits to learn from are all of one class"):
        measure(Pixels(), data, 1)
