"""GP-UNIT's second stage: what the golden files don't say."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from datamodules import Scenes
from support import training
from zoo.core.checkpoints import read_checkpoint
from zoo.errors import ZooError
from zoo.experts.vgg import VGGFeatures
from zoo.gpunit import GPUNIT, model
from zoo.gpunit.model import mask_loss, style_loss

SMALL: dict[str, Any] = {
    "image_size": 64,
    "content_channels": 2,
    "generator_channels": 2,
    "style_channels": 6,
    "style_width": 4,
    "bottleneck": 4,
    "discriminator_channels": 2,
    "discriminator_max_channels": 4,
    "content_encoder": "random",
    "perceptual": None,
    "latent_channels": 5,
}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pictures(count: int, seed: int = 0) -> Tensor:
    return normal(count, 3, 64, 64, seed=seed).tanh()


def fit(room: GPUNIT, iterations: int, folder: Path, **options: Any) -> Trainer:
    """Train on scenes; nothing is validated unless it is asked for."""
    options = {"data": Scenes(size=64, batch_size=2, validation_count=4), "limit_val_batches": 0, **options}
    return training.fit(room, iterations, folder, **options)


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(before: dict[str, Tensor], module: nn.Module) -> set[str]:
    return {name for name, value in module.state_dict().items() if not torch.equal(before[name], value)}


class Watched(GPUNIT):
    """Notes what each player's turn changes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.moved: list[set[str]] = []

    def update_generator(self, *arguments: Any) -> None:
        before = state_of(self)
        super().update_generator(*arguments)
        self.moved.append(changed(before, self))

    def update_discriminator(self, *arguments: Any) -> None:
        before = state_of(self)
        super().update_discriminator(*arguments)
        self.moved.append(changed(before, self))


def test_each_turn_moves_one_player_and_spectral_norms(tmp_path: Path) -> None:
    torch.manual_seed(0)
    room = Watched(
        **{**SMALL, "style_width": 16, "bottleneck": 16, "style_channels": 16}
    )  # no layer of which all is zero
    fit(room, 1, tmp_path)
    generator, discriminator = room.moved
    vectors = {name for name, _ in room.named_buffers() if name.endswith((".u", ".v"))}
    last = len(room.generator.model) - 1
    unused = tuple(f"generator.model.{level}.rgblayer" for level in range(last))
    learnt = {f"generator.{name}" for name, _ in room.generator.named_parameters()}
    assert generator - vectors == {name for name in learnt if not name.startswith(unused)}
    judged = {f"discriminator.{name}" for name, _ in room.discriminator.named_parameters()}
    assert discriminator - vectors == judged
    assert all(name.startswith(("discriminator.", "content_encoder.")) for name in vectors)


def test_the_content_encoder_keeps_its_weights_and_moves_its_spectral_norms(tmp_path: Path) -> None:
    room = GPUNIT(**SMALL)
    before = state_of(room.content_encoder)
    fit(room, 2, tmp_path)
    moved = changed(before, room.content_encoder)
    vectors = {name for name, _ in room.content_encoder.named_buffers()}
    assert moved <= vectors
    assert len(moved) >= len(vectors) - 1  # the vector of the single output is 1 or -1
    assert room.content_encoder.training


def test_nothing_is_computed_twice(tmp_path: Path) -> None:
    room, counts = GPUNIT(**SMALL), Counter[str]()
    watched = {
        "content encoder": room.content_encoder,
        "generator": room.generator,
        "style encoder": room.generator.style_encoder,
        "coarse colours": room.generator.level(0).rgblayer,
        "content norm": room.content_encoder.layers[0][0].conv.parametrizations["weight"][0],
        "first norm": room.discriminator.model[0].parametrizations["weight"][0],
        "last norm": room.discriminator.linear.parametrizations["weight"][0],
    }
    for name, module in watched.items():
        module.register_forward_hook(lambda *_, name=name: counts.update([name]))
    fit(room, 1, tmp_path)
    # Translation, reconstruction, and the translation by the moved generator; its discriminator judges once in either turn.
    assert counts == {
        "content encoder": 3,
        "generator": 3,
        "style encoder": 2,
        "content norm": 3,
        "first norm": 2,
        "last norm": 2,
    }


