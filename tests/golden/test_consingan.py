"""ConSinGAN against numbers of the official code."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional as F

from golden.golden import Golden, check, every_file
from golden.golden import fit as fit_golden
from zoo.blocks.single_image import MASK_RADII, gradient_penalty, own_statistics, soft_mask
from zoo.callbacks.grow_scales import GrowScales
from zoo.consingan import ConSinGAN
from zoo.consingan.model import pyramid, stage_scales
from zoo.consingan.perturb import (
    add_grey_noise,
    add_noise,
    cut_holes,
    drop_channel,
    invert,
    move_tiles,
    multiply,
    sepia,
    shift_hue,
    shuffle_channels,
)
from zoo.core.images import from_uint8, resize_cubic

LOOSE = 1e-7
"""For biases of convolutions before a batch norm: they have no true gradient, of whose rounding Adam makes steps. Running means hold
these biases, too."""
HALF_FLOAT32 = 2.0**-24  # rounding of what a file keeps in float32


def ours(recorded: str) -> str:
    """Our name of a recorded parameter or buffer: the slope of a PReLU alone has another."""
    return recorded.replace(".prelu.", ".activation.")


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {ours(key): value for key, value in state.items()}


def batched(picture: Tensor) -> Tensor:
    """A picture h w c as 1 c h w."""
    return picture.permute(2, 0, 1)[None]


def milestone(iterations: int) -> int | None:
    """Where the official rate drops: at 0.8 of a stage, if that is a whole number."""
    share = 0.8 * iterations
    return int(share) if share == int(share) else None


def make_model(golden: Golden, stages: int | None = None, **arguments: Any) -> ConSinGAN:
    """The model that a file's metadata describes, in float64."""
    given = golden.config["args"]
    shapes = golden.config.get("real_shapes", [])
    return ConSinGAN(
        task=given["train_mode"],
        channels=given["nfc"],
        layers=given["num_layer"],
        norm=bool(given["batch_norm"]),
        activation=given["activation"],
        slope=given["lrelu_alpha"],
        stages=stages or len(shapes) or given["train_stages"],
        min_size=given["min_size"],
        max_size=given["max_size"],
        train_depth=given["train_depth"],
        lr_scale=given["lr_scale"],
        stage_iterations=given["niter"],
        decay_iteration=milestone(given["niter"]),
        learning_rate=given["lr_g"],
        betas=(given["beta1"], 0.999),
        critic_steps=given["Dsteps"],
        generator_steps=given["Gsteps"],
        lambda_gradient=given["lambda_grad"],
        lambda_reconstruction=given["alpha"],
        noise_amplitude=given["noise_amp_init"],
        **arguments,
    ).double()


def with_weights(golden: Golden, prefix: str = "state/", **arguments: Any) -> ConSinGAN:
    """The model of all recorded stages with the file's weights."""
    model = make_model(golden, **arguments)
    generator = renamed(golden.state(f"{prefix}G/"))
    stages = 1 + max(int(key.split(".")[1]) for key in generator if key.startswith("body."))
    for stage in range(1, stages):
        model.build_stage(stage)
        model.stage = stage
    model.generator.load_state_dict(generator)
    if critic := golden.state(f"{prefix}D/"):
        model.discriminator.load_state_dict(renamed(critic))
    for amplitude in golden.config.get("noise_amp", []):
        model.amplitudes.append(torch.tensor(amplitude, dtype=torch.float64))
    return model


def sizes_of(golden: Golden) -> list[tuple[int, int]]:
    return [(shape[-2], shape[-1]) for shape in golden.config["real_shapes"]]


def remember(model: ConSinGAN, golden: Golden, fixed: list[Tensor], reals: list[Tensor] | None = None) -> None:
    """Give a model what its training would have kept."""
    for real in reals or [torch.zeros(shape, dtype=torch.float64) for shape in golden.config["real_shapes"]]:
        model.reals.append(real)
    for z in fixed:
        model.fixed.append(z)


class Seen:
    """What a module is given and gives, call by call."""

    def __init__(self, module: nn.Module) -> None:
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        module.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        self.inputs.append(given[0].detach())
        self.outputs.append(output.detach())


# Kinds -----------------------------------------------------------------------------------------------------------------------


def check_imresize(golden: Golden) -> None:
    for job in golden.config["jobs"]:
        size = tuple(job["shape"]) if job["shape"] else None
        resized = resize_cubic(golden.given(f"in/{job['i']}").float(), job["scale"], size=size)
        golden.compare(f"out/{job['i']}", resized)


