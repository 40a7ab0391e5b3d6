"""TensorFlow's Adam: its count of steps, its epsilon, and its treatment of what nothing uses."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zoo.blocks.tensorflow_adam import TensorflowAdam


def by_hand(gradients: list[float], counts: list[int], lr: float, betas: tuple[float, float], eps: float) -> float:
    """The change of one weight, in plain numbers."""
    mean = square = change = 0.0
    for gradient, count in zip(gradients, counts, strict=True):
        mean = betas[0] * mean + (1 - betas[0]) * gradient
        square = betas[1] * square + (1 - betas[1]) * gradient**2
        change -= lr * (1 - betas[1] ** count) ** 0.5 / (1 - betas[0] ** count) * mean / (square**0.5 + eps)
    return change


def stepped(weight: Tensor, gradients: list[float | None], **options: Any) -> Tensor:
    p = nn.Parameter(weight.clone())
    optimizer = TensorflowAdam([p], 0.1, (0.5, 0.999), 1e-3, **options)
    for gradient in gradients:
        p.grad = None if gradient is None else torch.full_like(p, gradient)
        optimizer.step()
    return p.detach() - weight


@pytest.mark.parametrize(("turn", "turns", "counts"), [(0, 1, [1, 2, 3]), (0, 4, [1, 5, 9]), (2, 4, [3, 7, 11])])
def test_steps_are_counted_over_all_updates(turn: int, turns: int, counts: list[int]) -> None:
    gradients = [0.3, -0.2, 0.01]
    change = stepped(torch.zeros(3, dtype=torch.float64), list(gradients), turn=turn, turns=turns)
    expected = by_hand(gradients, counts, 0.1, (0.5, 0.999), 1e-3)
    torch.testing.assert_close(change, torch.full((3,), expected, dtype=torch.float64))


def test_a_weight_without_a_gradient_drifts_on_its_momentum() -> None:
    start = torch.zeros(1, dtype=torch.float64)
    assert torch.equal(stepped(start, [0.3, None, None]), stepped(start, [0.3, 0.0, 0.0]))
    assert not torch.equal(stepped(start, [0.3, None]), stepped(start, [0.3]))
    assert not stepped(start, [None, None]).any()


def test_a_frozen_weight_stays_and_joins_the_count_of_the_others_again() -> None:
    frozen, free = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    optimizer = TensorflowAdam([frozen, free], 0.1)
    for step in range(4):
        frozen.requires_grad_(step not in (1, 2))
        frozen.grad, free.grad = torch.ones(2) if step not in (1, 2) else None, torch.ones(2)
        before = frozen.detach().clone()
        optimizer.step()
        assert torch.equal(before, frozen) == (step in (1, 2))
    assert {state["step"] for state in optimizer.state.values()} == {4}


def test_it_goes_on_from_its_state() -> None:
    torch.manual_seed(0)
    p = nn.Parameter(torch.randn(5))
    optimizer = TensorflowAdam([p], 0.1, turn=1, turns=4)
    p.grad = torch.randn(5)
    optimizer.step()
    q = nn.Parameter(p.detach().clone())
    other = TensorflowAdam([q], 0.5)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    p.grad = torch.randn(5)
    q.grad = p.grad.clone()
    optimizer.step()
    other.step()
    assert torch.equal(p, q)


def test_a_closure_computes_gradients() -> None:
    p = nn.Parameter(torch.ones(2))
    optimizer = TensorflowAdam([p], 0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = p.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2
    assert (p < 1).all()


@pytest.mark.parametrize(("turn", "turns"), [(-1, 4), (4, 4), (0, 0)])
def test_a_turn_that_is_none_is_refused(turn: int, turns: int) -> None:
    with pytest.raises(ValueError, match=f"turn is {turn} of {turns} turns"):
        TensorflowAdam([nn.Parameter(torch.ones(1))], 0.1, turn=turn, turns=turns)
