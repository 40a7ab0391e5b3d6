"""BigGAN's networks: sizes, wiring, and what passes move."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zoo.biggan.discriminator import Discriminator
from zoo.biggan.generator import Generator
from zoo.biggan.layers import Attention, Layers, initialise
from zoo.biggan.losses import orthogonal_penalties, orthogonal_penalty
from zoo.errors import ZooError

SMALL: dict[str, Any] = {
    "image_size": 32,
    "classes": 3,
    "channels": 2,
    "latent_channels": 12,
    "class_channels": 5,
    "attention": (16,),
}


def generator(**arguments: Any) -> Generator:
    torch.manual_seed(0)
    network = Generator(**{**SMALL, **arguments})
    for module in network.modules():
        if isinstance(module, Attention):
            nn.init.constant_(module.gamma, 0.5)
    return network.eval()


def inputs(network: Generator, count: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(count, network.latent_channels), torch.arange(count) % 3


def numel(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


# Sizes ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ({}, 70_433_988),
        ({"channels": 64}, 31_978_628),
        ({"image_size": 256, "latent_channels": 140, "attention": (128,)}, 82_097_604),
        ({"image_size": 512, "latent_channels": 128, "attention": (64,)}, 82_296_804),
        ({"channels": 128, "latent_channels": 128, "depth": 2}, 50_244_484),
    ],
)
def test_parameter_counts_of_generators(arguments: dict[str, Any], count: int) -> None:
    with torch.device("meta"):
        assert numel(Generator(**arguments)) == count


def test_the_port_of_biggan_deep_has_125_more_output_channels() -> None:
    with torch.device("meta"):
        ours = numel(Generator(channels=128, latent_channels=128, depth=2))
    assert ours + 125 * (128 * 9 + 1) == 50_388_609


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ({}, 87_982_370),
        ({"channels": 64}, 39_448_258),
        ({"image_size": 256, "attention": (128,)}, 99_191_330),
        ({"channels": 128, "depth": 2}, 34_590_210),
    ],
)
def test_parameter_counts_of_discriminators(arguments: dict[str, Any], count: int) -> None:
    with torch.device("meta"):
        assert numel(Discriminator(**arguments)) == count


@pytest.mark.parametrize("size", [32, 64, 128, 256])
@pytest.mark.parametrize("depth", [0, 2])
def test_sizes(size: int, depth: int) -> None:
    with torch.device("meta"):
        network = Generator(size, channels=8, depth=depth, attention=())
        drawn = network(torch.empty(2, network.latent_channels), torch.empty(2).long())
        assert drawn.shape == (2, 3, size, size)
        judge = Discriminator(size, channels=8, depth=depth, attention=())
        assert judge(drawn, torch.empty(2).long()).shape == (2, 1)


def test_latent_codes_are_rounded_down_to_their_chunks() -> None:
    network = Generator(64, 6, 3, 43, 11, (32,))
    assert (network.latent_channels, network.chunk) == (40, 8)
    assert generator(hierarchical=False).latent_channels == 12
    assert generator(depth=2, channels=8).latent_channels == 12


def test_no_code_for_the_class_means_as_long_as_the_latent_one_was_asked_to_be() -> None:
    assert Generator(64, 6, 3, 43, 0, ()).shared.weight.shape == (6, 43)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 48}, "no network for pictures of 48x48"),
        ({"image_size": 16, "multipliers": (4, 4, 4, 4)}, "3 stages draw pictures of 32x32, not 16x16"),
        ({"shared_embedding": False}, "need the shared embedding"),
        ({"latent_channels": 3}, "has not one number"),
        ({"channels": 1}, "Self-attention needs 8 channels or more, and here are 4"),
    ],
)
def test_impossible_options(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ZooError, match=message):
        generator(**arguments)


def test_any_power_of_two_with_multipliers() -> None:
    network = generator(image_size=16, multipliers=(4, 4, 4))
    assert network(*inputs(network)).shape == (3, 3, 16, 16)
    judge = Discriminator(16, 3, 2, (), (2, 4, 4))
    assert judge(torch.zeros(2, 3, 16, 16), torch.tensor([0, 2])).shape == (2, 1)


# Drawing -------------------------------------------------------------------------------------------------------------------------

KINDS: list[dict[str, Any]] = [
    {},
    {"depth": 2, "channels": 4},
    {"hierarchical": False},
    {"hierarchical": False, "shared_embedding": False},
    {"layers": Layers(spectral_norm=False)},
]


@pytest.mark.parametrize("arguments", KINDS)
def test_drawing_moves_nothing_and_does_not_look_at_the_rest_of_the_batch(arguments: dict[str, Any]) -> None:
    network = generator(**arguments).double()
    latent, label = inputs(network)
    latent = latent.double()
    before = copy.deepcopy(network.state_dict())
    picture = network(latent, label)
    assert picture.abs().max() <= 1
    assert torch.equal(network(latent, label), picture)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    alone = torch.cat([network(latent[i : i + 1], label[i : i + 1]) for i in range(len(latent))])
    torch.testing.assert_close(alone, picture, rtol=0, atol=1e-10)


@pytest.mark.parametrize("arguments", KINDS)
def test_a_training_pass_moves_every_vector_and_statistic(arguments: dict[str, Any]) -> None:
    network = generator(**arguments)
    before = copy.deepcopy(network.state_dict())
    network.train()(*inputs(network))
    moved = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == {name for name, _ in network.named_buffers()}


@pytest.mark.parametrize("arguments", KINDS)
def test_classes_differ(arguments: dict[str, Any]) -> None:
    network = generator(**arguments)
    latent, label = inputs(network)
    assert not torch.allclose(network(latent, label), network(latent, (label + 1) % 3))


@pytest.mark.parametrize("chunk", range(4))
def test_a_chunk_of_the_latent_code_is_told_to_its_stage_alone(chunk: int) -> None:
    network = generator()
    latent, label = inputs(network)
    other = latent.clone()
    other[:, 3 * chunk : 3 * chunk + 3] += 1
    seen: list[list[Tensor]] = [[], [], [], []]
    for place, module in enumerate(_stages(network)):
        module.register_forward_hook(lambda _, __, out, place=place: seen[place].append(out))
    network(latent, label)
    network(other, label)
    same = [torch.equal(*results) for results in seen]
    assert same == [place < chunk for place in range(4)]


def _stages(network: Generator) -> list[nn.Module]:
    return [network.linear, *(next(iter(stage.children())) for stage in network.blocks)]


def test_attention_begins_as_nothing() -> None:
    attention, x = Attention(8, Layers()), torch.randn(2, 8, 4, 4)
    assert torch.equal(attention(x), x)


def test_attention_takes_up_what_fits() -> None:
    """Against its definition, position by position."""
    torch.manual_seed(0)
    attention, x = Attention(8, Layers(spectral_norm=False)).double(), torch.randn(1, 8, 4, 4).double()
    nn.init.constant_(attention.gamma, 2)
    theta = attention.theta(x)
    phi, g = (nn.functional.max_pool2d(layer(x), 2).flatten(2) for layer in (attention.phi, attention.g))
    taken = torch.empty(1, 4, 4, 4).double()
    for row in range(4):
        for column in range(4):
            fit = torch.einsum("bc,bcn->bn", theta[:, :, row, column], phi).softmax(1)
            taken[:, :, row, column] = torch.einsum("bn,bcn->bc", fit, g)
    torch.testing.assert_close(attention(x), x + 2 * attention.o(taken))


@pytest.mark.parametrize("depth", [0, 2])
def test_the_discriminator_projects_on_the_class(depth: int) -> None:
    torch.manual_seed(0)
    judge = Discriminator(32, 3, 4, (16,), depth=depth).eval()
    image = torch.rand(2, 3, 32, 32) * 2 - 1
    logits = [judge(image, torch.full((2,), label)) for label in range(3)]
    assert not torch.allclose(logits[0], logits[1])
    with torch.no_grad():
        judge.embed.parametrizations.weight.original[1] = judge.embed.parametrizations.weight.original[0]
    assert torch.allclose(judge(image, torch.tensor([0, 0])), judge(image, torch.tensor([1, 1])))


# Weights -------------------------------------------------------------------------------------------------------------------------


def test_initial_weights() -> None:
    network = generator()
    initialise(network, "orthogonal")
    rows = network.blocks[0][0].conv1.parametrizations.weight.original.flatten(1)
    torch.testing.assert_close(rows @ rows.t(), torch.eye(len(rows)))
    initialise(network, "normal")
    assert 0.015 < network.shared.weight.std() < 0.025
    initialise(network, "xavier")
    bound = (6 / (3 + 5)) ** 0.5
    assert network.shared.weight.abs().max() <= bound


@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (5, 3, 2, 2)])
def test_the_orthogonal_penalty_is_the_same_in_both_of_its_forms(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape).double().requires_grad_()
    rows = weight.flatten(1)
    product = rows @ rows.t()
    torch.testing.assert_close(orthogonal_penalty(weight), (product - product.diag().diag()).square().sum() / 2)
    unit = (product - torch.eye(len(rows))).square().sum() / 2
    torch.testing.assert_close(orthogonal_penalty(weight, unit_rows=True), unit)
    (gradient,) = torch.autograd.grad(orthogonal_penalty(weight), weight)
    torch.testing.assert_close(gradient.flatten(1), 2 * (product - product.diag().diag()) @ rows)


def test_penalties_leave_out_biases_and_what_they_are_told_to() -> None:
    network = generator()
    shared = list(network.shared.parameters())
    wanted = sum(orthogonal_penalty(p) for p in network.parameters() if p.ndim >= 2 and p is not shared[0])
    torch.testing.assert_close(orthogonal_penalties(network.parameters(), shared), wanted)
