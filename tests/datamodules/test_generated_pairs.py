"""Pairs that a generator draws during training."""

from collections.abc import Sequence
from itertools import islice
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image
from torch import Tensor

from datamodules import BigGANPairs
from datamodules.base import ImageDataModule
from datamodules.errors import DataError
from datamodules.generated_pairs import FIRST_VALIDATION_NUMBER
from support.pictures import make_folder, pixels

NAMES = ["9_dog", "10_bird", "100_bird"]
SIDE = 24


class Coded:
    """Draws pictures that depend on number and domain as those of the folder `written` do, and knows what was asked.

    Args:
        latents: how many numbers there are.
    """

    def __init__(self, latents: int | None = None) -> None:
        self.latents = latents
        self.asked: list[tuple[int, int]] = []
        self.ready = False

    @classmethod
    def missing(cls, settings: dict[str, Any]) -> list[str]:
        return ["weights are missing"] if settings.get("latents") == 13 else []

    def setup(self) -> None:
        self.ready = True

    def names(self) -> list[str]:
        assert self.ready
        return list(NAMES)

    def count(self) -> int | None:
        return self.latents

    def draw(self, numbers: Sequence[int], domains: Tensor) -> Tensor:
        assert all(isinstance(number, int) for number in numbers)
        self.asked += list(zip(numbers, domains.tolist(), strict=True))
        pictures = [picture(n, int(d)).transpose(2, 0, 1) for n, d in zip(numbers, domains, strict=True)]
        return torch.from_numpy(np.stack(pictures))

    def describe(self) -> str:
        return "coded pictures"

    def fingerprint(self) -> str:
        return f"coded {self.latents}"


class Inverted:
    """A detector whose maps are the negatives."""

    def instance_maps(self, image: Tensor) -> Tensor:
        return 255 - image


class Nameless:
    """No source of pairs."""


def picture(number: int, domain: int) -> np.ndarray:
    return pixels(SIDE, SIDE, number % 1000 * 3 + domain)


@pytest.fixture
def written(tmp_path: Path) -> str:
    """The folder that `lightning generate pairs` would write for five numbers."""
    for domain, name in enumerate(NAMES):
        (tmp_path / "pairs" / name).mkdir(parents=True)
        for number in range(5):
            Image.fromarray(picture(number, domain)).save(tmp_path / "pairs" / name / f"{number}.png")
    return str(tmp_path / "pairs")


def data(generator: Any = None, **options: Any) -> BigGANPairs:
    return BigGANPairs(
        **{"generator": generator, "size": 16, "load_size": 20, "workers": 0, "batch_size": 4, **options}
    )


def at(module: ImageDataModule, *, rank: int = 0, world: int = 1, iteration: int = 0) -> ImageDataModule:
    plugin = SimpleNamespace(convert_input=lambda value: value)
    module.trainer = SimpleNamespace(  # type: ignore[assignment]
        global_rank=rank, world_size=world, global_step=iteration, precision_plugin=plugin
    )
    return module


def ready(module: ImageDataModule, batch: dict[str, Any]) -> dict[str, Any]:
    """As Lightning hands it on."""
    return module.on_after_batch_transfer(module.on_before_batch_transfer(batch, 0), 0)


def stream(module: ImageDataModule, count: int, **place: int) -> list[dict[str, Any]]:
    at(module, **place).setup("fit")
    return [ready(module, batch) for batch in islice(module.train_dataloader(), count)]


def grey_levels(first: Tensor, second: Tensor) -> int:
    return int(((first - second).abs().max() * 127.5).round())


def test_batches_are_those_of_the_folders_to_one_grey_level(written: str) -> None:
    disk = stream(data(pairs=written), 10)
    drawn = stream(data(Coded(latents=5)), 10)
    for there, here in zip(disk, drawn, strict=True):
        assert there.keys() == here.keys() == {"x", "y", "image", "x_domain", "y_domain", "domain"}
        for key in ("x_domain", "y_domain", "domain"):
            assert torch.equal(there[key], here[key])
        for key in ("x", "y", "image"):
            assert here[key].shape == (4, 3, 16, 16)
            assert grey_levels(there[key], here[key]) <= 1


def test_an_epoch_is_as_long_as_with_folders(written: str) -> None:
    lengths = []
    for module in (data(pairs=written), data(Coded(latents=5)), data(Coded(), rendered_per_epoch=77)):
        module.setup("fit")
        lengths.append(module.epoch_length)
    assert lengths == [15, 15, 77]


def test_numbers_travel_and_pictures_do_not() -> None:
    module = data(Coded())
    at(module).setup("fit")
    (batch,) = islice(module.train_dataloader(), 1)
    assert {key: (value.dtype, tuple(value.shape)) for key, value in batch.items()} == {
        "pair_number": (torch.int64, (4,)),
        "pair_view": (torch.int64, (4, 3)),
        "x_domain": (torch.int64, (4,)),
        "y_domain": (torch.int64, (4,)),
        "image_number": (torch.int64, (4,)),
        "image_view": (torch.int64, (4, 3)),
        "domain": (torch.int64, (4,)),
    }
    ForkingPickler.dumps(module.train_samples())
    kept = module.on_before_batch_transfer(batch, 0)
    assert isinstance(kept["pair_number"], list)
    assert isinstance(kept["image_number"], list)


def test_numbers_without_an_end_never_come_again() -> None:
    module = data(Coded())
    source = module.generator
    assert isinstance(source, Coded)
    batches = stream(module, 20)
    numbers = [number for number, _ in source.asked]
    assert len(set(numbers)) == 2 * 4 * 20, "one for each pair and one for each picture"
    pairs = {(int(x), int(y)) for b in batches for x, y in zip(b["x_domain"], b["y_domain"], strict=True)}
    assert len(pairs) == 9


