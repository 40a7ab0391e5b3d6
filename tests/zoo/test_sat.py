"""SAT's acceptance list, and what the golden numbers do not reach."""

from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.driving import Counts, drive
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor, nn

from datamodules import Scenes
from support.commands import assert_equal
from support.training import fit
from zoo.callbacks import AdaptiveLambda, EnterStage
from zoo.cli.lookup import read_yaml
from zoo.core.checkpoints import read_checkpoint
from zoo.core.images import from_uint8
from zoo.core.loading import load_translator
from zoo.core.runs import Run
from zoo.errors import ZooError
from zoo.experts.alexnet import AlexNetFeatures
from zoo.experts.vgg import VGGFeatures
from zoo.sat import ATTENTION, GENERATOR, JOINT, SAT, Attention, Discriminator, Generator, generator_loss

SMALL: dict[str, Any] = {
    "generator_channels": 3,
    "residual_blocks": 1,
    "attention_encoder": "random",
    "attention_channels": 3,
    "discriminator_channels": 3,
    "discriminator_layers": 2,
    "distance": "l1",
    "pool_size": 2,
    "learning_rate": 1e-3,
    "lambda_step": 0.5,
    "lambda_interval": 2,
    "lambda_threshold": 100.0,
    "attention_lambda_threshold": 100.0,
}
RECIPE = Path("zoo/sat.yaml")


def small(**arguments: Any) -> SAT:
    torch.manual_seed(0)
    return SAT(**{**SMALL, **arguments})


def in_stage(stage: int, **arguments: Any) -> SAT:
    model = small(**arguments)
    model.stage = stage
    return model.train()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def batch(size: int = 24, count: int = 2) -> dict[str, Tensor]:
    return {"source": noise(count, 3, size, size), "target": noise(count, 3, size, size, seed=1)}


def scenes(**arguments: Any) -> Scenes:
    return Scenes(**{"size": 32, "batch_size": 2, "validation_count": 2, **arguments})


def phases(first: int, second: int) -> list[Callback]:
    """The recipe's own callbacks, with switches at the given iterations."""
    made: list[Callback] = []
    for entry in read_yaml(RECIPE)["trainer"]["callbacks"]:
        kind = {"EnterStage": EnterStage, "AdaptiveLambda": AdaptiveLambda}[entry["class_path"].rpartition(".")[2]]
        names = {"attention_iteration": first, "joint_iteration": second}
        made.append(kind(**{key: names.get(value, value) for key, value in entry["init_args"].items()}))
    return made


def numel(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


# 1, 2: sizes --------------------------------------------------------------------------------------------------------------------


def test_parameter_counts() -> None:
    with torch.device("meta"):
        generator, attention, discriminator = Generator(64, 9, False), Attention(64), Discriminator(64, 3, "batch")
        assert [numel(network) for network in (generator, attention, discriminator)] == [
            11_383_427,
            2_105_089,
            2_765_633,
        ]
        floats = [
            [b for b in network.buffers() if b.is_floating_point()] for network in (generator, attention, discriminator)
        ]
        assert [sum(b.numel() for b in buffers) for buffers in floats] == [10_496, 384, 1_792]
        assert numel(attention.features) == 1_735_488
        assert numel(SAT(attention_encoder="random")) == 11_383_427 + 2_105_089 + 2_765_633


def test_sizes() -> None:
    with torch.device("meta"):
        picture = torch.empty(1, 3, 256, 256)
        assert Generator(4, 1, False)(picture).shape == picture.shape
        assert Generator(4, 1, True)(picture).shape == picture.shape
        assert Attention(4)(picture).shape == (1, 1, 256, 256)
        for norm in ("batch", "spectral"):
            assert Discriminator(4, 3, norm)(picture).shape == (1, 1, 30, 30)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(12, 12), (20, 36)])
def test_a_translation_keeps_the_size_of_any_picture(size: tuple[int, int]) -> None:
    translation, attention = in_stage(JOINT).translate(noise(1, 3, *size), return_attention=True)
    assert translation.shape == (1, 3, *size)
    assert attention.shape == (1, 1, *size)


def test_the_least_size_for_training_is_one_that_trains(tmp_path: Path) -> None:
    model = small(discriminator_layers=3)
    assert model.least_size == 24
    assert model.discriminator(noise(1, 3, 24, 24)).shape == (1, 1, 1, 1)
    with pytest.raises(ZooError, match=r"pictures of 16x16, and the discriminator needs 24 pixels: --data\.size 24"):
        fit(model, 1, tmp_path, data=scenes(size=16))


