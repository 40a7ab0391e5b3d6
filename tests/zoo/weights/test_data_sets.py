"""Data sets: fetched, unpacked, checked; and the catalogue of them."""

from __future__ import annotations

import gzip
import hashlib
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
import yaml
from PIL import Image

from support.commands import lightning
from support.http import Page, Server, serve
from support.pictures import pixels
from zoo.cli.lookup import PACKAGE
from zoo.errors import ZooError
from zoo.weights import data_sets
from zoo.weights.catalogue import WeightFile
from zoo.weights.data_sets import DataSet, SetFile, count_pictures, fetch_data, find_set, lacks, read_sets

ROOT = PACKAGE.parent


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("ZOO_OFFLINE", raising=False)
    monkeypatch.delenv("ZOO_MIRROR", raising=False)
    monkeypatch.setattr("zoo.weights.transfer.FIRST_PAUSE", 0.0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def zipped(files: dict[str, bytes]) -> bytes:
    body = BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return body.getvalue()


PICTURES = {
    f"{split}{domain}/{number}.jpg": b"x" for split in ("train", "test") for domain in "AB" for number in (1, 2)
}


def cats(server: Server, path: str = "/cats.zip", **changes: object) -> DataSet:
    entry = WeightFile(
        "data/cats", "cats.zip", (server.address + path,), None, None, "MIT", "https://example.org", "cats"
    )
    layout = ("cats/trainA", "cats/trainB", "cats/testA", "cats/testB")
    made = DataSet("cats", "cats", "MIT", "https://example.org", (SetFile(entry),), ("cats",), layout, {"cats": 8})
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("above", ["", "cats/", "download/cats/"])
def test_a_set_is_fetched_unpacked_and_checked(above: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serve({"/cats.zip": Page(zipped({above + name: body for name, body in PICTURES.items()}))}) as server:
        wanted = cats(server, recalled={"cats/trainA": 2, "cats/trainB": 3})
        for _ in range(2):
            assert fetch_data(wanted, here / "data") == [here / "data" / "cats"]
        assert server.asked == ["/cats.zip"]
    assert sorted(path.name for path in (here / "data").iterdir()) == [".cats.lock", ".cats.zoo.json", "cats"]
    assert count_pictures(here / "data" / "cats" / "trainA") == 2
    assert json.loads((here / "data" / ".cats.zoo.json").read_text()) == {
        "set": "cats",
        "pictures": 8,
        "folders": ["cats"],
    }
    said = capsys.readouterr().err
    assert "cats.zip is bound to its licence: MIT" in said
    assert "cats/trainB holds 2 pictures; 3 were expected from memory, which may be wrong" in said
    assert "cats/trainA holds" not in said
    left = sorted(path.name for path in (here / "home" / "data").iterdir())
    assert left == [".cats.zip.lock", "cats.zip.pin.json"]  # the archive went, its pin stays


def test_a_changed_archive_is_refused_although_the_first_one_went(here: Path) -> None:
    pages = {"/cats.zip": Page(zipped(PICTURES))}
    with serve(pages) as server:
        fetch_data(cats(server), here / "data")
        pages["/cats.zip"] = Page(zipped(PICTURES | {"more.jpg": b"x"}))
        with pytest.raises(ZooError, match="was pinned when it was first seen"):
            fetch_data(cats(server), here / "elsewhere")
    assert not (here / "elsewhere" / "cats").exists()


def test_archives_are_kept_where_that_is_asked_for(here: Path) -> None:
    with serve({"/cats.zip": Page(zipped(PICTURES))}) as server:
        fetch_data(cats(server), here / "data", keep=True)
    assert (here / "home" / "data" / "cats.zip").is_file()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {name: b"x" for name in PICTURES if "testB" not in name},
            r"laid out otherwise: expected were trainA, trainB, testA",
        ),
        (dict(list(PICTURES.items())[1:]), "it has 7 pictures in cats instead of 8"),
        ({"../evil.jpg": b"x"}, "leads out of its folder"),
    ],
)
def test_a_set_that_is_not_as_it_should_be_leaves_nothing(files: dict[str, bytes], said: str, here: Path) -> None:
    with serve({"/cats.zip": Page(zipped(files))}) as server, pytest.raises(ZooError, match=said):
        fetch_data(cats(server), here / "data")
    assert [path.name for path in (here / "data").iterdir()] == [".cats.lock"]
    assert not (here / "evil.jpg").exists()


