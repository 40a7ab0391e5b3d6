"""A tiny BigGAN as a finished run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from zoo import registry
from zoo.biggan import BigGAN
from zoo.biggan.layers import Attention
from zoo.core.runs import Run

LOOKS = ("plain", "striped", "dotted")
TINY: dict[str, Any] = {
    "image_size": 32,
    "classes": 3,
    "generator_channels": 2,
    "discriminator_channels": 2,
    "generator_attention": (16,),
    "discriminator_attention": (),
    "latent_channels": 8,
    "class_channels": 4,
    "ema_decay": 0.5,
}


@contextmanager
def registered() -> Iterator[None]:
    """BigGAN has its name, as a checkpoint needs it to be loaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.ROOMS, "biggan", "zoo.biggan:BigGAN")
        yield


def tiny(seed: int = 0, **arguments: Any) -> BigGAN:
    """A BigGAN whose pictures differ from code to code and from class to class, and whose average is not its generator."""
    torch.manual_seed(seed)
    model = BigGAN(**{**TINY, **arguments})
    for network in (model.generator, *([model.ema["generator"]] if model.ema else [])):
        for name, weight in network.named_parameters():
            if name.endswith(("gain.weight", "original")) or "shared" in name:
                torch.nn.init.normal_(weight, std=0.5)
        for module in network.modules():
            if isinstance(module, Attention):
                torch.nn.init.constant_(module.gamma, 0.7)
    return model.eval()


def finished_run(folder: Path, model: BigGAN | None = None, names: tuple[str, ...] = LOOKS) -> Run:
    """A run's folder with one checkpoint of a model, trained on scenes of these looks as its configuration has it."""
    run = Run(folder)
    model = model or tiny()
    run.checkpoints.mkdir(parents=True)
    content = {
        "pytorch-lightning_version": "2.6.6",
        "hyper_parameters": dict(model.hparams),
        "state_dict": model.state_dict(),
        "zoo": {"room": "biggan", "stage": 0, "frozen": [], "ranks": []},
    }
    torch.save(content, run.checkpoint_path(7))
    run.record.write_text("{}")
    data = {"class_path": "datamodules.Scenes", "init_args": {"task": "domains", "domains": list(names)}}
    run.config.write_text(yaml.safe_dump({"data": data}))
    return run


def official(model: Any, converted: bool) -> dict[str, Tensor]:
    """A generator's state in the official layout; converted files of TF-Hub have no `sv0`."""
    renamed = {}
    for key, value in model.state_dict().items():
        if key.endswith("num_batches_tracked") or (converted and key.endswith("0.sigma")):
            continue
        for ours, theirs in (
            (".parametrizations.weight.original", ".weight"),
            (".parametrizations.weight.0.u", ".u0"),
            (".parametrizations.weight.0.sigma", ".sv0"),
            ("output_layer.0.weight", "output_layer.0.gain"),
            (".norm.running_", ".stored_"),
            ("output_layer.0.running_", "output_layer.0.stored_"),
        ):
            key = key.replace(ours, theirs)
        renamed[key] = value
    return renamed
