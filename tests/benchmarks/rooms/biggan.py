"""BigGAN and BigGAN-deep."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from zoo.biggan import BigGAN
from zoo.biggan.losses import hinge_discriminator_loss, hinge_generator_loss

from .common import Iteration, MeasuredRoom, labelled

SMALL_BIGGAN: dict[str, Any] = {
    "image_size": 32,
    "classes": 3,
    "generator_channels": 4,
    "discriminator_channels": 2,
    "generator_attention": (16,),
    "discriminator_attention": (),
    "latent_channels": 8,
    "class_channels": 4,
    "discriminator_steps": 2,
    "discriminator_accumulations": 2,
    "generator_accumulations": 2,
}


def biggan(deep: bool = False) -> BigGAN:
    """The room, or BigGAN-deep, at the official configuration."""
    return BigGAN(
        image_size=64,
        deep=deep,
        generator_channels=32,
        discriminator_channels=32,
        generator_attention=(32,),
        discriminator_attention=(32,),
        latent_channels=128 if deep else 120,
        discriminator_accumulations=1,
        generator_accumulations=1,
    )


def plain_biggan(batch: dict[str, Tensor], deep: bool = False) -> Iteration:
    """BigGAN's iteration: one step of the discriminator, one of the generator, and the average of its weights and buffers."""
    room, image, label = biggan(deep), batch["image"], batch["domain"]
    generator, judge, average = room.generator, room.discriminator, room.inference_generator
    adam_making, adam_judging = (
        torch.optim.Adam(network.parameters(), rate, (0.0, 0.999), 1e-6)
        for network, rate in ((generator, 1e-4), (judge, 4e-4))
    )

    def codes() -> tuple[Tensor, Tensor]:
        return torch.randn(len(image), room.latent_channels), torch.randint(room.classes, (len(image),))

    def iteration() -> None:
        judge.requires_grad_(True)
        adam_judging.zero_grad()
        latent, fake_label = codes()
        with torch.no_grad():
            fake = generator(latent, fake_label)
        fake_logits, real_logits = judge(torch.cat([fake, image]), torch.cat([fake_label, label])).chunk(2)
        real_loss, fake_loss = hinge_discriminator_loss(real_logits, fake_logits)
        (real_loss + fake_loss).backward()
        adam_judging.step()
        judge.requires_grad_(False)
        adam_making.zero_grad()
        latent, fake_label = codes()
        hinge_generator_loss(judge(generator(latent, fake_label), fake_label)).backward()
        adam_making.step()
        with torch.no_grad():
            for kept, value in zip(average.state_dict().values(), generator.state_dict().values(), strict=True):
                if kept.is_floating_point():
                    kept.lerp_(value, 1e-4)

    return iteration


def draw_one(room: BigGAN, batch: dict[str, Tensor]) -> None:
    """Draw a picture of one class; there is nothing to translate."""
    latent = torch.zeros(1, room.latent_channels)
    room.generate(latent, batch["domain"][:1])


BIGGAN = "64x64, attention at 32, 1000 classes, batch 8, one step of the discriminator, one accumulation"


MEASURED = {
    "biggan": MeasuredRoom(
        configuration=f"32 channels, {BIGGAN}",
        make=biggan,
        batch=lambda: labelled(64, 8, 1000),
        small=lambda: (BigGAN(**SMALL_BIGGAN), labelled(32, 8, 3)),
        plain=plain_biggan,
        official_seconds=1.77,
        official_gflop=153.4,
        infer=draw_one,
    ),
    "biggan_deep": MeasuredRoom(
        configuration=f"BigGAN-deep of 32 channels, {BIGGAN}",
        make=partial(biggan, deep=True),
        batch=lambda: labelled(64, 8, 1000),
        small=lambda: (BigGAN(deep=True, **SMALL_BIGGAN), labelled(32, 8, 3)),
        plain=partial(plain_biggan, deep=True),
        official_seconds=0.93,
        official_gflop=45.5,
        infer=draw_one,
    ),
}
