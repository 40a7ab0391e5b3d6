"""Folders of many domains: balanced draws, pairs of references, crops, and what people's folders hold."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import Domains
from datamodules.domain_crops import Crop, CropAndResize
from datamodules.errors import DataError
from support.pictures import make_folder, pixels

COUNTS = {"cat": 3, "dog": 2, "wild": 5}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    start = 0
    for name, count in COUNTS.items():
        make_folder(tmp_path / "train" / name, count, start=start)
        make_folder(tmp_path / "val" / name, count, start=100 + start)
        start += count
    (tmp_path / "train" / "notes.txt").write_text("a stray file")
    (tmp_path / "train" / ".DS_Store").write_text("another one")
    return tmp_path


def domains(root: Path, **arguments: Any) -> Domains:
    settings = {
        "train": str(root / "train"),
        "validation": str(root / "val"),
        "size": 16,
        "batch_size": 2,
        "workers": 0,
    }
    data = Domains(**{**settings, **arguments})
    data.setup("fit")
    return data


def test_domains_are_numbered_by_their_folders(root: Path) -> None:
    data = domains(root)
    assert data.domains == ["cat", "dog", "wild"]
    assert data.epoch_length == 10
    assert data.describe()["train pictures"] == "cat 3, dog 2, wild 5"
    batch = next(iter(data.train_dataloader()))
    assert set(batch) == {"image", "domain", "reference", "reference2", "reference_domain"}
    for key in ("image", "reference", "reference2"):
        assert batch[key].dtype == torch.uint8
        assert batch[key].shape == (2, 3, 16, 16)
    assert batch["domain"].dtype == batch["reference_domain"].dtype == torch.int64


def test_a_sample_is_a_function_of_seed_and_number(root: Path) -> None:
    first, again, other = domains(root), domains(root), domains(root, seed=1)
    for i in (0, 7, 10_000):
        one, two = first.train_samples()(i), again.train_samples()(i)
        assert all(torch.equal(torch.as_tensor(one[key]), torch.as_tensor(two[key])) for key in one)
    images = [torch.stack([data.train_samples()(i)["image"] for i in range(8)]) for data in (first, other)]
    assert not torch.equal(*images)


def test_domains_come_alike_and_independently(root: Path) -> None:
    sample = domains(root, crop_probability=0.0, flip=False).train_samples()
    drawn = [sample.files.draw(i, "image") for i in range(6000)]  # type: ignore[attr-defined]
    others = [sample.files.draw(i, "reference") for i in range(6000)]  # type: ignore[attr-defined]
    share = {domain: count / 6000 for domain, count in Counter(domain for domain, _ in drawn).items()}
    assert share == pytest.approx({0: 1 / 3, 1: 1 / 3, 2: 1 / 3}, abs=0.03)
    files = Counter(drawn)
    assert set(files) == {(d, i) for d, count in enumerate(COUNTS.values()) for i in range(count)}
    assert files[1, 0] / files[2, 0] == pytest.approx(2.5, rel=0.2)
    same = sum(one[0] == other[0] for one, other in zip(drawn, others, strict=True)) / 6000
    assert same == pytest.approx(1 / 3, abs=0.03)


def test_references_are_pairs_of_one_domain_for_the_whole_run(root: Path) -> None:
    data = domains(root, crop_probability=0.0, flip=False)
    sample = data.train_samples()
    files = sample.files  # type: ignore[attr-defined]
    for number, count in enumerate(COUNTS.values()):
        partners = [files.partner(number, index) for index in range(count)]
        assert sorted(partners) == list(range(count)), "each is a first and a second reference once"
    shown = {bytes(files.read(d, i).tobytes()): (d, i) for d, c in enumerate(COUNTS.values()) for i in range(c)}
    assert len(shown) == 10
    small = {sample.transform(files.read(d, i)).tobytes(): (d, i) for d, i in shown.values()}  # type: ignore[attr-defined]
    for i in range(30):
        made = sample(i)
        first, second = (small[made[key].permute(1, 2, 0).numpy().tobytes()] for key in ("reference", "reference2"))
        assert first[0] == second[0] == made["reference_domain"]
        assert second[1] == files.partner(*first)


def test_validation_goes_through_all_pairs_of_domains(root: Path) -> None:
    data = domains(root, validation_count=12)
    samples = data.fixed_samples("validation")
    assert samples is not None
    pairs = Counter((samples[i]["domain"], samples[i]["reference_domain"]) for i in range(12))
    assert pairs == dict.fromkeys([(a, b) for a in range(3) for b in range(3) if a != b], 2)
    assert torch.equal(samples[5]["image"], samples[5]["image"])
    with pytest.raises(IndexError):
        samples[12]


def test_a_single_domain_is_its_own_target(tmp_path: Path) -> None:
    make_folder(tmp_path / "train" / "only", 2)
    make_folder(tmp_path / "val" / "only", 2, start=5)
    samples = domains(tmp_path).fixed_samples("validation")
    assert samples is not None
    assert samples[3]["domain"] == samples[3]["reference_domain"] == 0


# Crops ---------------------------------------------------------------------------------------------------------------


def test_crops_keep_their_share_and_aspect() -> None:
    transform, generator = CropAndResize(16), np.random.default_rng(0)
    crops = [transform.draw(100, 200, generator) for _ in range(1000)]
    used = [crop for crop, _ in crops if crop is not None]
    assert len(used) == pytest.approx(500, abs=60)
    assert sum(flip for _, flip in crops) == pytest.approx(500, abs=60)
    # A picture twice as wide as high holds no crop of 80 % of it with such an aspect: the middle is taken.
    assert {(c.height, c.width) for c in used} == {(100, 110)}
    square = [crop for crop, _ in (transform.draw(100, 100, generator) for _ in range(1000)) if crop is not None]
    for crop in square:
        assert 0.79 <= crop.height * crop.width / 10_000 <= 1
        assert 0.88 <= crop.width / crop.height <= 1.12
        assert crop.top + crop.height <= 100
        assert crop.left + crop.width <= 100
    high = next(crop for crop, _ in iter(lambda: transform.draw(300, 100, generator), None) if crop is not None)
    assert (high.height, high.width) == (111, 100)


def test_crop_resize_and_flip_are_pil_s() -> None:
    picture = pixels(40, 30)
    made = CropAndResize(16)(picture, Crop(3, 2, 32, 24), flip=True)
    expected = Image.fromarray(picture).crop((2, 3, 26, 35)).resize((16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(made, np.asarray(expected)[:, ::-1])
    np.testing.assert_array_equal(CropAndResize(24)(pixels(24, 24)), pixels(24, 24))
    assert not CropAndResize(16, flip=False).draw(20, 20, np.random.default_rng(1))[1]


# Mistakes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"crop_probability": 2.0}, "crop_probability is 2.0"),
        ({"crop_scale": (0.9, 0.8)}, "crop_scale is"),
        ({"crop_ratio": (0.0, 1.0)}, "crop_ratio is"),
        ({"validation_count": 0}, "validation_count is 0"),
        ({"check": "some"}, "check is 'some'"),
        ({"max_bad_share": 2.0}, "max_bad_share is 2.0"),
    ],
)
def test_impossible_arguments_are_refused(root: Path, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        domains(root, **arguments)


def test_folders_that_cannot_be_right_are_refused(root: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        domains(root, train=str(root / "nowhere"))
    make_folder(root / "other" / "cat", 1, start=50)
    with pytest.raises(DataError, match="the folders are cat, and the domains are cat, dog, wild"):
        domains(root, validation=str(root / "other"))
    with pytest.raises(DataError, match="are trained on too"):
        domains(root, validation=str(root / "train"))
    with pytest.raises(DataError, match="no pictures for validation"):
        Domains(train=str(root / "train"), size=16).setup("validate")
    (root / "train" / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no picture"):
        domains(root)
    assert Domains.missing({"train": str(root / "nowhere")})
    assert Domains.missing({"train": str(root / "val")}) == []


def test_a_file_that_goes_bad_is_replaced_in_its_domain(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = domains(root, check="none", max_bad_share=1.0, crop_probability=0.0, flip=False)
    files = data.train_samples().files  # type: ignore[attr-defined]
    (root / "train" / "dog" / "000.png").write_bytes(b"spoilt")
    np.testing.assert_array_equal(files.read(1, 0, 5), files.read(1, 1, 5))
    assert "dog: " in capsys.readouterr().err
    assert data.describe()["went bad since"] == 1


def test_the_fingerprint_follows_the_files(root: Path) -> None:
    first = domains(root).fingerprint()
    assert first == domains(root).fingerprint()
    (root / "train" / "dog" / "000.png").rename(root / "train" / "dog" / "009.png")
    assert first != domains(root).fingerprint()
