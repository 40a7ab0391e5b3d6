"""AGGAN's acceptance list, and what the golden numbers do not reach."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from datamodules import Scenes
from support.training import fit
from zoo.aggan import (
    AGGAN,
    AttentionNetwork,
    Discriminator,
    DoublingConvolution,
    Generator,
    HalvingConvolution,
    Translation,
    hard_mask,
    linear_decay,
    log_loss,
    lsgan_loss,
)
from zoo.blocks.attention import attention_iou
from zoo.blocks.tensorflow_adam import TensorflowAdam
from zoo.callbacks.staging import EnterStage, FreezeNetworks
from zoo.core.images import psnr
from zoo.errors import ZooError

SMALL: dict[str, Any] = {
    "generator_channels": 4,
    "residual_blocks": 1,
    "attention_channels": 4,
    "discriminator_channels": 4,
    "discriminator_layers": 2,
    "pool_size": 2,
}
NETWORKS = ("to_target", "to_source", "attention_source", "attention_target")
NETWORKS += ("discriminator_target", "discriminator_source")
ATTENTION = ["attention_source", "attention_target"]


def small(**arguments: Any) -> AGGAN:
    torch.manual_seed(0)
    return AGGAN(**{**SMALL, "iterations_per_epoch": 1000, **arguments})


def scenes(**arguments: Any) -> Scenes:
    return Scenes(**{"size": 32, "batch_size": 2, "validation_count": 2, **arguments})


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def numel(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def second_stage(at: int | str = "switch_iteration") -> list[Callback]:
    """The callbacks of the recipe."""
    return [FreezeNetworks(ATTENTION, at=at), EnterStage(1, at=at)]


def in_second_stage(model: AGGAN) -> AGGAN:
    model.on_load_checkpoint({"zoo": {"stage": 1}})
    return model


# 1, 2: sizes ---------------------------------------------------------------------------------------------------------------------


def test_parameter_counts() -> None:
    with torch.device("meta"):
        model = AGGAN()
        counts = {name: numel(network) for name, network in model.named_children()}
    generators, attention, discriminators = 2_855_811, 104_001, 2_766_657
    expected = dict(zip(NETWORKS, [*[generators] * 2, *[attention] * 2, *[discriminators] * 2], strict=True))
    assert counts == expected
    assert numel(model) == 11_452_938


@pytest.mark.parametrize(("side", "logits"), [(256, 35), (32, 7), (24, 6)])
def test_sizes(side: int, logits: int) -> None:
    with torch.device("meta"):
        model, picture = AGGAN(), torch.empty(1, 3, side, side)
        assert model.to_target(picture).shape == picture.shape
        assert model.attention_source(picture).shape == (1, 1, side, side)
        assert model.discriminator_target(picture).shape == (1, 1, logits, logits)


@pytest.mark.parametrize("up_kernel", [1, 3])
def test_attention_lies_between_zero_and_one(up_kernel: Any) -> None:
    model = small(attention_up_kernel=up_kernel)
    attention = model.attend(noise(2, 3, 20, 36), "target").attention
    assert attention.shape == (2, 1, 20, 36)
    assert attention.min() > 0
    assert attention.max() < 1
    shapes = [model.attention_source.get_submodule(f"{name}.conv").kernel_size[0] for name in ("c4", "c5", "c6")]
    assert shapes == ([1, 1, 1] if up_kernel == 1 else [3, 3, 7])


def test_halving_pads_behind_alone_and_doubling_is_its_transpose() -> None:
    """As TensorFlow's SAME: a transposed convolution is the gradient of the convolution with the same padding."""
    torch.manual_seed(0)
    down, up = HalvingConvolution(2, 3).double(), DoublingConvolution(3, 2).double()
    up.weight.data, picture, half = down.weight.data.clone(), noise(1, 2, 8, 12).double(), noise(1, 3, 4, 6).double()
    expected = nn.functional.conv2d(nn.functional.pad(picture, (0, 1, 0, 1)), down.weight, down.bias, stride=2)
    assert torch.equal(down(picture), expected)
    picture.requires_grad_()
    (transposed,) = torch.autograd.grad(down(picture), picture, half)
    torch.testing.assert_close(up(half) - up.bias.view(1, -1, 1, 1), transposed)


