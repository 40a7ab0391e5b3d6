import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from datamodules.errors import DataError
from datamodules.preprocess import Transform, side_before_crop
from datamodules.sampling import sample_generator, to_chw
from support.pictures import pixels
from zoo.core.images import from_uint8

ROOT = Path(__file__).resolve().parents[2]


def golden_file() -> Path:
    roots = [Path(os.environ.get("GOLDEN_ROOT", "")), ROOT / "../shared/golden", ROOT / "tests/golden/data"]
    for root in roots:
        if (path := root / "cyclegan/data_transforms.safetensors").is_file():
            return path
    pytest.skip("golden file cyclegan/data_transforms.safetensors is not here: set GOLDEN_ROOT")


@pytest.mark.golden
def test_official_transforms_to_the_bit() -> None:
    with safe_open(golden_file(), "pt") as file:
        picture = file.get_tensor("in/image_uint8_hwc").numpy()
        cases = json.loads(file.metadata()["config"])["cases"]
        assert cases
        for number, case in enumerate(cases):
            transform = Transform(case["preprocess"], case["load_size"], case["crop_size"])
            prepared = transform(picture, crop=tuple(case["crop_pos"]), flip=case["flip"])
            torch.testing.assert_close(
                from_uint8(to_chw(prepared)), file.get_tensor(f"out/case{number}"), rtol=0, atol=0
            )


@pytest.mark.parametrize(
    ("preprocess", "height", "width", "expected"),
    [
        ("resize_and_crop", 50, 30, (16, 16)),
        ("crop", 50, 30, (16, 16)),
        ("scale_width", 50, 30, (32, 20)),  # 33 rounded
        ("scale_width", 10, 30, (16, 20)),  # 6, but at least the crop's 16
        ("scale_width", 17, 20, (16, 20)),  # fits already
        ("scale_width_and_crop", 10, 30, (16, 16)),
        ("none", 50, 30, (48, 32)),
        ("none", 1, 6, (4, 8)),
    ],
)
def test_sizes(preprocess: str, height: int, width: int, expected: tuple[int, int]) -> None:
    transform = Transform(preprocess, 20, 16)  # type: ignore[arg-type]
    assert transform(pixels(height, width)).shape == (*expected, 3)
    assert transform.result_shape(height, width) == expected
    assert transform.resize(pixels(height, width)).shape[:2] == transform.resized_shape(height, width)


def test_grey_is_converted_before_the_resize() -> None:
    picture = pixels(50, 30)
    found = Transform("resize_and_crop", 16, 16, channels=1)(picture)
    expected = Image.fromarray(picture).convert("L").resize((16, 16), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(found[:, :, 0], np.asarray(expected))


@pytest.mark.parametrize("channels", [1, 3])
def test_bilinear_is_pil(channels: int) -> None:
    picture = pixels(50, 30)
    found = Transform(load_size=20, size=20, channels=channels, interpolation="bilinear")(picture)
    given = Image.fromarray(picture).convert("L" if channels == 1 else "RGB")
    expected = np.asarray(given.resize((20, 20), Image.Resampling.BILINEAR)).reshape(20, 20, channels)
    np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(found, Transform(load_size=20, size=20, channels=channels)(picture))
    sized = Transform(load_size=50, size=48, channels=channels, interpolation="bilinear")
    assert sized(pixels(50, 50)).shape == (48, 48, channels)
    assert "bilinear" in sized.fixed_settings


@pytest.mark.parametrize("channels", [1, 3])
def test_bilinear_of_old_tensorflow_takes_two_neighbours_however_much_a_picture_shrinks(channels: int) -> None:
    transform = Transform(load_size=16, size=16, channels=channels, interpolation="bilinear_tensorflow")
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[::4, ::4] = 200  # the pixels where the new ones lie
    assert transform(picture).shape == (16, 16, channels)
    assert (transform(picture) == 200).all()
    ramp = np.repeat(
        np.array([[[0], [100]]], np.uint8), 3, 2
    )  # two pixels side by side, to four: 0, 1/2, 1, and the edge again
    wide = Transform("resize_and_crop", 4, 4, channels=channels, interpolation="bilinear_tensorflow")(ramp)
    assert wide[0, :, 0].tolist() == [0, 50, 100, 100]
    assert "bilinear_tensorflow" in transform.fixed_settings


@pytest.mark.parametrize(("size", "side"), [(64, 72), (128, 143), (256, 286), (512, 572)])
def test_the_side_before_the_crop_is_in_proportion(size: int, side: int) -> None:
    assert side_before_crop(size) == side


def test_flip_mirrors_after_the_crop() -> None:
    transform = Transform("crop", size=8)
    picture = pixels(20, 30)
    np.testing.assert_array_equal(transform(picture, crop=(3, 5)), picture[5:13, 3:11])
    np.testing.assert_array_equal(transform(picture, crop=(3, 5), flip=True), picture[5:13, 10:2:-1])


def test_draws_cover_every_place_and_both_flips() -> None:
    transform = Transform(load_size=20, size=16)
    draws = [transform.draw(20, 20, sample_generator(0, i)) for i in range(1000)]
    assert {left for (left, _), _ in draws} == {top for (_, top), _ in draws} == set(range(5))
    assert 400 < sum(flip for _, flip in draws) < 600
    assert draws[7] == transform.draw(20, 20, sample_generator(0, 7))


def test_evaluation_resizes_to_the_crop_and_keeps_all_of_the_picture() -> None:
    evaluation = Transform(load_size=20, size=16).for_evaluation()
    picture = pixels(50, 30)
    expected = np.asarray(Image.fromarray(picture).resize((16, 16), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(evaluation(picture), expected)


def test_a_crop_outside_the_picture_is_refused() -> None:
    with pytest.raises(
        DataError, match="A crop of 16 x 16 pixels at left 5, top 0 does not lie inside a picture of 20 x 20"
    ):
        Transform(load_size=20, size=16)(pixels(), crop=(5, 0))
    with pytest.raises(DataError, match="Set a smaller size"):
        Transform("crop", size=16)(pixels(8, 40))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preprocess": "resize-and-crop"}, "did you mean 'resize_and_crop'?"),
        ({"preprocess": "width"}, "did you mean 'scale_width'?"),
        ({"size": -1}, "size is -1"),
        ({"load_size": 0}, "load_size is 0"),
        ({"channels": 4}, "channels is 4"),
        ({"interpolation": "nearest"}, "must be one of bicubic, bilinear"),
        ({"size": 300}, "Set load_size to 300 or more"),
    ],
)
def test_nonsense_is_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message.replace("?", r"\?")):
        Transform(**arguments)  # type: ignore[arg-type]


def test_a_large_crop_without_resize_needs_no_load_size() -> None:
    assert Transform("crop", load_size=20, size=64)(pixels(70, 70)).shape == (64, 64, 3)
