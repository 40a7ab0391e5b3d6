import os
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
from lightning import LightningModule, Trainer
from PIL import Image
from torch import Tensor

from datamodules import UnpairedFolders
from datamodules.base import ImageDataModule
from datamodules.errors import DataError
from datamodules.pictures import decode
from support.pictures import make_bad, make_folder, pixels

# Lightning asks for more workers than these few pictures need; tests use more than a small machine has cores.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*' does not have many workers"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:Total length of `list` across ranks is zero"),  # no validation is meant
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning"),  # Lightning's, of PyTorch
]

Batches = list[dict[str, Tensor]]


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    make_folder(tmp_path / "in/a", 7)
    make_folder(tmp_path / "in/b", 10, start=100)
    return {"source": str(tmp_path / "in/a"), "target": str(tmp_path / "in/b")}


def data(folders: dict[str, Any], **options: Any) -> UnpairedFolders:
    return UnpairedFolders(**{**folders, "size": 16, "load_size": 20, "workers": 0, **options})


def at(module: ImageDataModule, *, rank: int = 0, world: int = 1, iteration: int = 0) -> ImageDataModule:
    """Let a DataModule believe in a trainer."""
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


def test_training_batches_are_bytes_of_both_domains(folders: dict[str, str]) -> None:
    (batch,) = stream(data(folders, batch_size=3), 1)
    assert batch.keys() == {"source", "target"}
    for images in batch.values():
        assert images.shape == (3, 3, 16, 16)
        assert images.dtype == torch.uint8
    scaled = data(folders).on_after_batch_transfer(batch, 0)
    assert scaled["source"].dtype == torch.float32
    assert -1 <= scaled["source"].min() < -0.2 < 0.2 < scaled["source"].max() <= 1


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_change_nothing(folders: dict[str, str], workers: int) -> None:
    assert_same(stream(data(folders, batch_size=2), 12), stream(data(folders, batch_size=2, workers=workers), 12))


def test_ranks_take_turns_in_one_stream(folders: dict[str, str]) -> None:
    alone = stream(data(folders, batch_size=6), 3)
    ranks = [stream(data(folders, batch_size=3), 3, rank=rank, world=2) for rank in range(2)]
    together = [{key: torch.cat([a[key], b[key]]) for key in a} for a, b in zip(*ranks, strict=True)]
    assert_same(alone, together)


def test_what_loader_processes_need_can_be_sent_to_fresh_ones(folders: dict[str, str], tmp_path: Path) -> None:
    module = data(folders, validation_fraction=0.2, cache=str(tmp_path / "cache"))
    at(module).setup("fit")
    stream = module.train_dataloader().dataset
    assert ForkingPickler.dumps(stream)
    assert ForkingPickler.dumps(module.fixed_samples("validation"))


def test_seeds_differ_and_repeat(folders: dict[str, str]) -> None:
    assert_same(stream(data(folders, seed=3), 4), stream(data(folders, seed=3), 4))
    other = stream(data(folders, seed=4), 4)
    assert any(not torch.equal(a["source"], b["source"]) for a, b in zip(stream(data(folders), 4), other, strict=True))


def test_domains_get_crops_of_their_own(tmp_path: Path) -> None:
    for name in "ab":
        make_folder(tmp_path / name, 1)
    module = data({"source": str(tmp_path / "a"), "target": str(tmp_path / "b")}, load_size=40)
    same = [torch.equal(batch["source"], batch["target"]) for batch in stream(module, 10)]
    assert not all(same)


def test_domains_can_share_crop_and_flip(tmp_path: Path) -> None:
    for name in "ab":
        make_folder(tmp_path / name, 1)
    folders = {"source": str(tmp_path / "a"), "target": str(tmp_path / "b")}
    module = data(folders, load_size=40, shared_augmentation=True, interpolation="bilinear")
    batches = stream(module, 20)
    assert all(torch.equal(batch["source"], batch["target"]) for batch in batches)
    assert len({batch["source"].numpy().tobytes() for batch in batches}) > 15
    assert module.transform.interpolation == "bilinear"
    apart = stream(data(folders, load_size=40, interpolation="bilinear"), 20)
    assert not all(torch.equal(batch["source"], batch["target"]) for batch in apart)


