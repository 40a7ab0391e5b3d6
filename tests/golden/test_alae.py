"""ALAE against numbers recorded from the official code."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from datamodules.aligned import CELEBA_ALIGNED
from datamodules.preprocess import crop_box
from datamodules.pyramid import shrink
from golden.golden import Golden, GoldenMismatchError, Kinds, check, every_file, fit, norms_and_means
from zoo.alae import StyleALAE
from zoo.alae.editing import (
    attribute_residual,
    attribute_values,
    edited,
    edited_styles,
    interpolated,
    mixed,
    truncated,
)
from zoo.alae.layers import (
    Conv,
    DownConv,
    Linear,
    UpConv,
    activate,
    apply_style,
    blur,
    doubled,
    halved,
    pixel_norm,
)
from zoo.alae.losses import critic_loss, generator_loss, gradient_penalty
from zoo.alae.mlp import MLPALAE
from zoo.alae.networks import EncoderBlock, GeneratorBlock, without_noise
from zoo.alae.optimizer import LREQAdam
from zoo.callbacks.growing import Growth
from zoo.core.images import from_uint8
from zoo.metrics.latent_codes import cut_to_pixels
from zoo.metrics.path_length import filtered_mean, path_distances
from zoo.weights.alae import PUBLISHED, our_model_state

MODEL = {
    "startf": "start_channels",
    "maxf": "most_channels",
    "layer_count": "levels",
    "latent_size": "latent_channels",
    "mapping_layers": "mapping_layers",
    "channels": "image_channels",
    "dlatent_avg_beta": "average_beta",
    "style_mixing_prob": "mixing_probability",
    "truncation_psi": "truncation",
    "truncation_cutoff": "truncation_cutoff",
    "z_regression": "regress",
}
DRAWS = (
    (r"(?:d_|g_|ae_)?z", "latent"),
    (r"(?:d_|g_|ae_)?z2", "second_latent"),
    (r"(?:d_|g_|ae_)?mix_u", "mix"),
    (r"(?:d_|g_|ae_)?mix_cutoff", "first_mixed"),
    (r"(?:d_|g_|ae_)?noise\d+", "noise"),
)


def style_model(arguments: Mapping[str, Any], **further: Any) -> StyleALAE:
    """The room with an official model's arguments, of which none is overlooked."""
    if unknown := set(arguments) - set(MODEL):
        raise GoldenMismatchError("config", f"has {sorted(unknown)}, which this test does not know how to follow")
    settings = {MODEL[name]: value for name, value in arguments.items()}
    if "regress" in settings:
        settings["regress"] = "z" if settings["regress"] else "w"
    return StyleALAE(**settings, **{"level_rates": (0.0015,), "epochs_per_level": 0, **further}).double()


def loaded(golden: Golden, model: Any) -> Any:
    """Fill a room with a file's weights; moving averages too, where the file has some."""
    state = our_model_state(golden.state())
    if averaged := golden.state("state_ema/"):
        theirs = our_model_state(averaged)
        theirs.pop("average_latent")
        state |= {f"ema.{key}": value for key, value in theirs.items()}
    model.load_state_dict(state, strict=True)
    return model


def tape_of(golden: Golden, prefix: str, second: str = "") -> list[tuple[str, Tensor]]:
    """A recorded tape under the names of our draws.

    Args:
        golden: the file.
        prefix: of the draws.
        second: the official name of the second latent code, where it is another.
    """
    found = []
    for official, value in golden.tape(prefix):
        names = [ours for pattern, ours in DRAWS if re.fullmatch(pattern, official)]
        if not names:
            raise GoldenMismatchError("noise", f"has a draw {official!r}, which this test does not know")
        found.append(("second_latent" if official == second else names[0], value))
    return found


@contextmanager
def watched() -> Iterator[None]:
    with torch.no_grad():
        yield


