"""UNIT of both official codes, and its digits."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.unit import UNIT
from zoo.unit.digits import UNITDigits
from zoo.unit.losses import adversarial_loss, discriminator_loss, kl_loss

from .common import Iteration, MeasuredRoom, pictures, unpaired

SMALL_UNIT: dict[str, Any] = {
    "generator_channels": 2,
    "residual_blocks": 1,
    "discriminator_channels": 2,
    "discriminator_layers": 2,
}
LATER_UNIT: dict[str, Any] = {
    "variant": "munit_style",
    "shared_blocks": 0,
    "discriminator": "pooled",
    "adversarial": "lsgan",
    "lambda_adversarial": 1.0,
    "lambda_reconstruction": 10.0,
    "lambda_kl": 0.01,
    "lambda_cycle": 10.0,
    "lambda_cycle_kl": 0.01,
    "kl_of": "mean",
}


def unit() -> UNIT:
    """The room at the official configuration: that of the later official code."""
    return UNIT(**LATER_UNIT, generator_channels=16, discriminator_channels=16, discriminator_layers=4)


def plain_unit(batch: dict[str, Tensor]) -> Iteration:
    """UNIT's iteration: each domain's discriminator, then the generators with reconstructions, translations and the way back."""
    room, source, target = unit(), batch["source"], batch["target"]
    generators, judges = room.generators, room.discriminators
    adam_making, adam_judging = (
        torch.optim.Adam(network.parameters(), 1e-4, (0.5, 0.999), weight_decay=1e-4)
        for network in (generators, judges)
    )

    def noisy(means: tuple[Tensor, Tensor]) -> list[Tensor]:
        return [mean + torch.randn_like(mean) for mean in means]

    def iteration() -> None:
        means = generators.encode_both(source, target)
        judges.requires_grad_(True)
        adam_judging.zero_grad()
        with torch.no_grad():
            fake_source, fake_target = generators.decode_crossed(*noisy(means))
        logits = judges(torch.cat([source, fake_source]), torch.cat([target, fake_target]))
        torch.stack([discriminator_loss("lsgan", of_domain) for of_domain in logits]).sum().backward()
        adam_judging.step()
        judges.requires_grad_(False)
        adam_making.zero_grad()
        made = generators.decode_both(*noisy(means))
        logits = judges(made.to_source, made.to_target)
        loss = torch.stack([adversarial_loss("lsgan", of_domain, real=True) for of_domain in logits]).sum()
        again = generators.encode_both(made.to_source, made.to_target)
        back_source, back_target = generators.decode_crossed(*noisy(again))
        pairs = ((made.source, source), (made.target, target), (back_source, source), (back_target, target))
        loss = loss + 10 * torch.stack([F.l1_loss(*pair) for pair in pairs]).sum()
        (loss + 0.01 * torch.stack([kl_loss(mean) for mean in (*means, *again)]).sum()).backward()
        adam_making.step()

    return iteration


SMALL_DIGITS: dict[str, Any] = {
    "source_channels": 1,
    "target_channels": 1,
    "generator_channels": 2,
    "discriminator_channels": 2,
    "coordinates": False,
}


def digits(batch_size: int, channels: tuple[int, int] = (3, 1)) -> dict[str, Tensor]:
    """A batch of digits of both domains, with the source's labels."""
    images = {
        name: pictures(batch_size, count, 32, 32, seed=seed)
        for seed, (name, count) in enumerate(zip(("source", "target"), channels, strict=True))
    }
    return {**images, "source_label": torch.arange(batch_size) % 10}


MEASURED = {
    "unit": MeasuredRoom(
        configuration="the paper's code: generators of 16 channels and 4 residual blocks, one of them shared, discriminators of 16 "
        "channels and 5 layers, batch 1, 128x128",
        make=lambda: UNIT(generator_channels=16, discriminator_channels=16, discriminator_layers=5),
        batch=lambda: unpaired(128),
        small=lambda: (UNIT(**SMALL_UNIT), unpaired(32)),
        plain=None,
        official_seconds=None,
        official_gflop=None,
    ),
    "unit_digits": MeasuredRoom(
        configuration="SVHN to MNIST: generator of 96 channels, discriminator of 64, batch 8, 32x32",
        make=UNITDigits,
        batch=lambda: digits(8),
        small=lambda: (UNITDigits(**SMALL_DIGITS), digits(2, (1, 1))),
        plain=None,
        official_seconds=None,
        official_gflop=None,
    ),
    "unit_munit_style": MeasuredRoom(
        configuration="later generation: generators of 16 channels and 4 residual blocks, discriminators of 16 channels and 4 layers at 3 "
        "sizes, batch 1, 128x128",
        make=unit,
        batch=lambda: unpaired(128),
        small=lambda: (UNIT(**LATER_UNIT, **SMALL_UNIT), unpaired(32)),
        plain=plain_unit,
        official_seconds=0.87,
        official_gflop=43.0,
        redundant=True,
    ),
}
