"""Pairs and unpaired pictures from shards: the same pictures, an order of their own, and an exact resume."""

from __future__ import annotations

import gc
from collections import Counter
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from datamodules import BigGANPairs
from datamodules.errors import DataError
from datamodules.pack_shards import main, pack
from datamodules.shards import INDEX, ShardedPictures, find_shards
from support.pictures import pixels

pytestmark = [
    pytest.mark.skipif(
        find_spec("webdataset") is None,
        reason="shards are written by an extra: pip install 'translation-zoo[streaming]'",
    ),
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
]
CLASSES, LATENTS = ["9_dog", "10_bird", "100_bird"], 8


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, str]:
    """Pictures that say what they are: red is the class, green the latent vector, blue whether it is a mask."""
    for number, name in enumerate(CLASSES):
        for latent in range(LATENTS):
            for kind, root in enumerate(("pictures", "masks")):
                folder = tmp_path / root / name
                folder.mkdir(parents=True, exist_ok=True)
                colour = (20 * number, 10 * latent, 100 * kind)
                Image.new("RGB", (20, 20), colour).save(folder / f"{latent}.png")
    return {"pictures": str(tmp_path / "pictures"), "masks": str(tmp_path / "masks")}


@pytest.fixture
def shards(roots: dict[str, str], tmp_path: Path) -> str:
    assert pack(roots["pictures"], tmp_path / "shards", masks=roots["masks"], per_shard=6) == {}
    return str(tmp_path / "shards")


def module(iteration: int = 0, **options: Any) -> BigGANPairs:
    data = BigGANPairs(**{"size": 16, "load_size": 16, "workers": 0, "batch_size": 4, **options})
    data.trainer = SimpleNamespace(global_rank=0, world_size=1, global_step=iteration)  # type: ignore[assignment]
    data.setup("fit")
    return data


def batches(data: BigGANPairs, count: int) -> list[dict[str, Tensor]]:
    return list(islice(data.train_dataloader(), count))


def what(image: Tensor) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in image[:, 3, 3])
    return red // 20, green // 10, blue // 100


def test_pairs_are_of_one_latent_vector_and_masks_go_with_them(shards: str) -> None:
    for batch in batches(module(pairs=shards), 12):
        for n in range(4):
            (x_class, x_latent, x_kind), (y_class, y_latent, _) = what(batch["x"][n]), what(batch["y"][n])
            assert (x_class, x_latent) == (int(batch["x_domain"][n]), y_latent)
            assert (y_class, x_kind) == (int(batch["y_domain"][n]), 0)
            assert what(batch["x_mask"][n]) == (x_class, x_latent, 1)
            assert what(batch["mask"][n]) == (*what(batch["image"][n])[:2], 1)


def test_they_are_the_pictures_of_the_folders(roots: dict[str, str], shards: str) -> None:
    ours, theirs = module(pairs=shards), module(pairs=roots["pictures"], pairs_masks=roots["masks"])
    assert ours.domains == theirs.domains
    assert ours.epoch_length == theirs.epoch_length == len(CLASSES) * LATENTS
    assert ours.describe()["pairs: shards"] == 4
    assert ours.fingerprint() == theirs.fingerprint()
    one, other = ours._sets["pairs"], theirs._sets["pairs"]
    transform = ours.transform
    by_name = {(path.parent.name, path.name): index for index, path in enumerate(other.pictures.paths)}
    for index, path in enumerate(one.pictures.paths):
        pairs = zip(
            one.read(index, transform, (0, 0), False),
            other.read(by_name[path.parent.name, path.name], transform, (0, 0), False),
            strict=True,
        )
        assert all(torch.equal(ours_, theirs_) for ours_, theirs_ in pairs)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resume_sees_what_the_uninterrupted_run_would_have_seen(shards: str, workers: int) -> None:
    whole = batches(module(pairs=shards, unpaired=shards), 15)
    resumed = batches(module(iteration=9, pairs=shards, unpaired=shards, workers=workers), 6)
    for ours, expected in zip(resumed, whole[9:], strict=True):
        assert ours.keys() == expected.keys()
        assert all(torch.equal(ours[key], value) for key, value in expected.items())


