"""CycleGAN's acceptance list, and what the golden numbers do not reach."""

import copy
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from datamodules import Scenes, UnpairedFolders
from support.pictures import make_folder
from support.training import fit
from zoo.blocks.image_pool import ImagePool
from zoo.blocks.initialise import initialise
from zoo.core import Draws
from zoo.core.images import psnr
from zoo.cyclegan import (
    CycleGAN,
    PatchDiscriminator,
    PixelDiscriminator,
    ResnetGenerator,
    UnetGenerator,
    UnetLevel,
    bce_loss,
    gradient_penalty,
    gradients_between,
    linear_decay,
    lsgan_loss,
)
from zoo.errors import ZooError

SMALL: dict[str, Any] = {"generator_channels": 4, "residual_blocks": 1, "discriminator_channels": 4, "pool_size": 2}


def small(**arguments: Any) -> CycleGAN:
    torch.manual_seed(0)
    return CycleGAN(**{**SMALL, "iterations_per_epoch": 1000, **arguments})


def scenes(**arguments: Any) -> Scenes:
    return Scenes(**{"size": 32, "batch_size": 2, "validation_count": 2, **arguments})


def numel(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# 1, 2, 13: sizes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "instance", "batch"),
    [
        (lambda norm: ResnetGenerator(3, 3, 64, 9, norm, False, "reflect"), 11_378_179, 11_383_427),
        (lambda norm: ResnetGenerator(3, 3, 64, 6, norm, False, "reflect"), 7_837_699, 7_841_411),
        (lambda norm: UnetGenerator(3, 3, 64, 8, norm, False), 54_409_603, 54_413_955),
        (lambda norm: UnetGenerator(3, 3, 64, 7, norm, False), 41_825_667, 41_828_995),
        (lambda norm: PatchDiscriminator(3, 64, 3, norm), 2_764_737, 2_765_633),
        (lambda norm: PixelDiscriminator(3, 64, norm), 8_705, 8_832),
    ],
    ids=["resnet_9blocks", "resnet_6blocks", "unet_256", "unet_128", "patch", "pixel"],
)
def test_parameter_counts(network: Any, instance: int, batch: int) -> None:
    with torch.device("meta"):
        assert numel(network("instance")) == instance
        assert numel(network("batch")) == batch


def test_parameter_count_of_the_whole_model() -> None:
    with torch.device("meta"):
        assert numel(CycleGAN()) == 28_285_832


@pytest.mark.parametrize(("side", "logits"), [(256, 30), (128, 14)])
def test_sizes(side: int, logits: int) -> None:
    with torch.device("meta"):
        model, picture = CycleGAN(), torch.empty(1, 3, side, side)
        assert model.to_target(picture).shape == picture.shape
        assert model.discriminator_target(picture).shape == (1, 1, logits, logits)
        assert PixelDiscriminator(3, 64, "instance")(picture).shape == (1, 1, side, side)


def test_a_translation_keeps_the_size_of_any_picture() -> None:
    assert small().translate(noise(1, 3, 20, 36)).shape == (1, 3, 20, 36)


def test_the_unet_for_256_has_a_bottleneck_of_one_pixel() -> None:
    with torch.device("meta"):
        network = UnetGenerator(3, 3, 64, 8, "instance", True)
        level = network.model
        seen = []
        while level is not None:
            level.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-1]))
            innermost, level = level, next((part for part in level.model if isinstance(part, UnetLevel)), None)
        innermost.model[1].register_forward_hook(lambda _, __, output: seen.append(output.shape[-1]))
        assert network(torch.empty(1, 3, 256, 256)).shape == (1, 3, 256, 256)
    assert seen == [256, 128, 64, 32, 16, 8, 4, 2, 1]


def test_the_unet_equals_one_with_activations_in_place() -> None:
    torch.manual_seed(0)
    network, picture = UnetGenerator(3, 3, 4, 5, "instance", False), noise(2, 3, 32, 32)
    in_place = copy.deepcopy(network)
    for layer in in_place.modules():
        if isinstance(layer, nn.ReLU | nn.LeakyReLU):
            layer.inplace = True
    assert torch.equal(network(picture), in_place(picture))