def test_no_gradients_but_the_players_own_are_computed(tmp_path: Path) -> None:
    class Looking(GPUNIT):
        def update_generator(self, *arguments: Any) -> None:
            super().update_generator(*arguments)
            assert all(p.grad is None for p in self.discriminator.parameters())

        def update_discriminator(self, *arguments: Any) -> None:
            super().update_discriminator(*arguments)
            assert all(p.grad is not None for p in self.discriminator.parameters())
            assert all(p.grad is None for p in self.content_encoder.parameters())

    fit(Looking(**SMALL), 1, tmp_path)


@pytest.mark.parametrize("style_flip", [True, False])
def test_the_mirror_is_drawn_where_it_is_on(style_flip: bool, tmp_path: Path) -> None:
    room, drawn = GPUNIT(**SMALL, style_flip=style_flip), []
    uniform = room.draws.uniform

    def listen(name: str, shape: Sequence[int], **options: Any) -> Tensor:
        drawn.append(name)
        return uniform(name, shape, **options)

    room.draws.uniform = listen  # type: ignore[method-assign]
    fit(room, 2, tmp_path)
    assert drawn == (["style_flip"] * 2 if style_flip else [])


def test_a_whole_batch_is_mirrored_or_none() -> None:
    room, image = GPUNIT(**SMALL), pictures(3)
    seen = set()
    for value in (0.0, 0.49, 0.5, 0.99):
        room.draws.replay({0: [("style_flip", torch.tensor([value]))]})
        mirrored = room.mirrored(image)
        seen.add(value)
        assert torch.equal(mirrored, image.flip(3) if value >= 0.5 else image)
    assert len(seen) == 4


def test_the_discriminator_sees_the_moved_generator_in_bfloat16_too(tmp_path: Path) -> None:
    room = GPUNIT(**SMALL, style_flip=False, learning_rate=0.05)
    judged: list[Tensor] = []
    encoded: list[list[Tensor]] = []
    room.discriminator.register_forward_hook(lambda _, inputs, __: judged.append(inputs[0].detach()))
    room.content_encoder.register_forward_hook(lambda _, __, output: encoded.append(output))
    exemplars: list[Tensor] = []
    room.generator.style_encoder.register_forward_hook(lambda _, inputs, __: exemplars.append(inputs[0]))
    fit(room, 1, tmp_path, precision="bf16-mixed")
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        again, _ = room.generator(encoded[0], room.generator.encode_style(exemplars[0]))
    before, after = judged
    assert after.dtype == torch.float32  # the penalty is computed in full precision, and both passes alike
    torch.testing.assert_close(after, again.float())
    assert (before.float() - after).abs().max() > 0.01


def test_style_may_be_compared_after_several_layers(tmp_path: Path) -> None:
    several, terms = GPUNIT(**SMALL, style_layer=[2, 4]), []
    several.log_terms = lambda given, *_: terms.append(dict(given))  # type: ignore[method-assign]
    fit(several, 1, tmp_path)
    assert terms[0]["style"] > 0
    styles, wanted = [normal(2, 4), normal(2, 8)], [normal(2, 4, seed=1), normal(2, 8, seed=1)]
    alone = [style_loss([style], [other]) for style, other in zip(styles, wanted, strict=True)]
    torch.testing.assert_close(style_loss(styles, wanted), alone[0] + alone[1])
    torch.testing.assert_close(
        mask_loss([torch.full((2, 3, 4, 4), 0.25), torch.full((2, 2, 8, 8), 0.5)]), torch.tensor(0.75)
    )
    with pytest.raises(ZooError, match="layers 1 to 8"):
        GPUNIT(**SMALL, style_layer=[4, 9])


