"""ImageNet291: how GP-UNIT cuts objects out of ImageNet's photographs, 600 of each of 291 classes for training.

The data set itself is not distributed: it is made from ImageNet with a list of files and of detected boxes that the authors
publish. What is here is the rule that turns a box into a crop (`generate_ImageNet291.py` of the official code).
"""

import math
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from datamodules.errors import DataError
from datamodules.pictures import decode

SIDE = 256
"""Side of a picture of the data set in pixels."""


def crop_box(height: int, width: int, box: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    """Where to cut a detected object out of a photograph: 4/3 of its area, near a square, inside the picture.

    Halves are rounded to the even neighbour, as Python's `round` does.

    Args:
        height: of the photograph in pixels.
        width: of the photograph in pixels.
        box: the detection as (left, top, width, height) in pixels; rounded before use.

    Returns:
        The crop as (left, top, right, bottom) in pixels, right and bottom not included.
    """
    x, y, w, h = map(round, box)
    side = min(max(math.sqrt(4 / 3 * h * w), h, w), height, width)
    left, right = _reach(round(x + w / 2), w, side, width)
    top, bottom = _reach(round(y + h / 2), h, side, height)
    return left, top, right, bottom


def _reach(centre: int, extent: int, side: float, end: int) -> tuple[int, int]:
    """From where to where a crop reaches along one axis, moved so that it stays between 0 and the picture's end."""
    if side < extent:  # the picture is too short along its other axis for a square around the object
        side = min(4 / 3 * side, extent)
    half = round(side / 2)
    shift = max(0, half - centre) or min(end - centre - half, 0)
    start = max(0, centre - half + shift)
    return start, min(start + round(side), end)


def crop_object(picture: NDArray[np.uint8], box: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    """Cut a detected object out of a photograph and bring it to 256 x 256 with PIL's bilinear filter.

    Args:
        picture: uint8 `h w 3`.
        box: the detection as (left, top, width, height) in pixels.

    Returns:
        uint8 `256 256 3`.
    """
    height, width = picture.shape[:2]
    crop = Image.fromarray(picture).crop(crop_box(height, width, box))
    return np.asarray(crop.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


Box = tuple[float, float, float, float]


def cut_crops(imagenet: Path, listing: Path, boxes: Path, output: Path) -> int:
    """Cut all objects of ImageNet291 out of a local ImageNet.

    The list has a line with the name of a folder of ImageNet (`n01440764`), then one per picture of it: its name there, and the place
    of the crop, such as `ImageNet291` has it: `train/7_bird/12.jpg`. A file `<folder>.bbox.txt` has a line per picture: its
    name, and left, top, width and height of its object.

    Args:
        imagenet: folder of the training pictures' folders.
        listing: the list.
        boxes: folder of the files of boxes, which may lie deeper.
        output: where the crops go, JPEG files of 256x256 as PIL writes them by itself.

    Returns:
        How many crops there are.

    Raises:
        DataError: a file is missing or is not as described, or no picture of ImageNet is there.
    """
    if not imagenet.is_dir():
        raise DataError(f"There is no folder {imagenet}. Give the one that holds n01440764, n01443537, ... of ImageNet")
    files = {path.name: path for path in boxes.rglob("*.bbox.txt")}
    folder, known, count = "", dict[str, Box](), 0
    for line in tqdm(listing.read_text(encoding="utf-8").splitlines(), desc="ImageNet291", unit="line", disable=None):
        words = line.split()
        if len(words) == 1:
            folder = words[0]
            if f"{folder}.bbox.txt" not in files:
                raise DataError(f"{listing.name} names {folder}, and there is no {folder}.bbox.txt among the boxes")
            known = read_boxes(files[f"{folder}.bbox.txt"])
        elif len(words) == 2 and folder:
            name, place = words[0], PurePosixPath(words[1])
            if place.is_absolute() or ".." in place.parts or "/" in name or "\\" in line:
                raise DataError(f"{listing.name}: {line!r} leads out of the folders")
            if name not in known:
                raise DataError(f"{files[f'{folder}.bbox.txt'].name} has no box of {name}")
            picture = imagenet / folder / name
            if not picture.is_file():
                raise DataError(f"There is no {picture}. Is {imagenet} the folder of ImageNet's training pictures?")
            path = output / place
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(crop_object(decode(picture), known[name])).save(path)
            count += 1
        elif words:
            raise DataError(f"{listing.name}: {line[:80]!r} is neither a folder nor a picture and its place")
    return count


def read_boxes(file: Path) -> dict[str, Box]:
    """The boxes of a folder's pictures: left, top, width and height in pixels by the picture's name.

    Raises:
        DataError: a line is not a name and four numbers.
    """
    found = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        name, *numbers = line.split() or [""]
        try:
            left, top, width, height = map(float, numbers[:4])
        except ValueError as error:
            if not name:
                continue
            raise DataError(f"{file.name}: {line[:80]!r} is not a picture's name and four numbers") from error
        found[name] = (left, top, width, height)
    return found
