"""StarGAN v2: the model. `zoo.starganv2` tells the story."""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from zoo.blocks.adversarial import adversarial_loss, r1_penalty
from zoo.blocks.initialise import initialise
from zoo.core import Ema, Player, Translator
from zoo.core.images import psnr, resize
from zoo.core.precision import full
from zoo.errors import ZooError
from zoo.experts.fan import FAN
from zoo.experts.fan import WEIGHTS as FAN_WEIGHTS
from zoo.starganv2.inference import (
    MEAN_LATENTS,
    Masks,
    Networks,
    at_skip_size,
    cycle_grid,
    film,
    latent_film,
    latent_grid,
    mean_style,
    reference_grid,
    require_halves,
    truncate,
)
from zoo.starganv2.networks import Discriminator, Generator, MappingNetwork, StyleEncoder
from zoo.weights.preflight import missing_weights

Landmarks = Literal["wing", "random"]
Kind = Literal["latent", "reference"]
Encode = Callable[[Tensor, Tensor], Tensor]
"""Guides (latents or pictures) and domains to style codes."""

RANDOM_STYLES = 2  # of a sample grid
OFFICIAL_WIDTH = 2**14
"""Over the side of the pictures: the official channels of the first layers."""

NETWORKS = ("generator", "mapping_network", "style_encoder")
"""What a moving average is kept of, and what the authors publish."""


