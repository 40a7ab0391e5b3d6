"""What an iteration of each room does, counted: these numbers hold on every machine, unlike seconds."""

from typing import Any

import pytest
import torch
from benchmarks.driving import Counts, Flops, drive
from benchmarks.rooms import ROOMS, unpaired
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from zoo.core import Translator
from zoo.cyclegan import CycleGAN

SMALL: dict[str, Any] = {"generator_channels": 4, "residual_blocks": 1, "discriminator_channels": 4, "pool_size": 2}
SIZE = 32
WITH_FULL_POOLS = 3


def counted(room: Translator, batch: dict[str, Tensor], iteration: int = WITH_FULL_POOLS) -> Counts:
    counts = Counts(iteration)
    drive(room, batch, iteration + 2, counts)
    return counts


def forward_flops(network: nn.Module, picture: Tensor) -> tuple[int, int]:
    """Of a whole forward pass and of its first convolution, from the shapes alone."""
    flops: list[int] = []

    def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
        # A weight meets each pixel of the smaller picture once per sample.
        pixels = min(inputs[0].shape[2:].numel(), output.shape[2:].numel())
        flops.append(2 * len(output) * pixels * layer.weight.numel())

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    hooks = [layer.register_forward_hook(add) for layer in layers]
    with torch.no_grad():
        network(picture)
    for hook in hooks:
        hook.remove()
    return sum(flops), flops[0]


def cyclegan_flops(room: CycleGAN, size: int) -> tuple[int, int]:
    """Of both players' turns, from the algorithm: nothing may be computed that no player needs.

    A backward pass costs as much as a forward pass for the gradients of the weights, and as much again for those of the input. A
    picture of the data needs none, so the first convolution that sees it saves the latter. In the generators' turn the weights of
    the discriminators need none.
    """
    picture = torch.zeros(1, 3, size, size)
    generator, generator_first = forward_flops(room.to_target, picture)
    judge, judge_first = forward_flops(room.discriminator_target, picture)
    of_data = 3 * generator - generator_first
    translation, back, identity = of_data, 3 * generator, of_data if room.lambda_identity > 0 else 0
    fooling = 2 * judge  # forward, and backward to the picture
    return 2 * (translation + back + identity + fooling), 2 * 2 * (3 * judge - judge_first)


@pytest.mark.parametrize(("lambda_identity", "passes"), [(0.5, 3), (0.0, 2)])
def test_cyclegan_runs_each_network_as_often_as_it_must(lambda_identity: float, passes: int) -> None:
    counts = counted(CycleGAN(**SMALL, lambda_identity=lambda_identity), unpaired(SIZE))
    generators = dict.fromkeys(["to_target", "to_source"], passes)
    discriminators = dict.fromkeys(
        ["discriminator_target", "discriminator_source"], 1 + 2
    )  # to be fooled; real and fake
    assert counts.forwards == generators | discriminators


@pytest.mark.parametrize("lambda_identity", [0.5, 0.0])
def test_cyclegan_computes_nothing_that_no_player_needs(lambda_identity: float) -> None:
    room = CycleGAN(**SMALL, lambda_identity=lambda_identity)
    assert counted(room, unpaired(SIZE)).flops == sum(cyclegan_flops(room, SIZE))


def test_operations_are_told_apart_by_network() -> None:
    """Backward passes included, and weights that are computed first, as spectral norm's are."""
    room = CycleGAN(**SMALL)
    counts = counted(room, unpaired(SIZE))
    picture = torch.zeros(1, 3, SIZE, SIZE)
    judge, judge_first = forward_flops(room.discriminator_target, picture)
    of_discriminator = 2 * judge + 2 * (3 * judge - judge_first)
    generators = (counts.flops - 2 * of_discriminator) // 2
    assert counts.shares == {
        **dict.fromkeys(["discriminator_target", "discriminator_source"], of_discriminator),
        **dict.fromkeys(["to_target", "to_source"], generators),
    }
    normed, batch = ROOMS["gpunit"].small()
    shares = counted(normed, batch, iteration=1).shares
    assert {"generator", "discriminator", "content_encoder"} <= shares.keys()
    assert shares[""] <= 0.02 * shares.total()  # products of vectors, by which norms are estimated


def test_cyclegan_computes_no_gradients_of_discriminators_in_the_generators_turn() -> None:
    class Watched(CycleGAN):
        turn_flops = 0

        def update_generators(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
            with Flops() as flops:
                fakes = super().update_generators(source, target)
            self.turn_flops = flops.total
            return fakes

    gradients: list[Tensor | None] = []

    class BeforeTheGeneratorsStep(Callback):
        def on_before_optimizer_step(self, trainer: Trainer, room: LightningModule, optimizer: Optimizer) -> None:
            if optimizer is trainer.optimizers[0]:
                discriminators = nn.ModuleList([room.discriminator_target, room.discriminator_source])
                gradients.extend(p.grad for p in discriminators.parameters())

    room = Watched(**SMALL)
    drive(room, unpaired(SIZE), 1, BeforeTheGeneratorsStep())
    assert gradients
    assert all(gradient is None for gradient in gradients)
    assert room.turn_flops == cyclegan_flops(room, SIZE)[0]


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_reads_at_most_one_number_per_iteration(name: str) -> None:
    room, batch = ROOMS[name].small()
    counts = counted(room, batch, iteration=1)
    assert len(counts.host_reads) <= 1, counts.host_reads


def test_full_pools_do_not_wait_for_the_device() -> None:
    assert counted(CycleGAN(**SMALL), unpaired(SIZE)).host_reads == ["tolist"]  # whether the last gradients were finite


def test_a_read_is_noticed() -> None:
    class Curious(CycleGAN):
        def update_discriminators(
            self, source: Tensor, target: Tensor, fake_source: Tensor, fake_target: Tensor
        ) -> None:
            super().update_discriminators(source, target, fake_source, fake_target)
            assert fake_target.mean() < 2
            assert fake_target.max().item() < 2
            assert len(fake_target[fake_target > 0]) > 0
            assert fake_target.numpy().min() > -2

    reads = counted(Curious(**SMALL), unpaired(SIZE)).host_reads
    assert len(reads) == 1 + 4, reads


@pytest.mark.parametrize("name", [name for name, measured in ROOMS.items() if measured.official_gflop is not None])
def test_a_room_computes_no_more_than_the_official_code(name: str) -> None:
    measured, counts = ROOMS[name], Counts(iteration=0)
    drive(measured.make(), measured.batch(), 1, counts)
    assert 0 < counts.flops / 1e9 < (measured.official_gflop or 0) + 0.05  # the official figure is rounded
