"""HiDT, enhancement: translations of 16 shifted crops, merged into a picture four times as large.

Ivan Anokhin, Pavel Solovev, Denis Korzhenkov, Alexey Kharlamov, Taras Khakhulin, Alexey Silvestrov, Sergey Nikolenko, Victor Lempitsky,
Gleb Sterkin: High-Resolution Daytime Translation Without Domain Labels. CVPR 2020. https://arxiv.org/abs/2003.08791

The translation network knows pictures of medium size. A large picture is shifted by 0 to 3 pixels along both axes and made small each
time; the 16 small pictures, translated in one style, together hold what the large one shows. An enhancement network merges them, and takes
away what the translation did wrong. It is trained with the translation network in auto-encoding mode, frozen: each picture in its own
style, so that the picture itself is what should come out.

Names:
    here             official code   paper
    enhancer         RRDBNet         G_enh   48 channels in, four times the size out
    translator       generator       E, G    the translation network (`zoo.hidt`), frozen
    discriminator    not published           patches at several sizes

Losses:
    x is a large picture, y = G_enh(stack of x translated in its own style); |.| is the mean absolute difference, f are the
    features of each size's discriminator, V those of VGG-19 at relu1_1, 2_1, 3_1, 4_1, 5_1.
    enhancer         lambda_reconstruction |y - x| + lambda_adversarial sum over sizes of mean (D(y) - 1)^2
                     + lambda_feature sum over sizes of the mean of |f(y) - f(x)| over layers
                     + lambda_perceptual 0.3 sum |V(y) - V(x)|
    discriminator    sum over sizes of mean (D(x) - 1)^2 + mean D(y)^2

Choices:
    - How the authors trained it could not be found out, but for the auto-encoding mode. Losses, weights, the discriminator (that of
      pix2pixHD), rates and iterations are ours.
    - Networks learn from crops (`crop`) of the stack; the translation sees the whole picture.
    - In training, pictures are shifted and made small by an antialiased bilinear filter on the device; in inference by PIL on whole
      numbers, as the official code does.

Differences:
    - The official inference gives 1024 pixels along the shorter side; `resolution` says otherwise.
    - A picture of any size is enhanced tile by tile, in the memory of a tile; the numbers are those of the whole. Crops are translated one
      by one. What grows with the picture is the translation of one crop, the stack and the result.
    - De-quantisation noise is an option (`inference_noise`), off as it stands.

Checkpoints:
    The authors published enhancer.pth: `lightning download hidt_enhancer`; `zoo.weights.hidt` reads its layout, tested on files built in
    it: the published one was never seen here.

State:
    trains, enlarges pictures of any size, equals the official inference's numbers; not trained to its end

Cite::

    @inproceedings{anokhin2020high,
      title     = {High-Resolution Daytime Translation Without Domain Labels},
      author    = {Anokhin, Ivan and Solovev, Pavel and Korzhenkov, Denis and Kharlamov, Alexey and Khakhulin, Taras and
                   Silvestrov, Alexey and Nikolenko, Sergey and Lempitsky, Victor and Sterkin, Gleb},
      booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
      year      = {2020}
    }
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from zoo.core import Ema, Player, Translator
from zoo.core.images import psnr, resize
from zoo.core.precision import full
from zoo.errors import ZooError
from zoo.experts.vgg import VGGFeatures
from zoo.hidt.enhancer import Enhancer, translated_crops
from zoo.hidt.generator import Generator, MaskOutput
from zoo.hidt.losses import absolute_difference, fake_loss, real_loss
from zoo.hidt.pictures import BLACK, CROPS, SIDE_MULTIPLE, prepared, stacked, to_pixels, with_noise
from zoo.hidt.styles import NAMED_STYLES
from zoo.weights.hidt import load_translator_weights
from zoo.weights.preflight import missing_weights

RANDOM = "random"
"""The translator that is none: random weights, for tests."""

PERCEPTUAL_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
PERCEPTUAL_WEIGHT = 0.3
SLOPE = 0.2


class PatchDiscriminator(nn.Module):
    """Scores patches of pictures at one size, and shows what it saw (pix2pixHD, Wang et al., CVPR 2018).

    Args:
        channels: of the first layer; each strided one has twice as many as the one before, up to eight times.
        layers: strided convolutions.
    """

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        widths = [3, *[channels * 2 ** min(level, 3) for level in range(layers + 1)]]
        self.layers = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], 4, 2 if i < layers else 1, 2) for i in range(layers + 1)
        )
        self.head = nn.Conv2d(widths[-1], 1, 4, 1, 2)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Map pictures `b 3 h w` to scores `b 1 h' w'` and the features of each layer, `b c h w`."""
        features: list[Tensor] = []
        x = image
        for number, layer in enumerate(self.layers):
            x = layer(x)
            x = F.leaky_relu(F.instance_norm(x) if number else x, SLOPE)
            features.append(x)
        return self.head(x), features


