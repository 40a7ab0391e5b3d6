"""The judge in a run: only on scenes, its figures in metrics.csv, its table at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules import Scenes
from support.commands import lightning, only_run, rows, write_recipe
from support.styled import SAMPLER, registered, styled_recipe
from zoo.blocks.attention import attention_iou
from zoo.callbacks.judging import gives_attention, judge_batch
from zoo.core.translator import Translator
from zoo.metrics.judge import Judge, Tally


def test_figures_are_logged_and_the_table_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write_recipe(tmp_path, judge={"enabled": True})
    assert lightning("fit", "--config", recipe) == 0
    said = capsys.readouterr().out
    assert said.count("style accuracy") >= 1
    kept = rows(only_run(tmp_path / "runs"))
    assert [bool(row["val/style_accuracy"]) for row in kept] == [False, True, False, True]
    for row in (kept[1], kept[3]):
        assert 0 <= float(row["val/style_accuracy"]) <= 1
        assert 0 <= float(row["val/object_iou"]) <= 1
        assert float(row["val/error"]) > 0


def test_pictures_without_truth_are_not_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from support.pictures import make_folder

    for name in ("a", "b"):
        make_folder(tmp_path / name, 2, 40, 40, start=len(name))
    folders = {"source": str(tmp_path / "a"), "target": str(tmp_path / "b"), "size": 32, "load_size": 36, "workers": 0}
    data = {"class_path": "datamodules.UnpairedFolders", "init_args": folders}
    recipe = write_recipe(tmp_path, data=data, judge={"enabled": True})
    assert lightning("fit", "--config", recipe) == 2
    assert "the data is UnpairedFolders. Switch it off: --judge.enabled false" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "tiny").exists()


def test_exemplars_of_a_batch_are_what_its_translations_are_judged_by(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The toy paints in its exemplar's mean colour, so it is nearer to that exemplar than chance would have it."""
    data = {"class_path": "datamodules.Scenes", "init_args": {"size": 32, "validation_count": 24, "workers": 0}}
    with registered():
        recipe = styled_recipe(tmp_path, judge={"enabled": True}, data=data)
        assert lightning("fit", "--config", recipe, *SAMPLER) == 0
    (row,) = [row for row in rows(only_run(tmp_path / "runs")) if row["iteration"] == "4"]
    assert float(row["val/style_distance"]) < float(row["val/style_distance_others"])
    assert float(row["val/style_choice"]) > 0.6
    table = capsys.readouterr().out
    for figure in ("style distance", "... to others", "own exemplar nearer"):
        (line,) = [line for line in table.splitlines() if line.startswith(figure)]
        cells = line.removeprefix(figure).split()
        assert len(cells) == 5  # the translation, three baselines, the truth
        if figure == "own exemplar nearer":
            assert float(cells[-1]) > 0.9  # the true counterpart has the exemplar's style
            assert float(cells[2]) == 1  # and the exemplar itself is it


ATTENTIVE: dict[str, Any] = {
    "class_path": "zoo.aggan.AGGAN",
    "init_args": {
        "generator_channels": 4,
        "residual_blocks": 1,
        "attention_channels": 4,
        "discriminator_channels": 4,
        "discriminator_layers": 1,
    },
}


def test_attention_is_judged_where_a_room_gives_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, changes in (("aggan", {"model": ATTENTIVE}), ("cyclegan", {})):
        folder = tmp_path / name
        folder.mkdir()
        recipe = write_recipe(folder, judge={"enabled": True}, **changes)
        assert lightning("fit", "--config", recipe, "--trainer.max_steps", 2) == 0
        table = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("attention IoU")]
        (row,) = [row for row in rows(only_run(folder / "runs")) if row["iteration"] == "2"]
        if name == "cyclegan":
            assert table == []
            assert "val/attention_iou" not in row
            continue
        (words,) = table
        assert words[:2] == ["attention", "IoU"]
        assert words[3:] == ["-"] * 4  # the baselines attend to nothing
        assert float(words[2]) == pytest.approx(float(row["val/attention_iou"]), abs=5e-4)
        assert 0 <= float(row["val/attention_iou_target"]) <= 1


class Attentive(Translator):
    """Gives the negative, and pretends to have looked at the darker half."""

    def translate(self, image: torch.Tensor, *, to: str = "target", return_attention: bool = False) -> Any:
        attention = (image.mean(1, keepdim=True) < 0).float()
        return (-image, attention) if return_attention else -image


class OfItsOwn(Attentive):
    """Translates batches in a way of its own."""

    def translate_batch(self, batch: Any) -> torch.Tensor:
        return batch["target"]


def test_a_batch_is_translated_once_and_its_attention_counted() -> None:
    data = Scenes(size=64, batch_size=8, validation_count=8)
    data.setup("validate")
    batch = data.on_after_batch_transfer(next(iter(data.val_dataloader())), 0)
    for room, attentive in ((Attentive(), True), (OfItsOwn(), False)):
        tally = Tally(Judge.load(("plain", "striped")))
        translation = judge_batch(tally, room, batch)
        assert torch.equal(translation, -batch["source"] if attentive else batch["target"])
        report = tally.compute()
        assert gives_attention(type(room))
        assert ("attention_iou" in report) == attentive
        if attentive:
            _, attention = room.translate(batch["source"], return_attention=True)
            assert report["attention_iou"] == pytest.approx(attention_iou(attention, batch["mask"]).mean().item())