def test_load_size_follows_size(folders: dict[str, str]) -> None:
    assert UnpairedFolders(**folders).transform.load_size == 286
    assert UnpairedFolders(**folders, size=64).transform.load_size == 72


@pytest.mark.parametrize("workers", [0, 2])
def test_one_pass_shows_every_picture_of_a_domain(folders: dict[str, str], workers: int) -> None:
    module = data(folders, load_size=16, flip=False, workers=workers)
    module.setup("fit")
    for key, count in (("source", 7), ("target", 10)):
        batches = list(module.domain_loader(key, 4))
        assert [len(batch[key]) for batch in batches] == [4] * (count // 4) + [count % 4]
        assert all(batch.keys() == {key} and batch[key].dtype == torch.uint8 for batch in batches)
        shown = [image.numpy().tobytes() for batch in batches for image in batch[key]]
        fixed = [module.fixed_samples("validation")]
        assert fixed == [None]
        paths = module._sets[key].paths
        in_order = [
            np.asarray(Image.fromarray(decode(path)).resize((16, 16), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
            for path in paths
        ]
        assert sorted(shown) == sorted(image.tobytes() for image in in_order)
        assert shown != [image.tobytes() for image in in_order], "shuffled"
        assert_same(batches, list(module.domain_loader(key, 4)))
        assert len(list(module.domain_loader(key, 4, drop_last=True))) == count // 4


def test_one_pass_has_training_s_crops_and_flips_and_follows_the_direction(folders: dict[str, str]) -> None:
    module = data(folders, load_size=40, direction="target_to_source", validation_fraction=0.2)
    module.setup("fit")
    (batch,) = module.domain_loader("target", 64, drop_last=True)
    assert batch["target"].shape == (6, 3, 16, 16), "the source's seven but one held out"
    plain = data(folders, load_size=40, direction="target_to_source", validation_fraction=0.2, flip=False)
    plain.setup("fit")
    (other,) = plain.domain_loader("target", 64)
    same = [torch.equal(a, b) for a, b in zip(batch["target"], other["target"], strict=True)]
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(batch["target"], other["target"], strict=True)]
    assert all(one != two for one, two in zip(same, mirrored, strict=True))
    assert 0 < sum(mirrored) < 6
    with pytest.raises(DataError, match="no domain 'image'"):
        module.domain_loader("image", 4)
    with pytest.raises(DataError, match="call setup first"):
        data(folders).domain_loader("source", 4)


def test_flips_can_be_switched_off(folders: dict[str, str]) -> None:
    options = {"load_size": 16, "pairing": "serial"}
    plain = stream(data(folders, flip=False, **options), 10)
    flipped = stream(data(folders, **options), 10)
    as_is = [torch.equal(a["source"], b["source"]) for a, b in zip(plain, flipped, strict=True)]
    mirrored = [torch.equal(a["source"].flip(-1), b["source"]) for a, b in zip(plain, flipped, strict=True)]
    assert any(as_is)
    assert any(mirrored)
    assert all(a != b for a, b in zip(as_is, mirrored, strict=True))


def test_direction_exchanges_the_domains(folders: dict[str, str]) -> None:
    options = {"load_size": 16, "flip": False, "pairing": "serial"}
    (forward,) = stream(data(folders, **options), 1)
    backward = data(folders, direction="target_to_source", **options)
    (batch,) = stream(backward, 1)
    assert torch.equal(batch["source"], forward["target"])
    assert backward.describe()["source pictures"] == 10


def test_channels_1_gives_grey(folders: dict[str, str]) -> None:
    (batch,) = stream(data(folders, channels=1), 1)
    assert batch["source"].shape == (1, 1, 16, 16)


@pytest.mark.parametrize(("batch", "world", "expected"), [(1, 1, 10), (3, 1, 3), (2, 2, 2), (16, 1, 1)])
def test_iterations_per_epoch(folders: dict[str, str], batch: int, world: int, expected: int) -> None:
    module = at(data(folders, batch_size=batch), world=world)
    module.setup("fit")
    assert module.epoch_length == 10
    assert module.iterations_per_epoch == expected


def test_an_epoch_shows_every_picture_of_the_larger_domain(folders: dict[str, str]) -> None:
    module = data({"source": folders["target"], "target": folders["source"]}, load_size=16, flip=False)
    shown = {batch["source"].numpy().tobytes() for batch in stream(module, 10)}
    assert len(shown) == 10


# Splits and stages


def paths(module: UnpairedFolders, name: str) -> set[Path]:
    return set(module._sets[name].paths)


def test_held_out_pictures_are_never_trained_on(folders: dict[str, str]) -> None:
    module = data(folders, validation_fraction=0.3)
    module.setup("fit")
    for domain, held_out in (("source", 2), ("target", 3)):
        assert len(paths(module, f"held_out_{domain}")) == held_out
        assert not paths(module, domain) & paths(module, f"held_out_{domain}")
        assert len(paths(module, domain) | paths(module, f"held_out_{domain}")) == {"source": 7, "target": 10}[domain]
    assert module.describe()["held out target pictures"] == 3
    again = data(folders, validation_fraction=0.3)
    again.setup("validate")
    assert paths(again, "held_out_source") == paths(module, "held_out_source")
    other = data(folders, validation_fraction=0.3, seed=1)
    other.setup("fit")
    assert paths(other, "held_out_target") != paths(module, "held_out_target")


def test_one_file_more_moves_no_other_between_splits(folders: dict[str, str]) -> None:
    module = data(folders, validation_fraction=0.3)
    module.setup("fit")
    make_folder(Path(folders["target"]) / "more", 1, start=50)
    grown = data(folders, validation_fraction=0.3)
    grown.setup("fit")
    moved = paths(module, "held_out_target") ^ paths(grown, "held_out_target")
    assert len({path for path in moved if path.parent.name != "more"}) <= 1


def test_validation_is_fixed_and_whole(folders: dict[str, str], tmp_path: Path) -> None:
    make_folder(tmp_path / "val/a", 3, start=30)
    make_folder(tmp_path / "val/b", 2, start=40)
    validation = {"validation_source": str(tmp_path / "val/a"), "validation_target": str(tmp_path / "val/b")}
    module = data(folders, batch_size=2, **validation)
    module.setup("fit")
    loader = module.val_dataloader()
    batches = list(loader)
    assert_same(batches, list(loader))
    assert [len(batch["source"]) for batch in batches] == [2, 1]
    sources = torch.cat([batch["source"] for batch in batches])
    for number in range(3):
        picture = Image.fromarray(pixels(number=30 + number)).resize((16, 16), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(sources[number].permute(1, 2, 0).numpy(), np.asarray(picture))
    targets = torch.cat([batch["target"] for batch in batches])
    assert torch.equal(targets[0], targets[2])
    assert module.fixed_samples("test") is not None


@pytest.mark.parametrize("stage", ["test", "predict"])
def test_ranks_share_evaluation_without_repeats(folders: dict[str, str], tmp_path: Path, stage: str) -> None:
    tests = {"test_source": str(make_folder(tmp_path / "t/a", 5)), "test_target": str(make_folder(tmp_path / "t/b", 5))}
    seen = []
    for rank in range(2):
        module = at(data(folders, **tests), rank=rank, world=2)
        module.setup(stage)
        loader = module.test_dataloader() if stage == "test" else module.predict_dataloader()
        seen += [batch["source"].numpy().tobytes() for batch in loader]
    assert len(seen) == len(set(seen)) == 5


def test_predict_names_its_files(folders: dict[str, str], tmp_path: Path) -> None:
    make_folder(tmp_path / "p", 3, height=30, width=50)
    module = data(folders, predict=[str(tmp_path / "p")], preprocess="none", batch_size=4)
    module.setup("predict")
    batches = list(module.predict_dataloader())
    assert [batch["path"] for batch in batches] == [[str(tmp_path / f"p/{i:03d}.png")] for i in range(3)]
    assert batches[0]["source"].shape == (1, 3, 32, 48)
    assert module.describe() == {"pictures to translate": 3, "left out": 0}


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("validate", "no pictures for validation. Type --data.validation_source FOLDER"),
        ("test", "no pictures for test. Type --data.test_source FOLDER"),
        ("predict", "no pictures to translate. Type --data.predict FOLDER"),
    ],
)
def test_stages_without_pictures_are_explained(folders: dict[str, str], stage: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        data(folders).setup(stage)


def test_fit_does_without_validation(folders: dict[str, str]) -> None:
    module = data(folders)
    module.setup("fit")
    assert module.val_dataloader() == []


# Data that is not as it should be


def test_bad_pictures_are_left_out_with_a_line(folders: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    make_bad("empty", Path(folders["source"]) / "x.jpg")
    module = data(folders)
    module.setup("fit")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("source: 1 of 8 pictures left out: ")
    assert line.endswith("x.jpg (the file is empty)")
    assert module.describe()["source pictures"] == 7
    assert str(module.describe()["left out"]).startswith("1: ")
    with pytest.raises(DataError, match="source: 1 of 8 pictures cannot be used"):
        data(folders, max_bad_share=0.0).setup("fit")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_folder_that_changes_during_training(folders: dict[str, str], workers: int) -> None:
    module = data(folders, workers=workers)
    module.setup("fit")
    batches: Iterator[dict[str, Tensor]] = iter(module.train_dataloader())
    next(batches)
    Path(folders["source"], "003.png").unlink()
    assert len(list(islice(batches, 30))) == 30
    assert module.describe()["went bad since"] == 1
    shutil.rmtree(folders["source"])
    with pytest.raises(DataError, match=r"went bad since the start, more than max_bad_share 0\.05 allows"):
        list(islice(batches, 30))


def test_pictures_smaller_than_the_crop_are_left_out_where_nothing_resizes(folders: dict[str, str]) -> None:
    make_folder(Path(folders["source"]) / "small", 1, height=18, width=40)
    module = data(folders, preprocess="crop", size=20)
    module.setup("fit")
    assert module.describe()["source pictures"] == 7


def test_mixed_sizes_do_not_fit_into_a_batch(folders: dict[str, str]) -> None:
    data(folders, preprocess="none", batch_size=2).setup("fit")
    make_folder(Path(folders["source"]) / "large", 1, height=40)
    data(folders, preprocess="none").setup("fit")
    with pytest.raises(DataError, match=r"source: preprocess 'none' leaves pictures at 2 different sizes \(32 x 24"):
        data(folders, preprocess="none", batch_size=2).setup("fit")


def test_domains_and_splits_must_not_share_pictures(folders: dict[str, str]) -> None:
    parent = str(Path(folders["source"]).parent)
    with pytest.raises(DataError, match="source and target share 10 pictures"):
        data({**folders, "source": parent}).setup("fit")
    with pytest.raises(DataError, match="source and validation_source share 7 pictures"):
        data(folders, validation_source=folders["source"], validation_target=folders["target"]).setup("fit")


def test_a_missing_folder_is_named_by_its_argument(folders: dict[str, str]) -> None:
    with pytest.raises(DataError, match=r"target: there is no folder .*--data\.target"):
        data({**folders, "target": "nowhere/trainB"}, direction="target_to_source").setup("fit")


def test_too_few_to_hold_out(tmp_path: Path) -> None:
    one = {"source": str(make_folder(tmp_path / "a", 1)), "target": str(make_folder(tmp_path / "b", 9))}
    with pytest.raises(DataError, match="source: 1 pictures are too few"):
        data(one, validation_fraction=0.1).setup("fit")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": -4}, "size is -4; it must be at least 1"),
        ({"size": 10**7}, "size is 10000000; it is a side in pixels and must be at most 16384"),
        (
            {"load_size": 10**7},
            "load_size is 10000000; it is a number of pixels and must be at least 1 and at most 16384",
        ),
        ({"size": 22, "load_size": 24}, "need a multiple of 4: --data.size 24"),
        ({"size": 64}, "Set load_size to 64 or more"),
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1: --data.batch_size 1"),
        ({"workers": 10**7}, r"workers is 10000000, and this machine has \d+ cores; .* at most \d+: --data.workers 4"),
        ({"workers": -1}, "workers is -1; it must be at least 0: --data.workers 0"),
        ({"seed": -1}, "seed is -1"),
        ({"preprocess": "resize"}, "did you mean 'resize_and_crop'"),
        ({"interpolation": "nearest"}, "must be one of bicubic, bilinear"),
        ({"shared_augmentation": True, "preprocess": "crop"}, "--data.preprocess resize_and_crop"),
        ({"pairing": "paired"}, "'random' or 'serial'"),
        ({"direction": "BtoA"}, "'target_to_source'"),
        ({"check": "all"}, "'header', 'full' or 'none'"),
        ({"validation_fraction": 0.6}, "must lie between 0 and 0.5"),
        ({"max_bad_share": 2.0}, "must lie between 0 and 1"),
        ({"min_side": 0}, "min_side is 0"),
        ({"source": []}, "source names no folder"),
        ({"validation_source": "v"}, "without validation_target. Type --data.validation_target FOLDER"),
        ({"test_target": "v"}, "without test_source"),
        (
            {"validation_source": "v", "validation_target": "w", "validation_fraction": 0.1},
            "Both validation folders and validation_fraction",
        ),
        ({"preprocess": "none", "batch_size": 2, "check": "none"}, "--data.batch_size 1"),
        ({"target": ["x", "./a/../b"], "source": "b"}, "source and target are both .*/b; they must be two domains"),
    ],
)
def test_nonsense_is_refused_before_anything_is_read(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        data({"source": "a", "target": "b"}, **options)


def test_long_checks_are_announced(
    folders: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datamodules.unpaired._MANY", 8)
    data(folders).setup("fit")
    assert capsys.readouterr().err == "target: checking 10 pictures (--data.check none skips this) ...\n"


# Cache, description, fingerprint, configuration


def test_a_cache_changes_nothing_but_the_time(folders: dict[str, str], tmp_path: Path) -> None:
    plain = stream(data(folders), 20)
    cached = {"cache": str(tmp_path / "cache")}
    assert_same(plain, stream(data(folders, **cached), 20))
    entries = list((tmp_path / "cache").rglob("*.pixels"))
    assert 7 < len(entries) <= 17
    assert_same(plain, stream(data(folders, workers=2, **cached), 20))
    entries[0].write_bytes(b"rubbish")
    assert_same(plain, stream(data(folders, **cached), 20))


def test_fingerprint_follows_the_data_and_not_the_place(folders: dict[str, str], tmp_path: Path) -> None:
    def fingerprint(**options: Any) -> str:
        module = data({**folders, **options})
        module.setup("fit")
        return module.fingerprint()

    first = fingerprint()
    assert first == fingerprint() == fingerprint(seed=5)
    shutil.copytree(folders["source"], tmp_path / "moved")
    assert fingerprint(source=str(tmp_path / "moved")) == first
    assert fingerprint(direction="target_to_source") != first
    assert fingerprint(validation_fraction=0.2) != first
    make_folder(Path(folders["source"]), 8)
    assert fingerprint() != first


def test_several_folders_make_one_domain(folders: dict[str, str], tmp_path: Path) -> None:
    more = str(make_folder(tmp_path / "more", 2, start=60))
    module = data({**folders, "source": [folders["source"], more]})
    module.setup("fit")
    assert module.describe() == {"source pictures": 9, "target pictures": 10, "left out": 0}


def test_counts_keep_the_first_of_each_folder(folders: dict[str, str], tmp_path: Path) -> None:
    more = str(make_folder(tmp_path / "more", 5, start=60))
    module = data({**folders, "source": [folders["source"], more]}, source_count=[3, 2], target_count=4000)
    module.setup("fit")
    assert [path.name for path in module._sets["source"].paths] == [
        "000.png",
        "001.png",
        "002.png",
        "000.png",
        "001.png",
    ]
    assert module.describe()["target pictures"] == 10
    with pytest.raises(DataError, match="target_count has 2 numbers for 1 folders"):
        data(folders, target_count=[1, 2])


def test_pictures_come_in_natural_order(tmp_path: Path) -> None:
    for name in "ab":
        make_folder(tmp_path / name, 1)
        for number in (10, 9):
            shutil.copy(tmp_path / name / "000.png", tmp_path / name / f"{number}.png")
    module = data({"source": str(tmp_path / "a"), "target": str(tmp_path / "b")})
    module.setup("fit")
    assert [path.name for path in module._sets["target"].paths] == ["000.png", "9.png", "10.png"]


def test_all_folders_that_are_missing_are_named_at_once(folders: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert UnpairedFolders.missing(folders) == []
    found = UnpairedFolders.missing(
        {
            "source": [folders["source"], str(tmp_path / "cat")],
            "target": str(tmp_path / "empty"),
            "validation_source": str(tmp_path / "val"),
            "validation_target": None,
            "test_source": str(tmp_path / "test, which training does without"),
            "size": 64,
        }
    )
    assert [sentence.partition(":")[0] for sentence in found] == ["source", "target", "validation_source"]
    assert f"there is no folder {tmp_path}/cat" in found[0]
    assert "no picture in" in found[1]
    assert all(
        f"--data.{name} " in text for name, text in zip(("source", "target", "validation_source"), found, strict=True)
    )


def test_yaml_builds_it(folders: dict[str, str]) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--data", type=ImageDataModule)
    arguments = {"source": [folders["source"]], "target": folders["target"], "preprocess": "scale_width", "cache": None}
    made = parser.instantiate(
        parser.parse_object({"data": {"class_path": "datamodules.UnpairedFolders", "init_args": arguments}})
    )
    assert isinstance(made.data, UnpairedFolders)
    assert made.data.folders["source"] == [folders["source"]]


# With Lightning


class Recorder(LightningModule):
    """Keeps what arrives; one optimiser step per batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.trained: list[Tensor] = []
        self.validated: list[Tensor] = []

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.trained.append(batch["source"])
        return (self.weight * batch["source"].mean()).sum()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.validated.append(batch["source"])

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.validated.append(batch["source"])

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Any:
        return batch["path"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def trainer(folder: Path, **options: Any) -> Trainer:
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        **{"devices": 1, **options},
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_trainer_resumes_where_it_stopped(folders: dict[str, str], tmp_path: Path, workers: int) -> None:
    whole = Recorder()
    trainer(tmp_path, max_steps=7, enable_checkpointing=False).fit(whole, data(folders, workers=workers))
    first, second = Recorder(), Recorder()
    interrupted = trainer(tmp_path, max_steps=4)
    interrupted.fit(first, data(folders, workers=workers))
    interrupted.save_checkpoint(tmp_path / "half.ckpt")
    resumed = trainer(tmp_path, max_steps=7)
    resumed.fit(second, data(folders, workers=workers), ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    assert len(second.trained) == 3
    assert torch.equal(torch.cat(whole.trained), torch.cat(first.trained + second.trained))
    assert -1 <= torch.cat(whole.trained).min() < 0 < torch.cat(whole.trained).max() <= 1


def test_short_epochs_do_not_begin_again(folders: dict[str, str], tmp_path: Path) -> None:
    long, short = Recorder(), Recorder()
    trainer(tmp_path, max_steps=6, enable_checkpointing=False).fit(long, data(folders))
    trainer(tmp_path, max_steps=6, limit_train_batches=2, enable_checkpointing=False).fit(short, data(folders))
    assert torch.equal(torch.cat(long.trained), torch.cat(short.trained))


def test_validation_leaves_the_stream_and_global_generators_alone(folders: dict[str, str], tmp_path: Path) -> None:
    plain, validated = Recorder(), Recorder()
    trainer(tmp_path, max_steps=6, enable_checkpointing=False).fit(plain, data(folders, validation_fraction=0.2))
    torch.manual_seed(0)
    trainer(tmp_path, max_steps=6, val_check_interval=2, enable_checkpointing=False).fit(
        validated, data(folders, validation_fraction=0.2)
    )
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(1))
    assert torch.equal(torch.cat(plain.trained), torch.cat(validated.trained))
    assert not plain.validated
    assert len(validated.validated) == 3 * 2


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("32-true", torch.float32),
        ("64-true", torch.float64),
        ("bf16-true", torch.bfloat16),
        ("bf16-mixed", torch.float32),
    ],
)
def test_pictures_come_in_the_trainer_s_precision(
    folders: dict[str, str], tmp_path: Path, precision: Any, dtype: torch.dtype
) -> None:
    recorder = Recorder()
    trainer(tmp_path, max_steps=1, precision=precision, enable_checkpointing=False).fit(recorder, data(folders))
    assert recorder.trained[0].dtype == dtype
    exact = Recorder()
    trainer(tmp_path, max_steps=1, enable_checkpointing=False).fit(exact, data(folders))
    assert torch.equal(recorder.trained[0], exact.trained[0].to(dtype))


def test_floats_and_labels_are_left_alone(folders: dict[str, str]) -> None:
    batch = {"mask": torch.rand(2, 1, 4, 4), "label": torch.tensor([1, 2]), "path": ["a", "b"]}
    found = data(folders).on_after_batch_transfer(batch, 0)
    assert all(found[key] is batch[key] for key in batch)


def test_trainer_tests_and_predicts(folders: dict[str, str], tmp_path: Path) -> None:
    module = data(folders, validation_fraction=0.3, predict=folders["source"])
    recorder = Recorder()
    trainer(tmp_path).test(recorder, module, verbose=False)
    assert len(recorder.validated) == 3
    found = trainer(tmp_path).predict(recorder, module)
    assert [Path(path).name for (path,) in found or []] == [f"{i:03d}.png" for i in range(7)]


# Real photographs

ROOT = Path(__file__).resolve().parents[2]
PHOTOGRAPHS = Path(os.environ.get("ZOO_SHARED", ROOT / "../shared")) / "data/afhq_sample"


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="needs photographs: data/afhq_sample below ZOO_SHARED")
def test_photographs() -> None:
    module = UnpairedFolders(str(PHOTOGRAPHS / "train/cat"), str(PHOTOGRAPHS / "train/dog"), check="full", workers=0)
    batches = stream(module, 4)
    assert module.describe()["left out"] == 0
    for batch in batches:
        assert batch["source"].shape == (1, 3, 256, 256)
        assert batch["source"].float().std() > 10
    picture = decode(module._sets["source"].paths[0])
    assert picture.shape == (256, 256, 3)
