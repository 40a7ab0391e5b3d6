"""StarGAN v2's acceptance list, and what the golden numbers do not reach."""

import json
from math import sqrt
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.driving import drive
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from datamodules import Scenes
from support.training import fit
from zoo.core.checkpoints import read_checkpoint
from zoo.core.loading import load_translator
from zoo.errors import ZooError
from zoo.experts.fan import FAN
from zoo.starganv2 import StarGANv2
from zoo.starganv2.model import NETWORKS
from zoo.starganv2.networks import Generator

LOOKS = ("plain", "striped", "dotted")
SMALL: dict[str, Any] = {
    "image_size": 32,
    "domains": LOOKS,
    "channels": 2,
    "max_channels": 4,
    "style_channels": 3,
    "latent_channels": 2,
    "mapping_channels": 4,
    "learning_rate": 1e-3,
    "mapping_learning_rate": 1e-3,
}
KEYS = Path(__file__).parents[2] / "golden" / "data" / "starganv2" / "keys.json"


def small(**arguments: Any) -> StarGANv2:
    torch.manual_seed(0)
    return StarGANv2(**{**SMALL, **arguments})


def scenes(**arguments: Any) -> Scenes:
    settings = {"task": "domains", "domains": LOOKS, "size": 32, "batch_size": 2, "validation_count": 2}
    return Scenes(**{**settings, **arguments})


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def batch(target: int = 1) -> dict[str, Tensor]:
    return {
        "image": noise(2, 3, 32, 32),
        "domain": torch.tensor([0, 1]),
        "reference": noise(2, 3, 32, 32, seed=1),
        "reference2": noise(2, 3, 32, 32, seed=2),
        "reference_domain": torch.tensor([target, target]),
    }


def weights(model: StarGANv2, *names: str) -> dict[str, Tensor]:
    state = model.state_dict()
    return {key: state[key].clone() for key in state if key.startswith(tuple(f"{name}." for name in names))}


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {key.partition(".")[0] for key, value in before.items() if not torch.equal(value, after[key])}


# Networks ------------------------------------------------------------------------------------------------------------


def test_without_the_last_norm_the_channels_means_come_through() -> None:
    pictures = noise(2, 3, 32, 32) * 0.1 + torch.tensor([-0.8, 0.8]).reshape(2, 1, 1, 1)
    means = {}
    for last_norm in (True, False):
        generator = small(last_norm=last_norm).generator
        generator.to_rgb[0].register_forward_hook(
            lambda *call, last_norm=last_norm: means.update({last_norm: call[-1].mean((2, 3))})
        )
        generator(pictures, noise(2, 3))
    torch.testing.assert_close(means[True][0], means[True][1], atol=1e-5, rtol=0)  # whatever is drawn
    assert (means[False][0] - means[False][1]).abs().max() > 0.1


@pytest.mark.parametrize(
    ("config", "settings", "counts"),
    [
        (
            "celeba_hq",
            {"domains": ["female", "male"], "w_hpf": 1.0, "landmarks": "random"},
            {
                "generator": 43_467_395,
                "mapping_network": 2_438_272,
                "style_encoder": 20_916_928,
                "discriminator": 20_852_290,
            },
        ),
        (
            "afhq",
            {},
            {
                "generator": 33_892_995,
                "mapping_network": 3_259_072,
                "style_encoder": 20_949_760,
                "discriminator": 20_852_803,
            },
        ),
    ],
)
def test_published_configurations_have_the_official_keys_and_counts(
    config: str, settings: dict[str, Any], counts: dict[str, int]
) -> None:
    official = json.loads(KEYS.read_text())[config]
    with torch.device("meta"):
        model = StarGANv2(**settings)
        networks: dict[str, nn.Module] = {name: model.get_submodule(name) for name in (*NETWORKS, "discriminator")}
        states = {name: network.state_dict() for name, network in networks.items()}
    assert {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()} == counts
    if "fan" in official:
        fan = FAN()
        states["fan"] = fan.own_state()
        assert sum(p.numel() for p in fan.parameters()) == 6_333_603
    assert {name: {k: list(v.shape) for k, v in state.items()} for name, state in states.items()} == official


@pytest.mark.parametrize(
    ("size", "w_hpf", "count"), [(128, 0, 33_632_003), (512, 1, 43_538_499), (1024, 0, 33_984_803)]
)
def test_other_sizes_have_the_official_widths(size: int, w_hpf: float, count: int) -> None:
    with torch.device("meta"):
        model = StarGANv2(image_size=size, domains=["a", "b"], w_hpf=w_hpf)
    assert sum(p.numel() for p in model.generator.parameters()) == count