def test_dropout_of_the_unet_is_between_levels_of_eightfold_width() -> None:
    network = UnetGenerator(3, 3, 2, 7, "batch", True)
    assert sum(isinstance(layer, nn.Dropout) for layer in network.modules()) == 2  # unet_256 has three, unet_128 two


@pytest.mark.parametrize("padding", ["reflect", "replicate", "zero"])
@pytest.mark.parametrize("dropout", [False, True])
def test_places_of_the_second_convolution_of_a_residual_block(padding: Any, dropout: bool) -> None:
    network = ResnetGenerator(3, 3, 2, 1, "instance", dropout, padding)
    second = {("zero", False): 3, ("zero", True): 4}.get((padding, dropout), 6 if dropout else 5)
    assert f"model.10.conv_block.{second}.weight" in network.state_dict()
    assert network(noise(1, 3, 16, 16)).shape == (1, 3, 16, 16)


def test_residual_blocks_pad_as_they_are_told() -> None:
    torch.manual_seed(0)
    mirrored = ResnetGenerator(3, 3, 2, 1, "instance", False, "reflect")
    repeated = ResnetGenerator(3, 3, 2, 1, "instance", False, "replicate")
    repeated.load_state_dict(mirrored.state_dict())
    assert not torch.allclose(mirrored(noise(1, 3, 16, 16)), repeated(noise(1, 3, 16, 16)))


@pytest.mark.parametrize(("generator", "side", "multiple"), [("resnet", 30, 4), ("unet", 36, 8)])
def test_pictures_of_a_wrong_size_are_refused_with_a_right_one(generator: Any, side: int, multiple: int) -> None:
    model = small(generator=generator, unet_depth=3)
    with pytest.raises(ZooError, match=f"{side}x{side}.*multiples of {multiple}.*(32x32)"):
        model.translate(noise(1, 3, side, side))


# 9: initialisation ---------------------------------------------------------------------------------------------------------------


def test_initial_weights() -> None:
    model = small(generator_channels=16, discriminator_channels=16, discriminator_norm="batch")
    for name, p in model.named_parameters():
        if p.ndim == 4:
            assert abs(p.std().item() / 0.02 - 1) < 5 / math.sqrt(2 * p.numel()), name
        elif name.endswith("bias"):
            assert not p.any(), name
        else:  # of batch norms
            assert abs(p.mean().item() - 1) < 5 * 0.02 / math.sqrt(p.numel()), name
            assert p.std().item() > 0.005, name


def test_other_initialisations() -> None:
    layer = nn.Conv2d(16, 32, 3)
    fan_in, fan_out = 16 * 9, 32 * 9
    expected = {"xavier": 0.5 * math.sqrt(2 / (fan_in + fan_out)), "kaiming": math.sqrt(2 / fan_in)}
    for kind, std in expected.items():
        initialise(layer, kind, gain=0.5)  # type: ignore[arg-type]
        assert abs(layer.weight.std().item() / std - 1) < 5 / math.sqrt(2 * layer.weight.numel())
    initialise(layer, "orthogonal", gain=0.5)
    rows = layer.weight.detach().flatten(1)
    torch.testing.assert_close(rows @ rows.T, 0.25 * torch.eye(32))


# 5, 7, 10: the training step -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lambda_identity", "calls"), [(0.5, 3), (0.0, 2)])
def test_how_often_each_network_runs(tmp_path: Path, lambda_identity: float, calls: int) -> None:
    model, counts = small(lambda_identity=lambda_identity), Counter[str]()
    for name, network in model.named_children():
        network.register_forward_hook(lambda part, *_, name=name: counts.update([name] * part.training))
    fit(model, 1, tmp_path, data=scenes(), precision="32-true")
    assert counts == {"to_target": calls, "to_source": calls, "discriminator_target": 3, "discriminator_source": 3}


