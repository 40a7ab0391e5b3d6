"""The rooms whose iterations are measured, at the sizes at which the official codes were measured.

The official figures were taken with each paper's official code on a quiet 2-core machine (x86-64, AVX512; PyTorch 2.15, float32, batch
as below), the median after two warm-up iterations, with one thread in effect. That machine needed `OFFICIAL_CALIBRATION` seconds
for the five matrix products of `driving.calibrate`: by it the official seconds are scaled to the present machine. This is rough, for
machines differ in how fast they are at convolutions beside matrix products; what compares on every machine is the operations, and
the time of a plain iteration on the same machine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import parametrize

from zoo.biggan import BigGAN
from zoo.biggan.losses import hinge_discriminator_loss, hinge_generator_loss
from zoo.core import Translator
from zoo.cyclegan import CycleGAN
from zoo.experts.vgg import VGGFeatures
from zoo.gpunit import GPUNIT
from zoo.gpunit.losses import PERCEPTUAL_LAYERS, perceptual_loss, r1_penalty
from zoo.gpunit.prior import PriorDistillation
from zoo.unit import UNIT
from zoo.unit.losses import adversarial_loss, discriminator_loss, kl_loss

Iteration = Callable[[], None]

OFFICIAL_CALIBRATION = 0.535


@dataclass(frozen=True)
class MeasuredRoom:
    """A room at the size of the official measurement.

    Attributes:
        configuration: what is measured, in words.
        make: builds the room.
        batch: makes a training batch.
        small: the room and a batch at widths and sizes that take no time, for what does not depend on them.
        plain: makes the same iteration in plain PyTorch, with the room's networks and nothing of the house around them.
        official_seconds: of one official iteration.
        official_gflop: of one official iteration; None where it was not counted.
    """

    configuration: str
    make: Callable[[], Translator]
    batch: Callable[[], dict[str, Tensor]]
    small: Callable[[], tuple[Translator, dict[str, Tensor]]]
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


SMALL_GPUNIT: dict[str, Any] = {
    "image_size": 64,
    "content_channels": 2,
    "generator_channels": 2,
    "style_channels": 6,
    "style_width": 4,
    "bottleneck": 4,
    "discriminator_channels": 2,
    "discriminator_max_channels": 4,
    "content_encoder": "random",
    "perceptual": "random",
    "perceptual_channels": 2,
    "latent_channels": 5,
    "sampler_channels": 8,
}
SMALL_PRIOR: dict[str, Any] = {
    "image_size": 64,
    "channels": 2,
    "domains": 3,
    "perceptual": "random",
    "perceptual_channels": 2,
}


def gpunit() -> GPUNIT:
    """The room at the official configuration."""
    return GPUNIT(
        content_channels=16,
        generator_channels=16,
        style_width=16,
        discriminator_max_channels=128,
        content_encoder="random",
        perceptual="random",
        perceptual_channels=16,
    )


def plain_gpunit(batch: dict[str, Tensor]) -> Iteration:
    """GP-UNIT's iteration of the second stage, without the mirror."""
    room, source, target = gpunit(), batch["source"], batch["target"]
    encoder, generator, judge, layers = room.content_encoder, room.generator, room.discriminator, room.style_layers
    vgg = VGGFeatures(19, PERCEPTUAL_LAYERS, base_channels=room.perceptual_channels)
    making, judging = list(generator.parameters()), list(judge.parameters())
    adam_making, adam_judging = (torch.optim.Adam(p, 1e-4, (0.0, 0.99), weight_decay=1e-4) for p in (making, judging))

    def iteration() -> None:
        with torch.no_grad():
            contents, own_contents, wanted = encoder(source), encoder(target), vgg(target)
        judge.requires_grad_(False)
        adam_making.zero_grad()
        code = generator.encode_style(target)
        fake, masks = generator(contents, code)
        again, _ = generator(own_contents, code, skip=False)
        with parametrize.cached():
            logits, (style,) = judge(fake, layers)
            with torch.no_grad():
                (wanted_style,) = judge.describe(target, layers)
        loss = F.softplus(-logits).mean() + F.l1_loss(encoder(fake)[0], contents[0])
        loss = loss + 50 * F.l1_loss(style, wanted_style) + torch.stack([mask.mean() for mask in masks]).sum()
        (loss + F.l1_loss(again, target) + perceptual_loss(vgg(again), wanted)).backward()
        adam_making.step()
        judge.requires_grad_(True)
        adam_judging.zero_grad()
        with torch.no_grad():
            fake, _ = generator(contents, generator.encode_style(target))
        real = target.clone().requires_grad_()
        with parametrize.cached():
            real_logits, fake_logits = judge(real)[0], judge(fake)[0]
            loss = F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()
            (loss + r1_penalty(real_logits, real)).backward()
        adam_judging.step()
        with torch.no_grad():
            for average, parameter in zip(room.averaged.parameters(), making, strict=True):
                average.lerp_(parameter, 1e-3)

    return iteration


