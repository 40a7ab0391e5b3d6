"""`lightning playground`: a page that translates what is dropped on it, seen through a browser."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from datamodules import Scenes
from datamodules.errors import DataError
from support.browser import PATIENCE, Browser, browser, missing
from support.commands import lightning
from zoo.cli import playground
from zoo.cli.playground import Workshop, find_choices, listen
from zoo.core.exported import write_exported
from zoo.core.images import save_png
from zoo.errors import ZooError
from zoo.weights.shipped import shipped

SIDE = 64
# The page's server, in a process that writes down whom it speaks to.
WATCHED = """
import sys
def watch(event, given):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        with open(sys.argv[1], "a") as file:
            print(event, given[0] if event == "socket.getaddrinfo" else given[1], file=file)
sys.addaudithook(watch)
from zoo.cli.main import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two pictures of plain objects."""
    folder = tmp_path_factory.mktemp("scenes")
    found = Scenes(domains=("plain", "striped"), size=SIDE, workers=0).fixed_samples("test")
    return [save_png(found[number]["source"], folder / f"scene_{number}.png") for number in range(2)]


# What it does, without a page --------------------------------------------------------------------------------------


def workshop(folder: Path, largest: int = 512, **choices: str) -> Workshop:
    return Workshop(choices or {"sat-scenes": "sat-scenes"}, torch.device("cpu"), largest, folder)


def test_a_picture_is_translated_as_the_command_does(scenes: list[Path], tmp_path: Path) -> None:
    made, attention = workshop(tmp_path / "page").translate("sat-scenes", str(scenes[0]), None, "target", None)
    words = ["--output", tmp_path, "--attention", "--no-sheet", "--device", "cpu"]
    assert lightning("translate", "sat-scenes", scenes[0], *words) == 0
    assert made.read_bytes() == (tmp_path / "scene_0.png").read_bytes()
    assert attention is not None
    assert attention.read_bytes() == (tmp_path / "scene_0_attention.png").read_bytes()


def test_large_pictures_are_made_smaller(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((90, 60, 3), np.uint8)).save(tmp_path / "tall.png")
    made, attention = workshop(tmp_path, 32, u="unit-scenes").translate(
        "u", str(tmp_path / "tall.png"), None, "source", 0
    )
    assert attention is None, "UNIT has none"
    with Image.open(made) as picture:
        assert picture.size == (32, 48)


def test_what_cannot_be_translated_is_told(scenes: list[Path], tmp_path: Path) -> None:
    Image.fromarray(np.zeros((20, 200, 3), np.uint8)).save(tmp_path / "long.png")
    (tmp_path / "letter.png").write_text("Dear reader")
    shop = workshop(tmp_path / "page")
    with pytest.raises(ZooError, match="Drop a picture first"):
        shop.translate("sat-scenes", None, None, "target", 0)
    with pytest.raises(DataError, match="200x20 pixels; a side may be 4 times the other"):
        shop.translate("sat-scenes", str(tmp_path / "long.png"), None, "target", 0)
    with pytest.raises(DataError, match="not a picture"):
        shop.translate("sat-scenes", str(tmp_path / "letter.png"), None, "target", 0)
    with pytest.raises(ZooError, match=r"no weights 'sat-scene' on this page\. Did you mean 'sat-scenes'"):
        shop.translate("sat-scene", str(scenes[0]), None, "target", 0)


def test_exemplars_and_seeds_are_styles(scenes: list[Path], tmp_path: Path) -> None:
    small = {"channels": 4, "max_channels": 8, "style_channels": 8, "latent_channels": 4, "mapping_channels": 8}
    torch.manual_seed(0)
    model: Any = zoo.StarGANv2(image_size=32, domains=("plain", "striped"), **small).eval()
    with torch.no_grad():  # untrained styles hardly show
        for name, weight in model.named_parameters():
            if "mapping" in name or "style_encoder" in name:
                weight.mul_(2)
    write_exported(model, tmp_path / "model.safetensors")
    shop = workshop(tmp_path / "page", many=str(tmp_path / "model.safetensors"))
    assert shop.domains(shop.model("many")) == ["plain", "striped"]

    def made(exemplar: str | None, seed: float | None, to: str = "plain") -> bytes:
        return shop.translate("many", str(scenes[0]), exemplar, to, seed)[0].read_bytes()

    assert made(None, 0) == made(None, None)
    different = [
        made(None, 0),
        made(None, 1),
        made(str(scenes[1]), 0),
        made(str(scenes[0]), 0),
        made(None, 0, "striped"),
    ]
    assert len(set(different)) == 5
    assert made(str(scenes[1]), 7) == different[2], "an exemplar's style has no seed"


def test_what_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ours = [entry.name for entry in shipped().values() if entry.room]
    assert list(find_choices([])) == ours
    (tmp_path / "runs/cyclegan/empty/checkpoints").mkdir(parents=True)
    (tmp_path / "runs/cyclegan/first/checkpoints").mkdir(parents=True)
    (tmp_path / "runs/cyclegan/first/checkpoints/iteration_00000001.ckpt").touch()
    assert list(find_choices(["mine.ckpt"])) == ["mine.ckpt", *ours, "runs/cyclegan/first"]


def test_a_port_that_is_taken_is_passed_over() -> None:
    with listen("127.0.0.1", 0) as first:
        taken = first.getsockname()[1]
        with listen("127.0.0.1", taken) as second:
            assert taken < second.getsockname()[1] < taken + 20
    with pytest.raises(ZooError, match="Nothing can listen at"):
        listen("192.0.2.1", 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--size", 2], "expected at least 16 pixels"),
        (["--port", 70000], "expected a number from 0 to 65535"),
        (["--prot", 1], "--prot"),
        (["nothing-scenes", "--port", 0], "nothing-scenes"),
    ],
)
def test_mistakes_are_answered_in_one_line(words: list[object], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gradio", reason="Gradio, which makes the page, is not here")
    assert lightning("playground", *words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_without_the_extra_the_line_to_type_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert lightning("playground", "--port", 0) == 2
    assert f"Type: {playground.EXTRA}" in capsys.readouterr().err


# Through a browser --------------------------------------------------------------------------------------------------


@dataclass
class Page:
    """A running page: its address, the browser that looks at it, and where its server keeps files."""

    url: str
    window: Browser
    server: subprocess.Popen[str]
    home: Path
    contacts: Path
    downloads: Path


@pytest.fixture
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    pytest.importorskip("gradio", reason="Gradio, which makes the page, is not here")
    if why := missing():
        pytest.skip(f"{why}, so no page can be looked at")
    home, seen = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("browser")
    for name in ("tmp", "work"):
        (home / name).mkdir()
    contacts = home / "contacts.txt"
    kept = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    paths = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = kept | {"TMPDIR": str(home / "tmp"), "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WATCHED, contacts, "playground", "sat-scenes", "--port", "0"]
    command += ["--no-browser", "--device", "cpu"]
    kinds = {"cwd": home / "work", "env": environment, "stdout": subprocess.PIPE, "text": True}
    with (home / "err").open("w") as said, subprocess.Popen(command, stderr=said, **kinds) as server:  # type: ignore[call-overload]
        try:
            assert server.stdout is not None
            told = re.search(r"http://127\.0\.0\.1:\d+", server.stdout.readline())
            assert told is not None, (home / "err").read_text()
            with browser(seen) as window:
                yield Page(told[0], window, server, home, contacts, seen / "downloads")
        finally:
            if server.poll() is None:
                server.kill()


def opened(page: Page) -> Browser:
    """The page, opened anew."""
    page.window.open(page.url)
    page.window.wait("return document.querySelector('#about')?.innerText.includes('SAT')")
    return page.window


def source_of(name: str) -> str:
    return f"return document.querySelector('#{name} img')?.src"


@pytest.mark.slow
def test_the_page_from_the_first_drop_to_its_end(page: Page, scenes: list[Path], tmp_path: Path) -> None:
    """One test, since a server and a browser take long to start."""
    drop_translate_and_the_picture_changes(page, scenes, tmp_path)
    other_weights_and_mistakes(page, scenes, tmp_path)
    nobody_else_is_asked_and_nothing_stays(page)


def drop_translate_and_the_picture_changes(page: Page, scenes: list[Path], tmp_path: Path) -> None:
    window = opened(page)
    seen = []
    for scene in scenes:
        if seen:
            window.click('#picture button[aria-label="Remove Image"], #picture button[aria-label="Clear"]')
            window.wait("return document.querySelector('#picture button[aria-dropeffect]')")
        window.drop("#picture button[aria-dropeffect]", scene)
        window.wait(source_of("picture"))
        window.click("#translate")
        window.until(lambda: window.script(source_of("result")) not in [None, *seen], "another translation")
        seen.append(window.script(source_of("result")))
        with urllib.request.urlopen(seen[-1]) as answer:
            (tmp_path / scene.name).write_bytes(answer.read())
    words = ["--output", tmp_path / "own", "--attention", "--no-sheet", "--device", "cpu"]
    assert lightning("translate", "sat-scenes", *scenes, *words) == 0
    for scene in scenes:
        with Image.open(tmp_path / scene.name) as shown, Image.open(tmp_path / "own" / scene.name) as wanted:
            difference = np.abs(np.asarray(shown).astype(int) - np.asarray(wanted))
        assert difference.max() <= 1, "what the page shows is what the command makes"
    assert window.wait(source_of("attention"))
    window.click("#download")
    window.until(lambda: list(page.downloads.glob("*.png")), "the download")
    with Image.open(next(page.downloads.glob("*.png"))) as kept:
        assert kept.size == (SIDE, SIDE)


def other_weights_and_mistakes(page: Page, scenes: list[Path], tmp_path: Path) -> None:
    window = opened(page)
    window.click("#translate")
    window.wait("return document.body.innerText.includes('Drop a picture first.')")
    window.click("#weights input")
    window.wait("return document.querySelector('[role=option][aria-label=unit-scenes]')")
    window.click("[role=option][aria-label=unit-scenes]")
    window.wait("return document.querySelector('#about').innerText.includes('UNIT')")
    assert window.script("return document.querySelector('#attention')?.offsetParent ?? null") is None
    window.drop("#picture button[aria-dropeffect]", scenes[0])
    window.wait(source_of("picture"))
    window.click("#translate")
    window.wait(source_of("result"))
    window = opened(page)
    (tmp_path / "letter.png").write_text("Dear reader")
    window.drop("#picture button[aria-dropeffect]", tmp_path / "letter.png")
    window.wait(source_of("picture"))
    window.click("#translate")
    said = "return [...document.querySelectorAll('.toast-body')].map(each => each.innerText).join(' ')"
    assert "not a picture" in window.wait(said)


def nobody_else_is_asked_and_nothing_stays(page: Page) -> None:
    asked = page.window.requests()
    assert len(asked) > 20
    assert [url for url in asked if not url.startswith((page.url, page.url.replace("http", "ws")))] == []
    with urllib.request.urlopen(page.url) as answer:
        assert "default-src 'self'" in answer.headers["content-security-policy"]
    port = int(page.url.rpartition(":")[2])
    strange = urllib.request.Request(page.url, headers={"Host": f"elsewhere.example:{port}"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(strange)
    others = [address[4][0] for address in socket.getaddrinfo(socket.gethostname(), port, socket.AF_INET)]
    for address in {address for address in others if not address.startswith("127.")}:
        with pytest.raises(OSError), socket.create_connection((address, port), timeout=5):  # noqa: PT011 - refused, or no way
            pass
    left = sorted(path.name for path in (page.home / "tmp").iterdir())
    assert any(name.startswith("playground-") for name in left), "it was here"
    page.server.send_signal(signal.SIGTERM)
    assert page.server.wait(PATIENCE) == 0, (page.home / "err").read_text()
    assert list((page.home / "work").iterdir()) == []
    assert list((page.home / "tmp").iterdir()) == []
    assert (page.home / "err").read_text() == ""
    contacts = page.contacts.read_text().splitlines() if page.contacts.is_file() else []
    assert [line for line in contacts if "127.0.0.1" not in line and "localhost" not in line] == []
