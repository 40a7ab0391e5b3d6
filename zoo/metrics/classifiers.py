"""Simple classifiers that features are tried on: the nearest neighbour, and a linear support vector machine.

The support vector machine minimises the objective of scikit-learn's `LinearSVC` (squared hinge, the intercept is regularised like a
weight, one machine per class against all others). That is a convex problem with one solution, which L-BFGS finds here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.errors import ZooError

AT_ONCE = 1000  # rows whose distances are taken at a time


def nearest_neighbour(train: Tensor, labels: Tensor, features: Tensor) -> Tensor:
    """The class of each row's nearest training row, by Euclidean distance.

    Args:
        train: n d.
        labels: int64 n.
        features: m d.

    Returns:
        int64 m.
    """
    squares = train.square().sum(1)
    nearest = [(squares - 2 * some @ train.T).argmin(1) for some in features.split(AT_ONCE)]
    return labels[torch.cat(nearest)]


class LinearSVM:
    """A linear support vector machine, one against all others.

    Attributes:
        weights: float64 k d, one row for each class, or one row for two classes.
        intercepts: float64 k.

    Args:
        strength: C, how much mistakes count against large weights.
        iterations: most steps of L-BFGS.
    """

    def __init__(self, strength: float = 1.0, iterations: int = 1000) -> None:
        if strength <= 0 or iterations < 1:
            raise ZooError(
                f"A support vector machine with C = {strength} and {iterations} steps: both must be above 0."
            )
        self.strength, self.iterations = strength, iterations
        self.weights = torch.empty(0, 0, dtype=torch.float64)
        self.intercepts = torch.empty(0, dtype=torch.float64)

    def fit(self, features: Tensor, labels: Tensor) -> LinearSVM:
        """Learn from labelled rows.

        Args:
            features: n d.
            labels: int64 n from 0 on; with two classes one machine tells class 1 from class 0.

        Raises:
            ZooError: there are fewer than two classes.
        """
        classes = int(labels.max()) + 1 if len(labels) else 0
        if len(labels.unique()) < 2:
            raise ZooError(f"{len(labels)} labels of {len(labels.unique())} classes: a machine needs two classes.")
        rows = torch.cat([features.double(), torch.ones(len(features), 1, dtype=torch.float64)], 1)
        wanted = torch.arange(1, 2) if classes == 2 else torch.arange(classes)
        signs = torch.where(labels[:, None].cpu() == wanted, 1.0, -1.0).double().to(rows.device)  # n k
        solution = torch.zeros(len(wanted), rows.shape[1], dtype=torch.float64, device=rows.device)

        def objective() -> Tensor:
            missing = (1 - signs * (rows @ solution.T)).clamp(min=0)
            value = 0.5 * solution.square().sum() + self.strength * missing.square().sum()
            solution.grad = solution - 2 * self.strength * (signs * missing).T @ rows
            return value

        steps = torch.optim.LBFGS(
            [solution],
            max_iter=self.iterations,
            max_eval=4 * self.iterations,
            tolerance_grad=1e-6 * self.strength,
            tolerance_change=0.0,
            history_size=20,
            line_search_fn="strong_wolfe",
        )
        steps.step(objective)
        self.weights, self.intercepts = solution[:, :-1].cpu(), solution[:, -1].cpu()
        return self

    def decide(self, features: Tensor) -> Tensor:
        """How far rows `m d` lie on each machine's side: m k."""
        return features.double() @ self.weights.to(features.device).T + self.intercepts.to(features.device)

    def predict(self, features: Tensor) -> Tensor:
        """The class of each row `m d`: int64 m."""
        decided = self.decide(features)
        return (decided[:, 0] > 0).long() if decided.shape[1] == 1 else decided.argmax(1)
