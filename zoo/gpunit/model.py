"""GP-UNIT, second stage: the model. `zoo.gpunit` tells the story."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.optim import Adam, Optimizer

from zoo.blocks.adversarial import adversarial_loss, r1_penalty
from zoo.blocks.rates import falling_rate
from zoo.core import Draws, Ema, Player, Translator, sync
from zoo.core.images import from_uint8, psnr
from zoo.core.precision import full
from zoo.errors import ZooError
from zoo.experts.ir_se50 import IRSE50
from zoo.experts.vgg import VGGFeatures
from zoo.gpunit.content import ContentEncoder, Initialisation, feature_channels, initialise_layers
from zoo.gpunit.discriminator import Discriminator, Norm
from zoo.gpunit.generator import Generator
from zoo.gpunit.losses import perceptual_loss, perceptual_network, require_size
from zoo.gpunit.sampler import StyleSampler, Watch, fit_sampler, rare_styles, sampler_epochs
from zoo.weights.gpunit import load_content_encoder, missing_weights

RANDOM = "random"
"""The content encoder that is none: random weights, for tests."""

IDENTITY_WEIGHTS = "model_ir_se50"

# Losses ------------------------------------------------------------------------------------------------------------------------


def content_loss(content: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute difference of contents `b 1 8 8`; none flows into `wanted`."""
    return F.l1_loss(full(content), full(wanted).detach())