def test_the_text_read_literally_has_no_layers_around_the_strided_ones() -> None:
    network = Generator(4, 2, True)
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    assert [layer.kernel_size for layer in convolutions] == [(3, 3)] * (2 + 4 + 2)
    assert [layer.bias is not None for layer in convolutions] == [False] * 7 + [True]
    assert network(noise(1, 3, 16, 16)).abs().max() <= 1


def test_residual_blocks_are_dilated() -> None:
    network = Generator(2, 3, False)
    blocks = [layer for layer in network.residual.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.dilation for layer in blocks] == [(2, 2)] * 6


# 3: composition -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bias", "ones"), [(1e4, True), (-1e4, False)])
def test_a_map_of_ones_gives_what_is_painted_and_one_of_zeros_the_source(bias: float, ones: bool) -> None:
    model = in_stage(JOINT)
    nn.init.zeros_(model.attention.head.weight)
    nn.init.constant_(model.attention.head.bias, bias)  # type: ignore[arg-type]
    source = noise(2, 3, 16, 16)
    translation, attention, painted = model.attend(source)
    assert torch.equal(attention, torch.full((2, 1, 16, 16), float(ones)))
    assert torch.equal(translation, painted if ones else source)
    assert not torch.equal(painted, source)


def test_before_the_attention_learns_the_translation_is_what_the_generator_paints() -> None:
    model, source = small(), noise(2, 3, 16, 16)
    translation, attention = model.translate(source, return_attention=True)
    assert torch.equal(attention, torch.ones(2, 1, 16, 16))
    assert torch.equal(translation, model.eval().generator(source))
    assert torch.equal(model.translate(source), translation)  # type: ignore[arg-type]


# 6, 7, 8, 10: phases ------------------------------------------------------------------------------------------------------------


