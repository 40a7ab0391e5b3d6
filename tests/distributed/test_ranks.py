"""Two processes with batch b do what one does with batch 2b, and stay bit-identical."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import seed_everything

from support.ranks import on_ranks
from support.toy import ToyData, ToyRoom
from support.training import fit
from zoo.core import sync
from zoo.core.runs import Run
from zoo.errors import ZooError

pytestmark = pytest.mark.distributed
Arrays = dict[str, np.ndarray]


def train(
    rank: int, folder: Path, world: int, iterations: int, options: dict[str, Any], resume: Path | None = None
) -> Arrays:
    """Train on `world` ranks with a global batch of 4; the weights at the end."""
    seed_everything(7, verbose=False)
    room = ToyRoom(draw=False, **options)
    room.check_ranks_every = 1
    strategy = "ddp" if world > 1 else "auto"
    fit(room, iterations, folder, data=ToyData(4 // world), devices=world, strategy=strategy, resume=resume, every=3)
    return {name: value.detach().numpy().copy() for name, value in room.state_dict().items()}


def both_ways(tmp_path: Path, options: dict[str, Any], iterations: int = 8) -> tuple[Arrays, Arrays]:
    alone = train(0, tmp_path / "alone", 1, iterations, options)
    first, second = on_ranks(train, tmp_path / "two", 2, iterations, options)
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=f"ranks differ in {name}")
    return alone, first


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"r1": 0.5}, id="alternating players with R1"),
        pytest.param({"norm": "spectral", "r1": 0.5}, id="spectral norm"),
        pytest.param({"frozen": "generator", "branch": "none"}, id="a frozen network"),
        pytest.param({"grow_at": 4}, id="a network that grows in the middle"),
        pytest.param({"branch": "nobody"}, id="a branch that nobody uses"),
    ],
)
def test_two_ranks_equal_one_process_with_twice_the_batch(tmp_path: Path, options: dict[str, Any]) -> None:
    alone, together = both_ways(tmp_path, options)
    for name, value in alone.items():
        np.testing.assert_allclose(together[name], value, rtol=1e-6, atol=1e-9, err_msg=name)


def branch_on_one_rank(rank: int, folder: Path) -> Arrays:
    return train(rank, folder, 2, 8, {"branch": "odd_ranks"})


def test_a_branch_that_one_rank_used_moves_on_both_and_one_that_nobody_used_on_none(tmp_path: Path) -> None:
    first, second = on_ranks(branch_on_one_rank, tmp_path)
    seed_everything(7, verbose=False)
    start = ToyRoom().extra.weight.detach().double().numpy()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)
    assert not np.array_equal(first["extra.weight"], start)
    nobody, _ = on_ranks(train, tmp_path / "nobody", 2, 3, {"branch": "nobody"})
    np.testing.assert_array_equal(nobody["extra.weight"], start)


def batch_norm_statistics(rank: int, folder: Path) -> dict[str, Any]:
    """One iteration; each rank's own input to the norm, recorded, and the buffers after it."""
    seed_everything(7, verbose=False)
    room = ToyRoom(draw=False, norm="batch")
    seen: list[np.ndarray] = []
    room.discriminator[1].register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].detach().numpy().copy())
    )
    fit(room, 1, folder, data=ToyData(4), devices=2, strategy="ddp")
    norm = room.discriminator[1]
    return {"seen": seen, "mean": norm.running_mean.numpy(), "var": norm.running_var.numpy()}


def test_batch_norm_follows_its_rule(tmp_path: Path) -> None:
    """Each rank normalises with its own part of the batch; running statistics are the mean over ranks."""
    answers = on_ranks(batch_norm_statistics, tmp_path)
    expected = []
    for answer in answers:
        mean, var = np.zeros(8), np.ones(8)
        for batch in answer["seen"]:
            mean = 0.9 * mean + 0.1 * batch.mean(0)
            var = 0.9 * var + 0.1 * batch.var(0, ddof=1)
        expected.append((mean, var))
    for answer in answers:
        np.testing.assert_allclose(answer["mean"], np.mean([mean for mean, _ in expected], 0), rtol=1e-10)
        np.testing.assert_allclose(answer["var"], np.mean([var for _, var in expected], 0), rtol=1e-10)


def resumed(rank: int, folder: Path) -> tuple[Arrays, Arrays]:
    options = {"pool": True, "norm": "batch", "ema_decay": 0.9}
    whole = train(rank, folder / "whole", 2, 8, options)
    train(rank, folder / "parts", 2, 6, options)
    return whole, train(rank, folder / "parts", 2, 8, options, Run(folder / "parts").checkpoint_path(6))


def test_two_ranks_resume_to_the_same_bits_with_their_own_pools(tmp_path: Path) -> None:
    for whole, parts in on_ranks(resumed, tmp_path):
        for name, value in whole.items():
            np.testing.assert_array_equal(value, parts[name], err_msg=name)


def bad_numbers(rank: int, folder: Path, action: str) -> tuple[str, int, bool]:
    seed_everything(7, verbose=False)
    room = ToyRoom(draw=False, bad_iteration=3, bad_rank=1)
    room.bad_numbers.action = action  # type: ignore[assignment]
    message = ""
    try:
        fit(room, 6, folder, devices=2, strategy="ddp")
    except ZooError as error:
        message = str(error)
    finite = all(bool(torch.isfinite(p).all()) for p in room.parameters())
    return message, room.bad_numbers.bad_iterations, finite


@pytest.mark.parametrize("action", ["stop", "skip", "continue"])
def test_all_ranks_agree_on_what_one_of_them_saw(tmp_path: Path, action: str) -> None:
    first, second = on_ranks(bad_numbers, tmp_path, action)
    assert first == second
    message, count, finite = first
    assert ("iteration 3" in message) == (action == "stop")
    assert count == {"stop": 1, "skip": 1, "continue": 3}[action]
    assert finite == (action == "skip")


def drifting(rank: int, folder: Path) -> str:
    class Drifting(ToyRoom):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            with torch.no_grad():
                self.extra.bias.add_(sync.rank() * 1e-12)

    seed_everything(7, verbose=False)
    room = Drifting(draw=False)
    room.check_ranks_every = 1
    try:
        fit(room, 4, folder, devices=2, strategy="ddp")
    except ZooError as error:
        return str(error)
    return ""


def test_ranks_that_drift_apart_are_noticed(tmp_path: Path) -> None:
    for message in on_ranks(drifting, tmp_path):
        assert "extra.bias" in message


def other_world(rank: int, folder: Path, checkpoint: Path) -> tuple[int, float]:
    seed_everything(7, verbose=False)
    room = ToyRoom(draw=False, pool=True)
    fit(room, 7, folder, data=ToyData(2), devices=2, strategy="ddp", resume=checkpoint)
    return len(room.pool.fakes), float(room.generator[0].weight.sum())


def test_another_number_of_ranks_resumes_with_empty_pools(tmp_path: Path) -> None:
    train(0, tmp_path / "one", 1, 6, {"pool": True})
    answers = on_ranks(other_world, tmp_path / "two", Run(tmp_path / "one").checkpoint_path(6))
    assert answers[0] == answers[1]
    assert answers[0][0] == 1  # one iteration's fakes, not the three that the checkpoint's single rank held
