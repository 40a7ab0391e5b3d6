"""The sampler of random styles: the search, the fit, and the callback that fits at the end of a training."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules import Scenes
from datamodules.errors import DataError
from support.training import fit
from zoo.core import Draws
from zoo.core.checkpoints import read_checkpoint
from zoo.errors import ZooError
from zoo.gpunit import GPUNIT
from zoo.gpunit.sampler import FitStyleSampler, StyleSampler, fit_sampler, nearest_samples, rare_styles, sampler_epochs

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
    "sampler_channels": 8,
    "sampler_steps": 64,
    "sampler_batch": 8,
}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def scenes(**options: Any) -> Scenes:
    return Scenes(size=64, batch_size=2, **{"scenes_per_epoch": 16, "validation_count": 2, **options})


def test_epochs_are_counted_as_the_official_code_does() -> None:
    assert sampler_epochs(2_000_000, 4000) == 500
    rows = 4000 + len(rare_styles(normal(4000, 4)))
    assert rows == 4000 + 2000 + 1000 + 500 + 250
    assert sampler_epochs(2_000_000, rows) == 258
    assert len(rare_styles(normal(999, 4))) == 0


def test_the_rarest_styles_come_most_often() -> None:
    codes = normal(3000, 4)
    codes[7] = 100
    counts = rare_styles(codes).bincount(minlength=len(codes))
    assert counts[7] == counts.max() == 3
    distance = (codes - codes.mean(0)).abs().sum(1)
    assert distance[counts == 0].max() <= distance[counts > 0].min()


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_the_nearest_sample_is_the_nearest_however_far_from_zero_they_lie(offset: float) -> None:
    codes, samples = normal(3000, 6) + offset, normal(50, 6, seed=1) + offset
    exact = (codes[:, None].double() - samples[None].double()).norm(dim=2)
    assert torch.equal(nearest_samples(codes, samples), exact.argmin(1))


def test_a_fit_comes_nearer_and_depends_on_the_seed_alone() -> None:
    codes = normal(40, 6).relu()

    def fitted(seed: int) -> tuple[StyleSampler, list[float]]:
        sampler, losses = StyleSampler(5, 6, 8), []
        sampler.reset(Draws(seed))
        fit_sampler(
            sampler,
            codes,
            Draws(seed),
            steps=4000,
            batch=8,
            learning_rate=1e-2,
            watch=lambda _, each, __: losses.append(float(each.mean())),
        )
        return sampler, losses

    first, losses = fitted(1)
    assert len(losses) == 100
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert not first.training
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in first.parameters())
    torch.manual_seed(123)
    again, _ = fitted(1)
    other, _ = fitted(2)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert not torch.equal(first.lin1.weight, other.lin1.weight)


def test_too_few_styles_are_refused() -> None:
    with pytest.raises(ZooError, match=r"batches of 8 styles.* pictures for 7.* --model.sampler_batch 7"):
        fit_sampler(StyleSampler(5, 6), normal(7, 6), Draws(), batch=8)
    with pytest.raises(ZooError, match="pictures for 0"):
        GPUNIT(**SMALL).fit_sampler([])


def test_statistics_of_a_batch_are_an_option_that_moves_nothing() -> None:
    sampler, latent = StyleSampler(5, 6, 8).eval(), normal(4, 5)
    before = {name: value.clone() for name, value in sampler.state_dict().items()}
    batch = sampler(latent, batch_statistics=True)
    assert all(torch.equal(before[name], value) for name, value in sampler.state_dict().items())
    assert not torch.allclose(batch, sampler(latent))
    torch.testing.assert_close(batch, sampler.train()(latent))
    with pytest.raises(ZooError, match="there is one"):
        sampler.eval()(latent[:1], batch_statistics=True)
    assert sampler(latent[:1]).shape == (1, 6)


def test_the_pass_over_a_domain_takes_its_averaged_styles() -> None:
    model = GPUNIT(**SMALL)
    with torch.no_grad():
        for parameter in model.generator.parameters():
            parameter.add_(1)  # the moving average stays where it was
    pixels = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    codes = model.encode_styles([{"target": pixels[:2]}, {"target": pixels[2:]}])
    expected = model.averaged.encode_style(pixels / 127.5 - 1)
    torch.testing.assert_close(codes, expected)


def test_rare_styles_are_appended_where_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model, told = GPUNIT(**{**SMALL, "sampler_steps": 2400}), list[str]()
    styles = normal(1200, 6)
    monkeypatch.setattr(model, "encode_styles", lambda _: styles)
    model.fit_sampler([], mitigate_style_bias=True, report=told.append)
    model.fit_sampler([], report=told.append)
    first, second = (line for line in told if "fitted" in line)
    assert "1,800 styles in 1 epochs" in first
    assert "1,200 styles in 2 epochs" in second


def test_the_last_checkpoint_holds_the_fitted_sampler(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = GPUNIT(**SMALL)
    fit(model, 4, tmp_path, data=scenes(), callbacks=[FitStyleSampler()], every=2)
    assert "sampler: fitted to 16 styles in 4 epochs" in capsys.readouterr().out
    half, whole = (read_checkpoint(tmp_path / "checkpoints" / f"iteration_{n:08d}.ckpt")["state_dict"] for n in (2, 4))
    assert not half["sampler_fitted"]
    assert whole["sampler_fitted"]
    assert "sampler" in model.phases.seconds
    again = GPUNIT(**SMALL).double()
    again.load_state_dict(whole)
    assert again.eval().translate(normal(1, 3, 64, 64).double(), latent=normal(3, 5).double()).shape == (3, 3, 64, 64)

    # A finished run is not fitted again, a run that goes on is, and ends with the bits of one that never stopped.
    fit(GPUNIT(**SMALL), 4, tmp_path, data=scenes(), callbacks=[FitStyleSampler()], resume=checkpoint(tmp_path, 4))
    assert capsys.readouterr().out == ""
    resumed = GPUNIT(**SMALL)
    fit(resumed, 6, tmp_path, data=scenes(), callbacks=[FitStyleSampler()], resume=checkpoint(tmp_path, 2))
    straight = GPUNIT(**SMALL)
    straight.load_state_dict(half)
    fit(straight, 6, tmp_path / "b", data=scenes(), callbacks=[FitStyleSampler()], resume=checkpoint(tmp_path, 4))
    assert resumed.sampler_fitted
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def checkpoint(folder: Path, iteration: int) -> Path:
    return folder / "checkpoints" / f"iteration_{iteration:08d}.ckpt"


def test_a_switched_off_callback_fits_nothing(tmp_path: Path) -> None:
    model = GPUNIT(**SMALL)
    fit(model, 1, tmp_path, data=scenes(), callbacks=[FitStyleSampler(enabled=False)])
    assert not model.sampler_fitted


class Bare(LightningDataModule):
    """Somebody's own data module."""

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader([{"source": normal(3, 64, 64), "target": normal(3, 64, 64)}])  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[Any]:
        return self.train_dataloader()


def test_data_that_will_not_do_is_refused_before_the_training(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="pictures for 4"):
        fit(
            GPUNIT(**SMALL),
            1,
            tmp_path,
            data=scenes(scenes_per_epoch=4),
            callbacks=[FitStyleSampler()],
            limit_val_batches=0,
        )
    with pytest.raises(ZooError, match="Bare does not give one by one"):
        fit(GPUNIT(**SMALL), 1, tmp_path, data=Bare(), callbacks=[FitStyleSampler()], precision=32)
    with pytest.raises(DataError, match="target"):
        fit(
            GPUNIT(**SMALL),
            1,
            tmp_path,
            data=Scenes(task="pairs", size=64),
            callbacks=[FitStyleSampler()],
            limit_val_batches=0,
        )
