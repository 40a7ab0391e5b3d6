"""The measure of digit adaptation: an identity gains nothing, a true translator all there is to gain, a noise maker loses all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules import Digits
from datamodules.errors import DataError
from support.digits import printed, write_npz
from zoo.core import Translator
from zoo.errors import ZooError
from zoo.metrics.digits import (
    KEPT,
    DigitClassifier,
    accuracy,
    format_report,
    measure,
    train_classifier,
    translated,
)

QUICK: dict[str, Any] = {"iterations": 80, "batch_size": 32, "seeds": (0,)}


class Inverts(Translator):
    """The true translation of the printed digits, both ways."""

    def translate(self, image: Tensor, *, to: str = "target") -> Tensor:
        return -image


class Copies(Translator):
    """Leaves pictures as they are."""

    def translate(self, image: Tensor, *, to: str = "target") -> Tensor:
        return image


class Rolls(Translator):
    """Gives each picture the next one's translation: the look of the target, and another digit."""

    def translate(self, image: Tensor, *, to: str = "target") -> Tensor:
        return -image.roll(1, 0)


class MakesNoise(Translator):
    """Draws pictures that have nothing to do with what came in."""

    def translate(self, image: Tensor, *, to: str = "target") -> Tensor:
        with self.aside("translate"):
            return self.draws.normal("noise", image.shape).tanh()


