"""AGGAN, in its first stage."""

import itertools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.aggan import AGGAN

from .common import Iteration, MeasuredRoom, unpaired

SMALL_AGGAN: dict[str, Any] = {
    "generator_channels": 2,
    "residual_blocks": 1,
    "attention_channels": 2,
    "discriminator_channels": 2,
    "discriminator_layers": 2,
    "pool_size": 2,
}


def aggan() -> AGGAN:
    """The room at the official configuration."""
    return AGGAN(generator_channels=32, attention_channels=32, discriminator_channels=64)


def plain_aggan(batch: dict[str, Tensor]) -> Iteration:
    """AGGAN's four turns, each of which runs anew what it needs, as the official code does; the pools stay empty."""
    room, source, target = aggan(), batch["source"], batch["target"]
    makers = {"target": [room.to_target, room.attention_source], "source": [room.to_source, room.attention_target]}
    judges = {"target": room.discriminator_target, "source": room.discriminator_source}

    def adam(*networks: torch.nn.Module) -> torch.optim.Adam:
        return torch.optim.Adam(itertools.chain(*(n.parameters() for n in networks)), 1e-4, (0.5, 0.999))

    making = {to: adam(*networks) for to, networks in makers.items()}
    judging = {to: adam(network) for to, network in judges.items()}

    def attend(image: Tensor, to: str) -> Tensor:
        generator, attention = makers[to]
        where = attention(image)
        return where * generator(image) + (1 - where) * image

    def iteration() -> None:
        for to, image, real in (("target", source, target), ("source", target, source)):
            making[to].zero_grad()
            judges[to].requires_grad_(False)
            to_target, to_source = attend(source, "target"), attend(target, "source")
            cycles = F.l1_loss(attend(to_target, "source"), source) + F.l1_loss(attend(to_source, "target"), target)
            fake = to_target if to == "target" else to_source
            ((judges[to](fake) - 1).square().mean() + 10 * cycles).backward()
            making[to].step()
            judges[to].requires_grad_(True)
            judging[to].zero_grad()
            with torch.no_grad():
                fake = attend(image, to)
            (0.5 * ((judges[to](real) - 1).square().mean() + judges[to](fake).square().mean())).backward()
            judging[to].step()

    return iteration


MEASURED = {
    "aggan": MeasuredRoom(
        configuration="first stage; generators and attention networks of 32 channels, discriminators of 64, batch 1, 128x128",
        make=aggan,
        batch=lambda: unpaired(128),
        small=lambda: (AGGAN(**SMALL_AGGAN), unpaired(32)),
        plain=plain_aggan,
        official_seconds=1.85,  # TensorFlow, on two threads
        official_gflop=None,
        redundant=True,
    ),
}
