from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.errors import DataError
from datamodules.imagenet291 import SIDE, crop_box, crop_object, cut_crops
from support.pictures import pixels


@pytest.mark.parametrize(
    ("height", "width", "box", "expected"),
    [
        (300, 300, (100, 100, 60, 60), (95, 95, 164, 164)),  # a square of sqrt(4/3) * 60 = 69.3 around (130, 130)
        (300, 300, (0, 100, 60, 60), (0, 95, 69, 164)),  # moved to the right
        (300, 300, (240, 100, 60, 60), (230, 95, 299, 164)),  # moved to the left: by half a side, rounded, so 1 is left
        (300, 300, (100, 0, 20, 120), (50, 0, 170, 120)),  # as high as the object
        (100, 300, (10, 10, 200, 80), (43, 0, 176, 100)),  # the picture is too low for a square: 4/3 of its height
        (100, 120, (0, 0, 120, 100), (0, 0, 120, 100)),
        (300, 300, (10.5, 11.5, 20, 20), (8, 10, 31, 33)),  # 10.5 -> 10, 11.5 -> 12
    ],
)
def test_boxes_become_crops(
    height: int, width: int, box: tuple[float, float, float, float], expected: tuple[int, ...]
) -> None:
    assert crop_box(height, width, box) == expected


def test_crops_lie_inside_the_picture() -> None:
    generator = np.random.default_rng(0)
    for _ in range(500):
        height, width = (int(side) for side in generator.integers(60, 500, 2))
        w, h = (generator.uniform(20, side) for side in (width, height))
        box = (generator.uniform(0, width - w), generator.uniform(0, height - h), w, h)
        left, top, right, bottom = crop_box(height, width, box)
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        middle = box[0] + w / 2, box[1] + h / 2
        assert left <= middle[0] <= right
        assert top <= middle[1] <= bottom


def test_a_crop_is_resized_bilinearly() -> None:
    picture = pixels(120, 160)
    left, top, right, bottom = crop_box(120, 160, (20, 30, 60, 40))
    expected = Image.fromarray(picture[top:bottom, left:right]).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(crop_object(picture, (20, 30, 60, 40)), np.asarray(expected))


def test_a_local_imagenet_is_cut_by_the_list(tmp_path: Path) -> None:
    (tmp_path / "imagenet" / "n01").mkdir(parents=True)
    Image.fromarray(pixels(64, 48)).save(tmp_path / "imagenet" / "n01" / "a.JPEG")
    (tmp_path / "boxes" / "deep").mkdir(parents=True)
    boxes = tmp_path / "boxes" / "deep" / "n01.bbox.txt"
    boxes.write_text("a.JPEG 10.2 10 20 20 0.9\n\nb.JPEG 1 2 3 4\n")
    listing = tmp_path / "list.txt"
    listing.write_text("n01\na.JPEG train/7_bird/1.jpg\n")
    given = (tmp_path / "imagenet", listing, tmp_path / "boxes", tmp_path / "out")
    assert cut_crops(*given) == 1
    with Image.open(tmp_path / "out" / "train" / "7_bird" / "1.jpg") as crop:
        assert crop.size == (SIDE, SIDE)
    for text, said in [
        ("n02\n", "there is no n02.bbox.txt"),
        ("n01\nb.JPEG train/7_bird/1.jpg\n", "Is .* the folder of ImageNet's training pictures"),
        ("n01\nc.JPEG train/7_bird/1.jpg\n", "has no box of c.JPEG"),
        ("n01\na.JPEG ../1.jpg\n", "leads out of the folders"),
        ("a.JPEG train/7_bird/1.jpg\n", "neither a folder nor a picture"),
    ]:
        listing.write_text(text)
        with pytest.raises(DataError, match=said):
            cut_crops(*given)
    boxes.write_text("a.JPEG 1 2\n")
    listing.write_text("n01\n")
    with pytest.raises(DataError, match="not a picture's name and four numbers"):
        cut_crops(*given)
    with pytest.raises(DataError, match="Give the one that holds n01440764"):
        cut_crops(tmp_path / "none", *given[1:])
