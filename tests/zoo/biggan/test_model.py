"""BigGAN's training and drawing."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.func import functional_call

from datamodules import Scenes
from support.training import fit
from zoo.biggan import BigGAN
from zoo.biggan.sampling import cut_to_uint8, interpolate, standing_statistics, truncated_normal
from zoo.cli.translate import translates
from zoo.errors import ZooError

LOOKS = ("plain", "striped", "dotted")
SMALL: dict[str, Any] = {
    "image_size": 32,
    "classes": 3,
    "generator_channels": 2,
    "discriminator_channels": 2,
    "generator_attention": (16,),
    "discriminator_attention": (),
    "latent_channels": 8,
    "class_channels": 4,
    "discriminator_steps": 2,
    "discriminator_accumulations": 2,
    "generator_accumulations": 2,
    "ema_decay": 0.5,
    "ema_start": 3,
}


def small(**arguments: Any) -> BigGAN:
    torch.manual_seed(0)
    return BigGAN(**{**SMALL, **arguments})


def scenes(batch_size: int = 8) -> Scenes:
    return Scenes(task="domains", domains=LOOKS, size=32, batch_size=batch_size, validation_count=4)


def state_of(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in network.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[key]) for key, value in a.items())


def floats(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """All but PyTorch's counts of batches."""
    return {key: value for key, value in state.items() if value.is_floating_point()}


def codes(model: BigGAN, count: int = 4) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    dtype = next(model.parameters()).dtype
    return torch.randn(count, model.latent_channels).to(dtype), torch.arange(count) % model.classes