def check_pyramid(golden: Golden) -> None:
    given = golden.config["args"]
    geometric = given["train_mode"] == "harmonization"
    picture = from_uint8(batched(golden.given("in/image_uint8")))
    for stage, real in enumerate(
        pyramid(picture, given["train_stages"], given["min_size"], given["max_size"], geometric)
    ):
        golden.compare(f"out/real{stage}", real)
    for row in golden.config["shape_table"]:
        top = [math.ceil(row[side] * row["scale1"]) for side in "hw"]
        scales = stage_scales((top[0], top[1]), row["train_stages"], row["min_size"], row["mode"] == "harmonization")
        assert [[math.ceil(side * scale) for side in top] for scale in scales] == row["shapes"], row
        blank = torch.zeros(1, 3, row["h"], row["w"])
        made = pyramid(blank, row["train_stages"], row["min_size"], row["max_size"], row["mode"] == "harmonization")
        assert [list(real.shape[2:]) for real in made] == row["shapes"], row


def check_discriminator(golden: Golden) -> None:
    model = make_model(golden)
    model.discriminator.load_state_dict(renamed(golden.state("state/D/")))
    golden.compare("out/logits", model.discriminator(golden.given("in/x")))


def check_generator(golden: Golden) -> None:
    model = with_weights(golden)
    network = model.generator.train()
    maps = [golden.given(key) for key in golden.keys(r"in/noise\d+")]
    seen = {"head": Seen(network.head), "tail_in": Seen(network.tail)}
    seen |= {f"body{stage}": Seen(body) for stage, body in enumerate(network.body)}
    with torch.no_grad():
        golden.compare("out/train", network(maps, sizes_of(golden), list(model.amplitudes)))
        for name, module in seen.items():
            recorded = module.inputs if name == "tail_in" else module.outputs
            golden.compare(f"mid/train/{name}", recorded[0], tolerance_of(golden, f"mid/train/{name}"))
        buffers = dict(network.named_buffers())
        for key in golden.keys("after_train/.*"):
            golden.compare(key, buffers[ours(key.removeprefix("after_train/"))])
        if golden.keys("out/eval_after_train"):
            evaluated = network.eval()(maps, sizes_of(golden), list(model.amplitudes))
            golden.compare("out/eval_after_train", evaluated)
            before = {name: value.clone() for name, value in network.named_buffers()}
            with own_statistics(network):  # how the room infers
                golden_like = network(maps, sizes_of(golden), list(model.amplitudes))
            assert torch.allclose(golden_like, network.train()(maps, sizes_of(golden), list(model.amplitudes)))
            assert set(before) == set(dict(network.named_buffers()))


def tolerance_of(golden: Golden, key: str) -> Tensor:
    """The file's tolerance, and what rounding takes of a tensor that it keeps in float32."""
    expected = golden.layout(key)
    rounding = HALF_FLOAT32 if expected.dtype == torch.float32 else 0.0
    return golden.config["atol"] + (golden.config["rtol"] + rounding) * expected.double().abs()


def is_loose(name: str, norm: bool) -> bool:
    """Whether a generator's parameter or statistic holds a bias that a norm takes away again."""
    return norm and not name.startswith("tail") and name.endswith((".conv.bias", ".norm.running_mean"))


def check_losses(golden: Golden) -> None:
    model = with_weights(golden)
    real, maps = golden.given("in/real"), [golden.given(key) for key in golden.keys(r"in/noise\d+")]
    fixed = [golden.given(key) for key in golden.keys(r"in/fixed\d+")]
    generator, critic = model.generator, model.discriminator
    given = (sizes_of(golden), list(model.amplitudes))
    fake = generator(maps, *given)
    golden.compare("mid/fake", fake)
    real_loss, fake_loss = -critic(real).mean(), critic(fake.detach()).mean()
    penalty = model.lambda_gradient * gradient_penalty(critic, real, fake, golden.given("in/gp_alpha"))
    golden.compare("out/errD_real", real_loss)
    golden.compare("out/errD_fake", fake_loss)
    golden.compare("out/gradient_penalty", penalty)
    compare_gradients(golden, "D", critic, real_loss + fake_loss + penalty)
    adversarial = -critic(fake).mean()
    reconstruction = model.lambda_reconstruction * F.mse_loss(generator(fixed, *given), real)
    golden.compare("out/errG", adversarial)
    golden.compare("out/rec_loss", reconstruction)
    compare_gradients(golden, "G", generator, adversarial + reconstruction)


