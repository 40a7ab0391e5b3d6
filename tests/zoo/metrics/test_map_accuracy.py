"""The map protocol: the acceptance list, its readings, and who must fail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from zoo.core import Translator
from zoo.core.images import from_uint8
from zoo.errors import ZooError
from zoo.metrics.map_accuracy import (
    ELSEWHERE,
    MODEL,
    READINGS,
    SOURCE,
    find_pairs,
    measure,
    pixel_accuracy,
)

# 14: identical pictures, and pictures shifted by 17 grey levels ---------------------------------------------------------------------


def grey(value: int) -> Tensor:
    return torch.full((2, 3, 4, 5), value, dtype=torch.uint8)


@pytest.mark.parametrize("reading", READINGS)
def test_identical_pictures_and_shifted_ones(reading: str) -> None:
    assert pixel_accuracy(grey(100), grey(100), reading=reading).tolist() == [1, 1]  # type: ignore[arg-type]
    assert pixel_accuracy(grey(117), grey(100), reading=reading).tolist() == [0, 0]  # type: ignore[arg-type]
    assert pixel_accuracy(grey(83), grey(100), reading=reading).tolist() == [0, 0]  # type: ignore[arg-type]
    assert pixel_accuracy(grey(117), grey(100), tolerance=30, reading=reading).tolist() == [1, 1]  # type: ignore[arg-type]


def test_the_readings_differ_where_channels_do() -> None:
    true, made = grey(100), grey(100)
    made[:, 0] = 116  # within the tolerance, itself included
    assert [pixel_accuracy(made, true, reading=reading)[0] for reading in READINGS] == [1, 1, 1]
    made[:, 1] = 116  # the distance of the colours is 22.6
    assert [pixel_accuracy(made, true, reading=reading)[0] for reading in READINGS] == [1, 1, 0]
    made[:, 1] = 117
    shares = [pixel_accuracy(made, true, reading=reading)[0].item() for reading in READINGS]
    assert shares == [0, pytest.approx(2 / 3), 0]
    made[:, 1] = 100
    made[1, :, 0] = 255  # one of four rows of the second picture
    assert pixel_accuracy(made, true).tolist() == [1, 0.75]


def test_only_maps_of_one_shape_are_compared() -> None:
    for made, reading in ((grey(1)[:1], "all_channels"), (grey(1).float(), "all_channels"), (grey(1), "hue")):
        with pytest.raises(ZooError):
            pixel_accuracy(made, grey(1), reading=reading)  # type: ignore[arg-type]


# Pictures on disk ---------------------------------------------------------------------------------------------------------------------


PLACES = 4


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Noisy pictures and their negatives, under the names of the published data set."""
    source, target = tmp_path / "testA", tmp_path / "testB"
    numbers = np.random.default_rng(0)
    for folder in (source, target):
        folder.mkdir()
    for place in range(PLACES):
        pixels = numbers.integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(source / f"{place + 8}_A.png")
        Image.fromarray(255 - pixels).save(target / f"{place + 8}_B.png")
    return source, target


class Inverts(Translator):
    """The true translation."""

    def translate(self, image: Tensor, *, to: str = "target") -> Tensor:
        return -image


def test_pairs_are_told_by_their_names(folders: tuple[Path, Path]) -> None:
    source, target = folders
    pairs = find_pairs(str(source), str(target))
    names = [(a.name, b.name) for a, b in pairs]
    assert names == [(f"{place}_A.png", f"{place}_B.png") for place in (8, 9, 10, 11)]  # natural order
    (target / "9_B.png").rename(target / "90_B.png")
    with pytest.raises(ZooError, match=r"9_A.png has no counterpart in the other folder \(2 such pictures\)"):
        find_pairs(str(source), str(target))
    (target / "90_B.png").rename(target / "9_B.png")
    Image.new("RGB", (4, 4)).save(source / "9.png")
    with pytest.raises(ZooError, match="have one name"):
        find_pairs(str(source), str(target))


def test_a_true_translator_is_right_everywhere_and_an_identity_is_what_it_is(folders: tuple[Path, Path]) -> None:
    pairs = find_pairs(*map(str, folders))
    report = measure(pairs, Inverts(), size=16)
    assert report["pictures"] == PLACES
    assert report["accuracy"][MODEL] == dict.fromkeys(READINGS, 1.0)
    for row in (SOURCE, ELSEWHERE):
        assert report["accuracy"][row]["all_channels"] < 0.05
        assert 0.05 < report["accuracy"][row]["per_channel"] < 0.25

    class Copies(Translator):
        def translate(self, image: Tensor, *, to: str = "target") -> Tensor:
            return image

    copied = measure(pairs, Copies(), size=16)["accuracy"]
    assert copied[MODEL] == copied[SOURCE]
    with pytest.raises(ZooError, match="1 pairs are too few"):
        measure(pairs[:1], None)


def test_a_map_of_another_place_is_the_previous_ones(folders: tuple[Path, Path]) -> None:
    pairs = find_pairs(*map(str, folders))
    maps = [torch.from_numpy(np.array(Image.open(target))).permute(2, 0, 1)[None] for _, target in pairs]
    expected = sum(pixel_accuracy(maps[i - 1], maps[i], reading="per_channel").item() for i in range(PLACES)) / PLACES
    report = measure(pairs, None, size=16)
    assert MODEL not in report["accuracy"]
    assert report["accuracy"][ELSEWHERE]["per_channel"] == pytest.approx(expected)
    assert from_uint8(maps[0]).max() <= 1