def test_each_player_moves_its_own_networks_alone(tmp_path: Path) -> None:
    model = small()
    generators = [*model.to_target.parameters(), *model.to_source.parameters()]
    discriminators = [*model.discriminator_target.parameters(), *model.discriminator_source.parameters()]
    turns: list[str] = []

    def values(parameters: list[nn.Parameter]) -> list[Tensor]:
        return [p.detach().clone() for p in parameters]

    def same(parameters: list[nn.Parameter], before: list[Tensor]) -> bool:
        return all(torch.equal(p, q) for p, q in zip(parameters, before, strict=True))

    def watched(update: Any, name: str, mine: list[nn.Parameter], others: list[nn.Parameter]) -> Any:
        def watch(*arguments: Tensor) -> Any:
            before, others_before = values(mine), values(others)
            for p in others:
                p.grad = None
            result = update(*arguments)
            assert all(p.grad is not None for p in mine)
            assert all(p.grad is None for p in others)
            assert not same(mine, before)
            assert same(others, others_before)
            turns.append(name)
            return result

        return watch

    model.update_generators = watched(model.update_generators, "generators", generators, discriminators)
    model.update_discriminators = watched(model.update_discriminators, "discriminators", discriminators, generators)
    fit(model, 1, tmp_path, data=scenes(), precision="32-true")
    assert turns == ["generators", "discriminators"]


class Everywhere(nn.Module):
    """A discriminator that says the same of every patch."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, x: Tensor) -> Tensor:
        return self.value.expand(len(x), 1, 2, 2)


class Identity(nn.Module):
    """A generator that changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.zero = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.zero


def terms_of_one_step(model: CycleGAN, folder: Path) -> dict[str, float]:
    terms: dict[str, float] = {}
    model.log_terms = lambda new, *_: terms.update({name: value.item() for name, value in new.items()})
    fit(model, 1, folder, data=scenes(), precision="32-true")
    return terms


def test_perfect_generators_and_convinced_discriminators_cost_nothing(tmp_path: Path) -> None:
    model = small()
    model.to_target, model.to_source = Identity(), Identity()
    model.discriminator_target, model.discriminator_source = Everywhere(1.0), Everywhere(1.0)
    assert terms_of_one_step(model, tmp_path)["generators"] == 0


def test_every_term_has_its_own_weight(tmp_path: Path) -> None:
    model = small(lambda_cycle_source=2.0, lambda_cycle_target=3.0, lambda_identity=0.25)
    terms = terms_of_one_step(model, tmp_path)
    cycle = 2 * terms["cycle_source"] + 3 * terms["cycle_target"]
    identity = 0.25 * (2 * terms["identity_source"] + 3 * terms["identity_target"])
    total = terms["adversarial_target"] + terms["adversarial_source"] + cycle + identity
    assert terms["generators"] == pytest.approx(total, rel=1e-5)


def test_undecided_discriminators_cost_a_quarter(tmp_path: Path) -> None:
    model = small()
    model.discriminator_target, model.discriminator_source = Everywhere(0.5), Everywhere(0.5)
    terms = terms_of_one_step(model, tmp_path)
    for name in ("adversarial_target", "adversarial_source", "discriminator_target", "discriminator_source"):
        assert terms[name] == 0.25


def test_the_gradient_penalty_is_off_unless_asked_for(tmp_path: Path) -> None:
    assert not any("penalty" in name for name in terms_of_one_step(small(adversarial="wgan-gp"), tmp_path / "a"))
    assert not any("penalty" in name for name in terms_of_one_step(small(lambda_gradient_penalty=10), tmp_path / "b"))
    terms = terms_of_one_step(small(adversarial="wgan-gp", lambda_gradient_penalty=10.0), tmp_path / "c")
    assert terms["gradient_penalty_target"] > 0
    assert terms["gradient_penalty_source"] > 0


