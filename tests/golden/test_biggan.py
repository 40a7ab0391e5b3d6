"""BigGAN and BigGAN-deep against numbers recorded from the official code, and from the port of TF-Hub's BigGAN-deep."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from datamodules.class_images import MiddleSquare
from golden.golden import Golden, GoldenMismatchError, Kinds, check, every_file, fit
from zoo.biggan import BigGAN
from zoo.biggan.discriminator import Discriminator
from zoo.biggan.generator import Generator
from zoo.biggan.layers import Layers
from zoo.biggan.losses import LOSSES, orthogonal_penalty
from zoo.biggan.sampling import cut_to_uint8, interpolate, standing_statistics, truncated_normal
from zoo.blocks.live_spectral_norm import power_step
from zoo.core.images import from_uint8
from zoo.weights.biggan import (
    deep_port_statistics,
    from_deep_port,
    from_official,
    from_tfhub,
    load_state,
    our_name,
    settings_of,
    tfhub_names,
)

# Arguments of the official constructors that do not touch the mathematics of a pass.
PLUMBING = {"skip_init", "no_optim", "mybn", "cross_replica", "G_init", "D_init", "G_lr", "D_lr", "adam_eps"}


class Options:
    """Arguments of an official constructor, of which none is overlooked."""

    def __init__(self, args: dict[str, Any]) -> None:
        self.left = {name: value for name, value in args.items() if name not in PLUMBING}

    def __call__(self, name: str, default: Any = None) -> Any:
        return self.left.pop(name, default)

    def attention(self, name: str) -> list[int]:
        return sides(self(name, "64"))

    def finish(self) -> None:
        if self.left:
            raise GoldenMismatchError("config", f"has {self.left}, which this test does not know how to follow")


def sides(text: str) -> list[int]:
    return [int(side) for side in str(text).split("_")]


def is_deep(golden: Golden) -> bool:
    return {"BigGAN": False, "BigGANdeep": True}[golden.config["model"]]


def make_generator(args: dict[str, Any], deep: bool) -> Generator:
    options = Options(args)
    layers = Layers(
        options("G_param", "SN") == "SN",
        options("SN_eps", 1e-12),
        options("num_G_SVs", 1),
        options("num_G_SV_itrs", 1),
    )
    depth = options("G_depth", 2)
    generator = Generator(
        options("resolution", 128),
        options("n_classes", 1000),
        options("G_ch", 64),
        options("dim_z", 128),
        options("shared_dim", 0),
        options.attention("G_attn"),
        depth=depth if deep else 0,
        hierarchical=options("hier", False),
        shared_embedding=options("G_shared", True),
        norm_eps=options("BN_eps", 1e-5),
        layers=layers,
    )
    options.finish()
    return generator.double()


def make_discriminator(args: dict[str, Any], deep: bool) -> Discriminator:
    options = Options(args)
    layers = Layers(
        options("D_param", "SN") == "SN",
        options("SN_eps", 1e-12),
        options("num_D_SVs", 1),
        options("num_D_SV_itrs", 1),
    )
    depth = options("D_depth", 2)
    discriminator = Discriminator(
        options("resolution", 128),
        options("n_classes", 1000),
        options("D_ch", 64),
        options.attention("D_attn"),
        depth=depth if deep else 0,
        wide=options("D_wide", True),
        layers=layers,
    )
    options.finish()
    return discriminator.double()


def official_entry(state: dict[str, Tensor], official: str, known: dict[str, Tensor]) -> Tensor:
    """An entry of our state by its official name; a vector of several is one row of ours."""
    value = state[our_name(official, known)]
    last = official.rpartition(".")[2]
    if last.startswith(("u", "sv")) and last[-1].isdigit():
        number = int(last.removeprefix("sv").removeprefix("u"))
        return value[number : number + 1]
    return value


def compare_after_training(golden: Golden, network: nn.Module, known: dict[str, Tensor]) -> None:
    state = network.state_dict()
    for key in golden.keys(r"out/after_train/.*"):
        golden.compare(key, official_entry(state, key.removeprefix("out/after_train/"), known))


@torch.no_grad()
def check_generator(golden: Golden) -> None:
    deep = is_deep(golden)
    generator = make_generator(golden.config["args"], deep)
    official = golden.state("state/G/")
    load_state(generator, from_official(official), golden.path.name)
    assert generator.latent_channels == golden.config["dim_z"]
    latent, label = golden.given("in/z"), golden.given("in/y")
    seen: dict[int, Tensor] = {}
    hooks = [
        list(block.children())[-1].register_forward_hook(lambda _, __, out, i=i: seen.__setitem__(i, out))
        for i, block in enumerate(generator.blocks)
    ]
    golden.compare_summaries("eval", generator.eval()(latent, label))
    golden.compare("out/embedding", generator.shared(label))
    for i, feature in seen.items():
        golden.compare_summaries(f"block{i}", feature)
    for hook in hooks:
        hook.remove()
    golden.compare_summaries("train", generator.train()(latent, label))
    compare_after_training(golden, generator, official)


@torch.no_grad()
def check_discriminator(golden: Golden) -> None:
    discriminator = make_discriminator(golden.config["args"], is_deep(golden))
    official = golden.state("state/D/")
    load_state(discriminator, from_official(official), golden.path.name)
    image, label = golden.given("in/x"), golden.given("in/y")
    golden.compare("out/eval", discriminator.eval()(image, label))
    discriminator.train()
    for key in golden.keys(r"out/train\d+"):
        golden.compare(key, discriminator(image, label))
    compare_after_training(golden, discriminator, official)


def check_losses(golden: Golden) -> None:
    real, fake = golden.given("in/real"), golden.given("in/fake")
    for name, (discriminator_loss, generator_loss) in LOSSES.items():
        real_loss, fake_loss = discriminator_loss(real, fake)
        golden.compare(f"out/{name}_d_real", real_loss)
        golden.compare(f"out/{name}_d_fake", fake_loss)
        golden.compare(f"out/{name}_g", generator_loss(fake))
    strength = golden.config["args"]["ortho_strength"]
    weights = {value.ndim: value for value in golden.state("state/net/").values()}

    def gradient(axes: int, unit_rows: bool) -> Tensor:
        weight = weights[axes].clone().requires_grad_()
        (strength * orthogonal_penalty(weight, unit_rows=unit_rows)).backward()
        assert weight.grad is not None
        return weight.grad

    golden.compare("out/ortho_grad_conv", gradient(4, unit_rows=False))
    golden.compare("out/ortho_grad_linear", gradient(2, unit_rows=False))
    golden.compare("out/default_ortho_grad_conv", gradient(4, unit_rows=True))
    rows, u = golden.given("in/W"), golden.given("in/u")
    left, right = power_step(rows, u, 1e-12)
    golden.compare(f"out/top{len(u)}_u", left)
    golden.compare(f"out/top{len(u)}_v", right)
    golden.compare(f"out/top{len(u)}_sv", (left @ rows * right).sum(1))


def make_model(golden: Golden) -> BigGAN:
    options, config = Options(golden.config["args"]), golden.config
    optimiser = dict(config["optimiser"])
    betas, adam_eps = optimiser.pop("betas"), optimiser.pop("eps")
    if optimiser != {"weight_decay": 0}:
        raise GoldenMismatchError("config", f"the optimiser has {optimiser}")
    attention, channels = tuple(sides(options("attn"))), options("ch")
    args = config["args"]
    model = BigGAN(
        image_size=options("res"),
        classes=options("ncls"),
        deep=is_deep(golden),
        generator_channels=channels,
        discriminator_channels=channels,
        generator_attention=attention,
        discriminator_attention=attention,
        latent_channels=options("dim_z"),
        class_channels=options("shared"),
        spectral_norm_eps=config["SN_eps"],
        norm_eps=config["BN_eps"],
        discriminator_steps=options("d_steps"),
        discriminator_accumulations=options("d_acc"),
        generator_accumulations=options("g_acc"),
        generator_batch=options("gbs"),
        separate_passes=options("split"),
        lambda_orthogonal_generator=options("G_ortho"),
        lambda_orthogonal_discriminator=options("D_ortho"),
        generator_rate=args["G_lr"],
        discriminator_rate=args["D_lr"],
        betas=tuple(betas),
        adam_eps=adam_eps,
        ema_decay=options("ema_decay"),
        ema_start=options("ema_start"),
    )
    options("bs")  # follows from the pictures given
    options.finish()
    return model


def check_train(golden: Golden) -> None:
    config = golden.config
    steps = range(len(golden.keys(r"in/\d+/x")))
    model = make_model(golden)
    official = {"G": golden.state("state/G/"), "D": golden.state("state/D/")}
    official["G_ema"] = official["G"]
    assert model.ema is not None
    networks = {"G": model.generator, "D": model.discriminator, "G_ema": model.ema["generator"]}
    for name, network in networks.items():
        load_state(network.double(), from_official(official[name]), golden.path.name)
    names = {"z": "latent", "y": "label"}
    tape = {step: [(names[name], value) for name, value in golden.tape(f"noise/{step}/")] for step in steps}
    batches = [{"image": golden.given(f"in/{step}/x"), "domain": golden.given(f"in/{step}/y")} for step in steps]
    record = fit(model, batches, tape)
    for step, terms in enumerate(record.terms):
        golden.compare(f"step{step}/D_loss_real", terms["discriminator_real"])
        golden.compare(f"step{step}/D_loss_fake", terms["discriminator_fake"])
        golden.compare(f"step{step}/G_loss", terms["generator"] / config["args"]["g_acc"])
        norms = [
            record.gradient_norms[step].get(f"generator.{our_name(key, official['G'])}")
            for key in config["final_keys"]["G"]
        ]
        golden.compare_norms(f"step{step}/G_grad_l2", norms)
    for name, keys in config["final_keys"].items():
        network = name.removesuffix("_buf")
        state = networks[network].state_dict()
        final = [official_entry(state, key, official[network]) for key in keys]
        golden.compare(f"final/{name}_l2", torch.stack([value.norm() for value in final]))
        if name.endswith("_buf"):
            golden.compare(f"final/{name}_sum", torch.stack([value.sum() for value in final]))
        else:
            golden.compare(f"final/{name}_mean", torch.stack([value.mean() for value in final]))


@torch.no_grad()
def check_standing_statistics(golden: Golden) -> None:
    generator = make_generator(golden.config["args"], golden.config.get("model") == "BigGANdeep")
    load_state(generator, from_official(golden.state("state/G/")), golden.path.name)
    draws = [value for _, value in golden.tape("noise/0/")]
    passes = list(zip(draws[::2], draws[1::2], strict=True))
    assert len(passes) == golden.config["accumulations"]
    buffers = standing_statistics(generator, passes)
    for key in golden.keys(r"out/after/.*"):
        official = key.removeprefix("out/after/")
        if official.endswith("accumulation_counter"):
            golden.compare(key, torch.tensor(len(passes)))
        else:  # the official code keeps sums, and divides where it uses them
            golden.compare(key, len(passes) * buffers[our_name(official, ())])
    golden.compare(
        "out/image", functional_call(generator.eval(), buffers, (golden.given("in/z"), golden.given("in/y")))
    )


def check_sampling(golden: Golden) -> None:
    args = golden.config["args"]
    first, second = golden.given("in/x0"), golden.given("in/x1")
    golden.compare("out/interp", interpolate(first.squeeze(1), second.squeeze(1), args["num_midpoints"]))
    golden.compare("out/img_u8", cut_to_uint8(golden.given("in/img")))
    shape = golden.layout("out/truncated_z").shape
    uniform = torch.from_numpy(np.random.RandomState(args["seed"]).uniform(size=shape))
    golden.compare("out/truncated_z", 0.5 * truncated_normal(uniform))
    model = BigGAN(
        32, 2, False, 2, 2, generator_attention=(), discriminator_attention=(), latent_deviation=0.5, ema_decay=0
    )
    latent, _ = model.codes(10_000)  # a million numbers: their deviation is known to 0.001, the recorded one to 0.02
    golden.compare("out/std_when_var_is_half", latent.std(), torch.tensor(0.02))


def check_data(golden: Golden) -> None:
    size = golden.config["args"]["size"]
    assert set(golden.config["args"]) == {"size"}
    for key in golden.keys(r"in/img\d+"):
        picture = golden.given(key).numpy()
        pixels = MiddleSquare(load_size=size, size=size, multiple=1)(picture).copy()
        golden.compare(key.replace("in/", "out/"), from_uint8(torch.from_numpy(pixels).permute(2, 0, 1)))


def check_tfhub_convert(golden: Golden) -> None:
    image_size = golden.config["args"]["resolution"]
    assert tfhub_names(image_size) == golden.config["key_map"]
    options = golden.config["config"]
    generator = make_generator_shape(options)
    rows, chunk = generator.state_dict()[our_name("linear.weight", {"linear.u0"})].shape
    gain = golden.config["key_map"]["blocks.0.0.bn1.gain.weight"]
    linear = golden.config["key_map"]["linear.weight"].removesuffix("weight_bar")
    given = {
        golden.config["key_map"]["shared.weight"]: golden.given("in/shared"),
        gain: golden.given("in/gain"),
        f"{linear}weight_bar": torch.arange(rows * chunk).view(rows, chunk),
        f"{linear}bias": torch.arange(rows),
        f"{linear}weight_u": torch.arange(rows),
    }
    converted = from_tfhub(given, image_size)
    golden.compare("out/shared.weight", converted["shared.weight"])
    golden.compare("out/gain", converted["blocks.0.0.bn1.gain.weight"])
    for name in ("weight", "bias", "u0"):
        value = converted[f"linear.{name}"].flatten()
        head, tail = (f"out/linear.{name}_{end}" for end in ("head", "tail"))
        golden.compare(head, value[: len(golden.layout(head))])
        golden.compare(tail, value[-len(golden.layout(tail)) :])


def make_generator_shape(options: dict[str, Any]) -> Generator:
    """The generator that the converter makes, without its numbers."""
    with torch.device("meta"):
        return Generator(
            options["resolution"],
            options["n_classes"],
            options["G_ch"],
            options["dim_z"],
            options["shared_dim"],
            sides(options["G_attn"]),
            hierarchical=options["hier"],
        )


@torch.no_grad()
def check_deep_port(golden: Golden) -> None:
    args, port = golden.config["args"], golden.state("state/port/")
    state = from_deep_port(port)
    settings = settings_of(state)
    layers = args["layers"]
    assert [double for double, _, _ in layers] == [False, True] * (len(layers) // 2)
    assert args["n_stats"] == len(port["generator.bn.running_means"])
    assert settings["classes"] == args["num_classes"]
    assert settings["latent_channels"] == args["z_dim"]
    multipliers = (layers[0][1], *(outgoing for _, _, outgoing in layers[1::2]))
    place = args["attention_layer_position"]
    generator = Generator(
        4 * 2 ** (len(layers) // 2),
        args["num_classes"],
        args["channel_width"],
        args["z_dim"],
        len(port["embeddings.weight"]),
        (4 * 2 ** (place // 2),),
        multipliers,
        depth=2,
        norm_eps=args["eps"],
        output_norm_eps=args["eps"],
        layers=Layers(spectral_norm=False),
    ).double()
    load_state(generator, state, golden.path.name)
    for truncation in args["truncations"]:
        statistics = deep_port_statistics(port, truncation)
        inputs = (golden.given("in/z"), golden.given("in/y"))
        golden.compare(f"out/image_{truncation}", functional_call(generator.eval(), statistics, inputs))


KINDS: Kinds = {
    "data": check_data,
    "deep_discriminator": check_discriminator,
    "deep_generator": check_generator,
    "deep_port": check_deep_port,
    "discriminator": check_discriminator,
    "generator": check_generator,
    "losses": check_losses,
    "sampling": check_sampling,
    "standing_statistics": check_standing_statistics,
    "tfhub_convert": check_tfhub_convert,
    "train": check_train,
}
pytestmark = pytest.mark.golden


@pytest.mark.parametrize("path", **every_file("biggan"))
def test_golden(path: Path) -> None:
    check(path, KINDS)
