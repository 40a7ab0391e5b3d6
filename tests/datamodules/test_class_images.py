"""Pictures of many classes in folders, as BigGAN learns from them."""

from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from PIL import Image
from torch import Tensor

from datamodules import ClassFolders
from datamodules.base import ImageDataModule
from datamodules.class_images import MiddleSquare
from datamodules.errors import DataError
from support.pictures import make_bad, make_folder, pixels

CLASSES = ["9_dog", "10_bird", "100_bird"]  # in natural order
ROOT = Path(__file__).parent.parent.parent


def coded(number: int, picture: int) -> Image.Image:
    """A wide picture whose ends are black, whose middle says what it is, and whose left is brighter."""
    image = np.zeros((24, 40, 3), np.uint8)
    image[:, 8:32, 0], image[:, 8:20, 1], image[:, 8:32, 2] = 60 * number + 10, 200, 30 * picture
    return Image.fromarray(image)


def decoded(image: Tensor) -> tuple[int, int, bool]:
    """Class and picture of a coded picture, and whether it is mirrored."""
    red, _, blue = (int(value) for value in image[:, 3, 3])
    return red // 60, blue // 30, bool(image[1, :, 0].float().mean() < image[1, :, -1].float().mean())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three classes of 2, 3 and 4 pictures below `train`; one of each below `validation`."""
    for number, name in enumerate(CLASSES):
        for part, count in (("train", 2 + number), ("validation", 1)):
            (tmp_path / part / name).mkdir(parents=True)
            for picture in range(count):
                coded(number, picture + 5 * (part == "validation")).save(tmp_path / part / name / f"{picture}.png")
    return tmp_path


def data(root: Path, **options: Any) -> ClassFolders:
    return ClassFolders(
        **{
            "train": str(root / "train"),
            "validation": str(root / "validation"),
            "size": 12,
            "workers": 0,
            "batch_size": 3,
            **options,
        }
    )


def at(module: ImageDataModule, *, rank: int = 0, world: int = 1, iteration: int = 0) -> ImageDataModule:
    module.trainer = SimpleNamespace(global_rank=rank, world_size=world, global_step=iteration)  # type: ignore[assignment]
    return module


def stream(module: ImageDataModule, count: int, **place: int) -> list[dict[str, Tensor]]:
    at(module, **place).setup("fit")
    return list(islice(module.train_dataloader(), count))


def items(batches: list[dict[str, Tensor]]) -> list[tuple[Tensor, int]]:
    return [
        (image, int(domain)) for batch in batches for image, domain in zip(batch["image"], batch["domain"], strict=True)
    ]


def test_pictures_come_with_the_numbers_of_their_classes(root: Path) -> None:
    module = data(root)
    batches = stream(module, 6)
    assert batches[0].keys() == {"image", "domain"}
    assert batches[0]["image"].dtype == torch.uint8
    assert batches[0]["image"].shape == (3, 3, 12, 12)
    assert batches[0]["domain"].dtype == torch.int64
    assert all(decoded(image)[0] == domain for image, domain in items(batches))
    assert module.domains == CLASSES
    assert module.epoch_length == 9
    first, second = ([decoded(image)[:2] for image, _ in items(part)] for part in (batches[:3], batches[3:]))
    assert set(first) == set(second) == {(number, picture) for number in range(3) for picture in range(2 + number)}
    assert first != second, "each epoch has an order of its own"


def test_the_middle_square_is_what_is_seen(root: Path) -> None:
    for image, _ in items(stream(data(root), 3)):
        assert int(image[0].min()) > 0, "the black ends are cut off"


@pytest.mark.parametrize("shape", [(30, 47), (47, 30), (24, 24), (31, 30), (9, 40)])
def test_the_square_is_cut_before_the_resize(shape: tuple[int, int]) -> None:
    height, width = shape
    side = min(shape)
    left, top = round((width - side) / 2), round((height - side) / 2)
    picture = Image.fromarray(pixels(height, width))
    expected = picture.crop((left, top, left + side, top + side)).resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(MiddleSquare(load_size=16, size=16, multiple=1)(np.asarray(picture)), np.asarray(expected))


def test_nothing_is_mirrored_unless_asked_for(root: Path) -> None:
    assert not any(decoded(image)[2] for image, _ in items(stream(data(root), 9)))
    mirrored = [decoded(image)[2] for image, _ in items(stream(data(root, flip=True), 30))]
    assert 20 < sum(mirrored) < 70


def test_a_stream_goes_on_where_it_was_and_ranks_share_it(root: Path) -> None:
    whole = [decoded(image) for image, _ in items(stream(data(root, batch_size=6), 4))]
    resumed = [decoded(image) for image, _ in items(stream(data(root, batch_size=6), 2, iteration=2))]
    assert whole[12:] == resumed
    ranks = [[decoded(image) for image, _ in items(stream(data(root), 4, rank=rank, world=2))] for rank in range(2)]
    assert whole == [row for n in range(4) for rank in ranks for row in rank[3 * n : 3 * n + 3]]
    assert [decoded(image) for image, _ in items(stream(data(root, batch_size=6, seed=1), 4))] != whole


