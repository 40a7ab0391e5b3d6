"""Spectral normalisation against PyTorch's older one, whose numbers official codes trained with."""

import copy

import pytest
import torch
from torch import Tensor, nn

from zoo.blocks.spectral_norm import from_official, has_spectral_norm, iterate, spectral_norm


@pytest.fixture
def pair() -> tuple[nn.Conv2d, nn.Conv2d]:
    """The older one, and ours with its entries."""
    plain = nn.Conv2d(3, 5, 3).double()
    older = torch.nn.utils.spectral_norm(copy.deepcopy(plain))
    ours = spectral_norm(plain)
    ours.load_state_dict(from_official(older.state_dict()))
    return older, ours


def rounds(layer: nn.Conv2d, image: Tensor) -> list[Tensor]:
    """Some training steps, then eval: outputs and gradients."""
    found = []
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(3):
        first, second = layer(image), layer(-image)  # two passes before one backward
        optimizer.zero_grad()
        (first.square() + second.abs()).mean().backward()
        optimizer.step()
        found += [first, second, *(p.grad for p in layer.parameters())]
    layer.eval()
    return [*found, layer(image), layer(image)]


def test_training_and_inference_are_the_older_ones(pair: tuple[nn.Conv2d, nn.Conv2d]) -> None:
    image = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    older, ours = (rounds(layer, image) for layer in pair)
    by_shape = sorted(zip(older, ours, strict=True), key=lambda both: both[0].shape)
    for expected, found in by_shape:
        if expected.shape != found.shape:
            continue  # weight and bias come in another order
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    theirs = from_official(pair[0].state_dict())
    for name, value in pair[1].state_dict().items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-12, atol=1e-14)


def test_pytorch_s_present_order_gives_other_numbers() -> None:
    plain = nn.Linear(6, 4).double()
    older = torch.nn.utils.spectral_norm(copy.deepcopy(plain))
    ours = spectral_norm(copy.deepcopy(plain))
    ours.load_state_dict(from_official(older.state_dict()))
    present = torch.nn.utils.parametrizations.spectral_norm(plain)
    state = ours.state_dict()
    present.load_state_dict(
        {name.replace("0.u", "0._u").replace("0.v", "0._v"): value for name, value in state.items()}
    )
    x = torch.randn(3, 6, dtype=torch.float64)
    assert not torch.allclose(present(x), ours(x))
    torch.testing.assert_close(older(x), older.eval()(x))  # eval keeps the vectors of the last training pass


def test_iterate_moves_the_vectors_as_a_pass_would() -> None:
    network = nn.Sequential(spectral_norm(nn.Linear(4, 4)), nn.ReLU(), nn.Linear(4, 2), spectral_norm(nn.Linear(2, 2)))
    other = copy.deepcopy(network)
    iterate(network)
    other(torch.randn(1, 4))
    before = network.state_dict()
    for name, value in other.state_dict().items():
        torch.testing.assert_close(before[name], value)
    assert not any(p.grad is not None for p in network.parameters())
    network.eval()
    kept = copy.deepcopy(network.state_dict())
    iterate(network)
    assert all(torch.equal(kept[name], value) for name, value in network.state_dict().items())


def test_only_normalised_layers_are_named_so() -> None:
    assert has_spectral_norm(spectral_norm(nn.Linear(2, 2)))
    assert not has_spectral_norm(nn.Linear(2, 2))
    assert not has_spectral_norm(nn.ReLU())