def test_what_somebody_put_there_is_taken_if_it_is_whole(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with serve({}) as server:
        wanted = cats(server)
        with pytest.raises(ZooError, match="ZOO_OFFLINE forbids the network"):
            fetch_data(wanted, here / "data")
        for name, body in PICTURES.items():
            path = here / "data" / "cats" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
        assert fetch_data(wanted, here / "data") == [here / "data" / "cats"]
        (here / "data" / "cats" / "testA" / "1.jpg").unlink()
        with pytest.raises(
            ZooError, match=r"is there already, but it has 7 pictures in cats instead of 8. Move it away"
        ):
            fetch_data(wanted, here / "data")


def test_names_of_folders_can_be_put_right_and_a_set_may_have_several(here: Path) -> None:
    files = {f"{top}/{split}/7_bird/1.jpg": b"x" for top in ("syn", "syn_mask") for split in ("Train", "Test")}
    with serve({"/cats.zip": Page(zipped(files))}) as server:
        layout = ("syn/train", "syn/test", "syn_mask/train", "syn_mask/test")
        folders = ("syn", "syn_mask")
        wanted = cats(
            server, folders=folders, layout=layout, counts={"syn": 2}, rename={"Train": "train", "Test": "test"}
        )
        assert fetch_data(wanted, here / "data") == [here / "data" / "syn", here / "data" / "syn_mask"]
    assert (here / "data" / "syn_mask" / "train" / "7_bird" / "1.jpg").is_file()


def test_single_files_go_to_their_places(here: Path) -> None:
    body, other = b"idx" * 100, b"bz"
    with serve({"/a.gz": Page(gzip.compress(body)), "/b.bz2": Page(other)}) as server:

        def file(name: str, content: bytes, place: str) -> SetFile:
            md5 = hashlib.md5(content).hexdigest()
            entry = WeightFile(
                "data/d", name, (f"{server.address}/{name}",), None, None, "MIT", "https://e.org", "d", md5=md5
            )
            return SetFile(entry, place)

        digits = cats(
            server,
            name="d",
            files=(file("a.gz", gzip.compress(body, mtime=0), "digits/raw/a"), file("b.bz2", other, "digits/b.bz2")),
            folders=("digits",),
            layout=("digits/raw/a", "digits/b.bz2"),
            counts={},
        )
        with pytest.raises(ZooError, match="its MD5 is"):  # the server's copy bears another time
            fetch_data(digits, here / "data")
        known = replace(
            digits, files=(SetFile(replace(digits.files[0].entry, md5=""), "digits/raw/a"), digits.files[1])
        )
        fetch_data(known, here / "data")
        assert (here / "data" / "digits" / "raw" / "a").read_bytes() == body
        assert (here / "data" / "digits" / "b.bz2").read_bytes() == other
        asked = len(server.asked)
        (here / "data" / "digits" / "b.bz2").unlink()
        fetch_data(known, here / "data")
        assert server.asked[asked:] == ["/b.bz2"]  # the other one is there


def test_a_pointer_says_what_to_do_and_checks_what_was_done(here: Path) -> None:
    faces = DataSet(
        "faces", "", "", "https://f.org", (), ("faces",), ("faces/big",), {"faces/big": 1}, by_hand="Ask them."
    )
    with pytest.raises(
        ZooError, match=r"cannot be fetched by a program\. Ask them\. See https://f.org\. Then put it into"
    ):
        fetch_data(faces, here / "data")
    (here / "data" / "faces" / "big").mkdir(parents=True)
    with pytest.raises(ZooError, match="has 0 pictures in faces/big instead of 1"):
        fetch_data(faces, here / "data")
    (here / "data" / "faces" / "big" / "1.png").touch()
    assert fetch_data(faces, here / "data") == [here / "data" / "faces"]


# The command ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, DataSet]]:
    """A catalogue of one set on this machine."""
    sets: dict[str, DataSet] = {}
    with serve({"/cats.zip": Page(zipped(PICTURES))}) as server:
        sets["cats"] = cats(server, overlays=("configs/data/cats.yaml",))
        monkeypatch.setattr(data_sets, "read_sets", lambda *_: sets)
        yield sets


def test_the_command_fetches_a_set(known: dict[str, DataSet], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lightning("download", "data/cats", "--to", here / "big") == 0
    said = capsys.readouterr()
    assert said.out == f"data/cats: {here / 'big' / 'cats'}\n"
    assert "to train on it: --config configs/data/cats.yaml" in said.err
    assert lightning("download", "data/cats") == 0  # the archive went with the first: fetched anew
    assert capsys.readouterr().out == "data/cats: data/cats\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data/cast"], "There is no data set 'data/cast'. Did you mean 'data/cats'?"),
        (["data/xyz"], "There is no data set 'data/xyz'. There are: data/cats."),
        (["cats"], "cats is a data set. Its name: lightning download data/cats"),
        (["data/cats", "--to"], "--to expects a folder."),
        (["data/cats", "--too", "x"], "download has no option '--too'. Did you mean '--to'?"),
    ],
)
def test_mistakes_cost_a_line(
    words: list[str], said: str, known: dict[str, DataSet], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lightning("download", *words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not (here / "data").exists()


def test_imagenet291_is_cut_out_of_a_local_imagenet(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listing = "n01\na.JPEG train/7_bird/1.jpg\nb.JPEG test/7_bird/2.jpg\n"
    masks = {f"ImageNet291_mask/{split}/7_bird/1.jpg": b"x" for split in ("Train", "Test")}
    boxes = {"bbox_select_txt/n01.bbox.txt": b"a.JPEG 10 10 20 20\nb.JPEG 0 0 30.4 30 0.9\n"}
    (here / "imagenet" / "n01").mkdir(parents=True)
    for name in "ab":
        Image.fromarray(pixels(64, 48)).save(here / "imagenet" / "n01" / f"{name}.JPEG")
    pages = {"/l": Page(listing.encode()), "/b": Page(zipped(boxes)), "/m": Page(zipped(masks))}
    with serve(pages) as server:
        real = read_sets()["imagenet291"]
        files = tuple(
            SetFile(replace(file.entry, google_drive="", urls=(server.address + link,)))
            for file, link in zip(real.files, pages, strict=True)
        )
        monkeypatch.setattr(data_sets, "read_sets", lambda *_: {"imagenet291": replace(real, files=files, recalled={})})
        assert lightning("download", "data/imagenet291") == 2
        assert "lightning download data/imagenet291 --imagenet FOLDER" in capsys.readouterr().err
        assert lightning("download", "data/imagenet291", "--imagenet", here / "none") == 2
        assert "Give the one that holds n01440764" in capsys.readouterr().err
        assert not (here / "data" / "ImageNet291").exists()
        assert lightning("download", "data/imagenet291", "--imagenet", "imagenet") == 0
    with Image.open(here / "data" / "ImageNet291" / "train" / "7_bird" / "1.jpg") as crop:
        assert crop.size == (256, 256)
    assert (here / "data" / "ImageNet291_mask" / "test" / "7_bird" / "1.jpg").is_file()


CELEBA = {
    "img_align_celeba/1.jpg": b"1",
    "img_align_celeba/2.jpg": b"2",
    "img_align_celeba/3.jpg": b"3",
    "list_attr_celeba.txt": b"3\nBald Blond_Hair Smiling \n1.jpg -1  1 -1\n2.jpg -1 -1  1\n3.jpg  1  1  1\n",
    "list_eval_partition.txt": b"1.jpg 0\n2.jpg 0\n3.jpg 2\n",
}


def test_faces_are_sorted_by_an_attribute(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve({"/cats.zip": Page(zipped(CELEBA))}) as server:
        layout = tuple(
            f"celeba/{name}" for name in ("img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt")
        )
        faces = cats(server, name="celeba_attributes", folders=("celeba",), layout=layout, counts={})
        monkeypatch.setattr(data_sets, "read_sets", lambda *_: {"celeba_attributes": faces})
        for _ in range(2):
            assert lightning("download", "data/celeba_attributes", "--attribute", "Blond_Hair") == 0
            assert capsys.readouterr().out == "data/celeba_attributes: data/celeba/Blond_Hair\n"
        assert server.asked == ["/cats.zip"]
        folder = here / "data" / "celeba" / "Blond_Hair"
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg")}
        assert found == {"train/with/1.jpg", "train/without/2.jpg", "test/with/3.jpg"}
        assert (folder / "train" / "with" / "1.jpg").samefile(here / "data" / "celeba" / "img_align_celeba" / "1.jpg")
        assert {path.name for path in (folder / "val").iterdir()} == {"with", "without"}
        for name, said in [
            ("Blond_Hiar", "Did you mean 'Blond_Hair'?"),
            ("Xyz", "There are: Bald, Blond_Hair, Smiling."),
        ]:
            assert lightning("download", "data/celeba_attributes", "--attribute", name) == 2
            assert said in capsys.readouterr().err
        assert lightning("download", "data/celeba_attributes", "--attribute") == 2
        assert "--attribute expects a name such as Blond_Hair" in capsys.readouterr().err
        (here / "data" / "celeba" / "img_align_celeba" / "3.jpg").unlink()
        assert lightning("download", "data/celeba_attributes", "--attribute", "Bald") == 2
        assert "3.jpg, which the lists name" in capsys.readouterr().err
        assert not list((here / "data" / "celeba").glob("*Bald*"))


# Our own catalogue ---------------------------------------------------------------------------------------------------


def test_our_own_sets() -> None:
    sets = read_sets()
    wanted = "afhq afhq_v2 celeba_hq celeba_attributes horse2zebra maps synimagenet291 imagenet291 ffhq wikiart mnist usps svhn"
    assert set(wanted.split()) <= sets.keys()
    files = {(file.entry.file, file.entry.links) for found in sets.values() for file in found.files}
    assert len(files) == len({name for name, _ in files})  # archives share a folder
    for found in sets.values():
        assert found.licence
        assert found.source.startswith(("https://", "http://ufldl"))
        assert all(place.split("/")[0] in found.folders for place in (*found.layout, *found.counts, *found.recalled))
        for overlay in found.overlays:
            folder = yaml.safe_load((ROOT / overlay).read_text())["data"]["init_args"]
            places = (
                [folder["root"]] if "root" in folder else [folder["source"], folder["target"], folder["test_source"]]
            )
            assert all(Path(place).parts[1] in found.folders for place in places), overlay
            if "root" not in folder and found.name != "celeba_attributes":  # whose faces are sorted afterwards
                assert {place.removeprefix("data/") for place in places} <= set(found.layout), overlay


def test_every_overlay_of_a_set_that_can_be_had_is_named_by_it() -> None:
    named = {overlay for found in read_sets().values() for overlay in found.overlays}
    overlays = {f"configs/data/{path.name}" for path in (ROOT / "configs" / "data").glob("*.yaml")}
    assert {name for name in overlays if "/scenes" not in name} == named  # scenes are rendered


def test_recipes_expect_sets_where_they_come_to_lie() -> None:
    brought = {"ImageNet", "landscapes", "bedrooms", "celeba_hq256"}  # by the user
    folders = {folder for found in read_sets().values() for folder in found.folders} | brought
    for recipe in PACKAGE.glob("*.yaml"):
        data = (yaml.safe_load(recipe.read_text()) or {}).get("data", {}).get("init_args", {})  # plans may be empty
        places = [place for place in data.values() if isinstance(place, str) and place.startswith("data/")]
        wanted = {Path(place).parts[1] for place in places if not Path(place).suffix}  # a picture is the user's own
        assert wanted <= folders, recipe


def test_sets_are_found_however_they_are_spelled() -> None:
    assert find_set("data/AFHQ-v2").name == find_set("afhq_v2").name == "afhq_v2"


def test_a_hidden_file_does_not_count(here: Path) -> None:
    for name in ("a.jpg", "b.PNG", ".c.jpg", "d.txt", ".hidden/e.jpg", "deep/f.webp"):
        path = here / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert count_pictures(here / "set") == 3
    assert (
        lacks(DataSet("s", "", "", "", folders=("set",), layout=("set/a", "set/b")), here)
        == "has no set/a (and 1 more are missing)"
    )


def test_mistakes_of_the_catalogue_are_named(here: Path) -> None:
    good = {"licence": "MIT", "source": "s", "description": "d", "by_hand": "h", "folders": ["x"], "layout": ["x/a"]}
    for bad, said in [
        (good | {"licens": "x"}, "entry 'x': .*licens"),
        ({key: value for key, value in good.items() if key != "by_hand"}, "neither files nor by_hand"),
        (good | {"layout": []}, "lacks folders or layout"),
        (good | {"files": [{"file": "../a.zip", "urls": ["https://e.org"]}]}, "expected was a plain name"),
        (good | {"files": [{"file": "a.zip", "urls": ["http://e.org"]}]}, "is not an https link"),
    ]:
        (here / "sets.yaml").write_text(yaml.safe_dump({"x": bad}))
        with pytest.raises(ZooError, match=said):
            read_sets(here)
