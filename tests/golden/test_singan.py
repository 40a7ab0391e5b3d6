"""SinGAN against numbers of the official code."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional as F

from golden.golden import Golden, check, every_file
from golden.golden import fit as fit_golden
from zoo.blocks.single_image import MASK_RADII, gradient_penalty, soft_mask
from zoo.callbacks.grow_scales import GrowScales
from zoo.core.images import from_uint8
from zoo.metrics.frechet import frechet_distance
from zoo.metrics.sifid import PatchFeatures, moments, sifid
from zoo.singan import Discriminator, Generator, SinGAN
from zoo.singan.pyramid import passes, plan, pyramid

LOOSE = 1e-7
"""For biases of convolutions before a batch norm: they have no true gradient, of whose rounding Adam makes steps. Running means hold
these biases, too."""


def batched(picture: Tensor) -> Tensor:
    """A picture h w c as 1 c h w."""
    return picture.permute(2, 0, 1)[None]


def picture_of(golden: Golden, name: str = "image") -> Tensor:
    """A recorded picture in [-1, 1]."""
    return from_uint8(batched(golden.given(f"in/{name}_uint8"))).double()


def make_model(golden: Golden, **arguments: Any) -> SinGAN:
    """The model that a file's metadata describes, in float64."""
    given = golden.config["args"]
    settings: dict[str, Any] = {
        "channels": given["nfc_init"],
        "least_channels": given["min_nfc_init"],
        "layers": given["num_layer"],
        "min_size": given["min_size"],
        "max_size": given["max_size"],
        "scale_factor": given["scale_factor_init"],
        "noise_border": given["mode"] == "animation",
        "stage_iterations": given["niter"],
        "learning_rate": given["lr_g"],
        "betas": (given["beta1"], 0.999),
        "critic_steps": given["Dsteps"],
        "generator_steps": given["Gsteps"],
        "lambda_gradient": given["lambda_grad"],
        "lambda_reconstruction": given["alpha"],
        "noise_amplitude": given["noise_amp_init"],
    }
    return SinGAN(**settings | arguments).double()


def with_weights(golden: Golden) -> SinGAN:
    """The model of all recorded scales, with what it knows of its picture, in eval mode."""
    model = make_model(golden)
    shapes = golden.config["shapes"]
    for scale in range(1, len(shapes)):
        model.build_stage(scale)
        model.stage = scale
    model.double().eval()
    for scale, generator in enumerate(model.generators):
        generator.load_state_dict(golden.state(f"state/{scale}/G/"))
    model.keep_picture(picture_of(golden))
    assert [list(real.shape) for real in model.reals] == shapes
    assert math.isclose(model.ratio, golden.config["args"]["scale_factor"], rel_tol=1e-12)
    for scale, (amplitude, shape) in enumerate(zip(golden.config["noise_amp"], shapes, strict=True)):
        model.amplitudes.append(torch.tensor(amplitude, dtype=torch.float64))
        fixed = torch.zeros(shape, dtype=torch.float64)
        if golden.keys(f"in/z_opt{scale}"):
            fixed = golden.given(f"in/z_opt{scale}")
        bordered = fixed.shape[-1] != shape[-1]
        model.fixed.append(fixed if bordered else model.pad(fixed.expand(-1, 3, -1, -1)))
    return model


def replay(model: SinGAN, tape: list[tuple[str, Tensor]]) -> None:
    model.draws.replay({0: tape})
    model.draws.begin(0, torch.device("cpu"), torch.float64)


# Kinds -----------------------------------------------------------------------------------------------------------------------


