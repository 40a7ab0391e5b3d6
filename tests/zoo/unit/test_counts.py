"""What an iteration of UNIT does, counted: nothing that no player needs, and no graph where no gradient goes."""

from collections import Counter, defaultdict
from typing import Any

import pytest
import torch
from benchmarks.driving import Counts, drive
from benchmarks.rooms import pictures, unpaired
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from zoo.core import Translator
from zoo.unit import UNIT
from zoo.unit.digits import UNITDigits

SMALL: dict[str, Any] = {
    "generator_channels": 2,
    "residual_blocks": 2,
    "discriminator_channels": 2,
    "discriminator_layers": 2,
}
LATER: dict[str, Any] = {
    "variant": "munit_style",
    "discriminator": "pooled",
    "discriminator_scales": 2,
    "adversarial": "lsgan",
    "kl_of": "mean",
}
SIZE = 32
DOMAINS = 2


def counted(room: Translator, batch: dict[str, Tensor]) -> Counts:
    counts = Counts(1)
    drive(room, batch, 3, counts)
    return counts


def flops_of(network: nn.Module, x: Tensor) -> tuple[int, int, Tensor]:
    """Operations of a forward pass, from shapes alone, those of layers that see a picture among them, and what comes out."""
    flops: list[int] = []
    of_data: list[int] = []

    def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
        # A weight meets each pixel of the smaller picture once per sample.
        pixels = min(inputs[0].shape[2:].numel(), output.shape[2:].numel())
        flops.append(2 * len(output) * pixels * layer.weight.numel())
        if layer.in_channels == x.shape[1]:
            of_data.append(flops[-1])

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    hooks = [layer.register_forward_hook(add) for layer in layers]
    with torch.no_grad():
        output = network(x)
    for hook in hooks:
        hook.remove()
    return sum(flops), sum(of_data), output


def expected_flops(room: UNIT, size: int) -> int:
    """Of an iteration with one picture per domain, from the algorithm.

    A backward pass costs as much as a forward pass for the gradients of the weights, and as much again for those of the input. What
    sees a picture of the data saves the latter; a network that does not learn in a turn saves the former.
    """
    networks, picture = room.generators, torch.zeros(1, 3, size, size)
    own, own_of_data, code = flops_of(networks.encoders["source"], picture)
    shared, meet, decode = (
        flops_of(part, code)[0]
        for part in (networks.shared_encoder, networks.shared_decoder, networks.decoders["source"])
    )
    assert isinstance(room.discriminators.source, nn.Module)
    judge, judge_of_data, _ = flops_of(room.discriminators.source, picture)
    encoding = 3 * own - own_of_data + 3 * shared  # once for both turns
    judging = meet + decode  # a translation without gradients
    judging += 2 * (3 * judge - judge_of_data)  # real and fake, neither of which needs a gradient
    making = 2 * 3 * decode + 3 * meet  # each code in both domains
    making += 2 * judge  # a translation to the judgement, and back to the picture
    if room.lambda_cycle_kl > 0 or room.lambda_cycle > 0:
        making += 3 * (own + shared)
    if room.lambda_cycle > 0:
        making += 3 * (meet + decode)
    if room.vgg is not None:
        making += 3 * flops_of(room.vgg, picture)[0]  # what is wanted; what was made, and back to the picture
    return DOMAINS * (encoding + judging + making)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shared_blocks": 2, "lambda_cycle": 0.0},
        {"lambda_cycle": 0.0, "lambda_cycle_kl": 0.0},
        {"lambda_perceptual": 1.0, "perceptual": "random", "perceptual_channels": 4},
        {**LATER, "shared_blocks": 0},
        {**LATER, "shared_blocks": 1},
    ],
    ids=str,
)
def test_unit_computes_what_its_players_need(options: dict[str, Any]) -> None:
    room = UNIT(**{**SMALL, **options})
    counts = counted(room, unpaired(SIZE))
    assert counts.flops == expected_flops(room, SIZE)
    assert counts.host_reads == ["tolist"]  # whether the last gradients were finite