def test_an_epoch_visits_each_picture_once_and_few_shards_at_a_time(shards: str) -> None:
    found = find_shards(shards, "pairs")
    assert found is not None
    paths = [path for paths in found.by_folder(None, "pairs").values() for path in paths]
    pictures = ShardedPictures(found, "pairs", paths, masks=False)
    count = len(paths)
    for epoch in range(3):
        order = [pictures.shuffled_index(epoch * count + i, 0, "s", window=2) for i in range(count)]
        assert sorted(order) == list(range(count))
        shard_of = [int(found.shard[found.places[paths[index]]]) for index in order]
        first = sum(Counter(found.shard.tolist())[s] for s in set(shard_of[:1]) | set(shard_of[: count // 2]))
        assert len(set(shard_of[:first])) == 2
        assert len(set(shard_of[first:])) == 2
    again = [pictures.shuffled_index(i, 0, "s", window=2) for i in range(count)]
    assert again != [pictures.shuffled_index(count + i, 0, "s", window=2) for i in range(count)]
    assert again != [pictures.shuffled_index(i, 1, "s", window=2) for i in range(count)]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_the_shards(shards: str) -> None:
    import webdataset

    files = sorted(str(path) for path in Path(shards).glob("*.tar"))
    samples = list(webdataset.WebDataset(files, shardshuffle=False).decode("rgb8"))
    assert len(samples) == len(CLASSES) * LATENTS
    for sample in samples:
        number, latent = CLASSES.index(sample["__key__"].split("/")[0]), int(sample["__key__"].split("/")[1][0])
        assert sample["png"][3, 3].tolist() == [20 * number, 10 * latent, 0]
        assert sample["mask.png"][3, 3].tolist() == [20 * number, 10 * latent, 100]
    gc.collect()  # it leaves its files to the collector, which complains here and not in another test


def test_counts_and_real_pictures_without_shared_names(roots: dict[str, str], shards: str, tmp_path: Path) -> None:
    (Path(roots["pictures"]) / "10_bird" / "extra.png").write_bytes(
        (Path(roots["pictures"]) / "10_bird" / "1.png").read_bytes()
    )
    pack(roots["pictures"], tmp_path / "real", is_linked=False, per_shard=5)
    data = module(pairs=shards, unpaired=str(tmp_path / "real"), unpaired_counts=[2, 5])
    assert data.describe()["unpaired"] == "9 pictures"
    assert "mask" not in batches(data, 1)[0]


def test_a_shard_that_changed_is_told(shards: str) -> None:
    shard = min(Path(shards).glob("*.tar"))
    content = shard.read_bytes()
    shard.write_bytes(content[:-1024])
    with pytest.raises(DataError, match="bytes in place of"):
        module(pairs=shards)
    shard.unlink()
    with pytest.raises(DataError, match="is not there"):
        module(pairs=shards)
    (Path(shards) / INDEX).write_bytes(b"nothing")
    with pytest.raises(DataError, match="cannot be read"):
        module(pairs=shards)


def test_a_picture_that_went_bad_is_replaced(shards: str) -> None:
    data = module(pairs=shards, max_bad_share=0.1)
    pictures = data._sets["pairs"].pictures
    assert isinstance(pictures, ShardedPictures)
    shard = Path(shards) / pictures.shards.files[0]
    content = bytearray(shard.read_bytes())
    first = int(np.argmin(pictures.shards.offset + 10**9 * (pictures.shards.shard != 0)))
    begin = int(pictures.shards.offset[first])
    content[begin : begin + 40] = bytes(40)
    shard.write_bytes(bytes(content))
    assert len(batches(data, 24)) == 24
    assert pictures.went_bad == 1


def test_mistakes_are_told_in_a_line(
    roots: dict[str, str], shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([roots["pictures"], "--to", shards]) == 2
    assert "already" in capsys.readouterr().err
    assert main([str(tmp_path / "nowhere"), "--to", str(tmp_path / "new")]) == 2
    assert main([roots["pictures"], "--to", str(tmp_path / "new"), "--per_shard", "8"]) == 0
    assert "3 shards" in capsys.readouterr().out
    with pytest.raises(DataError, match="pairs_masks null"):
        module(pairs=shards, pairs_masks=roots["masks"])
    assert BigGANPairs.missing({"pairs": shards}) == []


def test_whole_pictures_survive(tmp_path: Path) -> None:
    (tmp_path / "in" / "1_a").mkdir(parents=True)
    Image.fromarray(pixels()).save(tmp_path / "in" / "1_a" / "1.jpg", quality=90)
    pack(tmp_path / "in", tmp_path / "out")
    found = find_shards(tmp_path / "out", "pairs")
    assert found is not None
    path = found.by_folder(None, "pairs")["1_a"][0]
    expected = np.asarray(Image.open(tmp_path / "in" / "1_a" / "1.jpg"))
    np.testing.assert_array_equal(ShardedPictures(found, "p", [path], masks=False).decoded(path), expected)