def on_tape(model: StyleALAE, draws: Sequence[tuple[str, Tensor]]) -> None:
    """Let inference draw from a tape, too."""
    model.draws.replay({0: draws})
    model.draws.dtype = torch.float64
    model.aside = lambda *_: watched()  # type: ignore[assignment, method-assign]


def finished(model: StyleALAE | MLPALAE) -> None:
    if model.draws.unread:
        raise GoldenMismatchError("noise", f"{model.draws.unread} recorded draws were not asked for")


# Layers and networks -------------------------------------------------------------------------------------------------


def given_module(golden: Golden, prefix: str, module: nn.Module) -> Any:
    """Fill a layer or block with what a file holds for it."""
    state = {}
    for key, value in golden.state(f"{prefix}/state/").items():
        wrapped = re.sub(r"^(?:from_rgb|to_rgb)\.", "", key)
        state[wrapped] = value
    module.double().load_state_dict(state, strict=True)
    return module


class Deaf:
    """Adds recorded maps of noise in their order."""

    def __init__(self, maps: Sequence[Tensor]) -> None:
        self.maps = list(maps)

    def __call__(self, x: Tensor, weight: Tensor, number: int) -> Tensor:
        return x + weight * self.maps.pop(0)


@torch.no_grad()
def check_ops(golden: Golden) -> None:
    config = golden.config["config"]
    incoming, outgoing, latent, number = (config[name] for name in ("c_in", "c_out", "latent_size", "layer"))
    x = golden.given("in/x")
    golden.compare("out/pixel_norm", pixel_norm(golden.given("in/z")))
    golden.compare("out/style_mod", apply_style(x, golden.given("in/style")))
    golden.compare("out/upscale2d", doubled(x))
    golden.compare("out/downscale2d", halved(x))
    golden.compare("out/blur", blur(x))
    golden.compare("out/minibatch_stddev", with_minibatch_deviation(x))
    golden.compare("fused_down/out", given_module(golden, "fused_down", DownConv(incoming, outgoing))(x))
    golden.compare("fused_up/out", given_module(golden, "fused_up", UpConv(incoming, outgoing, True))(x))
    for name in ("encode_block", "encode_block_fused"):
        block = given_module(golden, name, EncoderBlock(incoming, outgoing, latent))
        features, first, second = block(x)
        for key, value in (("x", features), ("w1", first), ("w2", second)):
            golden.compare(f"{name}/out/{key}", value)
    for name, place, fused in (
        ("decode_block", number, False),
        ("decode_block_fused", number, True),
        ("decode_block_first", 0, False),
    ):
        block = given_module(golden, name, GeneratorBlock(place, incoming, outgoing, latent, fused))
        block.number = number  # the official one counts apart from whether it doubles
        features = golden.given(f"{name}/in/x") if golden.keys(f"{name}/in/x") else x
        styles = (golden.given(f"{name}/in/s1"), golden.given(f"{name}/in/s2"))
        for mode in ("noise", "batch_constant"):
            noise = Deaf([value for _, value in golden.tape(f"{name}/noise_{mode}/")])
            golden.compare(f"{name}/out/{mode}", block(features, *styles, noise))
            assert not noise.maps
        golden.compare(f"{name}/out/no_noise", block(features, *styles, without_noise))
    from_rgb = given_module(golden, "from_rgb", Conv(incoming, outgoing, 1, bias=True))
    golden.compare("from_rgb/out", activate(from_rgb(golden.given("from_rgb/in"))))
    width = golden.given("to_rgb/state/to_rgb.weight").shape[1]
    colours = len(golden.given("to_rgb/state/to_rgb.bias"))
    to_rgb = given_module(golden, "to_rgb", Conv(width, colours, 1, gain=0.03, bias=True))
    golden.compare("to_rgb/out", to_rgb(golden.given("to_rgb/in") if golden.keys("to_rgb/in") else x))
    check_rates(golden, incoming, outgoing, latent)