def compare_gradients(golden: Golden, name: str, network: nn.Module, loss: Tensor) -> None:
    parameters = dict(network.named_parameters())
    gradients = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True, allow_unused=True)
    norms = {key: None if g is None else g.norm() for key, g in zip(parameters, gradients, strict=True)}
    for key in golden.keys(f"gradnorm/{name}/.*"):
        norm = norms[ours(key.removeprefix(f"gradnorm/{name}/"))]
        assert norm is not None, key
        golden.compare(key, norm)


def check_shuffle_grid(golden: Golden) -> None:
    picture = batched(golden.given("in/image_0_255"))
    for key in golden.keys(r"out/\d+"):
        draws = list(golden.config[f"draws_{key.partition('/')[2]}"])

        def randint(low: int, high: int, draws: list[Any] = draws) -> int:
            kind, least, most, value = draws.pop(0)
            assert (kind, least, most) == ("randint", low, high)
            return int(value)

        def coin(draws: list[Any] = draws) -> float:
            kind, *_, value = draws.pop(0)
            assert kind == "random"
            return float(value)

        golden.compare(key, move_tiles(picture, randint, coin)[0].permute(1, 2, 0))
        assert not draws


def check_augment_ops(golden: Golden) -> None:
    x, given = batched(golden.given("in/image_0_255")), golden.config["params"]

    def value(name: str) -> Any:
        return given[name] if name in given else batched(golden.given(f"param/{name}"))

    grey = golden.layout("out/iaa_gauss_0_255").double() - golden.given("in/image_0_255").trunc()
    changes: dict[str, Callable[[], Tensor]] = {
        "multiplicative": lambda: multiply(x, value("multiplicative/multiplier"), True),
        "gauss": lambda: add_noise(x, value("gauss/gauss"), True),
        "iaa_gauss": lambda: add_grey_noise(x, batched(grey)[:, :1]),  # its form: the draws are not recorded
        "invert": lambda: invert(x),
        "sepia": lambda: sepia(x, True),
        "channel_dropout": lambda: drop_channel(x, value("channel_dropout/channels_to_drop")[0]),
        "channel_shuffle": lambda: shuffle_channels(x, value("channel_shuffle/channels_shuffled")),
        "hue_sat_val": lambda: shift_hue(
            x, *(value(f"hue_sat_val/{part}_shift") for part in ("hue", "sat", "val")), True
        ),
        "cutout": lambda: cut_holes(x, value("cutout/holes"), value("cutout/fill_value")),
    }
    for name, change in changes.items():
        if not golden.keys(f"out/{name}_0_255"):
            continue
        changed = change()
        golden.compare(f"out/{name}_0_255", changed[0].permute(1, 2, 0))
        if golden.keys(f"out/{name}_net_input"):
            golden.compare(f"out/{name}_net_input", (changed / 127.5 - 1).clamp(-1, 1))


def check_arbitrary_size(golden: Golden) -> None:
    model = with_weights(golden)
    remember(model, golden, [torch.zeros(1)] * len(golden.config["real_shapes"]))
    for width, height in golden.config["scales"]:
        name = f"w{width}_h{height}"
        model.draws.replay({0: golden.tape(f"noise/{name}/")})
        model.draws.begin(0, torch.device("cpu"), torch.float64)
        golden.compare(f"out/{name}", model.random_picture(model.scaled_sizes(height, width)))
        assert not model.draws.unread


def check_animation(golden: Golden) -> None:
    model = with_weights(golden)
    remember(model, golden, [golden.given(key) for key in golden.keys(r"in/fixed\d+")])
    tape = [draw for moment in range(golden.config["frames"] + 1) for draw in golden.tape(f"noise/{moment}/")]
    model.draws.replay({0: tape})
    model.draws.begin(0, torch.device("cpu"), torch.float64)
    walk = (golden.config["frames"], golden.config["alpha"], golden.config["beta"], golden.config["start_scale"])
    with torch.no_grad():
        pictures = model.wander(*walk)
    assert not model.draws.unread
    for number, picture in enumerate(pictures):
        golden.compare(f"out/frame{number}", picture)
        levels = ((picture + 1) / 2).clamp(0, 1).mul(255).to(torch.uint8)
        golden.compare(f"out/frame{number}_uint8", levels[0].permute(1, 2, 0))


