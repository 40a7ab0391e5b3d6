"""Iterations, players, bad numbers, stages and exact resume, through a real Trainer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from torch.utils._python_dispatch import TorchDispatchMode

from support.toy import ToyData, ToyRoom, weights
from support.training import fit
from zoo.core.checkpoints import read_checkpoint
from zoo.core.runs import Run
from zoo.errors import ZooError


def toy(**options: Any) -> ToyRoom:
    seed_everything(7, verbose=False)
    return ToyRoom(**options)


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name


def test_one_batch_is_one_iteration_whatever_the_number_of_optimisers(tmp_path: Path) -> None:
    room = toy()
    trainer = fit(room, 5, tmp_path, every=2)
    assert trainer.global_step == 5
    assert room.iteration == 4
    assert [path.name for path in Run(tmp_path).checkpoints_newest_first()] == [
        "iteration_00000005.ckpt",
        "iteration_00000004.ckpt",
        "iteration_00000002.ckpt",
    ]


def test_a_turn_moves_its_own_networks_alone(tmp_path: Path) -> None:
    class Watching(ToyRoom):
        def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
            before = weights(self.discriminator)
            with self.player("generator") as player:
                assert not any(p.requires_grad for p in self.discriminator.parameters())
                assert all(p.requires_grad for p in self.generator.parameters())
                player.minimize(self.discriminator(self.make(batch["source"])).mean())
            if batch_idx == 0:
                assert all(p.grad is None for p in self.discriminator.parameters())
            assert_same(before, weights(self.discriminator))
            assert all(p.requires_grad for p in self.parameters())
            made = weights(self.generator)
            with self.player("discriminator") as player:
                player.minimize(self.discriminator(batch["target"]).mean())
            assert_same(made, weights(self.generator))
            self.checked = True

    seed_everything(0, verbose=False)
    room = Watching()
    fit(room, 2, tmp_path)
    assert room.checked


def test_only_the_named_optimisers_step_and_a_turn_may_step_more_than_once(tmp_path: Path) -> None:
    class Only(ToyRoom):
        def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
            start = weights(self.generator)
            with self.player("generator", only=[]) as player:
                player.minimize(self.make(batch["source"]).square().mean())
            assert_same(start, weights(self.generator))
            with self.player("generator") as player:
                player.minimize(self.make(batch["source"]).square().mean())
                player.step()
                once = weights(self.generator)
                player.step()
            assert not torch.equal(once["0.weight"], weights(self.generator)["0.weight"])
            assert not torch.equal(start["0.weight"], once["0.weight"])
            with pytest.raises(ValueError, match="no optimiser"), self.player("generator", only=["x"]):
                pass
            with pytest.raises(ValueError, match="there is no player 'critic'"), self.player("critic"):
                pass

    seed_everything(0, verbose=False)
    trainer = fit(Only(), 1, tmp_path)
    assert trainer.global_step == 1


def test_several_losses_add_up_before_one_step(tmp_path: Path) -> None:
    class Twice(ToyRoom):
        def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
            with self.player("generator", only=[]) as player:
                player.minimize(self.make(batch["source"]).square().mean())
                single = self.generator[0].weight.grad.clone()
                player.minimize(self.make(batch["source"]).square().mean())
            torch.testing.assert_close(self.generator[0].weight.grad, 2 * single)

    fit(Twice(), 1, tmp_path)


def test_the_schedule_is_a_function_of_the_iteration(tmp_path: Path) -> None:
    room = toy()
    trainer = fit(room, 4, tmp_path)
    generator, discriminator = trainer.optimizers
    assert generator.param_groups[0]["lr"] == 0.01
    assert discriminator.param_groups[0]["lr"] == pytest.approx(0.01 / 1.3)


@pytest.mark.parametrize(
    "options", [{}, {"pool": True, "ema_decay": 0.9, "norm": "batch"}, {"norm": "spectral"}, {"grow_at": 5}]
)
@pytest.mark.parametrize("at", [4, 5, 6])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path, options: dict[str, Any], at: int) -> None:
    """The kills of the growing network fall one iteration before, at and after its switch."""
    whole = toy(**options)
    fit(whole, 10, tmp_path / "whole")
    fit(toy(**options), at, tmp_path / "parts")
    seed_everything(99, verbose=False)  # what the process drew before must not matter
    second = ToyRoom(**options)
    seed_everything(7, verbose=False)
    fit(second, 10, tmp_path / "parts", resume=Run(tmp_path / "parts").checkpoint_path(at))
    assert_same(weights(whole), weights(second))
    if options.get("pool"):
        assert all(torch.equal(a, b) for a, b in zip(whole.pool.fakes, second.pool.fakes, strict=True))
    ends = [read_checkpoint(Run(tmp_path / part).checkpoint_path(10)) for part in ("whole", "parts")]
    for ours, theirs in zip(ends[0]["optimizer_states"], ends[1]["optimizer_states"], strict=True):
        for index, state in ours["state"].items():
            assert_same(state, theirs["state"][index])


def test_a_resumed_run_takes_the_rates_that_it_is_given(tmp_path: Path) -> None:
    rates: dict[str, list[float]] = {"whole": [], "other": []}

    class Rates(Callback):
        def __init__(self, kept: list[float]) -> None:
            self.kept = kept

        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            self.kept.extend(optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers)

    seed_everything(0, verbose=False)
    fit(ToyRoom(learning_rate=0.01), 3, tmp_path / "whole", callbacks=[Rates(rates["whole"])])
    checkpoint = Run(tmp_path / "whole").checkpoint_path(3)
    other = ToyRoom(learning_rate=0.02)
    trainer = fit(other, 5, tmp_path / "other", resume=checkpoint, callbacks=[Rates(rates["other"])])
    factors = [1 / (1 + iteration / 10) for iteration in range(5)]
    assert rates["whole"] == pytest.approx([rate for factor in factors[:3] for rate in (0.01, 0.01 * factor)])
    assert rates["other"] == pytest.approx([rate for factor in factors[3:] for rate in (0.02, 0.02 * factor)])
    assert all(int(state["step"]) == 5 for optimizer in trainer.optimizers for state in optimizer.state.values())


def test_a_network_that_grows_keeps_the_moments_of_what_lives_on(tmp_path: Path) -> None:
    room = toy(grow_at=3)
    trainer = fit(room, 6, tmp_path)
    adam = trainer.optimizers[0]
    assert int(adam.state[room.generator[0].weight]["step"]) == 6
    assert int(adam.state[room.grown[0].weight]["step"]) == 3
    assert trainer.global_step == 6


def test_a_frozen_network_stays_where_it_is_and_thaws(tmp_path: Path) -> None:
    room = toy(frozen="generator")
    start = weights(room.generator)
    fit(room, 3, tmp_path)
    assert_same({k: v.double() for k, v in start.items()}, weights(room.generator))
    thawed = toy()
    checkpoint = Run(tmp_path).checkpoint_path(3)

    class Thawing(ToyRoom):
        def on_train_start(self) -> None:
            assert not any(p.requires_grad for p in self.generator.parameters())  # the checkpoint said so
            self.set_frozen("generator", False)

    thawed = Thawing()
    fit(thawed, 5, tmp_path / "thawed", resume=checkpoint)
    assert not torch.equal(start["0.weight"].double(), weights(thawed.generator)["0.weight"])


def test_bad_numbers_stop_the_run_before_anything_bad_is_saved(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match=r"generator were not finite .* in iteration 3"):
        fit(toy(bad_iteration=3), 8, tmp_path, every=1)
    newest, _ = Run(tmp_path).newest_loadable_checkpoint()
    assert newest.name == "iteration_00000003.ckpt"
    state = read_checkpoint(newest)["state_dict"]
    assert all(torch.isfinite(value).all() for value in state.values())


def test_bad_numbers_are_skipped_or_counted_as_configured(tmp_path: Path) -> None:
    room = toy(bad_iteration=3)
    room.bad_numbers.action = "skip"
    fit(room, 6, tmp_path / "skip")
    assert room.bad_numbers.bad_iterations == 1
    assert all(torch.isfinite(value).all() for value in weights(room).values())
    room = toy(bad_iteration=3)
    room.bad_numbers.action = "continue"
    fit(room, 6, tmp_path / "continue")
    assert room.bad_numbers.bad_iterations == 3
    assert not torch.isfinite(room.generator[0].weight).all()


def test_skipping_has_an_end(tmp_path: Path) -> None:
    class AlwaysBad(ToyRoom):
        def make(self, x: torch.Tensor) -> torch.Tensor:
            return super().make(x) * float("inf")

    room = AlwaysBad()
    room.bad_numbers.action, room.bad_numbers.patience = "skip", 3
    with pytest.raises(ZooError, match="in iteration 2"):
        fit(room, 9, tmp_path)


class _Syncs(TorchDispatchMode):
    """Counts what makes the host wait for a device: reading a scalar, or a copy to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            self.count += 1
        return func(*args, **(kwargs or {}))