def gpunit_prior() -> PriorDistillation:
    """The room at the official configuration."""
    return PriorDistillation(channels=16, perceptual="random", perceptual_channels=16)


def pairs(size: int, batch_size: int, domains: int) -> dict[str, Tensor]:
    """A batch of pictures, and of pairs `x` and `y`, with their domains and masks."""
    batch = {}
    for number, name in enumerate(("image", "x", "y")):
        domain, mask = ("domain", "mask") if name == "image" else (f"{name}_domain", f"{name}_mask")
        batch[name] = pictures(batch_size, 3, size, size, seed=number)
        batch[domain] = (torch.arange(batch_size) + number) % domains
        batch[mask] = pictures(batch_size, 3, size, size, seed=3 + number)
    return batch


def plain_gpunit_prior(batch: dict[str, Tensor]) -> Iteration:
    """GP-UNIT's iteration of the first stage, without the mirror."""
    room = gpunit_prior()
    vgg = VGGFeatures(19, PERCEPTUAL_LAYERS, base_channels=room.perceptual_channels)
    adam = torch.optim.Adam(room.parameters(), 2e-4)
    images = torch.cat([batch["image"], batch["x"], batch["y"]])
    labels = torch.cat([batch["domain"], batch["x_domain"], batch["y_domain"]])
    masks = F.interpolate(torch.cat([batch["mask"], batch["x_mask"], batch["y_mask"]]), (16, 16), mode="bilinear")
    single = len(batch["image"])

    def iteration() -> None:
        adam.zero_grad()
        content = room.content_encoder(images)[0]
        noisy = content + 0.2 * torch.randn_like(content)
        again, drawn = room.decode(noisy, labels, room.style_encoder(images))
        with torch.no_grad():
            wanted = vgg(images)
        loss = F.mse_loss(again, images) + perceptual_loss(vgg(again), wanted) + 5 * F.l1_loss(drawn, masks)
        _, x, y = content.chunk(3)
        loss = loss + F.l1_loss(x, y.detach()) + 0.001 * content.norm()
        loss = loss + F.cross_entropy(room.classifier(content), labels)
        _, noisy_x, noisy_y = noisy.chunk(3)
        exchanged = room.content_layer(torch.cat([noisy_y, noisy_x]))
        moved = room.decoder.mask(exchanged, room.embedding(labels[single:]))
        (loss + 5 * F.l1_loss(moved, masks[single:])).backward()
        adam.step()

    return iteration


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


def labelled(size: int, batch_size: int, classes: int) -> dict[str, Tensor]:
    """A batch of pictures with the numbers of their classes."""
    return {"image": pictures(batch_size, 3, size, size, seed=1), "domain": torch.arange(batch_size) % classes}


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


BIGGAN = "64x64, attention at 32, 1000 classes, batch 8, one step of the discriminator, one accumulation"

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


ROOMS = {
    "biggan": MeasuredRoom(
        configuration=f"32 channels, {BIGGAN}",
        make=biggan,
        batch=lambda: labelled(64, 8, 1000),
        small=lambda: (BigGAN(**SMALL_BIGGAN), labelled(32, 8, 3)),
        plain=plain_biggan,
        official_seconds=1.77,
        official_gflop=153.4,
    ),
    "biggan_deep": MeasuredRoom(
        configuration=f"BigGAN-deep of 32 channels, {BIGGAN}",
        make=partial(biggan, deep=True),
        batch=lambda: labelled(64, 8, 1000),
        small=lambda: (BigGAN(deep=True, **SMALL_BIGGAN), labelled(32, 8, 3)),
        plain=partial(plain_biggan, deep=True),
        official_seconds=0.93,
        official_gflop=45.5,
    ),
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
    "gpunit": MeasuredRoom(
        configuration="second stage; content encoder and generator of 16 channels, style code 256, style encoder 16, discriminator "
        "64 to 128, VGG of 16, batch 1, 256x256",
        make=gpunit,
        batch=lambda: unpaired(256),
        small=lambda: (GPUNIT(**SMALL_GPUNIT), unpaired(64)),
        plain=plain_gpunit,
        official_seconds=6.34,
        official_gflop=340.9,
    ),
    "gpunit_prior": MeasuredRoom(
        configuration="first stage; 16 channels, 292 classes, VGG of 16, batch 2 (6 pictures), 256x256",
        make=gpunit_prior,
        batch=lambda: pairs(256, 2, 292),
        small=lambda: (PriorDistillation(**SMALL_PRIOR), pairs(64, 2, 3)),
        plain=plain_gpunit_prior,
        official_seconds=1.60,
        official_gflop=81.9,
    ),
    "unit": MeasuredRoom(
        configuration="later generation: generators of 16 channels and 4 residual blocks, discriminators of 16 channels and 4 layers at 3 "
        "sizes, batch 1, 128x128",
        make=unit,
        batch=lambda: unpaired(128),
        small=lambda: (UNIT(**SMALL_UNIT), unpaired(32)),
        plain=plain_unit,
        official_seconds=0.87,
        official_gflop=43.0,
    ),
}
