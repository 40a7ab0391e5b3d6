"""GP-UNIT's generator and discriminator: what the golden files don't say."""

import pytest
import torch
from torch import Tensor, nn

from zoo.blocks.spectral_norm import SpectralNorm
from zoo.errors import ZooError
from zoo.gpunit.content import ContentEncoder, feature_channels
from zoo.gpunit.discriminator import Discriminator
from zoo.gpunit.generator import Generator
from zoo.gpunit.sampler import StyleSampler

WIDTHS = (2, 12, 4, 6)  # of the generator, its style code, its style encoder, and its bottleneck


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def small(size: int = 64, content_channels: int = 2) -> tuple[ContentEncoder, Generator]:
    """An encoder and a generator in eval mode, whose skips let the encoder's features in."""
    torch.manual_seed(0)
    encoder = ContentEncoder(content_channels, size).eval()
    return encoder, Generator(feature_channels(content_channels, size), *WIDTHS).eval()


def test_the_defaults_are_the_official_networks() -> None:
    generator = Generator(feature_channels(64, 256))
    assert count(generator) == 39_926_358
    assert count(generator.style_encoder) == 3_910_592
    assert not list(generator.buffers())
    assert count(Discriminator()) == 20_851_777
    assert count(StyleSampler()) == 66_048


@pytest.mark.parametrize("content_channels", [2, 3])
@pytest.mark.parametrize("size", [64, 128, 256, 512])
def test_every_size_has_its_networks(size: int, content_channels: int) -> None:
    encoder, generator = small(size, content_channels)
    discriminator = Discriminator(size, 2, 8).eval()
    with torch.no_grad():
        image, masks = generator(encoder(normal(1, 3, size, size)), normal(1, 12))
        logits, _ = discriminator(image)
    assert image.shape == (1, 3, size, size)
    assert image.abs().max() <= 1
    assert [mask.shape for mask in masks] == [(1, 16, 16, 16), (1, 8, 32, 32)]
    assert all(mask.min() >= 0 and mask.max() < 1 for mask in masks)
    assert logits.shape == (1,)


def test_each_scale_gives_a_picture() -> None:
    encoder, generator = small()
    features, code = encoder(normal(1, 3, 64, 64)), normal(1, 12)
    for scale, side in enumerate((8, 16, 32, 64)):
        assert generator(features, code, scale=scale)[0].shape == (1, 3, side, side)
    torch.testing.assert_close(generator(features, code, scale=3)[0], generator(features, code)[0])


def test_codes_are_not_negative_whatever_the_size() -> None:
    _, generator = small()
    for side in (32, 40, 64):
        code = generator.encode_style(normal(2, 3, side, side))
        assert code.shape == (2, 12)
        assert code.min() >= 0


def test_one_picture_goes_with_many_codes_and_one_code_with_many_pictures() -> None:
    encoder, generator = small()
    features, codes = encoder(normal(3, 3, 64, 64)), normal(3, 12)
    for number in range(3):
        one = [feature[number : number + 1] for feature in features]
        expected, masks = generator([feature.expand(3, -1, -1, -1) for feature in one], codes)
        image, same_masks = generator(one, codes)
        torch.testing.assert_close(image, expected)
        for mask, same in zip(masks, same_masks, strict=True):
            torch.testing.assert_close(same, mask)
        expected, _ = generator(features, codes[number : number + 1].expand(3, -1))
        torch.testing.assert_close(generator(features, codes[number : number + 1])[0], expected)


def test_correspondence_goes_from_the_generator_alone_to_the_papers_blend() -> None:
    encoder, generator = small()
    features, code = encoder(normal(1, 3, 64, 64)), normal(1, 12)
    alone, none = generator(features, code, skip=False)
    assert none == []
    official, masks = generator(features, code)
    assert max(mask.max() for mask in masks) > 0
    zero, zero_masks = generator(features, code, correspondence=0.0)
    torch.testing.assert_close(zero, alone)
    assert not any(mask.any() for mask in zero_masks)
    torch.testing.assert_close(generator(features, code, correspondence=1.0)[0], official)
    half = generator(features, code, correspondence=0.5)[1]
    torch.testing.assert_close(half[0], masks[0] / 2)
    assert (official - alone).abs().max() > 1e-4


def test_only_the_used_features_matter() -> None:
    encoder, generator = small(256)
    features, code = encoder(normal(1, 3, 256, 256)), normal(1, 12)
    expected, _ = generator(features, code)
    for number in (1, 4, 5):
        features[number] = torch.full_like(features[number], torch.nan)
    assert torch.equal(generator(features, code)[0], expected)


def test_a_pass_without_judgement_stops_at_the_last_style() -> None:
    discriminator = Discriminator(64, 4, 8).eval()
    image, layers = normal(2, 3, 64, 64), [4, 2]
    _, styles = discriminator(image, layers)
    assert [style.shape for style in styles] == [(2, 8), (2, 8)]
    reached: list[int] = []
    for number, layer in enumerate(discriminator.model, start=1):
        layer.register_forward_hook(lambda *_, number=number: reached.append(number))
    for style, same in zip(styles, discriminator.describe(image, layers), strict=True):
        torch.testing.assert_close(same, style)
    assert reached == [1, 2, 3, 4]


def test_every_layer_of_the_discriminator_is_normalised() -> None:
    discriminator = Discriminator(64, 4, 8)
    normed = sum(isinstance(module, SpectralNorm) for module in discriminator.modules())
    assert normed == sum(isinstance(module, nn.Conv2d) for module in discriminator.modules())


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ZooError, match="not 96"):
        Discriminator(96)
    discriminator = Discriminator(64, 2, 4)
    with pytest.raises(ZooError, match=r"64x64 pixels, and the pictures have 32x16"):
        discriminator(torch.zeros(1, 3, 16, 32))
    for layers in ([], [0], [3, 9]):
        with pytest.raises(ZooError, match="layers 1 to 8"):
            discriminator.require_layers(layers)
    with pytest.raises(ZooError, match="4 features"):
        Generator([1, 8, 4])


def test_a_discriminator_without_spectral_norm_is_the_same_network_with_its_plain_weights() -> None:
    normalised, plain = Discriminator(64, 4, 8).eval(), Discriminator(64, 4, 8, norm="none").eval()
    assert any(isinstance(module, SpectralNorm) for module in normalised.modules())
    assert not any(isinstance(module, SpectralNorm) for module in plain.modules())
    assert count(plain) == count(normalised)
    for name, module in normalised.named_modules():
        if isinstance(module, nn.Conv2d):
            plain.get_submodule(name).load_state_dict(
                {"weight": module.weight, "bias": module.bias} if module.bias is not None else {"weight": module.weight}
            )
    image = normal(2, 3, 64, 64)
    for given, wanted in zip(plain(image, (2, 4)), normalised(image, (2, 4)), strict=True):
        torch.testing.assert_close(given, wanted)
