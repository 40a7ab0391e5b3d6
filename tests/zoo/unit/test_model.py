"""UNIT's acceptance list, and what the golden numbers do not reach."""

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from datamodules import Scenes
from support.training import fit
from zoo.core.images import psnr
from zoo.core.loading import load_translator
from zoo.errors import ZooError
from zoo.unit import UNIT
from zoo.unit.model import step_decay

SMALL: dict[str, Any] = {
    "generator_channels": 2,
    "residual_blocks": 2,
    "discriminator_channels": 2,
    "discriminator_layers": 2,
}
LATER: dict[str, Any] = {
    "variant": "munit_style",
    "shared_blocks": 0,
    "discriminator": "pooled",
    "discriminator_scales": 2,
    "adversarial": "lsgan",
    "kl_of": "mean",
    "decay_interval": 2,
}


def small(**arguments: Any) -> UNIT:
    torch.manual_seed(0)
    return UNIT(**{**SMALL, **arguments})


def scenes(**arguments: Any) -> Scenes:
    return Scenes(**{"size": 16, "batch_size": 2, "validation_count": 2, **arguments})


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def batch(size: int = 16) -> dict[str, Tensor]:
    return {"source": noise(2, 3, size, size), "target": noise(2, 3, size, size, seed=1)}


def terms_of(model: UNIT, folder: Path, iterations: int = 1, **options: Any) -> list[dict[str, float]]:
    """The terms of each iteration, in the order of the turns."""
    terms: list[dict[str, float]] = []
    keep = model.log_terms

    def listen(new: dict[str, Tensor], *rest: str) -> None:
        if "discriminators" in new:
            terms.append({})
        terms[-1] |= {name: value.item() for name, value in new.items()}
        keep(new, *rest)

    model.log_terms = listen  # type: ignore[method-assign, assignment]
    fit(model, iterations, folder, data=scenes(), precision="32-true", **options)
    return terms


# 6: inference --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, LATER, {"residual_dropout": 0.5}], ids=["paper", "later", "dropout"])
def test_translate_goes_both_ways_without_a_trace(options: dict[str, Any]) -> None:
    model, picture = small(**options), noise(2, 3, 16, 16)
    before = copy.deepcopy(model.state_dict())
    there, back = model.translate(picture), model.translate(picture, to="source")
    assert torch.equal(there, model.translate(picture, to="target"))
    assert not torch.equal(there, back)
    assert there.shape == picture.shape
    assert there.abs().max() <= 1
    assert not there.requires_grad
    assert model.generators.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(ZooError, match="'target' or to 'source', not to 'zebra'"):
        model.translate(picture, to="zebra")


def test_training_draws_codes() -> None:
    model = small()
    mean = torch.zeros(2, 4, 3, 3)
    first, again = model.sample(mean, mean), model.sample(mean, mean)
    drawn = [*first, *again]
    assert not any(torch.equal(one, other) for i, one in enumerate(drawn) for other in drawn[:i])
    model.draws.begin(0, torch.device("cpu"), torch.float32)
    assert torch.equal(model.sample(mean, mean)[0], first[0])


def test_reconstructions_and_lines_between_pictures() -> None:
    model, first, last = small(), noise(2, 3, 16, 16), noise(2, 3, 16, 16, seed=1)
    line = model.interpolate(first, last, steps=5)
    assert line.shape == (2, 5, 3, 16, 16)
    torch.testing.assert_close(line[:, 0], model.translate(first))
    torch.testing.assert_close(line[:, -1], model.translate(last))
    model.eval()
    with torch.no_grad():
        middle = (model.generators.encode(first, "source") + model.generators.encode(last, "source")) / 2
        torch.testing.assert_close(line[:, 2], model.generators.decode(middle, "target"))
    own = model.interpolate(first, last, steps=2, domain="target", to="target")
    torch.testing.assert_close(own[:, 0], model.reconstruct(first, domain="target"))
    assert not torch.equal(model.reconstruct(first), model.reconstruct(first, domain="target"))
    for wrong in ({"steps": 1}, {"domain": "zebra"}, {"to": "zebra"}):
        with pytest.raises(ZooError):
            model.interpolate(first, last, **wrong)
    with pytest.raises(ZooError, match="no domain 'zebra'"):
        model.reconstruct(first, domain="zebra")


def test_channels_of_the_domains_may_differ() -> None:
    for options in (
        {},
        LATER,
        {"discriminator": "shared", "discriminator_shared_layers": 1},
        {"discriminator": "blurred"},
    ):
        model = small(source_channels=1, target_channels=3, **options)
        translation = model.translate(noise(1, 1, 16, 16))
        assert translation.shape == (1, 3, 16, 16)
        assert model.translate(translation, to="source").shape == (1, 1, 16, 16)
        model.discriminators(noise(1, 1, 32, 32), noise(1, 3, 32, 32))