def test_the_gradient_penalty_ignores_autocast_and_draws_no_samples_together() -> None:
    torch.manual_seed(0)
    network, real, fake = PatchDiscriminator(3, 4, 2, "instance"), noise(3, 3, 16, 16), noise(3, 3, 16, 16, seed=1)
    alpha = torch.tensor([0.0, 0.3, 1.0])
    plain = gradients_between(network, real, fake, alpha)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(gradients_between(network, real, fake, alpha), plain)
    alone = gradients_between(network, real[1:2], fake[1:2], alpha[1:2])
    torch.testing.assert_close(plain[1:2], alone)
    penalty = gradient_penalty(plain)
    penalty.backward()
    assert any(p.grad is not None and p.grad.any() for p in network.parameters())


@pytest.mark.parametrize(
    "options",
    [
        {"generator": "unet", "unet_depth": 3, "discriminator": "pixel", "adversarial": "bce"},
        {"generator_norm": "batch", "discriminator_norm": "batch", "dropout": True, "padding": "zero"},
        {"generator_norm": "none", "discriminator_norm": "none", "adversarial": "wgan-gp", "pool_size": 0},
        {"initialisation": "orthogonal", "discriminator_layers": 2, "ema_decay": 0.9, "decay_step": "start"},
    ],
)
def test_every_variant_trains(tmp_path: Path, options: dict[str, Any]) -> None:
    model = small(**options)
    before = {name: value.clone() for name, value in model.named_parameters() if not name.startswith("ema.")}
    trainer = fit(model, 2, tmp_path, data=scenes(), precision="32-true", val_check_interval=2)
    assert trainer.global_step == 2
    now = dict(model.named_parameters())
    moved = [name for name in before if not torch.equal(before[name], now[name])]
    assert {name.partition(".")[0] for name in moved} == {
        "to_target",
        "to_source",
        "discriminator_target",
        "discriminator_source",
    }
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert trainer.callback_metrics["val/cycle_psnr_source"] > 0


def test_channels_of_the_domains_may_differ_without_the_identity_loss() -> None:
    with pytest.raises(ZooError, match=r"--model\.lambda_identity 0"):
        small(input_channels=1, output_channels=3)
    model = small(input_channels=1, output_channels=3, lambda_identity=0)
    translation = model.translate(noise(1, 1, 16, 16))
    assert translation.shape == (1, 3, 16, 16)
    assert model.translate(translation, to="source").shape == (1, 1, 16, 16)
    assert model.discriminator_source(noise(1, 1, 32, 32)).shape == (1, 1, 2, 2)


# 6: the pool ------------------------------------------------------------------------------------------------------------------------


def drawing(iteration: int = 0) -> Draws:
    draws = Draws(seed=3)
    draws.begin(iteration, torch.device("cpu"), torch.float32)
    return draws


def test_a_pool_draws_nothing_until_it_is_full() -> None:
    pool, draws = ImagePool(5), drawing()
    draws.replay({})  # a draw would raise
    images = noise(5, 1, 2, 2)
    assert torch.equal(pool(images[:2], draws), images[:2])
    assert torch.equal(pool(images[2:], draws), images[2:])
    assert torch.equal(torch.stack(pool.images), images)
    with pytest.raises(LookupError):
        pool(images[:1], draws)


def test_a_pool_never_grows_beyond_its_size_and_gives_back_about_every_second_time() -> None:
    pool, draws, old = ImagePool(4), drawing(), 0
    for number in range(200):
        result = pool(torch.full((1, 1, 1, 1), float(number)), draws)
        assert len(pool.images) == min(number + 1, 4)
        old += int(result.item() != number)
    assert 60 < old < 136  # 196 draws of probability 1/2: five standard deviations around 98 are 63 to 133