def check_pyramid(golden: Golden) -> None:
    model, image = make_model(golden), picture_of(golden).float()
    for scale, real in enumerate(pyramid(image, model.plan_for(image.shape[2:]))):
        golden.compare(f"out/real{scale}", real)
    for row in golden.config["shape_table"]:
        scales = plan((row["h"], row["w"]), row["min_size"], row["max_size"], row["scale_factor_init"])
        assert scales.count == row["stop_scale"] + 1, row
        assert math.isclose(scales.ratio, row["scale_factor"], rel_tol=1e-12), row
        made = pyramid(torch.zeros(1, 3, row["h"], row["w"]), scales)
        assert [list(real.shape[2:]) for real in made] == row["shapes"], row
        assert [SinGAN().widths(scale)[0] for scale in range(scales.count)] == row["nfc"], row
    for row in golden.config["sr_table"]:
        count, factor = passes(row["sr_factor"])
        assert (count, factor) == (row["iter_num"], row["in_scale"]), row
        enlarging = SinGAN(super_resolution=row["sr_factor"], min_size=row.get("min_size", 18))
        scales = enlarging.plan_for((row["h"], row["w"]))
        assert scales.count == row["stop_scale"] + 1, row
        assert math.isclose(scales.ratio, row["scale_factor"], rel_tol=1e-12), row


def networks_of(golden: Golden) -> tuple[Generator, Discriminator]:
    given = golden.config["args"]
    sizes = (given["nfc"], given["min_nfc"], given["num_layer"])
    generator, critic = Generator(*sizes).double(), Discriminator(*sizes).double()
    generator.load_state_dict(golden.state("state/G/"))
    critic.load_state_dict(golden.state("state/D/"))
    return generator, critic


def check_forward(golden: Golden) -> None:
    generator, critic = networks_of(golden)
    image, x, previous = (golden.given(f"in/{name}") for name in ("image", "noise_plus_prev", "prev"))
    for mode in ("train", "eval"):
        generator.train(mode == "train")
        critic.train(mode == "train")
        golden.compare(f"out/{mode}/G", generator(x, previous))
        golden.compare(f"out/{mode}/D", critic(image))
        if mode == "train":
            for name, network in (("G", generator), ("D", critic)):
                buffers = dict(network.named_buffers())
                for key in golden.keys(f"after_train/{name}/.*"):
                    golden.compare(key, buffers[key.removeprefix(f"after_train/{name}/")])


def check_losses(golden: Golden) -> None:
    (generator, critic), given = networks_of(golden), golden.config["args"]
    real, previous = golden.given("in/real"), golden.given("in/z_prev")
    fake = generator(golden.given("in/noise_plus_prev"), golden.given("in/prev"))
    real_loss, fake_loss = -critic(real).mean(), critic(fake.detach()).mean()
    penalty = given["lambda_grad"] * gradient_penalty(critic, real, fake, golden.given("in/gp_alpha"))
    golden.compare("out/errD_real", real_loss)
    golden.compare("out/errD_fake", fake_loss)
    golden.compare("out/gradient_penalty", penalty)
    compare_gradients(golden, "D", critic, real_loss + fake_loss + penalty)
    adversarial = -critic(fake).mean()
    reconstruction = given["alpha"] * F.mse_loss(generator(previous, previous), real)
    golden.compare("out/errG", adversarial)
    golden.compare("out/rec_loss", reconstruction)
    compare_gradients(golden, "G", generator, adversarial + reconstruction)


def compare_gradients(golden: Golden, name: str, network: nn.Module, loss: Tensor) -> None:
    parameters = dict(network.named_parameters())
    gradients = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True)
    norms = {key: gradient.norm() for key, gradient in zip(parameters, gradients, strict=True)}
    for key in golden.keys(f"gradnorm/{name}/.*"):
        golden.compare(key, norms[key.removeprefix(f"gradnorm/{name}/")])


def check_generate(golden: Golden) -> None:
    model = with_weights(golden)
    for number, job in enumerate(golden.config["jobs"]):
        # The official code draws maps below the start, too, and does not use them.
        replay(model, golden.tape(f"noise/job{number}/")[job["gen_start_scale"] :])
        picture = model.random_picture(job["scale_v"], job["scale_h"], job["gen_start_scale"])
        golden.compare(f"out/job{number}", picture)
        assert not model.draws.unread
    golden.compare("out/reconstruction_before_last", model.reconstruct_below())