def test_samples_show_both_directions() -> None:
    model, pictures = small(), batch()
    columns = model.samples(pictures)
    assert list(columns)[:4] == ["source", "translation", "reconstruction", "there and back"]
    assert torch.equal(columns["translation"], model.translate(pictures["source"]))
    assert torch.equal(columns["there and back"], model.translate(columns["translation"], to="source"))
    assert torch.equal(columns["target there and back"], model.translate(columns["translation to source"]))


def test_validation_reports_what_survives_the_code_and_the_way_back() -> None:
    model, pictures, logged = small(), batch(), {}
    model.log_dict = lambda figures, **_: logged.update(figures)  # type: ignore[method-assign, assignment]
    model.validation_step(pictures, 0)
    columns = model.samples(pictures)
    assert logged == {
        "val/reconstruction_psnr_source": psnr(columns["reconstruction"], columns["source"]).mean(),
        "val/reconstruction_psnr_target": psnr(columns["reconstruction of target"], columns["target"]).mean(),
        "val/cycle_psnr_source": psnr(columns["there and back"], columns["source"]).mean(),
        "val/cycle_psnr_target": psnr(columns["target there and back"], columns["target"]).mean(),
    }


def test_the_moving_average_translates_where_there_is_one(tmp_path: Path) -> None:
    model, picture = small(ema_decay=0.5), noise(1, 3, 16, 16)
    start = copy.deepcopy(model.generators.state_dict())
    fit(model, 1, tmp_path, data=scenes(), precision="32-true")
    assert model.ema is not None
    averages = model.ema["generators"].state_dict()
    for name, value in model.generators.state_dict().items():
        torch.testing.assert_close(averages[name], 0.5 * (start[name] + value))
    translation = model.translate(picture)
    model.ema = None
    assert not torch.equal(model.translate(picture), translation)


@pytest.mark.parametrize("options", [{}, LATER], ids=["paper", "later"])
def test_with_the_same_start_translations_begin_as_reconstructions(tmp_path: Path, options: dict[str, Any]) -> None:
    apart, alike, picture = small(**options), small(**options, same_start=True, ema_decay=0.5), noise(1, 3, 16, 16)
    assert not torch.equal(apart.translate(picture), apart.reconstruct(picture))
    assert torch.equal(alike.translate(picture), alike.reconstruct(picture))
    fit(alike, 1, tmp_path, data=scenes(), precision="32-true")
    assert not torch.equal(alike.translate(picture), alike.reconstruct(picture))  # equal, not tied
    with pytest.raises(ZooError, match=r"1 and 3 channels.*--model\.same_start false"):
        small(source_channels=1, same_start=True)


# 7: sharing ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["paper", "munit_style"])
def test_shared_blocks_stay_one_object_in_training_and_in_checkpoints(tmp_path: Path, variant: Any) -> None:
    model = small(**{**LATER, "variant": variant, "shared_blocks": 1})
    trainer = fit(model, 2, tmp_path, data=scenes(), precision="32-true")
    held = [p for group in trainer.optimizers[0].param_groups for p in group["params"]]
    assert len(held) == len({id(p) for p in held}) == len(list(model.generators.parameters()))
    shared = [model.generators.shared_encoder, model.generators.shared_decoder]
    assert {id(p) for part in shared for p in part.parameters()} <= {id(p) for p in held}
    (checkpoint,) = (tmp_path / "checkpoints").glob("*.ckpt")
    loaded = load_translator(checkpoint)
    assert isinstance(loaded, UNIT)
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), model.state_dict().values(), strict=True)
    )
    for room in (model, loaded):  # the same tensors in both domains: what moves one way moves the other
        picture = noise(1, 3, 16, 16)
        before = room.translate(picture), room.translate(picture, to="source")
        with torch.no_grad():
            next(room.generators.shared_decoder.parameters()).mul_(-2)
        after = room.translate(picture), room.translate(picture, to="source")
        assert not any(torch.equal(*pair) for pair in zip(before, after, strict=True))


# 8: the learning rate ----------------------------------------------------------------------------------------------------------------


def test_learning_rates() -> None:
    rates = [1e-4 * step_decay(100_000, 0.5, iteration) for iteration in (0, 99_998, 99_999, 199_998, 199_999)]
    assert rates == [1e-4, 1e-4, 5e-5, 5e-5, 2.5e-5]
    assert step_decay(0, 0.5, 10**7) == 1