class Watch(Callback):
    """Counts passes, and keeps states and terms after each iteration."""

    def __init__(self) -> None:
        self.passes = {"generator": 0, "discriminator": 0}
        self.seen = {"generator": 0, "discriminator": 0}
        self.generators: list[dict[str, Tensor]] = []
        self.averages: list[dict[str, Tensor]] = []
        self.terms: list[dict[str, float]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for name in self.passes:
            pl_module.get_submodule(name).register_forward_hook(
                lambda _, inputs, __, name=name: self._count(name, len(inputs[0]))
            )

    def _count(self, name: str, pictures: int) -> None:
        self.passes[name] += 1
        self.seen[name] += pictures

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        assert isinstance(pl_module, BigGAN)
        self.generators.append(state_of(pl_module.generator))
        if pl_module.ema is not None:
            self.averages.append(state_of(pl_module.ema["generator"]))
        self.terms.append({name: float(value) for name, value in pl_module.terms.latest.items()})


# Training ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separate", [False, True])
def test_an_iteration_is_the_steps_and_accumulations_of_the_paper(tmp_path: Path, separate: bool) -> None:
    model, watch = small(generator_batch=3, separate_passes=separate), Watch()
    trainer = fit(model, 2, tmp_path, data=scenes(), callbacks=[watch], limit_val_batches=0)
    assert trainer.global_step == 2
    # Two steps of two accumulations for the discriminator, two accumulations for the generator.
    assert watch.passes["generator"] == 2 * (4 + 2)
    assert watch.passes["discriminator"] == 2 * (4 * (2 if separate else 1) + 2)
    # The discriminator sees two real pictures and two generated ones at once; the generator's step draws three.
    assert watch.seen["generator"] == 2 * (4 * 2 + 2 * 3)
    assert watch.seen["discriminator"] == 2 * (4 * 4 + 2 * 3)
    assert all(math.isfinite(value) for terms in watch.terms for value in terms.values())


def test_the_average_is_a_copy_until_it_starts_buffers_included(tmp_path: Path) -> None:
    model, watch = small(), Watch()
    fit(model, 3, tmp_path, data=scenes(), callbacks=[watch], limit_val_batches=0)
    for average, generator in zip(watch.averages[:2], watch.generators[:2], strict=True):
        assert equal(floats(average), floats(generator))
    for key, value in floats(watch.averages[2]).items():
        mean = (watch.averages[1][key] + watch.generators[2][key]) / 2
        torch.testing.assert_close(value, mean, rtol=1e-12, atol=1e-14, msg=key)
    assert not equal(watch.averages[2], watch.generators[2])


def test_every_weight_learns(tmp_path: Path) -> None:
    model = small(discriminator_attention=(16,))
    before = state_of(model)
    fit(model, 3, tmp_path, data=scenes(), limit_val_batches=0)  # gamma is 0 at first: behind it nothing moves
    still = [name for name, p in model.named_parameters() if torch.equal(p.detach(), before[name])]
    assert still == []


def test_a_run_that_is_resumed_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole, first, second = small(), small(), small()
    fit(whole, 4, tmp_path / "whole", data=scenes(), limit_val_batches=0)
    fit(first, 2, tmp_path / "parts", data=scenes(), limit_val_batches=0)
    (checkpoint,) = (tmp_path / "parts" / "checkpoints").glob("iteration_00000002.ckpt")
    fit(second, 4, tmp_path / "parts", data=scenes(), resume=checkpoint, limit_val_batches=0)
    assert equal(state_of(whole), state_of(second))


def test_orthogonal_regularisation_turns_rows_apart(tmp_path: Path) -> None:
    """Strong enough, it is all that happens; the classes' codes stay out of it."""

    def penalties(strength: float) -> list[float]:
        watch = Watch()
        model = small(
            initialisation="xavier",
            generator_rate=0.01,
            lambda_orthogonal_generator=strength,
            lambda_orthogonal_discriminator=strength,
        )
        fit(model, 8, tmp_path / str(strength), data=scenes(), callbacks=[watch], limit_val_batches=0)
        return [terms["loss/orthogonal_generator"] for terms in watch.terms]

    strong, weak = penalties(1e3), penalties(1e-9)
    assert strong[-1] < 0.5 * strong[0]
    assert strong[-1] < 0.5 * weak[-1]


@pytest.mark.parametrize("deep", [False, True])
def test_losses_fall(tmp_path: Path, deep: bool) -> None:
    """Against a generator that stands still, the discriminator learns to tell; and the other way round."""

    def terms_of(learner: str) -> list[dict[str, float]]:
        watch, rates = Watch(), {"generator_rate": 0.0, "discriminator_rate": 0.0}
        once = {"discriminator_steps": 1, "discriminator_accumulations": 1, "generator_accumulations": 1}
        widths = {"generator_channels": 4, "discriminator_channels": 2}
        model = small(deep=deep, **widths, **once, **{**rates, f"{learner}_rate": 2e-3})
        fit(model, 15, tmp_path / learner, data=scenes(4), callbacks=[watch], limit_val_batches=0)
        return watch.terms

    told = [terms["loss/discriminator_real"] + terms["loss/discriminator_fake"] for terms in terms_of("discriminator")]
    assert sum(told[-5:]) < 0.5 * sum(told[:5])
    fooled = [terms["loss/generator"] for terms in terms_of("generator")]
    assert sum(fooled[-5:]) < sum(fooled[:5])


def test_bfloat16(tmp_path: Path) -> None:
    watch = Watch()
    model = small(deep=True, generator_channels=4, discriminator_channels=4, adversarial="dcgan")
    fit(model, 2, tmp_path, data=scenes(), callbacks=[watch], precision="bf16-mixed")
    assert all(math.isfinite(value) for terms in watch.terms for value in terms.values())
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_batches_that_cannot_be_divided(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match=r"A batch has 6 pictures.* a multiple of 4: --data.batch_size 8"):
        fit(small(), 1, tmp_path, data=scenes(6), limit_val_batches=0)


@pytest.mark.parametrize("option", ["discriminator_steps", "discriminator_accumulations", "generator_accumulations"])
def test_nothing_is_done_no_times(option: str) -> None:
    with pytest.raises(ZooError, match=f"{option} is 0"):
        small(**{option: 0})


def test_validation_scores_unseen_pictures_and_moves_nothing(tmp_path: Path) -> None:
    model = small(discriminator_rate=0.0, generator_rate=0.0)
    trainer = fit(model, 1, tmp_path, data=scenes(), val_check_interval=1, check_val_every_n_epoch=None)
    assert {"val/logit_real", "val/logit_fake"} <= trainer.callback_metrics.keys()
    before, tape = state_of(model), model.draws._counts.copy()
    model.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    model.validation_step({"image": torch.zeros(2, 3, 32, 32).double(), "domain": torch.tensor([0, 2])}, 0)
    assert equal(state_of(model), before)
    assert model.draws._counts == tape


# Drawing -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ema_decay", [0.0, 0.5])
def test_pictures_follow_from_codes_and_classes_alone(ema_decay: float) -> None:
    model = small(ema_decay=ema_decay).double().train()
    latent, label = codes(model, 5)
    before = state_of(model)
    pictures = model.generate(latent, label, truncation=0.5)
    assert pictures.shape == (5, 3, 32, 32)
    assert pictures.abs().max() <= 1
    assert torch.equal(pictures, model.generate(latent, label, truncation=0.5))
    turned = model.generate(latent.flip(0)[:3], label.flip(0)[:3], truncation=0.5)
    torch.testing.assert_close(turned, pictures.flip(0)[:3], rtol=0, atol=1e-10)
    assert torch.equal(pictures, model.generate(0.5 * latent, label))
    assert equal(state_of(model), before)
    assert model.training
    assert not pictures.requires_grad


def test_pictures_are_drawn_with_the_average() -> None:
    model = small()
    latent, label = codes(model)
    before = model.generate(latent, label)
    nn.init.zeros_(model.generator.linear.bias)
    assert torch.equal(model.generate(latent, label), before)
    assert model.ema is not None
    nn.init.zeros_(model.ema["generator"].linear.bias)
    assert not torch.equal(model.generate(latent, label), before)


def test_standing_statistics_belong_to_their_truncation() -> None:
    model = small()
    latent, label = codes(model)
    running = model.generate(latent, label)
    before = state_of(model)
    model.fit_statistics(0.5, passes=3, batch_size=4)
    model.fit_statistics(1.0, passes=3, batch_size=4)
    assert equal(state_of(model), before)
    fitted = model.generate(latent, label)
    assert not torch.allclose(fitted, running)
    again = small()
    again.fit_statistics(1.0, passes=3, batch_size=4)
    assert torch.equal(again.generate(latent, label), fitted)
    again.fit_statistics(1.0, passes=3, batch_size=4, seed=1)
    assert not torch.equal(again.generate(latent, label), fitted)
    again.fit_statistics(1.0, passes=3, batch_size=4, bound=None)
    assert not torch.equal(again.generate(latent, label), fitted)
    with pytest.raises(
        ZooError, match=r"statistics for the truncations 0.5, 1.0, none for 0.7: call fit_statistics\(0.7\)"
    ):
        model.generate(latent, label, truncation=0.7)


def test_statistics_of_one_pass_normalise_as_that_pass_did() -> None:
    model = small().double()
    latent, label = codes(model)
    generator = model.generator
    trained = copy.deepcopy(generator).train()(latent, label)
    buffers = standing_statistics(copy.deepcopy(generator), [(latent, label)])
    del buffers["output_layer.0.num_batches_tracked"]
    vectors = {key: value for key, value in generator.named_buffers() if key.endswith(".u")}
    torch.testing.assert_close(functional_call(generator.eval(), {**buffers, **vectors}, (latent, label)), trained)
    with pytest.raises(ValueError, match="need one pass or more"):
        standing_statistics(generator, [])


def test_a_training_forgets_statistics(tmp_path: Path) -> None:
    model = small()
    model.fit_statistics(passes=1, batch_size=2)
    fit(model, 1, tmp_path, data=scenes(), limit_val_batches=0)
    assert model.statistics == {}


def test_codes_of_another_length_are_refused() -> None:
    with pytest.raises(ZooError, match=r"have the shape \(2, 9\), expected was \(b, 8\)"):
        small().generate(torch.zeros(2, 9), torch.zeros(2, dtype=torch.int64))


def test_it_translates_nothing_and_no_command_says_it_does() -> None:
    assert not translates(small())
    with pytest.raises(ZooError, match=r"translates none\. Draw some: lightning generate pairs"):
        small().translate_batch({"image": torch.zeros(1, 3, 32, 32)})


def test_a_sample_grid_shows_a_code_in_every_class() -> None:
    model = small()
    columns = model.samples({"image": torch.zeros(2, 3, 32, 32), "domain": torch.tensor([0, 1])})
    assert list(columns) == ["data", "class 0", "class 1", "class 2"]
    assert len({tuple(column.shape) for column in columns.values()}) == 1
    assert not torch.equal(columns["class 0"], columns["class 1"])
    many = small(classes=1000)
    shown = [name for name in many.samples({"image": torch.zeros(1, 3, 32, 32)}) if name != "data"]
    assert shown == [f"class {number}" for number in (0, 166, 333, 500, 666, 833)]


def test_truncated_normal_numbers() -> None:
    numbers = truncated_normal(torch.linspace(0, 1, 100_001).double(), 2.0)
    assert numbers.abs().max() == 2
    assert numbers.diff().min() >= 0
    torch.testing.assert_close(numbers[50_000], torch.zeros(()).double(), rtol=0, atol=1e-12)
    # The variance of a normal number within two deviations.
    density = math.exp(-2) / math.sqrt(2 * math.pi)
    assert float(numbers.var()) == pytest.approx(1 - 4 * density / math.erf(math.sqrt(2)), rel=1e-3)
    wide = truncated_normal(torch.tensor([0.0, 1.0]).double(), 8.0)
    assert wide.tolist() == pytest.approx([-8, 8])


def test_codes_between_two() -> None:
    between = interpolate(torch.zeros(2, 3), torch.ones(2, 3), 3)
    assert between.shape == (2, 5, 3)
    assert between[0, :, 0].tolist() == [0, 0.25, 0.5, 0.75, 1]


def test_exported_pictures_are_cut_off() -> None:
    image = torch.tensor([-1.0, 1.0, 2 * 99.9 / 255 - 1])
    assert cut_to_uint8(image).tolist() == [0, 255, 99]
