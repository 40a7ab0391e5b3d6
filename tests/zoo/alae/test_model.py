"""StyleALAE: who learns from what, growing, resuming, and what is done with codes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from datamodules import Scenes
from support.commands import assert_equal
from support.training import fit
from zoo.alae import StyleALAE
from zoo.alae.editing import attribute_values, mixed, style_range
from zoo.alae.mlp import MLPALAE
from zoo.alae.model import parse_changes
from zoo.alae.optimizer import LREQAdam, equalised_groups
from zoo.callbacks import GrowResolution
from zoo.core.checkpoints import read_checkpoint
from zoo.core.loading import load_translator
from zoo.errors import ZooError

SMALL: dict[str, Any] = {
    "start_channels": 2,
    "most_channels": 4,
    "levels": 3,
    "latent_channels": 6,
    "mapping_layers": 2,
    "least_variance": 1e-8,
    "epochs_per_level": 2,
    "images_per_epoch": 8,
    "level_rates": (0.002, 0.001),
    "level_batches": (4, 2),
    "ema_half_life": 20.0,
}
PARTS = ("encoder", "critic", "mapping", "generator")


def small(**arguments: Any) -> StyleALAE:
    torch.manual_seed(0)
    return StyleALAE(**{**SMALL, **arguments})


def grown(**arguments: Any) -> StyleALAE:
    """A model at its largest size."""
    return small(**{"epochs_per_level": 0, **arguments}).eval()


def scenes() -> Scenes:
    return Scenes(task="alone", domains=("plain",), size=16, batch_size=2, validation_count=2)


def pictures(count: int = 2, side: int = 16, seed: int = 3) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def train(folder: Path, iterations: int, resume: Path | None = None, *more: Callback, **arguments: Any) -> StyleALAE:
    model = small(**arguments)
    callbacks = [GrowResolution(), *more]
    fit(model, iterations, folder, data=scenes(), every=1, resume=resume, callbacks=callbacks, limit_val_batches=0)
    return model


class Notes(Callback):
    """What each iteration was trained on."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, float, float, tuple[int, ...], int]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Mapping[str, Tensor], batch_idx: int
    ) -> None:
        assert isinstance(pl_module, StyleALAE)
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        steps = max((state["step"] for state in trainer.optimizers[0].state.values()), default=0)
        shape = tuple(batch["image"].shape)
        self.seen.append((pl_module.stage, round(pl_module.blend, 6), rate, shape, steps))


# Training ------------------------------------------------------------------------------------------------------------


def test_level_blend_rate_and_batch_follow_the_iteration(tmp_path: Path) -> None:
    notes = Notes()
    train(tmp_path, 15, None, notes)
    # 2 epochs of 8 pictures: 4 iterations of 4 at level 0, 8 of 2 at level 1, then level 2. The first epoch blends.
    assert [level for level, *_ in notes.seen] == [0] * 4 + [1] * 8 + [2] * 3
    blends = [blend for _, blend, *_ in notes.seen]
    assert blends[:4] == [1.0] * 4
    assert blends[4:12] == [0.0, 0.146447, 0.5, 0.853553, 1.0, 1.0, 1.0, 1.0]
    assert blends[12] == 0.0
    assert [rate for *_, rate, _, _ in notes.seen] == [0.002] * 4 + [0.001] * 11
    assert [shape for *_, shape, _ in notes.seen] == [(4, 3, 4, 4)] * 4 + [(2, 3, 8, 8)] * 8 + [(2, 3, 16, 16)] * 3
    # The judges' optimiser steps twice per iteration, and forgets its state when a level begins.
    assert [steps for *_, steps in notes.seen] == [2, 4, 6, 8, *range(2, 18, 2), 2, 4, 6]


