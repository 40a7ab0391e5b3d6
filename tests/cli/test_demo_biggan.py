"""The road from BigGAN to a translated picture: every step a command, and none done twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from support.commands import checkpoint_of
from zoo.cli import demo_biggan
from zoo.cli.demo_biggan import LOOKS, SHOWN, SIZE, Road
from zoo.cli.lookup import PACKAGE

CONFIGS = PACKAGE.parent / "configs" / "demo"


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def settings(name: str, part: str) -> dict[str, Any]:
    return yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())[part]["init_args"]


def test_the_overlays_fit_together() -> None:
    biggan, prior, gpunit = (settings(name, "data") for name in ("biggan", "gpunit_prior_generated", "gpunit"))
    assert tuple(biggan["domains"]) == LOOKS
    assert tuple(gpunit["domains"]) == LOOKS[:2]
    assert prior["size"] == gpunit["size"] == SIZE
    models = {name: settings(name, "model") for name in ("biggan", "gpunit_prior_generated", "gpunit")}
    assert models["biggan"]["classes"] == models["gpunit_prior_generated"]["domains"] == len(LOOKS)
    assert models["gpunit"]["content_channels"] == models["gpunit_prior_generated"]["channels"]
    assert models["gpunit"]["image_size"] == models["gpunit_prior_generated"]["image_size"] == SIZE


@pytest.mark.slow
def test_the_road_ends_with_a_picture_and_nothing_is_done_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--root", str(tmp_path), "--name", "a", "--iterations", "2", "--pictures", "30"]
    assert demo_biggan.main(words) == 0
    said = capsys.readouterr().out
    road = Road(tmp_path, "a")
    assert f"picture    {road.gpunit.folder / 'road.png'}" in said
    assert all(f"{step} " in said[said.rindex("  time ") :] for step in road.steps())
    for run in (road.biggan, road.prior, road.gpunit):
        assert checkpoint_of(run, 2)["zoo"]["iteration"] == 2
    manifests = {part: json.loads((road.pairs(part) / "manifest.json").read_text()) for part in ("train", "test")}
    for part, count in (("train", 30), ("test", SHOWN)):
        assert len(manifests[part]["files"]) == len(manifests[part]["mask_files"]) == count * len(LOOKS)
        assert manifests[part]["settings"]["score"] == "discriminator"
    assert manifests["train"]["settings"]["seed"] != manifests["test"]["settings"]["seed"]
    distilled, used = (checkpoint_of(run, 2)["state_dict"] for run in (road.prior, road.gpunit))
    for key, value in distilled.items():
        if key.startswith("content_encoder.") and not key.endswith((".u", ".v")):
            assert torch.equal(used[key], value), key
    with Image.open(road.gpunit.folder / "road.png") as picture:
        assert picture.width > 8 * SIZE
        assert picture.height > SHOWN * SIZE
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.ckpt")}
    assert demo_biggan.main(words) == 0
    assert capsys.readouterr().out.count("Nothing is left to do: 2 iterations are done") == 3
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.ckpt")} == before


def test_a_stop_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed: list[list[str]] = []

    def stopping(words: list[str]) -> int:
        typed.append(words)
        return 130 if words[:2] == ["generate", "pairs"] else 0

    monkeypatch.setattr(demo_biggan, "lightning", stopping)
    assert demo_biggan.main(["--root", str(tmp_path), "--name", "a"]) == 130
    captured = capsys.readouterr()
    assert "The same goes on from here: make demo-biggan NAME=a" in captured.err
    assert len(typed) == 2
    assert f"$ lightning generate pairs --weights {tmp_path}/biggan/a" in captured.out
    assert "picture" not in captured.out.splitlines()[-1]


def test_nonsense_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        demo_biggan.main(["--iterations", "0"])
    assert "--iterations is 0; it must be at least 1" in capsys.readouterr().err
