"""HiDT against numbers recorded from the official inference code and, for its training, from an independent computation."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.preprocess import Transform
from golden.golden import Golden, GoldenMismatchError, check, every_file, fit, norms_and_means
from zoo.core.images import from_uint8
from zoo.hidt.enhancer import Enhancer, translated_crops
from zoo.hidt.generator import Content, Generator
from zoo.hidt.losses import StylePool, distribution_loss
from zoo.hidt.model import HiDT, swap_halves
from zoo.hidt.pictures import enlarged_for_crops, resized_for_inference, shifted_crop, stacked, to_input, with_noise
from zoo.hidt.styles import NAMED_STYLES, between
from zoo.weights.hidt import ENHANCER_NAMES, GENERATOR_NAMES, STATISTICS, renamed

GENERATOR_KEYS = {
    "dim",
    "enc_blocks",
    "dec_blocks",
    "style_dim",
    "adain_hidden",
    "adain_layers",
    "seg_dim",
    "seg_func",
}
MASK_OUTPUTS = {"logsoftmax": "log_softmax"}  # the others have our names
CROPS = 16


def known(arguments: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """Arguments of which nothing is overlooked."""
    if unknown := set(arguments) - names:
        raise GoldenMismatchError("config", f"has {sorted(unknown)}, which this test does not know how to follow")
    return dict(arguments)


def generator_settings(official: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `HiDT`, and in their order of `Generator`, that an official generator's say."""
    given = known(official, GENERATOR_KEYS)
    output = given.get("seg_func", "tanh")
    return {
        "generator_channels": given["dim"],
        "encoder_blocks": given["enc_blocks"],
        "decoder_blocks": given["dec_blocks"],
        "style_channels": given["style_dim"],
        "mapping_channels": given["adain_hidden"],
        "mapping_layers": given.get("adain_layers", 3),
        "mask_channels": given["seg_dim"],
        "mask_output": MASK_OUTPUTS.get(output, output),
    }


def generator_state(golden: Golden, prefix: str = "state/") -> dict[str, Tensor]:
    kept = {key: value for key, value in golden.state(prefix).items() if not key.endswith(STATISTICS)}
    ours, unknown = renamed(kept, GENERATOR_NAMES)
    assert not unknown, unknown
    return ours


def make_generator(golden: Golden, prefix: str = "state/") -> Generator:
    generator = Generator(*generator_settings(golden.config["generator"]).values()).double()
    generator.load_state_dict(generator_state(golden, prefix), strict=True)
    return generator


def make_enhancer(state: dict[str, Tensor], *sizes: int) -> Enhancer:
    enhancer = Enhancer(*sizes).double()
    ours, unknown = renamed(state, ENHANCER_NAMES)
    assert not unknown, unknown
    enhancer.load_state_dict(ours, strict=True)
    return enhancer


def part_of(content: Content, samples: slice) -> Content:
    return Content(content.code[samples], tuple(skip[samples] for skip in content.skips))


def flat(style: Tensor) -> Tensor:
    """The official styles are pictures of one pixel."""
    return style.flatten(1)


def compare_as_stored(golden: Golden, key: str, actual: Tensor) -> None:
    """Compare with what a file keeps in float32: it may differ by that rounding, half a unit in the last place, beyond the tolerance."""
    stored = golden.layout(key)
    expected = stored.double().abs()
    rounding = torch.finfo(stored.dtype).eps / 2 * expected if stored.dtype != torch.float64 else 0.0
    golden.compare(key, actual, golden.config["atol"] + golden.config["rtol"] * expected + rounding)


# Networks --------------------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def check_generator(golden: Golden) -> None:
    generator = make_generator(golden)
    images = golden.given("in/images")
    content, style = generator.encode(images)
    golden.compare("out/content", content.code)
    golden.compare("out/skip_half", content.skips[0])
    golden.compare("out/skip_full", content.skips[1])
    golden.compare("out/style", style[..., None, None])
    golden.compare("out/adain_params", generator.decoder.mapping(style))
    golden.compare("out/decoder_raw", generator.decoder.paint(content, style))
    decodings = {"auto": style, "random": flat(golden.given("in/style_random"))}
    for name, wanted in decodings.items():
        image, mask = generator.decoder(content, wanted)
        golden.compare(f"out/{name}_images", image)
        assert (mask is None) == (generator.decoder.last.out_channels == 3)
        if f"out/{name}_segmentation_maps" in golden.expected:
            assert mask is not None
            golden.compare(f"out/{name}_segmentation_maps", mask)
    if "out/swap01_images" in golden.expected:
        golden.compare("out/swap01_images", generator(images[:1], style[1:2]).image)
    half = len(images) // 2
    for name, of, by in (("ab", slice(0, half), slice(half, None)), ("ba", slice(half, None), slice(0, half))):
        if f"out/{name}_images" in golden.expected:
            golden.compare(f"out/{name}_images", generator.decoder(part_of(content, of), style[by]).image)


