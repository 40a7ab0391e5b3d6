"""GP-UNIT, first stage: a content encoder distilled from a generative prior.

Shuai Yang, Liming Jiang, Ziwei Liu, Chen Change Loy: Unsupervised Image-to-Image Translation with Generative Prior.
CVPR 2022. https://arxiv.org/abs/2204.03641

A GAN that knows many classes draws, from one latent code under two classes, two pictures of one layout: a bird and a dog that sit
alike. From such pairs an autoencoder learns to split a picture into its content, one channel of 8x8 numbers that both
pictures of a pair share, and its style, which is a code of the class and the statistics of a picture's features. The second stage
(`zoo.gpunit`) keeps the content encoder alone, frozen.

Names:
    here               official code   paper
    content_encoder    contentE        E_c   8x8 numbers of one channel, noisy when decoded
    style_encoder      styleE          E_s   means and deviations of a picture's features
    embedding          embed                 a code per class
    content_layer      fc              F     with the decoder:
    decoder            G               F     a picture, and the mask of its objects (F_s)
    classifier         C               C     guesses the class from the content

Losses:
    (x, m, l) is a picture with its mask and class; (x_a, x_b) a pair; c the content, c' the noisy one;
    F(c', s, l) the decoder; |.| the mean absolute difference; GRL a reversed gradient.
    L_arec   mean (F(c', s, l) - x)^2
             + 0.3 sum of |VGG-19(F(c', s, l)) - VGG-19(x)| over relu1_1, 2_1, 3_1, 4_1, 5_1
    L_srec   lambda_shape |F_s(c', l) - m|
    L_dis    lambda_content_distance |c_a - c_b|, which moves c_a alone,
             + lambda_shape_distance |F_s(c'_b, l_a) - m_a|, and with a and b exchanged
    L_reg    lambda_content_norm ||c||_2 + lambda_domain cross-entropy(C(GRL(c)), l)

Differences:
    - ||c||_2 is one norm over the batch, not a mean, and one draw mirrors what the style encoder sees of the
      whole batch: as in the official code, and the reason why the loss is not a mean over processes.
    - Layers and decodings whose results the official code drops are not computed: the deeper half of the
      style encoder, and the pictures of exchanged contents, of which the masks alone enter a loss. Spectral
      norms move as if they were.
    - Where the data has no masks, of pairs, of unpaired pictures or of both, their losses of shape are off.
      The official code has no such way.
    - The picture size is an argument: the encoder halves pictures down to 8x8 whatever their size. At 256 it
      is the official network.
    - Batches need not have 16 pictures, as the official slicing does.
    - The authors filtered their GAN's pictures in a way that nobody published; nor is the script that drew
      them public.

Checkpoints:
    The authors published content_encoder.pt, the encoder alone: `lightning download content_encoder`. Files of
    that layout, and of the whole stage (`ae_ema`), are read by `zoo.weights.gpunit`, tested on files built in
    that layout: the published ones were never seen here. A small encoder for 64x64, trained on rendered
    scenes by `make demo-prior`, comes with the package.

State:
    trains, equals the official code's numbers; not trained on the published BigGAN's pictures

Cite::

    @inproceedings{yang2022gpunit,
      title     = {Unsupervised Image-to-Image Translation with Generative Prior},
      author    = {Yang, Shuai and Jiang, Liming and Liu, Ziwei and Loy, Chen Change},
      booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
      year      = {2022}
    }
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from zoo.core import Player, Translator
from zoo.core.images import psnr
from zoo.core.precision import full
from zoo.errors import ZooError
from zoo.experts.vgg import VGGFeatures
from zoo.gpunit.content import CONTENT_SIZE, ContentEncoder, ConvBlock, Initialisation, initialise_layers
from zoo.gpunit.losses import perceptual_loss, perceptual_network, require_size
from zoo.gpunit.prior_networks import MASK_SIZE, Decoder, DomainClassifier, Statistics, StyleStatisticsEncoder
from zoo.weights.gpunit import missing_weights

DOMAIN_CHANNELS = 128


def shape_target(mask: Tensor) -> Tensor:
    """Masks as the decoder draws them: `b 3 16 16` in [-1, 1].

    Args:
        mask: b 1 h w in [0, 1], or instance maps b 3 h w in [-1, 1].
    """
    if mask.shape[1] == 1:
        mask = (2 * mask - 1).expand(-1, 3, -1, -1)
    return F.interpolate(mask, (MASK_SIZE, MASK_SIZE), mode="bilinear", align_corners=False)


def content_distance(content: Tensor, other: Tensor) -> Tensor:
    """|c_a - c_b| of noise-free contents `b 1 8 8`; the gradient flows into the first alone."""
    return F.l1_loss(full(content), full(other).detach())


class PriorDistillation(Translator):
    """Distils a content encoder from pairs of one layout and unpaired pictures.

    Batches have the pairs `x`, `y` with `x_domain`, `y_domain`, unpaired pictures `image` with `domain`, and, if known, masks `x_mask`,
    `y_mask`, `mask`: instance maps b 3 h w in [-1, 1], or b 1 h w in [0, 1]. All are encoded in the order image, x, y.

    Args:
        image_size: side of the pictures: 64, 128, 256, 512, ...
        channels: of the first layers.
        domains: number of classes.
        content_noise: standard deviation of the noise on the content before it is decoded.
        perceptual: "vgg19" for the published weights, "random" for a network of random weights, null for no perceptual loss.
        perceptual_channels: of VGG's first block; 64 in the published network.
        lambda_appearance: weight of the reconstruction of pictures.
        lambda_shape: weight of the reconstruction of masks.
        lambda_content_distance: weight of the distance of a pair's contents.
        lambda_shape_distance: weight of masks decoded from the other picture's content.
        lambda_content_norm: weight of the content's norm.
        lambda_domain: weight of the classifier behind the reversed gradient.
        initialisation: "gpu" or "cpu", see `zoo.gpunit.content.initialise_layers`.
        learning_rate: of Adam.
        betas: of Adam.

    Raises:
        ZooError: an impossible image size, or fewer than two domains.
    """

    def __init__(
        self,
        image_size: int = 256,
        channels: int = 64,
        domains: int = 292,
        content_noise: float = 0.2,
        perceptual: Literal["vgg19", "random"] | None = "vgg19",
        perceptual_channels: int = 64,
        lambda_appearance: float = 1.0,
        lambda_shape: float = 5.0,
        lambda_content_distance: float = 1.0,
        lambda_shape_distance: float = 5.0,
        lambda_content_norm: float = 0.001,
        lambda_domain: float = 1.0,
        initialisation: Initialisation = "gpu",
        learning_rate: float = 2e-4,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if domains < 2:
            raise ZooError(f"domains is {domains}; a prior needs two or more: --model.domains 2")
        self.content_encoder = ContentEncoder(channels, image_size)
        self.style_encoder = StyleStatisticsEncoder(channels, image_size)
        self.embedding = nn.Embedding(domains, DOMAIN_CHANNELS)
        self.content_layer = ConvBlock(1, 8 * channels, 1, padding=0)
        self.decoder = Decoder(channels, image_size, DOMAIN_CHANNELS)
        self.classifier = DomainClassifier(domains)
        initialise_layers(self, initialisation)
        self.vgg: VGGFeatures | None = None  # comes with `setup`: who translates needs none

        self.smallest_size = CONTENT_SIZE
        self.image_size, self.domains, self.content_noise = image_size, domains, content_noise
        self.perceptual, self.perceptual_channels = perceptual, perceptual_channels
        self.lambda_appearance, self.lambda_shape = lambda_appearance, lambda_shape
        self.lambda_content_distance, self.lambda_shape_distance = lambda_content_distance, lambda_shape_distance
        self.lambda_content_norm, self.lambda_domain = lambda_content_norm, lambda_domain
        self.adam = partial(Adam, lr=learning_rate, betas=betas)

    @classmethod
    def missing(cls, settings: Mapping[str, Any], *, resumed: bool = False) -> list[str]:
        """Say what a training needs and this machine lacks: VGG's weights, where they guide it."""
        return missing_weights("vgg19") if settings.get("perceptual", "vgg19") == "vgg19" else []

    def setup(self, stage: str) -> None:
        """Fetch what guides the training."""
        super().setup(stage)
        require_size(self.trainer.datamodule, self.image_size)  # type: ignore[attr-defined]
        if stage == "fit" and self.perceptual is not None and self.vgg is None:
            self.vgg = perceptual_network(self.perceptual, self.perceptual_channels).to(self.device)

    def encode(self, image: Tensor, *, mirror_style: Tensor | None = None) -> tuple[Tensor, Tensor, list[Statistics]]:
        """Split pictures `b 3 h w`: content, noisy content (each b 1 8 8), statistics of the style.

        Args:
            image: the pictures.
            mirror_style: one truth value: mirror what the style encoder sees.
        """
        content = self.content_encoder(image)[0]
        noisy = content + self.content_noise * self.draws.normal("content_noise", content.shape)
        if mirror_style is None:
            mirror_style = self.draws.uniform("mirror_style", (1,)) > 0.5
        statistics = self.style_encoder(torch.where(mirror_style, image.flip(3), image))
        return content, noisy, statistics

    def decode(self, noisy: Tensor, domain: Tensor, statistics: list[Statistics]) -> tuple[Tensor, Tensor]:
        """Draw pictures `b 3 h w` and masks `b 3 16 16` from noisy contents, domain numbers `b` and style statistics."""
        return self.decoder(self.content_layer(noisy), self.embedding(domain), statistics)

    def configure_optimizers(self) -> list[Optimizer]:
        """One Adam for everything; the classifier's opposition is in the reversed gradient."""
        networks = [self.content_encoder, self.style_encoder, self.embedding, self.content_layer]
        trained = nn.ModuleList([*networks, self.decoder, self.classifier])
        return self.players(Player("autoencoder", self.adam(trained.parameters()), [trained]))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Reconstruct all pictures; let pairs share their content; hide the domain from it."""
        images = torch.cat([batch["image"], batch["x"], batch["y"]])
        domains = torch.cat([batch["domain"], batch["x_domain"], batch["y_domain"]])
        unpaired, pairs = len(batch["image"]), len(batch["x"])
        with self.player("autoencoder") as player:
            content, noisy, statistics = self.encode(images)
            reconstruction, masks = self.decode(noisy, domains, statistics)
            appearance = {"appearance": F.mse_loss(full(reconstruction), images)}
            if self.vgg is not None:
                with torch.no_grad():
                    wanted = self.vgg(images)
                appearance["perceptual"] = perceptual_loss(self.vgg(reconstruction), wanted)
            _, content_x, content_y = content.split([unpaired, pairs, pairs])
            terms = {
                "content_distance": content_distance(content_x, content_y),
                "content_norm": full(content).norm(),
                "domain": F.cross_entropy(full(self.classifier(content)), domains),
            }
            total = self.lambda_appearance * torch.stack(list(appearance.values())).sum()
            total = total + self.lambda_content_distance * terms["content_distance"]
            total = total + self.lambda_content_norm * terms["content_norm"] + self.lambda_domain * terms["domain"]
            drawn = dict(zip(("mask", "x_mask", "y_mask"), masks.split([unpaired, pairs, pairs]), strict=True))
            true = {key: shape_target(batch[key]) for key in drawn if key in batch}
            if true:
                terms["shape"] = F.l1_loss(
                    full(torch.cat([drawn[key] for key in true])), torch.cat(list(true.values()))
                )
                total = total + self.lambda_shape * terms["shape"]
            if "x_mask" in true:
                exchanged = torch.cat([noisy[unpaired + pairs :], noisy[unpaired : unpaired + pairs]])
                moved = self.decoder.mask(self.content_layer(exchanged), self.embedding(domains[unpaired:]))
                terms["shape_distance"] = F.l1_loss(full(moved), torch.cat([true["x_mask"], true["y_mask"]]))
                total = total + self.lambda_shape_distance * terms["shape_distance"]
            player.minimize(total)
        self.log_terms({**appearance, **terms, "total": total})

    def translate(self, image: Tensor, *, to: str = "0", reference: Tensor | None = None) -> Tensor:
        """Draw the content of one picture in the style of another: rougher than stage 2, and for any pair of domains.

        Args:
            image: b 3 h w in [-1, 1].
            to: number of the reference's domain.
            reference: b 3 h w in [-1, 1], or one for all; the picture itself by default.

        Returns:
            Pictures b 3 h w in [-1, 1], of the size that the networks work at.

        Raises:
            ZooError: no such domain.
        """
        if not to.isdecimal() or int(to) >= self.domains:
            raise ZooError(f"the prior knows the domains 0 to {self.domains - 1}, not {to!r}: --to 0")
        domain = torch.full((len(image),), int(to), device=image.device)
        return self.exchange(image, image if reference is None else reference, domain)

    def exchange(self, image: Tensor, reference: Tensor, domain: Tensor) -> Tensor:
        """Draw contents of `image` with the style of `reference`, whose domain numbers are `domain`, in eval mode."""
        size = (self.image_size, self.image_size)
        reference = reference.expand(len(image), -1, -1, -1)
        if reference.shape[2:] != size:
            reference = F.interpolate(reference, size, mode="bilinear", align_corners=False)
        with self.aside("exchange"):
            content = self.content_encoder(image)[0]
            return self.decode(content, domain, self.style_encoder(reference))[0]

    def translate_batch(self, batch: Mapping[str, Any]) -> Tensor:
        """The content of `x` in the style of `y`."""
        return self.exchange(batch["x"], batch["y"], batch["y_domain"])

    def samples(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Columns of a sample grid: a pair, its contents, its masks, the reconstruction, and contents exchanged."""
        x, y = batch["x"], batch["y"]
        with self.aside("samples"):
            content, statistics = self.content_encoder(x)[0], self.style_encoder(x)
            reconstruction, mask = self.decode(content, batch["x_domain"], statistics)
            other = self.content_encoder(y)[0]
        return {
            "x": x,
            "y": y,
            "content of x": picture_of(content, x),
            "content of y": picture_of(other, x),
            "mask of x": F.interpolate(mask, x.shape[2:]),
            "reconstruction of x": reconstruction,
            "x in the style of y": self.exchange(x, y, batch["y_domain"]),
            "y in the style of x": self.exchange(y, x, batch["x_domain"]),
        }

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log how far a pair's contents are apart against contents of strangers, and what reconstruction and masks are worth."""
        x, y = batch["x"], batch["y"]
        with self.aside("validation"):
            first, second = self.content_encoder(x)[0], self.content_encoder(y)[0]
            reconstruction, mask = self.decode(first, batch["x_domain"], self.style_encoder(x))
            guess = self.classifier(first).argmax(1)
        places = torch.arange(len(x), device=x.device)
        figures = {
            "content_distance": F.l1_loss(first, second),
            "content_distance_others": torch.cdist(first.flatten(1), second.flatten(1), p=1).mean() / first[0].numel(),
            "content_found": (torch.cdist(first.flatten(1), second.flatten(1)).argmin(1) == places).float().mean(),
            "domain_accuracy": (guess == batch["x_domain"]).float().mean(),
            "reconstruction_psnr": psnr(reconstruction, x).mean(),
        }
        if "x_mask" in batch:
            figures["mask_error"] = F.l1_loss(mask, shape_target(batch["x_mask"])) / 2
        named = {f"val/{name}": value for name, value in figures.items()}
        self.log_dict(named, batch_size=len(x), sync_dist=True)

    test_step = validation_step


def picture_of(content: Tensor, like: Tensor) -> Tensor:
    """Content maps `b 1 8 8` as grey pictures as large as `like`, from the least number (black) to the greatest."""
    low, high = content.amin((1, 2, 3), keepdim=True), content.amax((1, 2, 3), keepdim=True)
    grey = 2 * (content - low) / (high - low).clamp(min=1e-6) - 1
    return F.interpolate(grey, like.shape[2:]).expand(-1, 3, -1, -1)
