"""Pairs and unpaired pictures from folders in the published layout, and rendered ones."""

import shutil
from collections.abc import Iterator
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
from support.pictures import make_bad, pixels

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

Batches = list[dict[str, Tensor]]
KEYS = {"x", "y", "x_domain", "y_domain", "image", "domain"}
MASKS = {"x_mask", "y_mask", "mask"}
CLASSES = ["9_dog", "10_bird", "100_bird"]  # in natural order
LATENTS = ["1", "2", "10", "11"]


def coded(number: int, latent: int, kind: int = 0) -> Image.Image:
    """A picture whose left half is brighter, and whose red and blue say what it is."""
    picture = np.zeros((24, 32, 3), np.uint8)
    picture[:, :, 0], picture[:, :16, 1], picture[:, :, 2] = 20 * number, 200, 10 * latent + 5 * kind
    return Image.fromarray(picture)


def decoded(image: Tensor) -> tuple[int, int, int, bool]:
    """Class, latent and kind of a coded picture, and whether it is mirrored."""
    red, _, blue = (int(value) for value in image[:, 3, 3])
    return red // 20, blue // 10, blue % 10 // 5, bool(image[1, :, 0].float().mean() < image[1, :, -1].float().mean())


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, str]:
    """Three linked classes, and the same with faces as unpaired ones; masks are of kind 1."""
    for number, name in enumerate([*CLASSES, "1001_face"]):
        for latent, stem in enumerate(LATENTS):
            for kind, suffix in (("", ".png"), ("_mask", ".jpg")):
                for root in ("pairs", "real") if number < 3 else ("real",):
                    folder = tmp_path / f"{root}{kind}" / name
                    folder.mkdir(parents=True, exist_ok=True)
                    picture = coded(number, latent, bool(kind))
                    picture.save(folder / f"{stem}{suffix}", format="PNG")  # coded pixels survive under any name
    return {
        "pairs": str(tmp_path / "pairs"),
        "pairs_masks": str(tmp_path / "pairs_mask"),
        "unpaired": str(tmp_path / "real"),
        "unpaired_masks": str(tmp_path / "real_mask"),
    }


def data(roots: dict[str, Any], **options: Any) -> BigGANPairs:
    return BigGANPairs(**{**roots, "size": 16, "load_size": 16, "workers": 0, "batch_size": 4, **options})


def at(module: ImageDataModule, *, rank: int = 0, world: int = 1, iteration: int = 0) -> ImageDataModule:
    module.trainer = SimpleNamespace(global_rank=rank, world_size=world, global_step=iteration)  # type: ignore[assignment]
    return module


def stream(module: ImageDataModule, count: int, **place: int) -> Batches:
    at(module, **place).setup("fit")
    return list(islice(module.train_dataloader(), count))


def assert_same(one: Batches, other: Batches) -> None:
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            assert torch.equal(a[key], b[key])


def items(batches: Batches) -> Iterator[dict[str, Tensor]]:
    for batch in batches:
        for row in range(len(batch["x"])):
            yield {key: value[row] for key, value in batch.items()}


def test_pairs_share_the_latent_and_everything_is_labelled(roots: dict[str, str]) -> None:
    batches = stream(data(roots), 40)
    assert batches[0].keys() == KEYS | MASKS
    pairs = set()
    faces = 0
    for item in items(batches):
        x, y, x_mask, y_mask, image, mask = (
            decoded(item[key]) for key in ("x", "y", "x_mask", "y_mask", "image", "mask")
        )
        assert x[1] == y[1] == x_mask[1] == y_mask[1], "one latent"
        assert x[0] == x_mask[0] == int(item["x_domain"])
        assert y[0] == y_mask[0] == int(item["y_domain"])
        assert image[:2] == mask[:2]
        assert image[0] == int(item["domain"])
        assert (x[2], x_mask[2], mask[2]) == (0, 1, 1)
        pairs.add((x[0], y[0]))
        faces += int(item["domain"]) == 3
    assert pairs == {(a, b) for a in range(3) for b in range(3)}, "the other's class is any, its own too"
    assert faces == 160 // 4
    assert batches[0]["x_domain"].dtype == torch.int64
    assert all(batches[0][key].dtype == torch.uint8 and batches[0][key].shape == (4, 3, 16, 16) for key in MASKS)