def check_harmonization(golden: Golden) -> None:
    model, start = with_weights(golden), golden.config["injection_scale"]
    naive, mask = picture_of(golden, "ref"), picture_of(golden, "mask")
    golden.compare("mid/injected", model.prepare(naive, start))
    soft = soft_mask(mask, MASK_RADII["harmonization"])
    golden.compare("mid/soft_mask", soft)
    replay(model, golden.tape("noise/inject/"))
    painted = model.inject(naive, start)
    assert not model.draws.unread
    golden.compare("out/without_mask", painted)
    model.inject = lambda image, start: painted  # type: ignore[method-assign]
    golden.compare("out/with_mask", model.translate(naive, mask=mask, start=start))


def check_super_resolution(golden: Golden) -> None:
    given = golden.config["args"]
    model = make_model(golden, super_resolution=given["sr_factor"])
    model.generators[0].load_state_dict(golden.state("state/G/"))
    model.eval()
    model.amplitudes.append(torch.tensor(golden.config["noise_amp"], dtype=torch.float64))
    image, seen = picture_of(golden), []
    model.generators[0].register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    replay(model, golden.tape("noise/sr/"))
    golden.compare("out/sr", model.add_detail(image, given["sr_factor"]))
    assert not model.draws.unread
    border = model.layers
    golden.compare("mid/first_upscaled", seen[0][..., border:-border, border:-border])
    assert [list(x[..., border:-border, border:-border].shape) for x in seen] == golden.config["shapes"]


def check_animation(golden: Golden) -> None:
    model, config = with_weights(golden), golden.config
    replay(model, golden.tape("noise/gif/"))
    pictures = model.wander(config["frames"], config["alpha"], config["beta"], config["start_scale"])
    assert not model.draws.unread
    for number, picture in enumerate(pictures):
        levels = ((picture + 1) / 2).clamp(0, 1).mul(255).to(torch.uint8)
        golden.compare(f"out/frame{number}_uint8", levels[0].permute(1, 2, 0))


def check_sifid(golden: Golden) -> None:
    features = PatchFeatures("code").double()
    names = {"0": "Conv2d_1a_3x3", "1": "Conv2d_2a_3x3", "2": "Conv2d_2b_3x3"}
    state = {}
    for key, value in golden.state("state/inception/blocks.0.").items():
        place, _, rest = key.partition(".")
        state[f"{names[place]}.{rest}"] = value
    features.load_own(state)
    pictures = [from_uint8(batched(golden.given(f"in/image{number}_uint8"))).double() for number in (0, 1)]
    found = []
    for number, picture in enumerate(pictures):
        maps = features(picture)
        golden.compare(f"mid/feature_shape{number}", torch.tensor(maps.shape))
        mean, covariance = moments(maps)
        golden.compare(f"mid/mu{number}", mean)
        golden.compare(f"mid/sigma{number}", covariance)
        found.append((mean, covariance))
    golden.compare("out/sifid", frechet_distance(*found[0], *found[1]))
    assert abs(float(sifid(features, pictures[0], pictures[1])) - float(golden.layout("out/sifid"))) < 1e-6
    assert abs(float(sifid(features, pictures[0], pictures[0]))) < 1e-6


# Trainings -------------------------------------------------------------------------------------------------------------------


class Watch(Callback):
    """Gives nets that begin afresh the recorded weights, and looks at every step. Stands behind `GrowScales`."""

    def __init__(self, golden: Golden, length: int) -> None:
        self.golden, self.length = golden, length
        self.terms: list[list[dict[str, Tensor]]] = []
        self.rates: list[list[float]] = []
        self.ends: list[dict[str, Any]] = []
        self.scale = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        log_terms = pl_module.log_terms

        def listen(terms: Mapping[str, Tensor], *arguments: str) -> None:
            self.terms[-1].append({name: value.detach().clone() for name, value in terms.items()})
            log_terms(terms, *arguments)  # type: ignore[operator]

        pl_module.log_terms = listen

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        model: Any = pl_module
        self.terms.append([])
        if model.stage != self.scale:
            self.scale = model.stage
            wider = self.scale == 0 or model.widths(self.scale) != model.widths(self.scale - 1)
            assert wider == bool(self.golden.keys(f"state/s{self.scale}/G/.*"))
            if wider:
                model.generators[-1].load_state_dict(self.golden.state(f"state/s{self.scale}/G/"))
                model.discriminator.load_state_dict(self.golden.state(f"state/s{self.scale}/D/"))
            self.below = [{n: v.clone() for n, v in g.state_dict().items()} for g in model.generators[:-1]]

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        model: Any = pl_module
        self.rates.append([optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers])
        if trainer.global_step % self.length == 0:
            nets = {"G": model.generators[-1], "D": model.discriminator}
            self.ends.append({"amp": model.amplitudes[-1].clone(), "z_opt": model.fixed[-1].clone()})
            self.ends[-1] |= {key: everything(net) for key, net in nets.items()}
            for generator, before in zip(model.generators[:-1], self.below, strict=True):
                assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())


