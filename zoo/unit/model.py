"""UNIT: the model. `zoo.unit` tells the story."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from zoo.blocks.initialise import initialise
from zoo.core import Ema, Player, Translator
from zoo.core.images import psnr
from zoo.errors import ZooError
from zoo.experts.vgg import VGGFeatures
from zoo.unit.discriminators import (
    BlurredDiscriminators,
    Norm,
    PlainDiscriminators,
    PooledDiscriminators,
    SharedDiscriminators,
)
from zoo.unit.generators import (
    Activation,
    CoupledGenerators,
    Padding,
    munit_style_generators,
    paper_generators,
)
from zoo.unit.losses import (
    Adversarial,
    absolute_difference,
    adversarial_loss,
    caffe_picture,
    discriminator_loss,
    kl_loss,
    perceptual_loss,
)
from zoo.weights.fetch import fetch
from zoo.weights.preflight import missing_weights
from zoo.weights.unit import caffe_vgg

Variant = Literal["paper", "munit_style"]
Discriminator = Literal["plain", "shared", "blurred", "pooled"]
OTHER = {"source": "target", "target": "source"}
PERCEPTUAL_LAYER = "relu5_3"


def initialise_as(variant: Variant, generators: nn.Module, discriminators: nn.Module) -> None:
    """Draw initial weights, of N(0, 0.02) but for the later official code's generators (Kaiming), whose biases are 0, too."""
    if variant == "munit_style":
        initialise(generators, "kaiming")
        initialise(discriminators, "normal", 0.02)
        return
    for layer in (*generators.modules(), *discriminators.modules()):
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)


def copy_source(generators: CoupledGenerators, channels: tuple[int, int]) -> None:
    """Give the target's own layers the source's weights."""
    if channels[0] != channels[1]:
        raise ZooError(
            f"The domains' pictures have {channels[0]} and {channels[1]} channels, so their layers can't start alike: "
            "--model.same_start false"
        )
    for part in (generators.encoders, generators.decoders):
        part["target"].load_state_dict(part["source"].state_dict())