@pytest.fixture
def alike(tmp_path: Path) -> dict[str, str]:
    """Roots where one picture serves all classes of a latent, and its mask too: what is prepared alike stays equal."""
    for name in CLASSES:
        for number, stem in enumerate(LATENTS):
            for root in ("pairs", "masks", "real"):
                folder = tmp_path / "alike" / root / name
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels(number=number)).save(folder / f"{stem}.png")
    root = tmp_path / "alike"
    masks = str(root / "masks")
    return {"pairs": f"{root}/pairs", "pairs_masks": masks, "unpaired": f"{root}/real", "unpaired_masks": masks}


def test_pictures_and_masks_share_crop_and_flip(alike: dict[str, str]) -> None:
    batches = stream(data(alike, load_size=20), 20)
    for batch in batches:
        for other in ("y", "x_mask", "y_mask"):
            assert torch.equal(batch["x"], batch[other])
        assert torch.equal(batch["image"], batch["mask"])
    for key in ("x", "image"):
        shown = {item[key].numpy().tobytes() for item in items(batches)}
        assert len(shown) > 60, "80 samples of 4 pictures, with 25 places and two flips each"


def test_pictures_are_resized_bilinearly(alike: dict[str, str]) -> None:
    pictures = [Image.fromarray(pixels(number=number)) for number in range(len(LATENTS))]
    expected = [np.asarray(picture.resize((16, 16), Image.Resampling.BILINEAR)) for picture in pictures]
    (batch,) = stream(data(alike, flip=False, batch_size=8), 1)
    for image in batch["y"].permute(0, 2, 3, 1).numpy():
        assert any(np.array_equal(image, one) for one in expected)


def test_both_flips_come(roots: dict[str, str]) -> None:
    mirrored = [decoded(item["x"])[3] for item in items(stream(data(roots), 25))]
    assert 25 < sum(mirrored) < 75
    assert not any(decoded(item["x"])[3] for item in items(stream(data(roots, flip=False), 5)))


def test_an_epoch_walks_through_pairs_and_unpaired_each_in_its_own_order(roots: dict[str, str]) -> None:
    module = data(roots, flip=False)
    batches = stream(module, 12)
    assert module.epoch_length == 16
    x = [decoded(item["x"])[:2] for item in items(batches)]
    image = [decoded(item["image"])[:2] for item in items(batches)]
    assert len(set(x[:12])) == len(set(x[12:24])) == 12
    assert len(set(image[:16])) == len(set(image[16:32])) == 16
    assert x[:12] != x[12:24]


def test_classes_are_numbered_in_natural_order(roots: dict[str, str]) -> None:
    module = data(roots)
    module.setup("fit")
    assert module.domains == [*CLASSES, "1001_face"]
    facts = module.describe()
    assert facts["pairs"] == "12 pictures of 4 latent vectors"
    assert facts["unpaired"] == "16 pictures"
    assert (facts["pairs: classes"], facts["unpaired: classes"]) == (3, 4)
    assert facts["classes"] == "4: 0 9_dog ... 3 1001_face"
    assert facts["masks"] == "all"
    assert facts["left out"] == 0


def test_many_classes_have_the_published_numbers(tmp_path: Path) -> None:
    for number in [*range(7, 298), 1001]:
        folder = tmp_path / "real" / f"{number}_{'face' if number > 1000 else 'bird'}"
        folder.mkdir(parents=True)
        coded(0, 0).save(folder / "1.png")
        if number < 1001:
            shutil.copytree(folder, tmp_path / "pairs" / folder.name)
    module = data({"pairs": str(tmp_path / "pairs"), "unpaired": str(tmp_path / "real")}, check="none")
    module.setup("fit")
    assert len(module.domains) == 292
    assert (module.domains[0], module.domains[290], module.domains[291]) == ("7_bird", "297_bird", "1001_face")