def test_pictures_of_a_wrong_size_are_refused() -> None:
    for size in ((30, 32), (32, 30), (4, 4)):
        with pytest.raises(ZooError, match=f"{size[1]}x{size[0]}; AGGAN needs multiples of 4, 8 at least"):
            small().translate(noise(1, 3, *size))


# Initialisation ------------------------------------------------------------------------------------------------------------------


def test_initial_weights() -> None:
    model = small(generator_channels=16, attention_channels=16, discriminator_channels=16)
    deviation = 0.02 * 0.8796  # of normal numbers that are cut at two deviations
    for name, p in model.named_parameters():
        mean = float("norm.weight" in name)
        if name.endswith("bias"):
            assert not p.any(), name
            continue
        assert (p - mean).abs().max() <= 0.04 + 1e-7, name
        assert abs(p.mean().item() - mean) < 5 * deviation / math.sqrt(p.numel()), name
        if p.numel() > 100:
            assert abs(p.std().item() / deviation - 1) < 5 / math.sqrt(2 * p.numel()), name


# 4: the composition --------------------------------------------------------------------------------------------------------------


class Constant(nn.Module):
    """An attention network that looks everywhere alike."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, x: Tensor) -> Tensor:
        return self.value.expand(len(x), 1, *x.shape[-2:])


def test_a_mask_of_ones_gives_the_generators_picture_and_one_of_zeros_the_input() -> None:
    model, picture = small(), noise(2, 3, 16, 16)
    for to, attention in (("target", "attention_source"), ("source", "attention_target")):
        setattr(model, attention, Constant(1.0))
        assert torch.equal(model.translate(picture, to=to), model.get_submodule(f"to_{to}")(picture))
        setattr(model, attention, Constant(0.0))
        assert torch.equal(model.translate(picture, to=to), picture)


def test_the_generator_sees_the_whole_picture() -> None:
    model, seen = small(), []
    model.to_target.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    picture = noise(1, 3, 16, 16)
    model.translate(picture)
    assert torch.equal(seen[0], picture)


# 5, 9: what discriminators see ---------------------------------------------------------------------------------------------------


def judged(model: AGGAN, picture: Tensor, attention: Tensor) -> Tensor:
    """What the target's discriminator is shown."""
    seen: list[Tensor] = []
    hook = model.discriminator_target.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.judge("target", picture, attention)
    hook.remove()
    return seen[0]


def test_a_threshold_of_zero_shows_whole_pictures_and_gives_attention_no_gradient() -> None:
    picture = noise(2, 3, 16, 16)
    assert torch.equal(judged(small(), picture, torch.rand(2, 1, 16, 16)), picture)  # the first stage
    model = in_second_stage(small(threshold=0.0))
    attention = model.attention_source(picture)
    assert torch.equal(judged(model, picture, attention), picture)
    for threshold in (0.0, 0.5):
        model = in_second_stage(small(threshold=threshold))
        attention = model.attention_source(picture)
        loss = model.adversarial_loss(model.judge("target", picture, attention), True)
        gradients = torch.autograd.grad(loss, list(model.attention_source.parameters()), allow_unused=True)
        assert all(gradient is None for gradient in gradients)


def test_the_second_stage_shows_what_is_attended_to_on_grey() -> None:
    model, picture = in_second_stage(small(threshold=0.5)), noise(2, 3, 16, 16)
    attention = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    seen = judged(model, picture, attention)
    inside = (attention >= 0.5).expand_as(picture)
    assert torch.equal(seen[inside], picture[inside])
    assert not seen[~inside].any()
    assert 0.3 < inside.float().mean() < 0.7


@pytest.mark.parametrize(("comparison", "at_threshold"), [("ge", 1.0), ("gt", 0.0)])
def test_the_threshold_itself(comparison: Any, at_threshold: float) -> None:
    attention = torch.tensor([0.0, 0.0999, 0.1, 0.1001, 1.0])
    assert hard_mask(attention, 0.1, comparison).tolist() == [0, 0, at_threshold, 1, 1]
    model = in_second_stage(small(threshold=0.25, threshold_comparison=comparison))
    picture = torch.ones(1, 3, 16, 16)
    assert torch.equal(judged(model, picture, torch.full((1, 1, 16, 16), 0.25)), at_threshold * picture)


