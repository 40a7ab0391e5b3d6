"""Two processes that see different losses raise a weight alike, by the mean of both, and go through a room's phases together."""

from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import seed_everything

from datamodules import Scenes
from support.ranks import on_ranks
from support.toy import ToyRoom
from support.training import fit
from zoo.callbacks import AdaptiveLambda, EnterStage
from zoo.core import sync
from zoo.core.runs import Run
from zoo.sat import SAT

pytestmark = pytest.mark.distributed

# The mean of both crosses 1 in the third interval of two. The first process alone would stop one interval earlier, the second never.
TOLD = ([0.1, 0.3, 1.3, 1.4, 1.7, 1.8, 0.0, 0.0], [0.1, 0.1, 0.1, 0.2, 0.6, 0.7, 0.0, 0.0])


class Weighted(ToyRoom):
    """A toy whose processes log different losses."""

    def __init__(self) -> None:
        super().__init__(draw=False)
        self.lambda_own = 0.0
        self.used: list[float] = []

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        self.used.append(self.lambda_own)
        super().training_step(batch, batch_idx)
        self.log_terms({"told": torch.tensor(TOLD[sync.rank()][self.iteration])})


def train(folder: Path, ranks: int, *, resume: Path | None = None) -> list[float]:
    seed_everything(7, verbose=False)
    room = Weighted()
    room.check_ranks_every = 1
    weight = AdaptiveLambda("lambda_own", "loss/told", step=0.5, interval=2, threshold=1.0)
    fit(room, 8, folder, devices=ranks, strategy="ddp", callbacks=[weight], every=1, resume=resume)
    return room.used


def whole_and_resumed(rank: int, folder: Path) -> tuple[list[float], list[float], list[dict[str, object]]]:
    whole = train(folder, 2)
    run = Run(folder)
    in_the_middle = run.checkpoint_path(3)  # of an interval
    states = [torch.load(run.checkpoint_path(n), weights_only=True)["callbacks"] for n in (3, 8)]
    return whole, train(folder, 2, resume=in_the_middle), states


def test_the_mean_of_both_decides_and_a_resume_in_the_middle_of_an_interval_changes_nothing(tmp_path: Path) -> None:
    first, second = on_ranks(whole_and_resumed, tmp_path)
    whole, resumed, states = first
    assert whole == [0.0, 0.0, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0]
    assert (whole, resumed) == second[:2]
    assert resumed == whole[3:]
    (kept,), (end,) = (state.values() for state in states)
    assert kept["value"] == 0.5
    np.testing.assert_allclose(kept["window"], [np.mean([told[2] for told in TOLD])], rtol=1e-6)
    assert end == {"value": 1.0, "stopped": True, "window": []}


def through_phases(rank: int, folder: Path) -> tuple[dict[str, np.ndarray], float, int]:
    """SAT's three phases, each process with pictures of its own; the weights at the end, lambda and the stage."""
    seed_everything(7, verbose=False)
    widths = {"generator_channels": 3, "attention_channels": 3, "discriminator_channels": 3, "discriminator_layers": 2}
    room = SAT(**widths, residual_blocks=1, attention_encoder="random", distance="l1", pool_size=2)  # type: ignore[arg-type]
    room.check_ranks_every = 1
    rule = {"weight": "lambda_regularisation", "loss": "loss/adversarial", "step": 0.5, "interval": 2, "threshold": 9.0}
    callbacks = [
        AdaptiveLambda(**rule, until=3),
        EnterStage(1, at=3),
        AdaptiveLambda(**rule, at=3, until=6),
        EnterStage(2, at=6),
    ]
    data = Scenes(size=32, batch_size=2, scenes_per_epoch=32, validation_count=2)
    fit(room, 8, folder, data=data, devices=2, strategy="ddp", callbacks=callbacks, limit_val_batches=0)
    weights = {name: value.detach().numpy().copy() for name, value in room.state_dict().items()}
    return weights, room.lambda_regularisation, room.stage


def test_two_processes_go_through_the_phases_together(tmp_path: Path) -> None:
    first, second = on_ranks(through_phases, tmp_path)
    for name, value in first[0].items():
        np.testing.assert_array_equal(value, second[0][name], err_msg=name)
    assert first[1:] == second[1:] == (0.5, 2)