@pytest.mark.parametrize(("uniform", "exchanged"), [(0.0, False), (0.5, False), (0.5001, True), (0.9999, True)])
def test_a_pool_exchanges_above_one_half(uniform: float, exchanged: bool) -> None:
    pool, draws = ImagePool(2), drawing()
    images = noise(3, 1, 2, 2)
    pool(images[:2], draws)
    tape = [("pool_uniform", torch.tensor([uniform])), ("pool_index", torch.tensor([1]))]
    draws.replay({0: tape[: 1 + exchanged]})
    result = pool(images[2:], draws)
    assert draws.unread == 0
    assert torch.equal(result[0], images[1] if exchanged else images[2])
    assert torch.equal(torch.stack(pool.images), images[[0, 2]] if exchanged else images[:2])


def test_a_pool_of_size_zero_returns_its_input() -> None:
    images = noise(2, 1, 2, 2).requires_grad_()
    result = ImagePool(0)(images, drawing())
    assert torch.equal(result, images)
    assert not result.requires_grad


def test_a_pool_holds_no_graph_and_no_view_of_its_input() -> None:
    pool, images = ImagePool(2), noise(2, 1, 2, 2).requires_grad_()
    result = pool(images * 2, drawing())
    assert not result.requires_grad
    kept = [image.clone() for image in pool.images]
    result.zero_()
    assert all(torch.equal(a, b) for a, b in zip(pool.images, kept, strict=True))


def test_a_pool_survives_a_checkpoint(tmp_path: Path) -> None:
    pool, draws = ImagePool(3), drawing()
    pool(noise(3, 1, 2, 2), draws)
    torch.save(pool.state_dict(), tmp_path / "pool.pt")
    other = ImagePool(3)
    other.load_state_dict(torch.load(tmp_path / "pool.pt", weights_only=True))
    new = noise(8, 1, 2, 2, seed=1)
    assert torch.equal(pool(new, drawing(1)), other(new, drawing(1)))


def test_a_resumed_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = small(ema_decay=0.9)
    fit(whole, 6, tmp_path / "whole", data=scenes(), precision="32-true")
    fit(small(ema_decay=0.9), 3, tmp_path / "part", data=scenes(), precision="32-true")
    (checkpoint,) = (tmp_path / "part" / "checkpoints").glob("*.ckpt")
    resumed = small(ema_decay=0.9, initialisation_gain=0.5)
    fit(resumed, 6, tmp_path / "rest", data=scenes(), precision="32-true", resume=checkpoint)
    ours, theirs = resumed.state_dict(), whole.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for pool, other in ((resumed.pool_target, whole.pool_target), (resumed.pool_source, whole.pool_source)):
        assert torch.equal(torch.stack(pool.images), torch.stack(other.images))


# 8: the learning rate -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decay_step", "factors"),
    [
        ("end", {1: 1, 100: 1, 101: 100 / 101, 150: 51 / 101, 199: 2 / 101, 200: 1 / 101, 300: 0}),
        ("start", {1: 1, 99: 1, 100: 100 / 101, 101: 99 / 101, 150: 50 / 101, 199: 1 / 101, 200: 0, 300: 0}),
    ],
)
def test_learning_rates_of_the_paper(decay_step: Any, factors: dict[int, float]) -> None:
    for epoch, factor in factors.items():
        for iteration in ((epoch - 1) * 1334, epoch * 1334 - 1):
            assert linear_decay(1334, 100, 100, decay_step, iteration) == pytest.approx(factor, rel=1e-12)


def test_the_rate_can_fall_with_every_iteration() -> None:
    assert [linear_decay(1, 2, 3, "end", iteration) for iteration in range(6)] == [1, 1, 0.75, 0.5, 0.25, 0]


# 11, 12: the data -------------------------------------------------------------------------------------------------------------------


def test_the_training_data_of_the_paper(tmp_path: Path) -> None:
    make_folder(tmp_path / "trainA", 3)
    make_folder(tmp_path / "trainB", 5)
    data = UnpairedFolders(str(tmp_path / "trainA"), str(tmp_path / "trainB"), workers=0)
    data.setup("fit")
    assert data.iterations_per_epoch == 5  # max(|A|, |B|)
    sample = next(iter(data.train_dataloader()))
    batch = data.on_after_batch_transfer(sample, 0)
    for name in ("source", "target"):
        assert batch[name].shape == (1, 3, 256, 256)
        assert batch[name].dtype == torch.float32
        assert batch[name].min() >= -1
        assert batch[name].max() <= 1
        assert batch[name].std() > 0.05