def test_the_terms_have_names_that_stay(tmp_path: Path) -> None:
    room = GPUNIT(**{**SMALL, "perceptual": "random", "perceptual_channels": 2})
    fit(room, 1, tmp_path)
    names = {
        "adversarial",
        "content",
        "style",
        "mask",
        "reconstruction",
        "perceptual",
        "generator",
        "discriminator",
        "r1",
    }
    assert set(room.terms.latest) == {f"loss/{name}" for name in names} | {"accuracy/discriminator"}
    latest = {name.removeprefix("loss/"): float(value) for name, value in room.terms.latest.items()}
    total = latest["adversarial"] + latest["content"] + 50 * latest["style"] + latest["mask"]
    assert latest["generator"] == pytest.approx(total + latest["reconstruction"] + latest["perceptual"])


def test_a_reconstruction_uses_skips_where_asked_to(tmp_path: Path) -> None:
    counts = {}
    for all_skip in (False, True):
        room, calls = GPUNIT(**SMALL, all_skip=all_skip), list[int]()
        skip = room.generator.level(1).skiplayer
        assert skip is not None
        skip.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        fit(room, 1, tmp_path)
        counts[all_skip] = len(calls)
    assert counts == {False: 2, True: 3}


def test_a_checkpoint_holds_the_encoder_and_no_expert_and_needs_no_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = GPUNIT(**SMALL).content_encoder
    file = tmp_path / "encoder.pt"
    torch.save(encoder.state_dict(), file)
    options = {**SMALL, "content_encoder": str(file), "perceptual": "random", "perceptual_channels": 2}
    torch.manual_seed(1)
    room = GPUNIT(**options)
    fit(room, 1, tmp_path)
    weights = dict(encoder.named_parameters())
    for name, value in room.content_encoder.named_parameters():
        torch.testing.assert_close(value.float(), weights[name], msg=name)
    assert isinstance(room.vgg, VGGFeatures)
    path = tmp_path / "checkpoints" / "iteration_00000001.ckpt"
    kept = read_checkpoint(path)["state_dict"]
    assert not any(name.startswith(("vgg.", "faces.")) for name in kept)
    assert any(name.startswith("content_encoder.") for name in kept)
    file.unlink()
    fit(GPUNIT(**options), 2, tmp_path, resume=path)
    inference = GPUNIT(**options).double()
    inference.load_state_dict(kept)
    assert inference.eval().translate(pictures(1).double(), reference=pictures(1).double()).shape == (1, 3, 64, 64)


def test_what_is_missing_is_told_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "missing_weights", lambda source, option="": [f"{source} {option}".strip()])
    assert GPUNIT.missing({}) == ["content_encoder --model.content_encoder", "vgg19"]
    assert GPUNIT.missing({}, resumed=True) == ["vgg19"]
    needy = {"content_encoder": "runs/a", "perceptual": None, "lambda_identity": 1.0}
    assert GPUNIT.missing(needy) == ["runs/a --model.content_encoder", "model_ir_se50"]
    assert GPUNIT.missing(SMALL) == []


def test_translation_by_exemplars() -> None:
    torch.manual_seed(0)
    room = GPUNIT(**SMALL).double().train()
    images, exemplars, before = pictures(3).double(), pictures(3, seed=1).double(), state_of(room)
    each = room.translate(images, reference=exemplars)
    assert each.shape == (3, 3, 64, 64)
    assert each.abs().max() <= 1
    torch.testing.assert_close(room.translate_batch({"source": images, "target": exemplars}), each)
    for number in range(3):
        one = slice(number, number + 1)
        torch.testing.assert_close(room.translate(images[one], reference=exemplars)[one], each[one])
        torch.testing.assert_close(room.translate(images, reference=exemplars[one])[one], each[one])
    loose = room.translate(images, reference=exemplars, correspondence=0.0)
    assert not torch.equal(loose, each)
    assert room.translate(normal(1, 3, 50, 90).double(), reference=normal(1, 3, 33, 40).double()).shape == (
        1,
        3,
        64,
        64,
    )
    assert room.training
    assert room.content_encoder.training
    assert changed(before, room) == set()


def test_the_average_translates() -> None:
    room = GPUNIT(**SMALL)
    expected = room.translate(pictures(1), reference=pictures(1, seed=1))
    with torch.no_grad():
        for parameter in room.generator.parameters():
            parameter.zero_()
    assert torch.equal(room.translate(pictures(1), reference=pictures(1, seed=1)), expected)
    with torch.no_grad():
        for parameter in room.averaged.parameters():
            parameter.zero_()
    assert not room.translate(pictures(1), reference=pictures(1, seed=1)).any()