def test_samples_follow_from_seed_and_number_alone() -> None:
    whole = stream(data(Coded(), batch_size=8), 4)
    resumed = stream(data(Coded(), batch_size=8), 2, iteration=2)
    ranks = [stream(data(Coded()), 4, rank=rank, world=2) for rank in range(2)]
    for n in range(4):
        for key in whole[n]:
            assert torch.equal(whole[n][key], torch.cat([ranks[0][n][key], ranks[1][n][key]]))
            if n >= 2:
                assert torch.equal(whole[n][key], resumed[n - 2][key])
    assert not torch.equal(stream(data(Coded(), seed=1), 1)[0]["x"], ranks[0][0]["x"])


def test_pair_and_masks_share_crop_and_flip() -> None:
    (batch,) = stream(data(Coded(), detector=Inverted(), batch_size=64), 1)
    assert {"x_mask", "y_mask", "mask"} < batch.keys()
    for key in ("x", "y", "image"):
        mask = batch["mask" if key == "image" else f"{key}_mask"]
        assert grey_levels(batch[key], -mask) <= 1
    same = batch["x_domain"] == batch["y_domain"]
    assert same.any()
    assert torch.equal(batch["x"][same], batch["y"][same])


def test_validation_has_numbers_of_its_own_and_is_fixed() -> None:
    module = data(Coded(latents=5), validation_count=6)
    source = module.generator
    assert isinstance(source, Coded)
    at(module).setup("validate")
    batches = [[ready(module, batch) for batch in module.val_dataloader()] for _ in range(2)]
    assert [len(batch["x"]) for batch in batches[0]] == [4, 2]
    assert all(torch.equal(a[key], b[key]) for a, b in zip(*batches, strict=True) for key in a)
    assert min(number for number, _ in source.asked) >= FIRST_VALIDATION_NUMBER
    number, domain = source.asked[0]
    whole = Image.fromarray(picture(number, domain)).resize((16, 16), Image.Resampling.BILINEAR)
    expected = torch.from_numpy(np.array(whole)).permute(2, 0, 1) / 127.5 - 1
    assert grey_levels(batches[0][0]["x"][0], expected) <= 1, "neither cropped nor mirrored"
    assert module.predict_dataloader() == []


def test_real_pictures_may_stand_beside_drawn_pairs(tmp_path: Path) -> None:
    for name in (*NAMES, "1001_face"):
        make_folder(tmp_path / "real" / name, 3)
    module = data(Coded(), unpaired=str(tmp_path / "real"))
    source = module.generator
    assert isinstance(source, Coded)
    batches = stream(module, 10)
    assert module.domains == [*NAMES, "1001_face"]
    assert {int(domain) for batch in batches for domain in batch["domain"]} == {0, 1, 2, 3}
    assert len(source.asked) == 10 * 4 * 2, "images come from the folder"
    labels = [int(domain) for batch in batches for key in ("x_domain", "y_domain") for domain in batch[key]]
    assert set(labels) == {0, 1, 2}
    assert [domain for _, domain in source.asked] == labels


def test_what_draws_and_what_lacks_is_told() -> None:
    module = data(Coded(latents=5))
    module.setup("fit")
    facts = module.describe()
    assert facts["pairs"] == "coded pictures"
    assert facts["classes"] == "3: 0 9_dog ... 2 100_bird"
    assert "losses on their shapes are off (--data.detector zoo.experts.mask_rcnn.MaskRCNN)" in str(facts["masks"])
    seeing = data(Coded(), detector=Inverted())
    seeing.setup("fit")
    assert seeing.describe()["masks"] == "all"
    prints = []
    for count in (5, 6, 5):
        module = data(Coded(latents=count))
        module.setup("fit")
        prints.append(module.fingerprint())
    assert prints[0] == prints[2] != prints[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"generator": Coded(), "pairs": "somewhere"}, "Both a generator and the folder pairs"),
        ({"generator": Coded(), "rendered": ["plain", "striped"]}, "Both a generator and rendered scenes"),
        ({"pairs": "somewhere", "detector": Inverted()}, "A detector is given without a generator"),
        ({}, r"--data\.generator zoo\.biggan\.pairs\.PairGenerator"),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        data(**{"generator": None, **options})


def parsed(generator: dict[str, Any]) -> BigGANPairs:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--data", type=ImageDataModule)
    arguments = {"size": 16, "workers": 0, "generator": generator}
    node = {"class_path": "datamodules.BigGANPairs", "init_args": arguments}
    made = parser.instantiate(parser.parse_object({"data": node})).data
    assert isinstance(made, BigGANPairs)
    return made


def test_a_room_s_generator_is_built_from_a_recipe() -> None:
    module = parsed(
        {
            "class_path": "zoo.biggan.pairs.PairGenerator",
            "init_args": {"weights": "biggan_deep_128", "domains": ["7_bird"]},
        }
    )
    assert type(module.generator).__name__ == "PairGenerator"
    with pytest.raises(Exception, match=r"protocol|PairSource"):
        parsed({"class_path": f"{__name__}.Nameless"})


def test_what_is_missing_is_asked_of_the_class_before_it_is_built() -> None:
    node = {"class_path": f"{__name__}.Coded", "init_args": {"latents": 13}}
    assert BigGANPairs.missing({"generator": node}) == ["weights are missing"]
    assert (
        BigGANPairs.missing(
            {"generator": {**node, "init_args": {}}, "detector": {"class_path": f"{__name__}.Inverted"}}
        )
        == []
    )