class Grows(Translator):
    """Gives pictures of another size."""

    def translate(self, image: Tensor, *, to: str = "target") -> Tensor:
        return image.repeat_interleave(2, 2).repeat_interleave(2, 3)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Printed digits, light on dark in one set and dark on light in the other."""
    folder = tmp_path_factory.mktemp("digits")
    write_npz(folder, "mnist", printed(400, 100))
    write_npz(folder, "usps", printed(300, 100, seed=1, inverted=True))
    return folder


def data(root: Path, **options: Any) -> Digits:
    return Digits(**{"root": str(root), "size": 16, **options})


@pytest.fixture(scope="module")
def true(root: Path) -> dict[str, Any]:
    """The report on the true translation."""
    return measure(data(root), Inverts(), **QUICK)


def test_a_true_translator_closes_the_gap(true: dict[str, Any]) -> None:
    (lower,), (upper,) = true["accuracy"]["source only"], true["accuracy"]["target only"]
    assert lower <= 0.5
    assert upper >= 0.9
    assert true["accuracy"]["translated"][0] >= 0.9
    assert true["accuracy"][KEPT][0] >= 0.9
    assert true["trained_on"] == {"source only": 400, "translated": 400, "target only": 300}
    assert {key: true[key] for key in ("from", "to", "on", "digits", "seeds")} == {
        "from": "mnist",
        "to": "usps",
        "on": "test",
        "digits": 100,
        "seeds": [0],
    }


def test_an_identity_gains_nothing(root: Path, true: dict[str, Any]) -> None:
    report = measure(data(root), Copies(), **QUICK)
    assert report["accuracy"]["translated"] == report["accuracy"]["source only"] == true["accuracy"]["source only"]
    assert report["accuracy"][KEPT][0] <= 0.5


@pytest.mark.parametrize("room", [Rolls, MakesNoise])
def test_digits_that_are_not_kept_show(root: Path, room: type[Translator]) -> None:
    report = measure(data(root), room(), **QUICK, rows=("translated", "target only"))
    assert report["accuracy"]["translated"][0] <= 0.4
    assert report["accuracy"][KEPT][0] <= 0.4
    assert "source only" not in report["accuracy"]


def test_the_other_way_exchanges_everything(root: Path, true: dict[str, Any]) -> None:
    back = measure(data(root), Inverts(), to="source", **QUICK)
    assert (back["from"], back["to"]) == ("usps", "mnist")
    assert back["trained_on"] == {"source only": 300, "translated": 300, "target only": 400}
    forth = measure(data(root, source="usps", target="mnist"), Inverts(), **QUICK)
    assert back == forth
    assert back["accuracy"] != true["accuracy"]


def test_figures_repeat_and_leave_the_global_generator_alone(root: Path, true: dict[str, Any]) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert measure(data(root), Inverts(), **QUICK) == true
    assert torch.equal(torch.get_rng_state(), before)
    images, labels = _digits(root)
    one, again, other = (train_classifier(images, labels, seed=seed, iterations=5) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))
    assert not torch.equal(one.head[1].weight, other.head[1].weight)
    assert not one.training


def _digits(root: Path) -> tuple[Tensor, Tensor]:
    module = data(root)
    module.setup("fit")
    return module.labelled("source", "train")


def test_held_out_digits_can_be_read_in_place_of_test_digits(root: Path, tmp_path: Path) -> None:
    held_out = measure(data(root, validation_count=60), on="validation", **QUICK)
    assert held_out["on"] == "validation"
    assert held_out["digits"] == 60
    assert held_out["trained_on"] == {"source only": 340, "target only": 240}
    with pytest.raises(DataError, match="no digits for validation"):
        measure(data(root), on="validation", **QUICK)
    # Test digits are not even read.
    arrays = printed(300, 100, seed=1, inverted=True)
    write_npz(tmp_path, "mnist", printed(400, 100))
    write_npz(tmp_path, "usps", {name: array for name, array in arrays.items() if name.startswith("train")})
    assert measure(data(tmp_path, validation_count=60), on="validation", **QUICK) == held_out


def test_labels_of_the_target_move_nothing_but_the_target_only_classifier(
    root: Path, tmp_path: Path, true: dict[str, Any]
) -> None:
    write_npz(tmp_path, "mnist", printed(400, 100))
    lies = printed(300, 100, seed=1, inverted=True)
    lies["train_labels"] = (lies["train_labels"] + 1) % 10
    write_npz(tmp_path, "usps", lies)
    report = measure(data(tmp_path), Inverts(), **QUICK)
    for row in ("source only", "translated"):
        assert report["accuracy"][row] == true["accuracy"][row]
    assert report["accuracy"]["target only"][0] <= 0.1
    assert report["accuracy"][KEPT][0] <= 0.1


def test_translations_are_taken_as_they_would_be_saved(root: Path) -> None:
    class Overshoots(Translator):
        def translate(self, image: Tensor, *, to: str = "target") -> Tensor:
            return torch.where(image > 0, torch.full_like(image, 7.0), torch.full_like(image, float("nan")))

    images, _ = _digits(root)
    out = translated(Overshoots(), images[:7], like=images, at_once=3)
    assert out.dtype == torch.uint8
    assert torch.equal(out, torch.where(images[:7] > 127, 255, 0).to(torch.uint8))


def test_the_classifier_is_as_small_as_it_says() -> None:
    assert sum(p.numel() for p in DigitClassifier(1, 32).parameters()) == 33_546
    assert DigitClassifier(3, 28)(torch.zeros(2, 3, 28, 28)).shape == (2, 10)
    with pytest.raises(ZooError, match=r"7 pixels are too few: --data\.size 32"):
        DigitClassifier(1, 7)


def test_accuracy_counts() -> None:
    class Reads(DigitClassifier):
        def forward(self, image: Tensor) -> Tensor:
            return torch.nn.functional.one_hot(((image[:, 0, 0, 0] + 1) * 4.5).round().long(), 10).float()

    labels = torch.arange(10).repeat(130)
    images = (labels * 255 / 9).round().to(torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8)
    assert accuracy(Reads(1, 8), images, labels) == 1
    wrong = labels.clone()
    wrong[600:613] = (wrong[600:613] + 1) % 10
    assert accuracy(Reads(1, 8), images, wrong) == pytest.approx(0.99)


def test_the_table(true: dict[str, Any]) -> None:
    report = true | {
        "seeds": [3, 4],
        "accuracy": {"source only": [0.5, 0.7], "translated": [0.25, 0.25], KEPT: [0.75, 0.5]},
    }
    assert format_report(report).splitlines() == [
        "mnist to usps: share of 100 test digits of usps that are read rightly",
        "trained on                            mean  spread   seed 3   seed 4",
        "source only, 400 digits             0.6000  0.1414   0.5000   0.7000",
        "translated, 400 digits              0.2500  0.0000   0.2500   0.2500",
        "kept in translation, of mnist       0.6250  0.1768   0.7500   0.5000",
        "Each classifier saw 80 batches of 32.",
    ]
    assert "       -   " in format_report(true)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": ("source",)}, "no row 'source'; there are: source only, translated, target only"),
        ({"on": "train"}, "on is 'train'"),
        ({"to": "both"}, "to is 'both'"),
        ({"seeds": ()}, "needs a seed at least"),
        ({"iterations": 0}, "at least 1"),
    ],
)
def test_nonsense_is_refused(root: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ZooError, match=message):
        measure(data(root), **options)


def test_pictures_of_another_shape_are_explained(root: Path) -> None:
    with pytest.raises(
        ZooError, match=r"Grows made pictures \(1, 32, 32\) of \(1, 16, 16\).*--data\.channels, --data\.size"
    ):
        measure(data(root), Grows(), **QUICK)


def test_a_coloured_source_is_seen_in_the_target_s_channels(tmp_path: Path) -> None:
    class Fades(Translator):
        def translate(self, image: Tensor, *, to: str = "target") -> Tensor:
            assert image.shape[1] == 3
            return image[:, :1]

    coloured = printed(100, 20)
    for name in ("train_images", "test_images"):
        coloured[name] = np.stack([coloured[name]] * 3, 3)
    write_npz(tmp_path, "svhn", coloured)
    write_npz(tmp_path, "usps", printed(100, 20, seed=1))
    report = measure(data(tmp_path, source="svhn"), Fades(), **QUICK)
    assert report["accuracy"]["source only"] == report["accuracy"]["translated"]
    assert report["accuracy"]["source only"][0] > 0.5
