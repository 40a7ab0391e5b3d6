"""A training of one picture that is stopped anywhere, around each switch of its scales, and resumed ends with the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import seed_everything

from support.commands import assert_equal
from support.single_image import SMALL, draw_picture, train
from zoo.core.checkpoints import read_checkpoint
from zoo.core.runs import Run
from zoo.core.translator import Translator

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "generation": ("zoo.consingan.ConSinGAN", {}),
    "harmonization": ("zoo.consingan.ConSinGAN", {"task": "harmonization", "norm": True, "stages": 3}),
    "editing": ("zoo.consingan.ConSinGAN", {"task": "editing", "activation": "prelu", "stages": 3}),
    "animation": ("zoo.consingan.ConSinGAN", {"task": "animation", "stages": 3}),
    "singan": ("zoo.singan.SinGAN", {}),
    "singan with a noise border": ("zoo.singan.SinGAN", {"noise_border": True, "stale_fake": False}),
}
KEPT = ("state_dict", "optimizer_states", "zoo", "global_step", "hyper_parameters")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make(case: str) -> Translator:
    path, changes = CASES[case]
    module, _, name = path.rpartition(".")
    seed_everything(0, verbose=False)
    room: Translator = getattr(import_module(module), name)(**{**SMALL[path], **changes})
    return room


@pytest.mark.parametrize("case", CASES)
def test_a_training_ends_with_the_same_bits_wherever_it_was_stopped(case: str, tmp_path: Path) -> None:
    picture = draw_picture(tmp_path / "picture.png")
    whole = train(make(case), picture, tmp_path / "whole")
    run, length = Run(tmp_path / "whole"), 2
    scales = whole.scale_count((24, 28))  # type: ignore[operator]
    end = scales * length
    assert whole.stage == scales - 1 >= 2
    assert run.checkpoints_newest_first()[0] == run.checkpoint_path(end)
    stops = range(1, 6) if case in ("generation", "singan") else (length, length + 1)
    for stop in stops:
        checkpoint = run.checkpoint_path(stop)
        # A scale begins with its first iteration, so that a checkpoint between two belongs to the earlier.
        assert read_checkpoint(checkpoint)["zoo"]["stage"] == (stop - 1) // length
        train(make(case), picture, tmp_path / f"from{stop}", resume=checkpoint, every=end)
        ours = read_checkpoint(Run(tmp_path / f"from{stop}").checkpoint_path(end))
        theirs = read_checkpoint(run.checkpoint_path(end))
        for part in KEPT:
            assert_equal(ours[part], theirs[part], f"from {stop}: {part}")