def with_minibatch_deviation(x: Tensor) -> Tensor:
    """A layer of the official code that no published configuration uses."""
    deviation = (x.var(0, unbiased=False) + 1e-8).sqrt().mean()
    return torch.cat([x, deviation.expand(len(x), 1, *x.shape[2:])], 1)


def check_rates(golden: Golden, incoming: int, outgoing: int, latent: int) -> None:
    """What each kind of layer scales its steps by."""
    recorded = json.loads(golden.metadata["lr_equalization_coef"])
    layers = {
        "linear": partial(Linear, rate=0.1),
        "linear_gain1": partial(Linear, gain=1.0),
        "conv3": partial(Conv, kernel=3),
        "convT3": partial(UpConv, fused=True),
        "to_rgb": partial(Conv, kernel=1, gain=0.03),
    }
    assert recorded.keys() == layers.keys()
    for name, (weight_rate, bias_rate) in recorded.items():
        fits = []
        for size in {incoming, outgoing, latent}:
            layer = layers[name](size, outgoing)
            fits.append(abs(layer.weight_rate - weight_rate) <= golden.config["rtol"] and layer.bias_rate == bias_rate)
        assert sum(fits) == 1, f"{name}: no layer scales by {weight_rate} and {bias_rate}"


@torch.no_grad()
def check_forward(golden: Golden) -> None:
    config = golden.config["config"]
    model = loaded(golden, style_model(config["model"], ema_half_life=0))
    golden.compare("out/mapping_f", model.spread(model.mapping(golden.given("in/z"))))
    for level, blend in config["lods"]:
        model.stage, model.blend = level, blend
        name = f"lod{level}_b{blend}"
        image = golden.given(f"in/x_lod{level}")
        code, blocks = watched_code(model, image)
        golden.compare(f"out/{name}/encoder", code[:, None])
        golden.compare(f"out/{name}/mapping_d", model.critic(code))
        for key in golden.keys(rf"out/{re.escape(name)}/encode_block\.\d+\.w1"):
            place = int(key.split(".")[-2])
            features, first, second = blocks[place]
            golden.compare(key, first)
            golden.compare(key.replace("w1", "w2"), second)
            golden.compare(key.replace("w1", "x_mean_rms"), mean_and_size(features))
        noise = Deaf([value for _, value in golden.tape(f"noise/{name}/")])
        painted = model.generator(golden.given("in/styles"), level, blend, noise)
        assert not noise.maps
        step = config["decoder_stride"]
        golden.compare(f"out/{name}/decoder", painted[:, :, ::step, ::step])
        golden.compare(f"out/{name}/decoder_mean_rms", mean_and_size(painted))


def watched_code(model: StyleALAE, image: Tensor) -> tuple[Tensor, dict[int, tuple[Tensor, Tensor, Tensor]]]:
    """Codes of pictures, and what each block gives in between, normalised also where nobody needs it."""
    blocks: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def look(place: int, block: nn.Module, inputs: tuple[Tensor, ...], _: Any) -> None:
        blocks[place] = block.forward(inputs[0])

    hooks = [block.register_forward_hook(partial(look, place)) for place, block in enumerate(model.encoder.blocks)]
    code = model.code_of(image)
    for hook in hooks:
        hook.remove()
    return code, blocks


def mean_and_size(x: Tensor) -> Tensor:
    return torch.stack([x.mean(), x.square().mean().sqrt()])


# Losses and training -------------------------------------------------------------------------------------------------


def official_order(golden: Golden) -> list[str]:
    """Our names of the parameters that a file lists."""
    official: list[str] = json.loads(golden.metadata["param_order"])
    names = our_model_state({name: torch.tensor(i) for i, name in enumerate(official)})
    return sorted(names, key=lambda name: int(names[name]))


def gradient_norms(model: nn.Module, names: Sequence[str]) -> Tensor:
    parameters = dict(model.named_parameters())
    grads = [parameters[name].grad for name in names]
    return torch.stack([torch.tensor(-1.0) if grad is None else grad.norm() for grad in grads])


