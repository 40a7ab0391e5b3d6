"""Digits of two sets: what a batch holds, what it must not hold, and the files of every published layout."""

import io
import os
import pickle
from collections.abc import Callable
from itertools import islice
from multiprocessing.reduction import ForkingPickler
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

from datamodules import Digits
from datamodules.base import ImageDataModule
from datamodules.digit_files import SETS, read_digits
from datamodules.digits import DigitTransform, FixedDigits, UnpairedDigits, nearest_indices
from datamodules.errors import DataError
from golden.golden import Golden, check, golden_files
from golden.unit_digits import DIGIT_KINDS
from support.commands import assert_equal, checkpoint_of, lightning, only_run, write_recipe
from support.digits import FIRST_VALUE, Arrays, coded, noise, write_mnist, write_npz, write_svhn, write_usps
from zoo.core.images import from_uint8

ROOT = Path(__file__).parent.parent.parent
SHARED = Path(os.environ.get("GOLDEN_ROOT", ROOT.parent / "shared" / "golden")).parent / "data" / "digits"

Batches = list[dict[str, Tensor]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve and seven training digits of two sets, five test digits each, coded by their grey."""
    write_npz(tmp_path, "mnist", coded("mnist"))
    write_npz(tmp_path, "usps", coded("usps", train=7))
    return tmp_path


def data(folder: Path, **options: Any) -> Digits:
    return Digits(**{"root": str(folder), "size": 8, "batch_size": 4, **options})


def at(module: ImageDataModule, *, rank: int = 0, world: int = 1, iteration: int = 0) -> ImageDataModule:
    """Let a DataModule believe in a trainer."""
    module.trainer = SimpleNamespace(global_rank=rank, world_size=world, global_step=iteration)  # type: ignore[assignment]
    return module


def stream(module: ImageDataModule, count: int, **place: int) -> Batches:
    at(module, **place).setup("fit")
    return list(islice(module.train_dataloader(), count))


def data_of(folder: Path, **options: Any) -> Digits:
    """Ready for a training."""
    module = data(folder, **options)
    at(module).setup("fit")
    return module


def assert_same(one: Batches, other: Batches) -> None:
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)


def greys(images: Tensor) -> list[int]:
    """The greys of coded pictures."""
    assert all(len(image.unique()) == 1 for image in images)
    return [int(image.flatten()[0]) for image in images]


def numbers(batches: Batches, key: str, name: str) -> list[int]:
    """Which digits of a coded set came, in order."""
    return [grey - FIRST_VALUE[name] for batch in batches for grey in greys(batch[key])]


# Batches


def test_training_batches_hold_both_domains_and_the_source_s_labels(root: Path) -> None:
    batches = stream(data(root), 5)
    assert all(batch.keys() == {"source", "target", "source_label"} for batch in batches)
    for batch in batches:
        for key in ("source", "target"):
            assert batch[key].shape == (4, 1, 8, 8)
            assert batch[key].dtype == torch.uint8
        assert batch["source_label"].dtype == torch.int64
        assert batch["source_label"].shape == (4,)
        assert [number % 10 for number in numbers([batch], "source", "mnist")] == batch["source_label"].tolist()


def test_pictures_become_floats_on_the_device_and_labels_stay(root: Path) -> None:
    (batch,) = stream(data(root), 1)
    moved = data(root).on_after_batch_transfer(dict(batch), 0)
    assert moved["source"].dtype == torch.float32
    assert torch.equal(moved["source"], from_uint8(batch["source"]))
    assert moved["source_label"].dtype == torch.int64
    assert -1 <= float(moved["target"].min()) <= float(moved["target"].max()) <= 1


def test_labels_of_the_target_never_reach_the_training(root: Path) -> None:
    """Other labels change no bit of a batch, and what makes batches does not hold them: no worker is sent them."""
    batches = stream(data(root), 8)
    lies = coded("usps", train=7)
    lies["train_labels"] = np.full(7, 3)
    write_npz(root, "usps", lies)
    assert_same(batches, stream(data(root), 8))

    marked = coded("usps", train=7)
    marked["train_labels"] = np.array([9, 8, 7, 6, 5, 9, 8])
    write_npz(root, "usps", marked)
    module = data(root)
    at(module).setup("fit")
    samples = module.train_samples()
    assert isinstance(samples, UnpairedDigits)
    sent = pickle.dumps(samples)
    assert marked["train_labels"].astype(np.int64).tobytes() not in sent
    assert samples.source_labels.tobytes() in sent, "the search finds what is there"
    assert set(module.domain_samples("target")[0]) == {"target"}
    module = data(root, validation_count=2)
    at(module).setup("fit")
    assert "target_label" not in next(iter(module.train_dataloader()))


def test_each_epoch_shows_every_digit_of_both_domains_once(root: Path) -> None:
    batches = stream(data(root, batch_size=1), 84)
    source, target = numbers(batches, "source", "mnist"), numbers(batches, "target", "usps")
    for shown, count in ((source, 12), (target, 7)):
        epochs = [shown[i : i + count] for i in range(0, 84, count)]
        assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) > 1
    pairs = set(zip(source, target, strict=True))
    assert len(pairs) > 45, "the domains walk on their own: hardly a pair comes twice"
    assert data_of(root).epoch_length == 12
    assert data_of(root).iterations_per_epoch == 3


# The stream


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(root: Path, workers: int) -> None:
    assert_same(stream(data(root), 9), stream(data(root, workers=workers), 9))


@pytest.mark.parametrize("iteration", [1, 2, 3, 5])
def test_a_stream_goes_on_where_it_was(root: Path, iteration: int) -> None:
    """In the middle of an epoch of either domain, and at its end."""
    whole = stream(data(root), 8)
    assert_same(whole[iteration:], stream(data(root), 8 - iteration, iteration=iteration))


def test_ranks_share_one_stream(root: Path) -> None:
    alone = stream(data(root, batch_size=6), 5)
    ranks = [stream(data(root, batch_size=3), 5, rank=rank, world=2) for rank in range(2)]
    assert_same(alone, [{key: torch.cat([a[key], b[key]]) for key in a} for a, b in zip(*ranks, strict=True)])


def test_seeds_differ_and_repeat(root: Path) -> None:
    assert_same(stream(data(root, seed=3), 4), stream(data(root, seed=3), 4))
    orders = {tuple(numbers(stream(data(root, seed=seed), 4), "source", "mnist")) for seed in range(3)}
    assert len(orders) == 3


def test_what_loader_processes_need_can_be_sent_to_fresh_ones(root: Path) -> None:
    module = data_of(root, validation_count=2)
    assert ForkingPickler.dumps(module.train_dataloader().dataset)
    assert ForkingPickler.dumps(module.fixed_samples("validation"))


@pytest.mark.filterwarnings("ignore:The '.*' does not have many workers")
def test_a_training_that_is_resumed_in_the_middle_of_an_epoch_ends_with_the_same_bits(root: Path) -> None:
    """The real command: 5 iterations at once, and 3 and then 2; an epoch has five and a half batches."""
    settings = {"root": str(root), "size": 32, "batch_size": 2, "channels": 3, "validation_count": 1}
    node = {"class_path": "datamodules.Digits", "init_args": settings}
    runs = {}
    for name, steps in (("whole", [5]), ("parts", [3, 5])):
        (root / name).mkdir()
        recipe = write_recipe(root / name, data=node, checkpoints={"every": 1})
        for max_steps in steps:
            words = ["--config", recipe, "--trainer.max_steps", max_steps, "--trainer.val_check_interval", 2]
            resume = ["--resume", only_run(root / name / "runs").folder] if max_steps == 5 and len(steps) > 1 else []
            assert lightning("fit", *words, *resume) == 0
        runs[name] = only_run(root / name / "runs")
    for network in ("state_dict", "optimizer_states"):
        assert_equal(*(checkpoint_of(run, 5)[network] for run in runs.values()))
    fingerprint = data_of(root, **settings).fingerprint()
    assert all(fingerprint in run.record.read_text() for run in runs.values())


# Splits, counts and copies


def rows(module: Digits) -> dict[str, set[int]]:
    """Which digits of MNIST are trained on, held out and tested, by their greys."""
    return {
        part: {grey - FIRST_VALUE["mnist"] for grey in greys(module.labelled("source", part)[0])}  # type: ignore[arg-type]
        for part in ("train", "validation", "test")
    }


def test_parts_are_disjoint_and_whole(root: Path) -> None:
    module = data_of(root, validation_count=3)
    module.setup("test")
    parts = rows(module)
    assert {part: len(numbers_) for part, numbers_ in parts.items()} == {"train": 9, "validation": 3, "test": 5}
    assert parts["train"] | parts["validation"] == set(range(12))
    assert parts["test"] == set(range(12, 17))
    seen = set(numbers(stream(module, 20), "source", "mnist"))
    assert seen == parts["train"], "training sees nothing that is held out"
    held_out = [int(sample["source"].flatten()[0]) for sample in list_of(module.fixed_samples("validation"))]
    assert {grey - FIRST_VALUE["mnist"] for grey in held_out} <= parts["validation"]
    again = data(root, validation_count=3)
    at(again).setup("validate")
    again.setup("test")
    assert rows(again) == parts
    others = [data_of(root, validation_count=3, seed=seed) for seed in range(1, 4)]
    for other in others:
        other.setup("test")
    assert any(rows(other) != parts for other in others)


def list_of(samples: Any) -> list[dict[str, Any]]:
    return [samples[i] for i in range(len(samples))]


def test_a_subset_is_drawn_once_from_what_is_not_held_out(root: Path) -> None:
    module = data_of(root, source_count=5, target_count=4, validation_count=3)
    module.setup("test")
    parts = rows(module)
    assert len(parts["train"]) == 5
    assert not parts["train"] & parts["validation"]
    whole = data_of(root, validation_count=3)
    whole.setup("test")
    assert rows(whole)["validation"] == parts["validation"], "a subset moves nothing into or out of validation"
    assert set(numbers(stream(module, 10), "source", "mnist")) == parts["train"]
    assert len(set(numbers(stream(module, 10), "target", "usps"))) == 4
    assert parts["train"] != set(range(5)), "drawn, not the first"
    assert module.epoch_length == 5


def test_evaluation_shows_every_target_digit_once_with_labels(root: Path) -> None:
    module = data(root)
    at(module).setup("test")
    batches = list(module.test_dataloader())
    assert all(batch.keys() == {"source", "target", "source_label", "target_label"} for batch in batches)
    assert numbers(batches, "target", "usps") == list(range(7, 12))
    assert numbers(batches, "source", "mnist") == list(range(12, 17))
    assert torch.cat([batch["target_label"] for batch in batches]).tolist() == [n % 10 for n in range(7, 12)]
    assert torch.cat([batch["source_label"] for batch in batches]).tolist() == [n % 10 for n in range(12, 17)]
    write_npz(root, "usps", coded("usps", train=7, test=8))
    module = data(root)
    at(module).setup("test")
    batches = list(module.test_dataloader())
    assert numbers(batches, "target", "usps") == list(range(7, 15))
    assert numbers(batches, "source", "mnist") == [12, 13, 14, 15, 16, 12, 13, 14], "the source begins again"
    module.setup("predict")
    batches = list(module.predict_dataloader())
    assert batches[0].keys() == {"source", "source_label"}
    assert numbers(batches, "source", "mnist") == list(range(12, 17))
    assert isinstance(module.fixed_samples("test"), FixedDigits)


def test_without_held_out_digits_there_is_no_validation(root: Path) -> None:
    assert data_of(root).val_dataloader() == []
    with pytest.raises(DataError, match=r"no digits for validation\. Type --data\.validation_count 1000"):
        data(root).setup("validate")
    with pytest.raises(DataError, match="no digits for validation"):
        data_of(root).labelled("target", "validation")
    with pytest.raises(DataError, match="test part were not read yet; call setup first"):
        data_of(root).labelled("source", "test")


def test_validation_can_look_at_the_test_digits_as_the_official_code_of_unit_does(root: Path) -> None:
    module = data_of(root, validate_on_test=True)
    batches = list(module.val_dataloader())
    assert numbers(batches, "target", "usps") == list(range(7, 12))
    assert torch.cat([batch["target_label"] for batch in batches]).tolist() == [n % 10 for n in range(7, 12)]
    assert len(module.labelled("source", "train")[1]) == 12, "nothing is held out"
    assert set(numbers(stream(module, 9), "target", "usps")) == set(range(7))
    at(data(root, validate_on_test=True)).setup("validate")
    with pytest.raises(DataError, match="no digits for validation"):
        module.labelled("target", "validation")
    with pytest.raises(DataError, match=r"--data\.validation_count 0, or --data\.validate_on_test false"):
        data(root, validate_on_test=True, validation_count=2)


def test_inverted_copies_follow_the_originals_and_are_trained_on_alone(root: Path) -> None:
    module = data_of(root, source_inverted_copies=True, validation_count=2)
    module.setup("test")
    samples = module.train_samples()
    assert isinstance(samples, UnpairedDigits)
    assert len(samples.source) == 20
    assert len(samples.target) == 5
    for i in range(10):
        assert torch.equal(samples.source[i + 10], 255 - samples.source[i])
    batches = stream(module, 5)
    values = np.concatenate([np.array(greys(batch["source"])) for batch in batches])
    labels = torch.cat([batch["source_label"] for batch in batches]).tolist()
    assert (values > 127).sum() == 10
    true = np.where(values > 127, 255 - values, values) - FIRST_VALUE["mnist"]
    assert (true % 10).tolist() == labels, "a copy has its original's label"
    assert module.epoch_length == 20
    for samples in (module.fixed_samples("validation"), module.fixed_samples("test")):
        assert all(int(sample["source"].max()) < 128 for sample in list_of(samples))
    assert int(module.labelled("source", "train")[0].max()) < 128
    shown = {int(sample["source"].flatten()[0]) for sample in list_of(module.domain_samples("source"))}
    assert len(shown) == 20
    with pytest.raises(IndexError):
        samples[len(samples)]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_one_pass_shows_every_training_digit_of_a_domain(root: Path, workers: int) -> None:
    module = data_of(root, workers=workers, validation_count=1)
    for key, name, count in (("source", "mnist", 11), ("target", "usps", 6)):
        batches = list(module.domain_loader(key, 4))
        assert all(batch.keys() == {key} for batch in batches)
        shown = numbers(batches, key, name)
        assert len(set(shown)) == len(shown) == count
        assert shown != sorted(shown)
        assert_same(batches, list(module.domain_loader(key, 4)))
    with pytest.raises(DataError, match="no domain 'image'"):
        module.domain_loader("image", 4)
    with pytest.raises(DataError, match="no domain 'image'"):
        module.labelled("image", "train")


# Preparation


@pytest.mark.parametrize(("length", "size"), [(28, 32), (16, 32), (32, 28), (28, 28), (5, 13)])
def test_the_nearest_row_is_opencv_s(length: int, size: int) -> None:
    rows_ = nearest_indices(length, size)
    assert rows_.tolist() == [int(i * length / size) for i in range(size)]
    picture = noise(1, shape=(length, length))["train_images"][0]
    enlarged = DigitTransform(size, 1, "nearest")(picture)
    for y in range(size):
        for x in range(size):
            assert int(enlarged[0, y, x]) == picture[y * length // size, x * length // size]


@pytest.mark.parametrize("size", [8, 28, 33])
@pytest.mark.parametrize(
    ("name", "filter_"), [("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)]
)
def test_other_filters_are_pil_s(name: Any, filter_: Image.Resampling, size: int) -> None:
    for shape, mode in (((28, 28), "L"), ((28, 28, 3), "RGB")):
        picture = noise(1, shape=shape)["train_images"][0]
        expected = np.asarray(Image.fromarray(picture, mode=None).convert(mode).resize((size, size), filter_))
        found = DigitTransform(size, 1 if mode == "L" else 3, name)(picture)
        assert np.array_equal(found.permute(1, 2, 0).squeeze(-1).numpy(), expected)


@pytest.mark.parametrize(("channels", "source", "target"), [(None, 3, 1), (1, 1, 1), (3, 3, 3)])
def test_channels(tmp_path: Path, channels: int | None, source: int, target: int) -> None:
    colours, greys_ = noise(shape=(32, 32, 3)), noise(shape=(16, 16), seed=1)
    write_npz(tmp_path, "svhn", colours)
    write_npz(tmp_path, "usps", greys_)
    module = data_of(tmp_path, source="svhn", size=32, channels=channels)
    (batch,) = islice(module.train_dataloader(), 1)
    assert batch["source"].shape[1:] == (source, 32, 32)
    assert batch["target"].shape[1:] == (target, 32, 32)
    images, _ = module.labelled("source", "train")
    for image, colour in zip(images, colours["train_images"], strict=True):
        expected = Image.fromarray(colour)
        wanted = np.asarray(expected.convert("L"))[None] if source == 1 else np.asarray(expected).transpose(2, 0, 1)
        assert np.array_equal(image.numpy(), wanted)
    images, _ = module.labelled("target", "train")
    assert all(torch.equal(image, image[:1].expand_as(image)) for image in images)
    assert np.array_equal(images[:, 0, ::2, ::2].numpy(), greys_["train_images"])
    assert images.is_contiguous()


# Files


def writer(name: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, Arrays], Any]:
    """Who writes a set as torchvision reads it."""
    return {
        "mnist": write_mnist,
        "usps": write_usps,
        "svhn": lambda root, arrays: write_svhn(root, arrays, monkeypatch),
        "svhn_extra": lambda root, arrays: write_svhn(root, arrays, monkeypatch, "extra"),
    }[name]


SHAPES = {"mnist": (28, 28), "usps": (16, 16), "svhn": (32, 32, 3), "svhn_extra": (32, 32, 3)}


@pytest.mark.parametrize("name", SHAPES)
def test_torchvision_s_files_give_what_an_archive_gives(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = noise(12, 4, SHAPES[name])
    arrays["train_labels"][:2] = [0, 9]
    write_npz(tmp_path / "npz", name, arrays)
    writer(name, monkeypatch)(tmp_path / "torchvision", arrays)
    for split in ("train", "test"):
        one, other = (read_digits(name, "source", tmp_path / folder, split) for folder in ("npz", "torchvision"))  # type: ignore[arg-type]
        assert np.array_equal(one.images, other.images)
        assert np.array_equal(one.images, arrays[f"{split}_images"])
        assert np.array_equal(one.labels, other.labels)
        assert one.labels.tolist() == arrays[f"{split}_labels"].tolist()
        assert one.labels.dtype == other.labels.dtype == np.int64
        assert one.file == f"{name}.npz"
        assert other.file == SETS[name].files[split][0]  # type: ignore[index]


def test_a_training_from_torchvision_s_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    svhn, mnist = noise(9, 3, (32, 32, 3)), noise(7, 3, (28, 28), seed=1)
    write_svhn(tmp_path / "published", svhn, monkeypatch, "extra")
    write_mnist(tmp_path / "published", mnist)
    write_npz(tmp_path / "npz", "svhn_extra", svhn)
    write_npz(tmp_path / "npz", "mnist", mnist)
    sides = {"source": "svhn_extra", "target": "mnist", "size": 32, "target_inverted_copies": True}
    published, archives = (data_of(tmp_path / folder, **sides) for folder in ("published", "npz"))
    assert_same(*(list(islice(module.train_dataloader(), 9)) for module in (published, archives)))
    assert published.describe()["source digits"] == "9 of svhn_extra, 32x32 (extra_32x32.mat)"
    assert archives.describe()["target digits"] == "14 of mnist, half of them inverted copies, 28x28 (mnist.npz)"
    assert published.describe()["prepared"] == "32x32, channels 3/1, nearest"
    assert published.fingerprint() == archives.fingerprint(), "the same digits, however they were stored"


def no_download(*_: object, **__: object) -> None:
    raise AssertionError("nobody asked for a download")


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Whoever downloads without being asked fails."""
    monkeypatch.setattr("torchvision.datasets.svhn.download_url", no_download)
    monkeypatch.setattr("torchvision.datasets.usps.download_url", no_download)
    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", no_download)
    return monkeypatch


def test_nothing_is_downloaded_unless_asked_for(tmp_path: Path, downloads: pytest.MonkeyPatch) -> None:
    module = data(tmp_path)
    module.prepare_data()
    with pytest.raises(
        DataError, match=r"no mnist\.npz and no MNIST/raw/train-images.*, or --data\.download true to fetch"
    ):
        module.setup("fit")


def test_what_is_missing_is_fetched_when_asked_for(root: Path, downloads: pytest.MonkeyPatch) -> None:
    fetched = []

    def fetch(url: str, folder: str, name: str | None = None, md5: str | None = None) -> None:
        fetched.append(name)
        if name == "usps.bz2":
            write_usps(Path(folder), noise(shape=(16, 16)))
        (Path(folder) / "usps.t.bz2").touch(exist_ok=True)

    downloads.setattr("torchvision.datasets.usps.download_url", fetch)
    (root / "usps.npz").unlink()
    module = data(root, download=True)
    module.prepare_data()
    assert fetched == ["usps.bz2"], "its test file came along, and MNIST was there"
    at(module).setup("fit")
    assert len(module.labelled("target", "train")[1]) == 6
    (root / "usps.bz2").unlink()
    data(root, download=True).setup("fit")
    assert fetched == ["usps.bz2", "usps.bz2"], "without a trainer, setup fetches"


def test_a_download_that_fails_is_explained(root: Path, downloads: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    downloads.setattr("torchvision.datasets.usps.download_url", fail)
    (root / "usps.npz").unlink()
    with pytest.raises(
        DataError, match=r"target: usps could not be fetched into .* \(no route to host\)\. Put its files there"
    ):
        data(root, download=True).prepare_data()
    with pytest.raises(
        DataError, match=r"source: there is no mnist_m\.npz in .*Type --data\.root FOLDER where .* are$"
    ):
        data(root, source="mnist_m", download=True).prepare_data()


def test_what_is_missing_is_said_before_anything_is_built(
    root: Path, tmp_path: Path, downloads: pytest.MonkeyPatch
) -> None:
    assert Digits.missing({"root": str(root)}) == []
    (line,) = Digits.missing({"root": str(root), "source": "svhn"})
    assert line.startswith("source: there is no svhn.npz and no train_32x32.mat in")
    assert "which holds mnist.npz, usps.npz" in line
    nowhere = Digits.missing({"root": str(tmp_path / "nowhere")})
    assert [line.partition(":")[0] for line in nowhere] == ["source", "target"]
    assert all("--data.download true to fetch them" in line for line in nowhere)
    assert Digits.missing({"root": str(tmp_path / "nowhere"), "download": True}) == []
    write_usps(tmp_path / "half", noise(shape=(16, 16)))
    (tmp_path / "half" / "usps.t.bz2").unlink()
    (line,) = Digits.missing({"root": str(tmp_path / "half"), "source": "usps", "target": "mnist"})
    assert line.startswith("target"), "test digits are not needed to train"
    both = Digits.missing(
        {"root": str(tmp_path / "half"), "source": "usps", "target": "mnist", "validate_on_test": True}
    )
    assert [line.split()[0] for line in both] == ["source:", "target:", "target:"]
    assert "no usps.t.bz2" in both[0]


def saved(content: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **content)
    return file.getvalue()


BROKEN: dict[str, tuple[Callable[[Arrays], bytes], str]] = {
    "no archive": (lambda arrays: b"these are no arrays", "no archive of arrays that NumPy can read"),
    "empty": (lambda arrays: b"", "no archive of arrays"),
    "cut off": (lambda arrays: saved(arrays)[:-300], "no archive of arrays"),
    "damaged": (lambda arrays: saved(arrays).replace(bytes([12]) * 256, bytes([99]) * 256), "no archive of arrays"),
    "one array": (lambda arrays: _npy(arrays["train_images"]), "no archive of arrays"),
    "pickles": (lambda arrays: saved({**arrays, "train_labels": np.array([{}] * 12)}), "no archive of arrays"),
    "other names": (
        lambda arrays: saved({"x_train": arrays["train_images"], "y_train": arrays["train_labels"]}),
        r"has no train_images, train_labels; it holds x_train, y_train\. Expected are uint8 train_images",
    ),
    "floats": (lambda a: saved({**a, "train_images": a["train_images"] / 255}), "images are float64, not uint8"),
    "flat": (
        lambda a: saved({**a, "train_images": a["train_images"].reshape(12, -1)}),
        r"images have the shape \(12, 256\), and this set has n h w",
    ),
    "colour": (
        lambda a: saved({**a, "train_images": a["train_images"][..., None].repeat(3, 3)}),
        r"images have the shape \(12, 16, 16, 3\), and this set has n h w",
    ),
    "nothing": (lambda a: saved({name: array[:0] for name, array in a.items()}), "there are none"),
    "too few labels": (
        lambda a: saved({**a, "train_labels": a["train_labels"][:7]}),
        r"there are 12 images and labels of the shape \(7,\)",
    ),
    "float labels": (lambda a: saved({**a, "train_labels": a["train_labels"] / 1}), "labels are float64, not whole"),
    "labels of 10": (
        lambda a: saved({**a, "train_labels": a["train_labels"] + 1}),
        r"labels go from 1 to 10 \(SVHN's own files call the digit 0 by 10\)",
    ),
}


def _npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize("case", BROKEN)
def test_archives_of_another_kind_are_explained_in_a_line(case: str, root: Path) -> None:
    write, message = BROKEN[case]
    (root / "mnist.npz").write_bytes(write(coded("mnist")))
    with pytest.raises(DataError, match=message) as error:
        data(root).setup("fit")
    assert str(error.value).startswith("source: ")
    assert "\n" not in str(error.value)
    assert "--data.root FOLDER" in str(error.value)


def test_colour_sets_must_have_colours(tmp_path: Path) -> None:
    write_npz(tmp_path, "svhn", noise(shape=(32, 32)))
    write_npz(tmp_path, "usps", noise(shape=(16, 16)))
    with pytest.raises(DataError, match=r"the shape \(6, 32, 32\), and this set has n h w 3"):
        data(tmp_path, source="svhn").setup("fit")


@pytest.mark.parametrize("name", SHAPES)
def test_broken_files_of_torchvision_are_explained_in_a_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer(name, monkeypatch)(tmp_path, noise(5, 2, SHAPES[name]))
    broken = tmp_path / SETS[name].files["train"][0]
    for content in (broken.read_bytes()[:-40], b"", b"something else altogether"):
        broken.write_bytes(content)
        with pytest.raises(
            DataError, match=rf"source: .*{broken.name} cannot be read as torchvision's {name} \(.*download true"
        ) as error:
            read_digits(name, "source", tmp_path, "train")
        assert "\n" not in str(error.value)


def test_svhn_without_scipy_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_svhn(tmp_path, noise(5, 2, (32, 32, 3)), monkeypatch)
    monkeypatch.setitem(__import__("sys").modules, "scipy.io", None)
    with pytest.raises(DataError, match="Type: pip install scipy"):
        read_digits("svhn", "source", tmp_path, "train")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"source": "emnist"},
            r"source: there is no set of digits 'emnist'; there are mnist, mnist_m, usps, svhn, svhn_extra",
        ),
        ({"target": "MNIST"}, r"target: .*Type --data\.target mnist"),
        ({"target": "mnist"}, r"source and target are both mnist; .* --data\.target usps"),
        ({"source": "usps"}, r"both usps; .* --data\.target mnist"),
        ({"channels": 2}, "channels is 2; it must be 1"),
        ({"interpolation": "area"}, "interpolation is 'area'; it must be 'nearest'"),
        ({"source_count": 0}, "source_count is 0; it counts digits"),
        ({"target_count": -2}, r"must be at least 1: --data\.target_count null"),
        ({"validation_count": -1}, "validation_count is -1"),
        ({"size": 0}, "size is 0; it must be at least 1"),
        ({"batch_size": 0}, r"--data\.batch_size 1"),
    ],
)
def test_nonsense_is_refused_before_anything_is_read(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Digits(**options)


def test_more_digits_than_there_are_cannot_be_had(root: Path) -> None:
    for options in ({"target_count": 8}, {"validation_count": 7}, {"target_count": 5, "validation_count": 3}):
        with pytest.raises(DataError, match=r"target: usps\.npz has 7 training digits; .* --data\.target_count null"):
            data(root, **options).setup("fit")
    assert len(data_of(root, target_count=5, validation_count=2).labelled("target", "train")[1]) == 5


# Description, fingerprint, configuration


def test_what_there_is_can_be_told(root: Path) -> None:
    module = data_of(root, validation_count=2, target_inverted_copies=True)
    module.setup("test")
    assert module.describe() == {
        "source digits": "10 of mnist, 16x16 (mnist.npz)",
        "held out source digits": 2,
        "target digits": "10 of usps, half of them inverted copies, 16x16 (usps.npz)",
        "held out target digits": 2,
        "source test digits": "5 of mnist, 16x16 (mnist.npz)",
        "target test digits": "5 of usps, 16x16 (usps.npz)",
        "prepared": "8x8, channels 1/1, nearest",
    }


def test_the_fingerprint_follows_the_digits_and_not_the_place(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = data_of(root).fingerprint()
    assert data_of(root, seed=5, batch_size=2).fingerprint() == before
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name in ("mnist.npz", "usps.npz"):
        (elsewhere / name).write_bytes((root / name).read_bytes())
    assert data_of(elsewhere).fingerprint() == before
    others: list[dict[str, Any]] = [
        {"size": 16},
        {"channels": 3},
        {"interpolation": "bilinear"},
        {"source_count": 5},
        {"source_count": 5, "seed": 1},
        {"validation_count": 2},
        {"source_inverted_copies": True},
        {"target_inverted_copies": True},
        {"source": "usps", "target": "mnist"},
    ]
    found = {data_of(root, **options).fingerprint() for options in others}
    assert len(found | {before}) == len(others) + 1
    for key, row in (("train_images", (3, 5, 5)), ("train_labels", (3,))):
        changed = coded("mnist")
        changed[key] = changed[key].copy()
        changed[key][row] += 1
        write_npz(elsewhere, "mnist", changed)
        assert data_of(elsewhere).fingerprint() != before


@pytest.mark.parametrize("name", ["digits_mnist2usps", "digits_usps2mnist", "digits_svhn2mnist"])
def test_the_overlays_are_about_digits(name: str) -> None:
    node = yaml.safe_load((ROOT / "configs" / "data" / f"{name}.yaml").read_text())["data"]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ImageDataModule, "data")
    built = parser.instantiate(parser.parse_object({"data": node})).data
    assert isinstance(built, Digits)
    assert "2".join(built.sets.values()).replace("_extra", "") == name.removeprefix("digits_")
    assert built.size == 32


# What the official code and the published sets say


DIGIT_FILES = [path for path in golden_files("unit") if Golden(path).kind in DIGIT_KINDS]


@pytest.mark.golden
@pytest.mark.parametrize("path", DIGIT_FILES, ids=lambda path: path.stem)
def test_digits_are_prepared_as_unit_s_official_code_prepares_them(path: Path) -> None:
    check(path, DIGIT_KINDS)


@pytest.mark.skipif(not (SHARED / "mnist.npz").is_file(), reason="the sets themselves are not here: shared/data/digits")
def test_the_published_sets_have_their_published_counts() -> None:
    module = data_of(SHARED, source="usps", target="mnist", target_inverted_copies=True, size=32)
    module.setup("test")
    samples = module.train_samples()
    assert isinstance(samples, UnpairedDigits)
    assert len(samples.source) == 7291
    assert len(samples.target) == 120_000
    assert {key: len(module.labelled(key, "test")[1]) for key in ("source", "target")} == {
        "source": 2007,
        "target": 10_000,
    }
    images, labels = module.labelled("target", "train")
    assert labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    original = read_digits("mnist", "target", SHARED, "train").images
    assert original.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert original.std() / 255 == pytest.approx(0.3081, abs=5e-5)
    assert images.shape == (60_000, 1, 32, 32)
