"""CycleGAN."""

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.cyclegan import CycleGAN

from .common import Iteration, MeasuredRoom, unpaired


def cyclegan() -> CycleGAN:
    """The room at the official configuration."""
    return CycleGAN(generator_channels=16, residual_blocks=6, discriminator_channels=16)


def plain_cyclegan(batch: dict[str, Tensor]) -> Iteration:
    """CycleGAN's iteration; the pools stay empty, so the discriminators see the present translations."""
    room, source, target = cyclegan(), batch["source"], batch["target"]
    judges = [room.discriminator_target, room.discriminator_source]
    makers, judging = ([p for n in pair for p in n.parameters()] for pair in ([room.to_target, room.to_source], judges))
    adam_makers, adam_judging = (torch.optim.Adam(p, 2e-4, (0.5, 0.999)) for p in (makers, judging))

    def iteration() -> None:
        for parameter in judging:
            parameter.requires_grad_(False)
        adam_makers.zero_grad()
        fakes = [room.to_target(source), room.to_source(target)]
        fooling = sum((judge(fake) - 1).square().mean() for judge, fake in zip(judges, fakes, strict=True))
        cycle = F.l1_loss(room.to_source(fakes[0]), source) + F.l1_loss(room.to_target(fakes[1]), target)
        identity = F.l1_loss(room.to_target(target), target) + F.l1_loss(room.to_source(source), source)
        (fooling + 10 * cycle + 5 * identity).backward()
        adam_makers.step()
        for parameter in judging:
            parameter.requires_grad_(True)
        adam_judging.zero_grad()
        for judge, real, fake in zip(judges, (target, source), fakes, strict=True):
            (0.5 * ((judge(real) - 1).square().mean() + judge(fake.detach()).square().mean())).backward()
        adam_judging.step()

    return iteration


MEASURED = {
    "cyclegan": MeasuredRoom(
        configuration="ResNet of 6 blocks and 16 channels, PatchGAN of 16, identity loss, pool of 50, batch 1, 128x128",
        make=cyclegan,
        batch=lambda: unpaired(128),
        small=lambda: (
            CycleGAN(generator_channels=4, residual_blocks=1, discriminator_channels=4, pool_size=2),
            unpaired(32),
        ),
        plain=plain_cyclegan,
        official_seconds=0.53,
        official_gflop=23.1,
    ),
}