def check_losses(golden: Golden) -> None:
    config = golden.config["config"]
    names = official_order(golden)
    image, made = golden.given("in/x"), golden.given("in/x_fake")
    model = loaded(golden, style_model(config["model"], ema_half_life=0))
    model.stage, model.blend = config["lod"], config["blend"]
    real = image.clone().requires_grad_(True)  # as the file holds them, pictures are blended already
    on_real, on_fake = model.critic(model.code_of(real)), model.critic(model.code_of(made))
    golden.compare("out/parts/d_real", on_real)
    golden.compare("out/parts/d_fake", on_fake)
    golden.compare("out/parts/g", generator_loss(on_fake))
    penalty = 10 * gradient_penalty(on_real, real)
    golden.compare("out/parts/r1_gamma10", penalty)
    golden.compare("out/parts/total_gamma0", critic_loss(on_fake, on_real))
    golden.compare("out/parts/total_gamma10", critic_loss(on_fake, on_real) + penalty)

    count = len(image)
    for phase in ("d", "g", "ae"):
        model = loaded(golden, style_model(config["model"], ema_half_life=0))
        model.stage, model.blend = config["lod"], config["blend"]
        model.draws.replay({0: tape_of(golden, f"noise/{phase}/")})
        model.draws.dtype = torch.float64
        if phase == "d":
            terms = model.judges_terms(image)
            loss = terms["critic"] + model.lambda_r1 * terms["r1"]
        elif phase == "g":
            model.encoder.requires_grad_(False)
            loss = model.makers_loss(count)
        else:
            loss = model.latent_terms(count)
        loss.backward()
        finished(model)
        golden.compare(f"out/loss_{phase}", loss)
        golden.compare(f"out/{phase}_grad_norm", gradient_norms(model, names))
        golden.compare(f"out/{phase}_dlatent_avg_after", model.average_latent)


class Follow(Callback):
    """Puts a room where a recorded plan says, iteration by iteration."""

    def __init__(self, plan: Sequence[Mapping[str, Any]]) -> None:
        self.plan = plan

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        step = self.plan[trainer.global_step]
        assert isinstance(pl_module, StyleALAE)
        if pl_module.stage < step["lod"]:
            pl_module.enter_stage(step["lod"])
        for optimizer in trainer.optimizers:
            if step.get("reset"):
                optimizer.state.clear()
            for group in optimizer.param_groups:
                group["lr"] = step["lr"]
        pl_module.blend = step["blend"]


def check_training(golden: Golden, model: StyleALAE | MLPALAE, images: Sequence[Tensor], *callbacks: Callback) -> None:
    """Train on the recorded batches and compare losses, weights, averages and what the optimisers keep."""
    config = golden.config["config"]
    names = official_order(golden)
    tape = {step: tape_of(golden, f"noise/{step}/") for step in range(len(images))}
    record = fit(model, [{"image": image} for image in images], tape, *callbacks)
    for step, terms in enumerate(record.terms):
        golden.compare(f"step{step}/loss_d", terms["critic"] + model.lambda_r1 * terms["r1"])
        golden.compare(f"step{step}/loss_g", terms["generator"])
        golden.compare(f"step{step}/lae", terms["latent"])
        assert set(record.rates[step]) <= {config["plan"][step]["lr"]}
    assert model.ema is not None
    golden.compare("final/norm_mean", norms_and_means(model, names))
    golden.compare("final/ema_norm_mean", norms_and_means(model.ema, names))
    golden.compare("final/dlatent_avg", model.average_latent)
    # Our moving averages have no average code of their own; the official one's never moves.
    golden.compare("final/ema_dlatent_avg", golden.given("state_ema/dlatent_avg.buff"))
    parameters = dict(model.named_parameters())
    states = {id(p): state for optimizer in model.trainer.optimizers for p, state in optimizer.state.items()}
    kept = [states.get(id(parameters[name]), {}) for name in names]
    steps = [state.get("step", 0) for state in kept]
    golden.compare("final/opt_steps", torch.tensor(steps))
    absent = torch.tensor(-1.0, dtype=torch.float64)
    sums = [state["exp_avg_sq"].sum() if state else absent for state in kept]
    golden.compare("final/exp_avg_sq_sum", torch.stack(sums))
    for key in golden.keys(r"final_full/.*"):
        (ours,) = our_model_state({key.partition("/")[2]: absent})
        golden.compare(key, parameters[ours])


