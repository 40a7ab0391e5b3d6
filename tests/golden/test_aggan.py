"""AGGAN against numbers recorded from the official code."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from datamodules.preprocess import Transform
from datamodules.tensorflow_resize import resize_bilinear
from golden.golden import Golden, GoldenMismatchError, Record, check, every_file, fit
from zoo.aggan import AGGAN, Translation
from zoo.blocks.image_pool import ImagePool
from zoo.callbacks.staging import EnterStage, FreezeNetworks
from zoo.core import Draws
from zoo.weights.aggan import NETWORKS, from_official, never_used, our_name, own_state, settings_of

ATTENTION = ["attention_source", "attention_target"]
FIRST, SECOND = 1, 2  # the official stages


def second_stage(at: int | str) -> list[Callback]:
    """The callbacks of the recipe."""
    return [FreezeNetworks(ATTENTION, at=at), EnterStage(1, at=at)]


def make_model(golden: Golden, **options: Any) -> AGGAN:
    """The room at the sizes of the given weights, with these weights."""
    config, state = golden.config, from_official(golden.state())
    weights = (config["lam"], config["lam"]) if "lam" in config else (10.0, 10.0)
    settings = settings_of(state)
    for network, width in (("generator", "ngf"), ("attention", "ngf"), ("discriminator", "ndf")):
        assert settings[f"{network}_channels"] == config[width], network
    model = AGGAN(
        **settings,  # type: ignore[arg-type]
        threshold=config["tau"],
        lambda_cycle_source=weights[0],
        lambda_cycle_target=weights[1],
        **options,
    ).double()
    ours = own_state(model)
    model.load_state_dict({name: value for name, value in state.items() if not never_used(name, ours)}, strict=True)
    return model


def enter_second_stage(model: AGGAN) -> None:
    model.on_load_checkpoint({"zoo": {"stage": 1}})


def logits(model: AGGAN, domain: str, image: Tensor, attention: Tensor) -> Tensor:
    """What the room's discriminator says, on the room's own way to it."""
    said: list[Tensor] = []
    network = model.get_submodule(f"discriminator_{domain}")
    hook = network.register_forward_hook(lambda _, __, output: said.append(output))
    model.judge(domain, image, attention)
    hook.remove()
    return said[0]


def watch(model: AGGAN) -> dict[str, Tensor]:
    """What each layer gives at its first call: after its ReLU, or the last layers' before tanh and sigmoid."""
    seen: dict[str, Tensor] = {}
    for official, ours in NETWORKS.items():
        for name, part in model.get_submodule(ours).named_modules():
            place = f"{official}/{name.replace('.', '/')}".removesuffix("/conv")
            last = name.endswith("conv") and not hasattr(model.get_submodule(f"{ours}.{name[:-5]}"), "norm")
            if name.count(".") == 0 or last:
                part.register_forward_hook(
                    lambda _, __, y, place=place: seen.update({place: seen.get(place, y.detach().clone())})
                )
    return seen


def check_forward(golden: Golden) -> None:
    model = make_model(golden)
    seen = watch(model)
    a, b = golden.given("in/images_a"), golden.given("in/images_b")
    to_b, to_a = model.attend(a, "target"), model.attend(b, "source")
    inner = {key: seen[key.removeprefix("out/inner/")] for key in golden.keys(r"out/inner/.*")}
    back_a, back_b = model.attend(to_b.picture, "source"), model.attend(to_a.picture, "target")
    for name, image, there, back in (("a", a, to_b, back_a), ("b", b, to_a, back_b)):
        other = {"a": "b", "b": "a"}[name]
        golden.compare(f"out/mask_{name}", there.attention)
        golden.compare(f"out/masked_{name}", image * there.attention)
        golden.compare(f"out/gen_{other}_raw", there.generated)
        golden.compare(f"out/fake_{other}", there.picture)
        golden.compare(f"out/mask_{other}cycle", back.attention)  # named by the domain of the translation that it is of
        golden.compare(f"out/gen_cycle_{name}_raw", back.generated)
        golden.compare(f"out/cycle_{name}", back.picture)
    for key, value in inner.items():
        golden.compare(key, value)
    for stage in (FIRST, SECOND):
        if stage == SECOND:
            enter_second_stage(model)
        golden.compare(f"out/stage{stage}/d_a_real", logits(model, "source", a, to_b.attention))
        golden.compare(f"out/stage{stage}/d_b_real", logits(model, "target", b, to_a.attention))
        golden.compare(f"out/stage{stage}/d_a_fake", logits(model, "source", model.shown(to_a), to_a.attention))
        golden.compare(f"out/stage{stage}/d_b_fake", logits(model, "target", model.shown(to_b), to_b.attention))