# 9: turns ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, LATER, {"residual_dropout": 0.5}], ids=["paper", "later", "dropout"])
def test_each_player_moves_its_own_networks_alone(tmp_path: Path, options: dict[str, Any]) -> None:
    model, turns = small(**options), []

    def values(network: nn.Module) -> list[Tensor]:
        return [value.clone() for value in network.state_dict().values()]

    def same(network: nn.Module, before: list[Tensor]) -> bool:
        return all(torch.equal(a, b) for a, b in zip(values(network), before, strict=True))

    def watched(update: Any, mine: nn.Module, other: nn.Module) -> Any:
        def watch(*arguments: Tensor) -> None:
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

    generators, discriminators = model.generators, model.discriminators
    model.update_generators = watched(model.update_generators, generators, discriminators)  # type: ignore[method-assign]
    model.update_discriminators = watched(model.update_discriminators, discriminators, generators)  # type: ignore[method-assign]
    fit(model, 1, tmp_path, data=scenes(), precision="32-true")
    assert turns == ["update_discriminators", "update_generators"]


# The terms ---------------------------------------------------------------------------------------------------------------------------


WEIGHTS = {"adversarial": 2.0, "reconstruction": 3.0, "kl": 5.0, "cycle": 7.0, "cycle_kl": 11.0, "perceptual": 13.0}


def test_every_term_has_its_own_weight(tmp_path: Path) -> None:
    weights = {f"lambda_{name}": value for name, value in WEIGHTS.items()}
    (terms,) = terms_of(small(**weights, perceptual="random", perceptual_channels=2), tmp_path)
    total = sum(WEIGHTS[name.rpartition("_")[0]] * terms[name] for name in terms if name.rpartition("_")[0] in WEIGHTS)
    assert terms["generators"] == pytest.approx(total, rel=1e-5)
    judged = terms["discriminator_source"] + terms["discriminator_target"]
    assert terms["discriminators"] == pytest.approx(2 * judged, rel=1e-5)
    assert terms["perceptual_source"] > 0


def test_without_a_cycle_nothing_is_encoded_again(tmp_path: Path) -> None:
    def passes(folder: Path, **options: Any) -> tuple[set[str], int]:
        model, counts = small(**options), Counter[str]()
        model.generators.encoders["source"].register_forward_hook(lambda *_: counts.update(["encoder"]))
        (terms,) = terms_of(model, folder, limit_val_batches=0, num_sanity_val_steps=0)
        return {name for name in terms if name.startswith("cycle")}, counts["encoder"]

    assert passes(tmp_path / "a") == ({"cycle_source", "cycle_target", "cycle_kl_source", "cycle_kl_target"}, 2)
    assert passes(tmp_path / "b", lambda_cycle=0) == ({"cycle_kl_source", "cycle_kl_target"}, 2)
    assert passes(tmp_path / "c", lambda_cycle=0, lambda_cycle_kl=0) == (set(), 1)


def test_the_divergence_is_of_the_noisy_code_or_of_its_mean(tmp_path: Path) -> None:
    (noisy,), (mean,) = (terms_of(small(kl_of=of), tmp_path / of) for of in ("code", "mean"))
    assert noisy["reconstruction_source"] == mean["reconstruction_source"]
    assert noisy["kl_source"] == pytest.approx(
        mean["kl_source"] + 1, abs=0.3
    )  # noise of variance 1, independent of the mean


def test_the_defaults_are_the_papers_weights(tmp_path: Path) -> None:
    (terms,) = terms_of(small(), tmp_path)
    weights = {"adversarial": 10.0, "reconstruction": 100.0, "kl": 0.1, "cycle": 100.0, "cycle_kl": 0.1}
    total = sum(weights[kind] * terms[f"{kind}_{domain}"] for kind in weights for domain in ("source", "target"))
    assert terms["generators"] == pytest.approx(total, rel=1e-5)
    assert terms["discriminators"] == pytest.approx(
        10 * (terms["discriminator_source"] + terms["discriminator_target"]), rel=1e-5
    )


@pytest.mark.parametrize(
    "options",
    [
        {"front_norm": "instance", "residual_dropout": 0.5, "discriminator": "blurred", "discriminator_scales": 2},
        {"discriminator": "shared", "discriminator_layers": 3, "discriminator_shared_layers": 2, "shared_blocks": 2},
        {**LATER, "activation": "prelu", "padding": "replicate", "discriminator_norm": "layer", "ema_decay": 0.9},
        {
            **LATER,
            "adversarial": "bce",
            "shared_blocks": 1,
            "discriminator_norm": "instance",
            "decoder_residual_blocks": 3,
        },
        {"lambda_perceptual": 1.0, "perceptual": "random", "perceptual_channels": 2, "decoder_shared_blocks": 0},
    ],
)
def test_every_variant_trains(tmp_path: Path, options: dict[str, Any]) -> None:
    model = small(**options)
    before = {name: value.clone() for name, value in model.named_parameters() if not name.startswith("ema.")}
    trainer = fit(model, 2, tmp_path, data=scenes(), precision="32-true", val_check_interval=2)
    assert trainer.global_step == 2
    now = dict(model.named_parameters())
    moved = [name for name in before if not torch.equal(before[name], now[name])]
    assert {name.partition(".")[0] for name in moved} == {"generators", "discriminators"}
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert trainer.callback_metrics["val/cycle_psnr_source"] > 0
    assert not any(name.startswith("vgg") for name in model.state_dict())


