"""SinGAN: the model. `zoo.singan` tells the story."""

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from zoo.blocks.single_image import MASK_RADII, blend, gradient_penalty, soft_mask, stage_work, walk
from zoo.blocks.tensor_list import TensorList
from zoo.core import Player, Translator, sync
from zoo.core.images import resize_cubic
from zoo.core.precision import full
from zoo.errors import ZooError
from zoo.singan.losses import judge
from zoo.singan.networks import Discriminator, Generator
from zoo.singan.pyramid import Plan, Size, climb, pad, passes, plan, pyramid, upsample

WIDEST = 128  # channels
SCALES_PER_WIDTH = 4  # after so many scales networks are twice as wide, and begin anew


class SinGAN(Translator):
    """A pyramid of generators of one picture, and what it does to pictures like it.

    Batches have `image`, 1 3 h w in [-1, 1], always the same. What the model knows of the picture (its pyramid, the noise maps that
    reconstruct it, the amplitudes of noise) is part of its state.

    Inference uses the generators of all scales that were begun, in eval mode. Scales learn one after the other, which the recipe's
    `GrowScales` sees to: there are as many as the picture's size asks for.

    Args:
        channels: of the networks' first layers, at the first four scales; twice as many at the next four, up to 128.
        least_channels: of their other layers, at least; doubled likewise.
        layers: convolutions of a network.
        min_size: shorter side of the first scale, in pixels.
        max_size: longer side of the last, in pixels.
        scale_factor: size of a scale, of the next one's; changed a little to fit.
        noise_border: noise reaches beyond borders in training, as animations want it.
        super_resolution: by what the model will enlarge its picture; null where it won't. It takes the place of `scale_factor`.
        stage_iterations: iterations per scale.
        decay_iteration: the iteration of a scale from which its rates are a tenth; null for none.
        learning_rate: of Adam.
        betas: of Adam.
        critic_steps: of the discriminator per iteration.
        generator_steps: of the generator per iteration.
        stale_fake: whether these steps share one fake, whose gradients mix old activations with new weights, as in PyTorch up to 1.4 (and
            in the paper's results); else each step makes the fake anew.
        picture_interval: iterations after which the official code looks at its reconstruction, which moves running statistics.
        lambda_gradient: weight of the gradient penalty.
        lambda_reconstruction: weight of the reconstruction.
        noise_amplitude: of a scale's noise, as a share of what the scales below leave unexplained.

    Raises:
        ZooError: settings that do not go together.
    """

    def __init__(
        self,
        channels: int = 32,
        least_channels: int = 32,
        layers: int = 5,
        min_size: int = 25,
        max_size: int = 250,
        scale_factor: float = 0.75,
        noise_border: bool = False,
        super_resolution: float | None = None,
        stage_iterations: int = 2000,
        decay_iteration: int | None = 1600,
        learning_rate: float = 5e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        critic_steps: int = 3,
        generator_steps: int = 3,
        stale_fake: bool = True,
        picture_interval: int = 500,
        lambda_gradient: float = 0.1,
        lambda_reconstruction: float = 10.0,
        noise_amplitude: float = 0.1,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if not 0 < scale_factor < 1 or (super_resolution is not None and super_resolution <= 1):
            raise ZooError(
                f"scale_factor is {scale_factor}, super_resolution is {super_resolution}; the first lies between 0 and 1, the "
                "second is above 1, or null."
            )
        self.channels, self.least_channels, self.layers = channels, least_channels, layers
        self.generators = nn.ModuleList([self.new_generator(0)])
        self.discriminator = self.new_discriminator(0)
        self.whole = TensorList()  # the picture, shrunk to the largest size
        self.reals = TensorList()  # the picture at each scale
        self.fixed = TensorList()  # noise maps of the reconstruction, with their borders
        self.amplitudes = TensorList()  # of each scale's noise

        self.min_size, self.max_size, self.super_resolution = min_size, max_size, super_resolution
        self.scale_factor = scale_factor if super_resolution is None else 1 / passes(super_resolution)[1]
        self.noise_border, self.first_stage = noise_border, 0
        self.stage_iterations, self.decay_iteration = stage_iterations, decay_iteration
        self.adam = partial(Adam, lr=learning_rate, betas=betas)
        self.critic_steps, self.generator_steps, self.stale_fake = critic_steps, generator_steps, stale_fake
        self.picture_interval = picture_interval
        self.lambda_gradient, self.lambda_reconstruction = lambda_gradient, lambda_reconstruction
        self.noise_amplitude = noise_amplitude
        self.usage = f"lightning single {'enlarge' if super_resolution else 'sample'} {{run}} --output made"
        self._previous: Tensor | None = None  # the reconstruction of the scales below, with its border

    # Scales

    def widths(self, scale: int) -> tuple[int, int]:
        """Channels of a scale's first layer, and the least ones of the others."""
        factor = 2 ** (scale // SCALES_PER_WIDTH)
        return min(self.channels * factor, WIDEST), min(self.least_channels * factor, WIDEST)

    def new_generator(self, scale: int) -> Generator:
        """A generator with random weights."""
        return Generator(*self.widths(scale), self.layers)

    def new_discriminator(self, scale: int) -> Discriminator:
        """A discriminator with random weights."""
        return Discriminator(*self.widths(scale), self.layers)

    def plan_for(self, size: Size) -> Plan:
        """The scales of a picture of this height and width."""
        given = (size, self.min_size, self.max_size, self.scale_factor)
        return plan(*given, super_resolution=self.super_resolution is not None)

    def scale_count(self, size: Size) -> int:
        """How many scales a picture of this height and width has."""
        return self.plan_for(size).count

    def setup(self, stage: str) -> None:
        """Look whether the picture suits the pyramid, and the pyramid the discriminator."""
        super().setup(stage)
        size = getattr(getattr(self.trainer, "datamodule", None), "picture_size", None)
        if stage == "fit" and self.min_size <= 2 * self.layers:
            found = f"min_size is {self.min_size}, and the discriminator needs {2 * self.layers + 1} pixels"
            raise ZooError(f"{found}: --model.min_size 25")
        if stage == "fit" and size is not None:
            self.plan_for(size)

    def build_stage(self, stage: int) -> None:
        """Add a generator, a copy of the last one; where networks get wider, both begin anew. Lower scales stay as they are."""
        last = self.generators[-1]
        wider = self.widths(stage) != self.widths(stage - 1)
        self.generators.append(self.new_generator(stage) if wider else copy.deepcopy(last).requires_grad_(True))
        if wider:
            self.discriminator = self.new_discriminator(stage)
        last.requires_grad_(False)
        self._previous = None
        self.train(self.training)

    def enter_stage(self, stage: int) -> None:
        """Enter a scale with new optimisers."""
        super().enter_stage(stage)
        for optimizer in self.trainer.optimizers:
            optimizer.state.clear()

    def train(self, mode: bool = True) -> "SinGAN":
        """Keep the scales that learn no more in eval mode."""
        super().train(mode)
        for generator in self.generators[:-1]:
            generator.eval()
        return self

    @property
    def ratio(self) -> float:
        """The size of a scale, of the next one's."""
        top = self.reals[-1]
        return (self.min_size / min(top.shape[-2:])) ** (1 / (len(self.reals) - 1))

    @property
    def sizes(self) -> list[Size]:
        """Height and width of the picture at each scale that there is."""
        return [(real.shape[-2], real.shape[-1]) for real in self.reals][: len(self.generators)]

    @property
    def progress_note(self) -> str:
        """Where the training stands, for the progress bar."""
        if not len(self.reals):
            return ""
        height, width = self.sizes[-1]
        return f"scale {self.stage + 1} of {len(self.reals)}, {width}x{height}"

    def workload(self, begin: int, end: int) -> float:
        """How much work iterations are: with a scale's size grows the time that they take."""
        if not len(self.reals):
            return float(end - begin)
        skipped = self.first_stage * self.stage_iterations
        sizes = [real.shape[-2:] for real in self.reals]
        return stage_work(begin + skipped, end + skipped, self.stage_iterations, sizes)

    def keep_picture(self, image: Tensor) -> None:
        """Make the pyramid of the picture 1 3 h w."""
        scales = self.plan_for((image.shape[-2], image.shape[-1]))
        self.whole.append(resize_cubic(image, scales.shrink))
        for real in pyramid(image, scales):
            self.reals.append(real)

    def begin_scale(self, batch: Mapping[str, Tensor]) -> None:
        """Make the pyramid, and measure how much noise a scale is given from then on."""
        if not len(self.reals):
            self.keep_picture(batch["image"])
        scale, real = len(self.fixed), self.reals[len(self.fixed)]
        amplitude = real.new_ones(())
        if scale > 0:
            unexplained = F.mse_loss(self.reconstruct_below(), real)
            amplitude = self.noise_amplitude * sync.mean_over_ranks(unexplained).sqrt()
        self.fixed.append(self.pad(torch.zeros_like(real)))
        self.amplitudes.append(amplitude)

    # Training

    def configure_optimizers(self) -> list[Optimizer]:
        """Adam for the newest generator and for the discriminator."""
        generator, critic = self.generators[-1], self.discriminator
        return self.players(
            Player("generator", self.adam(generator.parameters()), [generator], self.rate_factor),
            Player("discriminator", self.adam(critic.parameters()), [critic], self.rate_factor),
        )

    def rate_factor(self, iteration: int) -> float:
        """Factor of the learning rates in an iteration of the training: 1, and a tenth at the end of a scale."""
        position = iteration - self.stage * self.stage_iterations
        return 0.1 if self.decay_iteration is not None and position >= self.decay_iteration else 1.0

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Some steps of the critic, each on a new fake but for this scale's noise; then some of the generator on the last of these."""
        if len(self.fixed) < len(self.generators):
            self.begin_scale(batch)
        scale, real = self.stage, self.reals[self.stage]
        if scale == 0:  # the map of the reconstruction is drawn anew, and stays as the last iteration drew it
            self.fixed[0].copy_(self.draw_map(0, self.sizes[0], self.noise_border))
            sync.broadcast_module(self.fixed)  # ranks draw apart, and the reconstruction is one for all
        noise = self.draw_map(scale, self.sizes[scale], self.noise_border)
        given = (noise, noise)
        for step in range(self.critic_steps):
            previous = self.pad(self.random_below())
            given = (self.amplitudes[scale] * noise + previous, previous)
            with torch.set_grad_enabled(step == self.critic_steps - 1):
                fake = self.generators[scale](*given)  # 1 3 h w
            self.update_discriminator(real, fake.detach())
        self.update_generator(real, fake, given)
        position = self.iteration - scale * self.stage_iterations
        if position % self.picture_interval == 0 or position == self.stage_iterations - 1:
            with torch.no_grad():  # the official code saves a picture: the pass moves running statistics
                self.reconstruct()

    def update_discriminator(self, real: Tensor, fake: Tensor) -> None:
        """Tell the picture's patches from generated ones, in passes of their own: each has its own batch statistics."""
        share = self.draws.uniform("gp_alpha", (1, 1))
        with self.player("discriminator") as player:
            on_real, on_fake = full(self.discriminator(real)), full(self.discriminator(fake))
            real_loss, fake_loss = -on_real.mean(), on_fake.mean()
            penalty = gradient_penalty(self.discriminator, real, fake, share)
            player.minimize(real_loss + fake_loss + self.lambda_gradient * penalty)
        self.log_terms({"discriminator_real": real_loss, "discriminator_fake": fake_loss, "gradient_penalty": penalty})
        self.terms.compare("discriminator", on_real, on_fake)

    def update_generator(self, real: Tensor, fake: Tensor, given: tuple[Tensor, Tensor]) -> None:
        """Pass for the picture, and give it back for the fixed noise maps; several steps, by default all with the same fake."""
        generator = self.generators[self.stage]
        adversarial, slope = judge(self.discriminator, fake, self.generator_steps if self.stale_fake else 1)
        for step in range(self.generator_steps):
            if step and not self.stale_fake:
                fake = generator(*given)
                adversarial, slope = judge(self.discriminator, fake, 1)
            # The graph of the fake outlives a step, as PyTorch allowed up to 1.4: it meets the weights that the step has moved.
            outliving = torch.autograd._unsafe_preserve_version_counter(tuple(generator.parameters()))
            with outliving, self.player("generator") as player:
                reconstruction = F.mse_loss(full(self.reconstruct()), real)
                loss = (fake * slope).sum() + self.lambda_reconstruction * reconstruction
                player.minimize(loss, retain_graph=self.stale_fake and step < self.generator_steps - 1)
            self.log_terms({"adversarial": adversarial, "reconstruction": reconstruction})

    def reconstruct(self) -> Tensor:
        """The picture at the newest scale that the fixed noise maps give; the scales below are run once per scale."""
        if self._previous is None:
            self._previous = self.pad(self.reconstruct_below())
        z, amplitude = self.fixed[self.stage], self.amplitudes[self.stage]
        return self.generators[self.stage](amplitude * z + self._previous, self._previous)

    # Chains of scales

    def pad(self, x: Tensor) -> Tensor:
        """Put the border of zeros around b c h w that convolutions take away."""
        return pad(x, self.layers)

    def draw_map(self, scale: int, size: Size, border: bool = False) -> Tensor:
        """A noise map with its border, of zeros or drawn, too; one value for all channels at the first scale."""
        wide = 2 * self.layers if border else 0
        shape = (1, 3 if scale else 1, size[0] + wide, size[1] + wide)
        drawn = self.draws.normal("z", shape, device=self.device).expand(-1, 3, -1, -1)
        return drawn if border else self.pad(drawn)

    def climb(self, image: Tensor, maps: Sequence[Tensor], sizes: Sequence[Size], begin: int = 0) -> Tensor:
        """Run scales from `begin` on, see `zoo.singan.pyramid.climb`."""
        return climb(self.generators, list(self.amplitudes), self.ratio, image, maps, sizes, begin)

    def below(self, maps: Sequence[Tensor]) -> Tensor:
        """What the newest scale starts from, given the maps of those below."""
        blank = torch.zeros_like(self.reals[0])
        if not maps:
            return blank
        return upsample(self.climb(blank, maps, self.sizes), self.ratio, self.sizes[len(maps)])

    def random_below(self) -> Tensor:
        """A random picture of the scales below the newest, at its size; black is 0 where there are none."""
        return self.below([self.draw_map(n, size, self.noise_border) for n, size in enumerate(self.sizes[:-1])])

    def reconstruct_below(self) -> Tensor:
        """The reconstruction of the scales below the newest, at its size."""
        return self.below(list(self.fixed)[: len(self.generators) - 1])

    # Inference

    def require_scale(self) -> None:
        """Refuse to infer before the newest scale has begun, by a ZooError."""
        if len(self.fixed) < len(self.generators):
            raise ZooError("This SinGAN has not begun to learn its picture: train it first (lightning fit).")

    def sample(
        self, count: int = 1, *, height: float = 1.0, width: float = 1.0, start: int = 0, seed: int = 0
    ) -> list[Tensor]:
        """Random pictures of the training picture's kind.

        Args:
            count: how many.
            height: of the results, in heights of the training picture.
            width: likewise.
            start: the first scale that draws; those below reconstruct, so that a later start keeps more of the layout.
            seed: the same one gives the same pictures.

        Returns:
            1 3 h w each, mostly in [-1, 1].

        Raises:
            ZooError: there is no such scale, or reconstruction is asked for at another size.
        """
        self.require_scale()
        self.require_start(start, 0)
        if start and (height, width) != (1.0, 1.0):
            raise ZooError(
                f"start is {start}, and the scales below know their own size alone: leave height and width at 1."
            )
        with self.aside("sample", seed):
            return [self.random_picture(height, width, start) for _ in range(count)]

    def random_picture(self, height: float = 1.0, width: float = 1.0, start: int = 0) -> Tensor:
        """One of `sample`."""
        sizes = [(round(h * height), round(w * width)) for h, w in self.sizes]
        maps = [self.fixed[n] if n < start else self.draw_map(n, size) for n, size in enumerate(sizes)]
        return self.climb(self.reals[0].new_zeros(1, 3, *sizes[0]), maps, sizes)

    def require_start(self, start: int, least: int) -> None:
        """Refuse a scale that there is not, by a ZooError."""
        if not least <= start < len(self.generators):
            raise ZooError(f"start is {start}; the scales are {least} to {len(self.generators) - 1}: --start {least}")

    def translate(
        self,
        image: Tensor,
        *,
        to: str = "target",
        mask: Tensor | None = None,
        start: int | None = None,
        task: Literal["harmonization", "editing", "paint"] = "harmonization",
    ) -> Tensor:
        """Let the fine scales paint a picture anew: harmonise a composite, blend an edited picture, or turn paint into a photograph.

        Args:
            image: b 3 h w in [-1, 1], of any size.
            to: the one domain there is, `target`.
            mask: b c h w in [-1, 1], black but for what was changed; the rest is then taken from the training picture.
            start: the first scale that paints: a low one changes much. By default the second last for composites, and for paint a
                low one.
            task: what the picture is; it decides the default start, and by how much the mask is grown.

        Returns:
            b 3 h w of the training picture's size at the newest scale, mostly in [-1, 1].

        Raises:
            ZooError: there is no such scale, or the training has not begun.
        """
        if to != "target":
            raise ZooError(f"SinGAN translates into the style of its one picture, 'target', and not into {to!r}.")
        self.require_scale()
        last = len(self.generators) - 1
        if last < 1:
            raise ZooError("This SinGAN has one scale so far; it paints pictures anew from the second on: train it on.")
        if start is None:
            start = max(1, last // 3) if task == "paint" else max(1, last - 1)
        self.require_start(start, 1)
        with self.aside("translate"):
            results = torch.cat([self.inject(one, start) for one in image.split(1)])
            if mask is None or task == "paint":
                return results
            if mask.shape[-1] != results.shape[-1]:
                mask = resize_cubic(mask, size=self.sizes[-1])
            base = self.whole[0] if last == len(self.reals) - 1 else self.reals[last]
            return blend(soft_mask(mask, MASK_RADII[task]), results, base)

    def prepare(self, image: Tensor, start: int) -> Tensor:
        """A picture 1 3 h w as scale `start` takes it: made as blurred as what the scale below gives."""
        top = self.sizes[-1]
        if image.shape[-1] != top[1]:
            image = resize_cubic(image, size=top)
        height, width = self.sizes[start - 1]
        coarse = resize_cubic(image, self.ratio ** (len(self.sizes) - start))[..., :height, :width]
        return upsample(coarse, self.ratio, self.sizes[start])

    def inject(self, image: Tensor, start: int) -> Tensor:
        """Paint a picture 1 3 h w anew from a scale on."""
        maps = [self.draw_map(n, self.sizes[n]) for n in range(start, len(self.generators))]
        return self.climb(self.prepare(image, start), maps, self.sizes, start)

    def enlarge(self, factor: float | None = None, *, image: Tensor | None = None, seed: int = 0) -> Tensor:
        """Enlarge the training picture: the last generator adds detail, time and again.

        Args:
            factor: by what; what the model was trained for by default.
            image: another picture 1 3 h w in [-1, 1] of the same kind, in place of the training picture.
            seed: of the noise.

        Returns:
            1 3 h w, mostly in [-1, 1].

        Raises:
            ZooError: the factor is unknown or not above 1.
        """
        self.require_scale()
        factor = self.super_resolution if factor is None else factor
        if factor is None or factor <= 1:
            raise ZooError(
                "Say by what to enlarge: --factor 4. A model does best what it was trained for: --model.super_resolution 4"
            )
        with self.aside("enlarge", seed):
            return self.add_detail(self.reals[len(self.generators) - 1] if image is None else image, factor)

    @torch.no_grad()
    def add_detail(self, image: Tensor, factor: float) -> Tensor:
        """One of `enlarge`."""
        size = [int(factor * side) for side in image.shape[-2:]]
        count, step = passes(factor)
        for number in range(count):
            image = resize_cubic(image, step)
            z = self.draw_map(number, (image.shape[-2], image.shape[-1]))  # the first has one value for all channels
            previous = self.pad(image)
            image = self.generators[-1](self.amplitudes[len(self.generators) - 1] * z + previous, previous)
        return image[..., : size[0], : size[1]]

    def animate(
        self, frames: int = 100, *, alpha: float = 0.1, beta: float = 0.9, start: int = 0, seed: int = 0
    ) -> list[Tensor]:
        """A walk through noise around the training picture; see `zoo.blocks.single_image.walk`.

        Args:
            frames: how many pictures.
            alpha: how strongly the walk is drawn back to the picture.
            beta: how smooth it is.
            start: the first scale that moves: 0 gives the strongest motion.
            seed: the same one gives the same walk.

        Returns:
            1 3 h w each, mostly in [-1, 1].

        Raises:
            ZooError: there is no such scale.
        """
        self.require_scale()
        self.require_start(start, 0)
        with self.aside("animate", seed):
            return self.wander(frames, alpha, beta, start)

    def wander(self, frames: int, alpha: float, beta: float, start: int) -> list[Tensor]:
        """The pictures of a walk, see `animate`; noise is drawn scale by scale, as in the official code."""
        tracks: list[list[Tensor]] = []
        for scale, size in enumerate(self.sizes):
            fixed = before = self.fixed[scale]
            now = 0.95 * fixed + 0.05 * self.draw_map(scale, size, True)
            track = []
            for _ in range(frames):
                before, now = now, walk(fixed, now, before, self.draw_map(scale, size, True), alpha, beta)
                track.append(fixed if scale < start else now)
            tracks.append(track)
        blank = torch.zeros_like(self.reals[0])
        return [self.climb(blank, maps, self.sizes) for maps in zip(*tracks, strict=True)]

    def samples(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Columns of a sample grid: the picture at this scale, its reconstruction, and two samples."""
        if not len(self.fixed):
            return {"picture": batch["image"]}
        scales = len(self.fixed)
        columns = {"picture": self.reals[scales - 1]}
        columns["reconstruction"] = self.climb(torch.zeros_like(self.reals[0]), list(self.fixed), self.sizes)
        return columns | {f"sample {number}": self.random_picture().clamp(-1, 1) for number in (1, 2)}
