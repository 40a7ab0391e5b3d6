"""StyleALAE, at its largest size, and the model for digits."""

from typing import Any

import torch
from torch import Tensor

from zoo.alae import StyleALAE
from zoo.alae.losses import critic_loss, generator_loss, gradient_penalty, latent_loss
from zoo.alae.mlp import MLPALAE
from zoo.alae.optimizer import LREQAdam, equalised_groups

from .common import Iteration, MeasuredRoom, pictures

SMALL_ALAE: dict[str, Any] = {
    "start_channels": 2,
    "most_channels": 4,
    "levels": 3,
    "latent_channels": 6,
    "mapping_layers": 1,
    "epochs_per_level": 0,
    "least_variance": 1e-8,
}


def alae() -> StyleALAE:
    """The room at the official configuration."""
    return StyleALAE(16, 64, 4, 64, 8, epochs_per_level=0)


def plain_alae(batch: dict[str, Tensor]) -> Iteration:
    """ALAE's iteration at the largest size, styles mixed as often as there: the judges, the makers, then both."""
    room, image = alae(), batch["image"]
    encoder, critic, mapping, generator = room.encoder, room.critic, room.mapping, room.generator
    judging, making = [encoder, critic], [generator, mapping]
    adam_judging, adam_making = (LREQAdam(equalised_groups(networks), 0.0015) for networks in (judging, making))
    averages = [(p, p.detach().clone()) for n in (*judging, *making) for p in n.parameters()]
    level = room.levels - 1

    def noisy(x: Tensor, weight: Tensor, number: int) -> Tensor:
        return x + weight * torch.randn(len(x), 1, *x.shape[2:])

    def paint(mix: bool) -> tuple[Tensor, Tensor]:
        w = mapping(torch.randn(len(image), room.latent_channels))
        styles = w[:, None].expand(-1, room.style_count, -1)
        if mix and float(torch.rand(())) < room.mixing_probability:
            first = int(torch.randint(1, room.style_count + 1, ()))
            second = mapping(torch.randn_like(w))[:, None].expand_as(styles)
            styles = torch.cat([styles[:, :first], second[:, first:]], 1)
        return generator(styles, level, 1.0, noisy), w

    def iteration() -> None:
        adam_judging.zero_grad()
        with torch.no_grad():
            fake, _ = paint(True)
        real = image.clone().requires_grad_()
        on_real, on_fake = critic(encoder(real, level)), critic(encoder(fake, level))
        (critic_loss(on_fake, on_real) + 10 * gradient_penalty(on_real, real)).backward()
        adam_judging.step()
        adam_making.zero_grad()
        for network in judging:
            network.requires_grad_(False)
        generator_loss(critic(encoder(paint(True)[0], level))).backward()
        adam_making.step()
        for network in judging:
            network.requires_grad_(True)
        adam_judging.zero_grad()
        adam_making.zero_grad()
        painted, w = paint(False)
        latent_loss(encoder(painted, level), w.detach()).backward()
        adam_judging.step()
        adam_making.step()
        with torch.no_grad():
            for parameter, average in averages:
                average.lerp_(parameter, 1e-3)

    return iteration


MEASURED = {
    "alae": MeasuredRoom(
        configuration="16 to 64 channels, codes of 64, 4 levels, 8 mapping layers, at 32x32, batch 8",
        make=alae,
        batch=lambda: {"image": pictures(8, 3, 32, 32, seed=1)},
        small=lambda: (StyleALAE(**SMALL_ALAE), {"image": pictures(2, 3, 16, 16, seed=1)}),
        plain=plain_alae,
        official_seconds=0.41,
        official_gflop=6.78,
    ),
    "alae_mnist": MeasuredRoom(
        configuration="the model for digits: 1024 features, codes of 50, 6 mapping layers, 28x28, batch 128",
        make=MLPALAE,
        batch=lambda: {"image": pictures(128, 1, 28, 28, seed=1)},
        small=lambda: (
            MLPALAE(image_size=8, hidden=6, latent_channels=4, mapping_layers=2),
            {"image": pictures(2, 1, 8, 8, seed=1)},
        ),
        plain=None,
        official_seconds=None,
        official_gflop=None,
    ),
}
