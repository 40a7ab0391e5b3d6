import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules import folders
from datamodules.cache import PictureCache
from datamodules.errors import DataError
from datamodules.folders import (
    Check,
    PictureSet,
    allowed_bad,
    check_pictures,
    find_pictures,
    lacking,
    naturally,
    per_folder,
)
from datamodules.pictures import BadPictureError, decode
from datamodules.preprocess import Transform
from support.pictures import BAD_KINDS, GOOD_KINDS, make_bad, make_folder, make_good, pixels


def test_finds_pictures_of_all_kinds_below_several_folders(tmp_path: Path) -> None:
    names = ["b/2.JPG", "b/deep/er/1.jpeg", "b/3.webp", "b/4.BMP", "b/5.tif", "a/1.Png", "a/0.tiff"]
    for name in [*names, "b/notes.txt", "b/._2.jpg", "b/.hidden/6.png", "b/__MACOSX/7.png"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "b/folder.png").mkdir()
    found = find_pictures([str(tmp_path / "b"), str(tmp_path / "a"), str(tmp_path / "b/deep")], "source")
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        *["b/2.JPG", "b/3.webp", "b/4.BMP", "b/5.tif", "b/deep/er/1.jpeg"],
        *["a/0.tiff", "a/1.Png"],
    ]


@pytest.mark.parametrize(
    "names",
    [
        ["7_bird", "9_bird", "10_bird", "100_bird", "1001_face"],
        ["b2a10", "b10a2", "b10a10", "img1.png", "img2.png", "img12.png"],
        ["01", "1", "002", "2", "a", "a1", "b²"],
        ["9_dog/2.jpg", "9_dog/10.jpg", "10_bird/1.jpg"],
        ["1.jpg", "a.jpg"],
    ],
)
def test_natural_order_counts_digits_as_numbers(names: list[str]) -> None:
    for start in range(len(names)):
        shuffled = names[start:] + names[:start]
        assert [str(path) for path in naturally(map(Path, reversed(shuffled)))] == names


def test_the_first_pictures_of_each_folder_are_those_in_natural_order(tmp_path: Path) -> None:
    for name in ("a/9.png", "a/10.png", "a/1.png", "b/2.png", "b/11.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_pictures([tmp_path / "b", tmp_path / "a"], "source", [1, 2])
    assert [str(path.relative_to(tmp_path)) for path in found] == ["b/2.png", "a/1.png", "a/9.png"]
    assert len(find_pictures([tmp_path / "b", tmp_path / "a"], "source", [None, 7])) == 5


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (None, [None] * 4),
        (5, [5, 5, 5, 5]),
        ([5], [5, 5, 5, 5]),
        ([5, 9], [5, 5, 5, 9]),
        ([1, 2, 3, 4], [1, 2, 3, 4]),
    ],
)
def test_counts_of_folders(counts: int | list[int] | None, expected: list[int | None]) -> None:
    assert per_folder(counts, 4, "source_count") == expected


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (0, r"source_count is 0; .* --data\.source_count null"),
        ([], r"source_count is \[\]"),
        ([3, -1], "at least 1"),
        ([1] * 5, r"source_count has 5 numbers for 4 folders\. Type --data\.source_count \[1\] for all"),
    ],
)
def test_counts_that_make_no_sense(counts: int | list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        per_folder(counts, 4, "source_count")


def test_what_is_lacking_is_said_for_every_folder(tmp_path: Path) -> None:
    make_folder(tmp_path / "good", 1)
    (tmp_path / "empty").mkdir()
    folders = [tmp_path / "gone", tmp_path / "good", tmp_path / "empty", tmp_path / "good/000.png"]
    gone, empty = lacking(folders, "target")
    assert gone.startswith(f"target: there is no folder {tmp_path}/gone")
    assert empty.startswith(f"target: no picture in {tmp_path}/empty or below it")
    for sentence, folder in ((gone, "gone"), (empty, "empty")):
        with pytest.raises(DataError) as caught:
            find_pictures([tmp_path / folder], "target")
        assert str(caught.value) == sentence


def test_follows_links_to_folders_and_survives_loops(tmp_path: Path) -> None:
    make_folder(tmp_path / "elsewhere", 2)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "in")
    assert len(find_pictures([tmp_path / "in"], "source")) == 2