@pytest.mark.parametrize("killed_after", [3, 4, 6, 12], ids=["before", "switch", "inside the blend", "second switch"])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path, killed_after: int) -> None:
    whole = train(tmp_path / "whole", 14)
    part = train(tmp_path / "part", killed_after)
    checkpoint = tmp_path / "part" / "checkpoints" / f"iteration_{killed_after:08d}.ckpt"
    assert checkpoint.is_file()
    resumed = train(tmp_path / "resumed", 14, checkpoint)
    assert part.stage <= resumed.stage == whole.stage == 2
    assert_equal(dict(resumed.state_dict()), dict(whole.state_dict()))
    states = [
        read_checkpoint(tmp_path / name / "checkpoints" / "iteration_00000014.ckpt") for name in ("whole", "resumed")
    ]
    assert_equal(states[1]["optimizer_states"], states[0]["optimizer_states"])
    assert states[0]["zoo"] == states[1]["zoo"]


def test_a_checkpoint_inside_a_blend_is_inferred_with_that_blend(tmp_path: Path) -> None:
    trained = train(tmp_path, 7)
    loaded = load_translator(tmp_path / "checkpoints" / "iteration_00000007.ckpt")
    assert isinstance(loaded, StyleALAE)
    assert (loaded.stage, loaded.blend) == (1, trained.blend)
    assert 0 < trained.blend < 1
    trained.float()
    assert torch.equal(loaded.translate(pictures(), noise="off"), trained.translate(pictures(), noise="off"))


def gradients_of(model: StyleALAE | MLPALAE, loss: Tensor) -> set[str]:
    """Networks that a loss moves."""
    model.zero_grad()
    loss.backward()
    return {part for part in PARTS if any(p.grad is not None for p in model.get_submodule(part).parameters())}


@pytest.mark.parametrize("regress", ["w", "z"])
def test_who_learns_from_which_loss(regress: str) -> None:
    model = grown(regress=regress).train()
    terms = model.judges_terms(pictures())
    assert gradients_of(model, terms["critic"] + terms["r1"]) == {"encoder", "critic"}
    assert gradients_of(model, model.latent_terms(2)) == {"encoder", "generator", "mapping"}
    model.encoder.requires_grad_(False)
    assert "encoder" not in gradients_of(model, model.makers_loss(2))


def test_a_turn_moves_its_own_players_alone(tmp_path: Path) -> None:
    moved: list[set[str]] = []

    class Look(StyleALAE):
        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
            image = self.real(batch["image"])
            for turn in (lambda: self.update_judges(image), lambda: self.update_makers(2), lambda: self.update_both(2)):
                before = {name: p.detach().clone() for name, p in self.named_parameters() if name.startswith(PARTS)}
                turn()
                after = dict(self.named_parameters())
                moved.append({n.partition(".")[0] for n, p in before.items() if not torch.equal(p, after[n])})

    model = Look(**{**SMALL, "epochs_per_level": 0})
    fit(model, 1, tmp_path, data=scenes(), callbacks=[GrowResolution()], limit_val_batches=0)
    assert moved == [{"encoder", "critic"}, {"generator", "mapping"}, {"encoder", "generator", "mapping"}]


def test_zeros_in_the_place_of_absent_gradients_count_as_steps(tmp_path: Path) -> None:
    for zeros, wanted in ((False, 3), (True, 6)):
        model = small(epochs_per_level=0, zero_absent_gradients=zeros)
        trainer = fit(model, 3, tmp_path / str(zeros), data=scenes(), callbacks=[GrowResolution()], limit_val_batches=0)
        states = trainer.optimizers[0].state
        assert {states[parameter]["step"] for parameter in model.critic.parameters()} == {wanted}