@torch.no_grad()
def check_enhancer(golden: Golden) -> None:
    sizes = known(golden.config["rrdbnet"], {"in_nc", "out_nc", "nf", "nb", "gc"})
    assert sizes["out_nc"] == 3
    enhancer = make_enhancer(golden.state(), sizes["nf"], sizes["nb"], sizes["gc"], sizes["in_nc"])
    stack = golden.given("in/stack")
    first = enhancer.first(stack)
    golden.compare("out/conv_first", first)
    x = first
    for number, group in enumerate(enhancer.groups):
        x = group(x)
        if f"out/rrdb{number}" in golden.expected:
            golden.compare(f"out/rrdb{number}", x)
    image = enhancer(stack)
    torch.testing.assert_close(enhancer.forward_in_tiles(stack, 3), image, rtol=1e-9, atol=1e-11)
    golden.compare("out/image", image)
    golden.compare("out/image_clamped01", (image.clamp(-1, 1) + 1) / 2)


# Pictures --------------------------------------------------------------------------------------------------------------------------


def check_data_transforms(golden: Golden) -> None:
    for number, case in enumerate(golden.config["cases"]):
        if "train_crop" in case:
            check_train_crop(golden, case)
            continue
        picture = golden.given(f"in/image_{number}").numpy()
        assert picture.shape[:2] == (case["h"], case["w"])
        resized = resized_for_inference(picture, golden.config["load_size"])
        assert resized.shape[:2] == (case["out_h"], case["out_w"])
        noise = golden.given(f"noise/{number}_dequant")
        golden.compare(f"out/image_{number}", with_noise(to_input(resized, golden.dtype), noise))


def check_train_crop(golden: Golden, case: dict[str, Any]) -> None:
    """As the data module prepares pictures of a training, and the model its noise."""
    transform = Transform("shorter_side_and_crop", case["load_size"], case["crop"])
    resized = transform.resize(golden.given("in/train_image").numpy())
    assert resized.shape[:2] == tuple(reversed(case["resized_wh"]))
    cropped = transform.finish(resized, tuple(case["crop_pos_xy"]), case["flip"])
    plain = from_uint8(torch.from_numpy(cropped.copy()).permute(2, 0, 1)).to(golden.dtype)
    name = f"train_{case['train_crop']}"
    golden.compare(f"out/train_crop_{case['train_crop']}", with_noise(plain, golden.given(f"noise/{name}_dequant")))


@torch.no_grad()
def check_data_grid_crop(golden: Golden) -> None:
    resolution = golden.config["hires_size"]
    assert (golden.config["pad"], golden.config["stride"]) == (4, 1), "another number of crops"
    large = enlarged_for_crops(golden.given("in/image").numpy(), resolution)
    crops = [torch.from_numpy(shifted_crop(large, number, resolution).copy()) for number in range(CROPS)]
    golden.compare("out/crops", torch.stack(crops))
    stack = stacked(2 * crop[None] - 1 for crop in golden.given("in/translated_crops_01"))
    golden.compare("out/stack", stack)
    golden.compare("out/stack_unnormalised", (stack + 1) / 2)