def test_a_single_file_is_a_folder_of_one(tmp_path: Path) -> None:
    make_folder(tmp_path, 2)
    assert find_pictures([tmp_path / "001.png"], "predict") == [tmp_path / "001.png"]


def test_a_missing_folder_is_explained(tmp_path: Path) -> None:
    make_folder(tmp_path / "horse2zebra/trainA", 1)
    (tmp_path / "maps").mkdir()
    with pytest.raises(DataError) as caught:
        find_pictures([tmp_path / "horse2zebr/trainA"], "source")
    message = str(caught.value)
    assert f"there is no folder {tmp_path}/horse2zebr/trainA" in message
    assert f"{tmp_path}; it holds horse2zebra, maps" in message
    assert message.endswith(f"Type --data.source {tmp_path}/horse2zebra/trainA")


def test_a_missing_folder_with_nothing_alike(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"it holds nothing\. Type --data\.target FOLDER"):
        find_pictures([tmp_path / "x"], "target")


def test_an_empty_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "images.zip").touch()
    with pytest.raises(DataError) as caught:
        find_pictures([tmp_path], "target")
    message = str(caught.value)
    assert f"target: no picture in {tmp_path} or below it. Looked for .jpg .jpeg .png" in message
    assert "holds images.zip, labels/." in message
    assert "--data.target FOLDER" in message