@pytest.mark.parametrize("zeros", [False, True])
def test_levels_that_are_not_in_use_step_with_zeros_too_and_stay(tmp_path: Path, zeros: bool) -> None:
    """As with the PyTorch of the paper's time, also behind a switch, at which optimisers forget, and behind a resume."""
    before = train(tmp_path / "before", 12, zero_absent_gradients=zeros)
    checkpoint = tmp_path / "before" / "checkpoints" / "iteration_00000012.ckpt"
    model = train(tmp_path / "after", 14, checkpoint, zero_absent_gradients=zeros)
    layer, old = model.encoder.from_rgb[2], before.encoder.from_rgb[2]  # of level 0, and this is level 2
    state = model.trainer.optimizers[0].state
    assert state[layer.weight].get("step") == (2 * 2 if zeros else None)
    assert torch.equal(layer.weight, old.weight)


def test_constant_pictures_never_write_nan_in_silence(tmp_path: Path) -> None:
    """Without the guard a run stops with a sentence; with it numbers stay finite."""

    class Black(Scenes):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return {"image": torch.full_like(super().on_after_batch_transfer(batch, dataloader_idx)["image"], -1.0)}

    def black() -> Scenes:
        return Black(task="alone", domains=("plain",), size=16, batch_size=2, validation_count=2)

    unguarded = small(epochs_per_level=0, least_variance=0.0)
    for layer in unguarded.encoder.from_rgb:
        nn.init.constant_(layer.weight, -0.5)
        nn.init.zeros_(layer.bias)
    for block in unguarded.encoder.blocks:
        nn.init.zeros_(block.conv_1.weight)
    options: dict[str, Any] = {"callbacks": [GrowResolution()], "limit_val_batches": 0}
    guarded = small(epochs_per_level=0)
    guarded.load_state_dict(unguarded.state_dict())
    with pytest.raises(ZooError, match="not finite"):
        fit(unguarded, 3, tmp_path / "unguarded", data=black(), **options)
    fit(guarded, 3, tmp_path / "guarded", data=black(), **options)
    assert all(bool(torch.isfinite(p).all()) for p in guarded.parameters())


def test_a_model_that_nobody_lets_grow_says_so(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match=r"GrowResolution in trainer.callbacks, or train the largest size"):
        fit(small(), 1, tmp_path, data=scenes())


def test_moving_averages_start_apart_or_as_copies() -> None:
    for start, same in (("independent", False), ("copy", True)):
        model = small(ema_start=start)
        assert model.ema is not None
        weights = model.encoder.blocks[0].conv_1.weight, model.ema["encoder"].blocks[0].conv_1.weight
        assert torch.equal(*weights) is same
    assert small(ema_half_life=0).ema is None


def test_half_of_the_old_weights_are_forgotten_after_the_half_life() -> None:
    model = small(ema_start="copy", ema_half_life=10_000.0)
    assert model.ema is not None
    layer, average = model.mapping.layers[0], model.ema["mapping"].layers[0]
    before = average.weight.clone()
    layer.weight.data.add_(1.0)
    model.ema.update(0, 512)
    kept = 0.5**0.0512  # the official share for a global batch of 512
    torch.testing.assert_close(average.weight, kept * before + (1 - kept) * layer.weight.detach())


def test_steps_are_scaled_by_parameter() -> None:
    model = small()
    groups = equalised_groups([model.generator, model.mapping])
    factors = {id(p): group["factor"] for group in groups for p in group["params"]}
    assert len(factors) == len(list(model.generator.parameters())) + len(list(model.mapping.parameters()))
    assert factors[id(model.generator.constant)] == 1
    layer = model.mapping.layers[0]
    assert factors[id(layer.weight)] == layer.weight_rate
    assert factors[id(layer.bias)] == 0.1
    optimizer = LREQAdam(groups, 0.01)
    before = layer.bias.detach().clone()
    layer.bias.grad = torch.full_like(before, 5.0)
    optimizer.step()
    torch.testing.assert_close(
        before - layer.bias, torch.full_like(before, 0.01 * 0.1)
    )  # the first step is lr * factor
    loss = optimizer.step(lambda: 2.0)
    assert loss == 2.0


# Inference -----------------------------------------------------------------------------------------------------------


