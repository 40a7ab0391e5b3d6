"""GP-UNIT, both stages."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import parametrize

from zoo.blocks.adversarial import r1_penalty
from zoo.experts.vgg import VGGFeatures
from zoo.gpunit import GPUNIT
from zoo.gpunit.losses import PERCEPTUAL_LAYERS, perceptual_loss
from zoo.gpunit.prior import PriorDistillation

from .common import Iteration, MeasuredRoom, pairs, unpaired

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


MEASURED = {
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
}
