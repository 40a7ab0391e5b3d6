"""SAT, in its last phase."""

from typing import Any

import torch
from torch import Tensor

from zoo.experts.vgg import VGGFeatures
from zoo.sat import JOINT, SAT, VGG_LAYERS, discriminator_loss, feature_distances, generator_loss

from .common import Iteration, MeasuredRoom, unpaired

SMALL_SAT: dict[str, Any] = {
    "generator_channels": 2,
    "residual_blocks": 1,
    "attention_encoder": "random",
    "attention_channels": 2,
    "discriminator_channels": 2,
    "discriminator_layers": 2,
    "distance_weights": "random",
    "distance_channels": 2,
    "pool_size": 2,
}


def joint(**options: Any) -> SAT:
    """The room in the phase in which generator and attention learn together; VGG's weights are random."""
    room = SAT(attention_encoder="random", distance_weights="random", lambda_regularisation=1.0, **options)
    room.stage = JOINT
    return room


def plain_sat(batch: dict[str, Tensor]) -> Iteration:
    """SAT's iteration; the pool stays empty."""
    room, source, target = joint(), batch["source"], batch["target"]
    vgg = VGGFeatures(19, VGG_LAYERS)
    makers = [*room.generator.parameters(), *room.attention.parameters()]
    making = torch.optim.Adam(makers, 2e-5, (0.5, 0.999))
    judging = torch.optim.Adam(room.discriminator.parameters(), 2e-4, (0.5, 0.999))
    weights = torch.tensor(room.perceptual_weights)

    def iteration() -> None:
        judge = room.discriminator.requires_grad_(False)
        making.zero_grad()
        attention = room.attention(source)
        fake = attention * room.generator(source) + (1 - attention) * source
        with torch.no_grad():
            wanted = vgg(source)
        distance = (weights * feature_distances(vgg(fake), wanted)).sum()
        (generator_loss(judge(fake), "bce") + distance).backward()
        making.step()
        judge.requires_grad_(True)
        judging.zero_grad()
        real_loss = discriminator_loss(judge(target), True, "bce")
        (real_loss + discriminator_loss(judge(fake.detach()), False, "bce")).backward()
        judging.step()

    return iteration


MEASURED = {
    "sat": MeasuredRoom(
        configuration="last phase; generator and discriminator of 64 channels, both VGG-19 of 64, batch 1, 128x128",
        make=joint,
        batch=lambda: unpaired(128),
        small=lambda: (
            joint(**{k: v for k, v in SMALL_SAT.items() if not k.endswith(("encoder", "weights"))}),
            unpaired(32),
        ),
        plain=plain_sat,
        official_seconds=1.49,
        official_gflop=120.5,
    ),
}