@torch.no_grad()
def check_inference_pipeline(golden: Golden) -> None:
    """Every picture on the way from files to results; values in [0, 1]."""
    side = golden.config["inference_size"]
    translator = make_generator(golden, "state/gen/").eval()
    enhancer = make_enhancer(golden.state("state/enh/"), *golden.config["rrdbnet"])
    noise = dict(golden.tape("noise/"))
    exemplar, picture = golden.given("in/style").numpy(), golden.given("in/content").numpy()

    def prepared(image: Any, name: str) -> Tensor:
        return with_noise(to_input(resized_for_inference(image, side), golden.dtype), noise[name])[None]

    style = translator.style_encoder(prepared(exemplar, "style_dequant"))
    golden.compare("out/style", style[..., None, None])
    of_crops = iter(noise["crops_dequant"])

    def noisy(crop: Tensor) -> Tensor:
        return with_noise(crop, next(of_crops))

    crops = list(translated_crops(translator, picture, style, golden.config["hires_size"], noisy, side))
    compare_as_stored(golden, "out/low_01", (torch.cat(crops) + 1) / 2)
    stack = stacked(crops)
    golden.compare("out/stack_mean", stack.mean((0, 2, 3)))
    enhanced = enhancer.forward_in_tiles(stack, 8)[0].clamp(-1, 1)
    assert enhanced.shape[1:] == (4 * crops[0].shape[2], 4 * crops[0].shape[3])
    compare_as_stored(golden, "out/highres_01", (enhanced + 1) / 2)
    golden.compare("out/fullconv_01", (translator(prepared(picture, "full_dequant"), style).image[0] + 1) / 2)
    golden.compare("out/styles_txt", torch.tensor(list(NAMED_STYLES.values()), dtype=torch.float64))
    begin, _, end, count, *_ = golden.config["lapse"].replace(",", "").replace("of styles.txt ", "").split()
    ends = torch.tensor([NAMED_STYLES[begin], NAMED_STYLES[end]], dtype=torch.float64)
    content = translator.content_encoder(prepared(picture, "lapse_dequant"))
    frames = [translator.decoder(content, style).image for style in between(ends, int(count))]
    compare_as_stored(golden, "out/lapse_01", (torch.cat(frames) + 1) / 2)


# Losses and training ---------------------------------------------------------------------------------------------------------------

DISCRIMINATORS = {"du": "unconditional", "dc": "projection"}
BRANCHES = {"real": "real", "swap": "swap", "rand": "random"}
GENERATOR_TERMS = {
    "g_adv_swap": "adversarial",
    "g_adv_rand": "adversarial_random",
    "g_rec": "reconstruction",
    "g_rec_r": "reconstruction_random",
    "g_cyc": "cycle",
    "g_seg": "mask",
    "g_seg_r": "mask_random",
    "g_c": "content",
    "g_c_r": "content_random",
    "g_s": "style",
    "g_s_r": "style_random",
    "g_dist": "distribution",
    "g_total": "generator",
}
DISCRIMINATOR_TERMS = {
    f"d_{short[1]}_{theirs}": f"{name}_{ours}"
    for short, name in DISCRIMINATORS.items()
    for theirs, ours in BRANCHES.items()
}
TERMS = {**GENERATOR_TERMS, **DISCRIMINATOR_TERMS, "d_total": "discriminators"}
LAMBDAS = {
    "adv": "lambda_adversarial",
    "rec": "lambda_reconstruction",
    "seg": "lambda_mask",
    "c": "lambda_content",
    "s": "lambda_style",
    "s_r": "lambda_style_random",
    "dist": "lambda_distribution",
}
DISCRIMINATOR_LAYERS = {"conv_0.conv": "first", "conv_1.conv": "second", "conv_s.conv": "shortcut", "stem.conv": "stem"}


def discriminator_name(key: str) -> str:
    for theirs, ours in DISCRIMINATOR_LAYERS.items():
        key = key.replace(theirs, ours)
    return key.replace("proj.", "project.")


def our_names(golden: Golden) -> dict[str, str]:
    """Our name of every key of a training's state that is a weight."""
    names = {}
    for key in golden.state():
        part, _, rest = key.partition(".") if "." in key.partition("/")[0] else key.partition("/")
        if part == "gen":
            if not rest.endswith(STATISTICS):
                ours, unknown = renamed({rest: torch.zeros(())}, GENERATOR_NAMES)
                assert not unknown, unknown
                names[key] = f"generator.{next(iter(ours))}"
        else:
            names[key] = f"discriminators.{DISCRIMINATORS[part]}.{discriminator_name(rest)}"
    return names


def make_model(golden: Golden, **arguments: Any) -> HiDT:
    config = golden.config
    judging = known(config["discriminator"], {"nf", "n_layers", "nf_max"})
    model = HiDT(
        **generator_settings(config["generator"]),
        discriminator_channels=judging["nf"],
        discriminator_levels=judging["n_layers"],
        discriminator_max_channels=judging["nf_max"],
        **{LAMBDAS[name]: value for name, value in config["lambdas"].items()},
        training_noise=False,  # the recorded pictures are as the networks see them
        **arguments,
    ).double()
    names = our_names(golden)
    state = {names[key]: value for key, value in golden.state().items() if key in names}
    model.load_state_dict(state, strict=True)
    return model


