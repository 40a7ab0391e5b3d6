"""What an iteration of StarGAN v2 does, counted: nothing that no player needs, and no graph where no gradient goes."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from benchmarks.driving import Counts, drive
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from zoo.starganv2 import StarGANv2

SMALL: dict[str, Any] = {
    "image_size": 32,
    "domains": ["a", "b"],
    "channels": 2,
    "max_channels": 4,
    "style_channels": 3,
    "latent_channels": 2,
    "mapping_channels": 4,
}


def noise(*shape: int, seed: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


BATCH = {
    **{key: noise(2, 3, 32, 32, seed=seed) for seed, key in enumerate(("image", "reference", "reference2"))},
    "domain": torch.tensor([0, 1]),
    "reference_domain": torch.tensor([1, 0]),
}


class Graphs(Callback):
    """Whether each pass through a network hung on a graph of its weights, and the weights' names that got a gradient."""

    def __init__(self) -> None:
        self.seen: dict[str, list[bool]] = defaultdict(list)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for name in ("generator", "mapping_network", "style_encoder", "discriminator"):
            pl_module.get_submodule(name).register_forward_hook(self.hook(name))

    def hook(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _, __, output: self.seen[name].append(output.requires_grad)


def test_each_network_runs_as_often_as_it_must() -> None:
    counts = Counts(1)
    drive(StarGANv2(**SMALL), BATCH, 3, counts)
    # The official code's: generator once per discriminator's step and three times per its own; latents' codes once for the
    # discriminator and twice for the generator; references' likewise, and in both of the generator's steps the source's code and the
    # translation's; a judgement of translations per step (those of real pictures, under the penalty, go by the method).
    assert counts.forwards == {"generator": 8, "mapping_network": 3, "style_encoder": 7, "discriminator": 4}
    assert counts.host_reads == ["tolist"]  # whether the last gradients were finite


def test_landmarks_are_looked_for_once_per_picture() -> None:
    counts = Counts(0)
    drive(
        StarGANv2(**SMALL, w_hpf=1.0, landmarks="random"), {key: value[:1] for key, value in BATCH.items()}, 2, counts
    )
    assert counts.forwards["fan"] == 3  # of the image, and of each of the two translations
    assert counts.host_reads == []  # there is no iteration before whose gradients would be looked at


def test_no_graph_where_no_gradient_goes() -> None:
    graphs = Graphs()
    drive(StarGANv2(**SMALL), BATCH, 1, graphs)
    assert graphs.seen == {
        "generator": [
            False,
            False,
            True,
            False,
            True,
            True,
            False,
            True,
        ],  # fakes; then translation, the other, the way back
        "mapping_network": [False, True, False],
        # References for the discriminator; of latents' turn, the source and the translation; of references', the first and the second,
        # the source, and the translation, through which alone a gradient goes.
        "style_encoder": [False, True, True, False, False, False, True],
        "discriminator": [True, True, True, True],
    }


def test_the_warm_up_saves_the_generator_s_turns() -> None:
    counts = Counts(1)
    drive(StarGANv2(**SMALL, discriminator_warmup=5), BATCH, 3, counts)
    assert counts.forwards == {"generator": 2, "mapping_network": 1, "style_encoder": 1, "discriminator": 2}
