"""Spectral norm that looks at the weight in every pass."""

import copy

import pytest
import torch
from torch import Tensor, nn

from zoo.blocks.live_spectral_norm import LiveSpectralNorm, live_spectral_norm, power_step


def layer(count: int = 1, iterations: int = 1) -> nn.Conv2d:
    torch.manual_seed(0)
    return live_spectral_norm(nn.Conv2d(3, 5, 3), 1e-6, count, iterations).double()


def norm_of(network: nn.Module) -> LiveSpectralNorm:
    (norm,) = (part for part in network.modules() if isinstance(part, LiveSpectralNorm))
    return norm


def test_making_it_takes_no_step() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, 3)
    u = torch.randn(1, 5)
    torch.manual_seed(0)
    made = live_spectral_norm(nn.Conv2d(3, 5, 3))
    assert torch.equal(norm_of(made).u, u)
    assert torch.equal(norm_of(made).sigma, torch.ones(1))
    assert torch.equal(made.parametrizations.weight.original, conv.weight)


def test_the_first_training_pass_is_the_one_of_eval_mode_and_the_second_is_not() -> None:
    conv, x = layer(), torch.randn(2, 3, 4, 4).double()
    before = copy.deepcopy(conv.state_dict())
    still = conv.eval()(x)
    assert all(torch.equal(value, before[key]) for key, value in conv.state_dict().items())
    assert torch.equal(conv(x), still)
    assert torch.equal(conv.train()(x), still)
    assert not torch.equal(norm_of(conv).u, before["parametrizations.weight.0.u"])
    assert not torch.equal(conv(x), still)


def test_it_comes_to_the_largest_singular_values() -> None:
    conv = layer(count=3, iterations=4)
    for _ in range(400):
        weight = conv.weight
    true = torch.linalg.svdvals(conv.parametrizations.weight.original.flatten(1))
    torch.testing.assert_close(norm_of(conv).sigma, true[:3], rtol=1e-6, atol=0)
    torch.testing.assert_close(torch.linalg.svdvals(weight.flatten(1))[0], true.new_tensor(1.0))


def test_several_iterations_of_training_are_several_steps() -> None:
    once, thrice = layer(), layer(iterations=3)
    for _ in range(3):
        weight = once.weight
    assert torch.equal(thrice.weight, weight)
    assert torch.equal(norm_of(thrice).u, norm_of(once).u)


def test_the_gradient_goes_through_sigma_and_around_the_vectors() -> None:
    conv = layer()
    original = conv.parametrizations.weight.original
    direction = torch.randn_like(original)
    u, v = power_step(original.detach().flatten(1), norm_of(conv).u, 1e-6)

    def loss(weight: Tensor) -> Tensor:
        return (weight / torch.einsum("kn,nm,km->", u, weight.flatten(1), v) * direction).sum()

    (wanted,) = torch.autograd.grad(loss(original), original)
    (ours,) = torch.autograd.grad((conv.weight * direction).sum(), original)
    torch.testing.assert_close(ours, wanted)


def test_two_passes_before_one_backward() -> None:
    conv, x = layer(), torch.randn(2, 3, 4, 4).double()
    (conv(x).sum() + conv(x).square().sum()).backward()
    assert conv.parametrizations.weight.original.grad.isfinite().all()


@pytest.mark.parametrize("count", [1, 3])
def test_vectors_stand_at_right_angles(count: int) -> None:
    torch.manual_seed(0)
    u, v = power_step(torch.randn(4, 6).double(), torch.randn(count, 4).double(), 1e-12)
    torch.testing.assert_close(u @ u.t(), torch.eye(count).double())
    torch.testing.assert_close(v @ v.t(), torch.eye(count).double())


def test_bfloat16_leaves_the_vectors_precise() -> None:
    conv = live_spectral_norm(nn.Conv2d(3, 5, 3))
    twin = copy.deepcopy(conv)
    with torch.autocast("cpu", torch.bfloat16):
        weight = conv.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, twin.weight)