def test_an_iteration_reads_nothing_from_the_device_but_the_last_ones_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[tuple[int, int]] = []
    lists = []
    to_list = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: lists.append(1) or to_list(self))

    class Counting(ToyRoom):
        @contextmanager
        def _one_iteration(self, batch: object) -> Iterator[None]:
            lists.clear()
            with _Syncs() as syncs, super()._one_iteration(batch):
                yield
            # Adam reads its own step count, which lives on the host on every device.
            adam = sum(len(o.param_groups[0]["params"]) for o in self.trainer.optimizers)
            counts.append((syncs.count, len(lists)))
            assert syncs.count <= adam

    fit(Counting(draw=False), 6, tmp_path)
    assert len(counts) == 6
    assert all(reads <= 1 for _, reads in counts)


def test_half_precision_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="bf16-mixed"):
        fit(toy(), 1, tmp_path, precision="16-true")


def test_bfloat16_trains(tmp_path: Path) -> None:
    class Data(ToyData):
        def on_after_batch_transfer(
            self, batch: dict[str, torch.Tensor], dataloader_idx: int
        ) -> dict[str, torch.Tensor]:
            return {key: value.float() for key, value in batch.items()}

    room = toy(r1=1.0)
    fit(room, 3, tmp_path, data=Data(), precision="bf16-mixed")
    assert all(torch.isfinite(value).all() for value in weights(room).values())


def test_looking_aside_moves_nothing(tmp_path: Path) -> None:
    class Looking(ToyRoom):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            with self.aside("samples"):
                assert not self.discriminator.training
                self.discriminator(batch["source"])
                self.draws.normal("noise", (3,))
            assert self.discriminator.training

    seed_everything(7, verbose=False)
    looking = Looking(norm="batch")
    fit(looking, 5, tmp_path / "looking")
    plain = toy(norm="batch")
    fit(plain, 5, tmp_path / "plain")
    assert_same(weights(plain), weights(looking))
