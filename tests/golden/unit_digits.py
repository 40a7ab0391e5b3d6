"""UNIT's preparation of digits against what the official code gave."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules import Digits
from datamodules.digits import UnpairedDigits, nearest_indices
from golden.golden import Golden, Kinds
from support.digits import write_npz, write_svhn
from zoo.core.images import from_uint8


def given_digits(golden: Golden, *keys: str) -> np.ndarray:
    """Recorded digits in [0, 1], flattened, as the uint8 pictures that they were."""
    values = torch.cat([golden.given(key) for key in keys]).double()
    levels = (values * 255).round()
    assert torch.allclose(levels / 255, values, atol=1e-7), "these digits were no uint8 pictures"
    side = math.isqrt(values.shape[1])
    return levels.reshape(-1, side, side).to(torch.uint8).numpy()


def check_digits_data(golden: Golden) -> None:
    train, test = given_digits(golden, "in/mnist_train", "in/mnist_valid"), given_digits(golden, "in/mnist_test")
    labels = golden.given("in/mnist_labels").numpy()
    house_numbers = golden.given("in/svhn_X_hwcn").permute(3, 0, 1, 2).numpy()
    names = golden.given("in/svhn_y").numpy() % 10  # the writer calls 0 by 10 again, as the files do
    size = golden.layout("out/mnist_train_images").shape[-1]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        mnist = {
            "train_images": train,
            "train_labels": labels[: len(train)],
            "test_images": test,
            "test_labels": labels[len(train) :],
        }
        write_npz(Path(folder), "mnist", mnist)
        svhn = {f"{split}_images": house_numbers for split in ("train", "test")}
        write_svhn(Path(folder), svhn | {f"{split}_labels": names for split in ("train", "test")}, patch, "extra")
        data = Digits(source="svhn_extra", target="mnist", root=folder, size=size, target_inverted_copies=True)
        data.setup("fit")
        data.setup("test")
    samples = data.train_samples()
    assert isinstance(samples, UnpairedDigits)

    def scaled(pictures: list[Tensor]) -> Tensor:
        return from_uint8(torch.stack(pictures))

    golden.compare("out/mnist_train_images", scaled([samples.target[i] for i in range(len(samples.target))]))
    golden.compare("out/mnist_train_labels", data.labelled("target", "train")[1].repeat(2))
    golden.compare("out/mnist_test_images", from_uint8(data.labelled("target", "test")[0]))
    golden.compare("out/svhn_images", scaled([samples.source[i] for i in range(len(samples.source))]))
    golden.compare("out/svhn_labels", torch.from_numpy(samples.source_labels))
    golden.compare("out/nearest_source_index", torch.from_numpy(nearest_indices(train.shape[1], size)))


DIGIT_KINDS: Kinds = {"digits_data": check_digits_data}