def test_initial_weights_are_he_s_and_averages_start_apart() -> None:
    model = small(channels=16, max_channels=32, mapping_channels=64)
    for name in (*NETWORKS, "discriminator"):
        for layer in model.get_submodule(name).modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                assert layer.bias is None or not layer.bias.any()
                if layer.weight.numel() > 2000:
                    assert layer.weight.std().item() == pytest.approx(sqrt(2 / layer.weight[0].numel()), rel=0.1)
            elif isinstance(layer, nn.InstanceNorm2d):
                assert (layer.weight == 1).all()
                assert not layer.bias.any()
    assert not torch.equal(model.ema["generator"].from_rgb.weight, model.generator.from_rgb.weight)
    bound = 1 / sqrt(27)  # PyTorch's own initial weights of a 3x3 convolution of three channels
    assert model.ema["generator"].from_rgb.weight.abs().max() <= bound
    assert model.ema["generator"].from_rgb.bias.any()


def test_shortcuts_of_high_pass_generators_are_off_the_path() -> None:
    generator = Generator(32, 2, 4, 3, w_hpf=1.0)
    x, style = noise(1, 3, 32, 32), noise(1, 3)
    masks = [noise(1, 1, 8, 8).abs(), noise(1, 1, 8, 8, seed=1).abs()]
    with_masks = generator(x, style, masks)
    assert not torch.allclose(with_masks, generator(x, style))
    with_masks.sum().backward()
    gradients = {name: p.grad for name, p in generator.named_parameters()}
    off = {name for name, gradient in gradients.items() if gradient is None}
    assert off == {name for name in gradients if name.startswith("decode.") and "conv1x1" in name}
    assert off


def test_pictures_of_other_heights_skip_at_a_power_of_two() -> None:
    model = small(image_size=64, w_hpf=1.0, landmarks="random")
    mask = torch.ones(1, 1, 8, 8)
    model.masks = lambda image: (mask, mask)  # type: ignore[method-assign, assignment]
    seen: list[torch.Size] = []
    model.ema["generator"].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[2:]))
    for height, width in ((64, 80), (72, 64), (40, 120)):
        made = model.translate(noise(1, 3, height, width), to="plain", latent=noise(1, 2))
        assert made.shape == (1, 3, height, width)
    assert seen == [(64, 80), (64, 56), (32, 96)]
    plain = small(image_size=64)
    plain.ema["generator"].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[2:]))
    plain.translate(noise(1, 3, 72, 64), to="plain", latent=noise(1, 2))
    assert seen[-1] == (72, 64)


# Training ------------------------------------------------------------------------------------------------------------


class AfterEachTurn(Callback):
    """Which networks moved in each turn."""

    def __init__(self, room: StarGANv2) -> None:
        self.turns: list[tuple[str, set[str]]] = []
        for name in ("update_discriminator", "update_generator"):
            self._watch(room, name)

    def _watch(self, room: StarGANv2, name: str) -> None:
        method = getattr(room, name)

        def watched(kind: str, *arguments: Any) -> None:
            before = weights(room, *NETWORKS, "discriminator", "ema")
            method(kind, *arguments)
            self.turns.append(
                (f"{name.partition('_')[2]} {kind}", moved(before, weights(room, *NETWORKS, "discriminator", "ema")))
            )

        setattr(room, name, watched)


def test_each_turn_moves_its_own_networks_alone(tmp_path: Path) -> None:
    model = small()
    watch = AfterEachTurn(model)
    fit(model, 1, tmp_path, data=scenes())
    assert watch.turns == [
        ("discriminator latent", {"discriminator"}),
        ("discriminator reference", {"discriminator"}),
        ("generator latent", {"generator", "mapping_network", "style_encoder"}),
        ("generator reference", {"generator"}),
    ]