def check_harmonize_inference(golden: Golden) -> None:
    model, given = with_weights(golden), golden.config["args"]
    picture, naive, mask = (
        from_uint8(batched(golden.given(f"in/{name}_uint8"))).double() for name in ("image", "naive", "mask")
    )
    reals = pyramid(picture, given["train_stages"], given["min_size"], given["max_size"], model.geometric)
    remember(model, golden, [reals[0], *(golden.given(key) for key in golden.keys(r"in/fixed\d+"))], reals)
    golden.compare("mid/naive_stage0", model.as_first_map(naive))
    golden.compare("mid/soft_mask", soft_mask(resize_cubic(mask, size=model.sizes[-1]), MASK_RADII[model.task]))
    golden.compare("out/without_mask", model.translate(naive))
    golden.compare("out/with_mask_over_training_image", model.translate(naive, mask=mask))
    golden.compare("out/with_mask_over_naive_image", model.translate(naive, mask=mask, base="naive"))


# Trainings -------------------------------------------------------------------------------------------------------------------


class Watch(Callback):
    """Looks at every step of every player, and at the state at the end of each stage. Stands behind `GrowScales`."""

    def __init__(self, length: int, every_gradient: bool = False) -> None:
        self.length = length
        self.every_gradient = every_gradient
        self.terms: list[list[dict[str, Tensor]]] = []
        self.gradients: list[dict[str, Tensor]] = []
        self.rates: list[list[list[float]]] = []
        self.steps: list[list[int]] = []
        self.ends: list[dict[str, Any]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.model: Any = pl_module
        log_terms, step = self.model.log_terms, self.model.update_generator

        def listen(terms: Mapping[str, Tensor], *arguments: str) -> None:
            self.terms[-1].append({name: value.detach().clone() for name, value in terms.items()})
            log_terms(terms, *arguments)

        self.model.log_terms = listen
        first_map, draw_map = self.model.first_map, self.model.draw_map
        self.maps: list[Tensor] = []

        def keep(make: Callable[..., Tensor], *arguments: Any) -> Tensor:
            self.maps.append(make(*arguments))
            return self.maps[-1]

        self.model.first_map = partial(keep, first_map)
        self.model.draw_map = lambda *arguments: keep(draw_map, *arguments)

        def with_all_gradients(real: Tensor, fake: Tensor) -> None:
            if self.every_gradient:
                self.gradients[-1] |= self._of_the_head(real)
            step(real, fake)

        self.model.update_generator = with_all_gradients
        self._seen: list[Any] = []  # the optimisers themselves: a new one may have the number of one that is gone

    def _of_the_head(self, real: Tensor) -> dict[str, Tensor]:
        """Gradients that the official code computes of a head that no optimiser holds, and the room does not."""
        model, network = self.model, self.model.generator
        if not model.frozen_stages:
            return {}
        network.requires_grad_(True)
        maps = self.maps[-network.stages :]
        given = (model.sizes, list(model.amplitudes))
        critic = {id(p): p.requires_grad for p in model.discriminator.parameters()}
        with torch.random.fork_rng():
            modes = [
                (layer, layer.track_running_stats) for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)
            ]
            for layer, _ in modes:
                layer.track_running_stats = False
            loss = -model.discriminator(network(maps, *given)).mean()
            loss = loss + model.lambda_reconstruction * F.mse_loss(network(list(model.fixed), *given), real)
            for layer, mode in modes:
                layer.track_running_stats = mode
        named = {f"head.{name}": p for name, p in network.head.named_parameters()}
        gradients = torch.autograd.grad(loss, list(named.values()))
        held = {id(p) for p in model._players["generator"].parameters}
        for p in network.parameters():
            p.requires_grad_(id(p) in held)
        assert critic == {id(p): p.requires_grad for p in model.discriminator.parameters()}
        return {name: g.norm() for name, g in zip(named, gradients, strict=True)}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.terms.append([])
        self.gradients.append({})
        self.rates.append([[] for _ in trainer.optimizers])
        self.steps.append([0] * len(trainer.optimizers))
        names = {id(p): name for name, p in pl_module.generator.named_parameters()}  # type: ignore[union-attr]
        for number, optimizer in enumerate(trainer.optimizers):
            if any(optimizer is seen for seen in self._seen):
                continue
            self._seen.append(optimizer)

            def look(stepping: Any, *_: Any, number: int = number, names: dict[int, str] = names) -> None:
                self.rates[-1][number] = [group["lr"] for group in stepping.param_groups]
                self.steps[-1][number] += 1
                for group in stepping.param_groups:
                    for p in group["params"]:
                        if id(p) in names and p.grad is not None:
                            self.gradients[-1][names[id(p)]] = p.grad.norm()

            optimizer.register_step_pre_hook(look)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step % self.length == 0:
            model: Any = pl_module
            networks = {"G": model.generator, "D": model.discriminator}
            self.ends.append(
                {
                    "amp": torch.stack(list(model.amplitudes)),
                    "fixed": [z.clone() for z in model.fixed],
                    **{
                        key: {n: v.detach().clone() for n, v in [*net.named_parameters(), *net.named_buffers()]}
                        for key, net in networks.items()
                    },
                }
            )