def check_losses(golden: Golden) -> None:
    model = make_model(golden)
    a, b = golden.given("in/images_a"), golden.given("in/images_b")
    pooled = {name: (golden.given(f"in/pool_{name}"), golden.given(f"in/pool_{name}_mask")) for name in ("a", "b")}
    terms: dict[str, Tensor] = {}
    model.log_terms = lambda new, *_: terms.update(new)  # type: ignore[method-assign]
    parameters = dict(model.named_parameters())
    for stage in (FIRST, SECOND):
        if stage == SECOND:
            enter_second_stage(model)

        def both() -> tuple[Translation, Translation]:
            return model.attend(a, "target"), model.attend(b, "source")

        (to_b, to_a), (to_b_again, to_a_again) = both(), both()
        totals = {
            "g_A_loss": model.generator_loss("target", a, b, to_b, to_a.detach()),
            "g_B_loss": model.generator_loss("source", a, b, to_b_again.detach(), to_a_again),
            "d_A_loss": model.discriminator_loss("source", (a, to_b.attention), pooled["a"]),
            "d_B_loss": model.discriminator_loss("target", (b, to_a.attention), pooled["b"]),
        }
        for name, total in totals.items():
            golden.compare(f"out/stage{stage}/{name}", total)
            order = golden.config["gradnorm_order"][name]
            moved = {key: parameters[our_name(key)] for key in order if our_name(key) in parameters}
            assert all(never_used(our_name(key), own_state(model)) for key in order if key not in moved)
            gradients = torch.autograd.grad(total, list(moved.values()), retain_graph=True, allow_unused=True)
            norms = {key: g.norm() for key, g in zip(moved, gradients, strict=True) if g is not None}
            unused = torch.zeros(
                (), dtype=torch.float64
            )  # norms of last layers, and in stage 2 of whole discriminators
            golden.compare(f"out/stage{stage}/gradnorm/{name}", torch.stack([norms.get(key, unused) for key in order]))
        golden.compare(f"out/stage{stage}/cyc_a", terms["cycle_source"])
        golden.compare(f"out/stage{stage}/cyc_b", terms["cycle_target"])
        golden.compare(f"out/stage{stage}/gan_g_a", terms["adversarial_source"])
        golden.compare(f"out/stage{stage}/gan_g_b", terms["adversarial_target"])


def check_pool(golden: Golden) -> None:
    pool, draws = ImagePool(golden.config["pool_size"]), Draws()
    chance, index, ids = (golden.given(key) for key in ("noise/p", "noise/index", "in/image_id"))
    tape = {}
    for call in range(len(ids)):
        drawn = [("pool_uniform", chance[call : call + 1])] if chance[call] >= 0 else []
        tape[call] = drawn + ([("pool_index", index[call : call + 1])] if index[call] >= 0 else [])
    draws.replay(tape)
    results = []
    for call, number in enumerate(ids):
        draws.begin(call, torch.device("cpu"), torch.float64)
        pair = torch.stack([number, number + 100]).double().view(1, 2, 1, 1)
        results.append(pool(pair, draws).flatten())
    assert draws.unread == 0
    golden.compare("out/image_id", torch.stack(results)[:, 0])
    golden.compare("out/mask_id", torch.stack(results)[:, 1])
    kept = torch.stack(pool.images)[:, :, 0, 0]
    golden.compare("out/final_pool", kept[:, 0])
    assert torch.equal(kept[:, 1], kept[:, 0] + 100)


