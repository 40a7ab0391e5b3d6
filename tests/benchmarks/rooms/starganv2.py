"""StarGAN v2, without high-pass skips."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.blocks.adversarial import r1_penalty
from zoo.starganv2 import StarGANv2

from .common import Iteration, MeasuredRoom, pictures


def starganv2() -> StarGANv2:
    """The room at the official configuration."""
    return StarGANv2(image_size=64, channels=32, max_channels=128)


SMALL_STARGAN: dict[str, Any] = {
    "image_size": 32,
    "channels": 2,
    "max_channels": 4,
    "style_channels": 3,
    "latent_channels": 2,
    "mapping_channels": 4,
}


def domains(size: int, batch_size: int) -> dict[str, Tensor]:
    """A batch of pictures and references of three domains."""
    keys = ("image", "reference", "reference2")
    images = {key: pictures(batch_size, 3, size, size, seed=seed) for seed, key in enumerate(keys)}
    places = torch.arange(batch_size)
    return {**images, "domain": places % 3, "reference_domain": (places + 1) % 3}


def plain_starganv2(batch: dict[str, Tensor]) -> Iteration:
    """StarGAN v2's iteration: the discriminator by latents and by references, then the generator; and the averages."""
    room, image, domain, target = starganv2(), batch["image"], batch["domain"], batch["reference_domain"]
    generator, mapping, encoder, judge = room.generator, room.mapping_network, room.style_encoder, room.discriminator
    networks = (judge, generator, mapping, encoder)
    adams = [
        torch.optim.Adam(n.parameters(), 1e-6 if n is mapping else 1e-4, (0.0, 0.99), weight_decay=1e-4)
        for n in networks
    ]

    def judging(style_of: Callable[[], Tensor]) -> None:
        judge.requires_grad_(True)
        adams[0].zero_grad()
        with torch.no_grad():
            fake = generator(image, style_of())
        real = image.clone().requires_grad_()
        logits = judge(real, domain)
        loss = F.softplus(-logits).mean() + F.softplus(judge(fake, target)).mean() + r1_penalty(logits, real)
        loss.backward()
        adams[0].step()

    def making(style_of: Callable[[int], Tensor], moving: list[torch.optim.Adam]) -> None:
        judge.requires_grad_(False)
        for adam in adams[1:]:
            adam.zero_grad()
        style = style_of(0)
        fake = generator(image, style)
        with torch.no_grad():
            other = generator(image, style_of(1))
        loss = F.softplus(-judge(fake, target)).mean() + F.l1_loss(encoder(fake, target), style)
        loss = loss - 2 * F.l1_loss(fake, other) + F.l1_loss(generator(fake, encoder(image, domain)), image)
        loss.backward()
        for adam in moving:
            adam.step()

    def iteration() -> None:
        latents = torch.randn(2, len(image), room.latent_channels)
        references = (batch["reference"], batch["reference2"])
        encoder.requires_grad_(True)
        judging(lambda: mapping(latents[0], target))
        judging(lambda: encoder(references[0], target))
        making(lambda which: mapping(latents[which], target), adams[1:])
        encoder.requires_grad_(False)
        making(lambda which: encoder(references[which], target), adams[1:2])
        room.ema.update(0)

    return iteration


MEASURED = {
    "starganv2": MeasuredRoom(
        configuration="networks of 32 to 128 channels, style code 64, 3 domains, no high-pass skips, batch 4, 64x64",
        make=starganv2,
        batch=lambda: domains(64, 4),
        small=lambda: (StarGANv2(**SMALL_STARGAN), domains(32, 2)),
        plain=plain_starganv2,
        official_seconds=2.79,
        official_gflop=150.2,
        redundant=True,
    ),
}