class Passes(Callback):
    """Of each pass of some modules in the first iteration: how many samples, and whether the result hung on a graph."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.seen: dict[str, list[tuple[int, bool]]] = defaultdict(list)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for name in self.names:
            pl_module.get_submodule(name).register_forward_hook(self.hook(name))

    def hook(self, name: str) -> Any:
        def keep(_: nn.Module, __: Any, output: Any) -> None:
            while not isinstance(output, Tensor):
                output = output[0]
            self.seen[name].append((len(output), output.requires_grad))

        return keep


@pytest.mark.parametrize("options", [{}, {**LATER, "shared_blocks": 1}], ids=["paper", "later"])
def test_each_network_runs_as_often_as_it_must(options: dict[str, Any]) -> None:
    parts = (
        "encoders.source",
        "encoders.target",
        "shared_encoder",
        "shared_decoder",
        "decoders.source",
        "decoders.target",
    )
    passes = Passes(*(f"generators.{part}" for part in parts), "discriminators")
    drive(UNIT(**{**SMALL, **options}), unpaired(SIZE, 3), 1, passes)
    encoder = [(3, True), (3, True)]  # pictures, for both turns; translations
    decoder = [(3, False), (6, True), (3, True)]  # translations to be found out; both codes; the way back
    assert passes.seen == {
        "generators.encoders.source": encoder,
        "generators.encoders.target": encoder,
        "generators.shared_encoder": [(6, True), (6, True)],
        "generators.shared_decoder": [(6, False), (6, True), (6, True)],
        "generators.decoders.source": decoder,
        "generators.decoders.target": decoder,
        "discriminators": [(6, True), (3, True)],  # real and fake at once; translations
    }


def test_dropout_asks_for_an_encoding_of_its_own_in_each_turn() -> None:
    passes = Passes("generators.encoders.source")
    drive(UNIT(**SMALL, residual_dropout=0.5), unpaired(SIZE), 1, passes)
    assert passes.seen["generators.encoders.source"] == [(1, False), (1, True), (1, True)]


def digits(count: int) -> dict[str, Tensor]:
    """A batch of digits of one channel."""
    return {
        "source": pictures(count, 1, 32, 32, seed=1),
        "target": pictures(count, 1, 32, 32, seed=2),
        "source_label": torch.arange(count) % 10,
    }


DIGITS: dict[str, Any] = {
    "source_channels": 1,
    "target_channels": 1,
    "generator_channels": 2,
    "discriminator_channels": 3,
    "coordinates": False,
}


def expected_digit_flops(room: UNITDigits) -> int:
    """Of an iteration with one digit per domain, from the algorithm, see `expected_flops`."""
    vae, judge, digit = room.generator, room.discriminator, torch.zeros(1, 1, 32, 32)
    vae.eval()
    first, _, low = flops_of(vae.encoders["source"], digit)
    shared, _, high = flops_of(vae.shared_encoder, low)
    posterior = flops_of(vae.mean, high)[0] + flops_of(vae.deviation, high)[0]
    meet, _, met = flops_of(vae.shared_decoder, high)
    decode, _, _ = flops_of(vae.decoders["source"], met)
    vae.train()
    look, _, seen = flops_of(judge.lowest["source"], digit)
    features = seen
    trunk = 0
    for layer in judge.layers:
        more, _, features = flops_of(layer, features)
        trunk += more
    real, named = flops_of(judge.real_head, features)[0], flops_of(judge.class_head, features)[0]
    make = DOMAINS * (first + shared + posterior + meet + 2 * decode)
    reading = make  # without gradients
    reading += (
        DOMAINS * 3 * (2 * look)
    )  # real digits, reconstructions and translations: none needs a gradient of its own
    reading += DOMAINS * 3 * 3 * (trunk + real)
    reading += 3 * (trunk + named)
    if room.lambda_feature > 0:
        reading += DOMAINS * 2 * 3 * trunk
    making = 3 * make - DOMAINS * first  # digits of the data need no gradient
    making += DOMAINS * 2 * 2 * (look + trunk + real)  # reconstructions and translations to the judgement, and back
    return reading + making


@pytest.mark.parametrize("options", [{}, {"lambda_feature": 0.0}], ids=str)
def test_digits_compute_what_their_players_need(options: dict[str, Any]) -> None:
    room = UNITDigits(**{**DIGITS, **options})
    counts = counted(room, digits(2))  # batch norm needs two values
    assert counts.flops == 2 * expected_digit_flops(room)
    assert counts.host_reads == ["tolist"]


def test_the_networks_of_digits_run_as_often_as_they_must() -> None:
    parts = Counter(
        {
            "generator.encoders.source": 2,
            "generator.shared_encoder": 2,  # both domains at once, in both turns: as often as the official code moves the norms
            "generator.shared_decoder": 2,
            "generator.decoders.target": 2,
            "discriminator.lowest.source": 1
            + 1
            + 2,  # real; all that was made for it; reconstructions and translations
            "discriminator.layers.0": 1 + 2 + 1 + 1 + 2,  # real, fakes, classes and features; fakes
            "discriminator.class_head": 1,
            "discriminator.real_head": 3 + 2,
        }
    )
    passes = Passes(*parts)
    drive(UNITDigits(**DIGITS), digits(2), 1, passes)
    assert {name: len(seen) for name, seen in passes.seen.items()} == parts
    assert [on_graph for _, on_graph in passes.seen["generator.shared_decoder"]] == [False, True]
