"""ConSinGAN: the model. `zoo.consingan` tells the story."""

from collections.abc import Mapping, Sequence
from functools import partial
from math import ceil, log
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from zoo.blocks.single_image import (
    MASK_RADII,
    blend,
    counted_passes,
    gradient_penalty,
    own_statistics,
    shrink_factor,
    soft_mask,
    stage_work,
    walk,
)
from zoo.blocks.tensor_list import TensorList
from zoo.consingan.networks import Activation, Discriminator, Generator, Size
from zoo.consingan.perturb import perturb_colours, perturb_layout
from zoo.core import Player, Translator, sync
from zoo.core.checkpoints import read_checkpoint
from zoo.core.images import resize_cubic
from zoo.core.loading import find_checkpoint
from zoo.core.precision import full
from zoo.errors import ZooError

Task = Literal["generation", "retarget", "animation", "harmonization", "editing"]
COMPOSITES = ("harmonization", "editing")  # tasks that translate a given picture

# The pyramid -----------------------------------------------------------------------------------------------------------------


def stage_scales(size: Size, stages: int, min_size: int, geometric: bool) -> list[float]:
    """By what the picture is resized at each stage.

    Args:
        size: height and width of the picture, shrunk to the largest size.
        stages: how many there are: at least 2, and 3 where scales are not geometric.
        min_size: shorter side of the first stage, in pixels.
        geometric: SinGAN's rule, a constant ratio; else most stages are at low resolutions (section 3.2 of the paper).

    Raises:
        ZooError: too few stages, or a picture that is not larger than its first stage.
    """
    last, ratio = stages - 1, min_size / min(size)
    if last < (1 if geometric else 2):
        raise ZooError(f"stages is {stages}; this task needs {2 if geometric else 3} or more: --model.stages 6")
    if ratio >= 1:
        smaller = f"Type --model.min_size {min(size) // 2}, or take" if min(size) >= 22 else "Take"
        raise ZooError(
            f"The picture is {size[1]}x{size[0]} pixels (after shrinking it to max_size), not larger than the first stage, whose "
            f"shorter side has {min_size}. {smaller} a larger picture or --model.max_size."
        )
    rate = ratio ** (1 / last)
    if geometric:
        return [rate ** (last - n) for n in range(last)] + [1.0]
    return [rate ** ((last - 1) / log(last) * log(last - n) + 1) for n in range(last)] + [1.0]


def pyramid(picture: Tensor, stages: int, min_size: int, max_size: int, geometric: bool) -> list[Tensor]:
    """The picture b 3 h w in [-1, 1] at each stage; the last one is as large as `max_size` allows."""
    top = resize_cubic(picture, shrink_factor(picture.shape[-2:], max_size))
    scales = stage_scales((top.shape[-2], top.shape[-1]), stages, min_size, geometric)
    return [*(resize_cubic(top, scale) for scale in scales[:-1]), top]


# The model -------------------------------------------------------------------------------------------------------------------