def tape_of(golden: Golden, prefix: str, stand_ins: list[Tensor]) -> list[tuple[str, Tensor]]:
    """The draws of one moment; what stands for an augmentation is no draw of the room."""
    tape = []
    for name, value in golden.tape(prefix):
        if name.startswith("augmented"):
            stand_ins.append(from_uint8(batched(value)).double())  # the official code makes float32 of it
        else:
            tape.append((name, value))
    return tape


def compare_run(golden: Golden, watch: Watch, tags: list[str], model: ConSinGAN) -> None:
    """Compare every iteration of some stages, and the state at the end of each."""
    length, order = watch.length, [ours(name) for name in golden.config["grad_param_order"]]
    for place, tag in enumerate(tags):
        for i in range(length):
            at, key = place * length + i, f"step/{tag}i{i}"
            *critic, generator = watch.terms[at]
            for number, terms in enumerate(critic):
                golden.compare(f"{key}/D{number}/errD_real", terms["discriminator_real"])
                golden.compare(f"{key}/D{number}/errD_fake", terms["discriminator_fake"])
                golden.compare(f"{key}/D{number}/gradient_penalty", model.lambda_gradient * terms["gradient_penalty"])
            golden.compare(f"{key}/errG", generator["adversarial"])
            golden.compare(f"{key}/rec_loss", model.lambda_reconstruction * generator["reconstruction"])
            assert watch.steps[at] == [model.generator_steps, model.critic_steps]
            names = [name for name in order if name in watch.ends[place]["G"]]
            norms = [watch.gradients[at].get(name, torch.tensor(-1.0, dtype=torch.float64)) for name in names]
            compare_loosely(golden, f"{key}/gradnorm_G", torch.stack(norms), names, model.norm)
            # Recorded after the schedule's step: the rates of the iteration to come, seen there where the stage goes on.
            for number, player in enumerate(("G", "D")):
                now = model.rate_factor(
                    model.stage * model.stage_iterations - model.first_stage * model.stage_iterations + i
                )
                later = model.rate_factor((model.stage - model.first_stage) * model.stage_iterations + i + 1)
                rates = torch.tensor(watch.rates[at][number], dtype=torch.float64) / now * later
                if i + 1 < length:
                    assert torch.allclose(
                        rates, torch.tensor(watch.rates[at + 1][number], dtype=torch.float64), rtol=1e-12
                    )
                golden.compare(f"{key}/lr_{player}", rates)
        golden.compare(f"amp/{tag}", watch.ends[place]["amp"])
        for net in ("G", "D"):
            names = [ours(name) for name in golden.config[f"packed_keys/{tag}/{net}"]]
            values = [watch.ends[place][net][name] for name in names]
            rows = torch.stack([torch.stack([value.norm(), value.mean()]) for value in values])
            compare_loosely(golden, f"packed/{tag}/{net}", rows, names, model.norm and net == "G")


def compare_loosely(golden: Golden, key: str, actual: Tensor, names: list[str], norm: bool) -> None:
    """Compare rows by parameter; those of biases before a batch norm have no true gradient, as the files' notes say."""
    expected = golden.layout(key).double()
    if not norm or actual.shape != expected.shape:
        golden.compare(key, actual)
        return
    tolerance = golden.config["atol"] + golden.config["rtol"] * expected.abs()
    for row, name in enumerate(names):
        if is_loose(name, norm):
            tolerance[row] = LOOSE
    golden.compare(key, actual, tolerance)


