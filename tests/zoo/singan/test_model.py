"""SinGAN: what the recorded numbers do not reach, and the acceptance list's sizes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.nn import functional as F

from support.single_image import SMALL, draw_picture, train
from zoo.blocks.single_image import MASK_RADII, soft_mask
from zoo.core.images import resize_cubic
from zoo.errors import ZooError
from zoo.singan import Discriminator, Generator, SinGAN
from zoo.singan.pyramid import climb, passes, plan

SETTINGS = SMALL["zoo.singan.SinGAN"]


def small(**changes: Any) -> SinGAN:
    seed_everything(0, verbose=False)
    return SinGAN(**{**SETTINGS, **changes})


def numel(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> SinGAN:
    folder = tmp_path_factory.mktemp("singan")
    model = train(small(), draw_picture(folder / "p.png"), folder)
    assert isinstance(model, SinGAN)
    return model.eval()


@pytest.mark.parametrize(
    ("width", "generator", "critic"), [(32, 29763, 29185), (64, 114819, 113665), (128, 450819, 448513)]
)
def test_networks_have_the_official_number_of_parameters(width: int, generator: int, critic: int) -> None:
    assert numel(Generator(width, width, 5)) == generator
    assert numel(Discriminator(width, width, 5)) == critic


@pytest.mark.parametrize(("scales", "count"), [(9, 1029147), (10, 1479966)])
def test_a_pyramid_has_the_official_number_of_parameters(scales: int, count: int) -> None:
    model = SinGAN()
    for scale in range(1, scales):
        model.build_stage(scale)
    assert numel(model.generators) == count


def test_networks_take_a_border_away() -> None:
    generator, critic = Generator(8, 6, 5), Discriminator(8, 6, 5)
    with torch.no_grad():
        assert generator(torch.zeros(1, 3, 30, 27), torch.ones(1, 3, 30, 27)).shape == (1, 3, 20, 17)
        assert critic(torch.zeros(1, 3, 20, 17)).shape == (1, 1, 10, 7)


def test_networks_begin_anew_where_they_get_wider() -> None:
    model = small()
    assert [model.widths(scale)[0] for scale in (0, 3, 4, 8, 20, 24)] == [4, 4, 8, 16, 128, 128]
    for scale in range(1, 5):
        critic = model.discriminator
        model.build_stage(scale)
        older, newer = model.generators[-2].state_dict(), model.generators[-1].state_dict()
        if scale < 4:
            assert all(torch.equal(value, older[name]) for name, value in newer.items())
            assert model.discriminator is critic
        else:
            assert newer["head.conv.weight"].shape[0] == 8
            assert model.discriminator is not critic
        assert all(p.requires_grad for p in model.generators[-1].parameters())
        assert not any(p.requires_grad for p in model.generators[-2].parameters())
    model.train()
    assert [generator.training for generator in model.generators] == [False] * 4 + [True]


def test_lower_scales_stand_still_and_the_amplitude_is_a_share(tmp_path: Path) -> None:
    class Look(Callback):
        def __init__(self) -> None:
            self.states: list[dict[str, Tensor]] = []
            self.passes: list[int] = []

        def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
            model: Any = pl_module
            self.passes.append(0)
            model.discriminator.register_forward_hook(self._count)

        def _count(self, *_: Any) -> None:
            self.passes[-1] += 1

        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
            model: Any = pl_module
            model.discriminator._forward_hooks.clear()
            self.states.append({name: value.clone() for name, value in model.generators.state_dict().items()})

    look = Look()
    model = train(small(), draw_picture(tmp_path / "p.png"), tmp_path, callbacks=[look])
    assert isinstance(model, SinGAN)
    for state, later in zip(look.states[1::2], look.states[3::2], strict=False):  # the ends of two scales
        assert all(torch.equal(value, later[name]) for name, value in state.items())
    assert set(look.passes) == {
        3 * 3 + 1
    }  # real, fake and between, three times; then one for all steps of the generator
    assert model.amplitudes[0] == 1
    scale = len(model.fixed) - 1
    error = (model.reconstruct_below() - model.reals[scale]).square().mean().sqrt()
    assert torch.allclose(model.amplitudes[scale], 0.1 * error)
    assert all(not z.any() for z in list(model.fixed)[1:])
    assert model.fixed[0].any()


def test_fakes_made_anew_train_otherwise_than_stale_ones(tmp_path: Path) -> None:
    picture = draw_picture(tmp_path / "p.png")
    stale, anew = (train(small(stale_fake=kind), picture, tmp_path / str(kind), 1) for kind in (True, False))
    assert not torch.equal(
        stale.state_dict()["generators.0.head.conv.weight"], anew.state_dict()["generators.0.head.conv.weight"]
    )
    once = [
        train(small(stale_fake=k, generator_steps=1), picture, tmp_path / f"1{k}", 1).state_dict()
        for k in (True, False)
    ]
    assert all(torch.equal(value, once[1][name]) for name, value in once[0].items())


# Inference


def test_samples_have_the_asked_size_and_follow_their_seed(trained: SinGAN) -> None:
    (wide,) = trained.sample(width=1.5, height=2)
    assert wide.shape == (1, 3, 48, 42)
    assert torch.equal(trained.sample(width=1.5, height=2)[0], wide)
    assert not torch.equal(trained.sample(width=1.5, height=2, seed=1)[0], wide)
    last = len(trained.generators) - 1
    early, late = (torch.cat(trained.sample(4, start=start)).std(0).mean() for start in (0, last))
    assert late < early  # a later start keeps more
    for options in ({"start": 99}, {"start": 1, "width": 2.0}):
        with pytest.raises(ZooError, match="start is"):
            trained.sample(**options)  # type: ignore[arg-type]


def test_pictures_are_painted_anew_from_a_scale_on(trained: SinGAN) -> None:
    image = torch.rand(1, 3, 40, 50) * 2 - 1
    seen: list[int] = []
    hooks = [g.register_forward_hook(lambda *_, n=n: seen.append(n)) for n, g in enumerate(trained.generators)]
    last = len(trained.generators) - 1
    assert trained.translate(image).shape == (1, 3, *trained.sizes[-1])
    assert seen == [last - 1, last]
    seen.clear()
    painted = trained.translate(image, start=1, task="paint")
    assert seen == list(range(1, last + 1))
    assert trained.prepare(image, 2).shape[2:] == trained.sizes[2]
    mask = -torch.ones(1, 3, 40, 50)
    mask[..., 18:22, 20:26] = 1
    blended = trained.translate(image, mask=mask, start=1)
    soft = soft_mask(resize_cubic(mask, size=trained.sizes[-1]), MASK_RADII["harmonization"])
    assert (soft == 0).any()
    kept = (soft == 0).expand_as(blended)
    assert torch.equal(blended[kept], trained.whole[0][kept])
    assert not torch.allclose(blended, trained.whole[0], atol=1e-3)
    assert torch.equal(painted, trained.translate(image, start=1, task="paint"))
    for hook in hooks:
        hook.remove()
    for start in (0, last + 1):
        with pytest.raises(ZooError, match=f"the scales are 1 to {last}"):
            trained.translate(image, start=start)


def test_super_resolution_enlarges_in_small_steps(trained: SinGAN) -> None:
    assert passes(4.0)[0] == 6
    seen: list[torch.Size] = []
    hook = trained.generators[-1].register_forward_hook(lambda *given: seen.append(given[2].shape))
    assert trained.enlarge(4.0).shape == (1, 3, 96, 112)
    assert len(seen) == 6
    assert trained.enlarge(2.0, image=torch.zeros(1, 3, 20, 24)).shape == (1, 3, 40, 48)
    hook.remove()
    with pytest.raises(ZooError, match="--factor 4"):
        trained.enlarge()


def test_frames_keep_the_scales_below_the_start(trained: SinGAN) -> None:
    seen: list[list[Tensor]] = []
    climb = trained.climb
    trained.climb = lambda image, maps, sizes, begin=0: (seen.append(list(maps)), climb(image, maps, sizes, begin))[1]  # type: ignore[method-assign]
    assert len(trained.animate(3, start=1)) == 3
    trained.climb = climb  # type: ignore[method-assign]
    for maps in seen:
        assert torch.equal(maps[0], trained.fixed[0])
        assert not torch.equal(maps[1], trained.fixed[1])


def test_a_walk_begins_a_twentieth_of_new_noise_away_from_the_picture(trained: SinGAN) -> None:
    """Drawn back by nothing and with all of its velocity, its first step doubles that."""
    seen: list[list[Tensor]] = []
    climb, draw_map = trained.climb, trained.draw_map
    trained.climb = lambda image, maps, sizes, begin=0: (seen.append(list(maps)), climb(image, maps, sizes, begin))[1]  # type: ignore[method-assign]
    trained.draw_map = lambda scale, size, border=False: torch.ones_like(trained.fixed[scale])  # type: ignore[method-assign]
    trained.animate(1, alpha=0.0, beta=1.0)
    trained.climb, trained.draw_map = climb, draw_map  # type: ignore[method-assign]
    for scale, noise in enumerate(seen[0]):
        torch.testing.assert_close(noise, 0.9 * trained.fixed[scale] + 0.1)


def test_what_does_not_suit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="has not begun to learn"):
        small().sample()
    with pytest.raises(ZooError, match="scale_factor is 2"):
        small(scale_factor=2.0)
    with pytest.raises(ZooError, match="not larger than the first scale"):
        plan((25, 300), 25, 250, 0.75)
    with pytest.raises(ZooError, match=r"--model\.min_size 25"):
        train(small(min_size=10), draw_picture(tmp_path / "p.png"), tmp_path)
    with pytest.raises(ZooError, match=r"Type --model\.max_size 56"):
        train(small(), draw_picture(tmp_path / "q.png", 16, 40), tmp_path)
    first = train(small(), draw_picture(tmp_path / "p.png"), tmp_path / "a", 1)
    with pytest.raises(ZooError, match="one scale so far"):
        first.translate(torch.zeros(1, 3, 24, 28))


def test_noise_of_another_size_meets_a_picture_stretched_from_corner_to_corner() -> None:
    class Below(nn.Module):
        def forward(self, x: Tensor, previous: Tensor) -> Tensor:
            return previous

    image, noise = torch.rand(1, 3, 5, 5), torch.zeros(1, 3, 12, 9)
    made = climb(nn.ModuleList([Below()]), [torch.ones(())], 0.75, image, [noise], [(5, 5)], 0)
    bordered = F.pad(image, (2, 2, 2, 2))
    assert torch.equal(made, F.interpolate(bordered, (12, 9), mode="bilinear", align_corners=True))
