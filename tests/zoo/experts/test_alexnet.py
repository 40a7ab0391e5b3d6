"""AlexNet's features against torchvision's own."""

from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor

from zoo.errors import ZooError
from zoo.experts.alexnet import PLACES, AlexNetFeatures
from zoo.weights.fetch import read_catalogue


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    """What torchvision's file holds, with random numbers; the classifier is small, nobody reads it."""
    torch.manual_seed(0)
    with torch.device("meta"):
        state = torchvision.models.alexnet(weights=None).state_dict()
    return {key: torch.randn(value.shape if key.startswith("features") else ()) * 0.05 for key, value in state.items()}


@pytest.fixture
def image() -> Tensor:
    return torch.rand(2, 3, 64, 70, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_features_equal_torchvisions(published: dict[str, Tensor], image: Tensor) -> None:
    network = AlexNetFeatures(tuple(PLACES))
    network.load_weights(published)
    with torch.device("meta"):
        official = torchvision.models.alexnet(weights=None).features
    features = {key.removeprefix("features."): v for key, v in published.items() if key.startswith("features.")}
    official.to_empty(device="cpu").load_state_dict(features)
    transform = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    found = network(image)
    assert list(found) == list(PLACES)
    for layer, place in PLACES.items():
        with torch.no_grad():
            expected = official[: place + 1](transform((image + 1) / 2))
        torch.testing.assert_close(found[layer], expected, rtol=1e-4, atol=1e-5, msg=layer)


def test_it_is_an_expert_no_deeper_than_needed(image: Tensor) -> None:
    network = AlexNetFeatures(["relu3", "relu1"])
    assert list(network(image)) == ["relu3", "relu1"]
    assert len(network.features) == 8
    assert not any(p.requires_grad for p in network.parameters())
    assert not network.state_dict()
    assert not network.train().training
    source = image.requires_grad_()
    network(source)["relu3"].sum().backward()
    assert source.grad is not None
    assert all(p.grad is None for p in network.parameters())


def test_random_weights_are_the_same_every_time_and_draw_from_nobody() -> None:
    torch.manual_seed(5)
    first = AlexNetFeatures(["relu1"])
    after = torch.rand(())
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(()))
    second = AlexNetFeatures(["relu1"])
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_published_weights_are_fetched(
    published: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(published, tmp_path / "alexnet.pth")
    monkeypatch.setattr("zoo.experts.alexnet.fetch", lambda name: {"alexnet": tmp_path / "alexnet.pth"}[name])
    network = AlexNetFeatures(["relu1"], pretrained=True)
    assert torch.equal(network.own_state()["features.0.weight"], published["features.0.weight"])
    entry = read_catalogue()["alexnet"]
    assert entry.sha256 is not None
    assert entry.sha256[:8] in entry.file


def test_what_is_no_alexnet_is_refused(tmp_path: Path, published: dict[str, Tensor]) -> None:
    with pytest.raises(ZooError, match="features of relu1, relu2, relu3, relu4, relu5, not of relu9"):
        AlexNetFeatures(["relu9"])
    with pytest.raises(ZooError, match="not of none"):
        AlexNetFeatures([])
    network = AlexNetFeatures(["relu2"])
    before = network.own_state()
    torch.save({"epoch": 3}, tmp_path / "other.pth")
    wrong = {**published, "features.0.weight": torch.zeros(64, 3, 3, 3)}
    for given in (tmp_path / "other.pth", {"features.0.weight": torch.zeros(1)}, wrong):
        with pytest.raises(ZooError, match=r"does not hold torchvision's AlexNet.*lightning download alexnet"):
            network.load_weights(given)
    assert all(torch.equal(value, before[key]) for key, value in network.own_state().items())
