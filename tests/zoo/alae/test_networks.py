"""ALAE's networks: sizes to the digit, shapes at every level, and what a level leaves alone."""

import math

import pytest
import torch
from torch import Tensor, nn

from zoo.alae import StyleALAE
from zoo.alae.layers import DownConv, Equalised, UpConv, blur, instance_norm, pixel_norm, widened
from zoo.alae.mlp import MLPALAE
from zoo.alae.networks import EncoderBlock, StyleEncoder, StyleGenerator
from zoo.weights.alae import PUBLISHED

# Trainable parameters of the official configurations: E, D, G, F.
COUNTS = {
    "ffhq": (26_974_352, 1_050_624, 24_118_379, 2_101_248),
    "celeba": (6_625_600, 263_168, 5_944_402, 526_336),
    "celeba-hq256": (26_789_952, 1_050_624, 23_984_981, 2_101_248),
    "bedroom": (21_145_888, 1_050_624, 18_305_717, 2_101_248),
    "mnist": (3_017_920, 4_224, 2_422_980, 4_224),
}
STATE_KEYS = {"ffhq": 239, "celeba": 167, "celeba-hq256": 191, "bedroom": 191, "mnist": 111}
PARTS = ("encoder", "critic", "generator", "mapping")


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def add_nothing(x: Tensor, weight: Tensor, number: int) -> Tensor:
    return x


@pytest.mark.parametrize("name", COUNTS)
def test_the_published_networks_have_the_official_sizes(name: str) -> None:
    with torch.device("meta"):
        model = StyleALAE(**PUBLISHED[name].settings(), ema_half_life=0)
    assert tuple(count(model.get_submodule(part)) for part in PARTS) == COUNTS[name]
    blurs = 2 * PUBLISHED[name].levels  # buffers of the official code
    assert len(model.state_dict()) + blurs == STATE_KEYS[name]


def test_the_perceptrons_have_the_official_sizes() -> None:
    with torch.device("meta"):
        model = MLPALAE(ema_half_life=0)
    assert [count(model.get_submodule(part)) for part in PARTS] == [1_904_690, 7_650, 1_905_424, 15_300]


def test_every_level_has_its_size() -> None:
    encoder, generator = StyleEncoder(2, 6, 4, 5), StyleGenerator(2, 6, 4, 5)
    for level in range(4):
        side = 4 * 2**level
        image = torch.randn(3, 3, side, side)
        for blend in (1.0, 0.25):
            assert encoder(image, level, blend).shape == (3, 5)
            assert generator(torch.randn(3, 8, 5), level, blend, add_nothing).shape == (3, 3, side, side)


@pytest.mark.parametrize(("level", "blend"), [(0, 1.0), (1, 1.0), (2, 0.5), (3, 1.0)])
def test_a_level_touches_its_own_layers_alone(level: int, blend: float) -> None:
    encoder = StyleEncoder(2, 6, 4, 5)
    side = 4 * 2**level
    encoder(torch.randn(2, 3, side, side), level, blend).sum().backward()
    first = 3 - level
    for number, layer in enumerate(encoder.from_rgb):
        used = number == first or (blend < 1 and number == first + 1)
        assert all((p.grad is not None) == used for p in layer.parameters()), number
    for number, block in enumerate(encoder.blocks):
        assert all((p.grad is not None) == (number >= first) for p in block.parameters()), number


@pytest.mark.parametrize("part", ["encoder", "generator"])
def test_a_blend_of_one_is_the_level_itself_and_of_zero_the_one_below(part: str) -> None:
    if part == "encoder":
        encoder = StyleEncoder(2, 6, 3, 5).double()
        image = torch.randn(2, 3, 16, 16, dtype=torch.float64)
        small = torch.nn.functional.avg_pool2d(image, 2)
        torch.testing.assert_close(encoder(image, 2, 0.0), encoder(small, 1))
        torch.testing.assert_close(encoder(image, 2, 1 - 1e-12), encoder(image, 2))
    else:
        generator = StyleGenerator(2, 6, 3, 5).double()
        styles = torch.randn(2, 6, 5, dtype=torch.float64)
        small = generator(styles, 1, 1.0, add_nothing)
        large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
        torch.testing.assert_close(generator(styles, 2, 0.0, add_nothing), large)


def test_initial_weights_and_steps_follow_the_layer() -> None:
    torch.manual_seed(0)
    model = StyleALAE(8, 16, 4, 16, 2, ema_half_life=0)
    layers = [layer for layer in model.modules() if isinstance(layer, Equalised)]
    for layer in layers:
        assert math.isclose(
            float(layer.weight.detach().std()), layer.deviation, rel_tol=5 / math.sqrt(layer.weight.numel())
        )
        assert layer.bias is None or not layer.bias.any()
    mapping = [layer for layer in model.mapping.modules() if isinstance(layer, Equalised)]
    for layer in mapping:  # a tenth of the step, and initial weights as without
        assert math.isclose(layer.deviation, math.sqrt(2 / 16))
        assert math.isclose(layer.weight_rate, 0.1 * layer.deviation)
        assert layer.bias_rate == 0.1


def test_small_functions() -> None:
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    normed = instance_norm(x, 0.0)
    torch.testing.assert_close(normed.mean((2, 3)), torch.zeros(2, 3, dtype=torch.float64))
    torch.testing.assert_close(normed.var((2, 3), unbiased=False), torch.ones(2, 3, dtype=torch.float64))
    torch.testing.assert_close(
        pixel_norm(x).square().mean(1), torch.ones(2, 6, 6, dtype=torch.float64), rtol=1e-4, atol=1e-4
    )
    point = torch.zeros(1, 2, 5, 5)
    point[:, :, 2, 2] = 16
    seen = blur(point)[0, 1, 1:4, 1:4]
    assert torch.equal(seen, torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]))
    assert widened(torch.ones(1, 1, 3, 3)).sum() == 36  # each of 9 weights in 4 places


def test_convolutions_change_the_size_in_one_step() -> None:
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    down, up = DownConv(3, 4).double(), UpConv(3, 4, fused=False).double()
    two_steps = nn.functional.avg_pool2d(nn.functional.conv2d(x, down.weight, padding=1), 2)
    torch.testing.assert_close(down(x), two_steps)
    large = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(up(x), nn.functional.conv2d(large, up.weight, padding=1))


def test_constant_pictures_break_the_official_encoder_and_not_a_guarded_one() -> None:
    black = torch.full((2, 3, 8, 8), -1.0)
    for least, finite in ((0.0, False), (1e-8, True)):
        torch.manual_seed(1)
        block = EncoderBlock(3, 4, 5, least)
        for bias in (block.bias_1, block.bias_2):
            nn.init.constant_(bias, 0.125)  # whose mean is exact
        block.conv_1.weight.data.zero_()
        image = black.clone().requires_grad_(True)
        (_, first, _) = block(image)
        first.sum().backward()
        assert bool(torch.isfinite(block.bias_1.grad).all()) is finite  # type: ignore[arg-type]


def test_the_guard_changes_nothing_where_features_vary() -> None:
    plain, guarded = StyleEncoder(2, 6, 3, 5), StyleEncoder(2, 6, 3, 5, least_variance=1e-12)
    guarded.load_state_dict(plain.state_dict())
    image = torch.randn(4, 3, 16, 16)
    assert torch.equal(plain(image, 2), guarded(image, 2))
