"""What an iteration of GP-UNIT does, counted: nothing that no player needs, and no graph where no gradient goes."""

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import torch
from benchmarks.driving import Counts, Flops, drive
from benchmarks.rooms.common import pairs, unpaired
from benchmarks.rooms.gpunit import SMALL_GPUNIT, SMALL_PRIOR
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from zoo.gpunit import GPUNIT
from zoo.gpunit.prior import PriorDistillation

Answer = TypeVar("Answer")


def layer_flops(network: nn.Module, call: Callable[[], Answer]) -> tuple[Counter[str], Answer]:
    """Of each layer in a call of the network, from shapes alone, and the call's answer."""
    flops: Counter[str] = Counter()

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            # A weight of a convolution meets each of the output's pixels once per sample, a linear layer's each sample once.
            if isinstance(layer, nn.Conv2d):
                height, width = layer.kernel_size
                flops[name] += 2 * output.numel() * layer.in_channels * height * width
            elif isinstance(layer, nn.Linear):
                flops[name] += 2 * output.numel() * layer.in_features

        return add

    hooks = [layer.register_forward_hook(hook(name)) for name, layer in network.named_modules()]
    with torch.no_grad():
        answer = call()
    for each in hooks:
        each.remove()
    return flops, answer


def counted(room: Any, batch: dict[str, Tensor]) -> Counts:
    counts = Counts(1)
    drive(room, batch, 3, counts)
    return counts