def test_absent_domains_move_with_gradients_of_zero() -> None:
    class Look(Callback):
        seen: dict[str, Tensor | None]

        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            names = {id(p): name for name, p in pl_module.named_parameters()}
            self.seen = {}

            def look(optimizer: torch.optim.Optimizer, *_: object) -> None:
                for group in optimizer.param_groups:
                    self.seen |= {names[id(p)]: None if p.grad is None else p.grad.clone() for p in group["params"]}

            for optimizer in trainer.optimizers:
                optimizer.register_step_pre_hook(look)

    model, look = small(), Look()
    given = batch(target=1)
    before = weights(model, "mapping_network", "style_encoder")
    drive(model, given, 1, look)
    absent = [name for name in look.seen if name.startswith(("mapping_network.unshared.2", "style_encoder.unshared.2"))]
    assert absent
    for name in absent:
        gradient = look.seen[name]
        assert gradient is not None
        assert not gradient.any()
    after = weights(model, "mapping_network", "style_encoder")
    own = [name for name in absent if name.endswith("weight")]
    assert all(not torch.equal(before[name], after[name]) for name in own)  # by weight decay


def test_averages_follow_after_the_iteration(tmp_path: Path) -> None:
    model = small()
    before = weights(model, "ema")
    fit(model, 1, tmp_path, data=scenes())
    after, now = weights(model, "ema"), weights(model, *NETWORKS)
    assert {key.split(".")[1] for key in before} == set(NETWORKS)
    for key, value in before.items():
        expected = 0.999 * value + 0.001 * now[key.removeprefix("ema.")]
        torch.testing.assert_close(after[key], expected)


def test_the_diversity_weight_falls_and_stays_at_zero() -> None:
    model = small(lambda_diversity=1.0, diversity_iterations=100_000)
    assert [model.diversity_weight(k) for k in (0, 1, 50_000)] == pytest.approx([1.0, 0.99999, 0.5])
    assert small(lambda_diversity=0.9, diversity_iterations=1).diversity_weight(1) == 0
    model = small(lambda_diversity=2.0, diversity_iterations=10, discriminator_warmup=3)
    assert [model.diversity_weight(k) for k in (0, 3, 8, 13, 14, 99)] == pytest.approx([2.0, 2.0, 1.0, 0.0, 0.0, 0.0])


def test_masks_are_made_in_full_precision() -> None:
    model = small(image_size=64, w_hpf=1.0, landmarks="random")
    picture = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        plain = model.masks(picture)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = model.masks(picture)
    assert plain is not None
    assert mixed is not None
    assert all(torch.equal(a, b) and a.dtype == torch.float32 for a, b in zip(plain, mixed, strict=True))


def test_landmarks_stay_as_they_are_and_out_of_the_checkpoint(tmp_path: Path) -> None:
    model = small(w_hpf=1.0, landmarks="random")
    before = FAN().own_state()
    fit(model, 1, tmp_path, data=scenes(batch_size=1), precision="32-true", limit_val_batches=0)
    assert model.fan is not None
    assert all(torch.equal(value, before[key]) for key, value in model.fan.own_state().items())
    checkpoint = read_checkpoint(next((tmp_path / "checkpoints").glob("*.ckpt")))
    assert not [key for key in checkpoint["state_dict"] if key.startswith("fan")]
    assert load_translator(next((tmp_path / "checkpoints").glob("*.ckpt"))).translate(
        noise(1, 3, 32, 32), to="plain", latent=noise(1, 2)
    ).shape == (1, 3, 32, 32)


def test_a_warm_up_moves_the_discriminator_alone(tmp_path: Path) -> None:
    model = small(discriminator_warmup=2)
    watch = AfterEachTurn(model)
    averages = weights(model, "ema")
    fit(model, 3, tmp_path, data=scenes())
    assert [name for name, _ in watch.turns] == 2 * ["discriminator latent", "discriminator reference"] + [
        "discriminator latent",
        "discriminator reference",
        "generator latent",
        "generator reference",
    ]
    assert moved(averages, weights(model, "ema"))


def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole, part = small(), small()
    fit(whole, 4, tmp_path / "whole", data=scenes(), precision="32-true")
    fit(part, 2, tmp_path / "part", data=scenes(), precision="32-true", every=2)
    resumed = small(lambda_diversity=SMALL.get("lambda_diversity", 2.0))
    fit(
        resumed,
        4,
        tmp_path / "part",
        data=scenes(),
        precision="32-true",
        resume=tmp_path / "part/checkpoints/iteration_00000002.ckpt",
    )
    assert all(torch.equal(value, resumed.state_dict()[key]) for key, value in whole.state_dict().items())