@pytest.mark.parametrize("mask_on", ["composite", "generator"])
def test_what_is_masked(mask_on: Any) -> None:
    model = small(mask_on=mask_on)
    fake = model.attend(noise(1, 3, 16, 16), "target")
    assert model.shown(fake) is fake.picture  # the first stage judges the composition in either form
    assert in_second_stage(model).shown(fake) is (fake.picture if mask_on == "composite" else fake.generated)


def test_discriminators_lose_their_norms_in_the_second_stage() -> None:
    model, picture = small(), noise(1, 3, 32, 32)
    before = model.discriminator_target(picture)
    for network in (model.discriminator_target, model.discriminator_source):
        assert network.normalised
    in_second_stage(model)
    for network in (model.discriminator_target, model.discriminator_source):
        assert not network.normalised
        assert any("norm" in name for name, _ in network.named_parameters())  # kept, as their momentum is
    plain = picture
    for name in ("c1", "c2", "c3"):
        plain = nn.functional.leaky_relu(model.discriminator_target.get_submodule(f"{name}.conv")(plain), 0.2)
    assert torch.equal(model.discriminator_target(picture), model.discriminator_target.c4(plain))
    assert not torch.allclose(model.discriminator_target(picture), before)


def test_there_is_no_third_stage() -> None:
    with pytest.raises(ZooError, match="no stage 2"):
        small().build_stage(2)


# 6: who moves what ---------------------------------------------------------------------------------------------------------------


def watched_turns(model: AGGAN) -> list[tuple[str, set[str]]]:
    """The turns of an iteration with the networks that each of them moved."""
    turns: list[tuple[str, set[str]]] = []
    give = model.player

    class Watch:
        def __init__(self, name: str) -> None:
            self.name, self.turn = name, give(name)

        def __enter__(self) -> Any:
            self.before = {name: copy.deepcopy(model.get_submodule(name).state_dict()) for name in NETWORKS}
            return self.turn.__enter__()

        def __exit__(self, *error: Any) -> None:
            self.turn.__exit__(*error)
            moved = {
                name
                for name, state in self.before.items()
                if any(
                    not torch.equal(value, state[key]) for key, value in model.get_submodule(name).state_dict().items()
                )
            }
            turns.append((self.name, moved))

    model.player = lambda name, **_: Watch(name)  # type: ignore[assignment, method-assign]
    return turns


@pytest.mark.parametrize("optimizer", ["torch", "tensorflow"])
@pytest.mark.parametrize("stage", [0, 1])
def test_each_player_moves_its_own_networks_alone(tmp_path: Path, stage: int, optimizer: Any) -> None:
    model = small(optimizer=optimizer, switch_iteration=0 if stage else 5)
    turns = watched_turns(model)
    fit(model, 1, tmp_path, data=scenes(), precision="32-true", callbacks=second_stage())
    attention = [{"attention_source"}, {"attention_target"}] if stage == 0 else [set(), set()]
    assert turns == [
        ("to_target", {"to_target"} | attention[0]),
        ("discriminator_target", {"discriminator_target"}),
        ("to_source", {"to_source"} | attention[1]),
        ("discriminator_source", {"discriminator_source"}),
    ]


def test_the_second_direction_sees_what_the_first_has_learnt(tmp_path: Path) -> None:
    """And the first direction's discriminator does not."""
    model = small(learning_rate=0.05)
    given: dict[str, Any] = {}
    update, loss = model.update_discriminator, model.generator_loss

    def listen_to_loss(to: str, source: Tensor, target: Tensor, *translations: Translation) -> Tensor:
        given[f"generators of {to}"] = [t.picture.detach().clone() for t in translations]
        given[f"now {to}"] = [
            model.attend(source, "target").picture.detach(),
            model.attend(target, "source").picture.detach(),
        ]
        return loss(to, source, target, *translations)

    def listen_to_update(domain: str, real: Tensor, attention: Tensor, fake: Translation) -> None:
        given[domain] = (fake.picture.detach().clone(), attention.detach().clone(), real)
        update(domain, real, attention, fake)

    model.generator_loss, model.update_discriminator = listen_to_loss, listen_to_update  # type: ignore[method-assign]
    fit(model, 1, tmp_path, data=scenes(), precision="32-true")
    for to in ("target", "source"):  # every turn works with the weights of the moment
        for ours, now in zip(given[f"generators of {to}"], given[f"now {to}"], strict=True):
            torch.testing.assert_close(ours, now, rtol=0, atol=0)
    first_to_target, first_to_source = given["generators of target"]
    now_to_target, now_to_source = given["generators of source"]
    assert torch.equal(first_to_source, now_to_source)
    assert not torch.equal(first_to_target, now_to_target)
    assert torch.equal(given["target"][0], first_to_target)
    assert torch.equal(given["source"][0], now_to_source)