class MultiScaleDiscriminator(nn.Module):
    """Discriminators at several sizes, each half the one before.

    Args:
        channels: see `PatchDiscriminator`.
        layers: see `PatchDiscriminator`.
        scales: number of sizes.
    """

    def __init__(self, channels: int, layers: int, scales: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(PatchDiscriminator(channels, layers) for _ in range(scales))

    def forward(self, image: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        """Scores and features of pictures `b 3 h w` at each size."""
        found = []
        for number, scale in enumerate(self.scales):
            image = F.avg_pool2d(image, 3, 2, 1, count_include_pad=False) if number else image
            found.append(scale(image))
        return found


def feature_loss(made: Sequence[tuple[Tensor, list[Tensor]]], real: Sequence[tuple[Tensor, list[Tensor]]]) -> Tensor:
    """Mean absolute difference of features, averaged over layers and summed over sizes; none flows into `real`."""
    scales = [
        torch.stack([F.l1_loss(full(x), full(y).detach()) for x, y in zip(ours, theirs, strict=True)]).mean()
        for (_, ours), (_, theirs) in zip(made, real, strict=True)
    ]
    return torch.stack(scales).sum()


def perceptual_loss(features: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Tensor:
    """Distance in VGG's features: 0.3 times the mean absolute difference, summed over layers; none flows into `wanted`."""
    terms = [F.l1_loss(full(features[layer]), full(wanted[layer]).detach()) for layer in features]
    return PERCEPTUAL_WEIGHT * torch.stack(terms).sum()


def shifted(large: Tensor, number: int) -> Tensor:
    """Pictures `b 3 h w` moved left and up by the shifts of a crop's number, with black behind; see `pictures.shifted_crop`."""
    x, y = divmod(number, CROPS)
    return F.pad(large[:, :, y:, x:], (0, x, 0, y), value=BLACK)


class HiDTEnhancer(Translator):
    """Repaints pictures in other light at four times the size that the translation network works at.

    Batches have `source` and `target`, `b 3 h w` in [-1, 1], whose sides are multiples of 64; both are large pictures to learn from.

    Args:
        translator: where the translation network's weights come from: a name of the catalogue (`hidt_daytime`), an official file, a
            checkpoint or a run of `zoo.hidt`; `random`, for tests. A checkpoint holds them from then on.
        generator_channels: of the translation network, as the next seven: see `zoo.hidt.HiDT`.
        encoder_blocks: residual blocks of its content encoder.
        decoder_blocks: of its decoder.
        style_channels: numbers of a style.
        mapping_channels: hidden width of the mapping from styles.
        mapping_layers: its linear layers.
        mask_channels: of its segmentation head.
        mask_output: of that head.
        enhancer_channels: of the enhancement network.
        enhancer_groups: of three dense blocks each.
        enhancer_growth: channels that a convolution of a dense block adds.
        discriminator_channels: of the first layer.
        discriminator_layers: strided convolutions.
        discriminator_scales: number of sizes.
        perceptual: "vgg19" for the published weights, "random" for a network of random weights, null for no perceptual loss.
        perceptual_channels: of VGG's first block; 64 in the published network.
        lambda_reconstruction: weight of the mean absolute difference.
        lambda_adversarial: of the adversarial loss.
        lambda_feature: of the distance in the discriminator's features.
        lambda_perceptual: of the distance in VGG's features.
        crop: side, in pixels of the stack, of what is enhanced in training; a quarter of the picture's at most.
        learning_rate: of Adam, for both players.
        betas: of Adam.
        inference_size: shorter side to which exemplars are brought, and, times four, of results.
        inference_noise: whether de-quantisation noise is added when translating, as the official inference does.
        tile: side of the tiles, in pixels of the stack, that are enhanced one by one.
        ema_decay: share of the old average that the enhancement network's moving average keeps per iteration; 0 for none.
    """

    def __init__(
        self,
        translator: str = "hidt_daytime",
        generator_channels: int = 48,
        encoder_blocks: int = 4,
        decoder_blocks: int = 5,
        style_channels: int = 3,
        mapping_channels: int = 64,
        mapping_layers: int = 3,
        mask_channels: int = 3,
        mask_output: MaskOutput = "log_softmax",
        enhancer_channels: int = 64,
        enhancer_groups: int = 5,
        enhancer_growth: int = 32,
        discriminator_channels: int = 64,
        discriminator_layers: int = 3,
        discriminator_scales: int = 2,
        perceptual: Literal["vgg19", "random"] | None = "vgg19",
        perceptual_channels: int = 64,
        lambda_reconstruction: float = 10.0,
        lambda_adversarial: float = 1.0,
        lambda_feature: float = 10.0,
        lambda_perceptual: float = 10.0,
        crop: int = 64,
        learning_rate: float = 1e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        inference_size: int = 256,
        inference_noise: bool = False,
        tile: int = 256,
        ema_decay: float = 0.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        mapping = (style_channels, mapping_channels, mapping_layers)
        widths = (generator_channels, encoder_blocks, decoder_blocks)
        self.translator = Generator(*widths, *mapping, mask_channels, mask_output).requires_grad_(False)
        self.enhancer = Enhancer(enhancer_channels, enhancer_groups, enhancer_growth)
        self.discriminator = MultiScaleDiscriminator(discriminator_channels, discriminator_layers, discriminator_scales)
        self.ema = Ema({"enhancer": self.enhancer}, decay=ema_decay) if ema_decay > 0 else None
        self.vgg: VGGFeatures | None = None  # comes with `setup`: who translates needs none

        self.translator_source, self.latent_channels = translator, style_channels
        self.perceptual, self.perceptual_channels = perceptual, perceptual_channels
        self.lambda_reconstruction, self.lambda_adversarial = lambda_reconstruction, lambda_adversarial
        self.lambda_feature, self.lambda_perceptual = lambda_feature, lambda_perceptual
        self.crop, self.tile = crop, tile
        self.adam = partial(Adam, lr=learning_rate, betas=betas)
        self.inference_size, self.inference_noise = inference_size, inference_noise

    @classmethod
    def missing(cls, settings: Mapping[str, Any], *, resumed: bool = False) -> list[str]:
        """Name the weights that a training starts from or is guided by and that can't be had here."""
        source = settings.get("translator", "hidt_daytime")
        lacking = [] if resumed or source == RANDOM else missing_weights(source, "--model.translator")
        guided = settings.get("perceptual", "vgg19") == "vgg19" and settings.get("lambda_perceptual", 10.0) > 0
        without = "Or train without it: --model.perceptual null"
        return lacking + [f"{sentence} {without}" for sentence in (missing_weights("vgg19") if guided else [])]

    def setup(self, stage: str) -> None:
        """Refuse pictures that can't be cut into crops; fetch the network of the perceptual loss."""
        super().setup(stage)
        if stage != "fit":
            return
        size, multiple = getattr(self.trainer.datamodule, "size", 0), CROPS * SIDE_MULTIPLE  # type: ignore[attr-defined]
        if size % multiple:
            nearest = max(1, round(size / multiple)) * multiple
            raise ZooError(
                f"The data gives pictures of {size}x{size}; they are translated at a quarter of it, which has to be a multiple of "
                f"{SIDE_MULTIPLE}: --data.size {nearest}"
            )
        if self.perceptual is not None and self.lambda_perceptual > 0 and self.vgg is None:
            pretrained = self.perceptual == "vgg19"
            vgg = VGGFeatures(19, PERCEPTUAL_LAYERS, base_channels=self.perceptual_channels, pretrained=pretrained)
            self.vgg = vgg.to(self.device)

    def on_fit_start(self) -> None:
        """Fetch the translation network; a checkpoint that the training goes on from has brought it already."""
        if self.translator_source != RANDOM and not self.trainer.ckpt_path:
            load_translator_weights(self.translator, self.translator_source)

    # Inference

    @property
    def inference_enhancer(self) -> Enhancer:
        """The enhancement network's moving average where there is one, else the network."""
        network = self.enhancer if self.ema is None else self.ema["enhancer"]
        assert isinstance(network, Enhancer)
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
        resolution: int | None = None,
    ) -> Tensor:
        """Repaint pictures in the light of exemplars, or in given or random styles, at a size of their own.

        One picture goes with any number of exemplars or styles, and one of these with any number of pictures.

        Args:
            image: b 3 h w in [-1, 1], of any size.
            to: there are no domains, so the one name is `target`.
            reference: exemplars b 3 h w in [-1, 1], brought to the model's inference size.
            latent: styles b s; with neither of the two they are drawn from a normal distribution.
            resolution: shorter side of the result, in pixels; four times the inference size by default. Each crop is translated at a
                quarter of it.

        Returns:
            Pictures b 3 h' w' in [-1, 1], sides multiples of 64.

        Raises:
            ZooError: another domain; both an exemplar and a style; numbers of them that don't go together; or a resolution below 64.
        """
        if to != "target":
            raise ZooError(f"HiDT knows no domains and translates to 'target', not to {to!r}.")
        if reference is not None and latent is not None:
            raise ZooError("The style comes from an exemplar or is given: `reference` or `latent`, not both.")
        if resolution is not None and resolution < CROPS * SIDE_MULTIPLE:
            raise ZooError(
                f"resolution is {resolution}; expected at least {CROPS * SIDE_MULTIPLE} pixels, such as 1024."
            )
        resolution = CROPS * self.inference_size if resolution is None else resolution
        with self.aside("enhance"):
            style = self.styles_for(image, reference, latent)
            count = max(len(image), len(style))
            if len({len(image), len(style)} - {1}) > 1:
                raise ZooError(
                    f"{len(image)} pictures and {len(style)} styles don't go together: give one, or as many."
                )
            pairs = zip(image.expand(count, -1, -1, -1), style.expand(count, -1), strict=True)
            return torch.cat([self.enhance(picture, wanted[None], resolution) for picture, wanted in pairs])

    def styles_for(self, image: Tensor, reference: Tensor | None, latent: Tensor | None) -> Tensor:
        """The styles `b s` that `translate` is asked for."""
        if latent is not None:
            return latent.flatten(1).to(image)
        if reference is None:
            return self.draws.normal("style", (len(image), self.latent_channels), device=image.device).to(image)
        return self.translator.style_encoder(self.noisy(prepared(reference, self.inference_size)))

    def enhance(self, picture: Tensor, style: Tensor, resolution: int) -> Tensor:
        """One picture `3 h w` in a style `1 s`: `1 3 h' w'` in [-1, 1], about so many pixels along the shorter side."""
        crops = translated_crops(self.translator, to_pixels(picture), style, resolution, self.noisy)
        return self.inference_enhancer.forward_in_tiles(stacked(crops), self.tile).clamp(-1, 1)

    def noisy(self, image: Tensor) -> Tensor:
        """Pictures with de-quantisation noise, where inference wants it."""
        if not self.inference_noise:
            return image
        return with_noise(image, self.draws.uniform("noise", image.shape, device=image.device).to(image))

    def translate_batch(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Each source in the style of its target, where there is one, about as large as the source is."""
        return self.translate(batch["source"], reference=batch.get("target"), resolution=min(batch["source"].shape[2:]))

    # Training

    def configure_optimizers(self) -> list[Optimizer]:
        """One Adam each for the enhancement network and its discriminator; the translation network stays."""
        making, judging = self.adam(self.enhancer.parameters()), self.adam(self.discriminator.parameters())
        return self.players(
            Player("enhancer", making, [self.enhancer]), Player("discriminator", judging, [self.discriminator])
        )

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Enhance what the translation network made of large pictures in their own light; the discriminator first."""
        pictures = torch.cat([batch["source"], batch["target"]])
        with torch.no_grad():
            stack = self.auto_encoded(pictures)
        stack, wanted = self.cut(stack, pictures)
        made = self.enhancer(stack)
        self.update_discriminator(made.detach(), wanted)
        self.update_enhancer(made, wanted)
        if self.ema is not None:
            self.ema.update(self.iteration)

    def auto_encoded(self, pictures: Tensor) -> Tensor:
        """Stacks `b 48 h/4 w/4` of pictures `b 3 h w` whose crops were translated in the pictures' own styles."""
        height, width = (side // CROPS for side in pictures.shape[2:])
        style = self.translator.style_encoder(resize(pictures, height, width).clamp(-1, 1))
        large = resize(pictures, CROPS * height + CROPS, CROPS * width + CROPS, filter="bilinear")

        def crops() -> Iterator[Tensor]:
            for number in range(CROPS**2):
                small = resize(shifted(large, number), height, width, filter="bilinear")
                yield self.translator(small, style).image

        return stacked(crops())

    def cut(self, stack: Tensor, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """A square of stacks, at a place drawn for the whole batch, and of the pictures that should come of it."""
        side = min(self.crop, *stack.shape[2:])
        # On the host, so that no device is waited for.
        top, left = (
            int(self.draws.integers(name, (1,), 0, free - side + 1, device="cpu"))
            for name, free in zip(("top", "left"), stack.shape[2:], strict=True)
        )
        wanted = pictures[:, :, CROPS * top : CROPS * (top + side), CROPS * left : CROPS * (left + side)]
        return stack[:, :, top : top + side, left : left + side], wanted

    def update_discriminator(self, made: Tensor, wanted: Tensor) -> None:
        """Tell pictures from enhanced ones, in one pass."""
        with self.player("discriminator") as player:
            halves = [scores.chunk(2) for scores, _ in self.discriminator(torch.cat([wanted, made]))]
            loss = torch.stack([real_loss(real) + fake_loss(fake) for real, fake in halves]).sum()
            player.minimize(loss)
        self.log_terms({"discriminator": loss})
        self.terms.compare("discriminator", *zip(*halves, strict=True))

    def update_enhancer(self, made: Tensor, wanted: Tensor) -> None:
        """Come near the picture, in pixels and in features, and look real."""
        with self.player("enhancer") as player:
            seen = self.discriminator(made)
            with torch.no_grad():
                seen_wanted = self.discriminator(wanted)
            terms = {
                "reconstruction": absolute_difference(made, wanted),
                "adversarial": torch.stack([real_loss(scores) for scores, _ in seen]).sum(),
                "feature": feature_loss(seen, seen_wanted),
            }
            total = self.lambda_reconstruction * terms["reconstruction"]
            total = total + self.lambda_adversarial * terms["adversarial"] + self.lambda_feature * terms["feature"]
            if self.vgg is not None:
                with torch.no_grad():
                    features = self.vgg(wanted)
                terms["perceptual"] = perceptual_loss(self.vgg(made), features)
                total = total + self.lambda_perceptual * terms["perceptual"]
            player.minimize(total)
        self.log_terms({**terms, "enhancer": total})

    # Looking

    def reconstruct(self, pictures: Tensor) -> Tensor:
        """Pictures `b 3 h w` in [-1, 1], sides multiples of 64, through the stack of their own light."""
        with self.aside("reconstruct"):
            stack = self.auto_encoded(pictures)
            return self.inference_enhancer.forward_in_tiles(stack, self.tile).clamp(-1, 1)

    def samples(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Columns of a sample grid: the picture, what the translator sees of it, its reconstruction, exemplar and translation."""
        source, target = batch["source"], batch["target"]
        height, width = (side // CROPS for side in source.shape[2:])
        seen = F.interpolate(resize(source, height, width).clamp(-1, 1), scale_factor=float(CROPS))
        columns = {"source": source, "small": seen, "reconstruction": self.reconstruct(source)}
        return {**columns, "exemplar": target, "translation": self.translate_batch(batch)}

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log how near reconstructions come, and how near an enlarged translation of the small picture does, in dB."""
        source = batch["source"]
        height, width = source.shape[2:]
        with self.aside("validation"):
            small = resize(source, height // CROPS, width // CROPS).clamp(-1, 1)
            plain = self.translator(small, self.translator.style_encoder(small)).image
            enlarged = resize(plain, height, width).clamp(-1, 1)
        figures = {
            "val/reconstruction_psnr": psnr(self.reconstruct(source), source).mean(),
            "val/enlarged_psnr": psnr(enlarged, source).mean(),
        }
        self.log_dict(figures, batch_size=len(source), sync_dist=True)

    test_step = validation_step
