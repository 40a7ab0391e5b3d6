"""HiDT, and the network that enhances its translations."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.hidt import HiDT
from zoo.hidt.enhancement import HiDTEnhancer
from zoo.hidt.losses import distribution_loss, fake_loss, mask_loss, real_loss
from zoo.hidt.model import swap_halves

from .common import Iteration, MeasuredRoom, unpaired

SMALL_HIDT: dict[str, Any] = {
    "generator_channels": 5,
    "encoder_blocks": 1,
    "decoder_blocks": 1,
    "mapping_channels": 6,
    "discriminator_channels": 3,
    "discriminator_levels": 2,
    "inference_size": 32,
}
SMALL_ENHANCER: dict[str, Any] = {
    "translator": "random",
    "generator_channels": 5,
    "encoder_blocks": 1,
    "decoder_blocks": 1,
    "mapping_channels": 6,
    "enhancer_channels": 4,
    "enhancer_groups": 1,
    "enhancer_growth": 2,
    "discriminator_channels": 2,
    "discriminator_layers": 2,
    "perceptual": None,
    "crop": 8,
    "inference_size": 16,
}


def hidt() -> HiDT:
    """The room at the configuration of the reference."""
    return HiDT(
        generator_channels=12,
        mask_channels=9,
        discriminator_channels=16,
        discriminator_levels=3,
        discriminator_max_channels=64,
        inference_size=64,
    )


def labelled_pictures(size: int, classes: int) -> dict[str, Tensor]:
    """A batch of two pictures with labels of their regions."""
    batch = unpaired(size)
    for name in ("source", "target"):
        batch[f"{name}_labels"] = (batch[name][:, 0] + 1).mul(classes / 2).long().clamp(0, classes - 1)
    return batch


def plain_hidt(batch: dict[str, Tensor]) -> Iteration:
    """HiDT's iteration: both discriminators, then encoders and decoder; the pool of styles is full."""
    room = hidt()
    generator, judges = room.generator, room.discriminators
    adam_making, adam_judging = (
        torch.optim.Adam(network.parameters(), 1e-4, (0.5, 0.999)) for network in (generator, judges)
    )
    x = torch.cat([batch["source"], batch["target"]])
    labels = torch.cat([batch["source_labels"], batch["target_labels"]])
    pool = torch.randn(100, room.latent_channels)

    def scores(pictures: list[Tensor], styles: list[Tensor]) -> list[tuple[Tensor, ...]]:
        images, style = torch.cat(pictures), torch.cat(styles)
        both = judges["unconditional"](images), judges["projection"](images, style)
        return [of.chunk(len(pictures)) for of in both]

    def iteration() -> None:
        content, style = generator.encode(x)
        swapped, random = swap_halves(style), torch.randn_like(style)
        auto, swap, drawn = (generator.decoder(content, wanted) for wanted in (style, swapped, random))
        judges.requires_grad_(True)
        adam_judging.zero_grad()
        seen = scores([x, swap.image.detach(), drawn.image.detach()], [style.detach(), swapped.detach(), random])
        losses = [2 * real_loss(real) + fake_loss(one) + fake_loss(other) for real, one, other in seen]
        torch.stack(losses).sum().backward()
        adam_judging.step()
        judges.requires_grad_(False)
        adam_making.zero_grad()
        seen = scores([swap.image, drawn.image], [swapped.detach(), random])
        loss = 5 * torch.stack([real_loss(of) for pair in seen for of in pair]).sum()
        content_swap, style_swap = generator.encode(swap.image)
        content_drawn, style_drawn = generator.encode(drawn.image)
        cycle = generator.decoder(content_swap, swap_halves(style_swap)).image
        again = generator.decoder(content_drawn, style_drawn).image
        pairs = ((auto.image, x), (again, drawn.image), (cycle, x))
        loss = loss + 2 * torch.stack([F.l1_loss(*pair) for pair in pairs]).sum()
        loss = loss + F.l1_loss(content_swap.code, content.code) + F.l1_loss(content_drawn.code, content.code)
        loss = loss + 0.1 * F.l1_loss(style_swap, swapped) + 4 * F.l1_loss(style_drawn, random)
        loss = loss + 7 * distribution_loss(torch.cat([pool, style]))
        assert swap.mask is not None
        assert drawn.mask is not None
        masks = mask_loss(swap.mask, labels, "log_softmax") + mask_loss(drawn.mask, labels, "log_softmax")
        (loss + 3 * masks).backward()
        adam_making.step()

    return iteration


def enhancer() -> HiDTEnhancer:
    """The room at a size that a laptop's iteration takes about a second for."""
    return HiDTEnhancer(
        translator="random",
        generator_channels=12,
        mask_channels=9,
        enhancer_channels=16,
        enhancer_groups=2,
        enhancer_growth=8,
        discriminator_channels=16,
        perceptual="random",
        perceptual_channels=16,
        crop=32,
        inference_size=32,
    )


MEASURED = {
    "hidt": MeasuredRoom(
        configuration="12 channels, 4 and 5 residual blocks, styles of 3, 9 classes of masks; discriminators of 16 to 64 channels "
        "and 3 levels; 2 pictures, 64x64",
        make=hidt,
        batch=lambda: labelled_pictures(64, 9),
        small=lambda: (HiDT(**SMALL_HIDT), unpaired(32)),
        plain=plain_hidt,
        official_seconds=1.84,
        official_gflop=37.4,
    ),
    "hidt_enhancer": MeasuredRoom(
        configuration="translator of 12 channels, enhancer of 16 with 2 groups, VGG of 16, 2 pictures, 128x128",
        make=enhancer,
        batch=lambda: unpaired(128),
        small=lambda: (HiDTEnhancer(**SMALL_ENHANCER), unpaired(64)),
        plain=None,
        official_seconds=None,
        official_gflop=None,
    ),
}
