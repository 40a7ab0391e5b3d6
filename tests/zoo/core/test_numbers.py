"""Non-finite gradients: flagged on the device, read one iteration later, acted on as configured."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from zoo.core import Player
from zoo.core.numbers import BadNumbers, BadNumbersAction
from zoo.errors import ZooError


class Game:
    """Two players of one weight each, whose gradients are set by hand."""

    def __init__(self, action: BadNumbersAction = "stop", patience: int = 100) -> None:
        self.numbers = BadNumbers(action, patience)
        self.weights = {name: nn.Parameter(torch.zeros(2)) for name in ("generator", "discriminator")}
        self.players = {
            name: Player(name, torch.optim.SGD([weight], 1), [nn.ParameterList([weight])])
            for name, weight in self.weights.items()
        }

    def iterate(self, iteration: int, **gradients: float) -> list[bool]:
        forbidden = []
        for name, value in gradients.items():
            self.weights[name].grad = torch.tensor([value, 4.0])
            finite = self.numbers.inspect(self.players[name], [self.weights[name]])
            forbidden.append(self.numbers.forbids_step(finite))
        self.numbers.end(iteration)
        return forbidden


def test_gradient_norms_are_kept_by_player() -> None:
    game = Game()
    game.iterate(0, generator=3.0, discriminator=0.0)
    assert {name: float(norm) for name, norm in game.numbers.gradient_norms.items()} == {
        "generator": 5,
        "discriminator": 4,
    }


def test_a_bad_iteration_stops_the_run_one_iteration_later() -> None:
    game = Game()
    assert game.iterate(7, generator=math.nan, discriminator=1.0) == [False, False]
    with pytest.raises(ZooError, match=r"gradients of generator were not finite .* in iteration 7"):
        game.iterate(8, generator=1.0, discriminator=1.0)
    assert game.numbers.bad_iterations == 1


def test_nothing_is_saved_or_ended_with_unread_flags() -> None:
    game = Game()
    game.iterate(7, generator=1.0, discriminator=math.inf)
    with pytest.raises(ZooError, match="discriminator were not finite"):
        game.numbers.read_all(7)
    game.numbers.read_all(7)  # it is told once


def test_every_player_that_went_bad_is_named_once() -> None:
    game = Game()
    for name in ("generator", "discriminator", "generator"):
        game.weights[name].grad = torch.tensor([math.inf, 0])
        game.numbers.inspect(game.players[name], [game.weights[name]])
    with pytest.raises(ZooError, match="gradients of generator, discriminator were"):
        game.numbers.read_all(0)


def test_skip_forbids_the_bad_players_step_alone_and_counts_in_a_row() -> None:
    game = Game("skip", patience=2)
    assert game.iterate(0, generator=math.nan, discriminator=1.0) == [True, False]
    assert game.iterate(1, generator=1.0, discriminator=1.0) == [False, False]
    game.iterate(2, generator=math.nan)
    assert game.numbers.bad_iterations == 1  # iteration 2 is read later
    game.iterate(3, generator=math.nan)
    with pytest.raises(ZooError, match="iteration 3"):
        game.iterate(4, generator=1.0)
    assert game.numbers.bad_iterations == 3


def test_continue_only_counts() -> None:
    game = Game("continue", patience=1)
    for iteration in range(5):
        assert game.iterate(iteration, generator=math.nan) == [False]
    game.numbers.read_all(4)
    assert game.numbers.bad_iterations == 5


def test_a_player_without_gradients_is_fine() -> None:
    game = Game()
    assert bool(game.numbers.inspect(game.players["generator"], []))
    game.numbers.read_all(0)


def test_the_last_good_checkpoint_and_how_to_see_it_again_are_said() -> None:
    game = Game()
    game.numbers.last_good = Path("runs/cyclegan/first/checkpoints/iteration_00000005.ckpt")
    game.iterate(7, generator=math.nan)
    with pytest.raises(ZooError) as caught:
        game.numbers.read_all(7)
    assert "last good checkpoint is runs/cyclegan/first/checkpoints/iteration_00000005.ckpt" in str(caught.value)
    assert "lightning fit --resume runs/cyclegan/first --trainer.max_steps 9 --trainer.detect_anomaly true" in str(
        caught.value
    )


def test_norms_of_an_earlier_iteration_are_forgotten() -> None:
    game = Game()
    game.iterate(0, generator=3.0, discriminator=0.0)
    game.iterate(1, generator=0.0)
    assert {name: float(norm) for name, norm in game.numbers.gradient_norms.items()} == {"generator": 4}