@pytest.mark.parametrize("options", [{}, LATER], ids=["paper", "later"])
def test_gradients_of_a_mixed_precision_training_are_those_of_the_full_one(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    def gradient(part: nn.Module) -> Tensor:
        assert all(p.grad is not None for p in part.parameters())
        return torch.cat([p.grad.flatten() for p in part.parameters() if p.grad is not None])

    parts = ("generators.encoders", "generators.decoders", "discriminators")
    full, mixed = {}, {}
    for precision, found in (("32-true", full), ("bf16-mixed", mixed)):
        model = small(**{**options, "generator_channels": 8})
        fit(model, 1, tmp_path / precision, data=scenes(size=32), precision=precision)
        found |= {part: gradient(model.get_submodule(part)) for part in parts}
    for part in parts:
        assert torch.cosine_similarity(full[part], mixed[part], 0) > 0.85, part


@pytest.mark.parametrize(
    "options", [{"ema_decay": 0.9}, {**LATER, "shared_blocks": 1}, {"residual_dropout": 0.5}], ids=str
)
def test_a_resumed_training_ends_with_the_same_bits(tmp_path: Path, options: dict[str, Any]) -> None:
    whole = small(**options)
    fit(whole, 4, tmp_path / "whole", data=scenes(), precision="32-true")
    fit(small(**options), 2, tmp_path / "part", data=scenes(), precision="32-true")
    (checkpoint,) = (tmp_path / "part" / "checkpoints").glob("*.ckpt")
    torch.manual_seed(1)
    resumed = UNIT(**{**SMALL, **options})
    fit(resumed, 4, tmp_path / "rest", data=scenes(), precision="32-true", resume=checkpoint)
    ours, theirs = resumed.state_dict(), whole.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_pictures_too_small_for_the_smallest_scale_are_refused(tmp_path: Path) -> None:
    model = small(**{**LATER, "discriminator_layers": 4, "discriminator_scales": 3})
    with pytest.raises(ZooError, match=r"16x16, and these networks need 64 pixels: --data.size 64"):
        fit(model, 1, tmp_path, data=scenes(), precision="32-true")
    logits, _ = model.discriminators(noise(1, 3, 64, 64), noise(1, 3, 64, 64))
    assert logits[-1].shape == (1, 1, 1, 1)
    assert model.translate(noise(1, 3, 8, 8)).shape == (1, 3, 8, 8)


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ZooError, match=r"Of 2 layers 2 can't be shared.*--model.discriminator_shared_layers 1"):
        small(discriminator="shared", discriminator_shared_layers=2)
    with pytest.raises(ZooError, match=r"2 residual blocks and 3 of them.*--model\.shared_blocks 2"):
        small(shared_blocks=3)
    with pytest.raises(ZooError, match=r"1 and 3 channels.*--model\.lambda_perceptual 0"):
        small(source_channels=1, lambda_perceptual=1.0)


def test_a_training_says_which_weights_it_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    assert UNIT.missing({}) == []
    assert UNIT.missing({"lambda_perceptual": 1.0, "perceptual": "random"}) == []
    (sentence,) = UNIT.missing({"lambda_perceptual": 1.0, "perceptual": "vgg16_caffe"})
    assert "vgg16_features-amdegroot" in sentence
    assert "--model.lambda_perceptual 0" in sentence


# Initial weights -----------------------------------------------------------------------------------------------------------------------


def test_initial_weights() -> None:
    torch.manual_seed(0)
    paper = UNIT(generator_channels=8, discriminator_channels=8, discriminator_layers=3)
    later = UNIT(**{**LATER, "generator_channels": 8, "discriminator_channels": 8, "discriminator_layers": 3})
    for name, p in [*paper.named_parameters(), *later.discriminators.named_parameters()]:
        if p.ndim == 4:
            assert abs(p.std().item() / 0.02 - 1) < 5 / (2 * p.numel()) ** 0.5, name
    for name, p in later.generators.named_parameters():
        if p.ndim == 4:
            kaiming = (2 / p[0].numel()) ** 0.5
            assert abs(p.std().item() / kaiming - 1) < 5 / (2 * p.numel()) ** 0.5, name
        elif name.endswith("conv.bias"):
            assert not p.any(), name
    assert not any(p.any() for name, p in later.discriminators.named_parameters() if name.endswith("bias"))
    assert all(p.any() for name, p in paper.named_parameters() if name.endswith("bias"))
