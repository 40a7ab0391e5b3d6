"""HiDT's acceptance list, and what the golden numbers do not reach."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.driving import Counts, drive
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules import Landscapes, Scenes
from support.pictures import make_folder
from support.training import fit
from zoo.core.images import psnr
from zoo.core.loading import load_translator
from zoo.errors import ZooError
from zoo.hidt import HiDT
from zoo.hidt.discriminators import ProjectionDiscriminator, UnconditionalDiscriminator
from zoo.hidt.generator import AdaptiveConv, Decoder, Generator, mirrored_conv
from zoo.hidt.losses import IGNORED, StylePool, distribution_loss, mask_loss
from zoo.hidt.model import halved_rate, swap_halves
from zoo.hidt.pictures import rounded_shape, shorter_side_shape
from zoo.hidt.styles import NAMED_STYLES, between, named_style

SMALL: dict[str, Any] = {
    "generator_channels": 5,
    "encoder_blocks": 1,
    "decoder_blocks": 1,
    "mapping_channels": 6,
    "discriminator_channels": 3,
    "discriminator_levels": 2,
    "inference_size": 32,
    "style_pool": 6,
}


def small(**arguments: Any) -> HiDT:
    torch.manual_seed(0)
    return HiDT(**{**SMALL, **arguments})


def scenes(**arguments: Any) -> Scenes:
    return Scenes(**{"task": "daylight", "size": 32, "batch_size": 1, "validation_count": 2, **arguments})


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def batch(size: int = 32, count: int = 1, labels: bool = True) -> dict[str, Tensor]:
    made = {"source": noise(count, 3, size, size), "target": noise(count, 3, size, size, seed=1)}
    if labels:
        made |= {f"{key}_labels": (value[:, 0] * 1.5 + 1.5).long().clamp(0, 2) for key, value in list(made.items())}
    return made


def terms_of(model: HiDT, folder: Path, **options: Any) -> dict[str, float]:
    """The terms of one iteration."""
    terms: dict[str, float] = {}
    keep = model.log_terms

    def listen(new: dict[str, Tensor], *rest: str) -> None:
        terms.update({name: value.item() for name, value in new.items()})
        keep(new, *rest)

    model.log_terms = listen  # type: ignore[method-assign, assignment]
    fit(model, 1, folder, **{"data": scenes(), "precision": "32-true", **options})
    return terms


def numel(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


# 1, 2, 3: sizes ------------------------------------------------------------------------------------------------------------------


def test_parameter_counts() -> None:
    with torch.device("meta"):
        day, paintings = Generator(mask_channels=3), Generator(style_channels=12)
        parts = [numel(part) for part in (day.content_encoder, day.style_encoder, day.decoder, day.decoder.mapping)]
        assert numel(day) == 9_819_289
        assert parts == [3_497_184, 1_556_643, 4_765_462, 255_316]
        assert numel(paintings) == 9_809_935
        assert numel(UnconditionalDiscriminator()) == 13_494_209
        assert numel(ProjectionDiscriminator()) == 13_495_745
        assert numel(HiDT()) == 9_819_289 + 13_494_209 + 13_495_745


@pytest.mark.parametrize(("channels", "blocks"), [(48, 5), (8, 2), (5, 0)])
def test_the_length_of_the_styles_statistics(channels: int, blocks: int) -> None:
    with torch.device("meta"):
        decoder = Decoder(channels, blocks)
    assert sum(decoder.statistics) == decoder.mapping.layers[-1].out_features
    assert sum(decoder.statistics) == 2 * (2 * blocks * 4 * channels + 10)
    if channels == 48:
        assert sum(decoder.statistics) == 3860


def test_shapes_of_the_published_configuration() -> None:
    with torch.device("meta"):
        generator = Generator(mask_channels=3)
        content, style = generator.encode(torch.empty(1, 3, 256, 384))
        assert content.code.shape == (1, 192, 64, 96)
        assert [skip.shape for skip in content.skips] == [(1, 5, 128, 192), (1, 5, 256, 384)]
        assert style.shape == (1, 3)
        image, mask = generator.decoder(content, style)
        assert image.shape == (1, 3, 256, 384)
        assert mask is not None
        assert mask.shape == (1, 3, 256, 384)


def test_the_smallest_size_is_one_that_works() -> None:
    model = small()
    assert model.translate(noise(1, 3, 16, 20), latent=torch.zeros(1, 3)).shape == (1, 3, 16, 20)
    with pytest.raises(RuntimeError):
        model.generator.style_encoder(noise(1, 3, 12, 12))
    with pytest.raises(ZooError, match=r"skips take the first 5.*--model\.generator_channels 5"):
        HiDT(generator_channels=4)


# 4: statistics ---------------------------------------------------------------------------------------------------------------------


def test_adaptive_norm_takes_shifts_first_then_scales() -> None:
    layer = AdaptiveConv(mirrored_conv(1, 2, 3), activated=False)
    x = layer(noise(3, 1, 8, 8), torch.tensor([[1.0, -2.0, 3.0, 0.5]]))
    assert x.mean((2, 3))[0].tolist() == pytest.approx([1, -2], abs=1e-5)
    assert x.std((2, 3), correction=0)[0].tolist() == pytest.approx([3, 0.5], rel=1e-3)


def test_a_picture_is_the_same_alone_and_in_a_batch() -> None:
    model, pictures, styles = small().double(), noise(3, 3, 16, 24).double(), noise(3, 3, seed=4).double()
    together = model.translate(pictures, latent=styles)
    for i in range(3):
        torch.testing.assert_close(model.translate(pictures[i : i + 1], latent=styles[i : i + 1]), together[i : i + 1])
    one_picture = model.translate(pictures[:1], latent=styles)
    torch.testing.assert_close(one_picture[0], together[0])
    one_style = model.translate(pictures, latent=styles[:1])
    torch.testing.assert_close(one_style[0], together[0])
    assert one_picture.shape == one_style.shape == together.shape


def test_initial_scales_begin_around_zero() -> None:
    generator = Generator(8, 1, 2)
    statistics = generator.decoder.mapping(torch.zeros(1, 3))
    assert not statistics.any()
    for name, p in generator.named_parameters():
        if p.ndim > 1:
            assert abs(p.std().item() / (2 / p[0].numel()) ** 0.5 - 1) < 6 / (2 * p.numel()) ** 0.5, name
        elif not name.endswith(("gamma", "beta")):
            assert not p.any(), name


# 8: the pool of styles ---------------------------------------------------------------------------------------------------------------


def test_the_pool_never_keeps_more_than_its_size() -> None:
    pool = StylePool(5)
    for k in range(4):
        styles = noise(3, 2, seed=k).requires_grad_()
        rows = pool.with_new(styles)
        assert len(rows) == min(5, 3 * k) + 3
        (gradient,) = torch.autograd.grad(distribution_loss(rows), styles)
        assert gradient.abs().sum() > 0
        pool.push(styles)
        assert pool.rows is not None
        assert len(pool.rows) == min(5, 3 * (k + 1))
        assert torch.equal(pool.rows[-3:], styles.detach())
    other = StylePool(2)
    other.load_state_dict(pool.state_dict())
    assert torch.equal(other.rows, pool.rows[-2:])  # type: ignore[arg-type, index]
    other.load_state_dict(StylePool(3).state_dict())
    assert other.rows is None
    none = StylePool(0)
    none.push(noise(3, 2))
    assert len(none.with_new(noise(4, 2))) == 4


def test_the_distribution_loss_is_least_for_a_normal_distribution() -> None:
    styles = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0)).double()
    assert distribution_loss(styles) < 0.3
    assert distribution_loss(3 * styles) > 20
    assert distribution_loss(styles + 1) == pytest.approx(float(distribution_loss(styles)) + 3, abs=0.2)
    rows = torch.tensor([[0.0], [2.0]])
    assert distribution_loss(rows).item() == 1 + 1 + 1  # mean 1, variance 2, counted twice


# 9: turns ----------------------------------------------------------------------------------------------------------------------------


def test_each_player_moves_its_own_networks_alone(tmp_path: Path) -> None:
    model, turns = small(), []

    def values(network: nn.Module) -> list[Tensor]:
        return [value.clone() for value in network.state_dict().values()]

    def same(network: nn.Module, before: list[Tensor]) -> bool:
        return all(torch.equal(a, b) for a, b in zip(values(network), before, strict=True))

    def watched(update: Any, mine: nn.Module, other: nn.Module) -> Any:
        def watch(*arguments: Any) -> None:
            before, others_before = values(mine), values(other)
            for p in other.parameters():
                p.grad = None
            update(*arguments)
            assert all(p.grad is None for p in other.parameters())
            assert all(p.grad is not None for p in mine.parameters())
            assert not same(mine, before)
            assert same(other, others_before)
            turns.append(update.__name__)

        return watch

    generator, discriminators = model.generator, model.discriminators
    model.update_generator = watched(model.update_generator, generator, discriminators)  # type: ignore[method-assign]
    model.update_discriminators = watched(model.update_discriminators, discriminators, generator)  # type: ignore[method-assign]
    fit(model, 1, tmp_path, data=scenes(), precision="32-true")
    assert turns == ["update_discriminators", "update_generator"]


def test_styles_learn_nothing_from_the_discriminator_that_they_condition() -> None:
    style = noise(2, 3).requires_grad_()
    ProjectionDiscriminator(3, 2)(noise(2, 3, 16, 16), style).sum().backward()
    assert style.grad is None


def test_halves_are_swapped() -> None:
    assert swap_halves(torch.arange(6)).tolist() == [3, 4, 5, 0, 1, 2]


# 10: the learning rate ---------------------------------------------------------------------------------------------------------------


def test_learning_rates() -> None:
    assert [1e-4 * halved_rate(200_000, k) for k in (0, 199_999, 200_000, 400_000)] == [1e-4, 1e-4, 5e-5, 2.5e-5]
    assert halved_rate(0, 10**7) == 1


# The terms ---------------------------------------------------------------------------------------------------------------------------

WEIGHTS = {
    "adversarial": 2.0,
    "reconstruction": 3.0,
    "mask": 5.0,
    "content": 7.0,
    "style": 11.0,
    "style_random": 13.0,
    "distribution": 17.0,
}


def test_every_term_has_its_own_weight(tmp_path: Path) -> None:
    terms = terms_of(small(**{f"lambda_{name}": value for name, value in WEIGHTS.items()}), tmp_path)
    weight_of = {**WEIGHTS, "cycle": WEIGHTS["reconstruction"]}
    weight_of |= {f"{name}_random": weight_of[name] for name in ("adversarial", "reconstruction", "mask", "content")}
    assert terms["generator"] == pytest.approx(sum(weight_of[name] * terms[name] for name in weight_of), rel=1e-5)
    judged = {name: term for name, term in terms.items() if name.startswith(("unconditional", "projection"))}
    total = sum((2 if name.endswith("real") else 1) * term for name, term in judged.items())
    assert terms["discriminators"] == pytest.approx(total, rel=1e-5)
    assert len(judged) == 6


@pytest.mark.parametrize("which", ["unconditional", "projection"])
def test_one_discriminator_will_do(tmp_path: Path, which: Any) -> None:
    terms = terms_of(small(discriminators=which), tmp_path)
    assert {name for name in terms if name.endswith("_real")} == {f"{which}_real"}


def test_the_mask_loss_is_the_cross_entropy_of_pixels_that_count() -> None:
    logits, labels = noise(2, 3, 4, 4), batch(4, 2)["source_labels"]
    expected = F.cross_entropy(logits, labels)
    torch.testing.assert_close(mask_loss(logits.log_softmax(1), labels, "log_softmax"), expected)
    labels[0] = IGNORED
    expected = F.cross_entropy(logits, labels, ignore_index=IGNORED)
    torch.testing.assert_close(mask_loss(logits.log_softmax(1), labels, "log_softmax"), expected)
    assert mask_loss(logits.log_softmax(1), torch.full_like(labels, IGNORED), "log_softmax") == 0


@pytest.mark.parametrize(("output", "lowest"), [("tanh", -1.0), ("sigmoid", 0.0), ("clamp", -1.0), ("none", -1.0)])
def test_masks_of_other_forms_are_pulled_to_the_class(tmp_path: Path, output: Any, lowest: float) -> None:
    labels = batch(4)["source_labels"]
    wanted = F.one_hot(labels, 3).permute(0, 3, 1, 2) * (1 - lowest) + lowest
    assert mask_loss(wanted, labels, output) == 0
    assert mask_loss(wanted + 0.5, labels, output) == 0.5
    assert terms_of(small(mask_output=output), tmp_path)["mask"] > 0


# 11: without labels ------------------------------------------------------------------------------------------------------------------


def test_a_training_without_labels_says_so_and_has_no_mask_losses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Landscapes(str(make_folder(tmp_path / "pile", 3, 40, 50)), size=32, batch_size=1, workers=0)
    terms = terms_of(small(), tmp_path / "a", data=data)
    said = capsys.readouterr().err
    assert "has no segmentation labels, so the losses on masks are off" in said
    assert "lightning labels" in said
    assert not {"mask", "mask_random"} & terms.keys()
    headless = small(mask_channels=0)
    assert headless.generator.decoder.last.out_channels == 3
    assert not {"mask", "mask_random"} & terms_of(headless, tmp_path / "b").keys()
    assert "losses on masks" not in capsys.readouterr().err
    assert "mask" in terms_of(small(), tmp_path / "c")
    assert "losses on masks" not in capsys.readouterr().err


def test_a_training_at_another_size_than_that_of_exemplars_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(small(), 1, tmp_path / "a", data=scenes(), precision="32-true")
    assert "exemplars" not in capsys.readouterr().err
    fit(small(inference_size=48), 1, tmp_path / "b", data=scenes(), precision="32-true")
    assert "exemplars will be brought to 48: for the same, --model.inference_size 32" in capsys.readouterr().err


def test_labels_of_more_classes_than_the_model_paints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match=r"of 3 classes, and the model paints masks of 2: --model\.mask_channels 3"):
        fit(small(mask_channels=2), 1, tmp_path, data=scenes())
    data = scenes()
    data.size = 30
    with pytest.raises(ZooError, match=r"30x30; these networks take multiples of 4 from 16 pixels on: --data\.size 32"):
        fit(small(), 1, tmp_path, data=data)


# 13, 14: inference -------------------------------------------------------------------------------------------------------------------


def test_translate_leaves_no_trace_and_repeats_itself() -> None:
    model, picture = small(), noise(2, 3, 16, 32)
    before = copy.deepcopy(model.state_dict())
    drawn = model.translate(picture)
    assert torch.equal(drawn, model.translate(picture, to="target"))
    assert not torch.equal(drawn, model.translate(picture, latent=noise(2, 3)))
    assert drawn.shape == picture.shape
    assert drawn.abs().max() <= 1
    assert not drawn.requires_grad
    assert model.generator.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(ZooError, match="translates to 'target', not to 'night'"):
        model.translate(picture, to="night")
    with pytest.raises(ZooError, match="not both"):
        model.translate(picture, reference=picture, latent=noise(2, 3))
    with pytest.raises(ZooError, match="2 pictures and 3 styles"):
        model.translate(picture, latent=noise(3, 3))


def test_exemplars_of_any_size_are_brought_to_the_inference_size() -> None:
    model, picture = small(), noise(1, 3, 32, 32)
    seen: list[torch.Size] = []
    model.generator.style_encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    for shape in ((32, 32), (100, 170), (22, 16)):
        model.translate(picture, reference=noise(1, 3, *shape))
    assert seen == [(1, 3, 32, 32), (1, 3, 32, 48), (1, 3, 48, 32)]
    assert shorter_side_shape(100, 170, side=32) == (32, 54)
    assert rounded_shape(24, 40) == (32, 32), "halves go to the even multiple"
    assert rounded_shape(3, 8) == (16, 16)
    own = model.translate(picture, reference=picture)
    assert torch.equal(own, model.translate(picture, latent=model.encode_style(picture)))


def test_noise_is_off_in_inference_unless_asked_for() -> None:
    picture = noise(1, 3, 32, 32)
    plain, noisy = small(), small(inference_noise=True)
    assert torch.equal(noisy.translate(picture, reference=picture), noisy.translate(picture, reference=picture))
    assert not torch.equal(plain.encode_style(picture), noisy.encode_style(picture))
    change = noisy.noisy(picture, "noise", True) - picture
    assert change.min() >= 0
    assert 2 / 255 * 0.99 < change.max() <= 2 / 255 + 1e-6


def test_a_time_lapse_ends_in_the_pictures_of_its_styles() -> None:
    model, picture = small(), noise(1, 3, 16, 16)
    styles = torch.cat([named_style(name) for name in ("day", "sunsetred", "night")])
    frames = list(model.time_lapse(picture, styles, steps=4))
    assert len(frames) == 7
    for place, style in zip((0, 3, 6), styles, strict=True):
        assert torch.equal(frames[place], model.translate(picture, latent=style[None]))
    middle = styles[0].lerp(styles[1], 1 / 3)[None]
    torch.testing.assert_close(frames[1], model.translate(picture, latent=middle))
    with pytest.raises(ZooError, match="at least 2"):
        list(between(styles[:1], 4))
    with pytest.raises(ZooError, match="at least 2"):
        list(between(styles, 1))


def test_named_styles() -> None:
    assert len(NAMED_STYLES) == 18
    assert named_style("sunset_hard_harder")[0].tolist() == pytest.approx((2 * named_style("presunset"))[0].tolist())
    assert small().named_styles == NAMED_STYLES
    assert small(style_channels=12).named_styles == {}
    with pytest.raises(ZooError, match=r"no style named 'noon'.*hard_day"):
        named_style("noon")


def test_samples_and_validation() -> None:
    model, pictures, logged = small(), batch(count=2), {}
    columns = model.samples(pictures)
    assert list(columns) == ["source", "exemplar", "translation", "mask", "reconstruction", "random style"]
    assert torch.equal(columns["translation"], model.translate_batch(pictures))
    assert columns["mask"].shape == (2, 1, 32, 32)
    assert set(columns["mask"].unique().tolist()) <= {-1.0, 0.0, 1.0}
    assert "mask" not in small(mask_channels=0).samples(pictures)
    model.log_dict = lambda figures, **_: logged.update(figures)  # type: ignore[method-assign, assignment]
    model.validation_step(pictures, 0)
    assert logged["val/reconstruction_psnr"] == psnr(columns["reconstruction"], columns["source"]).mean()
    wanted = model.encode_style(pictures["target"])
    found = model.encode_style(columns["translation"])
    assert logged["val/style_distance"] == (found - wanted).abs().mean()
    of_labels = (columns["mask"][:, 0] + 1).long() == pictures["source_labels"]
    assert logged["val/mask_accuracy"] == of_labels.float().mean()


# Training ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"ema_decay": 0.5},
        {"mask_channels": 0, "style_channels": 12, "discriminators": "projection"},
        {"mask_output": "tanh", "training_noise": False, "mapping_layers": 2, "encoder_blocks": 0},
    ],
    ids=["average", "paintings", "published mask"],
)
def test_every_variant_trains_and_resumes_to_the_bit(tmp_path: Path, options: dict[str, Any]) -> None:
    whole = small(**options)
    trainer = fit(whole, 4, tmp_path / "whole", data=scenes(), precision="32-true", val_check_interval=4)
    assert trainer.callback_metrics["val/reconstruction_psnr"] > 0
    fit(small(**options), 2, tmp_path / "part", data=scenes(), precision="32-true")
    (checkpoint,) = (tmp_path / "part" / "checkpoints").glob("*.ckpt")
    torch.manual_seed(1)
    resumed = HiDT(**{**SMALL, **options})
    fit(resumed, 4, tmp_path / "rest", data=scenes(), precision="32-true", resume=checkpoint)
    ours, theirs = resumed.state_dict(), whole.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert torch.equal(resumed.pool.rows, whole.pool.rows)  # type: ignore[arg-type]
    assert len(whole.pool.rows) == 6  # type: ignore[arg-type]
    loaded = load_translator(checkpoint)
    assert isinstance(loaded, HiDT)
    assert loaded.translate(noise(1, 3, 16, 16)).isfinite().all()


def test_gradients_of_a_mixed_precision_training_are_those_of_the_full_one(tmp_path: Path) -> None:
    def gradient(part: nn.Module) -> Tensor:
        return torch.cat([p.grad.flatten() for p in part.parameters() if p.grad is not None])

    found: dict[str, list[Tensor]] = {}
    for precision in ("32-true", "bf16-mixed"):
        model = small(generator_channels=8)
        fit(model, 1, tmp_path / precision, data=scenes(), precision=precision)
        for part in ("generator.style_encoder", "generator.decoder", "discriminators"):
            found.setdefault(part, []).append(gradient(model.get_submodule(part)))
    for part, (full, mixed) in found.items():
        assert torch.cosine_similarity(full, mixed, 0) > 0.8, part


def test_each_network_runs_as_often_as_it_must() -> None:
    model = small(training_noise=False)
    passes: dict[str, list[tuple[int, bool]]] = {}

    def hook(name: str) -> Any:
        def keep(_: nn.Module, __: Any, output: Any) -> None:
            output = output if isinstance(output, Tensor) else output[0]
            passes.setdefault(name, []).append((len(output), output.requires_grad))

        return keep

    names = ("generator.content_encoder", "generator.style_encoder", "generator.decoder")
    for name in (*names, "discriminators.unconditional", "discriminators.projection"):
        model.get_submodule(name).register_forward_hook(hook(name))
    drive(model, batch(), 1)
    encodings = [(2, True)] * 3  # pictures, for both turns; swaps; random ones
    judgements = [(6, True), (4, True)]  # real, swap and random at once; the two that were made
    assert passes == {
        "generator.content_encoder": encodings,
        "generator.style_encoder": encodings,
        "generator.decoder": [(2, True)] * 5,  # own, swapped and random style for both turns; two ways back
        "discriminators.unconditional": judgements,
        "discriminators.projection": judgements,
    }
    many = Counts(1)
    drive(small(), batch(), 3, many)
    assert many.host_reads == ["tolist"]  # whether the last gradients were finite
