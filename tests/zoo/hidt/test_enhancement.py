"""The enhancement: exact in tiles, deterministic, four times as large, and trained on what should come out."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.driving import Counts, drive
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules import Scenes
from support.training import fit
from zoo.core.images import psnr, resize
from zoo.core.loading import load_translator
from zoo.errors import ZooError
from zoo.hidt import HiDT
from zoo.hidt.enhancement import HiDTEnhancer, MultiScaleDiscriminator, feature_loss, shifted
from zoo.hidt.enhancer import Enhancer
from zoo.hidt.pictures import enlarged_for_crops, in_place, shifted_crop, stacked, to_pixels

SMALL: dict[str, Any] = {
    "translator": "random",
    "generator_channels": 5,
    "encoder_blocks": 1,
    "decoder_blocks": 1,
    "mapping_channels": 6,
    "enhancer_channels": 4,
    "enhancer_groups": 1,
    "enhancer_growth": 2,
    "discriminator_channels": 2,
    "discriminator_layers": 2,
    "perceptual": None,
    "crop": 8,
    "inference_size": 16,
    "tile": 8,
}


def small(**arguments: Any) -> HiDTEnhancer:
    torch.manual_seed(0)
    return HiDTEnhancer(**{**SMALL, **arguments})


def scenes(**arguments: Any) -> Scenes:
    return Scenes(**{"task": "daylight", "size": 64, "batch_size": 1, "validation_count": 2, **arguments})


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def batch(size: int = 64) -> dict[str, Tensor]:
    return {"source": noise(1, 3, size, size), "target": noise(1, 3, size, size, seed=1)}


# The network ---------------------------------------------------------------------------------------------------------------------


def test_parameter_count() -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in Enhancer().parameters()) == 3_995_843
        assert Enhancer()(torch.empty(1, 48, 16, 24)).shape == (1, 3, 64, 96)


@pytest.mark.parametrize("tile", [5, 16, 39])
def test_tiles_are_what_the_whole_is(tile: int) -> None:
    torch.manual_seed(0)
    enhancer = Enhancer(3, 1, 2).double().requires_grad_(False)
    stack = noise(1, 48, 40, 57).double()
    torch.testing.assert_close(enhancer.forward_in_tiles(stack, tile), enhancer(stack), rtol=1e-12, atol=1e-12)


def test_a_tile_takes_the_memory_of_a_tile() -> None:
    enhancer, sizes = Enhancer(3, 1, 2).requires_grad_(False), []
    for layer in enhancer.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _, __, output: sizes.append(output.numel()))
    largest = {}
    for side in (64, 128):
        sizes.clear()
        enhancer.forward_in_tiles(noise(1, 48, side, side), 16)
        largest[side] = max(sizes)
    assert largest[64] == largest[128]


# Crops and stack -----------------------------------------------------------------------------------------------------------------


def test_places_of_the_stack_show_their_own_pixels_or_black() -> None:
    height, width = 16, 32  # powers of two, where no place falls between two pixels
    crop = noise(1, 3, height, width)
    for number in range(16):
        x, y = divmod(number, 4)
        rows, columns = (torch.arange(n) * (4 * n + 4) // n - shift for n, shift in ((height, y), (width, x)))
        there = ((rows >= 0) & (rows < 4 * height))[:, None] & ((columns >= 0) & (columns < 4 * width))
        own = crop[:, :, (rows // 4).clamp(0, height - 1)][..., (columns // 4).clamp(0, width - 1)]
        assert torch.equal(in_place(crop, number), torch.where(there, own, -1.0))
    assert stacked([noise(2, 3, 20, 24)] * 16).shape == (2, 48, 20, 24)


def test_training_shifts_pictures_as_inference_does() -> None:
    picture = F.interpolate(noise(1, 3, 9, 9), (64, 64), mode="bicubic").clamp(-1, 1)
    large = enlarged_for_crops(to_pixels(picture[0]), 64)
    ours = resize(picture, 68, 68, filter="bilinear")
    for number in (0, 7, 12, 15):
        theirs = torch.from_numpy(shifted_crop(large, number, 64).copy()).permute(2, 0, 1) / 127.5 - 1
        crop = resize(shifted(ours, number), 16, 16, filter="bilinear")[0]
        assert (crop - theirs).abs().max() < 3 / 127.5
        assert (crop - theirs).abs().mean() < 1 / 127.5


# Inference -----------------------------------------------------------------------------------------------------------------------


def test_a_picture_of_any_size_is_enlarged_in_the_same_way_each_time() -> None:
    model, picture = small(), noise(1, 3, 70, 100)
    result = model.translate(picture, latent=torch.zeros(1, 3))
    assert result.shape == (1, 3, 64, 64)  # 22 pixels of the longer side round to 16
    assert torch.equal(result, model.translate(picture, latent=torch.zeros(1, 3)))
    assert result.abs().max() <= 1
    wide = model.translate(picture, latent=torch.zeros(1, 3), resolution=128)
    assert wide.shape == (1, 3, 128, 192)
    two = model.translate(picture, latent=noise(2, 3))
    assert two.shape == (2, 3, 64, 64)
    assert not torch.equal(two[0], two[1])
    torch.testing.assert_close(two[1:], model.translate(picture, latent=noise(2, 3)[1:]))
    by_exemplar = model.translate(picture, reference=picture)
    assert not torch.equal(by_exemplar, result)
    assert not torch.equal(small(inference_noise=True).translate(picture, latent=torch.zeros(1, 3)), result)
    assert (
        model.named_styles.keys()
        == HiDT(**{k: v for k, v in SMALL.items() if k.startswith("generator")}).named_styles.keys()
    )


def test_what_cannot_be_asked_for() -> None:
    model, picture = small(), noise(2, 3, 64, 64)
    with pytest.raises(ZooError, match="at least 64 pixels"):
        model.translate(picture, resolution=32)
    with pytest.raises(ZooError, match="2 pictures and 3 styles"):
        model.translate(picture, latent=noise(3, 3))
    with pytest.raises(ZooError, match="not both"):
        model.translate(picture, latent=noise(2, 3), reference=picture)
    with pytest.raises(ZooError, match="not to 'night'"):
        model.translate(picture, to="night")


def test_samples_and_validation() -> None:
    model, pictures, logged = small(), batch(), {}
    columns = model.samples(pictures)
    assert list(columns) == ["source", "small", "reconstruction", "exemplar", "translation"]
    assert {image.shape for image in columns.values()} == {(1, 3, 64, 64)}
    assert torch.equal(columns["translation"], model.translate_batch(pictures))
    model.log_dict = lambda figures, **_: logged.update(figures)  # type: ignore[method-assign, assignment]
    model.validation_step(pictures, 0)
    assert logged["val/reconstruction_psnr"] == psnr(columns["reconstruction"], pictures["source"]).mean()
    assert logged["val/enlarged_psnr"].isfinite()


# Training ------------------------------------------------------------------------------------------------------------------------


def test_the_translator_stays_and_everything_resumes_to_the_bit(tmp_path: Path) -> None:
    options: dict[str, Any] = {"ema_decay": 0.5, "perceptual": "random", "perceptual_channels": 2, "crop": 16}
    whole = small(**options)
    before = {name: value.clone() for name, value in whole.state_dict().items()}
    trainer = fit(whole, 4, tmp_path / "whole", data=scenes(), precision="32-true", val_check_interval=4)
    assert trainer.callback_metrics["val/reconstruction_psnr"] > 0
    after = whole.state_dict()
    moved = {name.partition(".")[0] for name in after if not torch.equal(after[name], before[name])}
    assert moved == {"enhancer", "discriminator", "ema"}
    assert not any(name.startswith("vgg") for name in after)
    fit(small(**options), 2, tmp_path / "part", data=scenes(), precision="32-true")
    (checkpoint,) = (tmp_path / "part" / "checkpoints").glob("*.ckpt")
    torch.manual_seed(1)
    resumed = HiDTEnhancer(**{**SMALL, **options})
    fit(resumed, 4, tmp_path / "rest", data=scenes(), precision="32-true", resume=checkpoint)
    assert all(torch.equal(value, after[name]) for name, value in resumed.state_dict().items())
    loaded = load_translator(checkpoint)
    assert isinstance(loaded, HiDTEnhancer)
    assert torch.equal(loaded.translator.style_encoder.head.bias, whole.translator.style_encoder.head.bias)


def test_what_is_learnt_is_the_picture_itself() -> None:
    model, pictures = small(crop=8), noise(2, 3, 64, 64)
    stack = torch.arange(16 * 16).float().view(1, 1, 16, 16).expand(2, 48, -1, -1)
    large = F.interpolate(stack[:, :1], scale_factor=4.0).expand(-1, 3, -1, -1)
    places = set()
    for iteration in range(8):
        model.draws.begin(iteration, torch.device("cpu"), torch.float32)
        part, wanted = model.cut(stack, large)
        assert part.shape == (2, 48, 8, 8)
        assert torch.equal(F.interpolate(part[:, :1], scale_factor=4.0), wanted[:, :1])
        places.add(float(part[0, 0, 0, 0]))
    assert len(places) > 4
    whole, wanted = small(crop=99).cut(model.auto_encoded(pictures), pictures)
    assert whole.shape == (2, 48, 16, 16)
    assert torch.equal(wanted, pictures)
    style = model.translator.style_encoder(resize(pictures, 16, 16).clamp(-1, 1))
    large = resize(pictures, 68, 68, filter="bilinear")
    crop = model.translator(resize(shifted(large, 6), 16, 16, filter="bilinear"), style).image
    torch.testing.assert_close(whole[:, 18:21], in_place(crop, 6))


def test_every_term_has_its_own_weight(tmp_path: Path) -> None:
    weights = {"reconstruction": 2.0, "adversarial": 3.0, "feature": 5.0, "perceptual": 7.0}
    model, terms = (
        small(
            **{f"lambda_{name}": value for name, value in weights.items()},
            perceptual="random",
            perceptual_channels=2,
            crop=16,
        ),
        {},
    )
    keep = model.log_terms
    model.log_terms = lambda new, *rest: (terms.update({k: v.item() for k, v in new.items()}), keep(new, *rest))  # type: ignore[method-assign, assignment]
    fit(model, 1, tmp_path, data=scenes(), precision="32-true")
    assert terms["enhancer"] == pytest.approx(sum(weights[name] * terms[name] for name in weights), rel=1e-5)
    assert terms["discriminator"] > 0


def test_features_are_compared_at_every_size() -> None:
    torch.manual_seed(0)
    discriminator = MultiScaleDiscriminator(2, 2, 2)
    made, real = discriminator(noise(1, 3, 32, 32)), discriminator(noise(1, 3, 32, 32, seed=1))
    assert [len(features) for _, features in made] == [3, 3]
    assert made[1][1][0].shape[-1] < made[0][1][0].shape[-1]
    assert feature_loss(made, made) == 0
    by_hand = sum(
        sum((x - y).abs().mean() for x, y in zip(a, b, strict=True)) / 3
        for (_, a), (_, b) in zip(made, real, strict=True)
    )
    torch.testing.assert_close(feature_loss(made, real), by_hand)


def test_each_network_runs_as_often_as_it_must() -> None:
    model, passes = small(), defaultdict(list)

    def keep(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
            image = output if isinstance(output, Tensor) else output[0]
            image = image if isinstance(image, Tensor) else image[0]
            passes[name].append((len(inputs[0]), image.requires_grad))

        return hook

    for name in ("translator", "translator.style_encoder", "enhancer", "discriminator"):
        model.get_submodule(name).register_forward_hook(keep(name))
    drive(model, batch(), 1)
    assert passes == {
        "translator.style_encoder": [(2, False)],
        "translator": [(2, False)] * 16,
        "enhancer": [(2, True)],
        "discriminator": [(4, True), (2, True), (2, False)],  # real and made at once; made; what it sees in real ones
    }
    counts = Counts(1)
    drive(small(), batch(), 3, counts)
    assert counts.host_reads.count("tolist") == 1


# What it stands on ---------------------------------------------------------------------------------------------------------------


def test_a_run_of_the_translation_network_is_a_translator(tmp_path: Path) -> None:
    generator = {
        key: value for key, value in SMALL.items() if key.startswith(("generator", "encoder", "decoder", "mapping"))
    }
    torch.manual_seed(3)
    translator = HiDT(**generator, discriminator_channels=2, discriminator_levels=2, inference_size=32, ema_decay=0.5)
    fit(translator, 1, tmp_path / "hidt", data=scenes(size=32), precision="32-true")
    (checkpoint,) = (tmp_path / "hidt" / "checkpoints").glob("*.ckpt")
    model = small(translator=str(checkpoint))
    fit(model, 1, tmp_path / "enhancer", data=scenes(), precision="32-true")
    assert translator.ema is not None
    averaged = translator.ema["generator"].state_dict()
    assert all(torch.equal(value, averaged[name]) for name, value in model.translator.state_dict().items())
    other = small(translator=str(checkpoint), generator_channels=6)
    with pytest.raises(ZooError, match=r"other sizes.*--model\.generator_channels 5"):
        fit(other, 1, tmp_path / "other", data=scenes(), precision="32-true")


def test_sizes_that_cannot_be_cut_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match=r"32x32.*a multiple of 16: --data\.size 64"):
        fit(small(), 1, tmp_path, data=scenes(size=32))


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    assert HiDTEnhancer.missing({"translator": "random", "perceptual": None}) == []
    translator, vgg = HiDTEnhancer.missing({})
    assert "hidt_daytime.pt" in translator
    assert "--model.translator" in translator
    assert "--model.perceptual null" in vgg
    (only_vgg,) = HiDTEnhancer.missing({}, resumed=True)
    assert only_vgg == vgg
