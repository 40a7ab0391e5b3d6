"""What an iteration of the single-image rooms costs, against the passes of the official codes."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.driving import Counts, Flops, drive
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor
from torch.nn import functional as F

from support.single_image import SMALL, draw_picture, train
from zoo.blocks.single_image import gradient_penalty
from zoo.consingan import ConSinGAN
from zoo.singan import SinGAN


class Cost(Callback):
    """Floating-point operations of each iteration."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.counter = Flops()
        self.counter.__enter__()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.counter.__exit__(None, None, None)
        self.counts.append(self.counter.total)


def official_consingan(model: ConSinGAN) -> int:
    """The passes of the official code: a fake for each step of the critic, and gradients down to the head."""
    network, critic, real = model.generator, model.discriminator, model.reals[model.stage]
    given = (model.sizes, list(model.amplitudes))
    network.requires_grad_(True)
    for block in list(network.body)[: model.frozen_stages]:
        block.requires_grad_(False)
    with Flops() as counter:
        maps = model.draw_maps()
        for step in range(model.critic_steps):
            with torch.set_grad_enabled(step == model.critic_steps - 1):
                fake = network(maps, *given)
            loss = critic(fake.detach()).mean() - critic(real).mean()
            loss = loss + gradient_penalty(critic, real, fake, torch.full((1, 1), 0.5))
            torch.autograd.grad(loss, list(critic.parameters()))
        loss = F.mse_loss(network(list(model.fixed), *given), real) - critic(fake).mean()
        loss.backward()
    return counter.total


@pytest.mark.parametrize("norm", [False, True])
def test_consingan_costs_less_than_the_official_code(norm: bool, tmp_path: Path) -> None:
    seed_everything(0, verbose=False)
    model = ConSinGAN(channels=16, norm=norm, min_size=12, max_size=48, stage_iterations=2, decay_iteration=None)
    cost = Cost()
    train(model, draw_picture(tmp_path / "p.png", 40, 48), tmp_path, callbacks=[cost], every=100)
    first, last = cost.counts[1], cost.counts[-1]
    assert last > first
    ratio = last / official_consingan(model)
    print(f"ConSinGAN, norm {norm}: {ratio:.3f} of the official operations in the last of 6 stages")
    assert ratio < 0.87


def official_singan(model: SinGAN) -> int:
    """The passes of the official code: the critic judges the same fake anew in each step of the generator."""
    network, critic, real = model.generators[-1], model.discriminator, model.reals[model.stage]
    noise, amplitude = model.draw_map(model.stage, model.sizes[-1]), model.amplitudes[-1]

    def judged(fake: Tensor) -> Tensor:
        return -critic(fake).mean()

    with Flops() as counter:
        for _ in range(model.critic_steps):
            previous = model.pad(model.random_below())
            fake = network(amplitude * noise + previous, previous)
            loss = critic(fake.detach()).mean() - critic(real).mean()
            loss = loss + gradient_penalty(critic, real, fake, torch.full((1, 1), 0.5))
            torch.autograd.grad(loss, list(critic.parameters()))
        for _ in range(model.generator_steps):
            torch.autograd.grad(judged(fake), [*network.parameters(), *critic.parameters()], retain_graph=True)
            torch.autograd.grad(F.mse_loss(model.reconstruct(), real), list(network.parameters()))
    return counter.total


def test_singan_costs_less_than_the_official_code(tmp_path: Path) -> None:
    seed_everything(0, verbose=False)
    model = SinGAN(channels=16, least_channels=16, min_size=12, max_size=48, stage_iterations=3, decay_iteration=None)
    cost = Cost()
    train(model, draw_picture(tmp_path / "p.png", 40, 48), tmp_path, callbacks=[cost], every=100)
    ratio = cost.counts[-2] / official_singan(model)  # the last iteration makes one pass more
    print(f"SinGAN: {ratio:.3f} of the official operations in the last of {len(model.generators)} scales")
    assert ratio < 0.93


@pytest.mark.parametrize("case", ["zoo.consingan.ConSinGAN", "zoo.singan.SinGAN"])
def test_low_precision_trains_and_leaves_the_penalty_alone(case: str, tmp_path: Path) -> None:
    """In bfloat16 losses stay close to those in float32, and the penalty runs the critic in float32."""
    kinds: dict[str, list[torch.dtype]] = {}
    terms: dict[str, dict[str, float]] = {}

    class Look(Callback):
        def __init__(self, precision: str) -> None:
            self.seen = kinds.setdefault(precision, [])
            self.precision = precision

        def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
            critic: Any = pl_module.discriminator
            critic.tail.register_forward_hook(lambda _, __, output: self.seen.append(output.dtype))

        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            found = {name: float(value) for name, value in trainer.callback_metrics.items()}
            terms.setdefault(self.precision, found)

    for precision in ("32-true", "bf16-mixed"):
        module, _, name = case.rpartition(".")
        seed_everything(0, verbose=False)
        room = getattr(import_module(module), name)(**SMALL[case])
        picture = draw_picture(tmp_path / "p.png")
        train(room, picture, tmp_path / precision, 3, callbacks=[Look(precision)], precision=precision)
        assert all(value.isfinite().all() for value in room.state_dict().values())
    assert set(kinds["32-true"]) == {torch.float32}
    assert set(kinds["bf16-mixed"]) == {torch.bfloat16, torch.float32}
    losses = {name: value for name, value in terms["32-true"].items() if name.startswith("loss/")}
    assert losses
    for name, value in losses.items():
        assert terms["bf16-mixed"][name] == pytest.approx(value, rel=0.2, abs=0.02), name


@pytest.mark.parametrize(
    ("case", "changes", "seed"),
    [
        ("zoo.consingan.ConSinGAN", {}, 0),
        ("zoo.singan.SinGAN", {}, 0),
        *(("zoo.consingan.ConSinGAN", {"task": "harmonization"}, seed) for seed in range(6)),  # other changes each time
        *(("zoo.consingan.ConSinGAN", {"task": "editing"}, seed) for seed in range(2)),
    ],
)
def test_an_iteration_waits_for_the_device_once(case: str, changes: dict[str, Any], seed: int) -> None:
    module, _, name = case.rpartition(".")
    seed_everything(seed, verbose=False)
    room = getattr(import_module(module), name)(**{**SMALL[case], "stage_iterations": 100, **changes})
    counts = Counts(1)
    drive(room, {"image": torch.rand(1, 3, 24, 28) * 2 - 1}, 3, counts)
    assert counts.host_reads == ["tolist"]  # whether the last gradients were finite
