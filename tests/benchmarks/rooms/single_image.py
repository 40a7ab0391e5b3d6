"""ConSinGAN and SinGAN, at their last stage or scale."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.blocks.single_image import gradient_penalty
from zoo.consingan import ConSinGAN
from zoo.singan import SinGAN

from .common import Iteration, MeasuredRoom, noise_picture

SMALL_CONSINGAN: dict[str, Any] = {"channels": 4, "stages": 4, "min_size": 12, "max_size": 28, "train_depth": 2}
SMALL_SINGAN: dict[str, Any] = {
    "channels": 4,
    "least_channels": 4,
    "min_size": 12,
    "max_size": 28,
    "scale_factor": 0.84,
    "picture_interval": 1_000_000,
}


def grown_consingan(**options: Any) -> ConSinGAN:
    """A ConSinGAN of a picture of noise that stands in its last stage, its networks untrained."""
    room = ConSinGAN(**options)
    with room.aside("measured"):
        for stage in range(room.stages):
            room._grow_to(stage)
            room.begin_stage(noise_picture(48, 64))
    return room.train()


def consingan() -> ConSinGAN:
    """The room at the official configuration."""
    return grown_consingan(channels=32)


def plain_consingan(batch: dict[str, Tensor]) -> Iteration:
    """ConSinGAN's iteration: three steps of the critic on one fake, then three steps of the generator on one gradient."""
    room = consingan()
    network, critic, real = room.generator, room.discriminator, room.reals[room.stage]
    sizes, amplitudes, frozen = room.sizes, list(room.amplitudes), room.frozen_stages
    network.requires_grad_(False)
    learning = [*list(network.body)[frozen:], network.tail]
    making = [parameter for part in learning for parameter in part.parameters()]
    adam_making = torch.optim.Adam(making, 5e-4, (0.5, 0.999))
    adam_judging = torch.optim.Adam(critic.parameters(), 5e-4, (0.5, 0.999))
    shapes = [real.shape if stage < 0 else room.fixed[stage].shape for stage in range(len(sizes))]
    with torch.no_grad():
        kept = network.carry(None, list(room.fixed), sizes, amplitudes, frozen)

    def iteration() -> None:
        maps = [torch.randn(shape) for shape in shapes]
        for parameter in making:
            parameter.requires_grad_(True)
        with torch.no_grad():
            features = network.carry(None, maps, sizes, amplitudes, frozen)
        fake = network.paint(network.carry(features, maps, sizes, amplitudes, len(maps), frozen))
        critic.requires_grad_(True)
        for _ in range(3):
            adam_judging.zero_grad()
            real_logits, fake_logits = critic(torch.cat([real, fake.detach()])).chunk(2)
            penalty = gradient_penalty(critic, real, fake, torch.rand(1, 1))
            (fake_logits.mean() - real_logits.mean() + 0.1 * penalty).backward()
            adam_judging.step()
        critic.requires_grad_(False)
        adam_making.zero_grad()
        again = network.paint(network.carry(kept, list(room.fixed), sizes, amplitudes, len(maps), frozen))
        (10 * F.mse_loss(again, real) - critic(fake).mean()).backward()
        for _ in range(3):
            adam_making.step()

    return iteration


def grown_singan(**options: Any) -> SinGAN:
    """A SinGAN of a picture of noise that stands in its last scale, its networks untrained."""
    room = SinGAN(**options)
    with room.aside("measured"):
        for scale in range(room.scale_count((48, 64))):
            room._grow_to(scale)
            room.begin_scale(noise_picture(48, 64))
    return room.train()


def singan() -> SinGAN:
    """The room at the official configuration, without the pass that the official code makes every 500 iterations for a picture."""
    return grown_singan(picture_interval=1_000_000)


def plain_singan(batch: dict[str, Tensor]) -> Iteration:
    """SinGAN's iteration: three steps of the critic, each on a new fake, then three steps of the generator on the last of these."""
    room = singan()
    network, critic, real = room.generators[-1], room.discriminator, room.reals[room.stage]
    adam_making = torch.optim.Adam(network.parameters(), 5e-4, (0.5, 0.999))
    adam_judging = torch.optim.Adam(critic.parameters(), 5e-4, (0.5, 0.999))
    below, amplitude = room.pad(room.reconstruct_below()), room.amplitudes[-1]
    given = (amplitude * room.fixed[-1] + below, below)

    def iteration() -> None:
        critic.requires_grad_(True)
        noise = room.pad(torch.randn_like(real))
        for step in range(3):
            maps = [torch.randn(1, 3 if n else 1, *size) for n, size in enumerate(room.sizes[:-1])]
            previous = room.pad(room.below([room.pad(z.expand(-1, 3, -1, -1)) for z in maps]))
            with torch.set_grad_enabled(step == 2):
                fake = network(amplitude * noise + previous, previous)
            adam_judging.zero_grad()
            loss = critic(fake.detach()).mean() - critic(real).mean()
            (loss + 0.1 * gradient_penalty(critic, real, fake, torch.rand(1, 1))).backward()
            adam_judging.step()
        critic.requires_grad_(False)
        leaf = fake.detach().requires_grad_()
        (slope,) = torch.autograd.grad(-critic(leaf).mean(), leaf)
        for step in range(3):
            # The fake's graph outlives a step, as PyTorch allowed up to 1.4.
            with torch.autograd._unsafe_preserve_version_counter(tuple(network.parameters())):
                adam_making.zero_grad()
                loss = (fake * slope).sum() + 10 * F.mse_loss(network(*given), real)
                loss.backward(retain_graph=step < 2)
                adam_making.step()

    return iteration


def draw_one(room: ConSinGAN | SinGAN, batch: dict[str, Tensor]) -> None:
    """Draw a picture of the training picture's kind and size."""
    room.sample(1)


MEASURED = {
    "consingan": MeasuredRoom(
        configuration="last of 6 stages of a generation, 32 channels, 3 stages learn, picture of 48x64",
        make=consingan,
        batch=lambda: noise_picture(48, 64),
        small=lambda: (grown_consingan(**SMALL_CONSINGAN), noise_picture(48, 64)),
        plain=plain_consingan,
        official_seconds=0.35,
        official_gflop=9.08,
        redundant=True,
        infer=draw_one,
    ),
    "singan": MeasuredRoom(
        configuration="last of 5 scales, 64 channels, picture of 48x64",
        make=singan,
        batch=lambda: noise_picture(48, 64),
        small=lambda: (grown_singan(**SMALL_SINGAN), noise_picture(48, 64)),
        plain=plain_singan,
        official_seconds=0.72,
        official_gflop=40.7,
        redundant=True,
        infer=draw_one,
    ),
}
