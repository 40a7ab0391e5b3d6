"""GP-UNIT's first stage: what the golden files don't say."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules import Scenes
from support.training import fit
from zoo.cli.translate import own_domain
from zoo.errors import ZooError
from zoo.gpunit.content import ContentEncoder, feature_channels
from zoo.gpunit.prior import PriorDistillation, content_distance, shape_target

SMALL: dict[str, Any] = {"image_size": 64, "channels": 2, "domains": 3, "perceptual": None}
UNREAD = "style_encoder.layers"


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def pairs(size: int = 64, batch: int = 2) -> dict[str, Tensor]:
    made: dict[str, Tensor] = {}
    for number, (picture, domain, mask) in enumerate(
        (("image", "domain", "mask"), ("x", "x_domain", "x_mask"), ("y", "y_domain", "y_mask"))
    ):
        generator = torch.Generator().manual_seed(number)
        made[picture] = 2 * torch.rand(batch, 3, size, size, generator=generator) - 1
        made[domain] = torch.randint(0, 3, (batch,), generator=generator)
        made[mask] = torch.rand(batch, 1, size, size, generator=generator)
    return made


def scenes(**options: object) -> Scenes:
    return Scenes(task="pairs", domains=("plain", "striped", "dotted"), size=64, batch_size=2, **options)


def test_the_defaults_are_the_official_networks() -> None:
    prior = PriorDistillation()
    assert count(prior) == 30_183_007
    assert count(prior.content_encoder) == 9_446_529
    assert prior.vgg is None
    assert feature_channels(64, 256) == [1, 512, 512, 256, 128, 64]


@pytest.mark.parametrize("size", [64, 128, 256, 512])
def test_the_content_is_8x8_at_every_size(size: int) -> None:
    prior = PriorDistillation(**{**SMALL, "image_size": size}).eval()
    features = prior.content_encoder(torch.zeros(1, 3, 40, 56))
    assert [feature.shape[1] for feature in features] == feature_channels(2, size)
    assert features[0].shape == (1, 1, 8, 8)
    assert features[-1].shape[2:] == (size // 2, size // 2)
    image, mask = prior.decode(features[0], torch.tensor([0]), prior.style_encoder(torch.zeros(1, 3, size, size)))
    assert image.shape == (1, 3, size, size)
    assert mask.shape == (1, 3, 16, 16)


@pytest.mark.parametrize("size", [0, 16, 32, 100, 192])
def test_impossible_sizes_are_refused(size: int) -> None:
    with pytest.raises(ZooError, match=f"not at {size}"):
        ContentEncoder(2, size)


def test_initialisation_reaches_normalised_layers_on_the_cpu_alone() -> None:
    def spread(rule: str) -> tuple[float, float]:
        prior = PriorDistillation(image_size=64, channels=16, domains=3, initialisation=rule)
        convolution = prior.content_encoder.layers[1][0].conv
        weight = convolution.parametrizations.weight.original
        assert not convolution.bias.any()
        adain = prior.decoder.shape.norm
        assert adain is not None
        assert not adain.style.bias.any()
        fan_in = weight[0].numel()
        return weight.std().item() * fan_in**0.5, adain.style.weight.std().item() * 128**0.5

    assert spread("gpu") == pytest.approx((3**-0.5, 2**0.5), rel=0.05)
    assert spread("cpu") == pytest.approx((2**0.5, 2**0.5), rel=0.05)


def test_gradients_reach_what_learns_and_nothing_else(tmp_path: Path) -> None:
    prior = PriorDistillation(**SMALL)
    before = {name: value.clone() for name, value in prior.state_dict().items()}
    fit(prior, 2, tmp_path, data=scenes())
    moved = {name for name, value in prior.state_dict().items() if not torch.equal(before[name], value)}
    still = {name for name, _ in prior.named_parameters()} - moved
    assert still == {name for name, _ in prior.named_parameters() if name.startswith(tuple(unread(prior)))}
    # The official pass moves the vectors of layers that nothing reads, too.
    assert any(name.startswith(tuple(unread(prior))) and name.endswith(".u") for name in moved)


def unread(prior: PriorDistillation) -> list[str]:
    layers = prior.style_encoder.layers
    return [f"{UNREAD}.{number}." for number in range(prior.style_encoder.used, len(layers))]


def test_the_classifier_learns_and_the_encoder_opposes() -> None:
    prior = PriorDistillation(**SMALL).double()
    prior.eval()  # the same vectors in both passes
    content = torch.randn(4, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    label = torch.tensor([0, 1, 2, 0])
    F.cross_entropy(prior.classifier(content), label).backward()
    learned = [parameter.grad for parameter in prior.classifier.parameters()]
    opposed = content.grad
    assert opposed is not None
    content.grad = None
    prior.classifier.zero_grad()
    plain = prior.classifier.logits(prior.classifier.layers(content).flatten(1))
    F.cross_entropy(plain, label).backward()
    assert opposed.abs().max() > 0
    torch.testing.assert_close(opposed, -content.grad)
    for with_reversal, parameter in zip(learned, prior.classifier.parameters(), strict=True):
        torch.testing.assert_close(with_reversal, parameter.grad)


def test_only_the_first_of_a_pair_is_pulled() -> None:
    first, second = torch.randn(2, 1, 8, 8, requires_grad=True), torch.randn(2, 1, 8, 8, requires_grad=True)
    content_distance(first, second).backward()
    assert first.grad is not None
    assert second.grad is None


def test_masks_of_one_channel_and_instance_maps_mean_the_same() -> None:
    mask = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(shape_target(mask), shape_target((2 * mask - 1).expand(-1, 3, -1, -1)))
    assert shape_target(torch.ones(1, 1, 32, 32)).eq(1).all()
    assert shape_target(torch.zeros(1, 1, 32, 32)).eq(-1).all()


@pytest.mark.parametrize(
    ("absent", "off"),
    [
        (("mask", "x_mask", "y_mask"), {"shape", "shape_distance"}),
        (("x_mask", "y_mask"), {"shape_distance"}),
        (("mask",), set()),
    ],
)
def test_without_masks_their_losses_are_off(absent: tuple[str, ...], off: set[str], tmp_path: Path) -> None:
    class SomeMasks(Scenes):
        def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
            batch = super().on_after_batch_transfer(batch, dataloader_idx)
            return {key: value for key, value in batch.items() if key not in absent}

    prior = PriorDistillation(**SMALL)
    logged: list[set[str]] = []
    prior.log_terms = lambda terms, *_: logged.append(set(terms))
    fit(prior, 1, tmp_path, data=SomeMasks(task="pairs", domains=("plain", "striped", "dotted"), size=64, batch_size=2))
    assert "content_distance" in logged[0]
    assert {"shape", "shape_distance"} - logged[0] == off


def test_contents_are_exchanged_and_shown() -> None:
    prior = PriorDistillation(**SMALL).train()
    batch = pairs()
    state = {name: value.clone() for name, value in prior.state_dict().items()}
    columns = prior.samples(batch)
    assert {image.shape for image in columns.values()} == {(2, 3, 64, 64)}
    assert all(image.abs().max() <= 1 for image in columns.values())
    assert prior.translate_batch(batch).shape == (2, 3, 64, 64)
    one_style = prior.translate(batch["x"], to="2", reference=torch.zeros(1, 3, 30, 40))
    assert one_style.shape == (2, 3, 64, 64)
    assert all(torch.equal(state[name], value) for name, value in prior.state_dict().items())
    assert prior.training
    assert prior.translate(batch["x"], to=own_domain(prior)).shape == (
        2,
        3,
        64,
        64,
    )  # what `lightning translate` asks for
    with pytest.raises(ZooError, match="0 to 2, not 'target'"):
        prior.translate(batch["x"], to="target")


def test_validation_tells_pairs_from_strangers(tmp_path: Path) -> None:
    prior = PriorDistillation(**SMALL)
    trainer = fit(prior, 2, tmp_path, data=scenes(validation_count=4), val_check_interval=2)
    figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert {"val/content_distance", "val/content_distance_others", "val/content_found", "val/mask_error"} <= set(
        figures
    )
    assert 0 <= figures["val/content_found"] <= 1
    assert figures["val/content_distance_others"] > 0


def test_an_impossible_number_of_domains_is_refused() -> None:
    with pytest.raises(ZooError, match="two or more"):
        PriorDistillation(**{**SMALL, "domains": 1})
