"""BigGAN's LightningModule; the story is told in `zoo.biggan`."""

import copy
from collections.abc import Iterator, Mapping
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Adam, Optimizer

from zoo.biggan.discriminator import Discriminator
from zoo.biggan.generator import Generator
from zoo.biggan.layers import Initialisation, Layers, initialise
from zoo.biggan.losses import LOSSES, Adversarial, orthogonal_penalties
from zoo.biggan.sampling import Buffers, standing_statistics, truncated_normal
from zoo.core import Draws, Ema, Player, Translator
from zoo.core.precision import full
from zoo.errors import ZooError

MOST_CLASSES_SHOWN = 6


class BigGAN(Translator):
    """Draws pictures of a class from latent codes.

    Batches have `image`, `b c h w` in [-1, 1], and `domain`, the number of its class, int64 `b`. A batch is all that an iteration
    takes: `discriminator_steps * discriminator_accumulations` parts of one size. Inference uses the generator's moving average, in
    eval mode, with its running statistics or with those of `fit_statistics`. The defaults are the official code's for ImageNet at
    128x128, where they depart from the paper's see `zoo.biggan`.

    Args:
        image_size: side of the pictures: 32, 64, 128 or 256; another power of two with multipliers.
        classes: number of classes.
        deep: BigGAN-deep's blocks and hierarchy.
        generator_channels: what the generator's multipliers multiply; 96, and 128 for BigGAN-deep.
        discriminator_channels: the same of the discriminator.
        generator_multipliers: channels, see `zoo.biggan.generator`; null for the official ones.
        discriminator_multipliers: channels, see `zoo.biggan.discriminator`; null for the official ones.
        generator_depth: blocks per stage of BigGAN-deep's generator.
        discriminator_depth: blocks per stage of BigGAN-deep's discriminator.
        generator_attention: sides of the feature maps on which self-attention works.
        discriminator_attention: the same in the discriminator; the official table calls all its maps for 32x32 pictures 16x16.
        latent_channels: of the latent code; rounded down to a multiple of its chunks where it is hierarchical.
        class_channels: of a class's code; 0 for as many as the latent code has.
        hierarchical: every stage of BigGAN's generator has a chunk of the latent code of its own.
        shared_embedding: all norms share a class's code.
        spectral_norm: on the generator; off for weights that come divided by their singular values.
        spectral_norm_eps: least norm that a singular vector is divided by.
        singular_values: that are followed.
        norm_eps: of the generator's batch norms but the last one.
        output_norm_eps: of the last one.
        initialisation: distribution of the initial weights.
        adversarial: the adversarial loss.
        discriminator_steps: of the discriminator per iteration; the paper takes 2.
        discriminator_accumulations: parts of a batch whose gradients make one step.
        generator_accumulations: draws whose gradients make the generator's step.
        generator_batch: pictures of such a draw; 0, or fewer than the discriminator sees at once, for as many.
        separate_passes: the discriminator sees real and generated pictures one after the other, and so its vectors move twice.
        latent_deviation: standard deviation of the latent code in training.
        lambda_orthogonal_generator: weight of the orthogonal regularisation; 1e-4 in the paper.
        lambda_orthogonal_discriminator: the same for the discriminator.
        generator_rate: learning rate of Adam.
        discriminator_rate: learning rate of Adam.
        betas: of Adam.
        adam_eps: of Adam.
        ema_decay: share of the old average that the generator's moving average, buffers included, keeps per iteration; 0 for none.
        ema_start: iteration, counted from 1, that averages first; before it the average is a copy.

    Attributes:
        statistics: buffers that the generator uses in place of its own, by truncation.

    Raises:
        ZooError: options that do not go together.
    """

    def __init__(
        self,
        image_size: int = 128,
        classes: int = 1000,
        deep: bool = False,
        generator_channels: int = 96,
        discriminator_channels: int = 96,
        generator_multipliers: tuple[int, ...] | None = None,
        discriminator_multipliers: tuple[int, ...] | None = None,
        generator_depth: int = 2,
        discriminator_depth: int = 2,
        generator_attention: tuple[int, ...] = (64,),
        discriminator_attention: tuple[int, ...] = (64,),
        latent_channels: int = 120,
        class_channels: int = 128,
        hierarchical: bool = True,
        shared_embedding: bool = True,
        spectral_norm: bool = True,
        spectral_norm_eps: float = 1e-6,
        singular_values: int = 1,
        norm_eps: float = 1e-5,
        output_norm_eps: float = 1e-5,
        initialisation: Initialisation = "orthogonal",
        adversarial: Adversarial = "hinge",
        discriminator_steps: int = 1,
        discriminator_accumulations: int = 8,
        generator_accumulations: int = 8,
        generator_batch: int = 0,
        separate_passes: bool = False,
        latent_deviation: float = 1.0,
        lambda_orthogonal_generator: float = 0.0,
        lambda_orthogonal_discriminator: float = 0.0,
        generator_rate: float = 1e-4,
        discriminator_rate: float = 4e-4,
        betas: tuple[float, float] = (0.0, 0.999),
        adam_eps: float = 1e-6,
        ema_decay: float = 0.9999,
        ema_start: int = 20_000,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        for option in ("discriminator_steps", "discriminator_accumulations", "generator_accumulations"):
            if self.hparams[option] < 1:
                raise ZooError(f"{option} is {self.hparams[option]}; it must be at least 1: --model.{option} 1")
        self.generator = Generator(
            image_size,
            classes,
            generator_channels,
            latent_channels,
            class_channels,
            generator_attention,
            generator_multipliers,
            generator_depth if deep else 0,
            hierarchical,
            shared_embedding,
            norm_eps,
            output_norm_eps,
            Layers(spectral_norm, spectral_norm_eps, singular_values),
        )
        self.discriminator = Discriminator(
            image_size,
            classes,
            discriminator_channels,
            discriminator_attention,
            discriminator_multipliers,
            discriminator_depth if deep else 0,
            layers=Layers(True, spectral_norm_eps, singular_values),
        )
        initialise(self.generator, initialisation)
        initialise(self.discriminator, initialisation)
        averaged = {"generator": self.generator}
        start = max(ema_start - 1, 0)  # the official code counts from 1
        self.ema = Ema(averaged, decay=ema_decay, start_iteration=start, buffers="average") if ema_decay > 0 else None
        self.statistics: dict[float, Buffers] = {}

        self.size_multiple = self.smallest_size = image_size
        self.image_size, self.classes, self.latent_channels = image_size, classes, self.generator.latent_channels
        self.discriminator_loss, self.generator_loss = LOSSES[adversarial]
        self.discriminator_steps, self.discriminator_accumulations = discriminator_steps, discriminator_accumulations
        self.generator_accumulations, self.generator_batch = generator_accumulations, generator_batch
        self.separate_passes, self.latent_deviation = separate_passes, latent_deviation
        self.lambda_orthogonal_generator = lambda_orthogonal_generator
        self.lambda_orthogonal_discriminator = lambda_orthogonal_discriminator
        self.generator_adam = partial(Adam, lr=generator_rate, betas=betas, eps=adam_eps)
        self.discriminator_adam = partial(Adam, lr=discriminator_rate, betas=betas, eps=adam_eps)

    # Drawing ----------------------------------------------------------------------------------------------------------------

    def generate(self, latent: Tensor, label: Tensor, *, truncation: float = 1.0) -> Tensor:
        """Draw pictures, in eval mode, with the moving average where there is one.

        A picture follows from its own code and class; with which others it is drawn plays no part, but for the rounding of sums.

        Args:
            latent: b z before truncation, from a normal distribution or `truncated_normal`; on any device.
            label: class numbers, int64 b.
            truncation: what the codes are multiplied by. Where statistics were fitted, those of this very truncation are used.

        Returns:
            Pictures b 3 h w in [-1, 1].

        Raises:
            ZooError: statistics were fitted, but for other truncations; or the codes have another length.
        """
        if latent.shape[1:] != (self.latent_channels,):
            raise ZooError(
                f"The latent codes have the shape {tuple(latent.shape)}, expected was (b, {self.latent_channels})."
            )
        if self.statistics and truncation not in self.statistics:
            known = ", ".join(map(str, sorted(self.statistics)))
            raise ZooError(
                f"There are statistics for the truncations {known}, none for {truncation}: call fit_statistics({truncation}) first."
            )
        buffers = self.statistics.get(truncation, {})
        inputs = (truncation * latent.to(self.device, cast(torch.dtype, self.dtype)), label.to(self.device))
        with self.aside("generate"):
            return functional_call(self.inference_generator, buffers, inputs)

    def fit_statistics(
        self,
        truncation: float = 1.0,
        *,
        passes: int = 16,
        batch_size: int = 64,
        seed: int = 0,
        bound: float | None = 2.0,
    ) -> None:
        """Have `generate` use standing statistics at this truncation: a function of the weights and of these arguments alone.

        Args:
            truncation: what the codes are multiplied by.
            passes: batches whose means and variances are averaged.
            batch_size: pictures in each.
            seed: of codes and classes.
            bound: codes lie within it; None for normal ones. As those that will be drawn.
        """
        draws = Draws(seed)

        def codes() -> Iterator[tuple[Tensor, Tensor]]:
            # On the CPU, so that all devices draw the same; classes are uniform.
            for _ in range(passes):
                numbers = draws.uniform("latent", (batch_size, self.latent_channels))
                latent = truncated_normal(numbers.double(), bound or 8.0).to(self.device, cast(torch.dtype, self.dtype))
                label = draws.integers("label", (batch_size,), 0, self.classes).to(self.device)
                yield truncation * latent, label

        self.statistics[truncation] = standing_statistics(copy.deepcopy(self.inference_generator), codes())

    @property
    def inference_generator(self) -> nn.Module:
        """What pictures are drawn with: the moving average, or the generator where there is none."""
        return self.generator if self.ema is None else self.ema["generator"]

    def translate_batch(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Refuse, where `lightning predict` asks: BigGAN has no input picture, and so no `translate` either.

        Raises:
            ZooError: always.
        """
        raise ZooError(
            "BigGAN draws pictures from latent codes and translates none. Draw some: lightning generate pairs --help"
        )

    # Training ---------------------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> list[Optimizer]:
        """One Adam for each network."""
        generator, discriminator = self.generator, self.discriminator
        return self.players(
            Player("discriminator", self.discriminator_adam(discriminator.parameters()), [discriminator]),
            Player("generator", self.generator_adam(generator.parameters()), [generator]),
        )

    def on_train_start(self) -> None:
        """Forget statistics of other weights."""
        self.statistics.clear()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """The discriminator's steps, each on its own part of the batch; then the generator's one, and its moving average."""
        parts = self.parts(batch)
        for _ in range(self.discriminator_steps):
            self.update_discriminator([next(parts) for _ in range(self.discriminator_accumulations)])
        self.update_generator(len(batch["image"]) // (self.discriminator_steps * self.discriminator_accumulations))
        if self.ema is not None:
            self.ema.update(self.iteration)

    def parts(self, batch: Mapping[str, Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Pictures and classes of a batch in equal parts, one for each accumulation of each step."""
        count, wanted = len(batch["image"]), self.discriminator_steps * self.discriminator_accumulations
        if count % wanted:
            raise ZooError(
                f"A batch has {count} pictures, and the discriminator's {self.discriminator_steps} steps of "
                f"{self.discriminator_accumulations} accumulations need a multiple of {wanted}: "
                f"--data.batch_size {max(1, round(count / wanted)) * wanted}"
            )
        return zip(batch["image"].chunk(wanted), batch["domain"].chunk(wanted), strict=True)

    def codes(self, count: int) -> tuple[Tensor, Tensor]:
        """Draw latent codes `n z`, then classes `n`, as many as the generator's step takes: never fewer than asked for."""
        count = max(count, self.generator_batch)
        latent = self.latent_deviation * self.draws.normal("latent", (count, self.latent_channels))
        return latent, self.draws.integers("label", (count,), 0, self.classes)

    def update_discriminator(self, parts: list[tuple[Tensor, Tensor]]) -> None:
        """One step: tell real pictures from generated ones. The generator's norms and vectors move, its weights do not."""
        with self.player("discriminator") as player:
            for image, label in parts:
                latent, fake_label = self.codes(len(image))
                fake_label = fake_label[: len(image)]
                with torch.no_grad():
                    fake = self.generator(latent[: len(image)], fake_label)
                on_real, on_fake = self.judge(image, label, fake, fake_label)
                real_loss, fake_loss = self.discriminator_loss(on_real, on_fake)
                player.minimize((real_loss + fake_loss) / len(parts))
            self.log_terms({"discriminator_real": real_loss, "discriminator_fake": fake_loss})
            self.terms.compare("discriminator", on_real, on_fake)
            if self.lambda_orthogonal_discriminator > 0:
                penalty = orthogonal_penalties(self.discriminator.parameters())
                self.log_terms({"orthogonal_discriminator": penalty})
                player.minimize(self.lambda_orthogonal_discriminator * penalty)

    def judge(self, image: Tensor, label: Tensor, fake: Tensor, fake_label: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of real and of generated pictures, in one pass or in two; in full precision."""
        if self.separate_passes:
            fake_logits, real_logits = self.discriminator(fake, fake_label), self.discriminator(image, label)
        else:
            logits = self.discriminator(torch.cat([fake.to(image.dtype), image]), torch.cat([fake_label, label]))
            fake_logits, real_logits = logits.split([len(fake), len(image)])
        return full(real_logits), full(fake_logits)

    def update_generator(self, count: int) -> None:
        """One step: have pictures taken for real ones."""
        with self.player("generator") as player:
            for _ in range(self.generator_accumulations):
                latent, label = self.codes(count)
                logits = self.discriminator(self.generator(latent, label), label)
                loss = self.generator_loss(full(logits))
                player.minimize(loss / self.generator_accumulations)
            self.log_terms({"generator": loss})
            if self.lambda_orthogonal_generator > 0:
                penalty = orthogonal_penalties(self.generator.parameters(), list(self.generator.shared.parameters()))
                self.log_terms({"orthogonal_generator": penalty})
                player.minimize(self.lambda_orthogonal_generator * penalty)

    # Watching ---------------------------------------------------------------------------------------------------------------

    def samples(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Columns of a sample grid: pictures of the data, and each row's one latent code drawn in several classes."""
        columns, count = {"data": batch["image"]}, len(batch["image"])
        with self.aside("samples"):
            latent = self.draws.normal("latent", (count, self.latent_channels), device=batch["image"].device)
        shown = min(self.classes, MOST_CLASSES_SHOWN)
        for number in (self.classes * place // shown for place in range(shown)):
            label = torch.full((count,), number, device=latent.device)
            columns[f"class {number}"] = self.generate(latent, label)
        return columns

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log mean logits of unseen pictures and of generated ones of their classes.

        Where unseen pictures score like generated ones, the discriminator has learnt its pictures by heart.
        """
        image, label = batch["image"], batch["domain"]
        with self.aside("validation", batch_idx):
            latent = self.draws.normal("latent", (len(image), self.latent_channels), device=image.device)
            fake = self.inference_generator(latent.to(image.dtype), label)
            figures = {"real": self.discriminator(image, label).mean(), "fake": self.discriminator(fake, label).mean()}
        named = {f"val/logit_{name}": value for name, value in figures.items()}
        self.log_dict(named, batch_size=len(image), sync_dist=True)

    test_step = validation_step