def as_batch(images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    source, target = images.chunk(2)
    source_labels, target_labels = labels.long().chunk(2)
    return {"source": source, "target": target, "source_labels": source_labels, "target_labels": target_labels}


def check_losses(golden: Golden) -> None:
    """At rate 0, so that the generator meets the discriminators that the file holds."""
    images, random_style = golden.given("in/x"), flat(golden.given("in/s_r"))
    model = make_model(golden, learning_rate=0.0, style_pool=golden.config["pool_rows"])
    model.pool.push(golden.given("in/pool"))
    record = fit(model, [as_batch(images, golden.given("in/labels"))], {0: [("style", random_style)]})
    for key in golden.keys(r"loss/\w+"):
        golden.compare(key, record.terms[0][TERMS[key.removeprefix("loss/")]])
    names = our_names(golden)
    for key in golden.keys(r"gradnorm/.*"):
        golden.compare(key, record.gradient_norms[0][names[key.removeprefix("gradnorm/")]])
    with torch.no_grad():
        content, style = model.generator.encode(images)
        decode = model.generator.decoder
        swap, random = (decode(content, wanted).image for wanted in (swap_halves(style), random_style))
        content_back, style_back = model.generator.encode(swap)
        golden.compare("out/style", style)
        compare_as_stored(golden, "out/auto", decode(content, style).image)
        compare_as_stored(golden, "out/swap", swap)
        compare_as_stored(golden, "out/random", random)
        compare_as_stored(golden, "out/cycle", decode(content_back, swap_halves(style_back)).image)
        compare_as_stored(golden, "out/random_rec", decode(*model.generator.encode(random)).image)
        scores = model.judge({"real": (images, style)})
        for short, name in DISCRIMINATORS.items():
            golden.compare(f"out/{short}_x", scores[name]["real"])


def check_train(golden: Golden) -> None:
    config = golden.config
    steps = range(config["steps"])
    model = make_model(
        golden,
        style_pool=config["pool_size"],
        learning_rate=config["lr"],
        halve_every=config["halve_every"],
        betas=tuple(config["betas"]),
    )
    batches = [as_batch(golden.given(f"in/{step}/x"), golden.given(f"in/{step}/labels")) for step in steps]
    tape = {step: [("style", flat(value)) for _, value in golden.tape(f"noise/{step}/")] for step in steps}
    record = fit(model, batches, tape)
    for step in steps:
        for key in golden.keys(rf"step{step}/\w+"):
            golden.compare(key, record.terms[step][TERMS[key.partition("/")[2]]])
    names = our_names(golden)
    for part, keys in config["final_keys"].items():
        ours = [names[f"{part}/{key}"] for key in keys]
        golden.compare(f"final/{part}_norm_mean", norms_and_means(model, ours))
    assert model.pool.rows is not None
    golden.compare("final/pool", model.pool.rows)


def check_style_pool(golden: Golden) -> None:
    pool = StylePool(golden.config["pool_size"])
    for number in range(len(golden.config["rows"])):
        styles = golden.given(f"in/{number}_styles").requires_grad_()
        loss = distribution_loss(pool.with_new(styles))
        golden.compare(f"out/{number}_loss", loss)
        golden.compare(f"out/{number}_grad", torch.autograd.grad(loss, styles)[0])
        pool.push(styles)
        assert pool.rows is not None
        assert not pool.rows.requires_grad
        golden.compare(f"out/{number}_pool", pool.rows)


def check_schedule(golden: Golden) -> None:
    model = HiDT(
        generator_channels=5,
        encoder_blocks=0,
        decoder_blocks=0,
        discriminator_channels=1,
        discriminator_levels=1,
        learning_rate=golden.config["lr"],
        halve_every=golden.config["halve_every"],
    )
    model.configure_optimizers()
    rates = []
    for iteration in golden.given("in/iteration").tolist():
        players = list(model._players.values())
        for player in players:
            player.set_rates(iteration)
        found = {group["lr"] for player in players for o in player.optimizers.values() for group in o.param_groups}
        rates += found  # the same of both
    golden.compare("out/lr", torch.tensor(rates, dtype=torch.float64))


KINDS = {
    "losses": check_losses,
    "train": check_train,
    "style_pool": check_style_pool,
    "schedule": check_schedule,
    "generator": check_generator,
    "enhancer": check_enhancer,
    "data_transforms": check_data_transforms,
    "data_grid_crop": check_data_grid_crop,
    "inference_pipeline": check_inference_pipeline,
}


@pytest.mark.golden
@pytest.mark.parametrize("path", **every_file("hidt"))
def test_golden(path: Path) -> None:
    check(path, KINDS)