def test_bfloat16_trains(tmp_path: Path) -> None:
    model = small()
    fit(model, 1, tmp_path, data=scenes(), precision="bf16-mixed")
    assert all(value.isfinite().all() for value in model.state_dict().values())


# Inference -----------------------------------------------------------------------------------------------------------


def test_translate_by_reference_by_chance_and_towards_the_mean() -> None:
    model, picture = small(), noise(2, 3, 32, 32)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    by_reference = model.translate(picture, to="dotted", reference=noise(1, 3, 40, 30, seed=1))
    by_chance = model.translate(picture, to="dotted", latent=noise(1, 2))
    assert by_reference.shape == by_chance.shape == picture.shape
    assert by_reference.abs().max() <= 1
    assert not by_reference.requires_grad
    assert torch.equal(model.translate(picture, to="dotted"), model.translate(picture, to="dotted"))
    assert not torch.equal(by_chance, model.translate(picture, to="striped", latent=noise(1, 2)))
    many = model.translate(picture[:1], to="plain", latent=noise(3, 2))
    assert many.shape == (3, 3, 32, 32)
    mean = model.translate(picture, to="plain", latent=noise(1, 2), truncation=0.0)
    torch.testing.assert_close(mean, model.translate(picture, to="plain", latent=noise(1, 2, seed=5), truncation=0.0))
    assert not torch.equal(mean, model.translate(picture, to="plain", latent=noise(1, 2)))
    wide = model.translate(noise(1, 3, 36, 50), to="plain", latent=noise(1, 2), clamp=False)
    assert wide.shape == (1, 3, 36, 50)
    assert model.generator.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_mean_style_follows_the_weights() -> None:
    model = small()
    first = model.mean_style("dotted")
    assert model.mean_style("dotted") is first
    with torch.no_grad():
        list(model.ema["mapping_network"].parameters())[-1].add_(1.0)
    assert not torch.equal(model.mean_style("dotted"), first)


def test_samples_and_figures(tmp_path: Path) -> None:
    model, given = small(), batch()
    columns = model.samples(given)
    assert list(columns) == ["source", "reference", "translation", "there and back", "random style 1", "random style 2"]
    assert torch.equal(columns["translation"], model.translate_batch(given))
    assert not torch.equal(columns["random style 1"], columns["random style 2"])
    trainer = fit(model, 1, tmp_path, data=scenes(), val_check_interval=1)
    assert {"val/cycle_psnr", "val/style_distance", "val/diversity"} <= trainer.callback_metrics.keys()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"image_size": 48}, "power of two from 32 on: --model.image_size 64"),
        ({"image_size": 8, "w_hpf": 1.0}, "from 16 on"),
        ({"domains": ["a", "a"]}, "different names"),
        ({"domains": []}, "different names"),
        ({"diversity_iterations": 0}, "diversity_iterations is 0"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ZooError, match=words):
        small(**settings)


def test_mistakes_in_translating_are_told() -> None:
    model, picture = small(), noise(2, 3, 32, 32)
    with pytest.raises(ZooError, match=r"no domain 'zebra'\. This model knows plain, striped, dotted"):
        model.translate(picture, to="zebra")
    with pytest.raises(ZooError, match=r"--to striped$"):
        model.translate(picture, to="stripes")
    with pytest.raises(ZooError, match=r"no domain to translate into was named.* --to plain$"):
        model.translate(picture)
    with pytest.raises(ZooError, match="not both"):
        model.translate(picture, to="plain", latent=noise(1, 2), reference=picture)
    with pytest.raises(ZooError, match="2 pictures and 3 styles"):
        model.translate(picture, to="plain", latent=noise(3, 2))
    with pytest.raises(ZooError, match="multiples of 2"):
        model.translate(noise(1, 3, 33, 32), to="plain")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"size": 64}, "64x64, and the model is built for 32x32: --data.size 32"),
        ({"domains": ("plain", "dotted", "striped")}, r"--model.domains \[plain,dotted,striped\]"),
    ],
)
def test_data_that_does_not_fit_is_refused(tmp_path: Path, data: dict[str, Any], words: str) -> None:
    with pytest.raises(ZooError, match=words):
        fit(small(), 1, tmp_path, data=scenes(**data))


def test_missing_weights_are_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    assert StarGANv2.missing({}) == []
    assert StarGANv2.missing({"w_hpf": 1.0, "landmarks": "random"}) == []
    (faces,) = StarGANv2.missing({"w_hpf": 1.0})
    assert "starganv2_fan" in faces
