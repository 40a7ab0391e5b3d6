"""GP-UNIT on two processes: with half the batch each they learn what one learns, and stay bit-identical."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.rooms.gpunit import SMALL_GPUNIT, SMALL_PRIOR
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor

from datamodules import Scenes
from support.ranks import on_ranks
from support.training import fit
from zoo.core.translator import Translator
from zoo.gpunit import GPUNIT
from zoo.gpunit.prior import PriorDistillation
from zoo.gpunit.prior_networks import Statistics
from zoo.gpunit.sampler import FitStyleSampler

pytestmark = pytest.mark.distributed
Arrays = dict[str, np.ndarray]

BATCH, ITERATIONS = 4, 3
SAMPLER = {"sampler_steps": 64, "sampler_batch": 8}


def state_of(room: Translator) -> Arrays:
    return {name: value.detach().numpy().copy() for name, value in room.state_dict().items()}


def trained(room: Translator, world: int, folder: Path, **options: Any) -> tuple[Arrays, Arrays]:
    """The room before and after a training of `world` processes that share a batch."""
    room.check_ranks_every = 1
    before = state_of(room)
    strategy = "ddp" if world > 1 else "auto"
    data = Scenes(size=64, batch_size=BATCH // world, scenes_per_epoch=16, **options.pop("scenes", {}))
    fit(room, ITERATIONS, folder, data=data, devices=world, strategy=strategy, limit_val_batches=0, **options)
    return before, state_of(room)


class SameVGG(Callback):
    """Gives a perceptual loss of random weights the same ones in every training."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, GPUNIT | PriorDistillation)
        if pl_module.vgg is not None:
            numbers = torch.Generator().manual_seed(0)
            for weight in pl_module.vgg.own_state().values():
                weight.copy_(torch.randn(weight.shape, generator=numbers, dtype=torch.float64) * 0.2)


def second_stage(rank: int, folder: Path, world: int, options: dict[str, Any]) -> tuple[Arrays, Arrays]:
    seed_everything(7, verbose=False)
    room = GPUNIT(**SMALL_GPUNIT | SAMPLER | options)
    return trained(room, world, folder, callbacks=[SameVGG(), FitStyleSampler()])


class Unmirrored(PriorDistillation):
    """The first stage without the draw that each process makes for its part of the batch."""

    def encode(self, image: Tensor, *, mirror_style: Tensor | None = None) -> tuple[Tensor, Tensor, list[Statistics]]:
        return super().encode(image, mirror_style=torch.zeros(1, dtype=torch.bool))


def first_stage(rank: int, folder: Path, world: int, options: dict[str, Any], separable: bool) -> tuple[Arrays, Arrays]:
    seed_everything(7, verbose=False)
    room = (Unmirrored if separable else PriorDistillation)(**SMALL_PRIOR | options)
    return trained(
        room, world, folder, callbacks=[SameVGG()], scenes={"task": "pairs", "domains": ("plain", "striped", "dotted")}
    )


def assert_ranks_equal(first: Arrays, second: Arrays) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=f"ranks differ in {name}")


def assert_learnt_alike(together: Arrays, alone: Arrays, before: Arrays) -> None:
    """Equal up to the order of sums, and not because nothing moved.

    The sampler is fitted with an optimiser that starts anew in each epoch, where the sign of a gradient counts, however small it is.
    """
    assert together.keys() == alone.keys()
    for name, value in alone.items():
        if name.startswith("sampler."):
            continue
        np.testing.assert_allclose(together[name], value, rtol=1e-6, atol=1e-9, err_msg=name)
    moved = {name.partition(".")[0] for name, value in alone.items() if not np.array_equal(before[name], value)}
    assert moved == {name.partition(".")[0] for name in alone}


@pytest.mark.parametrize("options", [{"perceptual": None}, {"style_layer": [2, 4], "all_skip": True}], ids=str)
def test_two_ranks_learn_the_second_stage_as_one_process_with_twice_the_batch(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    options = {"style_flip": False, **options}  # each process draws for its part of the batch
    before, alone = second_stage(0, tmp_path / "alone", 1, options)
    (_, first), (_, second) = on_ranks(second_stage, tmp_path / "two", 2, options)
    assert_ranks_equal(first, second)  # the content encoder's vectors, the average and the sampler among them
    assert bool(first["sampler_fitted"])
    assert_learnt_alike(first, alone, before)


def test_two_ranks_learn_the_first_stage_as_one_process_with_twice_the_batch(tmp_path: Path) -> None:
    options = {"lambda_content_norm": 0.0, "content_noise": 0.0}  # a norm over the batch; noise of each process' own
    before, alone = first_stage(0, tmp_path / "alone", 1, options, True)
    (_, first), (_, second) = on_ranks(first_stage, tmp_path / "two", 2, options, True)
    assert_ranks_equal(first, second)
    assert_learnt_alike(first, alone, before)


def both_as_they_are(rank: int, folder: Path) -> list[Arrays]:
    return [
        second_stage(rank, folder / "2", 2, {})[1],
        first_stage(rank, folder / "1", 2, {}, False)[1],
    ]


def test_ranks_stay_equal_with_draws_of_their_own(tmp_path: Path) -> None:
    answers = on_ranks(both_as_they_are, tmp_path)
    for first, second in zip(*answers, strict=True):
        assert_ranks_equal(first, second)