def test_validation_is_fixed_and_has_the_numbers_of_training(root: Path) -> None:
    module = at(data(root, flip=True, validation_count=100))
    module.setup("validate")
    first, second = ([decoded(image) for image, _ in items(list(module.val_dataloader()))] for _ in range(2))
    assert first == second
    assert set(first) == {(number, 5, False) for number in range(3)}
    assert module.predict_dataloader() == []
    few = at(data(root, validation_count=2))
    few.setup("fit")
    assert len(items(list(few.val_dataloader()))) == 2


def test_without_validation_pictures_there_is_none(root: Path) -> None:
    module = at(data(root, validation=None))
    module.setup("fit")
    assert module.val_dataloader() == []
    with pytest.raises(DataError, match=r"no pictures for validation\. Type --data\.validation FOLDER"):
        at(data(root, validation=None)).setup("test")


def test_pictures_become_floats_on_the_device(root: Path) -> None:
    (batch,) = stream(data(root), 1)
    module = data(root)
    moved = module.on_after_batch_transfer(batch, 0)
    assert moved["image"].dtype == torch.float32
    assert -1 <= float(moved["image"].min()) < float(moved["image"].max()) <= 1
    assert moved["domain"].dtype == torch.int64


def test_a_cache_changes_nothing(root: Path, tmp_path: Path) -> None:
    plain = stream(data(root), 3)
    cached = [stream(data(root, cache=str(tmp_path / "cache")), 3) for _ in range(2)]
    for batches in cached:
        assert all(torch.equal(a["image"], b["image"]) for a, b in zip(plain, batches, strict=True))
    assert list((tmp_path / "cache").iterdir())


def test_what_there_is_can_be_told(root: Path) -> None:
    module = data(root)
    module.setup("fit")
    facts = module.describe()
    assert facts == {
        "train": "9 pictures",
        "validation": "3 pictures",
        "classes": "3: 0 9_dog ... 2 100_bird",
        "left out": 0,
    }


def test_a_bad_picture_is_left_out_and_replaced_when_it_goes_bad_later(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_bad("text", root / "train" / CLASSES[0] / "bad.png")
    module = data(root, max_bad_share=0.2)
    module.setup("fit")
    assert str(module.describe()["left out"]).startswith("1: ")
    assert "1 of 10 files left out" in capsys.readouterr().err
    (root / "train" / CLASSES[1] / "0.png").unlink()
    at(module)
    assert len(items(list(islice(module.train_dataloader(), 3)))) == 9
    assert module.describe()["went bad since"] == 1
    with pytest.raises(DataError, match="bad"):
        data(root, max_bad_share=0.0).setup("fit")


def test_the_fingerprint_knows_the_files_and_not_their_place(root: Path, tmp_path: Path) -> None:
    def fingerprint(root: Path) -> str:
        module = data(root)
        module.setup("fit")
        return module.fingerprint()

    before = fingerprint(root)
    moved = (root / "train").rename(tmp_path / "elsewhere")
    (tmp_path / "other").mkdir()
    moved.rename(tmp_path / "other" / "train")
    (root / "validation").rename(tmp_path / "other" / "validation")
    assert fingerprint(tmp_path / "other") == before
    (tmp_path / "other" / "train" / CLASSES[0] / "0.png").rename(tmp_path / "other" / "train" / CLASSES[0] / "7.png")
    assert fingerprint(tmp_path / "other") != before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation_count": 0}, "validation_count is 0"),
        ({"min_side": 0}, "min_side is 0"),
        ({"check": "hasty"}, "check is 'hasty'"),
        ({"max_bad_share": 1.5}, "max_bad_share is 1.5"),
        ({"size": 0}, "size is 0"),
    ],
)
def test_nonsense_is_refused_at_once(root: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        data(root, **options)


def test_folders_that_do_not_fit_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train: .*nowhere"):
        data(root, train=str(tmp_path / "nowhere")).setup("fit")
    with pytest.raises(DataError, match=r"expected are folders of pictures, one per class.*--data\.train .*train"):
        data(root, train=str(root)).setup("fit")
    make_folder(root / "validation" / "11_cat", 1)
    with pytest.raises(DataError, match="the folder 11_cat has no namesake among the 3 classes"):
        data(root).setup("fit")
    with pytest.raises(DataError, match=r"9 pictures, such as .*, are trained on too"):
        data(root, validation=str(root / "train")).setup("fit")


def test_what_is_missing_is_said_before_anything_is_built(root: Path, tmp_path: Path) -> None:
    assert ClassFolders.missing({"train": str(root / "train"), "validation": None}) == []
    (sentence,) = ClassFolders.missing({"train": str(tmp_path / "nowhere")})
    assert "--data.train" in sentence


@pytest.mark.parametrize("recipe", ["biggan", "biggan_deep"])
def test_the_recipes_data_is_one_of_these(recipe: str) -> None:
    node = yaml.safe_load((ROOT / "zoo" / f"{recipe}.yaml").read_text())["data"]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ImageDataModule, "data")
    built = parser.instantiate(parser.parse_object({"data": node})).data
    assert isinstance(built, ClassFolders)
    assert built.size == node["init_args"]["size"]