@pytest.mark.parametrize(
    ("counts", "expected"), [(2, [2, 2, 2, 2]), ([1, 3], [1, 1, 1, 3]), ([4, 3, 2, 1], [4, 3, 2, 1]), (None, [4] * 4)]
)
def test_counts_take_the_first_of_each_folder(
    roots: dict[str, str], counts: int | list[int] | None, expected: list[int]
) -> None:
    module = data(roots, unpaired_counts=counts, flip=False)
    seen = {decoded(item["image"])[:2] for item in items(stream(module, 16))}
    assert seen == {(number, latent) for number, count in enumerate(expected) for latent in range(count)}


def test_without_masks_their_keys_are_absent(roots: dict[str, str]) -> None:
    bare = {key: value for key, value in roots.items() if not key.endswith("masks")}
    module = data(bare)
    assert stream(module, 1)[0].keys() == KEYS
    assert module.describe()["masks"] == (
        "none of pairs and unpaired: losses on their shapes are off "
        "(--data.pairs_masks FOLDER --data.unpaired_masks FOLDER)"
    )
    module = data({**bare, "pairs_masks": roots["pairs_masks"]})
    assert stream(module, 1)[0].keys() == KEYS | {"x_mask", "y_mask"}
    assert str(module.describe()["masks"]).startswith("none of unpaired:")


def test_without_real_pictures_the_unpaired_come_from_the_pairs(roots: dict[str, str]) -> None:
    module = data({"pairs": roots["pairs"], "pairs_masks": roots["pairs_masks"]})
    batches = stream(module, 3)
    assert batches[0].keys() == KEYS | MASKS
    assert any(decoded(item["x"])[:2] != decoded(item["image"])[:2] for item in items(batches))
    assert module.domains == CLASSES


def test_pictures_become_floats_and_labels_stay(roots: dict[str, str]) -> None:
    module = data(roots)
    (batch,) = stream(module, 1)
    module.trainer = None
    ready = module.on_after_batch_transfer(batch, 0)
    for key in ("x", "y", "image", *MASKS):
        assert ready[key].dtype == torch.float32
        assert -1 <= ready[key].min() < 0 < ready[key].max() <= 1
    assert ready["domain"] is batch["domain"]


# The stream


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_stream_continues_the_uninterrupted_one(roots: dict[str, str], workers: int) -> None:
    options = {"load_size": 20, "workers": workers, "batch_size": 2}
    whole = stream(data(roots, load_size=20, batch_size=2), 12)
    assert_same(whole[7:], stream(data(roots, **options), 5, iteration=7))
    assert_same(whole[:3], stream(data(roots, **options), 3))
    with pytest.raises(AssertionError):
        assert_same(whole[:3], stream(data(roots, seed=1, **options), 3))


def test_ranks_take_turns_in_one_stream(roots: dict[str, str]) -> None:
    alone = stream(data(roots, batch_size=6), 3)
    ranks = [stream(data(roots, batch_size=3), 3, rank=rank, world=2) for rank in range(2)]
    assert_same(alone, [{key: torch.cat([a[key], b[key]]) for key in a} for a, b in zip(*ranks, strict=True)])


def test_a_cache_changes_nothing(roots: dict[str, str], tmp_path: Path) -> None:
    plain = stream(data(roots, load_size=20), 6)
    for _ in range(2):
        assert_same(plain, stream(data(roots, load_size=20, cache=str(tmp_path / "cache")), 6))
    assert 20 < len(list((tmp_path / "cache").rglob("*.pixels"))) <= 2 * (12 + 16)


