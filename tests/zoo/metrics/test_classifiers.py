"""The nearest neighbour and the support vector machine, against what they are defined by."""

import pytest
import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.classifiers import LinearSVM, nearest_neighbour


def clusters(
    count: int, classes: int, dimensions: int = 5, spread: float = 1.0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centres = 2 * torch.randn(classes, dimensions, generator=torch.Generator().manual_seed(9))
    labels = torch.arange(count) % classes
    return centres[labels] + spread * torch.randn(count, dimensions, generator=generator), labels


def test_the_nearest_row_gives_its_class() -> None:
    train, labels = clusters(300, 4)
    features, _ = clusters(1500, 4, seed=1)
    wanted = labels[torch.cdist(features.double(), train.double()).argmin(1)]
    assert torch.equal(nearest_neighbour(train.double(), labels, features.double()), wanted)
    assert torch.equal(nearest_neighbour(train, labels, train), labels)


@pytest.mark.parametrize(("classes", "strength"), [(2, 1.0), (2, 0.02), (3, 0.5)])
def test_the_objective_is_at_its_least(classes: int, strength: float) -> None:
    """It is convex: where its gradient is 0, no other solution is better."""
    features, labels = clusters(200, classes, spread=2.5)
    machine = LinearSVM(strength).fit(features, labels)
    assert machine.weights.shape == (1 if classes == 2 else classes, 5)
    wanted = [1] if classes == 2 else range(classes)
    for row, number in enumerate(wanted):
        sign = torch.where(labels == number, 1.0, -1.0).double()
        weights = machine.weights[row].clone().requires_grad_(True)
        intercept = machine.intercepts[row].clone().requires_grad_(True)
        missing = (1 - sign * (features.double() @ weights + intercept)).clamp(min=0)
        loss = 0.5 * (weights.square().sum() + intercept.square()) + strength * missing.square().sum()
        loss.backward()
        for parameter in (weights, intercept):
            assert parameter.grad is not None
            assert float(parameter.grad.abs().max()) < 1e-5 * strength * len(labels)


@pytest.mark.parametrize("classes", [2, 3])
def test_it_is_what_scikit_learn_finds(classes: int) -> None:
    svm = pytest.importorskip("sklearn.svm", reason="scikit-learn, whose machine this is compared with, is not here")
    features, labels = clusters(200, classes, spread=2.5)
    theirs = svm.LinearSVC(C=0.02, dual=False, tol=1e-10, max_iter=10_000).fit(features.numpy(), labels.numpy())
    ours = LinearSVM(0.02).fit(features, labels)
    torch.testing.assert_close(ours.weights, torch.from_numpy(theirs.coef_), rtol=1e-4, atol=1e-6)
    assert torch.equal(ours.predict(features), torch.from_numpy(theirs.predict(features.numpy())))


def test_clusters_are_told_apart() -> None:
    features, labels = clusters(400, 4, spread=0.3)
    unseen, wanted = clusters(200, 4, spread=0.3, seed=5)
    assert torch.equal(LinearSVM(1.0).fit(features, labels).predict(unseen), wanted)
    two = labels < 2
    machine = LinearSVM(1.0).fit(features[two], labels[two])
    assert torch.equal(machine.predict(unseen[wanted < 2]), wanted[wanted < 2])


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ZooError, match="C = 0"):
        LinearSVM(0)
    with pytest.raises(ZooError, match="3 labels of 1 classes"):
        LinearSVM().fit(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64))
