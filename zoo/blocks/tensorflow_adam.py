"""Adam as TensorFlow 1 counts and rounds it, for trainings that are compared with official TensorFlow codes."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class TensorflowAdam(Optimizer):
    """`tf.train.AdamOptimizer`: `p -= lr sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + eps)`.

    It differs from PyTorch's Adam in three ways. `eps` is added before the bias correction. One optimiser that serves several
    updates of different networks in turn has one count t for all of them: here each update has an optimiser of its own,
    the k-th step of which (from 0) is step `turns * k + turn + 1` of all. And a parameter that a graph holds but does not use at
    present has the gradient zero, not none: its momentum moves it on. A parameter that requires no gradient stays.

    Args:
        parameters: what moves.
        lr: learning rate.
        betas: of the running means of gradients and of their squares.
        eps: added to the root of the latter.
        turn: 0-based number of this update among those that share the count.
        turns: how many share it.

    Raises:
        ValueError: `turn` is not one of the turns.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        turn: int = 0,
        turns: int = 1,
    ) -> None:
        if not 0 <= turn < turns:
            raise ValueError(f"turn is {turn} of {turns} turns; expected 0 to {turns - 1}")
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "turn": turn, "turns": turns})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step of every parameter that requires a gradient.

        Args:
            closure: computes the gradients anew, where given; its result is returned.
        """
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.requires_grad]
            if moved:
                self._move(moved, group)
        return result

    def _move(self, moved: list[Tensor], group: dict[str, Any]) -> None:
        for p in moved:
            if not self.state[p]:
                self.state[p] |= {"step": 0, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        states = [self.state[p] for p in moved]
        done = max(state["step"] for state in states)  # one that was frozen for a while has missed some
        for state in states:
            state["step"] = done + 1
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in moved]
        means, squares = [state["exp_avg"] for state in states], [state["exp_avg_sq"] for state in states]
        beta1, beta2 = group["betas"]
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        count = group["turns"] * done + group["turn"] + 1
        size = group["lr"] * (1 - beta2**count) ** 0.5 / (1 - beta1**count)
        divisors = torch._foreach_sqrt(squares)
        torch._foreach_add_(divisors, group["eps"])
        torch._foreach_addcdiv_(moved, means, divisors, -size)