class StarGANv2(Translator):
    """Translation into any of several domains, in the style of a reference or by chance.

    Batches have `image` and its `domain`, `reference` and `reference2`, two pictures of one `reference_domain`: pictures b c h w in
    [-1, 1], domains int64 b. Inference uses moving averages of generator, mapping network and style encoder. Losses are means over
    pictures, so that processes can share a batch.

    Args:
        image_size: side of the pictures, a power of two from 32 on (from 16 on with high-pass skips).
        domains: their names, in the order of their numbers: that of the data.
        channels: of the generator's, style encoder's and discriminator's first layers; null for the official 2^14 / image_size.
        max_channels: of their widest layers.
        style_channels: of a style code.
        latent_channels: of a latent.
        mapping_channels: of the mapping network's hidden layers.
        w_hpf: 0 for none, else features skip the generator's bottleneck through a high-pass filter divided by it, where
            landmarks of a face allow it; 1 for CelebA-HQ. For other pictures than faces, none.
        last_norm: whether an instance norm stands in front of the generator's last layer, as in the official code. Without it
            (ours) the colour of a plain background comes through, that of the picture or that of the style.
        landmarks: what finds them where w_hpf is not 0: "wing", the published FAN, or "random", one of random weights, for tests.
        lambda_style: weight of the style reconstruction.
        lambda_diversity: weight of the diversity-sensitive loss in the first iteration; 2 for AFHQ, 1 for CelebA-HQ.
        diversity_iterations: in so many iterations it falls to 0, on a straight line.
        lambda_cycle: weight of the cycle consistency.
        lambda_r1: weight of the discriminator's gradient penalty; 0 saves it.
        learning_rate: of Adam, for generator, style encoder and discriminator.
        mapping_learning_rate: of Adam, for the mapping network.
        betas: of Adam.
        weight_decay: of Adam, added to all gradients.
        ema_decay: share of the old averages that the moving averages keep per iteration.
        discriminator_warmup: iterations in which the discriminator alone learns, for trainings that start from such weights.

    Raises:
        ZooError: an impossible image size, or too few domains.
    """

    def __init__(
        self,
        image_size: int = 256,
        domains: Sequence[str] = ("cat", "dog", "wild"),
        channels: int | None = None,
        max_channels: int = 512,
        style_channels: int = 64,
        latent_channels: int = 16,
        mapping_channels: int = 512,
        w_hpf: float = 0.0,
        last_norm: bool = True,
        landmarks: Landmarks = "wing",
        lambda_style: float = 1.0,
        lambda_diversity: float = 2.0,
        diversity_iterations: int = 100_000,
        lambda_cycle: float = 1.0,
        lambda_r1: float = 1.0,
        learning_rate: float = 1e-4,
        mapping_learning_rate: float = 1e-6,
        betas: tuple[float, float] = (0.0, 0.99),
        weight_decay: float = 1e-4,
        ema_decay: float = 0.999,
        discriminator_warmup: int = 0,
    ) -> None:
        super().__init__()
        domains = [str(name) for name in domains]
        self.save_hyperparameters()
        if len(set(domains)) < max(1, len(domains)):
            raise ZooError(f"domains is {domains}; expected different names of at least one: --model.domains [cat,dog]")
        if diversity_iterations < 1 or discriminator_warmup < 0:
            raise ZooError(
                f"diversity_iterations is {diversity_iterations} and discriminator_warmup {discriminator_warmup}; expected at "
                "least 1 and at least 0: --model.diversity_iterations 100000"
            )
        width = channels or OFFICIAL_WIDTH // image_size
        count = len(domains)
        self.generator = Generator(image_size, width, max_channels, style_channels, w_hpf, last_norm)
        self.mapping_network = MappingNetwork(latent_channels, mapping_channels, style_channels, count)
        self.style_encoder = StyleEncoder(image_size, width, max_channels, style_channels, count)
        self.discriminator = Discriminator(image_size, width, max_channels, count)
        # As in the official code the averages start apart: from PyTorch's own initial weights, before these are drawn anew.
        self.ema = Ema(
            {name: self.get_submodule(name) for name in NETWORKS}, decay=ema_decay, start="given", buffers="keep"
        )
        for network in (self.generator, self.mapping_network, self.style_encoder, self.discriminator):
            initialise(network, "kaiming")
        self.fan: FAN | None = None  # comes when it is needed

        self.image_size, self.domains, self.latent_channels = image_size, domains, latent_channels
        self.size_multiple = self.generator.size_multiple
        self.smallest_size = 2 * self.size_multiple  # instance norms need more than one pixel
        self.w_hpf, self.landmarks = w_hpf, landmarks
        self.lambda_style, self.lambda_cycle, self.lambda_r1 = lambda_style, lambda_cycle, lambda_r1
        self.lambda_diversity, self.diversity_iterations = lambda_diversity, diversity_iterations
        self.discriminator_warmup = discriminator_warmup
        self.adam = partial(Adam, lr=learning_rate, betas=betas, weight_decay=weight_decay)
        self.mapping_learning_rate = mapping_learning_rate
        self._mean_styles: dict[str, tuple[int, Tensor]] = {}

    @classmethod
    def missing(cls, settings: Mapping[str, Any], *, resumed: bool = False) -> list[str]:
        """Name the weights that a training is guided by and that can't be had here."""
        faces = settings.get("w_hpf", 0.0) > 0 and settings.get("landmarks", "wing") == "wing"
        return missing_weights(FAN_WEIGHTS) if faces else []

    def setup(self, stage: str) -> None:
        """Refuse data of another size or of other domains; fetch what finds landmarks."""
        super().setup(stage)
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        size, domains = getattr(data, "size", self.image_size), getattr(data, "domains", None)
        if size != self.image_size:
            raise ZooError(
                f"The data gives pictures of {size}x{size}, and the model is built for {self.image_size}x{self.image_size}: "
                f"--data.size {self.image_size}, or --model.image_size {size}"
            )
        if domains is not None and list(domains) != self.domains:
            raise ZooError(
                f"The data has the domains {', '.join(domains)}, and the model is built for {', '.join(self.domains)}: "
                f"--model.domains [{','.join(domains)}]"
            )
        if stage == "fit" and self.w_hpf > 0:
            self.find_landmarks()

    # Inference -------------------------------------------------------------------------------------------------------

    def translate(
        self,
        image: Tensor,
        *,
        to: str = "",
        reference: Tensor | None = None,
        latent: Tensor | None = None,
        truncation: float = 1.0,
        clamp: bool = True,
    ) -> Tensor:
        """Translate pictures into a domain, in the style of references or in random styles.

        One picture goes with any number of references or latents, and one of these with any number of pictures.

        Args:
            image: b 3 h w in [-1, 1], of any size whose sides are multiples of `size_multiple`.
            to: name of the domain.
            reference: b 3 h w in [-1, 1], pictures of that domain; resized to the model's size.
            latent: b z from a normal distribution. With neither of the two, latents are drawn.
            truncation: of random styles: 1 leaves them, 0 gives the domain's mean style; see `zoo.starganv2.inference.truncate`.
            clamp: whether what the generator drew is limited to [-1, 1]; the official measurement of LPIPS looks at it as it is.

        Returns:
            Pictures b 3 h w in [-1, 1].

        Raises:
            ZooError: no such domain; both a reference and a latent; numbers of them that don't go together; or a size that
                the generator can't halve.
        """
        domain = torch.tensor(self.number_of(to), device=self.device)
        if reference is not None and latent is not None:
            raise ZooError("The style comes from a reference or from a latent: give `reference` or `latent`, not both.")
        require_halves(image, self.size_multiple, self.smallest_size)
        with self.aside("translate"):
            if reference is not None:
                style = self.averages.style_encoder(self.at_image_size(reference), domain.expand(len(reference)))
            else:
                if latent is None:
                    latent = self.draws.normal("latent", (len(image), self.latent_channels), device=self.device)
                style = self.averages.mapping_network(latent.to(self.dtype), domain.expand(len(latent)))
                style = truncate(style, self.mean_style(to), truncation) if truncation != 1 else style
            if len({len(image), len(style)} - {1}) > 1:
                raise ZooError(
                    f"{len(image)} pictures and {len(style)} styles don't go together: give one, or as many."
                )
            count = max(len(image), len(style))
            content = at_skip_size(image, self.size_multiple, self.smallest_size) if self.w_hpf > 0 else image
            masks = self.masks(content)
            masks = None if masks is None else (masks[0].expand(count, -1, -1, -1), masks[1].expand(count, -1, -1, -1))
            made = self.averages.generator(content.expand(count, -1, -1, -1), style.expand(count, -1), masks)
            made = resize(made, image.shape[2], image.shape[3], filter="bilinear")
            return made.clamp(-1, 1) if clamp else made

    def translate_batch(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Each image in the style of its reference."""
        networks, image = self.averages, batch["image"]
        with self.aside("translate"):
            style = networks.style_encoder(batch["reference"], batch["reference_domain"])
            return networks.generator(image, style, self.masks(image)).clamp(-1, 1)

    def reference_grid(self, image: Tensor, reference: Tensor, domain: Tensor) -> tuple[Tensor, int]:
        """Every picture in the style of every reference: see `zoo.starganv2.inference.reference_grid`; resized to the model's size."""
        with self.aside("grid"):
            return reference_grid(self.averages, self.at_image_size(image), self.at_image_size(reference), domain)

    def latent_grid(
        self, image: Tensor, latent: Tensor, domains: Sequence[str], truncation: float = 1.0
    ) -> tuple[Tensor, int]:
        """Every picture in random styles of domains: see `zoo.starganv2.inference.latent_grid`; resized to the model's size."""
        numbers = [torch.tensor(self.number_of(domain), device=self.device) for domain in domains]
        means = [self.mean_style(domain) for domain in domains]
        with self.aside("grid"):
            return latent_grid(self.averages, self.at_image_size(image), latent, numbers, means, truncation)

    def cycle_grid(
        self, image: Tensor, domain: Tensor, reference: Tensor, reference_domain: Tensor
    ) -> tuple[Tensor, int]:
        """There and back again: see `zoo.starganv2.inference.cycle_grid`; resized to the model's size."""
        with self.aside("grid"):
            image, reference = self.at_image_size(image), self.at_image_size(reference)
            return cycle_grid(self.averages, image, domain, reference, reference_domain)

    def film(self, image: Tensor, reference: Tensor, domain: Sequence[int]) -> list[Tensor]:
        """A film from style to style: see `zoo.starganv2.inference.film`; resized to the model's size."""
        with self.aside("film"):
            frames = film(self.averages, self.at_image_size(image), self.at_image_size(reference), domain)
            return [frame.cpu() for frame in frames]

    def latent_film(
        self, image: Tensor, latent: Tensor, domains: Sequence[str], truncation: float = 1.0
    ) -> list[Tensor]:
        """A film through random styles of domains: see `zoo.starganv2.inference.latent_film`; resized to the model's size."""
        means = [self.mean_style(domain) for domain in domains]
        numbers = [self.number_of(domain) for domain in domains for _ in latent]
        with self.aside("film"):
            codes = self.averages.mapping_network(
                latent.repeat(len(domains), 1), torch.tensor(numbers, device=self.device)
            )
            styles = truncate(codes, torch.cat(means).repeat_interleave(len(latent), 0), truncation)
            frames = latent_film(self.averages, self.at_image_size(image), styles, numbers)
            return [frame.cpu() for frame in frames]

    @property
    def averages(self) -> Networks:
        """The networks that translate: moving averages."""
        generator, mapping_network, style_encoder = (self.ema[name] for name in NETWORKS)
        return Networks(generator, mapping_network, style_encoder, self.masks)

    def number_of(self, domain: str) -> int:
        """The number of a domain by its name.

        Raises:
            ZooError: there is none of this name.
        """
        if domain not in self.domains:
            found = f"there is no domain {domain!r}" if domain else "no domain to translate into was named"
            (nearest,) = get_close_matches(domain or self.domains[0], self.domains, n=1, cutoff=0.0)
            raise ZooError(f"StarGAN v2: {found}. This model knows {', '.join(self.domains)}: --to {nearest}")
        return self.domains.index(domain)

    def at_image_size(self, image: Tensor) -> Tensor:
        """Resize pictures b 3 h w to the model's size, bilinearly with antialiasing, as PIL does; the aspect ratio is not kept."""
        return resize(image, self.image_size, self.image_size, filter="bilinear")

    def mean_style(self, domain: str) -> Tensor:
        """The mean style `1 s` of a domain, of 10,000 latents that are always the same; kept until the weights move."""
        network = self.averages.mapping_network
        version = sum(parameter._version for parameter in network.parameters())
        if self._mean_styles.get(domain, (-1,))[0] != version:
            with self.aside("mean style"):
                shape = (MEAN_LATENTS, self.latent_channels)
                latents = self.draws.normal("mean style", shape, device=self.device).to(self.dtype)
                number = torch.tensor(self.number_of(domain), device=self.device)
                self._mean_styles[domain] = (version, mean_style(network, latents, number))
        return self._mean_styles[domain][1]

    def masks(self, image: Tensor) -> Masks:
        """Where features of pictures b 3 h w skip the bottleneck: see `zoo.experts.fan.FAN.masks`; None where nothing does."""
        if self.w_hpf <= 0:
            return None
        with torch.autocast(image.device.type, enabled=False):
            return self.find_landmarks().masks(image.to(self.dtype))

    def find_landmarks(self) -> FAN:
        """The network that finds landmarks, fetched when it is first asked for."""
        if self.fan is None:
            self.fan = FAN(pretrained=self.landmarks == "wing").to(self.generator.from_rgb.weight)
        return self.fan

    def take_landmarks(self, state: Mapping[str, Tensor]) -> None:
        """Take FAN's weights from a state dict, as official checkpoints bring it along."""
        self.fan = FAN()
        self.fan.load_weights(state)
        self.fan.to(self.generator.from_rgb.weight)

    # Training --------------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> list[Optimizer]:
        """An Adam for each network. The generator's belongs to two players: by references, it learns alone."""
        generator, encoder = self.adam(self.generator.parameters()), self.adam(self.style_encoder.parameters())
        mapping = self.adam(self.mapping_network.parameters(), lr=self.mapping_learning_rate)
        makers = {"generator": generator, "mapping_network": mapping, "style_encoder": encoder}
        optimizers = self.players(
            Player("discriminator", self.adam(self.discriminator.parameters()), [self.discriminator]),
            Player("latent", makers, [self.generator, self.mapping_network, self.style_encoder]),
            Player("reference", generator, [self.generator]),
        )
        return list(dict.fromkeys(optimizers))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """The discriminator twice, by latents and by references; then the generator twice, its companions by latents alone."""
        shape = (len(batch["image"]), self.latent_channels)
        latents = [self.draws.normal(name, shape) for name in ("latent", "latent2")]
        references = [batch["reference"], batch["reference2"]]
        masks = self.masks(batch["image"])
        self.update_discriminator("latent", batch, masks, self.mapping_network, latents[0])
        self.update_discriminator("reference", batch, masks, self.style_encoder, references[0])
        if self.iteration < self.discriminator_warmup:
            return
        self.update_generator("latent", batch, masks, self.mapping_network, latents)
        self.update_generator("reference", batch, masks, self.style_encoder, references)
        self.ema.update(self.iteration)

    def update_discriminator(
        self, kind: Kind, batch: Mapping[str, Tensor], masks: Masks, encode: Encode, guide: Tensor
    ) -> None:
        """Tell pictures of each domain from translations into it."""
        with self.player("discriminator") as player:
            terms, total = self.discriminator_losses(batch, masks, encode, guide)
            player.minimize(total)
        self.log_terms({f"{name}_{kind}": value for name, value in {**terms, "discriminator": total}.items()})

    def update_generator(
        self, kind: Kind, batch: Mapping[str, Tensor], masks: Masks, encode: Encode, guides: Sequence[Tensor]
    ) -> None:
        """Translate in a style that can be read off again, that is not another one, and from which there is a way back."""
        with self.player(kind) as player:
            terms, total = self.generator_losses(batch, masks, encode, guides)
            player.minimize(total)
        self.log_terms({f"{name}_{kind}": value for name, value in {**terms, "generator": total}.items()})
        self.log_terms({"lambda_diversity": total.new_full((), self.diversity_weight(self.iteration))}, "weight")

    def discriminator_losses(
        self, batch: Mapping[str, Tensor], masks: Masks, encode: Encode, guide: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Terms of the discriminator's loss, and their weighted sum.

        Args:
            batch: see the class.
            masks: of the images, or None.
            encode: the mapping network or the style encoder.
            guide: what it makes styles of: latents b z or references b 3 h w.
        """
        image, target = batch["image"], batch["reference_domain"]
        with torch.no_grad():
            fake = self.generator(image, encode(guide, target), masks)
        real = image.detach().requires_grad_(self.lambda_r1 > 0)
        # In full precision, because a gradient's gradient is taken; eagerly, for a compiled call can't be differentiated twice.
        with torch.autocast(image.device.type, enabled=False):
            logits = self.discriminator.forward(real, batch["domain"])
            on_fake = self.discriminator(fake.to(real.dtype), target)
            terms = {"real": adversarial_loss(logits, real=True), "fake": adversarial_loss(on_fake, real=False)}
            self.terms.compare("discriminator", logits, on_fake)
            total = terms["real"] + terms["fake"]
            if self.lambda_r1 > 0:
                terms["r1"] = r1_penalty(logits, real)
                total = total + self.lambda_r1 * terms["r1"]
        return terms, total

    def generator_losses(
        self, batch: Mapping[str, Tensor], masks: Masks, encode: Encode, guides: Sequence[Tensor]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Terms of the loss of generator, mapping network and style encoder, and their weighted sum.

        Args:
            batch: see the class.
            masks: of the images, or None.
            encode: the mapping network or the style encoder.
            guides: two of what it makes styles of: latents b z or references b 3 h w.
        """
        image, target = batch["image"], batch["reference_domain"]
        style = encode(guides[0], target)  # b s
        fake = self.generator(image, style, masks)
        with torch.no_grad():
            other = self.generator(image, encode(guides[1], target), masks)
        back = self.generator(fake, self.style_encoder(image, batch["domain"]), self.masks(fake.detach()))
        terms = {
            "adversarial": adversarial_loss(self.discriminator(fake, target), real=True),
            "style": F.l1_loss(full(self.style_encoder(fake, target)), full(style)),
            "diversity": F.l1_loss(full(fake), full(other)),
            "cycle": F.l1_loss(full(back), image),
        }
        total = terms["adversarial"] + self.lambda_style * terms["style"] + self.lambda_cycle * terms["cycle"]
        return terms, total - self.diversity_weight(self.iteration) * terms["diversity"]

    def diversity_weight(self, iteration: int) -> float:
        """The weight of the diversity-sensitive loss in a 0-based iteration: it falls to 0 on a straight line.

        A function of the iteration alone, so a resumed run goes on where it was. Iterations of the discriminator's warm-up
        don't count.
        """
        share = max(0, iteration - self.discriminator_warmup) / self.diversity_iterations
        return self.lambda_diversity * max(0.0, 1 - share)

    # Watching --------------------------------------------------------------------------------------------------------

    def samples(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Columns of a sample grid: image, reference, translation, the way back, the image in random styles of the same domain."""
        image, target, networks = batch["image"], batch["reference_domain"], self.averages
        with self.aside("samples"):
            masks, translation = self.masks(image), self.translate_batch(batch)
            own = networks.style_encoder(image, batch["domain"])
            columns = {"source": image, "reference": batch["reference"], "translation": translation}
            columns["there and back"] = networks.generator(translation, own, self.masks(translation)).clamp(-1, 1)
            for number in range(1, RANDOM_STYLES + 1):
                latent = self.draws.normal("latent", (1, self.latent_channels), device=self.device).to(self.dtype)
                style = networks.mapping_network(latent.expand(len(image), -1), target)
                columns[f"random style {number}"] = networks.generator(image, style, masks).clamp(-1, 1)
        return columns

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log how well pictures come back, how well styles are read off translations, and how far random styles lie apart."""
        image, domain, target = batch["image"], batch["domain"], batch["reference_domain"]
        networks = self.averages
        with self.aside("validation", batch_idx):
            masks, style = self.masks(image), networks.style_encoder(batch["reference"], target)
            there = networks.generator(image, style, masks)
            back = networks.generator(there, networks.style_encoder(image, domain), self.masks(there))
            shape = (len(image), self.latent_channels)
            latents = [self.draws.normal(name, shape, device=self.device).to(self.dtype) for name in ("one", "other")]
            one, other = (networks.generator(image, networks.mapping_network(z, target), masks) for z in latents)
            figures = {
                "val/cycle_psnr": psnr(back.clamp(-1, 1), image).mean(),
                "val/style_distance": F.l1_loss(networks.style_encoder(there, target), style),
                "val/diversity": F.l1_loss(one, other),
            }
        self.log_dict(figures, batch_size=len(image), sync_dist=True)

    test_step = validation_step