def test_both_domains_are_cropped_and_flipped_apart(tmp_path: Path) -> None:
    make_folder(tmp_path / "trainA", 1, height=40, width=40)
    make_folder(tmp_path / "trainB", 1, height=40, width=40)  # the same picture
    data = UnpairedFolders(
        str(tmp_path / "trainA"), str(tmp_path / "trainB"), workers=0, size=32, load_size=40, batch_size=8
    )
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert not torch.equal(batch["source"], batch["target"])


# Inference ------------------------------------------------------------------------------------------------------------------------


def test_translate_goes_both_ways_without_a_trace() -> None:
    model, picture = small(dropout=True, generator_norm="batch"), noise(2, 3, 16, 16)
    before = copy.deepcopy(model.state_dict())
    there, back = model.translate(picture), model.translate(picture, to="source")
    assert not torch.equal(there, back)
    assert torch.equal(there, model.translate(picture, to="target"))  # dropout is off
    assert not there.requires_grad
    assert there.abs().max() <= 1
    assert model.to_target.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(ZooError, match="'target' or to 'source', not to 'zebra'"):
        model.translate(picture, to="zebra")


def test_moving_averages_translate_where_there_are_any(tmp_path: Path) -> None:
    model, picture = small(ema_decay=0.5), noise(1, 3, 16, 16)
    start = copy.deepcopy(model.to_target.state_dict())
    fit(model, 1, tmp_path, data=scenes(), precision="32-true")
    for name, value in model.to_target.state_dict().items():
        torch.testing.assert_close(model.ema["to_target"].state_dict()[name], 0.5 * (start[name] + value))
    assert torch.equal(model.translate(picture), model.ema["to_target"](picture))
    assert not torch.equal(model.translate(picture), model.to_target(picture))


def test_samples_show_both_directions() -> None:
    model, batch = small(), {"source": noise(2, 3, 16, 16), "target": noise(2, 3, 16, 16, seed=1)}
    columns = model.samples(batch)
    assert list(columns)[:3] == ["source", "translation", "reconstruction"]
    assert torch.equal(columns["reconstruction"], model.translate(columns["translation"], to="source"))
    assert torch.equal(columns["reconstruction of target"], model.translate(columns["translation to source"]))


def test_validation_reports_the_way_back_in_decibels(tmp_path: Path) -> None:
    model = small()
    logged: dict[str, Tensor] = {}
    model.log = lambda name, value, **_: logged.update({name: value})
    batch = {"source": noise(2, 3, 16, 16), "target": noise(2, 3, 16, 16, seed=1)}
    model.validation_step(batch, 0)
    columns = model.samples(batch)
    assert logged.keys() == {"val/cycle_psnr_source", "val/cycle_psnr_target"}
    assert logged["val/cycle_psnr_source"] == psnr(columns["reconstruction"], columns["source"]).mean()
    assert logged["val/cycle_psnr_target"] == psnr(columns["reconstruction of target"], columns["target"]).mean()


# Losses -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("real", [True, False])
def test_bce_is_the_cross_entropy_of_logits(real: bool) -> None:
    logits = noise(4, 1, 3, 3).double() * 40
    expected = nn.functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))
    torch.testing.assert_close(bce_loss(logits, real), expected)


def test_losses_are_taken_in_full_precision() -> None:
    model, picture = small(), noise(1, 3, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.discriminator_target(picture).dtype == torch.bfloat16
        assert model.discriminator_loss("target", model.discriminator_target, picture, picture).dtype == torch.float32
    logits = model.discriminator_target(picture)
    plain = 0.5 * (lsgan_loss(logits, True) + lsgan_loss(logits, False))
    assert torch.equal(model.discriminator_loss("target", model.discriminator_target, picture, picture), plain)
