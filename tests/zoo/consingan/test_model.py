"""ConSinGAN: what the recorded numbers do not reach, and the acceptance list's sizes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor, nn

from support.single_image import SMALL, draw_picture, train
from zoo.blocks.single_image import MASK_RADII, counted_passes, gradient_penalty, own_statistics, soft_mask
from zoo.consingan import ConSinGAN, Discriminator, Generator
from zoo.consingan.model import pyramid, stage_scales
from zoo.consingan.perturb import (
    add_noise,
    change_colours,
    from_hsv,
    multiply,
    perturb_colours,
    perturb_layout,
    sepia,
    shift_hue,
    to_hsv,
)
from zoo.core import Draws
from zoo.errors import ZooError

SETTINGS = SMALL["zoo.consingan.ConSinGAN"]


def small(**changes: Any) -> ConSinGAN:
    seed_everything(0, verbose=False)
    return ConSinGAN(**{**SETTINGS, **changes})


def numel(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def grown(stages: int, norm: bool) -> Generator:
    network = Generator(64, 3, norm, "lrelu", 0.05, True)
    for _ in range(stages - 1):
        network.grow()
    return network


@pytest.mark.parametrize(
    ("stages", "norm", "count"), [(1, False, 114307), (6, False, 668227), (10, False, 1111363), (3, True, 337155)]
)
def test_generators_have_the_official_number_of_parameters(stages: int, norm: bool, count: int) -> None:
    assert numel(grown(stages, norm)) == count


def test_the_discriminator_has_the_official_size() -> None:
    critic = Discriminator(64, 3, "lrelu", 0.05)
    assert numel(critic) == 113153
    with torch.no_grad():
        assert critic(torch.zeros(1, 3, 66, 50)).shape == (1, 1, 56, 40)


def test_a_new_stage_is_the_newest_one_to_the_bit() -> None:
    network = Generator(4, 3, True, "prelu", 0.0, False).train()
    network([torch.randn(1, 3, 12, 12)], [(12, 12)], [torch.ones(())])  # running statistics move
    network.grow()
    older, newer = (block.state_dict() for block in network.body)
    assert older.keys() == newer.keys()
    assert any("running_mean" in key for key in newer)
    assert all(torch.equal(value, older[key]) for key, value in newer.items())
    assert {id(p) for p in network.body[0].parameters()}.isdisjoint(id(p) for p in network.body[1].parameters())


def test_rates_and_what_stands_still_at_each_stage(tmp_path: Path) -> None:
    class Look(Callback):
        def __init__(self) -> None:
            self.rates: dict[int, list[float]] = {}
            self.states: dict[int, dict[str, Tensor]] = {}
            self.steps: list[list[float]] = []

        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
            model: Any = pl_module
            generator, critic = trainer.optimizers
            self.rates[model.stage] = [group["initial_lr"] for group in generator.param_groups]
            self.states[trainer.global_step] = {k: v.clone() for k, v in model.generator.state_dict().items()}
            counts = [next(iter(optimizer.state.values()))["step"].item() for optimizer in (generator, critic)]
            self.steps.append(counts)

    look = Look()
    model = train(small(train_depth=3), draw_picture(tmp_path / "p.png"), tmp_path, callbacks=[look])
    rate, lower, lowest = 5e-4, 5e-5, 5e-6
    assert look.rates[0] == pytest.approx([rate, rate, rate])  # body, head, tail
    assert look.rates[1] == pytest.approx([lower, rate, lower, rate])
    assert look.rates[2] == pytest.approx([lowest, lower, rate, lowest, rate])
    assert look.rates[3] == pytest.approx([lowest, lower, rate, rate])  # no head any more
    assert look.steps == [[3, 3], [6, 6]] * 4  # three steps each per iteration, and new optimisers at each stage
    before, after = look.states[6], look.states[8]
    still = [name for name in before if name.startswith(("head.", "body.0."))]
    assert still
    assert all(torch.equal(before[name], after[name]) for name in still)
    moved = [name for name in after if name not in still]
    assert all(name not in before or not torch.equal(before[name], after[name]) for name in moved)
    assert not any(p.requires_grad for p in [*model.generator.head.parameters(), *model.generator.body[0].parameters()])  # type: ignore[union-attr]


class Passes:
    """Counts what goes through a module while gradients are recorded, and without."""

    def __init__(self, module: nn.Module) -> None:
        self.recorded = self.silent = 0
        module.register_forward_hook(self._count)

    def _count(self, *_: object) -> None:
        if torch.is_grad_enabled():
            self.recorded += 1
        else:
            self.silent += 1


def test_frozen_stages_run_once_for_noise_and_never_again_for_the_reconstruction(tmp_path: Path) -> None:
    counts: dict[int, tuple[int, int, int, int]] = {}

    class Count(Callback):
        def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
            model: Any = pl_module
            self.first, self.newest = Passes(model.generator.body[0]), Passes(model.generator.body[-1])

        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            found = (self.first.recorded, self.first.silent, self.newest.recorded, self.newest.silent)
            counts[trainer.global_step] = found

    train(small(train_depth=1), draw_picture(tmp_path / "p.png"), tmp_path, 4, callbacks=[Count()])
    assert counts[2] == (
        2,
        0,
        2,
        0,
    )  # stage 0: one fake for all steps of the critic (the official code makes three), one reconstruction
    assert counts[3] == (0, 3, 2, 1)  # stage 1 begins: its amplitude, and what is kept of the reconstruction
    assert counts[4] == (0, 1, 2, 0)  # what does not learn is run for new noise alone, and without gradients


def test_the_amplitude_is_a_share_of_what_is_unexplained(tmp_path: Path) -> None:
    model = train(small(), draw_picture(tmp_path / "p.png"), tmp_path / "a", 2)
    assert isinstance(model, ConSinGAN)
    model._grow_to(1)
    model.begin_stage({})
    silent = [torch.ones(()), torch.zeros(())]
    with torch.no_grad():
        error = (model.generator(list(model.fixed), model.sizes, silent) - model.reals[1]).square().mean().sqrt()
    assert torch.allclose(model.amplitudes[1], 0.1 * error)
    assert torch.equal(model.fixed[0], model.reals[0])


def test_the_penalty_takes_norms_over_channels() -> None:
    real, fake = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    penalty = gradient_penalty(lambda x: x.sum(1, keepdim=True), real, fake, torch.tensor([[0.3]]))
    assert penalty.item() == pytest.approx((3**0.5 - 1) ** 2)


def test_one_counted_pass_moves_statistics_as_several() -> None:
    several, one = (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).double().train() for _ in range(2))
    one.load_state_dict(several.state_dict())
    x = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    outputs = [several(x) for _ in range(3)]
    with counted_passes(one, 3):
        assert torch.equal(one(x), outputs[-1])
    for name, value in several.state_dict().items():
        assert torch.allclose(one.state_dict()[name], value, rtol=1e-13, atol=0), name
    assert one[1].momentum == 0.1


def test_own_statistics_leave_running_ones_alone() -> None:
    layer = nn.BatchNorm2d(3).eval()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    x = 5 + 2 * torch.randn(1, 3, 8, 8)
    with own_statistics(layer):
        assert layer(x).mean().abs() < 1e-5
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert not layer.training
    assert layer(x).mean() > 3


# The pyramid


@pytest.mark.parametrize(
    ("size", "stages", "least", "geometric", "message"),
    [
        ((100, 100), 2, 25, False, "3 or more"),
        ((100, 100), 1, 25, True, "2 or more"),
        ((25, 100), 6, 25, False, "not larger than the first stage"),
        ((12, 250), 6, 25, False, "Take a larger picture"),
    ],
)
def test_a_picture_that_does_not_suit_the_pyramid_is_refused(
    size: tuple[int, int], stages: int, least: int, geometric: bool, message: str
) -> None:
    with pytest.raises(ZooError, match=message):
        stage_scales(size, stages, least, geometric)


def test_resizing_by_one_still_cuts_to_eight_bits() -> None:
    picture = torch.rand(1, 3, 30, 40) * 2 - 1
    top = pyramid(picture, 3, 12, 250, True)[-1]
    levels = (top + 1) * 127.5
    assert torch.allclose(levels, levels.round(), atol=1e-3)
    assert not torch.equal(top, picture)


# Perturbations


def test_changes_of_colour_do_what_they_were_meant_to() -> None:
    x = torch.rand(1, 3, 9, 8) * 200 + 30
    half = torch.full_like(x, 0.5)
    assert torch.allclose(multiply(x, half, False), x / 2)
    assert multiply(x, half, True).max() <= 1  # as released: nearly black
    assert torch.allclose(add_noise(x, 10 * half, False), x + 5)
    assert sepia(x, False).max() > 100 > 1 >= sepia(x, True).max()
    turned = shift_hue(x, 15.0, 0.0, 0.0, False)
    hue, saturation, value = to_hsv(x)
    assert torch.allclose(to_hsv(turned)[0], (hue + 30) % 360, atol=1e-2)
    assert torch.allclose(to_hsv(turned)[1], saturation, atol=1e-4)
    assert torch.allclose(from_hsv(hue, saturation, value), x, atol=1e-3)


def test_perturbed_pictures_are_mostly_changed_and_rarely_black() -> None:
    picture = torch.rand(1, 3, 60, 75) * 1.6 - 0.8
    draws, black, changed, calls = Draws(seed=3), {True: 0, False: 0}, 0, 300
    for as_released in (True, False):
        for iteration in range(calls):
            draws.begin(iteration, torch.device("cpu"), torch.float32)
            result = perturb_colours(picture, draws, (8, 16), as_released)
            assert result.shape == picture.shape
            assert result.abs().max() <= 1
            black[as_released] += int(result.median() < -0.9)
            changed += int(not torch.allclose(result, picture, atol=1e-4))
    assert 0.03 * calls < black[True] < 0.2 * calls  # 8.7 % in the official code
    assert black[False] == 0
    assert 0.85 < changed / (2 * calls) < 0.98  # 92.7 % there
    kinds = {
        tuple(change_colours(picture * 127.5 + 127.5, Draws(seed=i), False).flatten()[:3].tolist()) for i in range(40)
    }
    assert len(kinds) > 15
    moved = perturb_layout(picture, draws)
    assert moved.shape == picture.shape
    assert not torch.equal(moved, picture)


# Inference


def test_a_mask_keeps_what_it_does_not_mark() -> None:
    mask = -torch.ones(1, 3, 60, 80)
    mask[..., 20:40, 30:50] = 1
    soft = soft_mask(mask, MASK_RADII["harmonization"])
    assert soft.min() == 0
    assert soft.max() == 1
    assert soft[0, 0, 30, 40] > 0.98
    assert soft[0, 0, 0, 0] == 0
    for blank in (-torch.ones(1, 3, 20, 20), torch.ones(1, 3, 20, 20)):
        with pytest.raises(ZooError, match="The mask marks"):
            soft_mask(blank, 7)


def test_samples_have_the_asked_size_and_follow_their_seed(tmp_path: Path) -> None:
    model = train(small(task="retarget", stages=3), draw_picture(tmp_path / "p.png"), tmp_path)
    assert isinstance(model, ConSinGAN)
    (wide,) = model.sample(1, width=2)
    assert wide.shape == (1, 3, 24, 56)
    assert model.scaled_sizes(1, 2) == [(h, 2 * w) for h, w in model.sizes]
    again, other = model.sample(1, width=2), model.sample(1, width=2, seed=1)
    assert torch.equal(again[0], wide)
    assert not torch.equal(other[0], wide)
    one, two = model.sample(2)
    assert not torch.equal(one, two)


def test_frames_keep_the_stages_below_the_start(tmp_path: Path) -> None:
    model = train(small(task="animation", stages=3), draw_picture(tmp_path / "p.png"), tmp_path)
    assert isinstance(model, ConSinGAN)
    seen: list[list[Tensor]] = []
    picture = model.picture
    model.picture = lambda maps, sizes=None: (seen.append(list(maps)), picture(maps, sizes))[1]  # type: ignore[method-assign]
    frames = model.animate(3, start=2)
    assert len(frames) == len(seen) == 3
    for maps in seen:
        assert all(torch.equal(z, fixed) for z, fixed in zip(maps[:2], list(model.fixed)[:2], strict=True))
        assert not torch.equal(maps[2], model.fixed[2])
    with pytest.raises(ZooError, match="the stages are 0 to 2"):
        model.animate(3, start=3)


def test_a_model_can_be_used_at_any_stage_and_not_before_the_first(tmp_path: Path) -> None:
    model = small()
    for use in (lambda: model.sample(), lambda: model.animate(2)):
        with pytest.raises(ZooError, match="has not begun to learn"):
            use()
    picture = draw_picture(tmp_path / "p.png")
    trained = train(model, picture, tmp_path, 3)  # in the middle of the second stage
    assert isinstance(trained, ConSinGAN)
    assert trained.sample()[0].shape[2:] == trained.sizes[1]
    with pytest.raises(ZooError, match="trained for generation"):
        trained.translate(torch.zeros(1, 3, 24, 28))
    composite = train(small(task="harmonization", norm=True, stages=3), picture, tmp_path / "h", 3)
    assert isinstance(composite, ConSinGAN)
    with pytest.raises(ZooError, match="changes pictures"):
        composite.sample()
    before = {name: value.clone() for name, value in composite.state_dict().items()}
    result = composite.translate(torch.rand(2, 3, 30, 40) * 2 - 1)
    assert result.shape == (2, 3, *composite.sizes[-1])
    assert not torch.equal(result[0], result[1])
    assert all(torch.equal(value, before[name]) for name, value in composite.state_dict().items())


def test_fine_tuning_goes_on_from_a_finished_run(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"task": "harmonization", "norm": True, "stages": 3}
    picture = draw_picture(tmp_path / "p.png")
    naive = draw_picture(tmp_path / "naive.png", 30, 36)
    finished = train(small(**settings), picture, tmp_path / "base")
    run = tmp_path / "base"
    tuned = small(**settings, fine_tune=str(run))
    train(tuned, picture, tmp_path / "tuned", naive=naive)
    assert tuned.trainer.global_step == 2  # the last stage alone
    for name in ("fixed", "amplitudes", "reals"):
        pairs = zip(getattr(tuned, name), getattr(finished, name), strict=True)
        assert all(torch.equal(ours, theirs) for ours, theirs in pairs), name
    ours, theirs = tuned.generator.state_dict(), finished.generator.state_dict()
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours)
    half = small(**settings, fine_tune=str(run))
    resumed = train(
        half,
        picture,
        tmp_path / "again",
        naive=naive,
        resume=tmp_path / "tuned" / "checkpoints" / "iteration_00000001.ckpt",
    )
    assert all(torch.equal(value, tuned.state_dict()[name]) for name, value in resumed.state_dict().items())
    with pytest.raises(ZooError, match=r"--data\.naive"):
        train(small(**settings, fine_tune=str(run)), picture, tmp_path / "x")
    with pytest.raises(ZooError, match="no finished ConSinGAN of 4 stages"):
        train(small(**{**settings, "stages": 4}, fine_tune=str(run)), picture, tmp_path / "y", naive=naive)
    with pytest.raises(ZooError, match="fine_tune is for"):
        small(fine_tune=str(run))