# 9: the switch -------------------------------------------------------------------------------------------------------------------


class Look(Callback):
    """The stage of each iteration, whether norms worked in it, and how many parameters the optimisers move."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, bool, list[int]]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: object) -> None:
        moved = [sum(p.numel() for g in o.param_groups for p in g["params"]) for o in trainer.optimizers]
        self.seen.append((pl_module.stage, pl_module.discriminator_source.normalised, moved))


@pytest.mark.parametrize("optimizer", ["torch", "tensorflow"])
@pytest.mark.parametrize("freeze_first", [True, False])
def test_the_switch(tmp_path: Path, freeze_first: bool, optimizer: Any) -> None:
    model, look = small(switch_iteration=2, optimizer=optimizer), Look()
    callbacks = second_stage() if freeze_first else second_stage()[::-1]
    states: list[dict[str, Any]] = []
    keep = Look()
    keep.on_train_batch_end = lambda trainer, room, *_: states.append(copy.deepcopy(room.state_dict()))  # type: ignore[method-assign]
    trainer = fit(model, 4, tmp_path, data=scenes(), precision="32-true", callbacks=[*callbacks, look, keep])
    parts = {name: numel(model.get_submodule(name)) for name in NETWORKS}
    judges = parts["discriminator_target"]
    with_attention, without = parts["to_target"] + parts["attention_source"], parts["to_target"]
    assert [seen[:2] for seen in look.seen] == [(0, True), (0, True), (1, False), (1, False)]
    assert [seen[2] for seen in look.seen[1:3]] == [
        [with_attention, judges, with_attention, judges],
        [without, judges, without, judges],
    ]
    for name, value in states[1].items():
        if name.startswith("attention"):  # bit-identical from the switch on
            assert torch.equal(value, states[3][name]), name
    slots = [state for o in trainer.optimizers for state in o.state.values()]
    # Momentum lives on through the switch; PyTorch's Adam takes no step where nothing uses a weight, as norms now.
    steps = {int(state["step"]) for state in slots}
    assert steps == ({4} if optimizer == "tensorflow" else {2, 4})
    norms = [name for name in states[1] if name.startswith("discriminator") and ".norm." in name]
    drifted = [not torch.equal(states[1][name], states[3][name]) for name in norms]
    assert drifted == [optimizer == "tensorflow"] * len(norms)


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_training_that_is_resumed_around_the_switch_ends_with_the_same_bits(tmp_path: Path, kept: int) -> None:
    options = {"switch_iteration": 2, "ema_decay": 0.9, "optimizer": "tensorflow" if kept == 2 else "torch"}
    whole = small(**options)
    fit(whole, 5, tmp_path / "whole", data=scenes(), precision="32-true", callbacks=second_stage())
    fit(small(**options), kept, tmp_path / "part", data=scenes(), precision="32-true", callbacks=second_stage())
    (checkpoint,) = (tmp_path / "part" / "checkpoints").glob("*.ckpt")
    resumed = small(**options)
    for p in resumed.parameters():
        p.data.zero_()
    rest = {"data": scenes(), "precision": "32-true", "resume": checkpoint, "callbacks": second_stage()}
    fit(resumed, 5, tmp_path / "rest", **rest)
    ours, theirs = resumed.state_dict(), whole.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for pool, other in ((resumed.pool_target, whole.pool_target), (resumed.pool_source, whole.pool_source)):
        assert torch.equal(torch.stack(pool.images), torch.stack(other.images))


def test_pictures_and_attention_stay_together_in_the_pools(tmp_path: Path) -> None:
    model = small(pool_size=3)
    made: list[Tensor] = []
    update = model.update_discriminator

    def listen(domain: str, real: Tensor, attention: Tensor, fake: Translation) -> None:
        if domain == "target":
            made.extend(torch.cat([fake.picture, fake.attention], 1).detach())
        update(domain, real, attention, fake)

    model.update_discriminator = listen  # type: ignore[method-assign]
    fit(model, 4, tmp_path, data=scenes(), precision="32-true")
    assert len(model.pool_target.images) == 3
    for kept in model.pool_target.images:
        assert any(torch.equal(kept, one) for one in made)


# Losses --------------------------------------------------------------------------------------------------------------------------


def test_losses_of_undecided_and_convinced_discriminators() -> None:
    logits = noise(4, 1, 3, 3).double() * 40
    for real in (True, False):
        truth = torch.full_like(logits, float(real))
        expected = nn.functional.binary_cross_entropy_with_logits(logits, truth)
        torch.testing.assert_close(log_loss(logits, real), expected)
        torch.testing.assert_close(lsgan_loss(logits, real), nn.functional.mse_loss(logits, truth))
    assert log_loss(torch.zeros(1), True).item() == pytest.approx(math.log(2))


def terms_of_one_step(model: AGGAN, folder: Path) -> dict[str, float]:
    terms: dict[str, float] = {}
    model.log_terms = lambda new, *_: terms.update({name: value.item() for name, value in new.items()})  # type: ignore[method-assign]
    fit(model, 1, folder, data=scenes(), precision="32-true", callbacks=second_stage())
    return terms


def test_every_term_has_its_own_weight(tmp_path: Path) -> None:
    terms = terms_of_one_step(small(lambda_cycle_source=2.0, lambda_cycle_target=3.0), tmp_path)
    total = terms["adversarial_target"] + 2 * terms["cycle_source"] + 3 * terms["cycle_target"]
    assert terms["to_target"] == pytest.approx(total, rel=1e-5)
    assert set(terms) == {
        *("cycle_source", "cycle_target", "adversarial_target", "adversarial_source"),
        *("to_target", "to_source", "discriminator_target", "discriminator_source"),
    }


PAPER: dict[str, Any] = {"adversarial": "log", "mask_on": "generator", "threshold_comparison": "gt"}


@pytest.mark.parametrize(
    "options",
    [
        {},
        PAPER,
        {"adversarial": "log", "optimizer": "tensorflow"},
        {"mask_on": "generator", "attention_up_kernel": 3, "ema_decay": 0.9},
        {"pool_size": 0, "threshold_comparison": "gt", "discriminator_layers": 3},
    ],
    ids=["code", "paper", "log", "meant_kernels", "no_pool"],
)
def test_every_variant_trains_through_both_stages(tmp_path: Path, options: dict[str, Any]) -> None:
    model = small(**options, switch_iteration=1)
    before = {name: value.clone() for name, value in model.named_parameters() if not name.startswith("ema.")}
    trainer = fit(
        model, 2, tmp_path, data=scenes(), precision="32-true", val_check_interval=2, callbacks=second_stage()
    )
    now = dict(model.named_parameters())
    assert {name.partition(".")[0] for name in before if not torch.equal(before[name], now[name])} == set(NETWORKS)
    assert all(value.isfinite().all() for value in model.state_dict().values())
    for figure in ("cycle_psnr_source", "cycle_psnr_target", "attention_iou", "attention_iou_target"):
        assert trainer.callback_metrics[f"val/{figure}"] >= 0


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_the_papers_form_judges_what_the_generator_made_in_the_second_stage(tmp_path: Path, threshold: float) -> None:
    """With nothing attended to above the threshold, its discriminators see nothing at all, and give it no gradient."""
    model = small(**PAPER, threshold=threshold, switch_iteration=0)
    source = noise(1, 3, 16, 16)
    in_second_stage(model)
    fake = model.attend(source, "target")
    loss = model.adversarial_loss(model.judge("target", model.shown(fake), fake.attention), True)
    gradient = torch.autograd.grad(loss, fake.generated, retain_graph=True)[0]
    assert bool(gradient.any()) == (threshold == 0.0)
    (through_attention,) = torch.autograd.grad(loss, fake.attention, allow_unused=True, retain_graph=True)
    assert through_attention is None  # neither through the mask nor through the composition, which it does not see
    assert torch.autograd.grad(loss, fake.picture, allow_unused=True)[0] is None


# 11: the learning rate -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epochs", "factors"),
    [(100, {0: 1, 49: 1, 50: 1, 51: 0.98, 75: 0.5, 99: 1 / 50, 100: 0, 200: 0}), (200, {100: 1, 101: 0.99, 199: 0.01})],
)
def test_learning_rates_of_the_official_code(epochs: int, factors: dict[int, float]) -> None:
    for epoch, factor in factors.items():
        for iteration in (epoch * 1334, epoch * 1334 + 1333):
            assert linear_decay(1334, epochs, iteration) == pytest.approx(factor, rel=1e-12)


def test_the_switch_of_the_recipe_is_epoch_30() -> None:
    assert AGGAN.__init__.__kwdefaults__ is None
    assert dict(AGGAN(**SMALL).hparams)["switch_iteration"] == 30 * 1334 == 40_020


# Inference -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_translate_goes_both_ways_without_a_trace(ema_decay: float) -> None:
    model, picture = small(ema_decay=ema_decay), noise(2, 3, 16, 16)
    before = copy.deepcopy(model.state_dict())
    there, back = model.translate(picture), model.translate(picture, to="source")
    assert not torch.equal(there, back)
    again, attention = model.translate(picture, to="target", return_attention=True)
    assert torch.equal(there, again)
    assert attention.shape == (2, 1, 16, 16)
    assert not there.requires_grad
    assert not attention.requires_grad
    assert model.to_target.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(ZooError, match="'target' or to 'source', not to 'zebra'"):
        model.translate(picture, to="zebra")


def test_moving_averages_translate_where_there_are_any(tmp_path: Path) -> None:
    model, picture = small(ema_decay=0.5), noise(1, 3, 16, 16)
    fit(model, 1, tmp_path, data=scenes(), precision="32-true")
    averaged, present = model.translate(picture), model.attend(picture, "target").picture
    assert not torch.equal(averaged, present)
    for name in (*NETWORKS[:2], *ATTENTION):
        getattr(model, name).load_state_dict(model.ema[name].state_dict())
    assert torch.equal(averaged, model.attend(picture, "target").picture)


def test_samples_show_both_directions_and_where_they_look() -> None:
    model, batch = small(), {"source": noise(2, 3, 16, 16), "target": noise(2, 3, 16, 16, seed=1)}
    columns = model.samples(batch)
    assert list(columns) == [
        *("source", "attention", "translation", "reconstruction"),
        *("target", "attention of target", "translation to source", "reconstruction of target"),
    ]
    fake, attention = model.translate(batch["target"], to="source", return_attention=True)
    assert torch.equal(columns["attention of target"], 2 * attention - 1)
    assert torch.equal(columns["translation to source"], fake)
    assert torch.equal(columns["reconstruction"], model.translate(columns["translation"], to="source"))


def test_validation_measures_the_way_back_and_attention_where_objects_are_known() -> None:
    model, logged = small(), {}
    model.log = lambda name, value, **_: logged.update({name: value})  # type: ignore[method-assign]
    batch = {"source": noise(2, 3, 16, 16), "target": noise(2, 3, 16, 16, seed=1)}
    model.validation_step(batch, 0)
    columns = model.samples(batch)
    assert logged.keys() == {"val/cycle_psnr_source", "val/cycle_psnr_target"}
    assert logged["val/cycle_psnr_target"] == psnr(columns["reconstruction of target"], columns["target"]).mean()
    masks = {"mask": (noise(2, 1, 16, 16) > 0).float(), "target_mask": (noise(2, 1, 16, 16, seed=1) > 0.9).float()}
    model.validation_step(batch | masks, 0)
    for ending, column, mask in (("", "attention", "mask"), ("_target", "attention of target", "target_mask")):
        overlap = attention_iou((columns[column] + 1) / 2, masks[mask]).mean()
        assert logged[f"val/attention_iou{ending}"] == overlap


# Networks alone ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [lambda: Generator(4, 2), lambda: AttentionNetwork(4, 1), lambda: Discriminator(4, 3)], ids=["G", "A", "D"]
)
def test_gradients_reach_every_parameter(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    network = make()
    network(noise(2, 3, 24, 24)).square().mean().backward()
    for name, p in network.named_parameters():
        assert p.grad is not None, name


def test_the_shared_count_of_steps(tmp_path: Path) -> None:
    model = small(optimizer="tensorflow")
    trainer = fit(model, 1, tmp_path, data=scenes(), precision="32-true")
    assert all(isinstance(optimizer, TensorflowAdam) for optimizer in trainer.optimizers)
    assert [(o.param_groups[0]["turn"], o.param_groups[0]["turns"]) for o in trainer.optimizers] == [
        (turn, 4) for turn in range(4)
    ]
