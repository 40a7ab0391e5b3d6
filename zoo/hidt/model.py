"""HiDT: the model. `zoo.hidt` tells the story."""

import sys
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from zoo.core import Ema, Player, Translator
from zoo.core.images import psnr
from zoo.errors import ZooError
from zoo.hidt.discriminators import ProjectionDiscriminator, UnconditionalDiscriminator
from zoo.hidt.generator import SIZE_MULTIPLE, SMALLEST_SIZE, Content, Generator, MaskOutput, Painted
from zoo.hidt.losses import (
    IGNORED,
    StylePool,
    absolute_difference,
    distribution_loss,
    fake_loss,
    mask_loss,
    real_loss,
)
from zoo.hidt.pictures import SIDE_MULTIPLE, prepared, with_noise
from zoo.hidt.styles import NAMED_STYLES, between

Discriminators = Literal["both", "unconditional", "projection"]


def halved_rate(every: int, iteration: int) -> float:
    """Factor of the learning rate in a 0-based iteration: a half once more every so many iterations; 0 keeps the rate."""
    return 0.5 ** (iteration // every) if every else 1.0


class Branches(NamedTuple):
    """What the generator makes of pictures x in an iteration; 2n samples each, the sources first."""

    content: Content
    style: Tensor  # b s, of x
    swapped_style: Tensor  # b s, of the other picture
    random_style: Tensor  # b s
    auto: Painted  # in the own style
    swap: Painted
    drawn: Painted  # in the random style


class HiDT(Translator):
    """Repaints pictures in the light of an exemplar, of a random or of a stored style; trained on one pile of unlabelled pictures.

    Batches have `source` and `target`, `b 3 h w` in [-1, 1], two pictures of one and the same pile, and may have `source_labels` and
    `target_labels`, int64 `b h w`, 255 where no class is known. Inference uses the generator, or its moving average where there is one,
    in eval mode. The pool of styles, and the distribution loss over it, are each process' own. Where the comment says [R], no source
    settles a value, and the choice is that of the numbers which this room is compared with; [2nd hand], it stands in an unofficial
    re-implementation alone.

    Args:
        generator_channels: of all first layers; 48 in both published models.
        encoder_blocks: residual blocks of the content encoder.
        decoder_blocks: residual blocks of the decoder.
        style_channels: numbers of a style: 3 for daytime, 12 for paintings.
        mapping_channels: hidden width of the mapping from styles to the statistics of adaptive norms.
        mapping_layers: its linear layers.
        mask_channels: classes of the segmentation head; 0 for none, as for paintings. 3 in the published model, whatever it means there.
        mask_output: `log_softmax` for a training by cross-entropy; the published model ends in `tanh`.
        discriminators: `both` [R], or one of them.
        discriminator_channels: of the first layer [R], as the next two.
        discriminator_levels: pairs of residual blocks; each but the last one halves the picture.
        discriminator_max_channels: of the widest layers.
        lambda_adversarial: weight of the adversarial terms of swap and random branch [2nd hand, as all weights].
        lambda_reconstruction: of the reconstructions and the cycle.
        lambda_mask: of the masks; without labels or a mask head there are none.
        lambda_content: of the contents found again.
        lambda_style: of the style found again in the swap branch.
        lambda_style_random: of the style found again in the random branch.
        lambda_distribution: of the styles' distance from a normal distribution; doubtful.
        style_pool: styles that are remembered for it; 100 by an author's word.
        learning_rate: of Adam, for both players.
        halve_every: iterations after which the rate is halved, again and again; 0 keeps it.
        betas: of Adam [R].
        training_noise: whether de-quantisation noise is added to pictures in training, as the published configuration says.
        inference_noise: whether it is added when translating too, as the official inference does; results then differ from those without.
        inference_size: shorter side to which exemplars are brought before their style is taken; the training's picture size.
        ema_decay: share of the old average that the generator's moving average (ours) keeps per iteration; 0 for none.

    Raises:
        ZooError: too few channels.
    """

    size_multiple = SIDE_MULTIPLE
    smallest_size = SMALLEST_SIZE

    def __init__(
        self,
        generator_channels: int = 48,
        encoder_blocks: int = 4,
        decoder_blocks: int = 5,
        style_channels: int = 3,
        mapping_channels: int = 64,
        mapping_layers: int = 3,
        mask_channels: int = 3,
        mask_output: MaskOutput = "log_softmax",
        discriminators: Discriminators = "both",
        discriminator_channels: int = 64,
        discriminator_levels: int = 4,
        discriminator_max_channels: int = 512,
        lambda_adversarial: float = 5.0,
        lambda_reconstruction: float = 2.0,
        lambda_mask: float = 3.0,
        lambda_content: float = 1.0,
        lambda_style: float = 0.1,
        lambda_style_random: float = 4.0,
        lambda_distribution: float = 7.0,
        style_pool: int = 100,
        learning_rate: float = 1e-4,
        halve_every: int = 200_000,
        betas: tuple[float, float] = (0.5, 0.999),
        training_noise: bool = True,
        inference_noise: bool = False,
        inference_size: int = 256,
        ema_decay: float = 0.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        mapping = (style_channels, mapping_channels, mapping_layers)
        self.generator = Generator(
            generator_channels, encoder_blocks, decoder_blocks, *mapping, mask_channels, mask_output
        )
        judging = (discriminator_channels, discriminator_levels, discriminator_max_channels)
        self.discriminators = nn.ModuleDict()
        if discriminators != "projection":
            self.discriminators["unconditional"] = UnconditionalDiscriminator(*judging)
        if discriminators != "unconditional":
            self.discriminators["projection"] = ProjectionDiscriminator(*judging, style_channels)
        self.ema = Ema({"generator": self.generator}, decay=ema_decay) if ema_decay > 0 else None
        self.pool = StylePool(style_pool)
        self.keep_per_rank("style_pool", self.pool)

        self.latent_channels = style_channels
        self.mask_channels, self.mask_output = mask_channels, mask_output
        self.lambda_adversarial, self.lambda_reconstruction = lambda_adversarial, lambda_reconstruction
        self.lambda_mask, self.lambda_content = lambda_mask, lambda_content
        self.lambda_style, self.lambda_style_random = lambda_style, lambda_style_random
        self.lambda_distribution = lambda_distribution
        self.adam = partial(Adam, lr=learning_rate, betas=betas)
        self.schedule = partial(halved_rate, halve_every)
        self.training_noise, self.inference_noise = training_noise, inference_noise
        self.inference_size = inference_size

    def setup(self, stage: str) -> None:
        """Refuse pictures and labels that do not fit; say when there are no labels, or exemplars of another size."""
        super().setup(stage)
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        size = getattr(data, "size", SMALLEST_SIZE)
        if size < SMALLEST_SIZE or size % SIZE_MULTIPLE:
            nearest = max(SMALLEST_SIZE, round(size / SIZE_MULTIPLE) * SIZE_MULTIPLE)
            raise ZooError(
                f"The data gives pictures of {size}x{size}; these networks take multiples of {SIZE_MULTIPLE} from {SMALLEST_SIZE} "
                f"pixels on: --data.size {nearest}"
            )
        classes = getattr(data, "classes", 0)
        if classes > self.mask_channels > 0:
            raise ZooError(
                f"The data's labels are of {classes} classes, and the model paints masks of {self.mask_channels}: "
                f"--model.mask_channels {classes}"
            )
        if stage != "fit" or data is None or self.global_rank != 0:
            return
        if size != self.inference_size:
            print(
                f"lightning: pictures of {size}x{size} are learnt from, and exemplars will be brought to {self.inference_size}: for the "
                f"same, --model.inference_size {size}",
                file=sys.stderr,
            )
        if self.mask_channels > 0 and self.lambda_mask > 0 and not classes:
            print(
                "lightning: the data has no segmentation labels, so the losses on masks are off. Labels of a folder: lightning labels "
                "FOLDER --output LABELS, then --data.labels LABELS. Without a mask head: --model.mask_channels 0",
                file=sys.stderr,
            )

    # Inference

    @property
    def inference_generator(self) -> Generator:
        """The generator's moving average where there is one, else the generator."""
        network = self.generator if self.ema is None else self.ema["generator"]
        assert isinstance(network, Generator)
        return network

    @property
    def named_styles(self) -> dict[str, tuple[float, ...]]:
        """The authors' 18 styles by name, for models whose styles have three numbers; they were found for the published one."""
        return dict(NAMED_STYLES) if self.latent_channels == len(NAMED_STYLES["day"]) else {}

    def translate(
        self,
        image: Tensor,
        *,
        to: str = "target",
        reference: Tensor | None = None,
        latent: Tensor | None = None,
    ) -> Tensor:
        """Repaint pictures in the light of exemplars, or in given or random styles.

        One picture goes with any number of exemplars or styles, and one of these with any number of pictures.

        Args:
            image: b 3 h w in [-1, 1], sides multiples of 4 from 16 on.
            to: there are no domains, so the one name is `target`.
            reference: exemplars b 3 h w in [-1, 1], brought to the model's inference size.
            latent: styles b s: `encode_style` gives them, `zoo.hidt.styles` names some. With neither of the two they are drawn from a
                normal distribution.

        Returns:
            Pictures b 3 h w in [-1, 1].

        Raises:
            ZooError: another domain; both an exemplar and a style; or numbers of them that don't go together.
        """
        return self.paint(image, self.style_of(image, to, reference, latent)).image

    def style_of(self, image: Tensor, to: str, reference: Tensor | None, latent: Tensor | None) -> Tensor:
        """The styles `b s` that `translate` is asked for; see there."""
        if to != "target":
            raise ZooError(f"HiDT knows no domains and translates to 'target', not to {to!r}.")
        if reference is not None and latent is not None:
            raise ZooError("The style comes from an exemplar or is given: `reference` or `latent`, not both.")
        if reference is not None:
            style = self.encode_style(reference)
        elif latent is not None:
            style = latent.flatten(1).to(image)
        else:
            with self.aside("translate"):
                style = self.draws.normal("style", (len(image), self.latent_channels), device=image.device).to(image)
        if len({len(image), len(style)} - {1}) > 1:
            raise ZooError(f"{len(image)} pictures and {len(style)} styles don't go together: give one, or as many.")
        return style

    def encode_style(self, image: Tensor) -> Tensor:
        """The styles `b s` of pictures `b 3 h w` in [-1, 1] of any size, which are brought to the inference size first."""
        with self.aside("style"):
            image = self.noisy(prepared(image, self.inference_size), "noise", self.inference_noise)
            return self.inference_generator.style_encoder(image)

    def paint(self, image: Tensor, style: Tensor) -> Painted:
        """Pictures `b 3 h w` in [-1, 1] and their masks in styles `b s`; one of either goes with any number of the other."""
        count = max(len(image), len(style))
        with self.aside("paint"):
            content = self.inference_generator.content_encoder(self.noisy(image, "noise", self.inference_noise))
            content = Content(*expanded(content, count))
            return self.inference_generator.decoder(content, style.expand(count, -1))

    def time_lapse(self, image: Tensor, styles: Tensor, *, steps: int = 30) -> Iterator[Tensor]:
        """Repaint one picture in styles on the straight lines from each style to the next: a time lapse, frame by frame.

        Args:
            image: 1 3 h w in [-1, 1].
            styles: k s, at least two.
            steps: frames from one style to the next, both among them; at least two.

        Yields:
            (k - 1)(steps - 1) + 1 pictures `1 3 h w` in [-1, 1]; where a style is reached, the picture of that style.
        """
        with self.aside("paint"):
            content = self.inference_generator.content_encoder(self.noisy(image, "noise", self.inference_noise))
        for style in between(styles.to(image), steps):
            with self.aside("time lapse"):
                frame = self.inference_generator.decoder(content, style).image
            yield frame

    def noisy(self, image: Tensor, name: str, wanted: bool) -> Tensor:
        """Pictures with de-quantisation noise, uniform over the step between two of 256 values, where it is wanted."""
        if not wanted:
            return image
        return with_noise(image, self.draws.uniform(name, image.shape, device=image.device).to(image))

    def translate_batch(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Each source in the style of its target; in a random style where there is none."""
        return self.translate(batch["source"], reference=batch.get("target"))

    # Training

    def configure_optimizers(self) -> list[Optimizer]:
        """One Adam for encoders and decoder, one for both discriminators, on one schedule."""
        making, judging = self.adam(self.generator.parameters()), self.adam(self.discriminators.parameters())
        return self.players(
            Player("generator", making, [self.generator], self.schedule),
            Player("discriminators", judging, [self.discriminators], self.schedule),
        )

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """The discriminators first, then encoders and decoder; sources and targets are one batch of pictures that swap styles."""
        x = self.noisy(torch.cat([batch["source"], batch["target"]]), "noise", self.training_noise)
        labels = [batch[key] for key in ("source_labels", "target_labels") if key in batch]
        # One pass serves both turns, because the generator does not move in between.
        made = self.make(x)
        self.update_discriminators(x, made)
        self.update_generator(x, made, torch.cat(labels) if labels else None)
        self.pool.push(made.style)
        if self.ema is not None:
            self.ema.update(self.iteration)

    def make(self, x: Tensor) -> Branches:
        """Paint pictures `b 3 h w` in their own styles, in each other's and in random ones, which the whole iteration uses."""
        content, style = self.generator.encode(x)
        swapped = swap_halves(style)
        random = self.draws.normal("style", style.shape).to(style)
        # The mask of the own style is read by no loss; it costs three channels of the last layer.
        paintings = [self.generator.decoder(content, wanted) for wanted in (style, swapped, random)]
        return Branches(content, style, swapped, random, *paintings)

    def judge(self, images: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, dict[str, Tensor]]:
        """Scores of pictures `b 3 h w` with styles `b s`, by name, of each discriminator; all pictures in one pass."""
        together = torch.cat([image for image, _ in images.values()])
        styles = torch.cat([style for _, style in images.values()])
        scores: dict[str, dict[str, Tensor]] = {}
        for name, network in self.discriminators.items():
            of_all = network(together, styles) if name == "projection" else network(together)
            scores[name] = dict(zip(images, of_all.chunk(len(images)), strict=True))
        return scores

    def update_discriminators(self, x: Tensor, made: Branches) -> None:
        """Tell pictures from what the generator makes of them; the real ones count once for each branch."""
        with self.player("discriminators") as player:
            scores = self.judge(
                {
                    "real": (x, made.style.detach()),
                    "swap": (made.swap.image.detach(), made.swapped_style.detach()),
                    "random": (made.drawn.image.detach(), made.random_style),
                }
            )
            terms: dict[str, Tensor] = {}
            for name, of in scores.items():
                terms[f"{name}_real"] = real_loss(of["real"])
                terms[f"{name}_swap"], terms[f"{name}_random"] = fake_loss(of["swap"]), fake_loss(of["random"])
                self.terms.compare(f"discriminator_{name}", of["real"], of["swap"])
            total = torch.stack([(2 if name.endswith("_real") else 1) * term for name, term in terms.items()]).sum()
            player.minimize(total)
        self.log_terms({**terms, "discriminators": total})

    def update_generator(self, x: Tensor, made: Branches, labels: Tensor | None) -> None:
        """Fool the discriminators, and find content, style and picture again in what was made."""
        with self.player("generator") as player:
            scores = self.judge(
                {
                    "swap": (made.swap.image, made.swapped_style.detach()),
                    "random": (made.drawn.image, made.random_style),
                }
            )
            content_swap, style_swap = self.generator.encode(made.swap.image)
            content_random, style_random = self.generator.encode(made.drawn.image)
            cycle = self.generator.decoder(content_swap, swap_halves(style_swap)).image
            random_again = self.generator.decoder(content_random, style_random).image
            terms = {
                "adversarial": torch.stack([real_loss(of["swap"]) for of in scores.values()]).sum(),
                "adversarial_random": torch.stack([real_loss(of["random"]) for of in scores.values()]).sum(),
                "reconstruction": absolute_difference(made.auto.image, x),
                "reconstruction_random": absolute_difference(random_again, made.drawn.image),
                "cycle": absolute_difference(cycle, x),
                "content": absolute_difference(content_swap.code, made.content.code),
                "content_random": absolute_difference(content_random.code, made.content.code),
                "style": absolute_difference(style_swap, made.swapped_style),
                "style_random": absolute_difference(style_random, made.random_style),
                "distribution": distribution_loss(self.pool.with_new(made.style)),
            }
            if labels is not None and made.swap.mask is not None and made.drawn.mask is not None:
                terms["mask"] = mask_loss(made.swap.mask, labels, self.mask_output)
                terms["mask_random"] = mask_loss(made.drawn.mask, labels, self.mask_output)
            weights = {
                "adversarial": self.lambda_adversarial,
                "adversarial_random": self.lambda_adversarial,
                "reconstruction": self.lambda_reconstruction,
                "reconstruction_random": self.lambda_reconstruction,
                "cycle": self.lambda_reconstruction,
                "content": self.lambda_content,
                "content_random": self.lambda_content,
                "style": self.lambda_style,
                "style_random": self.lambda_style_random,
                "distribution": self.lambda_distribution,
                "mask": self.lambda_mask,
                "mask_random": self.lambda_mask,
            }
            total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
            player.minimize(total)
        self.log_terms({**terms, "generator": total})

    # Looking

    def samples(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Columns of a sample grid: source, exemplar, translation, its mask, the source's reconstruction, a random style."""
        source, target = batch["source"], batch["target"]
        translation, mask = self.paint(source, self.encode_style(target))
        columns = {"source": source, "exemplar": target, "translation": translation}
        if mask is not None:
            columns["mask"] = mask_picture(mask)
        columns["reconstruction"] = self.paint(source, self.encode_style(source)).image
        columns["random style"] = self.translate(source)
        return columns

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log how well pictures survive code and style, how near a translation's style is to the exemplar's, how well masks fit."""
        source, target = batch["source"], batch["target"]
        wanted = self.encode_style(target)
        painted = self.paint(source, wanted)
        found = self.encode_style(painted.image)
        own = self.paint(source, self.encode_style(source)).image
        figures = {
            "val/reconstruction_psnr": psnr(own, source).mean(),
            "val/style_distance": absolute_difference(found, wanted),
        }
        if painted.mask is not None and "source_labels" in batch:
            labels = batch["source_labels"]
            figures["val/mask_accuracy"] = (painted.mask.argmax(1) == labels)[labels != IGNORED].float().mean()
        self.log_dict(figures, batch_size=len(source), sync_dist=True)

    test_step = validation_step


def swap_halves(x: Tensor) -> Tensor:
    """Exchange the first half of a batch and the second."""
    return x.roll(len(x) // 2, 0)


def expanded(content: Content, count: int) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Code and skips for so many samples; the content of a single picture serves all."""
    code, *skips = (x.expand(count, -1, -1, -1) for x in (content.code, *content.skips))
    return code, tuple(skips)


def mask_picture(mask: Tensor) -> Tensor:
    """A mask `b k h w` of any form as grey pictures `b 1 h w` in [-1, 1]: each class a grey, the first one black."""
    return 2 * mask.argmax(1, keepdim=True).to(mask.dtype) / max(1, mask.shape[1] - 1) - 1