def trained_settings(golden: Golden) -> dict[str, Any]:
    """Settings of a training that are not the networks'."""
    config = golden.config["config"]
    first, beta = config["betas"]
    assert first == 0
    half_life = 10_000
    assert abs(0.5 ** (config["batch"] / half_life) - config["ema_beta"]) < golden.config["atol"]
    return {
        "beta": beta,
        "adam_eps": config["eps"],
        "zero_absent_gradients": not config["zero_grad_set_to_none"],
        "ema_half_life": half_life,
    }


def images_of(golden: Golden) -> list[Tensor]:
    return [golden.given(key) for key in golden.keys(r"in/x_orig_\d+")]


def check_train(golden: Golden) -> None:
    config = golden.config["config"]
    grown = config["plan"][0]["lod"]
    model = style_model(config["model"], **trained_settings(golden), epochs_per_level=1)
    model.stage, model.grows = grown, True
    check_training(golden, loaded(golden, model), images_of(golden), Follow(config["plan"]))


def mlp_model(hidden: int, latent: int, pixels: int, **further: Any) -> MLPALAE:
    return MLPALAE(image_size=int(pixels**0.5), hidden=hidden, latent_channels=latent, **further).double()


def check_mlp_train(golden: Golden) -> None:
    config = golden.config["config"]
    rates = {step["lr"] for step in config["plan"]}
    assert len(rates) == 1
    assert set(config["model"]) == {"layer_count", "latent_size", "mapping_layers", "dlatent_avg_beta"}
    images = images_of(golden)
    model = mlp_model(
        config["mlp_hidden"],
        config["model"]["latent_size"],
        images[0][0].numel(),
        mapping_layers=config["model"]["mapping_layers"],
        average_rows=2 * config["model"]["layer_count"],
        average_beta=config["model"]["dlatent_avg_beta"],
        learning_rate=rates.pop(),
        **trained_settings(golden),
    )
    check_training(golden, loaded(golden, model), [2 * image - 1 for image in images])


@torch.no_grad()
def check_mlp_forward(golden: Golden) -> None:
    config = golden.config["config"]
    state = our_model_state(golden.state())
    pixels = state["encoder.layers.0.weight"].shape[1]
    slopes = {"encoder_slopes": (0.2, 0.2), "generator_slopes": (0.2, 1.0)}
    model = mlp_model(config["hidden"], config["latent_size"], pixels, mapping_layers=1, ema_half_life=0, **slopes)
    for part in ("encoder", "generator", "critic"):
        inner = {key.removeprefix(f"{part}."): value for key, value in state.items() if key.startswith(f"{part}.")}
        model.get_submodule(part).load_state_dict(inner, strict=True)
    codes = {}
    for key in golden.keys(r"in/x\d+"):
        image = golden.given(key)
        codes[image.shape[-1]] = model.code_of(model.real(2 * image - 1))
        golden.compare(key.replace("in/x", "out/encode"), codes[image.shape[-1]])
    golden.compare("out/mapping_d", model.critic(codes[model.image_size]))  # of pictures that needed no resizing
    for key in golden.keys(r"out/decode_lod\d+"):
        side = 4 * 2 ** int(key.rpartition("lod")[2])
        painted = (model.decode(golden.given("in/w")) + 1) / 2
        golden.compare(key, nn.functional.interpolate(painted, (side, side), mode="nearest"))