class ConSinGAN(Translator):
    """A generative model of one picture, and what it does to pictures like it.

    Batches have `image`, 1 3 h w in [-1, 1], always the same, and for fine-tuning `naive`, a composite to be harmonised. What the
    model knows of the picture (its pyramid, the noise maps that reconstruct it, their amplitudes) is part of its state.

    Inference uses the newest stage that was trained, with each picture's own batch statistics. Stages learn one after the other,
    which the recipe's `GrowScales` sees to.

    Args:
        task: what the model is for. `generation` and `animation` let noise reach beyond borders; the others keep layouts.
        channels: of all features of both networks.
        layers: convolutions of a stage, and between the discriminator's first and last.
        norm: batch norms in the generator.
        activation: of both networks.
        slope: of `lrelu`, below 0.
        stages: how many.
        min_size: shorter side of the first stage, in pixels.
        max_size: longer side of the last, in pixels.
        train_depth: stages that learn at the same time, the newest ones.
        lr_scale: factor of the learning rate from a stage to the one below it (the paper's delta).
        stage_iterations: iterations per stage.
        decay_iteration: the iteration of a stage from which its rates are a tenth; null for none.
        learning_rate: of Adam, for the newest stage and the discriminator.
        betas: of Adam.
        critic_steps: of the discriminator per iteration.
        generator_steps: of the generator, all on one gradient.
        lambda_gradient: weight of the gradient penalty.
        lambda_reconstruction: weight of the reconstruction.
        noise_amplitude: of a stage's noise, as a share of what the stages below leave unexplained.
        hole_sides: least and largest side of the holes that harmonisation cuts, in pixels of the first stage.
        as_released: harmonisation changes colours as the released code does, see `zoo.consingan.perturb`.
        fine_tune: a finished run or checkpoint, whose last stage goes on with the batch's `naive` as its input.

    Raises:
        ZooError: settings that do not go together.
    """

    def __init__(
        self,
        task: Task = "generation",
        channels: int = 64,
        layers: int = 3,
        norm: bool = False,
        activation: Activation = "lrelu",
        slope: float = 0.05,
        stages: int = 6,
        min_size: int = 25,
        max_size: int = 250,
        train_depth: int = 3,
        lr_scale: float = 0.1,
        stage_iterations: int = 2000,
        decay_iteration: int | None = 1600,
        learning_rate: float = 5e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        critic_steps: int = 3,
        generator_steps: int = 3,
        lambda_gradient: float = 0.1,
        lambda_reconstruction: float = 10.0,
        noise_amplitude: float = 0.1,
        hole_sides: tuple[int, int] = (30, 60),
        as_released: bool = False,
        fine_tune: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if fine_tune is not None and task not in COMPOSITES:
            raise ZooError(f"fine_tune is for the tasks {' and '.join(COMPOSITES)}, and this one is {task}.")
        self.generator = Generator(channels, layers, norm, activation, slope, task in ("generation", "animation"))
        self.discriminator = Discriminator(channels, layers, activation, slope)
        self.reals = TensorList()  # the picture at each stage
        self.fixed = TensorList()  # noise maps that the reconstruction starts from
        self.amplitudes = TensorList()  # of each stage's noise

        self.task, self.stages, self.train_depth, self.lr_scale = task, stages, train_depth, lr_scale
        self.channels, self.norm, self.geometric = channels, norm, task == "harmonization"
        self.min_size, self.max_size = min_size, max_size
        self.least_size = 2 * (layers + 2) + 1  # what the discriminator sees of
        self.stage_iterations, self.decay_iteration = stage_iterations, decay_iteration
        self.adam, self.learning_rate = partial(Adam, betas=betas), learning_rate
        self.critic_steps, self.generator_steps = critic_steps, generator_steps
        self.lambda_gradient, self.lambda_reconstruction = lambda_gradient, lambda_reconstruction
        self.noise_amplitude, self.hole_sides, self.as_released = noise_amplitude, hole_sides, as_released
        self.fine_tune, self.first_stage = fine_tune, 0 if fine_tune is None else stages - 1
        what = (
            f"{'edit' if task == 'editing' else 'harmonize'} {{run}} PICTURE" if task in COMPOSITES else "sample {run}"
        )
        self.usage = f"lightning single {what} --output made"
        self._kept_features: Tensor | None = None  # of the reconstruction, up to the stages that learn

    # Stages

    def setup(self, stage: str) -> None:
        """Look whether the picture suits the pyramid; start from a finished model where one is to be fine-tuned."""
        super().setup(stage)
        data = getattr(self.trainer, "datamodule", None)
        if stage != "fit":
            return
        if self.min_size < self.least_size:
            found = f"min_size is {self.min_size}, and the discriminator needs {self.least_size} pixels"
            raise ZooError(f"{found}: --model.min_size 25")
        if size := getattr(data, "picture_size", None):
            factor = shrink_factor(size, self.max_size)
            stage_scales((ceil(size[0] * factor), ceil(size[1] * factor)), self.stages, self.min_size, self.geometric)
        if self.fine_tune is not None and not self.trainer.ckpt_path:
            if getattr(data, "naive", "") is None:
                raise ZooError("Fine-tuning needs a composite to learn from: --data.naive PICTURE")
            self.start_from(Path(self.fine_tune))

    def start_from(self, place: Path) -> None:
        """Take networks, noise maps and amplitudes of a finished run or checkpoint."""
        path = find_checkpoint(place)
        checkpoint = read_checkpoint(path)
        if checkpoint.get("zoo", {}).get("room") != "consingan" or checkpoint["zoo"]["stage"] != self.first_stage:
            raise ZooError(
                f"{path} is no finished ConSinGAN of {self.stages} stages; fine_tune needs one: --model.stages"
            )
        self._grow_to(self.first_stage)
        try:
            self.load_state_dict(checkpoint["state_dict"])
        except RuntimeError as error:
            found = " ".join(str(error).split())[:300]
            raise ZooError(
                f"{path} does not fit the networks as configured; give the options of its run. {found}"
            ) from error

    def build_stage(self, stage: int) -> None:
        """Add a stage to the generator, a copy of the newest; the discriminator goes on."""
        if stage >= self.stages:
            raise ZooError(f"This ConSinGAN has {self.stages} stages, and no stage {stage}: --model.stages {stage + 1}")
        self.generator.grow()
        self._kept_features = None

    def enter_stage(self, stage: int) -> None:
        """Enter a stage with new optimisers."""
        super().enter_stage(stage)
        for optimizer in self.trainer.optimizers:
            optimizer.state.clear()

    def scale_count(self, size: Size) -> int:
        """How many stages there will be; the picture's size does not matter here."""
        return self.stages

    @property
    def frozen_stages(self) -> int:
        """How many stages, the first ones, do not learn any more."""
        return max(0, self.generator.stages - self.train_depth)

    @property
    def sizes(self) -> list[Size]:
        """Height and width of the picture at each stage that there is."""
        return [(real.shape[-2], real.shape[-1]) for real in self.reals][: self.generator.stages]

    @property
    def progress_note(self) -> str:
        """Where the training stands, for the progress bar."""
        if not len(self.reals):
            return ""
        height, width = self.sizes[-1]
        return f"stage {self.stage + 1} of {len(self.reals)}, {width}x{height}"

    def workload(self, begin: int, end: int) -> float:
        """How much work iterations are: with a stage's size grows the time that they take."""
        if not len(self.reals):
            return float(end - begin)
        skipped = self.first_stage * self.stage_iterations
        sizes = [real.shape[-2:] for real in self.reals]
        return stage_work(begin + skipped, end + skipped, self.stage_iterations, sizes)

    def begin_stage(self, batch: Mapping[str, Tensor]) -> None:
        """Draw the noise map from which a stage reconstructs the picture, and measure how much noise it is given from then on."""
        if not len(self.reals):
            for real in pyramid(batch["image"], self.stages, self.min_size, self.max_size, self.geometric):
                self.reals.append(real)
        stage = len(self.fixed)
        fixed = self.reals[0] if stage == 0 and self.task != "animation" else self.draw_map(stage, self.sizes[stage])
        if stage == 0 and self.task == "editing":
            fixed = fixed + 0.1 * self.draw_map(stage, self.sizes[stage])
        self.fixed.append(fixed)
        sync.broadcast_module(self.fixed)  # ranks draw apart, and the reconstruction is one for all
        amplitude = self.reals[0].new_ones(())
        if stage > 0:
            with torch.no_grad():
                silent = [*self.amplitudes, torch.zeros_like(amplitude)]
                unexplained = F.mse_loss(self.generator(list(self.fixed), self.sizes, silent), self.reals[stage])
            amplitude = self.noise_amplitude * sync.mean_over_ranks(unexplained).sqrt()
        self.amplitudes.append(amplitude)

    # Training

    def configure_optimizers(self) -> list[Optimizer]:
        """Adam for the newest stages, each lower one at a smaller rate, and the head while the first of them learns; and the critic's."""
        body, rate = list(self.generator.body), self.learning_rate
        learning = body[self.frozen_stages :]
        groups = [(block, rate * self.lr_scale**distance) for distance, block in enumerate(reversed(learning))][::-1]
        if self.frozen_stages == 0:
            groups.append((self.generator.head, rate * self.lr_scale ** (len(body) - 1)))
        groups.append((self.generator.tail, rate))
        self.generator.requires_grad_(False)
        for network, _ in groups:
            network.requires_grad_(True)
        generator = self.adam([{"params": list(network.parameters()), "lr": lr} for network, lr in groups], lr=rate)
        critic = self.adam(self.discriminator.parameters(), lr=rate)
        return self.players(
            Player("generator", generator, [network for network, _ in groups], self.rate_factor),
            Player("discriminator", critic, [self.discriminator], self.rate_factor),
        )

    def rate_factor(self, iteration: int) -> float:
        """Factor of the learning rates in an iteration of the training: 1, and a tenth at the end of a stage."""
        position = iteration - (self.stage - self.first_stage) * self.stage_iterations
        return 0.1 if self.decay_iteration is not None and position >= self.decay_iteration else 1.0

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Some steps of the critic and some of the generator, all on one fake."""
        if len(self.fixed) < self.generator.stages:
            self.begin_stage(batch)
        real = self.reals[self.stage]
        maps = [self.first_map(batch), *(self.draw_map(n, size) for n, size in enumerate(self.sizes) if n)]
        # The critic's steps leave the generator alone: the official code's passes, one for each of them, are one.
        with counted_passes(self.generator, self.critic_steps):
            fake = self.paint(maps)  # 1 3 h w
        for _ in range(self.critic_steps):
            self.update_discriminator(real, fake.detach())
        self.update_generator(real, fake)

    def update_discriminator(self, real: Tensor, fake: Tensor) -> None:
        """Tell the picture's patches from generated ones."""
        share = self.draws.uniform("gp_alpha", (1, 1))
        with self.player("discriminator") as player:
            real_logits, fake_logits = full(self.discriminator(torch.cat([real, fake]))).split([len(real), len(fake)])
            real_loss, fake_loss = -real_logits.mean(), fake_logits.mean()
            penalty = gradient_penalty(self.discriminator, real, fake, share)
            player.minimize(real_loss + fake_loss + self.lambda_gradient * penalty)
        terms = {"discriminator_real": real_loss, "discriminator_fake": fake_loss, "gradient_penalty": penalty}
        self.log_terms(terms)
        self.terms.compare("discriminator", real_logits, fake_logits)

    def update_generator(self, real: Tensor, fake: Tensor) -> None:
        """Pass for the picture, and give the picture back for the fixed noise maps; several steps on one gradient."""
        with self.player("generator") as player:
            adversarial = -full(self.discriminator(fake)).mean()
            reconstruction = F.mse_loss(full(self.reconstruct()), real)
            player.minimize(adversarial + self.lambda_reconstruction * reconstruction)
            for _ in range(self.generator_steps):
                player.step()
        self.log_terms({"adversarial": adversarial, "reconstruction": reconstruction})

    def first_map(self, batch: Mapping[str, Tensor]) -> Tensor:
        """What the first stage is given: noise, the coarsest picture with changes, or in fine-tuning the composite."""
        if self.fine_tune is not None:
            return self.as_first_map(batch["naive"])
        if self.task == "harmonization":
            return perturb_colours(self.reals[0], self.draws, self.hole_sides, self.as_released)
        if self.task == "editing":
            return perturb_layout(self.reals[0], self.draws)
        return self.draw_map(0, self.sizes[0])

    def draw_map(self, stage: int, size: Size) -> Tensor:
        """The noise map of a stage whose features have this size."""
        shape = (1, self.channels if stage else 3, *self.generator.map_size(stage, size))
        return self.draws.normal("z", shape, device=self.device)

    def paint(self, maps: Sequence[Tensor]) -> Tensor:
        """The picture of noise maps; gradients reach no further than the stages that learn."""
        given = (maps, self.sizes, list(self.amplitudes))
        frozen, features = self.frozen_stages, None
        if frozen:
            with torch.no_grad():
                features = self.generator.carry(None, *given, frozen)
        return self.generator.paint(self.generator.carry(features, *given, len(maps), frozen))

    def reconstruct(self) -> Tensor:
        """The picture of the fixed noise maps; what stages give that do not learn is kept."""
        if self.norm or not self.frozen_stages:  # running statistics want every pass
            return self.paint(list(self.fixed))
        given = (list(self.fixed), self.sizes, list(self.amplitudes))
        if self._kept_features is None:
            with torch.no_grad():
                self._kept_features = self.generator.carry(None, *given, self.frozen_stages)
        return self.generator.paint(
            self.generator.carry(self._kept_features, *given, len(self.fixed), self.frozen_stages)
        )

    # Inference

    def picture(self, maps: Sequence[Tensor], sizes: Sequence[Size] | None = None) -> Tensor:
        """The picture of noise maps with its own batch statistics, as the official code infers; sizes are those of training by default."""
        self.require_stage()
        with own_statistics(self.generator):
            return self.generator(list(maps), sizes or self.sizes, list(self.amplitudes))

    def require_stage(self) -> None:
        """Refuse to infer before the present stage has begun, by a ZooError."""
        if len(self.fixed) < self.generator.stages:
            raise ZooError("This ConSinGAN has not begun to learn its picture: train it first (lightning fit).")

    def as_first_map(self, image: Tensor) -> Tensor:
        """A given picture b 3 h w of any size as the first stage takes it; editing adds a little noise."""
        resized = resize_cubic(image, size=self.sizes[0])
        return resized + 0.1 * self.draw_map(0, self.sizes[0]) if self.task == "editing" else resized

    def translate(
        self,
        image: Tensor,
        *,
        to: str = "target",
        mask: Tensor | None = None,
        base: Literal["picture", "naive"] = "picture",
    ) -> Tensor:
        """Harmonise composites, or blend what was edited.

        Args:
            image: b 3 h w in [-1, 1], of any size: the training picture with something pasted in or moved.
            to: the one domain there is, `target`.
            mask: b c h w in [-1, 1], black but for what was changed; the rest is then taken from `base`.
            base: the training picture, as the official evaluation does, or the composite itself.

        Returns:
            b 3 h w in [-1, 1], of the training picture's size at the newest stage.

        Raises:
            ZooError: the model is for another task, or its training has not begun.
        """
        if self.task not in COMPOSITES:
            raise ZooError(
                f"This ConSinGAN is trained for {self.task}: it makes pictures (lightning single sample RUN) and does not translate "
                f"them. Train one with --model.task {COMPOSITES[0]} or {COMPOSITES[1]}."
            )
        if to != "target":
            raise ZooError(f"ConSinGAN translates into the style of its one picture, 'target', and not into {to!r}.")
        self.require_stage()
        with self.aside("translate"):
            maps = list(self.fixed)[1:]
            results = torch.cat([self.picture([self.as_first_map(one), *maps]) for one in image.split(1)])
            if mask is None:
                return results
            height, width = size = self.sizes[-1]
            if mask.shape[-1] != width or mask.shape[-2] != height:
                mask = resize_cubic(mask, size=size)
            ground = self.reals[len(self.fixed) - 1] if base == "picture" else resize_cubic(image, size=size)
            return blend(soft_mask(mask, MASK_RADII[self.task]), results, ground)

    def scaled_sizes(self, height: float, width: float) -> list[Size]:
        """The sizes of all stages for pictures so many times as high and wide."""
        return [(int(h * height), int(w * width)) for h, w in self.sizes]

    def random_picture(self, sizes: Sequence[Size]) -> Tensor:
        """A picture of newly drawn noise; `sizes` are those of all stages."""
        return self.picture([self.draw_map(stage, size) for stage, size in enumerate(sizes)], sizes)

    def sample(self, count: int = 1, *, height: float = 1.0, width: float = 1.0, seed: int = 0) -> list[Tensor]:
        """Random pictures of the training picture's kind.

        Args:
            count: how many.
            height: of the results, in heights of the training picture; a model of the task `retarget` is made for others than 1.
            width: likewise.
            seed: the same one gives the same pictures.

        Returns:
            1 3 h w in [-1, 1] each.

        Raises:
            ZooError: the task is none of noise, or its training has not begun.
        """
        if self.task in COMPOSITES:
            raise ZooError(
                f"This ConSinGAN is trained for {self.task}: it changes pictures (lightning translate) and draws none."
            )
        self.require_stage()
        with self.aside("sample", seed):
            return [self.random_picture(self.scaled_sizes(height, width)) for _ in range(count)]

    def animate(
        self, frames: int = 100, *, alpha: float = 0.1, beta: float = 0.9, start: int = 0, seed: int = 0
    ) -> list[Tensor]:
        """A walk through noise around the training picture; see `zoo.blocks.single_image.walk`.

        Args:
            frames: how many pictures.
            alpha: how strongly the walk is drawn back to the picture.
            beta: how smooth it is.
            start: the first stage that moves: 0 gives the strongest motion.
            seed: the same one gives the same walk.

        Returns:
            1 3 h w in [-1, 1] each.

        Raises:
            ZooError: there is no such stage.
        """
        self.require_stage()
        if not 0 <= start < len(self.fixed):
            raise ZooError(f"start is {start}; the stages are 0 to {len(self.fixed) - 1}: --start 0")
        with self.aside("animate", seed):
            return self.wander(frames, alpha, beta, start)

    def wander(self, frames: int, alpha: float, beta: float, start: int) -> list[Tensor]:
        """The pictures of a walk, see `animate`."""
        fixed, pictures = list(self.fixed), []
        before, now = fixed, [0.99 * z + 0.01 * noise for z, noise in zip(fixed, self.draw_maps(), strict=True)]
        for _ in range(frames):
            steps = zip(fixed, now, before, self.draw_maps(), strict=True)
            after = [walk(*step, alpha, beta) for step in steps]
            before, now = now, [*fixed[:start], *after[start:]]
            pictures.append(self.picture(now))
        return pictures

    def draw_maps(self) -> list[Tensor]:
        """Noise maps of all stages, at the sizes of training."""
        return [self.draw_map(stage, size) for stage, size in enumerate(self.sizes)]

    def samples(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Columns of a sample grid: the picture at this stage, its reconstruction, and two samples or what becomes of the composite."""
        if not len(self.fixed):
            return {"picture": batch["image"]}
        columns = {"picture": self.reals[len(self.fixed) - 1], "reconstruction": self.picture(list(self.fixed))}
        if self.task in COMPOSITES:
            given = batch.get("naive")
            return columns if given is None else columns | {"naive": given, self.task: self.translate(given)}
        return columns | {f"sample {number}": self.random_picture(self.sizes) for number in (1, 2)}
