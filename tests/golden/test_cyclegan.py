"""CycleGAN against numbers recorded from the official code."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from datamodules.preprocess import Transform
from golden.golden import Golden, GoldenMismatchError, check, every_file, fit, norms_and_means
from zoo import cyclegan
from zoo.blocks.image_pool import ImagePool
from zoo.blocks.initialise import initialise
from zoo.core import Draws
from zoo.core.images import from_uint8
from zoo.cyclegan import CycleGAN, PatchDiscriminator, PixelDiscriminator, ResnetGenerator, UnetGenerator

OURS = {
    "netG_A": "to_target",
    "netG_B": "to_source",
    "netD_A": "discriminator_target",
    "netD_B": "discriminator_source",
}


def ours(official: str) -> str:
    """Our name of a parameter of the official model."""
    network, _, rest = official.partition(".")
    return f"{OURS[network]}.{rest}"


def loaded(network: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    network.double().load_state_dict(state, strict=True)
    return network.train()


def take(config: dict[str, Any], known: set[str]) -> dict[str, Any]:
    """A configuration of which nothing is overlooked."""
    if unknown := set(config) - known:
        raise GoldenMismatchError("config", f"has {sorted(unknown)}, which this test does not know how to follow")
    return config


def make_generator(network: str, cfg: dict[str, Any]) -> nn.Module:
    shared = {"input_nc", "output_nc", "ngf", "norm", "use_dropout"}
    cfg = take(cfg, shared | ({"n_blocks", "padding_type"} if network == "resnet" else {"num_downs"}))
    shape = (cfg["input_nc"], cfg["output_nc"], cfg["ngf"])
    norm, dropout = cfg.get("norm", "instance"), cfg.get("use_dropout", False)
    if network == "unet":
        return UnetGenerator(*shape, cfg["num_downs"], norm, dropout)
    assert network == "resnet", network
    return ResnetGenerator(*shape, cfg["n_blocks"], norm, dropout, cfg.get("padding_type", "reflect"))


def check_generator(golden: Golden) -> None:
    network = loaded(make_generator(golden.config["network"], golden.config["cfg"]), golden.state())
    seen: dict[str, Tensor] = {}
    for name, module in network.named_modules():
        # Cloned, because the activation that follows a norm works in place.
        module.register_forward_hook(lambda _, __, output, name=name: seen.__setitem__(name, output.detach().clone()))
    y = network(golden.given("in/x"))
    y.abs().mean().backward()
    golden.compare("out/y", y)
    for key in golden.keys(r"out/model\..*"):
        golden.compare(key, seen[key.removeprefix("out/")])
    for name, parameter in network.named_parameters():
        golden.compare(f"gradnorm/{name}", parameter.grad.norm())


def check_discriminators(golden: Golden) -> None:
    for i, spec in enumerate(golden.config["specs"]):
        take(spec, {"netD", "input_nc", "ndf", "norm", "n_layers"})
        shape = (spec["input_nc"], spec["ndf"])
        if spec["netD"] == "pixel":
            network: nn.Module = PixelDiscriminator(*shape, spec["norm"])
        else:
            assert spec["netD"] in {"n_layers", "basic"}, spec["netD"]
            network = PatchDiscriminator(*shape, spec.get("n_layers", 3), spec["norm"])
        golden.compare(f"out/d{i}", loaded(network, golden.state(f"state/d{i}."))(golden.given("in/x")))


def patch_discriminator_of(state: dict[str, Tensor]) -> PatchDiscriminator:
    """The discriminator that a state dict fits, where the metadata does not describe it."""
    channels, input_channels = state["model.0.weight"].shape[:2]
    convolutions = sum(key.endswith("weight") and value.ndim == 4 for key, value in state.items())
    norm = "batch" if any("running_mean" in key for key in state) else "instance"
    return PatchDiscriminator(input_channels, channels, convolutions - 2, norm)


def check_gan_losses(golden: Golden) -> None:
    prediction = golden.given("in/prediction")
    losses = {
        "lsgan": cyclegan.lsgan_loss,
        "vanilla": cyclegan.bce_loss,
        "wgangp": cyclegan.wasserstein_loss,
        "nonsaturating": cyclegan.nonsaturating_loss,
    }
    for name, loss in losses.items():
        golden.compare(f"loss/{name}_real", loss(prediction, True))
        golden.compare(f"loss/{name}_fake", loss(prediction, False))
    state = golden.state("state/gp_d.")
    network = loaded(patch_discriminator_of(state), state)
    ((name, alpha),) = golden.tape("noise/gp/")
    assert name == "alpha"
    gradients = cyclegan.gradients_between(network, golden.given("in/gp_real"), golden.given("in/gp_fake"), alpha)
    golden.compare("out/gp_gradients", gradients)
    # The recorded loss has the weight that the official helper gives it by itself.
    golden.compare("loss/gradient_penalty", golden.config.get("lambda_gp", 10.0) * cyclegan.gradient_penalty(gradients))


def check_image_pool(golden: Golden) -> None:
    pool, draws = ImagePool(golden.config["pool_size"]), Draws()
    steps = len(golden.config["batches"])
    draws.replay({step: golden.tape(f"noise/step{step}/") for step in range(steps)})
    for step, batch_size in enumerate(golden.config["batches"]):
        draws.begin(step, torch.device("cpu"), torch.float64)
        images = golden.given(f"in/step{step}")
        assert len(images) == batch_size
        golden.compare(f"out/step{step}", pool(images, draws))
    assert draws.unread == 0


def check_lr_schedule(golden: Golden) -> None:
    config = golden.config
    last_epoch, epoch_length = config["n_epochs"] + config["n_epochs_decay"], 2
    image = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    for decay_step in ("end", "start"):
        model = CycleGAN(
            input_channels=1,
            output_channels=1,
            generator_channels=1,
            residual_blocks=0,
            discriminator="pixel",
            discriminator_channels=1,
            lambda_identity=0,
            pool_size=0,
            learning_rate=config["lr"],
            iterations_per_epoch=epoch_length,
            constant_epochs=config["n_epochs"],
            decay_epochs=config["n_epochs_decay"],
            decay_step=decay_step,
        )
        record = fit(model, [{"source": image, "target": image}] * (last_epoch * epoch_length), {})
        rates = torch.tensor(record.rates, dtype=torch.float64).view(last_epoch, -1)  # all of one epoch in a row
        assert torch.equal(rates.amin(1), rates.amax(1))
        golden.compare(f"out/lr_step_at_{decay_step}", rates[config["epoch_count"] - 1 :, 0])


def check_init_stats(golden: Golden) -> None:
    """Means and standard deviations of two samples of `n` normal numbers: compared within five standard errors."""
    names = golden.config["keys"]
    layout = golden.layout("out/mean_std_numel")
    numel = dict(zip(names, layout[:, 2].long().tolist(), strict=True))
    generator_channels, discriminator_channels = numel["G.model.1.bias"], numel["D.model.0.bias"]
    blocks = len({name.split(".")[2] for name in names if ".conv_block." in name})
    convolutions = len({name.split(".")[2] for name in names if name.startswith("D.")})
    input_channels = numel["G.model.1.weight"] // (49 * generator_channels)
    output_channels = numel["D.model.0.weight"] // (16 * discriminator_channels)
    networks = nn.ModuleDict(
        {
            "G": ResnetGenerator(
                input_channels, output_channels, generator_channels, blocks, "instance", False, "reflect"
            ),
            "D": PatchDiscriminator(output_channels, discriminator_channels, convolutions - 2, "instance"),
        }
    )
    with torch.random.fork_rng():
        torch.manual_seed(golden.config["seed"])
        initialise(networks)
    parameters = dict(networks.named_parameters())
    assert sorted(parameters) == sorted(names)
    rows, tolerances = [], []
    for name in names:
        weights = parameters[name].detach().double()
        std = 0.0 if name.endswith("bias") else 0.02  # biases are exactly 0
        count = weights.numel()
        rows.append([weights.mean().item(), weights.std().item() if count > 1 else 0.0, count])
        # Standard error of a mean: std / sqrt(n); of a standard deviation: std / sqrt(2 n); of a difference: sqrt(2) times that.
        tolerances.append([5 * std * (2 / count) ** 0.5, 5 * std * (1 / count) ** 0.5, 0])
    golden.compare("out/mean_std_numel", torch.tensor(rows).double(), torch.tensor(tolerances).double())


def check_data_transforms(golden: Golden) -> None:
    picture = golden.given("in/image_uint8_hwc").numpy()
    for i, case in enumerate(golden.config["cases"]):
        take(case, {"preprocess", "load_size", "crop_size", "crop_pos", "flip"})
        transform = Transform(case["preprocess"], load_size=case["load_size"], size=case["crop_size"])
        pixels = transform(picture, crop=tuple(case["crop_pos"]), flip=case["flip"])
        golden.compare(f"out/case{i}", from_uint8(torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)))


# Options of the official training that do not touch the mathematics of a step.
PLUMBING = {"gpu_ids", "isTrain", "checkpoints_dir", "name", "preprocess", "amp", "lr_decay_iters"}


def make_model(options: dict[str, Any], iterations: int) -> CycleGAN:
    rest = {key: value for key, value in options.items() if key not in PLUMBING}
    generator = rest.pop("netG")
    fixed = {"no_antialias": True, "no_antialias_up": True, "direction": "AtoB", "lr_policy": "linear"}
    for key, value in fixed.items():
        assert rest.pop(key, value) == value, f"{key} is not {value!r}: this test cannot follow that"
    blocks = re.fullmatch(r"resnet_(\d+)blocks", generator)
    sides = re.fullmatch(r"unet_(\d+)", generator)
    assert blocks or sides, generator
    epoch_count = rest.pop("epoch_count", 1)
    arguments = {
        "input_channels": rest.pop("input_nc"),
        "output_channels": rest.pop("output_nc"),
        "generator": "resnet" if blocks else "unet",
        "residual_blocks": int(blocks[1]) if blocks else 0,
        "unet_depth": int(sides[1]).bit_length() - 1 if sides else 2,
        "generator_channels": rest.pop("ngf"),
        "generator_norm": rest.pop("normG"),
        "dropout": not rest.pop("no_dropout"),
        "discriminator_channels": rest.pop("ndf"),
        "discriminator_layers": rest.pop("n_layers_D"),
        "discriminator_norm": rest.pop("normD"),
        "initialisation": rest.pop("init_type"),
        "initialisation_gain": rest.pop("init_gain"),
        "adversarial": {"lsgan": "lsgan", "vanilla": "bce", "wgangp": "wgan-gp"}[rest.pop("gan_mode")],
        "lambda_cycle_source": rest.pop("lambda_A"),
        "lambda_cycle_target": rest.pop("lambda_B"),
        "lambda_identity": rest.pop("lambda_identity"),
        "pool_size": rest.pop("pool_size"),
        "learning_rate": rest.pop("lr"),
        "betas": (rest.pop("beta1"), rest.pop("beta2", 0.999)),
        # The recording never ends an epoch: all of it runs at the rate of the first one.
        "iterations_per_epoch": iterations,
        "constant_epochs": rest.pop("n_epochs") - epoch_count + 1,
        "decay_epochs": rest.pop("n_epochs_decay"),
    }
    network = rest.pop("netD")
    arguments["discriminator"] = "pixel" if network == "pixel" else "patch"
    if network == "basic":
        arguments["discriminator_layers"] = 3
    take(rest, set())
    return CycleGAN(**arguments)


class FirstImages(Callback):
    """What the generators make of the first batch: translations, and translations of translations."""

    def __init__(self) -> None:
        self.calls: dict[str, list[tuple[Tensor, Tensor]]] = {"to_target": [], "to_source": []}

    def on_train_start(self, trainer: object, pl_module: nn.Module) -> None:
        for name, calls in self.calls.items():
            pl_module.get_submodule(name).register_forward_hook(
                lambda _, inputs, output, calls=calls: calls.append((inputs[0].detach(), output.detach()))
            )

    def of(self, name: str, image: Tensor) -> Tensor:
        """What a generator first made of a picture."""
        return next(result for given, result in self.calls[name] if torch.equal(given, image))


def check_train(golden: Golden) -> None:
    batches = [
        {"source": golden.given(key), "target": golden.given(key.replace("_A", "_B"))}
        for key in golden.keys(r"in/step\d+_A")
    ]
    model = make_model(golden.config["options"], len(batches))
    model.load_state_dict({ours(key): value for key, value in golden.state().items()}, strict=True)
    images = FirstImages()
    record = fit(model, batches, {step: golden.tape(f"noise/step{step}/") for step in range(len(batches))}, images)

    source, target = batches[0]["source"], batches[0]["target"]
    fake_target, fake_source = images.of("to_target", source), images.of("to_source", target)
    golden.compare("out/step0_fake_B", fake_target)
    golden.compare("out/step0_fake_A", fake_source)
    golden.compare("out/step0_rec_A", images.of("to_source", fake_target))
    golden.compare("out/step0_rec_B", images.of("to_target", fake_source))

    options = golden.config["options"]
    weight_a, weight_b, weight_identity = (options[f"lambda_{name}"] for name in ("A", "B", "identity"))
    absent = torch.zeros(())
    for step, terms in enumerate(record.terms):
        recorded = {
            "D_A": terms["discriminator_target"],
            "G_A": terms["adversarial_target"],
            "cycle_A": weight_a * terms["cycle_source"],
            "idt_A": weight_identity * weight_b * terms.get("identity_target", absent),
            "D_B": terms["discriminator_source"],
            "G_B": terms["adversarial_source"],
            "cycle_B": weight_b * terms["cycle_target"],
            "idt_B": weight_identity * weight_a * terms.get("identity_source", absent),
            "G_total": terms["generators"],
        }
        for key in golden.keys(rf"step{step}/\w+"):
            golden.compare(key, recorded[key.partition("/")[2]])
    for key in golden.keys(r"gradnorm_step\d+/.*"):
        place, _, name = key.partition("/")
        step = int(place.removeprefix("gradnorm_step"))
        golden.compare(key, record.gradient_norms[step][ours(name)])
    golden.compare("final/l2norm_mean", norms_and_means(model, [ours(key) for key in golden.config["final_keys"]]))


KINDS = {
    "generator": check_generator,
    "discriminators": check_discriminators,
    "gan_losses": check_gan_losses,
    "image_pool": check_image_pool,
    "lr_schedule": check_lr_schedule,
    "init_stats": check_init_stats,
    "data_transforms": check_data_transforms,
    "train": check_train,
}
pytestmark = pytest.mark.golden


@pytest.mark.parametrize("path", **every_file("cyclegan"))
def test_golden(path: Path) -> None:
    check(path, KINDS)
