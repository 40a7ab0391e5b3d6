"""UNIT's networks and losses: the acceptance list's sizes, and what the golden numbers do not reach."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zoo.blocks.layer_norm import LayerNorm
from zoo.errors import ZooError
from zoo.experts.vgg import VGGFeatures
from zoo.unit.digit_networks import CoupledVAE, ReadingDiscriminator, coordinates
from zoo.unit.discriminators import (
    BlurredDiscriminators,
    MultiScaleDiscriminator,
    PlainDiscriminators,
    PooledDiscriminators,
    SharedDiscriminators,
    blur,
    halve,
)
from zoo.unit.generators import CoupledGenerators, munit_style_generators, paper_generators
from zoo.unit.losses import (
    adversarial_loss,
    bce_loss,
    caffe_picture,
    class_loss,
    discriminator_loss,
    feature_loss,
    kl_loss,
    lsgan_loss,
    perceptual_loss,
    posterior_kl,
    squared_error,
)


def numel(*networks: nn.Module) -> int:
    return sum(p.numel() for network in networks for p in network.parameters())


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# 1, 2, 3: sizes ------------------------------------------------------------------------------------------------------------------


def test_parameter_counts_of_the_generators() -> None:
    with torch.device("meta"):
        later = munit_style_generators()
        assert numel(later.encoders["source"], later.decoders["source"]) == 11_140_483
        assert (numel(later.encoders["target"]), numel(later.decoders["target"])) == (5_385_856, 5_754_627)
        assert numel(later.shared_encoder, later.shared_decoder) == 0
        assert numel(munit_style_generators(shared_encoder_blocks=1, shared_decoder_blocks=1)) == 19_920_646
        for front_norm in ("none", "instance"):
            paper = paper_generators(front_norm=front_norm)  # type: ignore[arg-type]
            assert numel(paper) == 18_017_286
            assert numel(paper.encoders["source"]) == 3_918_976
            assert numel(paper.decoders["target"]) == 3_909_507
            assert numel(paper.shared_encoder) == numel(paper.shared_decoder) == 1_180_160


def test_parameter_counts_of_the_discriminators() -> None:
    with torch.device("meta"):
        assert numel(MultiScaleDiscriminator()) == 8_271_171
        assert numel(PooledDiscriminators()) == 16_542_342
        assert numel(PlainDiscriminators(layers=5)) == 12_543_234
        assert numel(PlainDiscriminators(layers=6)) == 50_298_114
        assert numel(SharedDiscriminators()) == 25_240_065
        assert numel(BlurredDiscriminators()) == 9_308_934


def test_parameter_counts_of_the_digits_networks() -> None:
    with torch.device("meta"):
        assert numel(CoupledVAE()) == 22_606_468
        assert numel(CoupledVAE(coordinates=False)) == 22_596_868
        assert numel(CoupledVAE(1, 1, coordinates=False)) == 22_591_874
        assert numel(CoupledVAE(channels=64)) == 10_053_380
        assert numel(ReadingDiscriminator()) == 4_332_812
        assert numel(ReadingDiscriminator(1, 1)) == 4_329_612


@pytest.mark.parametrize("make", [paper_generators, munit_style_generators])
def test_codes_are_a_quarter_of_the_size(make: Any) -> None:
    with torch.device("meta"):
        generators, picture = make(), torch.empty(1, 3, 256, 256)
        mean = generators.encode(picture, "source")
        assert mean.shape == (1, 256, 64, 64)
        assert generators.decode(mean, "target").shape == picture.shape
    generators = make(1, 2, 2, 1, 1, 1, 1, 1)
    assert generators.decode(generators.encode(noise(1, 1, 10, 14), "source"), "target").shape == (1, 2, 10, 14)


# The generators ------------------------------------------------------------------------------------------------------------------


SMALL: dict[str, Any] = {"channels": 2, "encoder_blocks": 2, "decoder_blocks": 2}


@pytest.mark.parametrize("make", [paper_generators, munit_style_generators])
def test_both_domains_at_once_are_each_domain_alone(make: Any) -> None:
    torch.manual_seed(0)
    generators = make(**SMALL, shared_encoder_blocks=1, shared_decoder_blocks=1).double()
    source, target = noise(2, 3, 16, 16).double(), noise(2, 3, 16, 16, seed=1).double()
    codes = generators.encode_both(source, target)
    torch.testing.assert_close(codes[0], generators.encode(source, "source"))
    torch.testing.assert_close(codes[1], generators.encode(target, "target"))
    made = generators.decode_both(*codes)
    torch.testing.assert_close(made.source, generators.decode(codes[0], "source"))
    torch.testing.assert_close(made.to_source, generators.decode(codes[1], "source"))
    torch.testing.assert_close(made.to_target, generators.decode(codes[0], "target"))
    torch.testing.assert_close(made.target, generators.decode(codes[1], "target"))
    to_source, to_target = generators.decode_crossed(*codes)
    torch.testing.assert_close(to_source, made.to_source)
    torch.testing.assert_close(to_target, made.to_target)


def test_shared_blocks_are_of_both_domains_and_the_others_are_not() -> None:
    torch.manual_seed(0)
    generators: CoupledGenerators = paper_generators(**SMALL)
    picture = noise(1, 3, 16, 16)

    def codes() -> tuple[Tensor, Tensor]:
        return generators.encode(picture, "source"), generators.encode(picture, "target")

    before = codes()
    with torch.no_grad():
        next(generators.encoders["source"].parameters()).add_(1)
    own = codes()
    assert not torch.equal(own[0], before[0])
    assert torch.equal(own[1], before[1])
    with torch.no_grad():
        next(generators.shared_encoder.parameters()).add_(1)
    assert not any(torch.equal(*pair) for pair in zip(codes(), own, strict=True))


@pytest.mark.parametrize("shared", [-1, 3])
def test_more_shared_blocks_than_blocks_are_refused(shared: int) -> None:
    for make in (paper_generators, munit_style_generators):
        with pytest.raises(ZooError, match=f"2 residual blocks and {shared} of them"):
            make(**SMALL, shared_encoder_blocks=shared)
        with pytest.raises(ZooError, match=f"--model.shared_blocks {0 if shared < 0 else 2}"):
            make(**SMALL, shared_decoder_blocks=shared)


def test_pictures_that_do_not_fit_are_refused() -> None:
    generators = paper_generators(**SMALL)
    with pytest.raises(ZooError, match=r"18x16; these generators need multiples of 4\..*(20x16|16x16)"):
        generators.encode(noise(1, 3, 16, 18), "source")
    with pytest.raises(ZooError, match="1 of 16x16 and 1 of 20x16"):
        generators.encode_both(noise(1, 3, 16, 16), noise(1, 3, 16, 20))
    with pytest.raises(ZooError, match="1 of 16x16 and 2 of 16x16"):
        generators.encode_both(noise(1, 3, 16, 16), noise(2, 3, 16, 16))


def test_front_norms_and_dropout_are_where_they_belong() -> None:
    plain, normed = paper_generators(**SMALL), paper_generators(**SMALL, front_norm="instance")
    count = [sum(isinstance(m, nn.InstanceNorm2d) for m in g.modules()) for g in (plain, normed)]
    assert count[1] - count[0] == 2 * 2 * 2  # two sizes, encoders and decoders, two domains
    dropping = paper_generators(**SMALL, dropout=0.5)
    rates = {m.p for m in dropping.modules() if isinstance(m, nn.Dropout)}
    assert rates == {0.5}
    picture = noise(1, 3, 16, 16)
    assert not torch.equal(dropping.encode(picture, "source"), dropping.encode(picture, "source"))
    dropping.eval()
    assert torch.equal(dropping.encode(picture, "source"), dropping.encode(picture, "source"))


@pytest.mark.parametrize("activation", ["relu", "lrelu", "prelu", "selu", "tanh"])
@pytest.mark.parametrize("padding", ["reflect", "replicate", "zero"])
def test_activations_and_paddings_of_the_later_generators(activation: Any, padding: Any) -> None:
    torch.manual_seed(0)
    generators = munit_style_generators(**SMALL, activation=activation, padding=padding)
    picture = noise(1, 3, 16, 16).requires_grad_()
    decoded = generators.decode(generators.encode(picture, "source"), "target")
    decoded.mean().backward()
    assert decoded.shape == picture.shape
    assert all(p.grad is not None for p in generators.encoders["source"].parameters())


def test_layer_norm_divides_by_the_unbiased_deviation_plus_a_little() -> None:
    norm, x = LayerNorm(2), torch.tensor([[[[1.0, 3.0]], [[5.0, 7.0]]]])
    assert ((norm.gamma >= 0) & (norm.gamma < 1)).all()
    nn.init.ones_(norm.gamma)
    deviation = math.sqrt((9 + 1 + 1 + 9) / 3) + 1e-5
    torch.testing.assert_close(norm(x), (x - 4) / deviation)
    with torch.no_grad():
        norm.beta[1] = 2
    assert norm(x)[0, 1, 0, 0].item() == pytest.approx(1 / deviation + 2)


# The discriminators --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "network",
    [
        PlainDiscriminators(3, 1, 2, 3),
        SharedDiscriminators(3, 1, 2, 3, 2),
        BlurredDiscriminators(3, 1, 2, 2),
        PooledDiscriminators(3, 1, 2, 2),
        PooledDiscriminators(3, 1, 2, 3, 2, "instance", "relu", "zero"),
        PooledDiscriminators(3, 1, 2, 3, 2, "layer", "prelu", "replicate"),
    ],
    ids=lambda network: type(network).__name__,
)
def test_real_and_fake_may_share_a_pass(network: Any) -> None:
    network = network.double()
    real = noise(2, 3, 32, 32).double(), noise(2, 1, 32, 32, seed=1).double()
    fake = noise(2, 3, 32, 32, seed=2).double(), noise(2, 1, 32, 32, seed=3).double()
    together = network(*(torch.cat(pair) for pair in zip(real, fake, strict=True)))
    for both, one, other in zip(together, network(*real), network(*fake), strict=True):
        for scale, first, second in zip(both, one, other, strict=True):
            torch.testing.assert_close(scale, torch.cat([first, second]))
            assert scale.shape[1] == 1


def test_the_blur_keeps_constants_and_a_wide_picture_keeps_its_right_part() -> None:
    constant = torch.full((1, 2, 6, 10), 0.3)
    torch.testing.assert_close(blur(constant), constant)
    wide = noise(1, 3, 6, 10)
    assert halve(wide).shape == (1, 3, 3, 5)
    cut = halve(wide, crop_to_height=True)
    assert cut.shape == (1, 3, 3, 3)
    assert torch.equal(cut, halve(wide)[..., :3])
    tall = noise(1, 3, 10, 6)
    assert torch.equal(halve(tall), halve(tall, crop_to_height=True))


def test_only_own_layers_of_shared_discriminators_tell_the_domains_apart() -> None:
    network = SharedDiscriminators(3, 3, 2, 3, 2)
    network.target.load_state_dict(network.source.state_dict())
    image = noise(1, 3, 16, 16)
    (of_source,), (of_target,) = network(image, image)
    torch.testing.assert_close(of_source, of_target)
    assert len(network.source) == 1
    assert len(network.shared) == 3  # two layers and the last one


# Digits --------------------------------------------------------------------------------------------------------------------------


def test_coordinates_go_from_minus_one_to_just_below_one() -> None:
    both = coordinates(torch.zeros(2, 1, 32, 32))
    assert both.shape == (2, 2, 32, 32)
    assert both.min() == -1
    assert both.max() == 0.9375
    assert torch.equal(both[0, 0, :, 5], both[0, 1, 7])  # rows, then columns
    assert torch.equal(both[0, 0, 3], both[0, 0, 3, :1].expand(32))


def test_coordinates_reach_the_generator_alone() -> None:
    torch.manual_seed(0)
    told, untold = CoupledVAE(3, 1, 2), CoupledVAE(3, 1, 2, coordinates=False)
    assert told.encoders["source"].conv.in_channels == 5
    assert told.encoders["target"].conv.in_channels == 3
    assert untold.encoders["source"].conv.in_channels == 3
    mean, deviation = told.encode(noise(2, 3, 32, 32), "source")
    assert mean.shape == deviation.shape == (2, 16, 1, 1)
    assert told.decode(mean, "target").shape == (2, 1, 32, 32)
    assert ReadingDiscriminator(3, 1, 2).lowest["source"][0].in_channels == 3


def test_initial_weights_of_the_digits_networks() -> None:
    torch.manual_seed(0)
    vae, judge = CoupledVAE(1, 1, 16), ReadingDiscriminator(1, 1, 16)
    for name, p in vae.named_parameters():
        if p.ndim == 4:
            assert abs(p.std().item() / 0.02 - 1) < 5 / math.sqrt(2 * p.numel()), name
    small = [vae.mean.bias, vae.deviation.bias, *(m.shift for m in vae.modules() if hasattr(m, "shift"))]
    together = torch.cat([bias.detach() for bias in small])
    assert abs(together.std().item() / 0.002 - 1) < 5 / math.sqrt(2 * len(together))
    default = vae.shared_encoder[1].conv.bias
    assert default.abs().max() > 0.01  # PyTorch's own, uniform
    conv = judge.layers[1][0]
    fans = 25 * (conv.in_channels + conv.out_channels)
    assert conv.weight.abs().max().item() == pytest.approx(math.sqrt(2) * math.sqrt(6 / fans), rel=1e-2)
    assert all(bool((p == torch.tensor(0.1)).all()) for name, p in judge.named_parameters() if name.endswith("bias"))


def test_other_sizes_than_the_kernels_fit_are_refused() -> None:
    for look in (
        lambda x: CoupledVAE(1, 1, 2).encode(x, "source"),
        lambda x: ReadingDiscriminator(1, 1, 2).look(x, "source"),
    ):
        with pytest.raises(ZooError, match=r"28x28.*32x32: --data.size 32"):
            look(noise(1, 1, 28, 28))


# 10, 13: losses --------------------------------------------------------------------------------------------------------------------


def test_undecided_discriminators() -> None:
    scales = [torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 1, 1)]
    assert discriminator_loss("bce", scales).item() == pytest.approx(3 * 2 * math.log(2))
    assert discriminator_loss("lsgan", [scale + 0.5 for scale in scales]).item() == pytest.approx(3 * 0.5)
    assert adversarial_loss("bce", scales, real=True).item() == pytest.approx(3 * math.log(2))


@pytest.mark.parametrize("real", [True, False])
def test_adversarial_losses(real: bool) -> None:
    logits = noise(4, 1, 3, 3).double() * 40
    expected = nn.functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))
    torch.testing.assert_close(bce_loss(logits, real), expected)
    torch.testing.assert_close(lsgan_loss(logits, real), (logits - int(real)).square().mean())


def test_the_first_half_of_a_batch_is_real() -> None:
    logits = torch.cat([torch.full((2, 1, 2, 2), 1.0), torch.zeros(2, 1, 2, 2)])
    assert discriminator_loss("lsgan", [logits]) == 0
    assert discriminator_loss("lsgan", [logits.flip(0)]) == 2


def test_divergences() -> None:
    code = noise(3, 4, 5, 5)
    assert kl_loss(code).item() == pytest.approx(code.square().mean().item())
    mean, deviation = noise(6, 4, 1, 1), noise(6, 4, 1, 1, seed=1).abs() + 0.1
    true = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, deviation), torch.distributions.Normal(0.0, 1.0)
    )
    of_pictures = true.flatten(1).sum(1).mean()
    assert posterior_kl(mean, deviation).item() == pytest.approx(4 * of_pictures.item() + 2 * 4, rel=1e-5)


def test_sums_over_a_picture_are_averaged_over_pictures() -> None:
    zero, one = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.5)
    assert squared_error(zero, one) == 0.25 * 48
    assert feature_loss("l2sq", zero, one) == 0.25 * 48
    assert feature_loss("l1", zero, one) == 0.5 * 48
    logits = noise(4, 10)
    assert class_loss(logits, 1) == nn.functional.cross_entropy(logits, torch.tensor([1, 1, 1, 1]))


def test_losses_are_taken_in_full_precision() -> None:
    x, y = noise(2, 3, 4, 4).bfloat16(), noise(2, 3, 4, 4, seed=1).bfloat16()
    terms = [bce_loss(x, True), lsgan_loss(x, False), kl_loss(x), squared_error(x, y), perceptual_loss(x, y)]
    terms += [posterior_kl(x, y.abs() + 1), feature_loss("l1", x, y), class_loss(x[:, :, 0, 0], 1)]
    assert {term.dtype for term in terms} == {torch.float32}


def test_caffe_sees_blue_first_in_0_to_255() -> None:
    red = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1)
    assert caffe_picture(red).flatten().tolist() == pytest.approx([-103.939, -116.779, 255 - 123.68], rel=1e-5)


def test_the_perceptual_features_have_stride_8_and_no_contrast() -> None:
    vgg = VGGFeatures(16, ["relu5_3"], base_channels=8, normalised_input=True, without_pools=["pool4"])
    features = vgg(caffe_picture(noise(1, 3, 64, 64)))["relu5_3"]
    assert features.shape == (1, 64, 8, 8)
    features = 1e4 * features  # beside which the norm's epsilon is nothing
    assert perceptual_loss(3 * features + 1, features).item() == pytest.approx(0, abs=1e-4)
    assert perceptual_loss(features.flip(3), features) > 0.1