class Schedule(Callback):
    """The stage of each iteration, by its official number, and the players' learning rates."""

    def __init__(self) -> None:
        self.stages: list[int] = []
        self.rates: list[list[float]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        self.stages.append(pl_module.stage + FIRST)
        self.rates.append([optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers])


def check_schedule(golden: Golden) -> None:
    image = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    small = {
        "generator_channels": 1,
        "residual_blocks": 0,
        "attention_channels": 1,
        "discriminator_channels": 1,
        "discriminator_layers": 0,
        "pool_size": 0,
    }
    switch = golden.config["switch"]
    for base, epochs in golden.config["runs"]:
        model = AGGAN(**small, learning_rate=base, iterations_per_epoch=1, epochs=epochs, switch_iteration=switch)  # type: ignore[arg-type]
        seen = Schedule()
        fit(model, [{"source": image, "target": image}] * epochs, {}, *second_stage("switch_iteration"), seen)
        rates = torch.tensor(seen.rates, dtype=torch.float64)  # epochs, players
        assert torch.equal(rates.amin(1), rates.amax(1))
        golden.compare(f"out/lr_{base}_{epochs}", rates[:, 0])
        if (key := f"out/stage_switch{switch}_{epochs}") in golden.expected:
            golden.compare(key, torch.tensor(seen.stages))


class Fakes(Callback):
    """Sums of the translations that the discriminators' pools were given."""

    def __init__(self) -> None:
        self.sums: list[dict[str, Tensor]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        update = pl_module.update_discriminator

        def listen(domain: str, real: Tensor, attention: Tensor, fake: Translation) -> None:
            self.sums[-1][domain] = fake.picture.detach().sum()
            update(domain, real, attention, fake)

        pl_module.update_discriminator = listen  # type: ignore[assignment]

    def on_train_batch_start(self, *_: object) -> None:
        self.sums.append({})


def train(golden: Golden, optimizer: str) -> tuple[AGGAN, Record, Fakes]:
    config, stages = golden.config, golden.config["stages"]
    if stages != sorted(stages) or set(stages) - {FIRST, SECOND}:
        raise GoldenMismatchError("config", f"has the stages {stages}, which no training goes through")
    count = len(stages)
    switch = stages.index(SECOND) if SECOND in stages else count
    # The recording never ends an epoch: all of it runs at the rate of the first one.
    length = {"iterations_per_epoch": count, "epochs": 2, "switch_iteration": switch}
    model = make_model(golden, optimizer=optimizer, pool_size=config["pool_size"], learning_rate=config["lr"], **length)
    batches = [
        {"source": golden.given(f"in/{k}/images_a"), "target": golden.given(f"in/{k}/images_b")} for k in range(count)
    ]
    names = {"pool_p": "pool_uniform", "pool_index": "pool_index"}
    tape = {k: [(names[name], value) for name, value in golden.tape(f"noise/{k}/")] for k in range(count)}
    fakes = Fakes()
    return model, fit(model, batches, tape, *second_stage("switch_iteration"), fakes), fakes


def check_train(golden: Golden, optimizer: str) -> None:
    model, record, fakes = train(golden, optimizer)
    for k, (terms, sums) in enumerate(zip(record.terms, fakes.sums, strict=True)):
        recorded = {
            "cyc_a": terms["cycle_source"],
            "cyc_b": terms["cycle_target"],
            "gan_g_a": terms["adversarial_source"],
            "gan_g_b": terms["adversarial_target"],
            "g_A_loss": terms["to_target"],
            "g_B_loss": terms["to_source"],
            "d_A_loss": terms["discriminator_source"],
            "d_B_loss": terms["discriminator_target"],
            "fake_a_sum": sums["source"],
            "fake_b_sum": sums["target"],
        }
        for key in golden.keys(rf"step{k}/\w+"):
            golden.compare(key, recorded[key.partition("/")[2]])
    before = from_official(golden.state())
    after = before | {name: p.detach() for name, p in model.named_parameters()}  # what no layer uses stays
    assert all(never_used(name, own_state(model)) for name in before if name not in dict(model.named_parameters()))
    names = [our_name(name) for name in golden.config["param_order"]]
    golden.compare("final/l2_mean", torch.stack([torch.stack([after[n].norm(), after[n].mean()]) for n in names]))
    golden.compare("final/delta_l2", torch.stack([(after[n] - before[n]).norm() for n in names]))


def check_data_loader(golden: Golden) -> None:
    config = golden.config
    for name, domain in (("a", 0), ("b", 1)):
        picture = golden.given(f"in/image_{name}_uint8").permute(1, 2, 0).numpy()
        resized = torch.from_numpy(resize_bilinear(picture, config["resize"], config["resize"])).permute(2, 0, 1)
        tolerance = torch.full((), config["tolerance"]["atol_resized_0_255"], dtype=torch.float64)
        golden.compare(f"out/resized_{name}", resized, tolerance)
        ours = Transform(
            load_size=config["resize"], size=config["crop"], multiple=1, interpolation="bilinear_tensorflow"
        )
        for draw, (flip, top, left) in enumerate(golden.given("noise/flip_y_x")[:, domain].tolist()):
            mirrored = resized.flip(2) if flip else resized  # before the crop, in the official code
            crop = mirrored[:, top : top + config["crop"], left : left + config["crop"]]
            golden.compare(f"out/{draw}/image_{name}", crop / 127.5 - 1)
            corner = config["resize"] - config["crop"] - left if flip else left
            prepared = ours(picture, crop=(corner, top), flip=bool(flip))  # in whole grey levels
            assert (torch.from_numpy(prepared.copy()).permute(2, 0, 1) - crop).abs().max() <= 0.5 + 1e-3


KINDS = {
    "data_loader": check_data_loader,
    "forward": check_forward,
    "losses": check_losses,
    "pool": check_pool,
    "schedule": check_schedule,
    "train_torch_adam": lambda golden: check_train(golden, "torch"),
    "train_tf_adam": lambda golden: check_train(golden, "tensorflow"),
}
pytestmark = pytest.mark.golden


@pytest.mark.parametrize("path", **every_file("aggan"))
def test_golden(path: Path) -> None:
    check(path, KINDS)
