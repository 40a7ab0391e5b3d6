"""One picture of any kind as an endless stream."""

from pathlib import Path

import pytest
import torch

from datamodules import SingleImage
from datamodules.errors import DataError
from support.single_image import draw_picture


def ready(*arguments: object, **options: object) -> SingleImage:
    data = SingleImage(*map(str, arguments), **options)  # type: ignore[arg-type]
    data.setup("fit")
    return data


@pytest.mark.parametrize(
    ("mode", "suffix"), [("RGB", "png"), ("L", "png"), ("RGBA", "png"), ("P", "png"), ("RGB", "jpg"), ("I;16", "png")]
)
def test_pictures_of_any_kind_become_rgb_of_their_own_size(tmp_path: Path, mode: str, suffix: str) -> None:
    file = tmp_path / f"p.{suffix}"
    if mode == "I;16":
        import numpy as np
        from PIL import Image

        Image.fromarray((np.arange(24 * 60).reshape(24, 60) * 40).astype(np.uint16)).save(file)
    else:
        draw_picture(file, 24, 60, mode)
    data = ready(file)
    assert data.picture_size == (24, 60)
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (1, 3, 24, 60)
    assert batch["image"].dtype == torch.uint8
    assert data.on_after_batch_transfer(batch, 0)["image"].abs().max() <= 1
    if mode in ("L", "I;16"):
        assert torch.equal(batch["image"][:, 0], batch["image"][:, 2])


def test_transparent_pictures_are_laid_on_white(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGBA", (20, 20), (10, 20, 30, 0)).save(tmp_path / "clear.png")
    assert (ready(tmp_path / "clear.png").pictures["image"] == 255).all()


def test_a_composite_comes_along_at_its_own_size(tmp_path: Path) -> None:
    data = ready(draw_picture(tmp_path / "p.png"), draw_picture(tmp_path / "naive.png", 30, 31))
    batch = next(iter(data.train_dataloader()))
    assert batch["naive"].shape == (1, 3, 30, 31)
    assert data.describe()["naive"] == str(tmp_path / "naive.png")
    assert data.fingerprint() != ready(tmp_path / "p.png").fingerprint()


def test_scenes_need_no_file_and_depend_on_seed_and_number() -> None:
    one, again, other, seeded = (
        ready(name, size=48, seed=seed)
        for name, seed in (("scene:0", 0), ("scene:0", 0), ("scene:1", 0), ("scene:0", 1))
    )
    assert one.picture_size == (48, 48)
    assert one.fingerprint() == again.fingerprint()
    assert len({data.fingerprint() for data in (one, other, seeded)}) == 3


def test_what_cannot_be_learnt_from_is_refused(tmp_path: Path) -> None:
    draw_picture(tmp_path / "tiny.png", 10, 200)
    (tmp_path / "text.png").write_text("no picture")
    for name, message in (
        ("tiny.png", "200x10 pixels.*16 at least"),
        ("text.png", "not a picture"),
        ("gone.png", "the file is gone"),
    ):
        with pytest.raises(DataError, match=message):
            ready(tmp_path / name)
    with pytest.raises(DataError, match="scene:0"):
        SingleImage("scene:first")


def test_what_is_missing_is_said_before_anything_is_built(tmp_path: Path) -> None:
    assert SingleImage.missing({"picture": "scene:0"}) == []
    picture = draw_picture(tmp_path / "p.png")
    assert SingleImage.missing({"picture": str(picture)}) == []
    (gone,) = SingleImage.missing({"picture": str(tmp_path / "q.png")})
    assert "there is no picture" in gone
    assert "--data.picture scene:0" in gone
    (folder,) = SingleImage.missing({"picture": str(picture), "naive": str(tmp_path)})
    assert "is a folder" in folder
    assert len(SingleImage.missing({"picture": str(tmp_path / "no" / "where" / "q.png")})) == 1


def test_nothing_is_held_out(tmp_path: Path) -> None:
    data = ready(draw_picture(tmp_path / "p.png"))
    assert data.val_dataloader() == []
    assert data.fixed_samples("test") is None
    assert data.epoch_length == 1
