"""What an iteration of AGGAN does, counted: these numbers hold on every machine, unlike seconds."""

from typing import Any

import pytest
import torch
from benchmarks.driving import Counts, drive
from benchmarks.rooms import unpaired
from torch import Tensor, nn

from zoo.aggan import AGGAN
from zoo.callbacks.staging import EnterStage, FreezeNetworks

SMALL: dict[str, Any] = {
    "generator_channels": 4,
    "residual_blocks": 1,
    "attention_channels": 4,
    "discriminator_channels": 4,
    "discriminator_layers": 2,
    "pool_size": 2,
}
SIZE = 32
WITH_FULL_POOLS = 3
FIRST, SECOND = 100, 1  # switches after and before the iteration that is counted


def counted(switch: int, **options: Any) -> tuple[AGGAN, Counts]:
    room, counts = AGGAN(**SMALL, **options), Counts(WITH_FULL_POOLS)
    stage = [FreezeNetworks(["attention_source", "attention_target"], at=switch), EnterStage(1, at=switch)]
    drive(room, unpaired(SIZE), WITH_FULL_POOLS + 2, *stage, counts)
    return room, counts


def forward_flops(network: nn.Module) -> tuple[int, int]:
    """Of a whole forward pass and of its first convolution, from the shapes alone."""
    flops: list[int] = []

    def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
        transposed = isinstance(layer, nn.ConvTranspose2d)  # whose rows and columns beyond the picture are cut off
        pixels = (inputs[0] if transposed else output).shape[2:].numel()
        flops.append(2 * len(output) * pixels * layer.weight.numel())

    layers = [part for part in network.modules() if isinstance(part, nn.Conv2d | nn.ConvTranspose2d)]
    hooks = [layer.register_forward_hook(add) for layer in layers]
    with torch.no_grad():
        network(torch.zeros(1, 3, SIZE, SIZE))
    for hook in hooks:
        hook.remove()
    return sum(flops), flops[0]


@pytest.mark.parametrize("switch", [FIRST, SECOND])
def test_each_network_runs_as_often_as_it_must(switch: int) -> None:
    """The official code runs everything anew for each of its four updates: 8 passes through each generator."""
    _, counts = counted(switch)
    assert counts.forwards == {
        "to_target": 2 + 2,  # what it makes of the source and of a translation, before and after its step
        "to_source": 1 + 1 + 1,  # the target's translation serves both; the way back, before and after the other's step
        "attention_source": 2 + 2,
        "attention_target": 1 + 1 + 1,
        "discriminator_target": 1 + 2,  # to be fooled; real and fake
        "discriminator_source": 1 + 2,
    }


@pytest.mark.parametrize("switch", [FIRST, SECOND])
@pytest.mark.parametrize("options", [{}, {"mask_on": "generator", "optimizer": "tensorflow"}], ids=["code", "paper"])
def test_nothing_is_computed_that_no_player_needs(switch: int, options: dict[str, Any]) -> None:
    """From the algorithm: a backward pass costs as much as a forward pass for weights, and as much again for the input.

    A picture of the data, and a translation that the other player made, need no gradient: the first convolution saves it.
    """
    room, counts = counted(switch, **options)
    generator, generator_first = forward_flops(room.to_target)
    attention, attention_first = forward_flops(room.attention_source)
    judge, judge_first = forward_flops(room.discriminator_target)

    def moved(forward: int, first: int) -> tuple[int, int]:
        """A network whose weights move, for inputs that are constants, and one that a gradient goes through alone."""
        return 3 * forward - first, 2 * forward

    trained, through = moved(generator, generator_first)
    generators = (2 * trained + generator + through) + (trained + trained + through)  # to_target, to_source
    trained, through = moved(attention, attention_first)
    attentions = (2 * trained + attention + through) + (trained + trained + through)
    if (
        switch == SECOND
    ):  # the attention networks are frozen: gradients go through those that see a translation that moves
        attentions = (3 * attention + through) + (2 * attention + through)
    trained, through = moved(judge, judge_first)
    judges = 2 * (through + 2 * trained)
    assert counts.flops == generators + attentions + judges


@pytest.mark.parametrize("switch", [FIRST, SECOND])
def test_an_iteration_reads_one_number(switch: int) -> None:
    for options in ({}, {"optimizer": "tensorflow", "ema_decay": 0.9}):
        assert counted(switch, **options)[1].host_reads == ["tolist"]  # whether the last gradients were finite
