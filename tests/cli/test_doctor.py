"""`lightning doctor`: what it finds is true, and the largest batch is measured."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from support.commands import TINY, lightning, write_recipe
from support.pictures import pixels
from zoo.cli import doctor
from zoo.cli.doctor import Finding, free_memory, parse_memory
from zoo.cli.fit_probe import Probe, largest_batch, probe_in_a_child, resident
from zoo.cli.lookup import PACKAGE
from zoo.errors import ZooError


def texts(findings: Any) -> dict[str, Finding]:
    return {finding.label: finding for finding in findings}


def test_the_page_tells_every_section(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(doctor, "the_command", lambda: iter([Finding("zoo", "here")]))
    monkeypatch.setattr(doctor, "LITTLE_SPACE", 0)
    assert lightning("doctor") == 0
    said = capsys.readouterr().out
    for told in (
        str(tmp_path / "home" / "weights"),
        torch.__version__.split("+")[0],
        "bf16-mixed",
        "none of ",
        "scenes",
    ):
        assert told in said
    assert said.endswith("Nothing is wrong here.\n")
    assert "ZOO_OFFLINE" not in os.environ


def test_it_says_which_package_and_command_these_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "bin" / "lightning"
    script.parent.mkdir()
    monkeypatch.setenv("PATH", str(script.parent))
    absent = texts(doctor.the_command())
    assert str(PACKAGE) in absent["zoo"].text
    assert platform.python_version() in absent["python"].text
    assert "not on the PATH" in absent["lightning"].text
    assert "/activate, or use python -m zoo" in absent["lightning"].text
    for content, bad in (("from lightning.fabric.cli import main", True), ("from zoo.cli.main import main", False)):
        script.write_text(f"#!/usr/bin/python\n{content}\n")
        script.chmod(0o755)
        found = texts(doctor.the_command())["lightning"]
        assert found.bad is bad
        assert str(script) in found.text
    assert not any(finding.bad for finding in doctor.the_command())
    (tmp_path / "zoo").mkdir()
    (stranger,) = [finding for finding in doctor.the_command() if finding.bad]
    assert str(tmp_path / "zoo") in stranger.text


def test_something_wrong_is_marked_and_changes_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for section in ("the_command", "devices", "precisions", "recipes", "overlays", "weights", "disks"):
        monkeypatch.setattr(doctor, section, lambda: iter([Finding("all", "well")]))
    needed = ["torch>=999", "nosuchpackage>=1", "numpy>=1", 'absent>=1; extra == "dev"']
    monkeypatch.setattr(doctor, "_requirements", lambda: needed)
    found = texts(doctor.versions())
    assert found["torch"].bad
    assert found["torch"].text.endswith(">=999 is needed. Type: make setup")
    assert found["nosuchpackage"].text.startswith("not here")
    assert not found["numpy"].bad
    assert "absent" not in found
    assert lightning("doctor") == 1
    said = capsys.readouterr().out
    assert "\n! torch" in said
    assert "2 things to mend, marked with !" in said


def test_data_is_found_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = texts(doctor.recipes())["cyclegan"].text
    assert before.startswith(f"not yet: source: there is no folder {tmp_path / 'data/horse2zebra/trainA'}")
    for name in ("trainA", "trainB"):
        folder = tmp_path / "data" / "horse2zebra" / name
        folder.mkdir(parents=True)
        Image.fromarray(pixels(32, 32)).save(folder / "a.png")
    assert texts(doctor.recipes())["cyclegan"].text == "ready"
    assert texts(doctor.overlays())["scenes"].text == "ready"


def test_a_full_disk_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not texts(doctor.disks())["temporary"].bad
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**9))
    assert texts(doctor.disks())["here"].bad


def test_sizes_of_memory() -> None:
    assert parse_memory("8GB") == 8 * 10**9
    assert parse_memory("8") == parse_memory("8 GiB") == 8 * 2**30
    assert parse_memory("1.5mib") == 3 * 2**19
    for wrong in ("much", "8XB", "0", "-1GB", ""):
        with pytest.raises(ZooError, match="expected a size such as 8GB"):
            parse_memory(wrong)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < free_memory() < total
    assert 10**7 < resident(os.getpid()) < total
    assert resident(2**30) == 0


@pytest.mark.parametrize("true", [0, 1, 2, 3, 7, 8, 31, 100, 129, 1000])
@pytest.mark.parametrize("up_to", [1, 5, 64, 1024])
def test_the_search_finds_the_largest(true: int, up_to: int) -> None:
    tried: list[int] = []

    def try_one(batch: int) -> Probe:
        tried.append(batch)
        return Probe(batch, batch <= true, batch)

    best, worst = largest_batch(try_one, up_to)
    assert len(tried) == len(set(tried)) <= 20
    assert max(tried) <= up_to
    if true == 0:
        assert best is None
    elif true >= up_to:
        assert (best, worst) == (Probe(up_to, True, up_to), None)
    else:
        assert best is not None
        assert worst is not None
        assert best.batch <= true < worst.batch
        assert worst.batch - best.batch <= max(1, true // 32)


def test_a_child_process_tells_what_a_batch_takes_and_a_limit_stops_it(tmp_path: Path) -> None:
    data = {**TINY["data"], "init_args": {**TINY["data"]["init_args"], "size": 64}}
    words = ["--config", str(write_recipe(tmp_path, data=data))]
    one = probe_in_a_child(words, 1, iterations=1, limit=None)
    many = probe_in_a_child(words, 48, iterations=1, limit=None)
    assert one.fits
    assert many.fits
    assert many.seconds > 0
    assert many.peak > one.peak + 48 * 10**5
    between = (one.peak + many.peak) // 2
    assert probe_in_a_child(words, 1, iterations=1, limit=between).fits
    assert not probe_in_a_child(words, 48, iterations=1, limit=between).fits
    assert not (tmp_path / "runs").exists()


def test_the_command_says_what_to_type(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write_recipe(tmp_path)
    words = ["--up-to", 2, "--iterations", 1, "--model.generator_channels", 2]
    assert lightning("doctor", "--fit", recipe, "configs/data/scenes.yaml", "--memory", "64GB", *words) == 0
    said = capsys.readouterr().out
    assert "The largest batch that fits is 2 (" in said
    assert "more was not tried: --up-to" in said
    command = f"lightning fit --config {recipe} --config configs/data/scenes.yaml --model.generator_channels 2"
    assert said.endswith(f"Type: {command} --data.batch_size 2\n")
    assert lightning("doctor", "--fit", recipe, "--memory", "100MB") == 1
    assert "Not even one sample fits." in capsys.readouterr().out


MISTAKES = {
    "--fti zoo/cyclegan.yaml": "Did you mean '--fit'?",
    "--memory 8GB": "--memory belongs to --fit RECIPE, which is missing.",
    "--fit RECIPE --up-to 0": "--up-to is 0; expected at least 1.",
    "--fit RECIPE --memory lots": "--memory is 'lots'; expected a size such as 8GB",
    "--fit zoo/cyclgan.yaml": "Did you mean zoo/cyclegan.yaml?",
    "--fit configs/gpu.yaml": "configs/gpu.yaml names no model. Put a recipe first: lightning doctor --fit zoo/cyclegan.yaml",
    "--fit RECIPE --model.generator_chanels 2": "Did you mean 'generator_channels'?",
    "--fit RECIPE --data.size 30": "The pictures are 30x30; this generator needs multiples of 4.",
    "--fit zoo/cyclegan.yaml": "this training cannot start yet",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_costs_one_line(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = write_recipe(tmp_path)
    assert lightning("doctor", *words.replace("RECIPE", str(recipe)).split()) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert MISTAKES[words] in said


def test_data_without_batches_of_a_size_is_refused() -> None:
    data = {"class_path": "lightning.pytorch.LightningDataModule"}
    with pytest.raises(ZooError, match="has no batch_size: there is nothing to choose"):
        doctor.require_batch_size([{"model": {}, "data": data}], ["a.yaml"])