class Watch(Callback):
    """Keeps everything, lambda, and the optimisers' step counts and rates after each iteration. Stands before what changes lambda."""

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []
        self.used: list[float] = []
        self.steps: list[list[set[int]]] = []
        self.rates: list[list[float]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.keep(pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.keep(pl_module)
        self.used.append(pl_module.lambda_regularisation)  # type: ignore[arg-type]
        counts = [{int(state["step"]) for state in optimizer.state.values()} for optimizer in trainer.optimizers]
        self.steps.append(counts)
        self.rates.append([optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers])

    def keep(self, room: LightningModule) -> None:
        self.states.append({n: v.detach().clone() for n, v in [*room.named_parameters(), *room.named_buffers()]})

    def changed(self, iteration: int, network: str) -> set[str]:
        before, after = self.states[iteration], self.states[iteration + 1]
        return {name for name in after if name.startswith(f"{network}.") and not torch.equal(before[name], after[name])}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[SAT, Watch]:
    """Three phases of four, five and three iterations, with a loss network."""
    seed_everything(1, verbose=False)
    watch = Watch()
    model = small(distance="perceptual", distance_weights="random", distance_channels=3, joint_rate=0.25, ema_decay=0.5)
    folder = tmp_path_factory.mktemp("phases")
    fit(model, 12, folder, data=scenes(), callbacks=[watch, *phases(4, 9)], every=6, limit_val_batches=0)
    return model, watch


def test_each_phase_moves_what_it_trains_and_nothing_else(trained: tuple[SAT, Watch]) -> None:
    model, watch = trained
    named = {name for name, _ in [*model.named_parameters(), *model.named_buffers()]}
    for iteration in range(12):
        stage = GENERATOR if iteration < 4 else ATTENTION if iteration < 9 else JOINT
        moving = {GENERATOR: {"generator"}, ATTENTION: {"attention"}, JOINT: {"generator", "attention"}}[stage]
        for network in ("generator", "attention", "discriminator", "expert"):
            everything = {name for name in named if name.startswith(f"{network}.")}
            wanted = everything if network in moving | {"discriminator"} else set()
            assert watch.changed(iteration, network) == wanted, (iteration, network)


def test_lambda_grows_from_zero_twice_and_stays_at_last(trained: tuple[SAT, Watch]) -> None:
    assert trained[1].used == [0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0]


def test_each_phase_has_a_new_optimiser_and_the_discriminators_goes_on(trained: tuple[SAT, Watch]) -> None:
    steps = trained[1].steps
    assert [counts[1] for counts in steps] == [{n} for n in range(1, 13)]
    assert [counts[0] for counts in steps] == [{n} for n in (1, 2, 3, 4, 1, 2, 3, 4, 5, 1, 2, 3)]


def test_the_joint_phase_has_the_smaller_rate(trained: tuple[SAT, Watch]) -> None:
    assert trained[1].rates == [[1e-3, 1e-3]] * 9 + [[0.25e-3, 1e-3]] * 3


def test_the_loss_network_is_its_own_and_in_no_checkpoint(trained: tuple[SAT, Watch]) -> None:
    model, _ = trained
    assert isinstance(model.expert, VGGFeatures)
    assert not any(p.requires_grad for p in model.expert.parameters())
    storages = {p.data_ptr() for p in model.expert.parameters()}
    assert not storages & {p.data_ptr() for p in model.attention.parameters()}
    assert not any(key.startswith("expert") for key in model.state_dict())
    assert all(p.requires_grad for p in model.attention.parameters())


def test_moving_averages_are_what_translates(trained: tuple[SAT, Watch]) -> None:
    model, _ = trained
    assert model.ema is not None
    source = noise(1, 3, 16, 16).double()
    _, attention, painted = model.attend(source)
    assert torch.equal(painted, model.ema["generator"](source))
    assert torch.equal(attention, model.ema["attention"](source))


def test_a_fixed_encoder_stays_while_the_rest_of_the_attention_learns(tmp_path: Path) -> None:
    watch = Watch()
    model = small(freeze_attention_encoder=True)
    fit(model, 4, tmp_path, data=scenes(), callbacks=[watch, *phases(1, 3)], limit_val_batches=0)
    for iteration in (1, 2, 3):
        assert not watch.changed(iteration, "attention.features")
        assert "attention.up1.conv.weight" in watch.changed(iteration, "attention")


class Rising(SAT):
    """Fakes are found out more and more easily, by a schedule."""

    def update_generator(self, source: Tensor) -> Tensor:
        with torch.no_grad():
            self.discriminator.last.bias.fill_(-0.2 * (self.iteration % 10))
        return super().update_generator(source)


def test_both_inductions_stop_when_the_loss_crosses_the_threshold(tmp_path: Path) -> None:
    torch.manual_seed(0)
    rule = {"lambda_step": 0.1, "lambda_interval": 1, "lambda_threshold": 1.3, "attention_lambda_threshold": 1.1}
    model = Rising(**{**SMALL, **rule, "learning_rate": 1e-5})
    watch, losses = Watch(), Losses()
    fit(model, 22, tmp_path, data=scenes(), callbacks=[watch, losses, *phases(10, 20)], limit_val_batches=0)
    for begin, threshold in ((0, 1.3), (10, 1.1)):
        used, seen = watch.used[begin : begin + 10], losses.seen[begin : begin + 10]
        crossing = next(i for i, loss in enumerate(seen) if loss > threshold)
        assert 2 < crossing < 9
        assert used == pytest.approx([0.1 * min(i, crossing) for i in range(10)])
    assert watch.used[20:] == [watch.used[19]] * 2


class Losses(Callback):
    """Keeps the adversarial loss of each iteration."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.seen.append(float(trainer.callback_metrics["loss/adversarial"]))


# 9: lambda ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", ["perceptual", "alexnet", "ssim", "l1", "l2"])
@pytest.mark.parametrize("stage", [GENERATOR, ATTENTION, JOINT])
def test_with_lambda_zero_the_gradients_are_those_of_the_adversarial_loss(distance: Any, stage: int) -> None:
    model = in_stage(stage, distance=distance)
    if distance == "perceptual":
        model.expert = VGGFeatures(19, ("relu1_1", "relu2_1", "relu3_1"), base_channels=3)
    elif distance == "alexnet":
        model.expert = AlexNetFeatures(("relu1", "relu2", "relu3"))
    trained = model.attention if stage == ATTENTION else model.generator
    source = noise(2, 3, 64, 64)
    fake = model.make(source)
    adversarial = generator_loss(model.discriminator(fake), "bce")
    regularisation = model.regularise(source, fake)
    assert regularisation > 0
    parameters = list(trained.parameters())
    alone = torch.autograd.grad(adversarial, parameters, retain_graph=True)
    both = torch.autograd.grad(adversarial + 0.0 * regularisation, parameters, retain_graph=True)
    more = torch.autograd.grad(adversarial + 1.0 * regularisation, parameters)
    assert all(torch.equal(one, other) for one, other in zip(alone, both, strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(alone, more, strict=True))


@pytest.mark.parametrize("distance", ["perceptual", "alexnet", "ssim", "l1", "l2"])
@pytest.mark.parametrize("squared", [True, False])
def test_a_picture_is_at_no_distance_from_itself_and_its_gradient_is_a_number(distance: Any, squared: bool) -> None:
    model = small(distance=distance, perceptual_squared=squared).double()
    if distance == "perceptual":
        model.expert = VGGFeatures(19, ("relu1_1", "relu2_1", "relu3_1"), base_channels=3).double()
    elif distance == "alexnet":
        model.expert = AlexNetFeatures(("relu1", "relu2", "relu3")).double()
    picture = noise(1, 3, 64, 64).double().requires_grad_()
    distance_to_itself = model.regularise(picture.detach(), picture)
    assert float(distance_to_itself.detach()) == pytest.approx(0, abs=1e-9)
    (gradient,) = torch.autograd.grad(distance_to_itself, picture)
    assert gradient.isfinite().all()


@pytest.mark.parametrize(
    "options",
    [
        {"adversarial": "lsgan"},
        {"adversarial": "saturating"},
        {"discriminator_norm": "spectral"},
        {"literal": True},
        {"distance": "ssim", "decay_begin": 2, "decay_iterations": 4},
        {"distance": "perceptual", "distance_weights": "random", "distance_channels": 3, "perceptual_squared": False},
        {"distance": "alexnet", "distance_weights": "random"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_every_option_trains_through_all_phases(tmp_path: Path, options: dict[str, Any]) -> None:
    watch = Watch()
    size = 64 if options.get("distance") == "alexnet" else 32
    model = small(**options)
    fit(model, 6, tmp_path, data=scenes(size=size), callbacks=[watch, *phases(2, 4)], precision="32-true")
    assert watch.changed(1, "generator")
    assert watch.changed(3, "attention")
    assert all(value.isfinite().all() for value in watch.states[-1].values())
    if "decay_begin" in options:
        assert [rates[1] for rates in watch.rates] == pytest.approx([1e-3, 1e-3, 1e-3, 0.75e-3, 0.5e-3, 0.25e-3])


# 12: checkpoints ----------------------------------------------------------------------------------------------------------------


def train_through_phases(folder: Path, resume: Path | None = None) -> dict[str, Any]:
    seed_everything(1, verbose=False)
    options: dict[str, Any] = {"data": scenes(), "callbacks": phases(4, 9), "every": 1, "limit_val_batches": 0}
    fit(
        small(lambda_threshold=0.8, attention_lambda_threshold=0.8, lambda_interval=3),
        11,
        folder,
        resume=resume,
        **options,
    )
    return read_checkpoint(Run(folder).checkpoint_path(11))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that is left alone."""
    folder = tmp_path_factory.mktemp("whole")
    train_through_phases(folder)
    return folder


@pytest.mark.parametrize("moment", [2, 4, 5, 7, 9, 10])
def test_a_resume_in_the_middle_of_a_phase_changes_nothing(tmp_path: Path, whole: Path, moment: int) -> None:
    middle = Run(whole).checkpoint_path(moment)
    assert read_checkpoint(middle)["zoo"]["stage"] == (moment > 4) + (moment > 9)
    again, end = train_through_phases(tmp_path, middle), read_checkpoint(Run(whole).checkpoint_path(11))
    for part in ("state_dict", "optimizer_states", "callbacks", "zoo"):
        assert_equal(again[part], end[part], part)


def test_a_model_from_a_checkpoint_translates_as_the_one_that_was_trained(tmp_path: Path) -> None:
    model = small()
    fit(model, 4, tmp_path, data=scenes(), callbacks=phases(2, 10), precision="32-true", limit_val_batches=0)
    loaded = load_translator(tmp_path)
    assert loaded.stage == ATTENTION
    source = noise(1, 3, 16, 16)
    for ours, theirs in zip(loaded.translate(source, return_attention=True), model.attend(source), strict=False):  # type: ignore[call-arg]
        assert torch.equal(ours, theirs)


# What a person sees -------------------------------------------------------------------------------------------------------------


def test_samples_and_figures(tmp_path: Path) -> None:
    model = in_stage(JOINT)
    data = scenes()
    data.setup("validate")
    shown = {
        key: from_uint8(v) if v.dtype == torch.uint8 else v for key, v in next(iter(data.val_dataloader())).items()
    }
    columns = model.samples(shown)
    assert list(columns) == ["source", "attention", "without attention", "translation", "target"]
    assert columns["attention"].shape == (2, 1, 32, 32)
    assert all(column.min() >= -1 and column.max() <= 1 for column in columns.values())
    figures: dict[str, Tensor] = {}
    model.log_dict = lambda values, **_: figures.update(values)  # type: ignore[method-assign, assignment]
    nn.init.zeros_(model.attention.head.weight)
    nn.init.constant_(model.attention.head.bias, 1e4)  # type: ignore[arg-type]
    model.validation_step(shown, 0)
    share = (shown["mask"] > 0.5).float().mean((1, 2, 3)).mean()
    torch.testing.assert_close(figures, {"val/attention_mean": torch.tensor(1.0), "val/attention_iou": share})
    figures.clear()
    model.validation_step({key: value for key, value in shown.items() if key != "mask"}, 0)
    assert set(figures) == {"val/attention_mean"}


def test_only_one_direction_and_multiples_of_four() -> None:
    with pytest.raises(ZooError, match="translates to 'target', not to 'source'"):
        small().translate(noise(1, 3, 16, 16), to="source")
    with pytest.raises(ZooError, match="multiples of 4, not 30x16"):
        small().translate(noise(1, 3, 16, 30))


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ZooError, match="has 64 channels, not 8"):
        small(attention_encoder="imagenet", attention_channels=8)
    with pytest.raises(ZooError, match="no stage 3"):
        small().build_stage(3)


def test_what_a_training_misses_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    (sentence,) = SAT.missing({})
    assert "lightning download vgg19" in sentence
    assert "--model.attention_encoder random" in sentence
    assert SAT.missing({}, resumed=True) == [sentence]  # the loss network is in no checkpoint
    assert SAT.missing({"distance": "ssim"}, resumed=True) == []
    assert SAT.missing({"distance": "l1", "attention_encoder": "random"}) == []
    (alexnet,) = SAT.missing({"distance": "alexnet", "attention_encoder": "random"})
    assert "lightning download alexnet" in alexnet
    assert SAT.missing({"distance": "alexnet", "attention_encoder": "random", "distance_weights": "random"}) == []


def test_the_attention_starts_from_the_published_weights_and_a_resume_needs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(3)
    published = {
        f"features.{key}": torch.rand_like(value) * 1e-3 for key, value in Attention(64).features.state_dict().items()
    }
    torch.save(published, tmp_path / "vgg19.pth")
    monkeypatch.setattr("zoo.sat.fetch", lambda name: {"vgg19": tmp_path / "vgg19.pth"}[name])
    options = {"attention_encoder": "imagenet", "attention_channels": 64, "ema_decay": 0.5}
    first = small(**options)
    fit(first, 1, tmp_path, data=scenes(), precision="32-true", limit_val_batches=0)
    kept = first.attention.features.state_dict()
    assert first.ema is not None
    for key, value in published.items():
        assert torch.equal(kept[key.removeprefix("features.")], value)
        assert torch.equal(first.ema["attention"].state_dict()[key], value)
    monkeypatch.setattr("zoo.sat.fetch", lambda name: pytest.fail(f"{name} was asked for"))
    fit(
        small(**options),
        2,
        tmp_path,
        data=scenes(),
        precision="32-true",
        limit_val_batches=0,
        resume=Run(tmp_path).checkpoint_path(1),
    )


# What an iteration costs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "generators"),
    [
        (GENERATOR, {"generator": 1}),
        (ATTENTION, {"generator": 1, "attention": 1}),
        (JOINT, {"generator": 1, "attention": 1}),
    ],
)
def test_an_iteration_runs_each_network_as_often_as_it_must(stage: int, generators: dict[str, int]) -> None:
    model = in_stage(stage)
    counts = Counts(1)
    drive(model, batch(), 3, counts)
    assert counts.forwards == {**generators, "discriminator": 3}
    assert len(counts.host_reads) <= 1, counts.host_reads


def test_the_fixed_generator_costs_no_backward_pass() -> None:
    def flops(stage: int) -> int:
        counts = Counts(1)
        drive(in_stage(stage, generator_channels=16), batch(), 3, counts)
        return counts.flops

    assert flops(ATTENTION) < flops(GENERATOR)
