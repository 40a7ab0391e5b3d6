"""Aligned pictures of one domain, and digits with classes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.aligned import CELEBA_ALIGNED, AlignedPictures, AlignedTransform
from datamodules.digit_classes import ClassDigits
from datamodules.errors import DataError
from datamodules.preprocess import crop_box
from support.digits import coded, write_npz


def write_pictures(folder: Path, count: int, size: tuple[int, int] = (20, 24)) -> Path:
    """Pictures of one grey each that rises from left to right, named by number."""
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = np.tile(np.arange(size[0], dtype=np.uint8) + 10 * number, (size[1], 1))
        Image.fromarray(pixels).convert("RGB").save(folder / f"{number}.png")
    return folder


def module(train: Path, **options: Any) -> AlignedPictures:
    settings: dict[str, Any] = {"size": 20, "workers": 0, "batch_size": 2, "validation_count": 2, **options}
    return AlignedPictures(train=str(train), **settings)


def test_the_last_pictures_are_held_out(tmp_path: Path) -> None:
    data = module(write_pictures(tmp_path / "faces", 12), test_count=3)
    data.setup("fit")
    assert data.epoch_length == 9
    seen = {int(data.train_samples()(i)["image"].min()) for i in range(9)}
    assert seen == {10 * number for number in range(9)}
    test = data.fixed_samples("test")
    assert test is not None
    assert [int(test[i]["image"].min()) for i in range(len(test))] == [90, 100, 110]
    validation = data.fixed_samples("validation")
    assert validation is not None
    assert len(validation) == 2
    assert data.describe()["train pictures"] == 9


def test_half_of_the_training_pictures_are_mirrored(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "faces", 2)
    data, plain = module(folder), module(folder, flip=False)
    for found, wanted in ((data, 0.5), (plain, 0.0)):
        found.setup("fit")
        sample = found.train_samples()
        mirrored = [bool(image[0, 0, 0] > image[0, 0, -1]) for image in (sample(i)["image"] for i in range(400))]
        assert abs(sum(mirrored) / 400 - wanted) < 0.1
    assert torch.equal(data.train_samples()(5)["image"], data.train_samples()(5)["image"])


def test_celeba_is_cut_below_the_middle(tmp_path: Path) -> None:
    height, width = CELEBA_ALIGNED["height"], CELEBA_ALIGNED["width"]
    pixels = np.zeros((height, width, 3), np.uint8)
    top, left, side, _ = crop_box(**CELEBA_ALIGNED)
    pixels[top : top + side, left : left + side] = 200
    transform = AlignedTransform(load_size=side, size=side, multiple=1, crop="celeba")
    assert (transform.resize(pixels) == 200).all()
    with pytest.raises(DataError, match="20x24 pixels, and CelebA's aligned faces have 178x218"):
        transform.resize(np.zeros((24, 20, 3), np.uint8))
    with pytest.raises(DataError, match="does not lie inside"):
        crop_box(height=10, width=20, side=10, down=1)


def test_mistakes_are_named(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "faces", 3)
    with pytest.raises(DataError, match=r"of 3 pictures 3 would be held out.*--data.test_count 1"):
        module(folder, test_count=3).setup("fit")
    with pytest.raises(DataError, match=r"3 pictures, such as .* are trained on too"):
        module(folder, test=str(folder)).setup("fit")
    with pytest.raises(DataError, match="no pictures for the test"):
        module(folder).setup("test")
    with pytest.raises(DataError, match="crop is 'left'"):
        module(folder, crop="left")
    assert len(AlignedPictures.missing({"train": str(tmp_path / "nowhere")})) == 1
    assert AlignedPictures.missing({"train": str(folder)}) == []


def test_the_fingerprint_tells_pictures_apart(tmp_path: Path) -> None:
    prints = []
    for name, count in (("a/faces", 3), ("b/faces", 3), ("c/faces", 4)):
        data = module(write_pictures(tmp_path / name, count))
        data.setup("fit")
        prints.append(data.fingerprint())
    assert prints[0] == prints[1] != prints[2]


def digits(root: Path, **options: Any) -> ClassDigits:
    write_npz(root, "mnist", coded("mnist", train=12, test=5))
    return ClassDigits(root=str(root), **{"size": 16, "batch_size": 2, "held_out": 4, "validation_count": 3, **options})


def test_digits_are_held_out_and_keep_their_classes(tmp_path: Path) -> None:
    data = digits(tmp_path)
    data.setup("fit")
    assert data.epoch_length == 8
    images, labels = data.labelled("train")
    assert images.shape == (8, 1, 16, 16)
    values = images[:, 0, 0, 0] - 10  # a digit's grey says its number
    assert torch.equal(values % 10, labels)
    held_out, held_labels = data.labelled("same_writers")
    others = held_out[:, 0, 0, 0] - 10
    assert sorted([*values.tolist(), *others.tolist()]) == list(range(12))
    assert torch.equal(others % 10, held_labels)
    test, test_labels = data.labelled("test", 3)
    assert torch.equal(test[:, 0, 0, 0], torch.tensor([22, 23, 24], dtype=torch.uint8))
    assert test_labels.tolist() == [2, 3, 4]
    trained = {int(data.train_samples()(i)["image"][0, 0, 0]) - 10 for i in range(8)}
    assert trained == set(values.tolist())
    assert set(data.train_samples()(0)) == {"image"}
    assert len(data.fixed_samples("validation")) == 3
    assert data.fixed_samples("test")[4]["label"] == 6


def test_digits_that_are_not_there_are_said_before_anything_is_built(tmp_path: Path) -> None:
    assert len(ClassDigits.missing({"root": str(tmp_path)})) == 1
    assert ClassDigits.missing({"root": str(tmp_path), "download": True}) == []
    with pytest.raises(DataError, match=r"12 training digits, and 12 are to be held out: --data.held_out 2"):
        digits(tmp_path, held_out=12).setup("fit")
    with pytest.raises(DataError, match="channels is 2"):
        digits(tmp_path, channels=2)


def test_the_fingerprint_of_digits_knows_what_is_held_out(tmp_path: Path) -> None:
    prints = []
    for options in ({}, {}, {"held_out": 5}):
        data = digits(tmp_path, **options)
        data.setup("fit")
        prints.append(data.fingerprint())
    assert prints[0] == prints[1] != prints[2]
