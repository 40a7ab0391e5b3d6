"""One folder of pictures without domains, with labels or without."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import Landscapes
from datamodules.errors import DataError
from datamodules.landscapes import labels_of, read_labels
from datamodules.preprocess import Transform
from support.pictures import make_folder


def pile(folder: Path, count: int = 6) -> Path:
    """Pictures of two shapes, one of them in a folder below."""
    make_folder(folder, count // 2, 40, 60)
    make_folder(folder / "below", count - count // 2, 60, 44, start=50)
    return folder


def labels_for(pictures: Path, folder: Path, classes: int = 3) -> Path:
    """Labels whose class is the brightness of the red channel, by steps."""
    for path in sorted(pictures.rglob("*.png")):
        red = np.asarray(Image.open(path))[:, :, 0]
        target = folder / path.relative_to(pictures)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((red.astype(int) * classes // 256).astype(np.uint8)).save(target)
    return folder


def landscapes(images: Path, **arguments: Any) -> Landscapes:
    settings: dict[str, Any] = {"size": 32, "batch_size": 2, "workers": 0, **arguments}
    data = Landscapes(str(images), **{k: str(v) if isinstance(v, Path) else v for k, v in settings.items()})
    data.setup("fit")
    return data


def test_an_epoch_shows_every_picture_once_without_labels(tmp_path: Path) -> None:
    data = landscapes(pile(tmp_path / "pile"), batch_size=1)
    assert data.epoch_length == 3
    assert data.classes == 0
    samples = data.train_samples()
    assert set(samples(0)) == {"source", "target"}
    seen = set()
    for i in range(3):
        for key in ("source", "target"):
            assert samples(i)[key].shape == (3, 32, 32)
            assert samples(i)[key].dtype == torch.uint8
            seen.add(samples(i)[key].numpy().tobytes())
    assert len(seen) == 6
    again = landscapes(tmp_path / "pile", batch_size=1).train_samples()
    assert all(torch.equal(samples(i)["source"], again(i)["source"]) for i in range(8))
    assert not torch.equal(samples(0)["source"], samples(3)["source"])
    assert data.describe()["labels"] == "none"


def test_pictures_are_resized_and_cut_as_the_published_configuration_says(tmp_path: Path) -> None:
    data = landscapes(pile(tmp_path / "pile", 2), load_size=36, flip=False)
    transform = Transform("shorter_side_and_crop", 36, 32)
    for i in range(4):
        cut = data.train_samples()(i)["source"].numpy().transpose(1, 2, 0)
        candidates = [transform.resize(np.asarray(Image.open(path))) for path in data._paths("images")]
        places = [
            (top, left)
            for picture in candidates
            for top in range(picture.shape[0] - 31)
            for left in range(picture.shape[1] - 31)
            if np.array_equal(picture[top : top + 32, left : left + 32], cut)
        ]
        assert len(places) == 1


def test_labels_follow_their_pictures_through_crop_and_flip(tmp_path: Path) -> None:
    pictures = pile(tmp_path / "pile")
    data = landscapes(pictures, labels=labels_for(pictures, tmp_path / "labels"), classes=3, load_size=40)
    batch = next(iter(data.train_dataloader()))
    assert set(batch) == {"source", "target", "source_labels", "target_labels"}
    for key in ("source", "target"):
        labels = batch[f"{key}_labels"]
        assert labels.dtype == torch.int64
        assert labels.shape == (2, 32, 32)
        assert labels.unique().tolist() == [0, 1, 2]
        # Where pictures are not resized labels are the red channel's to the bit; where they are, steps move by a pixel.
        expected = batch[key][:, 0].long() * 3 // 256
        assert (labels == expected).float().mean() > 0.9
    assert torch.equal(data.on_after_batch_transfer(batch, 0)["source_labels"], batch["source_labels"])
    assert data.describe()["labels"] == "of 3 classes"
    assert data.fingerprint() != landscapes(pictures).fingerprint()
    held_out = landscapes(pictures, labels=tmp_path / "labels", classes=3, validation_fraction=0.34)
    (batch,) = held_out.val_dataloader()
    for key in ("source", "target"):
        expected = batch[key][:, 0].long() * 3 // 256
        assert (batch[f"{key}_labels"] == expected).float().mean() > 0.9


def test_validation_is_held_out_or_given_and_has_exemplars(tmp_path: Path) -> None:
    pictures = pile(tmp_path / "pile", 8)
    data = landscapes(pictures, validation_fraction=0.25)
    assert data.describe()["images"] == "6 pictures"
    assert data.describe()["validation images"] == "2 pictures"
    (batch,) = data.val_dataloader()
    assert torch.equal(batch["source"], batch["target"].flip(0)), "each is the other's exemplar"
    other = landscapes(pictures, validation_images=make_folder(tmp_path / "other", 3, start=90))
    assert [len(b["source"]) for b in other.val_dataloader()] == [2, 1]
    with pytest.raises(DataError, match="trained on too"):
        landscapes(pictures, validation_images=pictures / "below")
    assert landscapes(pictures).val_dataloader() == []


def test_pictures_to_translate_have_a_path(tmp_path: Path) -> None:
    data = Landscapes(str(pile(tmp_path / "pile")), size=32, batch_size=1, workers=0, predict=str(tmp_path / "pile"))
    data.setup("predict")
    batches = list(data.predict_dataloader())
    assert len(batches) == 6
    assert Path(batches[0]["path"][0]).name == "000.png"
    with pytest.raises(DataError, match=r"--data\.predict"):
        Landscapes(str(tmp_path / "pile")).setup("predict")


def test_numbers_of_a_palette_count_and_no_class_is_kept(tmp_path: Path) -> None:
    numbers = np.array([[0, 1], [255, 2]], np.uint8)
    palette = Image.fromarray(numbers, "P")
    palette.putpalette([200, 10, 10, 10, 200, 10, 10, 10, 200, *[0] * 759])
    palette.save(tmp_path / "a.png")
    Image.fromarray(np.stack([numbers] * 3, axis=-1)).save(tmp_path / "b.png")
    for name in "ab":
        assert read_labels(tmp_path / f"{name}.png", 3, 2, 2).tolist() == numbers.tolist()
    assert read_labels(tmp_path / "a.png", 3, 4, 4).tolist() == numbers.repeat(2, 0).repeat(2, 1).tolist()
    with pytest.raises(DataError, match=r"holds the class 2, and classes is 2.*--data\.classes 3"):
        read_labels(tmp_path / "a.png", 2, 2, 2)
    (tmp_path / "c.png").write_text("no picture")
    with pytest.raises(DataError, match="cannot be read"):
        read_labels(tmp_path / "c.png", 2, 2, 2)


def test_a_picture_without_labels_is_named(tmp_path: Path) -> None:
    pictures = pile(tmp_path / "pile")
    labels = labels_for(pictures, tmp_path / "labels")
    (labels / "below" / "001.png").unlink()
    with pytest.raises(DataError, match=r"1 of 6 pictures have none.*below/001\.png.*lightning labels"):
        landscapes(pictures, labels=labels, classes=3)
    found = labels_of([pictures / "000.png"], [str(pictures)], [str(labels)])
    assert found == {pictures / "000.png": labels / "000.png"}
    with pytest.raises(DataError, match="there is no folder"):
        landscapes(pictures, labels=tmp_path / "nowhere", classes=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 30}, r"multiple of 4: --data\.size 32"),
        ({"labels": ["a", "b"], "classes": 2}, "names 2 folders and images 1"),
        ({"labels": "a"}, r"classes is 0.*--data\.classes 3"),
        ({"labels": "a", "classes": 300}, "classes is 300"),
        ({"validation_fraction": 0.9}, "between 0 and 0.5"),
        ({"validation_fraction": 0.1, "validation_images": "a"}, "Both validation_images"),
        ({"check": "maybe"}, "check is 'maybe'"),
        ({"min_side": 0}, "min_side is 0"),
        ({"load_size": 16}, "crop cannot be larger"),
        ({"images": []}, r"--data\.images FOLDER"),
    ],
)
def test_wrong_arguments_are_answered_early(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Landscapes(**{"images": "pile", "size": 32, **arguments})


def test_what_is_missing_is_said_before_anything_is_built(tmp_path: Path) -> None:
    assert Landscapes.missing({"images": str(make_folder(tmp_path / "pile", 1))}) == []
    (line,) = Landscapes.missing({"images": str(tmp_path / "nowhere")})
    assert "--data.images" in line
    with pytest.raises(DataError, match="too few"):
        landscapes(tmp_path / "pile")
    with pytest.raises(DataError, match="no pictures for validation"):
        Landscapes(str(tmp_path / "pile"), size=32).setup("validate")


def test_bad_files_are_left_out_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = pile(tmp_path / "pile")
    (pictures / "bad.png").write_text("no picture")
    data = landscapes(pictures, max_bad_share=0.2)
    assert "1 of 7 pictures left out" in capsys.readouterr().err
    assert "bad.png" in str(data.describe()["left out"])