@pytest.mark.parametrize("kind", GOOD_KINDS)
def test_odd_kinds_are_decoded(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"picture{GOOD_KINDS[kind]}"
    expected = make_good(kind, path)
    found = decode(path)
    assert found.dtype == np.uint8
    assert found.ndim == 3
    assert found.shape[2] == 3
    if expected is not None:
        np.testing.assert_array_equal(found, expected)
    assert check_pictures([path], "source").shapes == [found.shape[:2]] or kind == "rotated"
    assert check_pictures([path], "source", check="full").good == [path]


def test_cmyk_keeps_its_colours(tmp_path: Path) -> None:
    make_good("CMYK", tmp_path / "a.jpg")
    assert np.abs(decode(tmp_path / "a.jpg").astype(int) - pixels()).mean() < 6


def test_rotated_jpg_has_its_upright_shape(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(pixels(24, 32)).save(tmp_path / "a.jpg", exif=exif)
    assert decode(tmp_path / "a.jpg").shape == (32, 24, 3)
    assert check_pictures([tmp_path / "a.jpg"], "source").shapes == [(32, 24)]


def test_transparent_pictures_lie_on_the_background_asked_for(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (200, 0, 0, 0)).save(tmp_path / "a.png")
    assert (decode(tmp_path / "a.png") == 255).all()
    assert (decode(tmp_path / "a.png", background=(1, 2, 3)) == (1, 2, 3)).all()


@pytest.mark.parametrize("check", ["header", "full"])
@pytest.mark.parametrize("kind", BAD_KINDS)
def test_bad_files_are_named_with_a_reason(kind: str, check: Check, tmp_path: Path) -> None:
    make_folder(tmp_path, 20)
    suffix, reason = BAD_KINDS[kind]
    bad = tmp_path / f"bad{suffix}"
    make_bad(kind, bad)
    found = check_pictures(find_pictures([tmp_path], "source"), "source", check=check)
    assert len(found.good) == 20
    assert list(found.bad) == [bad]
    assert re.search(reason, found.bad[bad])
    if kind != "tiny":
        with pytest.raises(BadPictureError):
            decode(bad)


def test_a_file_damaged_inside_is_seen_by_the_full_check_alone(tmp_path: Path) -> None:
    make_folder(tmp_path, 20)
    path = tmp_path / "000.png"
    content = bytearray(path.read_bytes())
    content[60:100] = bytes(40)
    path.write_bytes(content)
    paths = find_pictures([tmp_path], "source")
    assert not check_pictures(paths, "source").bad
    assert list(check_pictures(paths, "source", check="full").bad) == [path]


def test_an_unreadable_file_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Tests may run as root, who may read everything: let the file system say no.
    make_folder(tmp_path, 20)

    def refuse(path: Path) -> None:
        if Path(path).name == "003.png":
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    original = Image.open
    monkeypatch.setattr(Image, "open", refuse)
    found = check_pictures(find_pictures([tmp_path], "source"), "source")
    assert found.bad == {tmp_path / "003.png": "no permission to read it"}


def test_trailing_bytes_after_a_jpg_are_forgiven(tmp_path: Path) -> None:
    make_folder(tmp_path, 1, suffix=".jpg")
    with (tmp_path / "000.jpg").open("ab") as file:
        file.write(b"a camera's notes" * 20)
    assert not check_pictures([tmp_path / "000.jpg"], "source").bad


def test_too_many_bad_files_are_refused(tmp_path: Path) -> None:
    make_folder(tmp_path, 37)
    for number in range(3):
        make_bad("empty", tmp_path / f"bad{number}.png")
    paths = find_pictures([tmp_path], "source")
    with pytest.raises(DataError) as caught:
        check_pictures(paths, "source", max_bad_share=0.05)
    message = str(caught.value)
    assert message.startswith("source: 3 of 40 pictures cannot be used, more than max_bad_share 0.05 allows:")
    assert f"{tmp_path}/bad0.png (the file is empty)" in message
    assert message.endswith("--data.max_bad_share 0.08")
    assert len(check_pictures(paths, "source", max_bad_share=0.08).bad) == 3
    assert check_pictures(paths, "source", check="none").good == paths


def test_nothing_but_bad_files_is_refused_whatever_the_share(tmp_path: Path) -> None:
    make_bad("text", tmp_path / "a.png")
    with pytest.raises(DataError, match="none of 1 pictures can be used"):
        check_pictures([tmp_path / "a.png"], "source", max_bad_share=1.0)


@pytest.mark.parametrize(("count", "share", "allowed"), [(100, 0.07, 7), (20, 0.05, 1), (3, 0.05, 1), (50, 0.0, 0)])
def test_shares_are_rounded_up_to_whole_files(count: int, share: float, allowed: int) -> None:
    assert allowed_bad(count, share) == allowed


def test_a_check_is_remembered_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path / "in", 3)
    paths = find_pictures([tmp_path / "in"], "source")
    cache = PictureCache(tmp_path / "cache")
    examined: list[Path] = []
    original = folders._examine

    def count(path: Path, check: Check, min_side: int) -> tuple[str, int, int]:
        examined.append(path)
        return original(path, check, min_side)

    monkeypatch.setattr(folders, "_examine", count)
    first = check_pictures(paths, "source", cache=cache)
    assert check_pictures(paths, "source", cache=cache) == first
    assert len(examined) == 3
    os.utime(paths[0], ns=(1, 1))
    assert check_pictures(paths, "source", cache=cache) == first
    assert len(examined) == 6
    check_pictures(paths, "source", check="full", cache=cache)
    assert len(examined) == 9


TRANSFORM = Transform(load_size=20, size=16)


def test_a_file_that_vanishes_is_replaced_by_the_same_other_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = PictureSet("source", find_pictures([make_folder(tmp_path, 40)], "source"))
    (tmp_path / "007.png").unlink()
    picture, path = pictures.resized(7, TRANSFORM, 123)
    assert path.name != "007.png"
    np.testing.assert_array_equal(picture, TRANSFORM.resize(decode(path)))
    assert pictures.resized(7, TRANSFORM, 123)[1] == path
    assert len({pictures.resized(7, TRANSFORM, i)[1] for i in range(20)}) > 5
    assert pictures.went_bad == 1
    assert capsys.readouterr().err.count("went bad (the file is gone)") == 1


def test_too_many_vanished_files_end_the_run(tmp_path: Path) -> None:
    pictures = PictureSet("source", find_pictures([make_folder(tmp_path, 40)], "source"), max_bad_share=0.05)
    for number in range(3):
        (tmp_path / f"{number:03d}.png").write_bytes(b"")
    pictures.resized(0, TRANSFORM)
    pictures.resized(1, TRANSFORM)
    with pytest.raises(DataError, match="source: 3 of 40 pictures went bad since the start"):
        pictures.resized(2, TRANSFORM)


def test_a_set_without_any_file_left_never_loops(tmp_path: Path) -> None:
    pictures = PictureSet("source", find_pictures([make_folder(tmp_path, 3)], "source"), max_bad_share=1.0)
    for path in pictures.paths:
        path.unlink()
    with pytest.raises(DataError, match="3 of 3 pictures went bad"):
        pictures.resized(0, TRANSFORM)