def test_translation_in_random_styles() -> None:
    room = GPUNIT(**SMALL)
    for latent in (None, normal(1, 5)):
        with pytest.raises(ZooError, match=r"not fitted yet.*lightning sampler RUN.*--reference"):
            room.translate(pictures(1), latent=latent)
    room.sampler_fitted.fill_(True)
    assert room.latent_channels == 5
    assert room.translate(pictures(1), latent=normal(4, 5)).shape == (4, 3, 64, 64)
    assert room.translate(pictures(3), latent=normal(1, 5)).shape == (3, 3, 64, 64)
    drawn = room.translate(pictures(2))
    assert torch.equal(room.translate(pictures(2)), drawn)
    assert torch.equal(room.translate_batch({"source": pictures(2)}), drawn)


def test_what_does_not_go_together_is_refused() -> None:
    room = GPUNIT(**SMALL)
    with pytest.raises(ZooError, match="one direction and translates to 'target', not to 'source'"):
        room.translate(pictures(1), to="source", reference=pictures(1))
    with pytest.raises(ZooError, match="not both"):
        room.translate(pictures(1), reference=pictures(1), latent=normal(1, 5))
    with pytest.raises(ZooError, match="2 pictures and 3 styles"):
        room.translate(pictures(2), reference=pictures(3))


def test_between_styles() -> None:
    torch.manual_seed(0)
    room = GPUNIT(**SMALL)
    room.sampler_fitted.fill_(True)
    latents, image = normal(9, 5), pictures(1)
    corners = room.sample_styles(latents).view(3, 3, -1)
    grid = room.interpolate(image, corners)
    assert grid.shape == (7, 7, 3, 64, 64)
    torch.testing.assert_close(grid[::3, ::3].reshape(9, 3, 64, 64), room.translate(image, latent=latents))
    row = room.interpolate(image, corners[:1, :2], steps=2)
    assert row.shape == (1, 3, 3, 64, 64)
    features = room.content_encoder.eval()(image)
    middle = room.averaged(features, (corners[0, 0] + corners[0, 1])[None] / 2)[0]
    torch.testing.assert_close(row[0, 1], middle[0], rtol=1e-4, atol=1e-5)


def test_a_grid_shows_what_the_paper_shows() -> None:
    room = GPUNIT(**SMALL).train()
    batch = {"source": pictures(2), "target": pictures(2, seed=1)}
    before = state_of(room)
    columns = room.samples(batch)
    assert list(columns) == ["source", "exemplar", "translation", "reconstruction", "mask 16x16", "mask 32x32"]
    torch.testing.assert_close(columns["translation"], room.translate_batch(batch))
    assert {image.shape[2:] for image in columns.values()} == {(64, 64)}
    assert all(image.abs().max() <= 1 for image in columns.values())
    room.sampler_fitted.fill_(True)
    before["sampler_fitted"] = room.sampler_fitted.clone()
    assert "random style" in room.samples(batch)
    assert changed(before, room) == set()


def test_validation_logs_reconstruction_and_content(tmp_path: Path) -> None:
    trainer = fit(GPUNIT(**SMALL), 2, tmp_path, limit_val_batches=1.0, val_check_interval=2)
    figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert 0 < figures["val/reconstruction_psnr"] < 60
    assert figures["val/content_distance"] > 0


def test_both_rates_fall_to_zero_where_they_are_told_to(tmp_path: Path) -> None:
    rooms = []
    for iterations, rates in ((3, [0.005, 0.01]), (4, [0.0, 0.0])):
        torch.manual_seed(0)
        rooms.append(
            GPUNIT(**SMALL, learning_rate=0.01, discriminator_learning_rate=0.02, decay_begin=1, decay_iterations=2)
        )
        trainer = fit(rooms[-1], iterations, tmp_path)
        assert [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers] == pytest.approx(rates)
    one, other = (dict(room.named_parameters()) for room in rooms)
    assert all(torch.equal(one[name], other[name]) for name in one if not name.startswith("ema."))