def everything(network: nn.Module) -> dict[str, Tensor]:
    return {n: v.detach().clone() for n, v in [*network.named_parameters(), *network.named_buffers()]}


def is_loose(name: str) -> bool:
    return not name.startswith("tail") and name.endswith((".conv.bias", ".norm.running_mean"))


def check_train(golden: Golden) -> None:
    length, image = golden.config["args"]["niter"], picture_of(golden)
    model = make_model(golden)
    scales = len(golden.config["shapes"])
    tape = {
        scale * length + i: golden.tape(f"noise/s{scale}i{i}/")  # the draw before a scale is made for its shape alone
        for scale in range(scales)
        for i in range(length)
    }
    watch = Watch(golden, length)
    fit_golden(model, [{"image": image}] * (scales * length), tape, GrowScales(grids=False), watch)
    for scale, real in enumerate(model.reals):
        assert torch.allclose(real, golden.given(f"in/real{scale}"), atol=2e-7, rtol=0), scale
    for scale in range(scales):
        end = watch.ends[scale]
        for i in range(length):
            key, terms = f"step/s{scale}i{i}", watch.terms[scale * length + i]
            for number, found in enumerate(terms[: model.critic_steps]):
                golden.compare(f"{key}/D{number}/errD_real", found["discriminator_real"])
                golden.compare(f"{key}/D{number}/errD_fake", found["discriminator_fake"])
                penalty = model.lambda_gradient * found["gradient_penalty"]
                golden.compare(f"{key}/D{number}/gradient_penalty", penalty)
            for number, found in enumerate(terms[model.critic_steps :]):
                golden.compare(f"{key}/G{number}/errG", found["adversarial"])
                golden.compare(f"{key}/G{number}/rec_loss", model.lambda_reconstruction * found["reconstruction"])
            now, later = (model.rate_factor(model.stage * length + place) for place in (i, i + 1))
            rates = watch.rates[scale * length + i]
            golden.compare(f"{key}/lr", torch.tensor(rates, dtype=torch.float64) / now * later)
        golden.compare(f"amp/s{scale}", end["amp"])
        golden.compare(f"z_opt/s{scale}", end["z_opt"])
        for net in ("G", "D"):
            names = golden.config[f"packed_keys/s{scale}/{net}"]
            rows = torch.stack([torch.stack([end[net][name].norm(), end[net][name].mean()]) for name in names])
            tolerance = golden.config["atol"] + golden.config["rtol"] * golden.layout(f"packed/s{scale}/{net}").abs()
            for row, name in enumerate(names):
                if is_loose(name):
                    tolerance[row] = LOOSE
            golden.compare(f"packed/s{scale}/{net}", rows, tolerance)
    for net, network in (("G", model.generators[-1]), ("D", model.discriminator)):
        for key in golden.keys(f"final/{net}/.*"):
            name = key.removeprefix(f"final/{net}/")
            loose = torch.full(golden.layout(key).shape, LOOSE, dtype=torch.float64) if is_loose(name) else None
            golden.compare(key, everything(network)[name], loose)


KINDS = {
    "pyramid": check_pyramid,
    "forward": check_forward,
    "losses": check_losses,
    "generate": check_generate,
    "harmonization": check_harmonization,
    "super_resolution": check_super_resolution,
    "animation": check_animation,
    "sifid": check_sifid,
    "train": check_train,
}
pytestmark = pytest.mark.golden


@pytest.mark.parametrize("path", **every_file("singan"))
def test_golden(path: Path) -> None:
    check(path, KINDS)
