"""GP-UNIT against numbers recorded from the official code: the second stage, and the kinds of the modules beside this one."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from golden.golden import Golden, GoldenMismatchError, check, every_file, fit
from golden.gpunit_data import DATA_KINDS
from golden.gpunit_experts import EXPERT_KINDS
from golden.gpunit_prior import PRIOR_KINDS, SIZE, GivenVGG, encoder_name, enlarged, with_spectral_norm
from golden.recipe import recipe_state
from zoo.blocks.adversarial import r1_penalty
from zoo.core import Draws, Ema
from zoo.experts.vgg import VGGFeatures
from zoo.gpunit.content import ContentEncoder, feature_channels
from zoo.gpunit.discriminator import Discriminator
from zoo.gpunit.generator import Generator
from zoo.gpunit.losses import PERCEPTUAL_LAYERS, perceptual_loss
from zoo.gpunit.model import GPUNIT, adversarial_loss
from zoo.gpunit.sampler import StyleSampler, fit_sampler, rare_styles, sampler_epochs

DISCRIMINATOR_CHANNELS = 64
"""Of the official discriminator's first layer: hard-coded there."""

STYLE_ENCODER_LAYERS = 2
"""Linear layers before the last one of the official style encoder: no option of ours."""


def known(arguments: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """Arguments of which nothing is overlooked."""
    if unknown := set(arguments) - names:
        raise GoldenMismatchError("config", f"has {sorted(unknown)}, which this test does not know how to follow")
    if arguments.get("mlp_nlayers", STYLE_ENCODER_LAYERS) != STYLE_ENCODER_LAYERS:
        raise GoldenMismatchError("config", f"has mlp_nlayers {arguments['mlp_nlayers']}")
    return arguments


def encoder_state(golden: Golden) -> dict[str, Tensor]:
    return {encoder_name(key): value for key, value in golden.state("state/EC/").items()}


def discriminator_state(golden: Golden) -> dict[str, Tensor]:
    return {with_spectral_norm(key): value for key, value in golden.state("state/D/").items()}


def loaded(network: nn.Module, state: dict[str, Tensor], dtype: torch.dtype = torch.float64) -> Any:
    network.to(dtype).load_state_dict(state, strict=True)
    return network.eval()


GENERATOR = {"ngf", "content_nc", "style_code_nc", "style_nef", "compress_nc", "mlp_nlayers"}


def make_generator(arguments: dict[str, Any], features: Sequence[int]) -> Generator:
    widths = (arguments["ngf"], arguments["style_code_nc"], arguments["style_nef"], arguments["compress_nc"])
    return Generator(features, *widths)


def make_discriminator(arguments: dict[str, Any]) -> Discriminator:
    return Discriminator(SIZE, DISCRIMINATOR_CHANNELS, arguments["max_conv_dim"])


def check_generator(golden: Golden) -> None:
    arguments = known(golden.config["args"], GENERATOR)
    generator = loaded(make_generator(arguments, arguments["content_nc"]), golden.state("state/G/"))
    features = [torch.empty(0)] * len(arguments["content_nc"])
    for key in golden.keys(r"in/content\d+"):
        features[int(key.removeprefix("in/content"))] = golden.given(key)
    seen: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
    for number, level in enumerate(generator.model):
        if level.skiplayer is not None:
            level.skiplayer.register_forward_hook(lambda _, __, output, number=number: seen.__setitem__(number, output))
    code = generator.encode_style(golden.given("in/style"))
    golden.compare("out/style_code", code)
    image, masks = generator(features, code)
    golden.compare_summaries("img", image)
    for number, mask in enumerate(masks):
        golden.compare(f"out/mask{number}", mask)
        golden.compare(f"out/mask{number}_zero_fraction", (mask == 0).double().mean())
    for number, (out, state, _) in seen.items():
        golden.compare(f"out/skip{number}_out", out)
        golden.compare(f"out/skip{number}_state", state)
    scales = {int(key.split("scale")[1].split("_")[0]) for key in golden.keys(r"out/scale\d+(_\w+)?")}
    for scale in sorted(scales):
        golden.compare_summaries(f"scale{scale}", generator(features, code, scale=scale)[0])
    image, masks = generator(features, code, skip=False)
    assert masks == []
    golden.compare_summaries("img_noskip", image)
    golden.compare_summaries("img_useZ", generator(features, golden.given("in/z"))[0])


def check_discriminator(golden: Golden) -> None:
    arguments = known(golden.config["args"], {"max_conv_dim"})
    discriminator = loaded(make_discriminator(arguments), discriminator_state(golden))
    image = enlarged(golden.given("in/x_seed"))
    golden.compare("out/logit_default", discriminator(image)[0])
    single = [int(key.removeprefix("out/style_layer")) for key in golden.keys(r"out/style_layer\d+")]
    logits, styles = discriminator(image, single)
    golden.compare("out/logit", logits)
    for layer, style in zip(single, styles, strict=True):
        golden.compare(f"out/style_layer{layer}", style)
    for name in dict.fromkeys(key.rpartition("_")[0] for key in golden.keys(r"out/style_list_[\d_]+")):
        layers = [int(layer) for layer in name.removeprefix("out/style_list_").split("_")]
        for place, style in enumerate(discriminator.describe(image, layers)):
            golden.compare(f"{name}_{place}", style)
    golden.compare("out/train_logit", discriminator.train()(image)[0])
    vectors = discriminator.state_dict()
    for key in golden.keys(r"out/after_train/.*"):
        golden.compare(key, vectors[with_spectral_norm(key.removeprefix("out/after_train/"))])


def check_losses(golden: Golden) -> None:
    arguments = known(golden.config["args"], {"vgg_width", "max_conv_dim"})
    vgg = VGGFeatures(19, PERCEPTUAL_LAYERS, base_channels=arguments["vgg_width"]).double()
    vgg.load_weights(golden.state("state/vgg/"))
    a, b = golden.given("in/a").requires_grad_(), golden.given("in/b")
    features, wanted = vgg(a), vgg(b)
    for layer in PERCEPTUAL_LAYERS:
        golden.compare(f"out/{layer}_l2", features[layer].norm())
        golden.compare(f"out/{layer}_l1_distance", (features[layer] - wanted[layer]).abs().mean())
    loss = perceptual_loss(features, wanted)
    golden.compare("out/vgg_loss", loss)
    golden.compare("out/vgg_loss_grad_l2", torch.autograd.grad(loss, a)[0].norm())

    logits = golden.given("in/logits")
    golden.compare("out/adv_real", adversarial_loss(logits, real=True))
    golden.compare("out/adv_fake", adversarial_loss(logits, real=False))

    discriminator = loaded(make_discriminator(arguments), discriminator_state(golden))
    real = enlarged(golden.given("in/y_seed")).requires_grad_()
    penalty = r1_penalty(discriminator(real)[0], real)
    golden.compare("out/r1", penalty)
    parameters = dict(discriminator.named_parameters())
    weights = [parameters[with_spectral_norm(key)] for key in golden.config["r1_grad_names"]]
    norms = [gradient.norm() for gradient in torch.autograd.grad(penalty, weights)]
    golden.compare("out/r1_grad_norms", torch.stack(norms))

    network = nn.Linear(1, 1, bias=False).double()
    network.weight = nn.Parameter(golden.given("in/ema_shadow"))
    ema = Ema({"network": network}, decay=golden.config.get("ema", GPUNIT_EMA_DECAY))
    network.weight.data = golden.given("in/ema_param")
    ema.update(0)
    golden.compare("out/ema_shadow_after", ema["network"].get_parameter("weight"))


GPUNIT_EMA_DECAY = 0.999
"""The official code's only one, where a file does not say."""


def official_model(arguments: dict[str, Any], **more: Any) -> GPUNIT:
    """The room in the widths of a recording."""
    return GPUNIT(
        image_size=SIZE,
        content_channels=arguments["nef"],
        generator_channels=arguments["ngf"],
        style_channels=arguments["style_code_nc"],
        style_width=arguments["style_nef"],
        bottleneck=arguments["compress_nc"],
        discriminator_channels=DISCRIMINATOR_CHANNELS,
        content_encoder="random",  # the file's weights are put in its place
        **more,
    ).double()


def load_official(model: GPUNIT, golden: Golden) -> None:
    """Put the networks of a file into the room; the moving average starts as a copy, as in the official code."""
    model.content_encoder.load_state_dict(encoder_state(golden))
    for generator in (model.generator, model.ema["generator"]):
        generator.load_state_dict(golden.state("state/G/"))


OPTIONS = {"lambda_reconstruction", "lambda_content", "lambda_style", "lambda_mask", "lambda_id"}
OPTIONS |= {"use_allskip", "use_idloss", "not_flip_style", "style_layer"}


def check_training(golden: Golden) -> None:
    config = golden.config
    arguments = known(config["args"], GENERATOR | {"nef", "max_conv_dim", "batch", "vgg_width"})
    options, optimiser = (
        known(config["options"], OPTIONS),
        known(config["optimiser"], {"lr", "betas", "weight_decay", "eps"}),
    )
    if options["use_idloss"] or optimiser["eps"] != 1e-8:
        raise GoldenMismatchError("config", "uses the identity loss or another eps, which this test cannot follow")
    model = official_model(
        arguments,
        discriminator_max_channels=arguments["max_conv_dim"],
        perceptual="random",
        perceptual_channels=arguments["vgg_width"],
        lambda_content=options["lambda_content"],
        lambda_style=options["lambda_style"],
        lambda_mask=options["lambda_mask"],
        lambda_reconstruction=options["lambda_reconstruction"],
        lambda_perceptual=options["lambda_reconstruction"],
        style_layer=options["style_layer"],
        style_flip=not options["not_flip_style"],
        all_skip=options["use_allskip"],
        learning_rate=optimiser["lr"],
        betas=tuple(optimiser["betas"]),
        weight_decay=optimiser["weight_decay"],
        ema_decay=config["ema"],
    )
    load_official(model, golden)
    model.discriminator.load_state_dict(discriminator_state(golden))
    steps = range(len(golden.keys(r"in/\d+/x_seed")))
    batches = [
        {"source": enlarged(golden.given(f"in/{k}/x_seed")), "target": enlarged(golden.given(f"in/{k}/y_seed"))}
        for k in steps
    ]
    tape = {k: [("style_flip", value) for _, value in golden.tape(f"noise/{k}/")] for k in steps}
    record = fit(model, batches, tape, GivenVGG(golden))
    for k, terms in enumerate(record.terms):
        recorded = {
            "g": terms["adversarial"],
            "con": model.lambda_content * terms["content"],
            "sty": model.lambda_style * terms["style"],
            "msk": model.lambda_mask * terms["mask"],
            "rec": model.lambda_reconstruction * (terms["reconstruction"] + terms["perceptual"]),
            "d": terms["discriminator"],
            "r1": terms["r1"],
        }
        for key in golden.keys(rf"step{k}/(?!.*grad)\w+"):
            golden.compare(key, recorded[key.partition("/")[2]])
        norms = record.gradient_norms[k]
        for network, name in (("G", "generator"), ("D", "discriminator")):
            keys = [f"{name}.{with_spectral_norm(key)}" for key in config["grad_keys"][network]]
            golden.compare_norms(f"step{k}/{network}_grad_l2", [norms.get(key) for key in keys])
    networks = {"G": "generator", "G_ema": "ema.generator", "D": "discriminator", "EC": "content_encoder"}
    final = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, keys in config["final_keys"].items():
        network = name.removesuffix("_buf")
        rename = encoder_name if network == "EC" else with_spectral_norm
        values = [final[f"{networks[network]}.{rename(key)}"].detach() for key in keys]
        golden.compare(f"final/{name}_l2", torch.stack([value.norm() for value in values]))
        summed = "sum" if name.endswith("_buf") else "mean"
        golden.compare(f"final/{name}_{summed}", torch.stack([getattr(value, summed)() for value in values]))


def check_full_size(golden: Golden) -> None:
    if golden.config["args"] != {"default": True}:
        raise GoldenMismatchError("config", f"has {golden.config['args']}, which this test does not know how to follow")
    encoder, generator, discriminator = ContentEncoder(), Generator(feature_channels(64, SIZE)), Discriminator()
    seed = golden.config["recipe_seed"]
    loaded(generator, recipe_state(generator, seed))
    for network, rename, official in (
        (encoder, encoder_name, official_encoder_key),
        (discriminator, with_spectral_norm, official_key),
    ):
        shapes = {official(key): value for key, value in network.state_dict().items()}
        loaded(network, {rename(key): value for key, value in recipe_state(shapes, seed).items()})
    image, exemplar = enlarged(golden.given("in/x_seed")), enlarged(golden.given("in/y_seed"))
    with torch.no_grad():
        features = encoder(image)
        for name in ("c3", "c6"):
            golden.compare_summaries(name, features[6 - int(name[1:])])
        code = generator.encode_style(exemplar)
        golden.compare("out/style_code", code)
        translation, masks = generator(features, code)
        golden.compare_summaries("img", translation)
        for number, mask in enumerate(masks):
            compare_mask(golden, f"mask{number}", mask)
        layers = [int(key.removeprefix("out/style")) for key in golden.keys(r"out/style\d+")]
        logits, styles = discriminator(translation, layers)
    golden.compare("out/logit", logits)
    for layer, style in zip(layers, styles, strict=True):
        golden.compare(f"out/style{layer}", style)


def compare_mask(golden: Golden, name: str, mask: Tensor) -> None:
    """A file keeps every so many-th channel of a mask; as many as the tensors that show them have."""
    shown = golden.keys(f"out/{name}(_s\\d+)?")
    mask = mask[:, :: mask.shape[1] // golden.layout(shown[0]).shape[1]] if shown else mask
    golden.compare_summaries(name, mask)


def official_key(ours: str) -> str:
    """The official name of an entry with or without spectral norm; undoes `with_spectral_norm`."""
    for part, official in {
        "parametrizations.weight.original": "weight_orig",
        "parametrizations.weight.0.": "weight_",
    }.items():
        ours = ours.replace(part, official)
    return ours


def official_encoder_key(ours: str) -> str:
    _, layer, rest = official_key(ours).split(".", 2)
    return f"layer{int(layer) + 1}.{rest}"


def check_sampler(golden: Golden) -> None:
    config = golden.config
    names = {"xn", "yn", "batch_size", "epochs", "decay_epochs", "decay_rate", "lr"}
    arguments = known(config["args"], names)
    sampler = loaded(StyleSampler(arguments["xn"], arguments["yn"]), golden.state("state/T/"), golden.dtype)
    epochs, draws = range(arguments["epochs"]), Draws()
    ours = {"permutation": "permutation", "e": "noise"}
    tape = {k: [(ours[name], value) for name, value in golden.tape(f"noise/{k}/")] for k in epochs}
    draws.replay(tape)
    seen: list[int] = []

    def watch(epoch: int, losses: Tensor, nearest: Tensor) -> None:
        seen.append(epoch)
        golden.compare(f"step{epoch}/loss", losses)
        golden.compare(f"step{epoch}/nearest", nearest)

    fit_sampler(
        sampler,
        golden.given("in/codes"),
        draws,
        batch=arguments["batch_size"],
        epochs=arguments["epochs"],
        learning_rate=arguments["lr"],
        decay_epochs=arguments["decay_epochs"],
        decay_rate=arguments["decay_rate"],
        watch=watch,
    )
    assert seen == list(epochs)
    if draws.unread:
        raise GoldenMismatchError("noise", f"{draws.unread} recorded draws were not asked for")
    state = sampler.state_dict()
    final = [state[key] for key in config["final_keys"]["T"]]
    golden.compare("final/T_l2", torch.stack([value.norm() for value in final]))
    golden.compare("final/T_mean", torch.stack([value.mean() for value in final]))
    moved = [state[key] for key in config["final_keys"]["T_buf"]]
    golden.compare("final/T_buf_l2", torch.stack([value.norm() for value in moved]))
    golden.compare("final/T_buf_sum", torch.stack([value.sum() for value in moved]))
    latent = golden.given("in/z")
    golden.compare("out/code_eval", sampler(latent))
    golden.compare("out/code_train_mode", sampler.train()(latent))


def check_mitigation(golden: Golden) -> None:
    arguments = known(golden.config["args"], {"rows", "seed", "columns"})
    columns = arguments.get("columns", OFFICIAL_STYLE_CHANNELS)
    normal = np.random.RandomState(arguments["seed"]).standard_normal((arguments["rows"], columns))
    codes = torch.from_numpy(normal.astype(np.float32))
    appended = rare_styles(codes)
    golden.compare("out/appended_indices", appended)
    for name, rows in (("plain", len(codes)), ("mitigated", len(codes) + len(appended))):
        golden.compare(f"out/{name}_rows", torch.tensor(rows))
        golden.compare(f"out/{name}_epochs", torch.tensor(sampler_epochs(OFFICIAL_SAMPLER_STEPS, rows)))


OFFICIAL_STYLE_CHANNELS, OFFICIAL_SAMPLER_STEPS = 256, 2_000_000
"""What the official code has no option for."""


def check_inference(golden: Golden) -> None:
    arguments = known(golden.config["args"], (GENERATOR - {"content_nc"}) | {"nef", "sampler_in"})
    latent = golden.given("in/z")
    pixels = (golden.given(f"in/{name}_u8").permute(2, 0, 1)[None] for name in ("content", "style"))
    # Recorded with pictures scaled in float64; ours are float32 then, and equal to its last digits.
    picture, style = ((image.double() / 255 - 0.5) / 0.5 for image in pixels)
    model = official_model(arguments, latent_channels=arguments["sampler_in"], sampler_batch_statistics=True)
    load_official(model.eval(), golden)
    model.sampler.load_state_dict(golden.state("state/T/"))
    model.sampler_fitted.fill_(True)
    golden.compare("out/codes_train_mode", model.sample_styles(latent))
    # The official inference moves the standing statistics; the recording looks at eval mode after one such pass.
    standing = copy.deepcopy(model.sampler).train()
    standing(latent)
    golden.compare("out/codes_eval_mode", standing.eval()(latent))
    golden.compare_summaries("content_tensor", model.at_image_size(picture))
    translation = model.translate(picture, reference=style)
    golden.compare_summaries("exemplar", translation)
    # The official code cuts off the fractions when it saves a picture; we round, so that is done here.
    saved = ((translation + 1) * 127.5).clamp(0, 255).to(torch.uint8)[0].permute(1, 2, 0)
    for key in golden.keys(r"out/exemplar_u8_s\d+"):
        step = int(key.rpartition("_s")[2])
        golden.compare(key, saved[::step, ::step])
    golden.compare_summaries("latent", model.translate(picture, latent=latent))


STAGE2_KINDS = {
    "stage2_generator": check_generator,
    "stage2_discriminator": check_discriminator,
    "stage2_train": check_training,
    "losses": check_losses,
    "full_size_forward": check_full_size,
    "sampler": check_sampler,
    "sampler_mitigate": check_mitigation,
    "inference": check_inference,
}
KINDS = {**PRIOR_KINDS, **STAGE2_KINDS, **DATA_KINDS, **EXPERT_KINDS}
pytestmark = pytest.mark.golden


@pytest.mark.parametrize("path", **every_file("gpunit"))
def test_golden(path: Path) -> None:
    check(path, KINDS)