def compare_final(golden: Golden, model: ConSinGAN) -> None:
    for net, network in (("G", model.generator), ("D", model.discriminator)):
        values = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        for key in golden.keys(f"final/{net}/.*"):
            name = ours(key.removeprefix(f"final/{net}/"))
            loose = is_loose(name, model.norm and net == "G")
            shape = golden.layout(key).shape
            golden.compare(key, values[name], torch.full(shape, LOOSE, dtype=torch.float64) if loose else None)


def train(golden: Golden, model: ConSinGAN, batch: Mapping[str, Tensor], tags: list[str], length: int) -> Watch:
    stand_ins: list[Tensor] = []
    tape = {
        place * length + i: [
            *(tape_of(golden, f"noise/{tag}/", stand_ins) if i == 0 else []),
            *tape_of(golden, f"noise/{tag}i{i}/", stand_ins),
        ]
        for place, tag in enumerate(tags)
        for i in range(length)
    }
    if stand_ins:
        assert model.task == "harmonization"
        model.first_map = lambda batch: stand_ins.pop(0)  # type: ignore[method-assign, assignment]
    watch = Watch(length, every_gradient=True)
    fit_golden(model, [batch] * (len(tags) * length), tape, GrowScales(grids=False), watch)
    assert not stand_ins
    return watch


def start(golden: Golden, **arguments: Any) -> ConSinGAN:
    """A model of one stage, as a training begins."""
    model = make_model(golden, **arguments)
    model.generator.load_state_dict(renamed(golden.state("state/G/")))
    model.discriminator.load_state_dict(renamed(golden.state("state/D/")))
    return model


def check_train(golden: Golden) -> None:
    model, length = start(golden), golden.config["args"]["niter"]
    batch = {"image": from_uint8(batched(golden.given("in/image_uint8"))).double()}
    tags = [f"s{stage}" for stage in range(model.stages)]
    watch = train(golden, model, batch, tags, length)
    for stage, real in enumerate(model.reals):
        assert torch.allclose(real, golden.given(f"in/real{stage}"), atol=2e-7, rtol=0), stage
    compare_run(golden, watch, tags, model)
    compare_final(golden, model)


def check_train_finetune(golden: Golden) -> None:
    model, length = start(golden), golden.config["args"]["niter"]
    batch = {"image": from_uint8(batched(golden.given("in/image_uint8"))).double()}
    tags = [f"s{stage}" for stage in range(model.stages)]
    compare_run(golden, train(golden, model, batch, tags, length), tags, model)

    tag = f"ft{model.stages - 1}"
    iterations = 1 + max(int(key.split("/")[1].partition("i")[2]) for key in golden.keys(rf"noise/{tag}i\d+/.*"))
    tuned = make_model(golden, fine_tune="the model above")
    tuned.start_from = lambda place: take(tuned, model)  # type: ignore[method-assign]
    naive = from_uint8(batched(golden.given("in/naive_uint8"))).double()
    kept = [z.clone() for z in model.fixed]
    watch = train(golden, tuned, {**batch, "naive": naive}, [tag], iterations)
    coarse = batched(golden.given("in/naive_coarse_0_255"))
    assert torch.allclose(tuned.as_first_map(naive), (coarse / 255 - 0.5) * 2, atol=1e-6, rtol=0)
    assert all(torch.equal(z, before) for z, before in zip(tuned.fixed, kept, strict=True))
    compare_run(golden, watch, [tag], tuned)
    compare_final(golden, tuned)


def take(tuned: ConSinGAN, finished: ConSinGAN) -> None:
    """What `ConSinGAN.start_from` does with a checkpoint, from memory: float64 all the way."""
    tuned._grow_to(finished.stage)
    tuned.load_state_dict(finished.state_dict())


KINDS = {
    "imresize": check_imresize,
    "pyramid": check_pyramid,
    "discriminator": check_discriminator,
    "generator": check_generator,
    "losses": check_losses,
    "shuffle_grid": check_shuffle_grid,
    "augment_ops": check_augment_ops,
    "arbitrary_size": check_arbitrary_size,
    "animation": check_animation,
    "harmonize_inference": check_harmonize_inference,
    "train": check_train,
    "train_finetune": check_train_finetune,
}
pytestmark = pytest.mark.golden


@pytest.mark.parametrize("path", **every_file("consingan"))
def test_golden(path: Path) -> None:
    check(path, KINDS)