def check_optimizer(golden: Golden) -> None:
    """Which gradients are missing, and when the state is dropped, the description alone says."""
    config = golden.config["config"]
    description = golden.config["description"]
    absent = re.search(r"(p\d+) has no gradient \(None, skipped\) at step (\d+)", description)
    reset = re.search(r"state dropped before step (\d+)", description)
    assert absent
    assert reset
    parameters = [nn.Parameter(golden.given(f"in/p{i}").clone()) for i in range(len(config["coefs"]))]
    groups = [{"params": [p], "factor": c or 1.0} for p, c in zip(parameters, config["coefs"], strict=True)]
    optimizer = LREQAdam(groups, config["lr"], config["beta2"], config["eps"])
    for step in range(config["steps"]):
        if step == int(reset[1]):
            optimizer.state.clear()
        for i, parameter in enumerate(parameters):
            missing = (f"p{i}", step) == (absent[1], int(absent[2]))
            parameter.grad = None if missing else golden.given(f"in/g{step}_p{i}")
        optimizer.step()
        for i, parameter in enumerate(parameters):
            golden.compare(f"out/p{i}_after{step}", parameter)


def check_schedule(golden: Golden) -> None:
    config = golden.config["config"]
    columns = config["columns"]
    assert columns[-1] == "optimiser_state_reset"
    assert config["ema_beta"] == "0.5**(global_batch/10000)"
    for key in golden.keys(r"[\w-]+_\d+gpu"):
        name, _, count = key.rpartition("_")
        published, gpus = PUBLISHED[name], int(count.removesuffix("gpu"))
        batches = published.batches[gpus]
        growth = Growth(published.levels, published.epochs_per_level, published.images, batches, published.rates)
        rows, level = [], -1
        for epoch, seen in golden.layout(key)[:, :2].tolist():
            moment = growth.at(int(epoch), seen)
            found = {
                "epoch": epoch,
                "images_seen_in_epoch": seen,
                "lod": moment.level,
                "in_transition": moment.transition,
                "blend": moment.blend,
                "global_batch": moment.batch,
                "per_gpu_batch": moment.batch // gpus,
                "lr": moment.rate,
                "optimiser_state_reset": moment.level != level,
            }
            level = moment.level
            rows.append([float(found[column]) for column in columns])
        golden.compare(key, torch.tensor(rows, dtype=torch.float64))


# Data, generation, metrics -------------------------------------------------------------------------------------------


def check_data(golden: Golden) -> None:
    pixels = golden.given("in/uint8")
    for key in golden.keys(r"out/pyramid_\d+"):
        golden.compare(key, shrink(pixels, int(key.rpartition("_")[2])))
    golden.compare("out/flipped", pixels.flip(2))
    image = from_uint8(pixels, golden.dtype)
    golden.compare("out/normalised", image)
    side, levels = pixels.shape[-1], pixels.shape[-1].bit_length() - 2
    model = StyleALAE(1, 1, levels, 1, 1, level_rates=(0.0015,), ema_half_life=0)
    model.stage = levels - 1
    assert model.level_size(model.stage) == side
    for key in golden.keys(r"out/blended_.*"):
        model.blend = float(key.rpartition("_")[2])
        golden.compare(key, model.real(image[None]))
    generated = golden.given("in/generated")
    golden.compare("out/metric_uint8", cut_to_pixels(generated))
    golden.compare("out/demo_uint8", cut_to_pixels(generated, scale=127.5))
    box = torch.tensor(crop_box(**CELEBA_ALIGNED))
    golden.compare("out/celeba_crop_box_top_left_h_w", box)