def test_samples_can_be_sent_to_fresh_processes(roots: dict[str, str]) -> None:
    module = data(roots, validation_pairs=roots["pairs"] + "2")
    shutil.copytree(roots["pairs"], roots["pairs"] + "2")
    at(module).setup("fit")
    assert ForkingPickler.dumps(module.train_dataloader().dataset)
    assert ForkingPickler.dumps(module.fixed_samples("validation"))


def test_fingerprint_follows_the_data_and_not_the_place(roots: dict[str, str], tmp_path: Path) -> None:
    def fingerprint(**options: Any) -> str:
        module = data(roots, **options)
        module.setup("fit")
        return module.fingerprint()

    first = fingerprint()
    shutil.copytree(roots["pairs"], tmp_path / "moved")
    assert fingerprint(seed=4, pairs=str(tmp_path / "moved")) == first
    assert fingerprint(unpaired_counts=2) != first
    assert fingerprint(unpaired_masks=None) != first


# Validation


@pytest.fixture
def validation(roots: dict[str, str], tmp_path: Path) -> dict[str, str]:
    for name in ("pairs", "pairs_mask", "real", "real_mask"):
        shutil.copytree(tmp_path / name, tmp_path / "test" / name)
    return {
        **roots,
        "validation_pairs": str(tmp_path / "test/pairs"),
        "validation_pairs_masks": str(tmp_path / "test/pairs_mask"),
        "validation_unpaired": str(tmp_path / "test/real"),
        "validation_unpaired_masks": str(tmp_path / "test/real_mask"),
    }


def test_validation_is_fixed_whole_and_not_mirrored(validation: dict[str, str]) -> None:
    module = data(validation, validation_count=6, load_size=20)
    at(module).setup("validate")
    batches = list(module.val_dataloader())
    assert_same(batches, list(module.val_dataloader()))
    assert [len(batch["x"]) for batch in batches] == [4, 2]
    x = [decoded(item["x"]) for item in items(batches)]
    assert len(set(x)) == 6
    assert not any(mirrored for *_, mirrored in x)
    later = data(validation, validation_count=6, load_size=20, batch_size=3)
    at(later, iteration=9).setup("fit")
    assert torch.equal(
        torch.cat([batch["y"] for batch in later.val_dataloader()]), torch.cat([batch["y"] for batch in batches])
    )
    assert len(list(module.test_dataloader())) == 2
    assert module.predict_dataloader() == []
    assert len(data_length(validation, 1000)) == 12


def data_length(validation: dict[str, str], count: int) -> Any:
    module = data(validation, validation_count=count)
    at(module).setup("test")
    return module.fixed_samples("test")


def test_validation_needs_pictures_of_its_own_and_the_same_classes(
    roots: dict[str, str], validation: dict[str, str], tmp_path: Path
) -> None:
    module = data(roots)
    module.setup("fit")
    assert module.fixed_samples("validation") is None
    with pytest.raises(DataError, match=r"no pictures for validation\. Type --data\.validation_pairs FOLDER"):
        data(roots).setup("validate")
    with pytest.raises(DataError, match=r"validation_pairs: 12 pictures, such as .* are trained on too"):
        data({**roots, "validation_pairs": roots["pairs"]}).setup("fit")
    (tmp_path / "test/real/9_dog").rename(tmp_path / "test/real/9_wolf")
    with pytest.raises(DataError, match="validation_unpaired: the folder 9_wolf has no namesake among the 4 classes"):
        data({**validation, "validation_unpaired_masks": None}).setup("fit")


# Data that is not as it should be


def test_a_missing_counterpart_names_both_files(roots: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "pairs/10_bird/2.png").unlink()
    (tmp_path / "pairs/100_bird/11.png").unlink()
    with pytest.raises(DataError) as caught:
        data(roots).setup("fit")
    message = str(caught.value)
    assert f"_bird/2.png has no counterpart {tmp_path}/pairs/10_bird/2.png, and 1 more are lacking" in message
    assert "in each of the 3 folders" in message