def step_decay(interval: int, factor: float, iteration: int) -> float:
    """Factor of the learning rate in a 0-based iteration: `factor` once more every so many iterations, one too early.

    The later official code steps its schedule at the start of an iteration, so the first drop is at `interval - 1`.
    """
    return factor ** ((iteration + 1) // interval) if interval else 1.0


class UNIT(Translator):
    """Unpaired translation between a source and a target domain through one latent space.

    Batches have `source` and `target`, `b c h w` in [-1, 1], of one size. Inference uses the generators, or their moving average
    where there is one, in eval mode, and the codes' means. The defaults are the paper's, as its code (version_02) has them.

    Args:
        variant: `paper`, or `munit_style` for the generators and initial weights of the later official code.
        source_channels: of source pictures.
        target_channels: of target pictures.
        generator_channels: of the generators' first layers.
        downsamplings: halvings on the way to the code; 2 in all official configurations.
        residual_blocks: of each encoder, and of each decoder.
        shared_blocks: how many of them both domains share: an encoder's last ones and a decoder's first ones. The later official code
            shares none.
        decoder_residual_blocks: another number for the decoders; null for the same.
        decoder_shared_blocks: another number for the decoders; null for the same.
        front_norm: `instance` normalises where the size changes; cats and dogs in the paper's code. `paper` alone, as the next one.
        residual_dropout: share of a residual block's outputs that are dropped in training; 0.5 for the paper's streets.
        activation: of the generators; `munit_style` alone, as the next one.
        padding: of the generators.
        discriminator: `plain`, `shared` or `blurred` of the paper's code, or `pooled` of the later one: see `zoo.unit.discriminators`.
        discriminator_channels: of the discriminators' first layers.
        discriminator_layers: strided convolutions; in the paper 5 for maps, 6 for animals and (`shared`) faces, 4 with several scales.
        discriminator_shared_layers: of `shared`: how many of them, the last ones, both domains share.
        discriminator_scales: of `blurred` and `pooled`: number of sizes.
        discriminator_norm: of `pooled`, as the next two.
        discriminator_activation: after each layer but the last.
        discriminator_padding: of the strided convolutions.
        crop_to_height: of `blurred`: whether the smaller sizes lose a wide picture's right part, as in the official code.
        adversarial: `bce`, or `lsgan` as in the later official code.
        lambda_adversarial: weight of the adversarial losses of both players.
        lambda_reconstruction: weight of the reconstruction within a domain.
        lambda_kl: weight of the codes' divergence.
        lambda_cycle: weight of the way there and back; 0 saves the decoding.
        lambda_cycle_kl: weight of the translations' codes' divergence; with both at 0 nothing is encoded again.
        lambda_perceptual: weight of the perceptual loss between a picture and its translation; the later official code has 1 for streets.
        kl_of: `code`, the noisy one, as in the paper's code, or its `mean`, as in the later one.
        perceptual: `vgg16_caffe` for published weights, `random` for a network of random weights.
        perceptual_channels: of VGG's first block; 64 in the published network.
        same_start: whether the target's own layers of the generators start as copies of the source's (ours): translations then begin as
            reconstructions, in the source's colours, which a short training may not find from two random starts.
        learning_rate: of Adam, for both players.
        betas: of Adam.
        weight_decay: of Adam.
        decay_interval: iterations after which the rate falls; 0 keeps it, as in the paper's code; 100,000 in the later one.
        decay_factor: what is left of it then.
        ema_decay: share of the old average that the generators' moving average (ours) keeps per iteration; 0 for none.

    Raises:
        ZooError: more blocks or layers are shared than there are, the perceptual loss is to look at other pictures than RGB, or
            domains of different channels are to start alike.
    """

    def __init__(
        self,
        variant: Variant = "paper",
        source_channels: int = 3,
        target_channels: int = 3,
        generator_channels: int = 64,
        downsamplings: int = 2,
        residual_blocks: int = 4,
        shared_blocks: int = 1,
        decoder_residual_blocks: int | None = None,
        decoder_shared_blocks: int | None = None,
        front_norm: Literal["none", "instance"] = "none",
        residual_dropout: float = 0.0,
        activation: Activation = "relu",
        padding: Padding = "reflect",
        discriminator: Discriminator = "plain",
        discriminator_channels: int = 64,
        discriminator_layers: int = 5,
        discriminator_shared_layers: int = 4,
        discriminator_scales: int = 3,
        discriminator_norm: Norm = "none",
        discriminator_activation: Activation = "lrelu",
        discriminator_padding: Padding = "reflect",
        crop_to_height: bool = False,
        adversarial: Adversarial = "bce",
        lambda_adversarial: float = 10.0,
        lambda_reconstruction: float = 100.0,
        lambda_kl: float = 0.1,
        lambda_cycle: float = 100.0,
        lambda_cycle_kl: float = 0.1,
        lambda_perceptual: float = 0.0,
        kl_of: Literal["code", "mean"] = "code",
        perceptual: Literal["vgg16_caffe", "random"] = "vgg16_caffe",
        perceptual_channels: int = 64,
        same_start: bool = False,
        learning_rate: float = 1e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        weight_decay: float = 1e-4,
        decay_interval: int = 0,
        decay_factor: float = 0.5,
        ema_decay: float = 0.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        pictures = (source_channels, target_channels)
        if lambda_perceptual > 0 and pictures != (3, 3):
            raise ZooError(
                f"The perceptual loss looks at RGB, and the domains' pictures have {source_channels} and {target_channels} channels. "
                "Switch it off: --model.lambda_perceptual 0"
            )
        blocks = (
            residual_blocks,
            residual_blocks if decoder_residual_blocks is None else decoder_residual_blocks,
            shared_blocks,
            shared_blocks if decoder_shared_blocks is None else decoder_shared_blocks,
        )
        widths = (*pictures, generator_channels, downsamplings)
        if variant == "paper":
            self.generators = paper_generators(*widths, *blocks, front_norm, residual_dropout)
        else:
            self.generators = munit_style_generators(*widths, *blocks, activation, padding)

        judging = (*pictures, discriminator_channels, discriminator_layers)
        self.discriminators: nn.Module
        if discriminator == "plain":
            self.discriminators = PlainDiscriminators(*judging)
        elif discriminator == "shared":
            self.discriminators = SharedDiscriminators(*judging, discriminator_shared_layers)
        elif discriminator == "blurred":
            self.discriminators = BlurredDiscriminators(*judging, discriminator_scales, crop_to_height)
        else:
            look = (discriminator_norm, discriminator_activation, discriminator_padding)
            self.discriminators = PooledDiscriminators(*judging, discriminator_scales, *look)
        initialise_as(variant, self.generators, self.discriminators)
        if same_start:
            copy_source(self.generators, pictures)
        self.ema = Ema({"generators": self.generators}, decay=ema_decay) if ema_decay > 0 else None
        self.vgg: VGGFeatures | None = None  # comes with `setup`: who translates needs none

        self.size_multiple, self.smallest_size = 2**downsamplings, 2 * 2**downsamplings  # a code of 2x2
        # A mirrored border needs two pixels in front of the last strided convolution, at the smallest scale.
        smallest_judged = 2 ** (discriminator_layers + discriminator_scales - 1) if discriminator == "pooled" else 1
        self.least_size = max(self.smallest_size, smallest_judged)  # of pictures to train on
        self.encoders_drop = variant == "paper" and residual_dropout > 0
        self.adversarial = adversarial
        self.lambda_adversarial = lambda_adversarial
        self.lambda_reconstruction, self.lambda_kl = lambda_reconstruction, lambda_kl
        self.lambda_cycle, self.lambda_cycle_kl = lambda_cycle, lambda_cycle_kl
        self.lambda_perceptual, self.kl_of = lambda_perceptual, kl_of
        self.perceptual, self.perceptual_channels = perceptual, perceptual_channels
        self.adam = partial(Adam, lr=learning_rate, betas=betas, weight_decay=weight_decay)
        self.schedule = partial(step_decay, decay_interval, decay_factor)

    @classmethod
    def missing(cls, settings: Mapping[str, Any], *, resumed: bool = False) -> list[str]:
        """Name the weights of the perceptual loss, where it is on and they can't be had here."""
        if settings.get("lambda_perceptual", 0.0) <= 0 or settings.get("perceptual", "vgg16_caffe") == "random":
            return []
        without = "Or train without it: --model.lambda_perceptual 0"
        return [f"{sentence} {without}" for sentence in missing_weights("vgg16_caffe")]

    def setup(self, stage: str) -> None:
        """Refuse pictures that are too small, and fetch the network of the perceptual loss."""
        super().setup(stage)
        if stage != "fit":
            return
        size = getattr(self.trainer.datamodule, "size", self.least_size)  # type: ignore[attr-defined]
        if size < self.least_size:
            found = f"The data gives pictures of {size}x{size}, and these networks need {self.least_size} pixels"
            raise ZooError(f"{found}: --data.size {self.least_size}, or fewer --model.discriminator_layers")
        if self.lambda_perceptual > 0 and self.vgg is None:
            self.vgg = VGGFeatures(
                16,
                [PERCEPTUAL_LAYER],
                base_channels=self.perceptual_channels,
                normalised_input=True,
                without_pools=["pool4"],
            ).to(self.device)
            if self.perceptual == "vgg16_caffe":
                self.vgg.load_weights(caffe_vgg(fetch("vgg16_caffe")))

    # Inference

    @property
    def inference_generators(self) -> CoupledGenerators:
        """The generators' moving average where there is one, else the generators."""
        network = self.generators if self.ema is None else self.ema["generators"]
        assert isinstance(network, CoupledGenerators)
        return network

    def translate(self, image: Tensor, *, to: str = "target") -> Tensor:
        """Translate pictures `b c h w` in [-1, 1] of the other domain into `target` or `source`, in eval mode, without noise."""
        if to not in OTHER:
            raise ZooError(f"UNIT translates to 'target' or to 'source', not to {to!r}.")
        with self.aside("translate"):
            return self.inference_generators.decode(self.inference_generators.encode(image, OTHER[to]), to)

    def reconstruct(self, image: Tensor, *, domain: str = "source") -> Tensor:
        """Encode and decode pictures `b c h w` in [-1, 1] within their own domain, `source` or `target`."""
        _require_domain(domain)
        with self.aside("reconstruct"):
            return self.inference_generators.decode(self.inference_generators.encode(image, domain), domain)

    def interpolate(
        self, first: Tensor, last: Tensor, *, steps: int = 7, domain: str = "source", to: str = "target"
    ) -> Tensor:
        """Decode codes on the straight lines between the codes of two batches of pictures.

        Args:
            first: b c h w in [-1, 1], where the lines begin.
            last: the same shape, where they end.
            steps: pictures per line, both ends among them; at least 2.
            domain: that both come from.
            to: domain to decode into; the other one's pictures are translations, their own one's reconstructions.

        Returns:
            b steps c h w in [-1, 1].

        Raises:
            ZooError: an unknown domain, or fewer than two steps.
        """
        _require_domain(domain)
        _require_domain(to)
        if steps < 2:
            raise ZooError(f"A line has two ends: steps is {steps}, and must be at least 2.")
        generators = self.inference_generators
        with self.aside("interpolate"):
            begin, end = generators.encode(first, domain), generators.encode(last, domain)
            shares = torch.linspace(0, 1, steps, device=begin.device, dtype=begin.dtype)
            return torch.stack([generators.decode(begin.lerp(end, share), to) for share in shares], 1)

    # Training

    def configure_optimizers(self) -> list[Optimizer]:
        """One Adam for encoders and decoders of both domains, each shared weight once; one for both discriminators."""
        making, judging = self.adam(self.generators.parameters()), self.adam(self.discriminators.parameters())
        return self.players(
            Player("generators", making, [self.generators], self.schedule),
            Player("discriminators", judging, [self.discriminators], self.schedule),
        )

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """The discriminators first; then the generators, with fresh noise on the codes."""
        source, target = batch["source"], batch["target"]
        # One encoding serves both turns, because no generator moves in between; but dropout has masks of its own in each.
        with torch.set_grad_enabled(not self.encoders_drop):
            means = self.generators.encode_both(source, target)
        self.update_discriminators(source, target, *means)
        if self.encoders_drop:
            means = self.generators.encode_both(source, target)
        self.update_generators(source, target, *means)
        if self.ema is not None:
            self.ema.update(self.iteration)

    def sample(self, mean_source: Tensor, mean_target: Tensor) -> tuple[Tensor, Tensor]:
        """Draw codes `b z h w` of variance 1 around their means."""
        source = mean_source + self.draws.normal("noise_source", mean_source.shape)
        return source, mean_target + self.draws.normal("noise_target", mean_target.shape)

    def update_discriminators(self, source: Tensor, target: Tensor, mean_source: Tensor, mean_target: Tensor) -> None:
        """Tell pictures of each domain from translations into it."""
        with self.player("discriminators") as player:
            with torch.no_grad():
                codes = self.sample(mean_source, mean_target)
                fake_source, fake_target = self.generators.decode_crossed(*codes)
            logits = self.discriminators(torch.cat([source, fake_source]), torch.cat([target, fake_target]))
            losses = [discriminator_loss(self.adversarial, of_domain) for of_domain in logits]
            total = self.lambda_adversarial * (losses[0] + losses[1])
            player.minimize(total)
        self.log_terms({"discriminator_source": losses[0], "discriminator_target": losses[1], "discriminators": total})
        for name, of_domain in zip(("source", "target"), logits, strict=True):
            self.terms.compare(f"discriminator_{name}", *zip(*(scale.chunk(2) for scale in of_domain), strict=True))

    def update_generators(self, source: Tensor, target: Tensor, mean_source: Tensor, mean_target: Tensor) -> None:
        """Reconstruct within the domains, fool the discriminators across them, and find the way back."""
        with self.player("generators") as player:
            codes = self.sample(mean_source, mean_target)
            made = self.generators.decode_both(*codes)
            logits_source, logits_target = self.discriminators(made.to_source, made.to_target)
            kept_source, kept_target = codes if self.kl_of == "code" else (mean_source, mean_target)
            terms = {
                "adversarial_source": adversarial_loss(self.adversarial, logits_source, real=True),
                "adversarial_target": adversarial_loss(self.adversarial, logits_target, real=True),
                "reconstruction_source": absolute_difference(made.source, source),
                "reconstruction_target": absolute_difference(made.target, target),
                "kl_source": kl_loss(kept_source),
                "kl_target": kl_loss(kept_target),
                **self.way_back(source, target, made.to_source, made.to_target),
                **self.perceived_change(source, target, made.to_source, made.to_target),
            }
            weights = {
                "adversarial": self.lambda_adversarial,
                "reconstruction": self.lambda_reconstruction,
                "kl": self.lambda_kl,
                "cycle": self.lambda_cycle,
                "cycle_kl": self.lambda_cycle_kl,
                "perceptual": self.lambda_perceptual,
            }
            total = torch.stack([weights[name.rpartition("_")[0]] * term for name, term in terms.items()]).sum()
            player.minimize(total)
        self.log_terms({**terms, "generators": total})

    def way_back(self, source: Tensor, target: Tensor, to_source: Tensor, to_target: Tensor) -> dict[str, Tensor]:
        """The terms of the cycle: translations are encoded again, and decoded where they came from."""
        if self.lambda_cycle <= 0 and self.lambda_cycle_kl <= 0:
            return {}
        means = self.generators.encode_both(to_source, to_target)
        codes = self.sample(*means)
        of_target, of_source = map(kl_loss, codes if self.kl_of == "code" else means)
        terms = {"cycle_kl_source": of_source, "cycle_kl_target": of_target}
        if self.lambda_cycle > 0:
            back_source, back_target = self.generators.decode_crossed(*codes)
            terms["cycle_source"] = absolute_difference(back_source, source)
            terms["cycle_target"] = absolute_difference(back_target, target)
        return terms

    def perceived_change(
        self, source: Tensor, target: Tensor, to_source: Tensor, to_target: Tensor
    ) -> dict[str, Tensor]:
        """The perceptual terms, named by the domain of the translation, which is compared with the picture that it was made from."""
        if self.vgg is None or self.lambda_perceptual <= 0:
            return {}
        with torch.no_grad():
            wanted = self.perceive(torch.cat([target, source])).chunk(2)
        found = self.perceive(torch.cat([to_source, to_target])).chunk(2)
        losses = map(perceptual_loss, found, wanted)
        return dict(zip(("perceptual_source", "perceptual_target"), losses, strict=True))

    def perceive(self, image: Tensor) -> Tensor:
        """VGG's features `b c h/8 w/8` of pictures b 3 h w."""
        assert self.vgg is not None
        return self.vgg(caffe_picture(image))[PERCEPTUAL_LAYER]

    # Looking

    def samples(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Columns of a sample grid: each domain, its reconstruction, its translation and the way back."""
        source, target = batch["source"], batch["target"]
        to_target, to_source = self.translate(source), self.translate(target, to="source")
        return {
            "source": source,
            "translation": to_target,
            "reconstruction": self.reconstruct(source),
            "there and back": self.translate(to_target, to="source"),
            "target": target,
            "translation to source": to_source,
            "reconstruction of target": self.reconstruct(target, domain="target"),
            "target there and back": self.translate(to_source),
        }

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log how well pictures survive the code, and the way there and back, in dB; neither speaks of the translation itself."""
        figures: dict[str, Tensor] = {}
        for domain, other in OTHER.items():
            image = batch[domain]
            back = self.translate(self.translate(image, to=other), to=domain)
            figures[f"val/reconstruction_psnr_{domain}"] = psnr(self.reconstruct(image, domain=domain), image).mean()
            figures[f"val/cycle_psnr_{domain}"] = psnr(back, image).mean()
        self.log_dict(figures, batch_size=len(batch["source"]), sync_dist=True)

    test_step = validation_step


def _require_domain(domain: str) -> None:
    if domain not in OTHER:
        raise ZooError(f"There is no domain {domain!r}; there are 'source' and 'target'.")
