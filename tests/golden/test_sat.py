"""SAT against numbers of an independent computation: no official code is known."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from golden.golden import Golden, GoldenMismatchError, check, every_file, fit
from zoo.blocks.attention import compose
from zoo.callbacks.adaptive_lambda import AdaptiveLambda, Induction
from zoo.callbacks.staging import EnterStage
from zoo.experts.vgg import VGGFeatures
from zoo.sat import ATTENTION, GENERATOR, JOINT, SAT, VGG_LAYERS, discriminator_loss, feature_distances, generator_loss

STAGES = {"g0": GENERATOR, "attn": ATTENTION, "joint": JOINT}
NETWORKS = {"g0": "generator", "attn": "attention", "d": "discriminator", "percep": "expert"}
GENERATOR_LOSSES = ("bce", "saturating", "lsgan")
DISCRIMINATOR_LOSSES = ("bce", "lsgan")  # the saturating form has the discriminator of the other


def ours(recorded: str) -> str:
    """Our name of a recorded parameter or buffer."""
    network, _, rest = recorded.partition(".")
    if network == "d":
        layer, _, rest = rest.partition(".")
        if not rest.startswith(("conv.", "bn.")):
            return f"discriminator.{'first' if layer == '0' else 'last'}.{rest}"
        return f"discriminator.blocks.{int(layer) - 1}.{rest}"
    rest = re.sub(r"^res(\d+)", r"residual.\1", rest).removeprefix("vgg.")
    return f"{NETWORKS[network]}.{rest}"


def make_model(golden: Golden, **arguments: Any) -> SAT:
    """The model that a file's metadata describes, in float64, with the file's weights where it has some."""
    config = golden.config
    model = SAT(
        generator_channels=config["ngf"],
        residual_blocks=config["blocks"],
        attention_encoder="random",
        attention_channels=config["vgg"],
        discriminator_channels=config["ndf"],
        distance_weights="random",
        distance_channels=config["vgg"],
        pool_size=0,
        **arguments,
    ).double()
    model.expert = VGGFeatures(19, VGG_LAYERS, base_channels=config["vgg"]).double()
    restore(model, golden)
    return model


def restore(model: SAT, golden: Golden) -> None:
    state = {ours(key): value for key, value in golden.state().items()}
    if not state:
        return
    expert = {key.removeprefix("expert."): value for key, value in state.items() if key.startswith("expert.")}
    if expert:
        assert model.expert is not None
        model.expert.load_own(expert)
    counters = {key: value for key, value in model.state_dict().items() if key.endswith("num_batches_tracked")}
    rest = {key: value for key, value in state.items() if not key.startswith("expert.")}
    model.load_state_dict({**rest, **counters}, strict=True)


def in_stage(model: SAT, stage: int) -> SAT:
    model.stage = stage
    return model.train()


class Seen:
    """What a module gives, call by call."""

    def __init__(self, module: nn.Module) -> None:
        self.outputs: list[Tensor] = []
        module.register_forward_hook(lambda _, __, output: self.outputs.append(output.detach()))


def check_forward(golden: Golden) -> None:
    source = golden.given("in/x")
    for mode in ("eval", "train"):
        model = make_model(golden)
        restore(model, golden)
        in_stage(model, JOINT).train(mode == "train")
        inner = {"g0_down2": Seen(model.generator.down2), "g0_res_last": Seen(model.generator.residual[-1])}
        with torch.no_grad():
            painted, attention = model.generator(source), model.attention(source)
            composed = compose(attention, painted, source)
            golden.compare(f"out/{mode}/d", model.discriminator(composed))
        golden.compare(f"out/{mode}/g0", painted)
        golden.compare(f"out/{mode}/attn", attention)
        golden.compare(f"out/{mode}/composed", composed)
        for name, seen in inner.items():
            golden.compare(f"out/{mode}/{name}", seen.outputs[0])
        if mode == "train":
            buffers = dict(model.named_buffers())
            norms = torch.stack([buffers[ours(name)].norm() for name in golden.config["buffer_order"]])
            golden.compare("out/train/running_l2", norms)
        else:
            translation, found, all_painted = model.attend(source)  # what a user is given
            assert torch.equal(translation, composed)
            assert torch.equal(found, attention)
            assert torch.equal(all_painted, painted)


def gradient_norms(model: SAT, loss: Tensor, names: Iterable[str]) -> Tensor:
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(loss, [parameters[ours(name)] for name in names], retain_graph=True)
    return torch.stack([gradient.norm() for gradient in gradients])


def check_losses(golden: Golden) -> None:
    source, target = golden.given("in/x"), golden.given("in/y")
    orders = golden.config["gradnorm_order"]
    for phase, stage in STAGES.items():
        model = in_stage(make_model(golden), stage)
        assert model.expert is not None
        fake = model.make(source)
        golden.compare(f"out/{phase}/fake", fake)
        features, wanted = model.expert(fake), model.expert(source)
        golden.compare(f"out/{phase}/reg_layers", feature_distances(features, wanted))
        regularisation = model.regularise(source, fake)
        golden.compare(f"out/{phase}/reg", regularisation)
        model.perceptual_squared = False
        golden.compare(f"out/{phase}/reg_unsquared", model.regularise(source, fake))
        logits = model.discriminator(fake)
        for kind in GENERATOR_LOSSES:
            golden.compare(f"out/{phase}/adv_g_{kind}", generator_loss(logits, kind))
        total = generator_loss(logits, "bce") + golden.config["lam"] * regularisation
        golden.compare(f"out/{phase}/g_total_bce", total)
        golden.compare(f"out/{phase}/gradnorm", gradient_norms(model, total, orders[phase]))

        restore(model, golden)
        real, false = model.discriminator(target), model.discriminator(fake.detach())
        for kind in DISCRIMINATOR_LOSSES:
            golden.compare(f"out/{phase}/d_real_{kind}", discriminator_loss(real, True, kind))
            golden.compare(f"out/{phase}/d_fake_{kind}", discriminator_loss(false, False, kind))
        both = discriminator_loss(real, True, "bce") + discriminator_loss(false, False, "bce")
        golden.compare(f"out/{phase}/d_gradnorm", gradient_norms(model, both, orders["d"]))


def check_lambda_schedule(golden: Golden) -> None:
    for number, (step, threshold, interval, _) in enumerate(golden.config["runs"]):
        rule, used, stopped = Induction(step, interval, threshold), [], []
        for loss in golden.given(f"in/{number}/adv_loss").tolist():
            used.append(rule.value)
            rule.observe([loss])
            stopped.append(rule.stopped)
        golden.compare(f"out/{number}/lambda_used", torch.tensor(used, dtype=torch.float64))
        golden.compare(f"out/{number}/stopped_after", torch.tensor(stopped))


def check_phase_sets(golden: Golden) -> None:
    model = make_model(golden)
    names = {id(p): name for name, p in model.named_parameters()}
    for phase, stage in STAGES.items():
        model.stage = stage
        optimizer, _ = model.configure_optimizers()
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        assert all(p.requires_grad for p in trained)
        expected = {ours(name) for name in golden.config["trainable"][phase]}
        assert {names[id(p)] for p in trained} == expected, phase
        golden.compare(f"out/count_{phase}", torch.tensor(sum(p.numel() for p in trained)))


class Watch(Callback):
    """Keeps lambda as each iteration used it, and everything at the end of some iterations. Stands before what changes lambda."""

    def __init__(self, ends: dict[int, str]) -> None:
        self.ends = ends
        self.used: list[float] = []
        self.states: dict[str, dict[str, Tensor]] = {}
        self.rates: list[list[float]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.states["start"] = everything(pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.used.append(pl_module.lambda_regularisation)  # type: ignore[arg-type]
        self.rates.append([optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers])
        if trainer.global_step in self.ends:
            self.states[self.ends[trainer.global_step]] = everything(pl_module)


def everything(model: LightningModule) -> dict[str, Tensor]:
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: value.detach().clone() for name, value in named if not name.endswith("num_batches_tracked")}


def check_train(golden: Golden) -> None:
    config = golden.config
    length = config["iters"]
    batches = [
        {"source": golden.given(key), "target": golden.given(key[:-1] + "y")} for key in golden.keys(r"in/\d+/x")
    ]
    assert len(batches) == len(STAGES) * length
    model = make_model(
        golden,
        lambda_step=config["lam_step"],
        lambda_interval=config["lam_interval"],
        lambda_threshold=config["lam_threshold"],
        attention_iteration=length,
        joint_iteration=2 * length,
        learning_rate=config["lr"],
        joint_rate=config["joint_lr_factor"],
    )
    watch = Watch({length * (stage + 1): phase for phase, stage in STAGES.items()})
    rule = ("lambda_regularisation", "loss/adversarial", "lambda_step", "lambda_interval", "lambda_threshold")
    callbacks = [
        AdaptiveLambda(*rule, until="attention_iteration"),
        EnterStage(ATTENTION, "attention_iteration"),
        AdaptiveLambda(*rule, at="attention_iteration", until="joint_iteration"),
        EnterStage(JOINT, "joint_iteration"),
    ]
    record = fit(model, batches, {}, watch, *callbacks)

    golden.compare("lambda_used", torch.tensor(watch.used, dtype=torch.float64))
    for step, terms in enumerate(record.terms):
        recorded = {
            "adv_g": terms["adversarial"],
            "reg": terms["regularisation"],
            "d_real": terms["discriminator_real"],
            "d_fake": terms["discriminator_fake"],
        }
        for key in golden.keys(rf"step{step}/\w+"):
            golden.compare(key, recorded[key.partition("/")[2]])
    before = "start"
    for phase in STAGES:
        state, earlier = watch.states[phase], watch.states[before]
        changed = {name for name, value in state.items() if not torch.equal(value, earlier[name])}
        expected = {ours(name) for name in config["changed_in_phase"][phase]}
        if changed != expected:
            raise GoldenMismatchError("changed_in_phase", f"in {phase} {sorted(changed ^ expected)[:5]} differ")
        rows = [state[ours(name)] for name in config["param_order"]]
        golden.compare(f"after_{phase}/l2_mean", torch.stack([torch.stack([row.norm(), row.mean()]) for row in rows]))
        before = phase
    assert {tuple(rates) for rates in watch.rates[:-length]} == {(config["lr"], config["lr"])}
    assert {tuple(rates) for rates in watch.rates[-length:]} == {
        (config["lr"] * config["joint_lr_factor"], config["lr"])
    }


KINDS = {
    "forward": check_forward,
    "losses": check_losses,
    "lambda_schedule": check_lambda_schedule,
    "phase_sets": check_phase_sets,
    "train": check_train,
}
pytestmark = pytest.mark.golden


@pytest.mark.parametrize("path", **every_file("sat"))
def test_golden(path: Path) -> None:
    check(path, KINDS)