def test_a_missing_mask_names_both_files(roots: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "real_mask/1001_face/10.jpg").unlink()
    with pytest.raises(DataError) as caught:
        data(roots).setup("fit")
    message = str(caught.value)
    assert message.startswith(f"unpaired_masks: {tmp_path}/real/1001_face/10.png has no mask ")
    assert f"{tmp_path}/real_mask/1001_face/10.jpg, and 0 more" in message
    assert message.endswith("--data.unpaired_masks null to train without masks")


def test_masks_may_have_other_extensions_and_jpg_comes_first(roots: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "real_mask/9_dog"
    (folder / "1.jpg").rename(folder / "1.png")
    coded(7, 7, 0).save(folder / "2.png")
    shown = {decoded(item["mask"])[:3] for item in items(stream(data(roots, flip=False), 8))}
    assert {(0, 0, 1), (0, 1, 1)} <= shown
    assert (7, 7, 0) not in shown


@pytest.mark.parametrize("which", ["pairs/10_bird/2.png", "pairs_mask/10_bird/2.jpg"])
def test_a_corrupt_file_goes_with_its_mask_and_is_counted(
    roots: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], which: str
) -> None:
    (tmp_path / which).unlink()
    make_bad("text", tmp_path / which)
    module = data(roots, max_bad_share=0.05)
    batches = stream(module, 30)
    shown = {decoded(item[key])[:2] for item in items(batches) for key in ("x", "y")}
    assert shown == {(number, latent) for number in range(3) for latent in range(4)} - {(1, 1)}
    assert str(module.describe()["left out"]).startswith("1: ")
    assert "pairs: 1 of 24 files left out: " in capsys.readouterr().err
    with pytest.raises(DataError, match="cannot be used, more than max_bad_share 0"):
        data(roots, max_bad_share=0.0).setup("fit")


@pytest.mark.parametrize("which", ["pairs/10_bird/2.png", "pairs_mask/10_bird/2.jpg", "real/1001_face/1.png"])
def test_a_file_that_goes_bad_during_training_is_replaced_with_its_mask(
    roots: dict[str, str], tmp_path: Path, which: str
) -> None:
    module = data(roots)
    at(module).setup("fit")
    (tmp_path / which).unlink()
    for item in items(list(islice(module.train_dataloader(), 20))):
        assert decoded(item["x"])[:2] == decoded(item["x_mask"])[:2]
        assert decoded(item["y"])[:2] == decoded(item["y_mask"])[:2]
        assert decoded(item["image"])[:2] == decoded(item["mask"])[:2]
    assert module.describe()["went bad since"] == 1
    shutil.rmtree(tmp_path / "pairs")
    with pytest.raises(DataError, match="pictures went bad since the start"):
        list(islice(module.train_dataloader(), 20))