class Turns(GPUNIT):
    """Counts the operations of each player's turn."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.turn_flops: dict[str, int] = {}

    def update_generator(self, *arguments: Any) -> None:
        with Flops() as flops:
            super().update_generator(*arguments)
        self.turn_flops["generator"] = flops.total

    def update_discriminator(self, *arguments: Any) -> None:
        with Flops() as flops:
            super().update_discriminator(*arguments)
        self.turn_flops["discriminator"] = flops.total


def vgg_flops(vgg: nn.Module | None, image: Tensor) -> int:
    """Of a pass; none without the network."""
    return 0 if vgg is None else layer_flops(vgg, lambda: vgg(image))[0].total()


def second_stage_flops(room: GPUNIT, image: Tensor) -> tuple[int, dict[str, int]]:
    """Of the contents that both turns read, and of each turn, from the algorithm.

    A backward pass costs as much as a forward pass for the gradients of the weights, and as much again for those of the input.
    What sees a picture of the data, or a content of one, saves the latter; a network that does not learn saves the former.
    """
    encoder, features = layer_flops(room.content_encoder, lambda: room.content_encoder(image))
    styler, code = layer_flops(room.generator.style_encoder, lambda: room.generator.encode_style(image))
    translation, _ = layer_flops(room.generator, lambda: room.generator(features, code))
    reconstruction, _ = layer_flops(room.generator, lambda: room.generator(features, code, skip=room.all_skip))
    judge, _ = layer_flops(room.discriminator, lambda: room.discriminator(image))
    describe, _ = layer_flops(room.discriminator, lambda: room.discriminator.describe(image, room.style_layers))
    first, first_state = "model.0", "model.1.skiplayer.trans"  # of the first skip: the content itself
    generator = 3 * translation.total() - translation[first_state]
    generator += 3 * reconstruction.total() - reconstruction[first_state]
    generator += 3 * styler.total() - styler[first]
    generator += (
        2 * judge.total() + describe.total()
    )  # a judgement to the picture and back; the target's style ahead alone
    generator += 2 * encoder.total()
    generator += 3 * vgg_flops(room.vgg, image)  # the target ahead, the reconstruction ahead and back to the picture

    discriminator = styler.total() + translation.total()  # a translation without gradients
    from_data = 3 * judge.total() - judge[first]
    # Of a real picture, with the penalty: the judgement and its gradient at the picture; the way back of the latter, to the weights
    # and up again; the way back of the former, which goes on to the picture, because it asked for a gradient.
    discriminator += from_data + (6 * judge.total() if room.lambda_r1 > 0 else from_data)
    return 2 * encoder.total(), {"generator": generator, "discriminator": discriminator}


@pytest.mark.parametrize(
    "options",
    [{}, {"all_skip": True}, {"perceptual": None, "lambda_r1": 0.0}, {"style_layer": [2, 5], "style_flip": False}],
    ids=str,
)
def test_the_second_stage_computes_what_its_players_need(options: dict[str, Any]) -> None:
    room, batch = Turns(**SMALL_GPUNIT | options), unpaired(64, 2)
    flops = counted(room, batch).flops
    contents, turns = second_stage_flops(room, batch["source"])
    assert room.turn_flops == turns
    assert flops == contents + sum(turns.values())


def first_stage_flops(room: PriorDistillation, batch: dict[str, Tensor]) -> int:
    """Of an iteration, from the algorithm: all weights learn, and pictures need no gradient."""
    images = torch.cat([batch["image"], batch["x"], batch["y"]])
    labels, single = torch.cat([batch["domain"], batch["x_domain"], batch["y_domain"]]), len(batch["image"])
    encoder, (content, *_) = layer_flops(room.content_encoder, lambda: room.content_encoder(images))
    styler, statistics = layer_flops(room.style_encoder, lambda: room.style_encoder(images))
    drawing, _ = layer_flops(room, lambda: room.decode(content, labels, statistics))
    code, moved = room.embedding(labels[single:]), content[single:]
    masks, _ = layer_flops(room, lambda: room.decoder.mask(room.content_layer(moved), code))
    classifying, _ = layer_flops(room.classifier, lambda: room.classifier(content))
    learning = 3 * (drawing + masks + classifying).total()
    learning += 3 * encoder.total() - encoder["layers.0.0.conv"] + 3 * styler.total() - styler["layers.0.conv"]
    return learning + 3 * vgg_flops(room.vgg, images)


@pytest.mark.parametrize("options", [{}, {"perceptual": None}], ids=str)
def test_the_first_stage_computes_what_its_losses_need(options: dict[str, Any]) -> None:
    room, batch = PriorDistillation(**SMALL_PRIOR | options), pairs(64, 2, 3)
    assert counted(room, batch).flops == first_stage_flops(room, batch)


def test_each_network_runs_as_often_as_it_must() -> None:
    counts = counted(GPUNIT(**SMALL_GPUNIT), unpaired(64))
    # Contents of source, target and translation; translation, reconstruction, and the moved generator's translation. The
    # discriminator's pass over the target's style and its pass under the penalty go by its methods.
    assert counts.forwards == {"content_encoder": 3, "generator": 3, "discriminator": 2, "vgg": 2}
    assert counts.host_reads == ["tolist"]  # whether the last gradients were finite
    counts = counted(PriorDistillation(**SMALL_PRIOR), pairs(64, 2, 3))
    encoders = {"content_encoder": 1, "style_encoder": 1, "classifier": 1, "vgg": 2}
    assert counts.forwards == encoders | {
        "content_layer": 2,
        "embedding": 2,
        "decoder": 1,
    }  # and masks alone, by a method
    assert counts.host_reads == ["tolist"]


class Graphs(Callback):
    """Whether each output of some layers hung on a graph, in the order of the passes.

    Args:
        layers: gives the layers of a room by name.
    """

    def __init__(self, layers: Callable[[Any], dict[str, nn.Module]]) -> None:
        self.layers = layers
        self.seen: dict[str, list[bool]] = defaultdict(list)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for name, layer in self.layers(pl_module).items():
            layer.register_forward_hook(self.hook(name))

    def hook(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _, __, output: self.seen[name].append(output.requires_grad)


def test_the_second_stage_keeps_no_graph_where_no_gradient_goes() -> None:
    room = GPUNIT(**SMALL_GPUNIT)
    last = len(room.generator.model) - 1

    def layers(room: GPUNIT) -> dict[str, nn.Module]:
        assert room.vgg is not None
        return {
            "contents": room.content_encoder.layers[0],
            "pictures": room.generator.level(last).rgblayer,
            "styles": room.generator.style_encoder.model,
            "features": room.discriminator.model[0],
            "logits": room.discriminator.linear,
            "perception": room.vgg.features[0],
            **{f"colours {level}": room.generator.level(level).rgblayer for level in range(last)},
        }

    graphs = Graphs(layers)
    drive(room, unpaired(64), 1, graphs)
    assert graphs.seen == {
        "contents": [False, False, True],  # source, target, translation
        "pictures": [True, True, False],  # translation, reconstruction, translation for the discriminator
        "styles": [True, False],
        "features": [True, False, True, True],  # translation, target; target, translation
        "logits": [True, True, True],
        "perception": [False, True],  # target, reconstruction
    }


def test_the_first_stage_keeps_no_graph_where_no_gradient_goes() -> None:
    def layers(room: PriorDistillation) -> dict[str, nn.Module]:
        assert room.vgg is not None
        return {"perception": room.vgg.features[0], "unread": room.style_encoder.layers[room.style_encoder.used]}

    graphs = Graphs(layers)
    drive(PriorDistillation(**SMALL_PRIOR), pairs(64, 2, 3), 1, graphs)
    assert graphs.seen == {"perception": [False, True]}