def check_generate_edit(golden: Golden) -> None:
    config = golden.config["config"]
    assert config["traversal"] is None
    model = loaded(golden, style_model(config["model"], ema_half_life=0))
    model.stage = config["lod"]
    z, image = golden.given("in/z"), golden.given("in/x")
    start = model.average_latent.clone()
    for name, options in (
        ("trunc_nomix", {}),
        ("notrunc_nomix", {"truncation": 1.0}),
        ("trunc_mix", {"mix": True}),
    ):
        model.average_latent.copy_(start)
        draws = tape_of(golden, f"noise/{name}/", second="z")
        on_tape(model, draws)
        with torch.no_grad():  # the official `generate` tracks, too; ours leaves the model alone
            model.track(model.mapping(z))
        golden.compare(f"out/{name}", model.generate(z, **options))
        golden.compare(f"out/{name}_dlatent_avg_after", model.average_latent)
        finished(model)
    model.average_latent.copy_(start)
    with torch.no_grad():
        codes = model.encode(image)
        golden.compare("out/encode_w", codes[:, None])
        golden.compare("out/encode_logit", model.logits(codes))
        styles = model.spread(codes)

    def painted(name: str, of: Tensor) -> Tensor:
        on_tape(model, tape_of(golden, f"noise/{name}/"))
        result = model.decode(of)
        finished(model)
        return result

    golden.compare("out/reconstruction", painted("reconstruction", styles))
    for part, (first, last) in config["style_ranges"].items():
        name = f"stylemix_{part}"
        golden.compare(f"out/{name}", painted(name, mixed(styles[:1], styles[1:2], first, last)))
    interp = config["interp"]
    (key,) = golden.keys(r"out/interp_.*")
    square = interpolated(codes[interp["corners"]], interp["kv"], interp["kh"])
    golden.compare(key, painted(key.removeprefix("out/"), square[None]))
    directions, average = golden.given("in/directions"), model.average_latent[0]
    values = attribute_values(codes[:1], average, directions)
    golden.compare("out/attribute_values", values[0])
    golden.compare("out/attribute_residual", attribute_residual(codes[:1], average, directions)[0])
    moved = edited(codes[:1], average, directions, values + torch.tensor(config["attribute_offsets"]))
    changed = edited_styles(styles[:1], moved, config["edit_layers_below"])
    golden.compare("out/attribute_edit", painted("attribute_edit", changed))
    assert truncated(styles, average, 1.0, 2).shape == styles.shape


def squared_difference(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().mean((1, 2, 3))


def check_ppl(golden: Golden) -> None:
    config = golden.config["config"]
    crop = "celeba" if config["celeba_style"] else "face"
    sizes = {"samples": config["num_samples"], "minibatch": config["minibatch"], "epsilon": config["epsilon"]}
    model = loaded(golden, style_model(config["model"], ema_half_life=0))
    for key in golden.keys(r"out/\w+_distances"):
        name = key.removeprefix("out/").removesuffix("_distances")
        space, sampling = name.split("_")
        patterns = {r"z\d*": "path_latent", "u": "path_share", r"noise\d+": "noise"}
        draws = [
            (next(ours for pattern, ours in patterns.items() if re.fullmatch(pattern, official)), value)
            for official, value in golden.tape(f"noise/{name}/")
        ]
        on_tape(model, draws)
        distances = path_distances(model, squared_difference, space=space, sampling=sampling, crop=crop, **sizes)
        finished(model)
        golden.compare(key, distances)
        golden.compare(f"out/{name}_mean_filtered", torch.tensor(filtered_mean(distances), dtype=torch.float64))


KINDS: Kinds = {
    "data": check_data,
    "forward": check_forward,
    "generate_edit": check_generate_edit,
    "losses": check_losses,
    "mlp_forward": check_mlp_forward,
    "mlp_train": check_mlp_train,
    "ops": check_ops,
    "optimizer": check_optimizer,
    "ppl": check_ppl,
    "schedule": check_schedule,
    "train": check_train,
}
pytestmark = pytest.mark.golden


@pytest.mark.parametrize("path", **every_file("alae"))
def test_golden(path: Path) -> None:
    check(path, KINDS)
