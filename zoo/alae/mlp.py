"""ALAE for digits: an adversarial latent autoencoder of perceptrons.

Stanislav Pidhorskyi, Donald A. Adjeroh, Gianfranco Doretto: Adversarial Latent Autoencoders.
CVPR 2020. https://arxiv.org/abs/2004.04467

The paper's test of what codes are good for. Digits are rows of 784 numbers, in which neighbours mean nothing; encoder and generator
are three affine maps each. Then classifiers that were told the classes, the nearest neighbour and a linear support vector machine,
try the codes.

Names:
    here             paper
    short            the encoder's output, 50 numbers
    long             its second hidden layer, 1024 numbers
    same writers     held out from the training digits; different writers: the test digits

Losses:
    those of StyleALAE, without styles to mix: `lightning card alae`

Figures:
    published, in per cent, short / long (quoted from memory of the paper's table 1, not checked against its text):
    same writers         nearest neighbour 93.79 / 97.61     support vector machine 93.47 / 98.20
    different writers    nearest neighbour 94.59 / 97.47     support vector machine 94.23 / 98.64

Differences:
    - Settings are those of the official branch mnist_ref, at the commit whose mapping F is in use; master's perceptrons do not run. Its
      slopes differ: 0.2 in the encoder, but 0.01 behind its output; 0.01 in the generator.
    - The gradient penalty counts in the range [0, 1] of the digits.
    - The official norm `bn_2`, which no pass goes through, is left out.
    - Classifiers are scikit-learn's, as in the official script: KNeighborsClassifier with one neighbour, and LinearSVC with C = 0.02
      and at most 5,000 iterations, of the primal problem (`lightning evaluate RUN --protocol digit-codes`).

Checkpoints:
    none were published. Files of the official layout are read by `zoo.weights.alae`, tested on files built in that layout.

State:
    trains, reconstructs, equals the official code's numbers; not trained to the paper's figures

Cite::

    @inproceedings{pidhorskyi2020adversarial,
      title     = {Adversarial Latent Autoencoders},
      author    = {Pidhorskyi, Stanislav and Adjeroh, Donald A. and Doretto, Gianfranco},
      booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
      year      = {2020}
    }
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.alae.game import EmaStart, LatentGame, Regress
from zoo.alae.mlp_networks import Perceptron
from zoo.alae.networks import Critic
from zoo.alae.networks import Mapping as LatentMapping
from zoo.core.images import psnr
from zoo.errors import ZooError

RECONSTRUCTION = "reconstruction"


class MLPALAE(LatentGame):
    """Encodes digits into codes and paints codes, with nothing but affine maps.

    Batches have `image`, `b 1 s s` in [-1, 1]; the networks see it in [0, 1]. Inference uses moving averages of the networks where there
    are any. The defaults are those of the official branch `mnist_ref`.

    Args:
        image_size: side of the digits in pixels.
        hidden: features of the hidden layers.
        latent_channels: of the codes z and w.
        mapping_layers: of F.
        encoder_slopes: of the encoder's leaky ReLUs: hidden layers, output.
        generator_slopes: the same of the generator, whose output is linear with 1. The official master has 0.2 wherever there is one.
        average_rows: rows of the tracked average code, all alike; the official network has one for each style of the other variant.
        average_beta: share of the old average that a batch keeps.
        lambda_r1: weight of the gradient penalty (gamma).
        lambda_latent: weight of the latent loss.
        regress: codes that the latent loss compares.
        zero_absent_gradients: see `StyleALAE`.
        learning_rate: of LREQAdam.
        beta: of LREQAdam.
        adam_eps: of LREQAdam.
        ema_half_life: pictures after which moving averages have forgotten half of the old weights; 0 for none.
        ema_start: see `StyleALAE`.
    """

    def __init__(
        self,
        image_size: int = 28,
        hidden: int = 1024,
        latent_channels: int = 50,
        mapping_layers: int = 6,
        encoder_slopes: tuple[float, float] = (0.2, 0.01),
        generator_slopes: tuple[float, float] = (0.01, 1.0),
        average_rows: int = 8,
        average_beta: float = 0.995,
        lambda_r1: float = 10.0,
        lambda_latent: float = 1.0,
        regress: Regress = "w",
        zero_absent_gradients: bool = False,
        learning_rate: float = 0.002,
        beta: float = 0.99,
        adam_eps: float = 1e-8,
        ema_half_life: float = 10_000.0,
        ema_start: EmaStart = "independent",
    ) -> None:
        super().__init__(
            latent_channels,
            average_rows,
            average_beta,
            lambda_r1,
            lambda_latent,
            regress,
            zero_absent_gradients,
            beta,
            adam_eps,
        )
        self.save_hyperparameters()
        pixels = image_size**2
        self.encoder = Perceptron(pixels, hidden, latent_channels, *encoder_slopes)
        self.generator = Perceptron(latent_channels, hidden, pixels, *generator_slopes)
        self.mapping = LatentMapping(latent_channels, mapping_layers)
        self.critic = Critic(latent_channels, latent_channels, 0)
        self.begin_average(ema_half_life, ema_start)
        self.image_size, self.learning_rate = image_size, learning_rate

    def learning_rate_now(self) -> float:
        """The one rate."""
        return self.learning_rate

    # Digits and features

    def flat(self, image: Tensor) -> Tensor:
        """Digits `b 1 h w` in [-1, 1] as features b s*s in [0, 1]; other sizes are brought to ours by the nearest pixel."""
        if image.shape[1] != 1:
            raise ZooError(f"This ALAE knows grey digits, and these have {image.shape[1]} channels: --data.channels 1")
        if image.shape[2:] != (self.image_size, self.image_size):
            image = F.interpolate(image, (self.image_size, self.image_size), mode="nearest")
        return (image.flatten(1) + 1) / 2

    def unflat(self, features: Tensor) -> Tensor:
        """The inverse of `flat`."""
        return 2 * features.view(-1, 1, self.image_size, self.image_size) - 1

    # Training

    def real(self, image: Tensor) -> Tensor:
        """Real digits as the judges see them, b s*s in [0, 1]: the gradient penalty counts in this range."""
        return self.flat(image)

    def code_of(self, image: Tensor) -> Tensor:
        """Encode flat digits `b s*s`."""
        return self.encoder(image)

    def paint(self, w: Tensor, *, mix: bool) -> Tensor:
        """Paint codes `b z` as flat digits, b s*s; there are no styles to mix."""
        return self.generator(w)

    # Inference

    def encode(self, image: Tensor) -> Tensor:
        """Encode digits `b 1 h w` in [-1, 1], in eval mode: codes w, b z, to which F maps where codes z were trained."""
        with self.aside("encode"):
            code = self.network("encoder")(self.flat(image))
            return self.network("mapping")(code) if self.regress == "z" else code

    def features(self, image: Tensor) -> dict[str, Tensor]:
        """What classifiers are tried on: `short`, the encoder's output b z, and `long`, its second hidden layer b hidden."""
        with self.aside("features"):
            _, long, short = self.network("encoder").features(self.flat(image))
            return {"short": short, "long": long}

    def decode(self, codes: Tensor) -> Tensor:
        """Paint codes `b z` in eval mode: b 1 s s, about [-1, 1], not clamped."""
        with self.aside("decode"):
            return self.unflat(self.network("generator")(codes))

    def generate(self, latent: Tensor) -> Tensor:
        """Draw digits from latent codes `b z`: b 1 s s, about [-1, 1], not clamped."""
        with self.aside("generate"):
            return self.decode(self.network("mapping")(latent))

    def reconstruct(self, image: Tensor) -> Tensor:
        """Encode digits and paint their codes."""
        return self.decode(self.encode(image))

    def translate(self, image: Tensor, *, to: str = RECONSTRUCTION) -> Tensor:
        """Reconstruct digits `b 1 h w`, or the luma of `b 3 h w`, in [-1, 1]: b 1 s s in [-1, 1]."""
        if to != RECONSTRUCTION:
            raise ZooError(f"This ALAE gives a 'reconstruction', and not {to!r}.")
        if image.shape[1] == 3:
            image = torch.einsum("bchw,c->bhw", image, image.new_tensor([0.299, 0.587, 0.114]))[:, None]
        return self.reconstruct(image).clamp(-1, 1)

    def translate_batch(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Reconstruct a batch's digits."""
        return self.translate(batch["image"])

    def samples(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Columns of a sample grid: digits, their reconstructions, and fresh drawings."""
        image = batch["image"]
        with self.aside("samples"):
            latent = self.draws.normal("latent", (len(image), self.latent_channels), device=image.device)
        return {"image": image, "reconstruction": self.translate(image), "drawn": self.generate(latent).clamp(-1, 1)}

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log how well digits survive their code, in dB."""
        image = batch["image"]
        quality = psnr(self.translate(image), image).mean()
        self.log("val/reconstruction_psnr", quality, batch_size=len(image), sync_dist=True)

    test_step = validation_step