def test_inference_leaves_the_model_alone() -> None:
    model = grown().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = model.generate(torch.randn(2, 6), mix=True)
    assert first.shape == (2, 3, 16, 16)
    model.reconstruct(pictures())
    assert_equal(dict(model.state_dict()), before)
    assert model.training


def test_noise_is_an_argument() -> None:
    model = grown(ema_half_life=0)
    for block in model.generator.blocks:
        nn.init.ones_(block.noise_weight_1)
        nn.init.ones_(block.noise_weight_2)
    image = pictures(1).expand(2, -1, -1, -1)
    same = model.reconstruct(image, noise="same")
    torch.testing.assert_close(same[0], same[1])
    different = model.reconstruct(image)
    assert not torch.allclose(different[0], different[1])
    assert torch.equal(different, model.reconstruct(image))  # the same draws at every call
    maps = model.noise_maps(2)
    assert [tuple(m.shape) for m in maps] == [
        (1, 1, 4, 4),
        (2, 1, 4, 4),
        *[(2, 1, 8, 8)] * 2,
        *[(2, 1, 16, 16)] * 2,
    ]
    assert not torch.allclose(model.reconstruct(image, noise=maps), different)
    assert model.translate(image, noise="off").shape == image.shape
    with pytest.raises(ZooError, match="3 maps of noise, and this level needs 6"):
        model.reconstruct(image, noise=maps[:3])
    with pytest.raises(ZooError, match="'random', 'same', 'off'"):
        model.reconstruct(image, noise="none")  # type: ignore[arg-type]


def test_mixing_none_or_all_styles() -> None:
    model = grown()
    image, other = pictures(seed=1), pictures(seed=2)
    styles, others = model.spread(model.encode(image)), model.spread(model.encode(other))
    torch.testing.assert_close(model.decode(mixed(styles, others, 2, 2)), model.reconstruct(image))
    torch.testing.assert_close(model.decode(mixed(styles, others, 0)), model.reconstruct(other))
    torch.testing.assert_close(model.mix(image, image, "coarse"), model.reconstruct(image))
    assert torch.equal(model.translate(image, reference=other), model.mix(image, other, "fine").clamp(-1, 1))
    coarse = model.translate(image, to="coarse", reference=other[:1])
    assert torch.equal(coarse, model.mix(image, other[:1], "coarse").clamp(-1, 1))
    assert not torch.allclose(model.mix(image, other, "fine"), model.reconstruct(image))
    assert [style_range(part, 18) for part in ("coarse", "middle", "fine")] == [(0, 4), (4, 8), (8, 18)]
    assert [style_range(part, 6) for part in ("coarse", "middle", "fine")] == [(0, 2), (2, 4), (4, 6)]
    with pytest.raises(ZooError, match="'coarse', 'middle' or 'fine'"):
        style_range("finest", 18)


def test_a_square_of_codes_has_its_pictures_at_the_corners() -> None:
    model = grown()
    corners = pictures(4)
    square = model.interpolate(corners, 3, noise="same")
    assert square.shape == (3, 3, 3, 16, 16)
    ends = model.reconstruct(corners, noise="same")
    torch.testing.assert_close(torch.stack([square[0, 0], square[0, 2], square[2, 0], square[2, 2]]), ends)
    with pytest.raises(ZooError, match="four corners"):
        model.interpolate(corners[:3])