def test_other_layouts_are_explained(roots: dict[str, str], tmp_path: Path) -> None:
    for name in ("Test", "Train"):
        shutil.copytree(tmp_path / "pairs", tmp_path / "syn" / name)
    with pytest.raises(DataError, match=r"holds Test, Train; expected .* per class.* Type --data\.pairs .*/syn/Train"):
        data({"pairs": str(tmp_path / "syn")}).setup("fit")
    with pytest.raises(DataError, match=r"holds 1\.png, .*Type --data\.unpaired FOLDER"):
        data({**roots, "unpaired": str(tmp_path / "real/9_dog")}).setup("fit")
    with pytest.raises(DataError, match=r"pairs: there is no folder .*pears.*--data\.pairs .*/pairs"):
        data({"pairs": str(tmp_path / "pears")}).setup("fit")
    with pytest.raises(DataError, match=r"pairs_masks: there is no folder"):
        data({**roots, "pairs_masks": str(tmp_path / "nowhere")}).setup("fit")
    (tmp_path / "pairs/11_fish").mkdir()
    with pytest.raises(DataError, match="11_fish holds no picture"):
        data(roots).setup("fit")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"no pairs\. Type --data\.pairs FOLDER .* or --data\.rendered"),
        ({"pairs": "a", "rendered": ["plain", "striped"]}, r"Both rendered scenes and folders \(pairs\)"),
        ({"pairs": "a", "unpaired_masks": "b"}, "unpaired_masks is given without unpaired"),
        ({"pairs": "a", "validation_unpaired": "b"}, "without validation_pairs"),
        ({"pairs": "a", "unpaired_counts": 3}, "unpaired_counts is given without unpaired"),
        ({"pairs": "a", "check": "all"}, "'header', 'full' or 'none'"),
        ({"pairs": "a", "max_bad_share": 3.0}, "between 0 and 1"),
        ({"pairs": "a", "validation_count": 0}, "validation_count is 0"),
        ({"pairs": "a", "size": 22, "load_size": 24}, r"--data\.size 24"),
        ({"pairs": "a", "load_size": 8}, "Set load_size to 16 or more"),
        ({"rendered": ["plain"]}, "at least two domains"),
    ],
)
def test_nonsense_is_refused_before_anything_is_read(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        data({}, **options)


def test_samples_before_setup_are_refused(roots: dict[str, str]) -> None:
    with pytest.raises(DataError, match="call setup first"):
        data(roots).train_samples()
    with pytest.raises(DataError, match="BigGANPairs has no domain 'target'"):
        data(roots).domain_loader("target", 4)


def test_all_that_is_missing_is_named_at_once(roots: dict[str, str], tmp_path: Path) -> None:
    assert BigGANPairs.missing(roots) == []
    assert BigGANPairs.missing({"rendered": ["plain", "striped"]}) == []
    (tmp_path / "empty").mkdir()
    found = BigGANPairs.missing(
        {**roots, "pairs": str(tmp_path / "nowhere"), "unpaired_masks": str(tmp_path / "empty"), "pairs_masks": None}
    )
    assert len(found) == 2
    assert found[0].startswith(f"pairs: there is no folder {tmp_path}/nowhere")
    assert "--data.pairs " in found[0]
    assert "--data.unpaired_masks FOLDER" in found[1]


def test_long_checks_are_announced(
    roots: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datamodules.class_folders._MANY", 15)
    data(roots).setup("fit")
    assert capsys.readouterr().err.splitlines() == [
        f"{name}: checking 16 files (--data.check none skips this) ..." for name in ("unpaired", "unpaired_masks")
    ]


# Rendered pairs


def test_rendered_pairs_have_the_same_keys() -> None:
    module = data({"rendered": ["plain", "striped", "dotted"]}, rendered_per_epoch=40, validation_count=5)
    (batch,) = stream(module, 1)
    assert batch.keys() == KEYS | MASKS
    assert all(batch[key].shape == (4, 1, 16, 16) and batch[key].is_floating_point() for key in MASKS)
    assert (batch["x_domain"] != batch["y_domain"]).all()
    outside = (batch["x_mask"] == 0).expand(-1, 3, -1, -1)
    assert torch.equal(batch["x"][outside], batch["y"][outside])
    assert module.epoch_length == 40
    assert module.domains == ["plain", "striped", "dotted"]
    assert [len(one["x"]) for one in module.val_dataloader()] == [4, 1]
    assert module.predict_dataloader() == []
    assert module.describe()["domains"] == "plain, striped, dotted"
    other = data({"rendered": ["plain", "striped", "dotted"]}, shapes="per_domain")
    assert other.fingerprint() != module.fingerprint()
    assert not torch.equal(stream(other, 1)[0]["x_mask"], stream(other, 1)[0]["y_mask"])


def test_yaml_builds_it(roots: dict[str, str]) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--data", type=ImageDataModule)
    for arguments in ({**roots, "unpaired_counts": [600, 29000]}, {"rendered": ["plain", "striped"]}):
        made = parser.instantiate(
            parser.parse_object({"data": {"class_path": "datamodules.BigGANPairs", "init_args": arguments}})
        )
        assert isinstance(made.data, BigGANPairs)
    assert made.data.transform.load_size == 286