def style_loss(styles: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference of the discriminator's styles `b c`, summed over its layers; none flows into `wanted`."""
    terms = [F.l1_loss(full(style), full(other).detach()) for style, other in zip(styles, wanted, strict=True)]
    return torch.stack(terms).sum()


def mask_loss(masks: Sequence[Tensor]) -> Tensor:
    """Means of the skips' masks `b c h w`, summed over the skips."""
    return torch.stack([full(mask).mean() for mask in masks]).sum()


# The model ---------------------------------------------------------------------------------------------------------------------


class GPUNIT(Translator):
    """Translation into a target domain, guided by an exemplar or by chance.

    Batches have `source` and `target`, `b c h w` in [-1, 1]. Inference uses the generator's moving average and the content
    encoder, both in eval mode. Losses are means over pictures, so that processes can share a batch; but for the style's mirror,
    which is drawn once for the batch of each process.

    Args:
        image_size: side of the pictures: 64, 128, 256, 512, ...
        content_channels: of the content encoder's first layer.
        generator_channels: of the generator's finest levels.
        style_channels: length of the style code.
        style_width: channels of the style encoder's first layer.
        bottleneck: of the style encoder.
        discriminator_channels: of the discriminator's first layer.
        discriminator_max_channels: of its widest layers.
        discriminator_norm: spectral normalisation, as in the official code, or none (ours): a small network learns sooner without.
        content_encoder: where its weights come from: `content_encoder`, the published ones; `demo`, a small one for 64x64 rendered
            scenes; a path, of a file or of a run of the first stage; `random`, for tests. A checkpoint holds them from then on.
        perceptual: "vgg19" for the published weights, "random" for a network of random weights, null for no perceptual loss.
        perceptual_channels: of VGG's first block; 64 in the published network.
        lambda_adversarial: weight of the adversarial loss.
        lambda_content: weight of the content loss.
        lambda_style: weight of the style loss.
        lambda_mask: weight of the masks.
        lambda_reconstruction: weight of the reconstruction's absolute difference.
        lambda_perceptual: weight of the reconstruction's perceptual loss.
        lambda_identity: weight of the identity loss, for faces; 0 does without.
        lambda_r1: weight of the discriminator's gradient penalty; 0 saves it.
        style_layer: after which of the discriminator's layers style is compared; the sum over several. 5 where style is in the whole.
        style_flip: whether a draw mirrors the exemplars; not where style has a side, such as that of a parting.
        all_skip: whether the reconstruction uses the skip connections, too.
        initialisation: "gpu" or "cpu", see `zoo.gpunit.content.initialise_layers`.
        learning_rate: of Adam, for both players.
        discriminator_learning_rate: another one for the discriminator (ours); null for the same.
        betas: of Adam.
        weight_decay: of Adam.
        decay_begin: iteration from which both rates fall on a straight line (ours).
        decay_iterations: in so many iterations, to 0; 0 keeps them, as the official code does.
        ema_decay: share of the old average that the generator's moving average keeps per iteration.
        latent_channels: of the sampler's noise.
        sampler_channels: of its hidden layers.
        sampler_steps: styles that it learns from in all.
        sampler_batch: of its steps.
        mitigate_style_bias: whether it learns from rare styles more often.
        sampler_batch_statistics: whether its batch norms use the statistics of the latents at hand when translating, as the official
            inference does, instead of the standing ones.

    Raises:
        ZooError: an impossible image size or style layer.
    """

    def __init__(
        self,
        image_size: int = 256,
        content_channels: int = 64,
        generator_channels: int = 64,
        style_channels: int = 256,
        style_width: int = 64,
        bottleneck: int = 64,
        discriminator_channels: int = 64,
        discriminator_max_channels: int = 512,
        discriminator_norm: Norm = "spectral",
        content_encoder: str = "content_encoder",
        perceptual: Literal["vgg19", "random"] | None = "vgg19",
        perceptual_channels: int = 64,
        lambda_adversarial: float = 1.0,
        lambda_content: float = 1.0,
        lambda_style: float = 50.0,
        lambda_mask: float = 1.0,
        lambda_reconstruction: float = 1.0,
        lambda_perceptual: float = 1.0,
        lambda_identity: float = 0.0,
        lambda_r1: float = 1.0,
        style_layer: int | list[int] = 4,
        style_flip: bool = True,
        all_skip: bool = False,
        initialisation: Initialisation = "gpu",
        learning_rate: float = 1e-4,
        discriminator_learning_rate: float | None = None,
        betas: tuple[float, float] = (0.0, 0.99),
        weight_decay: float = 1e-4,
        decay_begin: int = 0,
        decay_iterations: int = 0,
        ema_decay: float = 0.999,
        latent_channels: int = 128,
        sampler_channels: int = 128,
        sampler_steps: int = 2_000_000,
        sampler_batch: int = 128,
        mitigate_style_bias: bool = False,
        sampler_batch_statistics: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.content_encoder = ContentEncoder(content_channels, image_size)
        features = feature_channels(content_channels, image_size)
        self.generator = Generator(features, generator_channels, style_channels, style_width, bottleneck)
        self.discriminator = Discriminator(
            image_size, discriminator_channels, discriminator_max_channels, discriminator_norm
        )
        self.style_layers = [style_layer] if isinstance(style_layer, int) else list(style_layer)
        self.discriminator.require_layers(self.style_layers)
        for network in (self.content_encoder, self.generator, self.discriminator):
            initialise_layers(network, initialisation)
        self.content_encoder.requires_grad_(False)  # for ever; in training mode its spectral norms move all the same
        self.ema = Ema({"generator": self.generator}, decay=ema_decay)
        self.sampler = StyleSampler(latent_channels, style_channels, sampler_channels).requires_grad_(False).eval()
        self.sampler_fitted: Tensor
        self.register_buffer("sampler_fitted", torch.zeros((), dtype=torch.bool))
        self.vgg: VGGFeatures | None = None  # comes with `setup`, as the next one: who translates needs none
        self.faces: IRSE50 | None = None

        self.image_size, self.latent_channels = image_size, latent_channels
        self.content_source = content_encoder
        self.perceptual, self.perceptual_channels = perceptual, perceptual_channels
        self.lambda_adversarial, self.lambda_content, self.lambda_style = (
            lambda_adversarial,
            lambda_content,
            lambda_style,
        )
        self.lambda_mask, self.lambda_reconstruction = lambda_mask, lambda_reconstruction
        self.lambda_perceptual, self.lambda_identity, self.lambda_r1 = lambda_perceptual, lambda_identity, lambda_r1
        self.style_flip, self.all_skip = style_flip, all_skip
        self.adam = partial(Adam, lr=learning_rate, betas=betas, weight_decay=weight_decay)
        self.discriminator_learning_rate = discriminator_learning_rate or learning_rate
        self.schedule = partial(falling_rate, decay_begin, decay_iterations)
        self.sampler_steps, self.sampler_batch = sampler_steps, sampler_batch
        self.mitigate_style_bias, self.sampler_batch_statistics = mitigate_style_bias, sampler_batch_statistics

    @classmethod
    def missing(cls, settings: Mapping[str, Any], *, resumed: bool = False) -> list[str]:
        """Name the weights that a training starts from or is guided by and that can't be had here."""
        wanted = {} if resumed else {settings.get("content_encoder", "content_encoder"): "--model.content_encoder"}
        if settings.get("perceptual", "vgg19") == "vgg19":
            wanted["vgg19"] = ""
        if settings.get("lambda_identity", 0.0) > 0:
            wanted[IDENTITY_WEIGHTS] = ""
        wanted.pop(RANDOM, None)
        return [sentence for source, option in wanted.items() for sentence in missing_weights(source, option)]

    def setup(self, stage: str) -> None:
        """Fetch what guides the training."""
        super().setup(stage)
        require_size(self.trainer.datamodule, self.image_size)  # type: ignore[attr-defined]
        if stage != "fit":
            return
        if self.perceptual is not None and self.vgg is None:
            self.vgg = perceptual_network(self.perceptual, self.perceptual_channels).to(self.device)
        if self.lambda_identity > 0 and self.faces is None:
            self.faces = IRSE50(pretrained=True).to(self.device)

    def on_fit_start(self) -> None:
        """Fetch the content encoder; a checkpoint that the training goes on from has brought it already."""
        if self.content_source != RANDOM and not self.trainer.ckpt_path:
            load_content_encoder(self.content_encoder, self.content_source)

    def translate(
        self,
        image: Tensor,
        *,
        to: str = "target",
        reference: Tensor | None = None,
        latent: Tensor | None = None,
        correspondence: float = 1.0,
    ) -> Tensor:
        """Translate pictures in the style of exemplars, or in random styles.

        One picture goes with any number of exemplars or latents, and one of these with any number of pictures.

        Args:
            image: b 3 h w in [-1, 1]; other sizes than the model's are resized first, bilinearly with the corners in place.
            to: the one domain that this model translates into, `target`.
            reference: exemplars b 3 h w in [-1, 1], resized likewise.
            latent: b z from a normal distribution, for the sampler. With neither of the two, latents are drawn.
            correspondence: how closely the translation follows the source: see `zoo.gpunit.generator.Generator.forward`.

        Returns:
            Pictures b 3 h w in [-1, 1], of the model's size.

        Raises:
            ZooError: another domain; both an exemplar and a latent; numbers of them that don't go together; or no exemplar,
                and the sampler is not fitted.
        """
        if to != "target":
            raise ZooError(f"GP-UNIT is trained for one direction and translates to 'target', not to {to!r}.")
        if reference is not None and latent is not None:
            raise ZooError("The style comes from an exemplar or from a latent: give `reference` or `latent`, not both.")
        with self.aside("translate"):
            if reference is not None:
                code = self.averaged.encode_style(self.at_image_size(reference))  # b s
            else:
                shape = (len(image), self.latent_channels)
                code = self.sample_styles(
                    self.draws.normal("latent", shape, device=self.device) if latent is None else latent
                )
            if len({len(image), len(code)} - {1}) > 1:
                raise ZooError(f"{len(image)} pictures and {len(code)} styles don't go together: give one, or as many.")
            features = self.content_encoder(self.at_image_size(image))
            return self.averaged(features, code, correspondence=correspondence)[0]

    @property
    def averaged(self) -> Generator:
        """The generator's moving average."""
        network = self.ema["generator"]
        assert isinstance(network, Generator)
        return network

    def at_image_size(self, image: Tensor) -> Tensor:
        """Resize pictures `b 3 h w` to the model's size as the official inference does: bilinearly, corners in place."""
        size = (self.image_size, self.image_size)
        return image if image.shape[2:] == size else F.interpolate(image, size, mode="bilinear", align_corners=True)

    def sample_styles(self, latent: Tensor) -> Tensor:
        """Map latents `b z` to style codes `b s`, by the sampler in eval mode or, as an option, with the batch's statistics.

        Raises:
            ZooError: the sampler is not fitted; or the batch's statistics of a single latent are asked for.
        """
        if not self.sampler_fitted:
            raise ZooError(
                "The sampler of random styles is not fitted yet: fit it to the target domain (lightning sampler RUN), or give the "
                "style by an exemplar (--reference PICTURE)."
            )
        with torch.no_grad():
            return self.sampler(
                latent.to(self.sampler.lin1.weight.dtype), batch_statistics=self.sampler_batch_statistics
            )

    def translate_batch(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Each source in the style of its target; in a random style where there is none."""
        return self.translate(batch["source"], reference=batch.get("target"))

    def interpolate(self, image: Tensor, corners: Tensor, *, steps: int = 3, correspondence: float = 1.0) -> Tensor:
        """Translate one picture in styles between given ones, on a grid.

        Args:
            image: 1 3 h w in [-1, 1].
            corners: r c s, style codes on a coarse grid: three by three in the official notebook.
            steps: of the fine grid between two corners.
            correspondence: see `translate`.

        Returns:
            (r - 1) steps + 1 rows and (c - 1) steps + 1 columns of pictures, R C 3 h w; seven by seven in the notebook.
        """
        rows, columns = (steps * (count - 1) + 1 for count in corners.shape[:2])
        grid = F.interpolate(corners.permute(2, 0, 1)[None], (rows, columns), mode="bilinear", align_corners=True)
        codes = grid[0].permute(1, 2, 0)  # R C s
        with self.aside("interpolate"):
            features = self.content_encoder(self.at_image_size(image))
            pictures = [self.averaged(features, row, correspondence=correspondence)[0] for row in codes]
        return torch.stack(pictures)

    def configure_optimizers(self) -> list[Optimizer]:
        """One Adam for the generator with its style encoder, one for the discriminator, on one schedule."""
        generator = self.adam(self.generator.parameters())
        discriminator = self.adam(self.discriminator.parameters(), lr=self.discriminator_learning_rate)
        return self.players(
            Player("generator", generator, [self.generator], self.schedule),
            Player("discriminator", discriminator, [self.discriminator], self.schedule),
        )

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """The generator first; then the discriminator, on what the generator makes after its step."""
        source, target = batch["source"], batch["target"]
        with torch.no_grad():  # in this order: each pass moves the encoder's spectral norms
            features_source = self.content_encoder(source)  # b c h w each
            features_target = self.content_encoder(target)
        exemplar = self.mirrored(target) if self.style_flip else target
        self.update_generator(features_source, features_target, exemplar, target)
        self.update_discriminator(features_source, exemplar, target)
        self.ema.update(self.iteration)

    def mirrored(self, target: Tensor) -> Tensor:
        """The whole batch or its mirror image, by one draw: style must not depend on where things are."""
        mirror = self.draws.uniform("style_flip", (1,)) >= 0.5
        return torch.where(mirror, target.flip(3), target)

    def update_generator(
        self, features_source: list[Tensor], features_target: list[Tensor], exemplar: Tensor, target: Tensor
    ) -> None:
        """Translate the source in the exemplar's style, and reconstruct the target from its own content and style."""
        with self.player("generator") as player:
            code = self.generator.encode_style(exemplar)  # b s
            translation, masks = self.generator(features_source, code)
            reconstruction, _ = self.generator(features_target, code, skip=self.all_skip)
            # The official code judges both batches in one pass. Only the translation needs the judgement and gradients; the
            # weights are computed once for both, so spectral norms move once, too.
            with parametrize.cached():
                logits, styles = self.discriminator(translation, self.style_layers)
                with torch.no_grad():
                    wanted_styles = self.discriminator.describe(target, self.style_layers)
            terms = {
                "adversarial": adversarial_loss(logits, real=True),
                "content": content_loss(self.content_encoder(translation)[0], features_source[0]),
                "style": style_loss(styles, wanted_styles),
                "mask": mask_loss(masks),
                "reconstruction": F.l1_loss(full(reconstruction), target),
            }
            total = self.lambda_adversarial * terms["adversarial"] + self.lambda_content * terms["content"]
            total = total + self.lambda_style * terms["style"] + self.lambda_mask * terms["mask"]
            total = total + self.lambda_reconstruction * terms["reconstruction"]
            if self.vgg is not None:
                with torch.no_grad():
                    wanted = self.vgg(target)
                terms["perceptual"] = perceptual_loss(self.vgg(reconstruction), wanted)
                total = total + self.lambda_perceptual * terms["perceptual"]
            if self.faces is not None:
                terms["identity"] = self.faces.identity_loss(translation, target)
                total = total + self.lambda_identity * terms["identity"]
            player.minimize(total)
        self.log_terms({**terms, "generator": total})

    def update_discriminator(self, features_source: list[Tensor], exemplar: Tensor, target: Tensor) -> None:
        """Tell pictures of the target domain from translations, with a gradient that is flat at the former."""
        with self.player("discriminator") as player:
            with torch.no_grad():
                translation, _ = self.generator(features_source, self.generator.encode_style(exemplar))
            real = target.detach().requires_grad_(self.lambda_r1 > 0)
            # In full precision, because a gradient's gradient is taken; one set of weights for both passes, as above.
            with torch.autocast(self.device.type, enabled=False), parametrize.cached():
                logits_real, _ = self.discriminator.forward(real)  # a compiled call cannot be differentiated twice
                logits_fake, _ = self.discriminator(translation.to(real.dtype))
                loss = adversarial_loss(logits_real, real=True) + adversarial_loss(logits_fake, real=False)
                terms = {"discriminator": loss}
                if self.lambda_r1 > 0:
                    terms["r1"] = r1_penalty(logits_real, real)
                    loss = loss + self.lambda_r1 * terms["r1"]
            player.minimize(loss)
        self.log_terms(terms)
        self.terms.compare("discriminator", logits_real, logits_fake)

    def fit_sampler(
        self,
        loader: Iterable[Mapping[str, Tensor]],
        *,
        steps: int | None = None,
        mitigate_style_bias: bool | None = None,
        report: Callable[[str], None] | None = None,
    ) -> Tensor:
        """Fit the sampler of random styles to the target domain, from scratch; it counts as fitted then.

        Every process does the same work, so that none waits for another longer than a process group's patience; then all take
        what the first one has.

        Args:
            loader: one pass over the target domain, with the crops and flips of training: batches whose `target` is b 3 h w, uint8 or
                in [-1, 1].
            steps: styles to learn from in all; by default the model's setting, as the next one.
            mitigate_style_bias: whether rare styles are learnt from more often.
            report: is told how far it got, now and then and at the end.

        Returns:
            The mean squared distance in the last epoch, a scalar.

        Raises:
            ZooError: there are too few pictures.
        """
        codes = self.encode_styles(loader)
        if self.mitigate_style_bias if mitigate_style_bias is None else mitigate_style_bias:
            codes = torch.cat([codes, codes[rare_styles(codes)]])
        steps = self.sampler_steps if steps is None else steps
        watch = Watch(sampler_epochs(steps, max(1, len(codes))), report)
        draws = Draws(self.draws.seed)
        self.sampler.reset(draws)
        with torch.enable_grad():
            loss = fit_sampler(self.sampler, codes, draws, steps=steps, batch=self.sampler_batch, watch=watch)
        sync.broadcast_module(self.sampler)
        self.sampler_fitted.fill_(True)
        watch.end(len(codes))
        return loss

    def encode_styles(self, loader: Iterable[Mapping[str, Tensor]]) -> Tensor:
        """Encode the target domain of a loader, see `fit_sampler`, as style codes `n s`."""
        codes = [self.sampler.lin_out.weight.new_zeros(0, self.sampler.lin_out.out_features)]
        with self.aside("styles"):
            for batch in loader:
                image = batch["target"].to(self.device)
                image = from_uint8(image) if image.dtype == torch.uint8 else image
                codes.append(self.averaged.encode_style(self.at_image_size(image.to(self.dtype))))
        return torch.cat(codes)

    def samples(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Columns of a sample grid: source, exemplar, translation, the target's reconstruction, masks, random styles."""
        source, target = batch["source"], batch["target"]
        with self.aside("samples"):
            code = self.averaged.encode_style(target)
            translation, masks = self.averaged(self.content_encoder(source), code)
            reconstruction, _ = self.averaged(self.content_encoder(target), code, skip=self.all_skip)
        columns = {"source": source, "exemplar": target, "translation": translation, "reconstruction": reconstruction}
        for mask in masks:
            grey = 2 * mask.mean(1, keepdim=True) - 1
            columns[f"mask {mask.shape[2]}x{mask.shape[3]}"] = F.interpolate(grey, source.shape[2:])
        if self.sampler_fitted:
            columns["random style"] = self.translate(source)
        return columns

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log how well targets are reconstructed from their own content and style, and how much content translations lose."""
        source, target = batch["source"], batch["target"]
        with self.aside("validation"):
            features, code = self.content_encoder(source), self.averaged.encode_style(target)
            translation, _ = self.averaged(features, code)
            reconstruction, _ = self.averaged(self.content_encoder(target), code, skip=self.all_skip)
            distance = content_loss(self.content_encoder(translation)[0], features[0])
        figures = {
            "val/reconstruction_psnr": psnr(reconstruction, target).mean(),
            "val/content_distance": distance,
        }
        self.log_dict(figures, batch_size=len(source), sync_dist=True)

    test_step = validation_step
