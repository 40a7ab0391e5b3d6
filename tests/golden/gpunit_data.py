"""GP-UNIT's preparation of data against what the official code gave."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.folders import naturally
from datamodules.imagenet291 import crop_object
from datamodules.preprocess import Transform
from golden.golden import Golden, GoldenMismatchError, Kinds
from zoo.core.images import from_uint8


def take(settings: dict[str, Any], known: set[str]) -> dict[str, Any]:
    """Settings of which nothing is overlooked."""
    if unknown := set(settings) ^ known:
        raise GoldenMismatchError("config", f"has or lacks {sorted(unknown)}: this test cannot follow that")
    return settings


class PythonNumbers:
    """Python's own stream of random numbers, as the official data sets draw from it."""

    def __init__(self, seed: int) -> None:
        self.stream = random.Random(seed)

    def integers(self, high: int, /) -> int:
        return self.stream.randint(0, high - 1)

    def random(self) -> float:
        return self.stream.random()


def given_pixels(golden: Golden, key: str) -> NDArray[np.uint8]:
    return golden.given(key).numpy()


def check_data(golden: Golden) -> None:
    args = take(golden.config["args"], {"load_size", "crop_size", "params", "python_random_seed"})
    transform = Transform(
        load_size=args["load_size"], size=args["crop_size"], multiple=1, interpolation="bilinear"
    )  # sides are multiples of 4 where our networks train, not in every recording
    pictures = golden.keys(r"in/img\d+")
    for key, place in zip(pictures, args["params"], strict=True):
        take(place, {"crop_x", "crop_y", "flip"})
        prepared = transform(given_pixels(golden, key), crop=(place["crop_x"], place["crop_y"]), flip=place["flip"])
        pixels = torch.from_numpy(np.ascontiguousarray(prepared)).permute(2, 0, 1)
        golden.compare(key.replace("in/", "out/"), from_uint8(pixels))

    numbers, rows = PythonNumbers(args["python_random_seed"]), []
    for _ in range(len(golden.layout("out/params_stream"))):
        (left, top), flip = transform.draw(transform.load_size, transform.load_size, numbers)
        rows.append([left, top, flip])
    golden.compare("out/params_stream", torch.tensor(rows))

    assert golden.config["natural_sort"]
    for case in golden.config["natural_sort"]:
        assert [str(path) for path in naturally(map(Path, case["inp"]))] == case["out"]


def check_imagenet291_crop(golden: Golden) -> None:
    items = take(golden.config["args"], {"items"})["items"]
    for i, item in enumerate(items):
        take(item, {"h", "w", "bbox_xywh"})
        base = given_pixels(golden, f"in/base{i}")
        rows = np.arange(item["h"]) * base.shape[0] // item["h"]
        columns = np.arange(item["w"]) * base.shape[1] // item["w"]
        crop = torch.from_numpy(crop_object(base[rows][:, columns], tuple(item["bbox_xywh"])).copy())
        golden.compare(f"out/crop{i}_sum", crop.long().sum())
        for key in golden.keys(rf"out/crop{i}_s\d+"):
            step = int(key.rpartition("_s")[2])
            golden.compare(key, crop[::step, ::step])


DATA_KINDS: Kinds = {"data": check_data, "data_imagenet291_crop": check_imagenet291_crop}
