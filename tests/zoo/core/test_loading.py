"""From a checkpoint of the command back to a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from support.commands import TINY, lightning, write_recipe
from zoo.core.checkpoints import read_checkpoint
from zoo.core.loading import find_checkpoint, load_translator
from zoo.core.runs import Run
from zoo.cyclegan import CycleGAN
from zoo.errors import ZooError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("loading")
    assert lightning("fit", "--config", write_recipe(folder), "--run.name", "a") == 0
    return Run(folder / "runs" / "tiny" / "a")


def test_a_loaded_model_is_the_trained_one(run: Run) -> None:
    model = load_translator(run.folder)
    assert isinstance(model, CycleGAN)
    assert not any(module.training for module in model.modules())
    by_hand = CycleGAN(**TINY["model"]["init_args"])
    by_hand.load_state_dict(read_checkpoint(run.checkpoint_path(4))["state_dict"])
    image = torch.rand(2, 3, 32, 32) * 2 - 1
    for to in ("source", "target"):
        assert torch.equal(model.translate(image, to=to), by_hand.translate(image, to=to))
    assert model.pool_source.images == []  # pools are for training


def test_a_place_is_a_file_or_a_run(run: Run) -> None:
    newest = run.checkpoint_path(4)
    assert find_checkpoint(run.folder) == find_checkpoint(run.checkpoints) == find_checkpoint(newest) == newest
    with pytest.raises(ZooError, match="There is no checkpoint at"):
        find_checkpoint(run.folder / "nothing")
    with pytest.raises(ZooError, match="it holds no checkpoint"):
        find_checkpoint(run.samples)


def without(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda checkpoint: checkpoint.pop(key)


def changed(**settings: Any) -> Callable[[dict[str, Any]], object]:
    return lambda checkpoint: checkpoint["hyper_parameters"].update(settings)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda checkpoint: checkpoint["zoo"].update(room="unheard_of"), "There is no room named 'unheard_of'"),
        (lambda checkpoint: checkpoint["zoo"].update(room="os:system"), "There is no room named 'os:system'"),
        (lambda checkpoint: checkpoint["zoo"].update(room=None), "does not say which room it belongs to"),
        (lambda checkpoint: checkpoint.update(zoo="cyclegan"), "does not say which room it belongs to"),
        (without("zoo"), "does not say which room it belongs to"),
        (without("state_dict"), "does not say which room it belongs to"),
        (changed(bogus=1), r"settings that CycleGAN does not have \(any more\): bogus"),
        (changed(generator_channels="four"), "settings that cyclegan cannot be built with"),
        (changed(generator_channels=8), "does not fit cyclegan: .*size mismatch"),
        (
            lambda checkpoint: checkpoint["state_dict"].pop("to_target.model.1.weight"),
            "does not fit cyclegan: .*Missing",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    run: Run, tmp_path: Path, damage: Callable[[dict[str, Any]], object], sentence: str
) -> None:
    checkpoint = read_checkpoint(run.checkpoint_path(4))
    damage(checkpoint)
    torch.save(checkpoint, tmp_path / "damaged.ckpt")
    with pytest.raises(ZooError, match=sentence):
        load_translator(tmp_path / "damaged.ckpt")


def test_the_newest_checkpoint_that_loads_is_taken(run: Run, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    copy = Run(tmp_path)
    copy.checkpoint_path(2).write_bytes(run.checkpoint_path(2).read_bytes())
    copy.checkpoint_path(4).write_bytes(run.checkpoint_path(4).read_bytes()[:-100])
    weights = read_checkpoint(run.checkpoint_path(2))["state_dict"]
    assert torch.equal(
        load_translator(tmp_path).state_dict()["to_target.model.1.weight"], weights["to_target.model.1.weight"]
    )
