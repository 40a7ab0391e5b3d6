"""LREQAdam: ALAE's Adam without a first moment, whose steps each parameter scales by a factor of its own."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from zoo.alae.layers import Equalised


def equalised_groups(networks: Iterable[nn.Module]) -> list[dict[str, Any]]:
    """Parameters of some networks in groups of one factor each, for `LREQAdam`.

    The official code hangs the factor on the parameter, where a copy of the network loses it.

    Args:
        networks: whose equalised layers say their factors; all other parameters have 1.
    """
    groups: defaultdict[float, list[nn.Parameter]] = defaultdict(list)
    for network in networks:
        rates: dict[int, float] = {}
        for module in network.modules():
            if isinstance(module, Equalised):
                rates[id(module.weight)] = module.weight_rate
                if module.bias is not None:
                    rates[id(module.bias)] = module.bias_rate
        for parameter in network.parameters():
            groups[rates.get(id(parameter), 1.0)].append(parameter)
    return [{"params": parameters, "factor": factor} for factor, parameters in groups.items()]


class LREQAdam(Optimizer):
    """Divides gradients by the root of their running mean square, and scales each group's steps.

    v = beta v + (1 - beta) g^2; p = p - lr sqrt(1 - beta^t) factor g / (sqrt(v) + eps), where t counts a parameter's own steps. A
    parameter without gradient is passed over; a gradient of zeros counts as a step.

    Args:
        groups: as `equalised_groups` makes them, each with its `factor`; or parameters, of the factor 1.
        lr: learning rate.
        beta: share of the old mean square that a step keeps; 0.99 in the official code.
        eps: added to the root.
    """

    def __init__(self, groups: Iterable[Any], lr: float = 0.0015, beta: float = 0.99, eps: float = 1e-8) -> None:
        super().__init__(groups, {"lr": lr, "beta": beta, "eps": eps, "factor": 1.0})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take a step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._step_group(group)
        return loss

    def _step_group(self, group: dict[str, Any]) -> None:
        parameters: list[Tensor] = [p for p in group["params"] if p.grad is not None]
        if not parameters:
            return
        gradients, squares, steps = [], [], []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"], state["exp_avg_sq"] = 0, torch.zeros_like(parameter)
            state["step"] += 1
            assert parameter.grad is not None
            gradients.append(parameter.grad)
            squares.append(state["exp_avg_sq"])
            steps.append(-group["lr"] * group["factor"] * math.sqrt(1 - group["beta"] ** state["step"]))
        torch._foreach_mul_(squares, group["beta"])
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - group["beta"])
        roots = torch._foreach_sqrt(squares)
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_addcdiv_(parameters, gradients, list(roots), steps)
