"""The rooms whose iterations are measured, at the sizes at which the official codes were measured.

The official figures were taken with each paper's official code on a quiet 2-core machine (x86-64, AVX512; PyTorch 2.15, float32, batch
as below), the median after two warm-up iterations, with one thread in effect. That machine needed `OFFICIAL_CALIBRATION` seconds
for the five matrix products of `driving.calibrate`: by it the official seconds are scaled to the present machine. This is rough, for
machines differ in how fast they are at convolutions beside matrix products; what compares on every machine is the operations, and
the time of a plain iteration on the same machine.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.core import Translator
from zoo.cyclegan import CycleGAN

Iteration = Callable[[], None]

OFFICIAL_CALIBRATION = 0.535


@dataclass(frozen=True)
class MeasuredRoom:
    """A room at the size of the official measurement.

    Attributes:
        configuration: what is measured, in words.
        make: builds the room.
        batch: makes a training batch.
        plain: makes the same iteration in plain PyTorch, with the room's networks and nothing of the house around them.
        official_seconds: of one official iteration.
        official_gflop: of one official iteration; None where it was not counted.
    """

    configuration: str
    make: Callable[[], Translator]
    batch: Callable[[], dict[str, Tensor]]
    plain: Callable[[dict[str, Tensor]], Iteration]
    official_seconds: float
    official_gflop: float | None


def pictures(*shape: int, seed: int) -> Tensor:
    """Noise `b c h w` in [-1, 1]: the time of an iteration does not depend on what pictures show."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def unpaired(size: int, batch_size: int = 1) -> dict[str, Tensor]:
    """A batch of `source` and `target` pictures."""
    return {
        "source": pictures(batch_size, 3, size, size, seed=1),
        "target": pictures(batch_size, 3, size, size, seed=2),
    }


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


ROOMS = {
    "cyclegan": MeasuredRoom(
        configuration="ResNet of 6 blocks and 16 channels, PatchGAN of 16, identity loss, pool of 50, batch 1, 128x128",
        make=cyclegan,
        batch=lambda: unpaired(128),
        plain=plain_cyclegan,
        official_seconds=0.53,
        official_gflop=23.1,
    ),
}
