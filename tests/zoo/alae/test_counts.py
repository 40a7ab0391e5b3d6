"""What an iteration of ALAE does, counted: each network as often as the algorithm asks for, and no graph where no gradient goes."""

from collections import Counter
from typing import Any

import pytest
import torch
from benchmarks.driving import Counts, drive
from benchmarks.rooms import pictures
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from zoo.alae import StyleALAE
from zoo.alae.mlp import MLPALAE
from zoo.core import Translator

SMALL: dict[str, Any] = {
    "start_channels": 2,
    "most_channels": 4,
    "levels": 3,
    "latent_channels": 6,
    "mapping_layers": 1,
    "epochs_per_level": 0,
    "least_variance": 1e-8,
}
# Real, fake of the judges; fake of the makers; the latent loss.
PASSES = {"encoder": 4, "critic": 3, "generator": 3, "mapping": 3}


def room_of(kind: str, **options: Any) -> tuple[Translator, dict[str, Tensor]]:
    torch.manual_seed(0)
    if kind == "mlp":
        small = {"image_size": 8, "hidden": 6, "latent_channels": 4, "mapping_layers": 1}
        return MLPALAE(**small, **options), {"image": pictures(2, 1, 8, 8, seed=1)}
    return StyleALAE(**{**SMALL, **options}), {"image": pictures(2, 3, 16, 16, seed=1)}


class Watch(Callback):
    """Passes by network, and how many of them kept a graph."""

    def __init__(self) -> None:
        self.passes: Counter[str] = Counter()
        self.graphs: Counter[str] = Counter()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for name in PASSES:
            network = pl_module.get_submodule(name)
            if name == "encoder" and isinstance(pl_module, MLPALAE):
                network = network.layers[0]  # type: ignore[index, union-attr]
            network.register_forward_hook(self._counter(name))

    def _counter(self, name: str) -> Any:
        def count(_: nn.Module, __: Any, output: Tensor) -> None:
            self.passes[name] += 1
            self.graphs[name] += output.requires_grad

        return count


@pytest.mark.parametrize(("kind", "mixing"), [("style", 0.0), ("style", 1.0), ("mlp", 0.0)])
def test_passes_through_each_network(kind: str, mixing: float) -> None:
    room, batch = room_of(kind, **({} if kind == "mlp" else {"mixing_probability": mixing}))
    watch = Watch()
    drive(room, batch, 3, watch)
    second = 2 if mixing == 1.0 else 0  # a second code for the fakes of the judges, and of the makers
    wanted = {**PASSES, "mapping": PASSES["mapping"] + second}
    assert watch.passes == {name: 3 * count for name, count in wanted.items()}
    # The judges' fakes are painted without a graph.
    assert watch.graphs["generator"] == 3 * (PASSES["generator"] - 1)
    assert watch.graphs["mapping"] == 3 * (wanted["mapping"] - 1 - second // 2)


@pytest.mark.parametrize("kind", ["style", "mlp"])
def test_an_iteration_looks_at_the_device_once_at_most(kind: str) -> None:
    room, batch = room_of(kind)
    counts = Counts(1)
    drive(room, batch, 4, counts)
    assert len(counts.host_reads) <= 1, counts.host_reads