def test_edits_change_what_is_asked_for() -> None:
    model = grown()
    directions = torch.linalg.qr(torch.randn(6, 2, generator=torch.Generator().manual_seed(0))).Q.T
    model.directions = {"hue": directions[0], "size": 2 * directions[1]}
    image = pictures()
    code = model.encode(image)
    same = model.edit_codes(code, {})
    torch.testing.assert_close(same, model.spread(code))
    moved = model.edit_codes(code, {"hue": 1.5})[:, 0]
    torch.testing.assert_close(moved - code, 1.5 * directions[0].expand_as(code))
    for changes, kept in (("reconstruction", True), ("hue+1.5", False), ("hue=0.5,size-1", False)):
        result = model.translate(image, to=changes)
        assert result.abs().max() <= 1
        assert torch.equal(result, model.translate(image)) is kept
    exact = model.edit_codes(code, {"hue": 0.25}, absolute=True)[:, 0]
    values = attribute_values(exact, model.average_latent[0], directions[:1])
    torch.testing.assert_close(values, torch.full_like(values, 0.25))
    kept_styles = model.edit_codes(code, {"hue": 1.0}, below=4)
    assert torch.equal(kept_styles[:, 4:], model.spread(code)[:, 4:])
    with pytest.raises(ZooError, match="no direction 'age'; known: hue, size"):
        model.edit(image, {"age": 1.0})
    with pytest.raises(ZooError, match="'hue' says no change"):
        model.translate(image, to="hue")
    assert parse_changes("hue-2.5", {}) == [("hue", -2.5, False)]


def test_a_training_forgets_directions_of_other_weights(tmp_path: Path) -> None:
    model = small(epochs_per_level=0)
    model.directions = {"hue": torch.arange(6.0)}
    fit(model, 1, tmp_path, data=scenes(), every=1, callbacks=[GrowResolution()], limit_val_batches=0)
    loaded = load_translator(tmp_path)
    assert isinstance(loaded, StyleALAE)
    assert loaded.directions == {}


def test_truncation_ends_at_the_average() -> None:
    model = grown()
    model.average_latent.normal_(generator=torch.Generator().manual_seed(1))
    latent = torch.randn(2, 6)
    none = model.generate(latent, truncation=1.0, noise="same")
    all_styles = model.generate(latent, truncation=0.0, cutoff=6, noise="same")
    torch.testing.assert_close(all_styles[0], all_styles[1])
    assert not torch.allclose(none[0], none[1])


def test_pictures_of_any_size_are_brought_to_the_level() -> None:
    model = grown()
    for shape in ((16, 16), (64, 64), (50, 40), (9, 9)):
        assert model.translate(torch.zeros(1, 3, *shape).uniform_(-1, 1)).shape == (1, 3, 16, 16)
    image = pictures(side=64)
    torch.testing.assert_close(model.at_level(image), nn.functional.avg_pool2d(image, 4))


def test_looking_at_a_model(tmp_path: Path) -> None:
    model = small(epochs_per_level=0)
    trainer = fit(model, 1, tmp_path, data=scenes(), callbacks=[GrowResolution()], num_sanity_val_steps=0)
    figures = trainer.validate(model, scenes(), verbose=False)[0]
    assert figures.keys() == {"val/reconstruction_psnr", "val/latent_distance"}
    columns = model.samples({"image": pictures(3).double()})
    assert {tuple(column.shape) for column in columns.values()} == {(3, 3, 16, 16)}


# Perceptrons ---------------------------------------------------------------------------------------------------------


def test_digits_are_encoded_and_painted() -> None:
    model = MLPALAE(image_size=8, hidden=6, latent_channels=4, mapping_layers=1)
    image = torch.rand(3, 1, 8, 8) * 2 - 1
    assert model.encode(image).shape == (3, 4)
    assert {name: tuple(value.shape) for name, value in model.features(image).items()} == {
        "short": (3, 4),
        "long": (3, 6),
    }
    assert torch.equal(model.features(image)["short"], model.encode(image))
    torch.testing.assert_close(model.unflat(model.flat(image)), image)
    assert model.translate(image.expand(-1, 3, -1, -1)).shape == image.shape
    assert model.generate(torch.randn(2, 4)).shape == (2, 1, 8, 8)
    assert set(model.samples({"image": image})) == {"image", "reconstruction", "drawn"}
    with pytest.raises(ZooError, match="'reconstruction'"):
        model.translate(image, to="hue+1")
    with pytest.raises(ZooError, match=r"--data.channels 1"):
        model.encode(image.expand(-1, 3, -1, -1))
