"""UNIT for digits: domain adaptation, a reader of digits that nobody labelled.

Ming-Yu Liu, Thomas Breuel, Jan Kautz: Unsupervised Image-to-Image Translation Networks.
NeurIPS 2017. https://arxiv.org/abs/1703.00848

Digits of the source have labels, those of the target have none. A small UNIT learns to translate between them; its discriminator, whose
layers but the first are those of both domains, learns on the way to name the source's digits. It is asked to see the same in a picture
and its translation. In the end its class head reads the target's digits.

Names:
    here             official code   paper
    source, target   a, b            1, 2
    generator        CoVAE32x32      E and G; shared but for their outermost layers
    discriminator    CoDis32x32      D, with a head for real or fake and one for classes

Losses:
    N is the number of digits per domain and batch; x_aa and x_bb are reconstructions, x_ab and x_ba translations; (mu, sigma) is a
    code's Gaussian; D is the head for real (1) or fake (0), C the one for classes, f the features below them; H is the mean
    cross-entropy. Squares are summed over features, pixels and codes of both domains.

    discriminator    lambda_adversarial (H(D(x_a, x_b), 1)
                     + 1/2 H(D(x_aa, x_bb), 0) + 1/2 H(D(x_ba, x_ab), 0))
                     + lambda_classification H(C(x_a), label)
                     + lambda_feature ((f(x_ab) - f(x_aa))^2 + (f(x_ba) - f(x_bb))^2) / N
    generator        lambda_adversarial (H(D(x_aa, x_bb), 1) + H(D(x_ba, x_ab), 1))
                     + lambda_reconstruction ((x_aa - x_a)^2 + (x_bb - x_b)^2) / N
                     + lambda_kl (mu^2 + sigma^2 - log sigma^2) / N

Differences:
    - As in the paper's code (version_02), and unlike the images' networks: a learned deviation, no cycle, no features in the generator's
      loss, reconstructions judged as fakes, too.
    - `feature_distance: l2sq` is the code's, `l1` the paper's text.
    - `coordinates` are two more channels for the generator, where the pixel is: the code's run on SVHN has them, its twin has not.
    - Codes are sampled in eval mode, too, as in the code: a translation is one of many. `translate` draws the same at every call.
    - The code evaluates the target's test digits every 100 iterations and keeps the best score, which is a choice by the test set.
      `ReadTestDigits` reports the last iterate first, and the best beside it, by its name.
    - Work whose results the code drops is not done: features where no loss reads them, gradients that no player applies.
    - Batches are complete: where the code skips a last incomplete one, the next epoch's digits fill it up.
    - MNIST and USPS have no official code. Both have bright strokes, so no inversion, and no coordinates: an own setting
      (configs/demo/unit_digits.yaml).

Checkpoints:
    none were published. Files of the official layout are read by `zoo.weights.unit`, tested on files built in that layout.

State:
    trains, translates and reads, equals the official code's numbers; not trained on SVHN

Cite::

    @inproceedings{liu2017unsupervised,
      title     = {Unsupervised Image-to-Image Translation Networks},
      author    = {Liu, Ming-Yu and Breuel, Thomas and Kautz, Jan},
      booktitle = {Advances in Neural Information Processing Systems (NIPS)},
      year      = {2017}
    }
"""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from zoo.core import Player, Translator
from zoo.core.images import psnr
from zoo.errors import ZooError
from zoo.unit.digit_networks import SIZE, CoupledVAE, ReadingDiscriminator
from zoo.unit.generators import Decoded
from zoo.unit.losses import FeatureDistance, class_loss, feature_loss, posterior_kl, squared_error

OTHER = {"source": "target", "target": "source"}
FAKE, REAL = 0, 1
"""Classes of the discriminator's first head."""


class UNITDigits(Translator):
    """Translation between two sets of digits, and a reader of the target's that learned from the source's labels alone.

    Batches have `source` and `target`, `b c 32 32` in [-1, 1], and `source_label`, int64 `b`; those of validation and test have
    `target_label`, too. Inference uses the networks themselves, in eval mode. The defaults are those of the official run from SVHN
    to MNIST.

    Args:
        source_channels: of source digits: 3 for SVHN, 1 for MNIST and USPS.
        target_channels: of target digits.
        generator_channels: of the generator's first layers.
        discriminator_channels: of the discriminator's.
        classes: number of classes.
        coordinates: whether the generator is told where each pixel is.
        dropout: shares that the discriminator drops in front of its second, third and fourth layer and of its heads.
        feature_distance: `l2sq` as in the official code, or `l1` as in the paper's text.
        lambda_adversarial: weight of the adversarial losses of both players.
        lambda_classification: weight of the source's classification.
        lambda_feature: weight of the distance between features of a picture's reconstruction and translation; 0 saves it.
        lambda_reconstruction: weight of the squared error.
        lambda_kl: weight of the codes' divergence.
        learning_rate: of Adam, for both players.
        betas: of Adam.
        weight_decay: of Adam.
        test_interval: iterations between two readings of the target's test digits, where `ReadTestDigits` is among the callbacks.

    Raises:
        ZooError: another number of dropout shares than four.
    """

    smallest_size = SIZE

    def __init__(
        self,
        source_channels: int = 3,
        target_channels: int = 1,
        generator_channels: int = 96,
        discriminator_channels: int = 64,
        classes: int = 10,
        coordinates: bool = True,
        dropout: tuple[float, float, float, float] = (0.1, 0.3, 0.5, 0.5),
        feature_distance: FeatureDistance = "l2sq",
        lambda_adversarial: float = 1.0,
        lambda_classification: float = 10.0,
        lambda_feature: float = 1e-4,
        lambda_reconstruction: float = 1e-3,
        lambda_kl: float = 1e-4,
        learning_rate: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        weight_decay: float = 5e-4,
        test_interval: int = 100,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if len(dropout) != 4:
            raise ZooError(
                f"dropout has {len(dropout)} shares; there are four places: --model.dropout [0.1, 0.3, 0.5, 0.5]"
            )
        if test_interval < 1:
            raise ZooError(f"test_interval is {test_interval}; it counts iterations and must be at least 1.")
        self.channels = {"source": source_channels, "target": target_channels}
        self.generator = CoupledVAE(source_channels, target_channels, generator_channels, coordinates)
        self.discriminator = ReadingDiscriminator(
            source_channels, target_channels, discriminator_channels, classes, dropout
        )
        self.feature_distance = feature_distance
        self.lambda_adversarial, self.lambda_classification = lambda_adversarial, lambda_classification
        self.lambda_feature = lambda_feature
        self.lambda_reconstruction, self.lambda_kl = lambda_reconstruction, lambda_kl
        self.adam = partial(Adam, lr=learning_rate, betas=betas, weight_decay=weight_decay)
        self.test_interval = test_interval

    def setup(self, stage: str) -> None:
        """Refuse digits of another size or other channels."""
        super().setup(stage)
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        size = getattr(data, "size", SIZE)
        if size != SIZE:
            raise ZooError(
                f"The data gives digits of {size}x{size}, and these networks are made for {SIZE}x{SIZE}: --data.size {SIZE}"
            )
        for domain, transform in getattr(data, "transforms", {}).items():
            if transform.channels != self.channels[domain]:
                raise ZooError(
                    f"The data gives {domain} digits of {transform.channels} channels, and the model is built for "
                    f"{self.channels[domain]}: --model.{domain}_channels {transform.channels}, or --data.channels null for each set's own"
                )

    # Inference

    def translate(self, image: Tensor, *, to: str = "target") -> Tensor:
        """Translate digits `b c 32 32` in [-1, 1] of the other domain into `target` or `source`, in eval mode, by sampled codes."""
        if to not in OTHER:
            raise ZooError(f"UNIT translates to 'target' or to 'source', not to {to!r}.")
        return self._decoded(image, OTHER[to], to)

    def reconstruct(self, image: Tensor, *, domain: str = "source") -> Tensor:
        """Encode digits of a domain, `source` or `target`, sample a code, and decode it in the same domain."""
        return self._decoded(image, domain, domain)

    def _decoded(self, image: Tensor, domain: str, to: str) -> Tensor:
        self._require_channels(image, domain)
        with self.aside("translate"):
            return self.generator.decode(self.sample(*self.generator.encode(image, domain)), to)

    def classify(self, image: Tensor, *, domain: str = "target") -> Tensor:
        """Give logits `b classes` of digits `b c 32 32` in [-1, 1] of a domain, in eval mode."""
        self._require_channels(image, domain)
        with self.aside("classify"):
            return self.discriminator.classify(self.discriminator.look(image, domain))

    def _require_channels(self, image: Tensor, domain: str) -> None:
        if domain not in OTHER:
            raise ZooError(f"There is no domain {domain!r}; there are 'source' and 'target'.")
        if image.shape[1] != self.channels[domain]:
            raise ZooError(
                f"These networks take {domain} digits of {self.channels[domain]} channels, and these pictures have {image.shape[1]}: "
                "prepare them as in the training."
            )

    # Training

    def configure_optimizers(self) -> list[Optimizer]:
        """One Adam for each player."""
        return self.players(
            Player("generator", self.adam(self.generator.parameters()), [self.generator]),
            Player("discriminator", self.adam(self.discriminator.parameters()), [self.discriminator]),
        )

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """The discriminator, which learns to read, first; then the generator."""
        self.update_discriminator(batch["source"], batch["target"], batch["source_label"])
        self.update_generator(batch["source"], batch["target"])

    def sample(self, mean: Tensor, deviation: Tensor) -> Tensor:
        """Draw codes."""
        return mean + deviation * self.draws.normal("noise", mean.shape, device=mean.device).to(mean.dtype)

    def make(self, source: Tensor, target: Tensor) -> tuple[Decoded, Tensor, Tensor]:
        """Reconstructions and translations of both domains, and their codes' means and deviations."""
        mean, deviation = self.generator.encode_both(source, target)
        return self.generator.decode_both(self.sample(mean, deviation)), mean, deviation

    def update_discriminator(self, source: Tensor, target: Tensor, label: Tensor) -> None:
        """Tell digits from made ones, name the source's, and see the same in a reconstruction and a translation of one digit."""
        look, judge = self.discriminator.look, self.discriminator.judge
        with self.player("discriminator") as player:
            # The order of these passes is the official one of the run with coordinates: masks of dropout depend on it.
            source_seen = look(source, "source")
            on_real = judge(torch.cat([source_seen, look(target, "target")]))
            real = class_loss(on_real, REAL)
            with torch.no_grad():  # in training mode: the running statistics move
                made, _, _ = self.make(source, target)
            kept_source, moved_source = look(torch.cat([made.source, made.to_source]), "source").chunk(2)
            moved_target, kept_target = look(torch.cat([made.to_target, made.target]), "target").chunk(2)
            reconstructed = class_loss(judge(torch.cat([kept_source, kept_target])), FAKE)
            on_fake = judge(torch.cat([moved_source, moved_target]))
            translated = class_loss(on_fake, FAKE)
            fake = 0.5 * (reconstructed + translated)
            named = class_loss(self.discriminator.classify(source_seen), label)
            terms = {"adversarial_real": real, "adversarial_fake": fake, "classification": named}
            total = self.lambda_adversarial * (real + fake) + self.lambda_classification * named
            if self.lambda_feature > 0:
                seen = self.discriminator.features(torch.cat([moved_target, kept_source, moved_source, kept_target]))
                of_ab, of_aa, of_ba, of_bb = seen.chunk(4)
                terms["feature_source"] = feature_loss(self.feature_distance, of_ab, of_aa)
                terms["feature_target"] = feature_loss(self.feature_distance, of_ba, of_bb)
                total = total + self.lambda_feature * (terms["feature_source"] + terms["feature_target"])
            player.minimize(total)
        self.log_terms({**terms, "discriminator": total})
        # Of two classes: how real they look.
        self.terms.compare("discriminator", *(x[:, REAL] - x[:, FAKE] for x in (on_real, on_fake)))

    def update_generator(self, source: Tensor, target: Tensor) -> None:
        """Keep digits, and make reconstructions and translations that look real."""
        look, judge = self.discriminator.look, self.discriminator.judge
        with self.player("generator") as player:
            made, mean, deviation = self.make(source, target)
            reconstructed = class_loss(
                judge(torch.cat([look(made.source, "source"), look(made.target, "target")])), REAL
            )
            translated = class_loss(
                judge(torch.cat([look(made.to_source, "source"), look(made.to_target, "target")])), REAL
            )
            adversarial, kl = reconstructed + translated, posterior_kl(mean, deviation)
            errors = [squared_error(made.source, source), squared_error(made.target, target)]
            total = self.lambda_adversarial * adversarial + self.lambda_kl * kl
            total = total + self.lambda_reconstruction * (errors[0] + errors[1])
            player.minimize(total)
        terms = {"adversarial": adversarial, "kl": kl}
        self.log_terms(
            {**terms, "reconstruction_source": errors[0], "reconstruction_target": errors[1], "generator": total}
        )

    # Looking

    def samples(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Columns of a sample grid: each domain, its translation and its reconstruction."""
        source, target = batch["source"], batch["target"]
        return {
            "source": source,
            "translation": self.translate(source),
            "reconstruction": self.reconstruct(source),
            "target": target,
            "translation to source": self.translate(target, to="source"),
            "reconstruction of target": self.reconstruct(target, domain="target"),
        }

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log how many digits of each domain are read rightly, and how well they survive the code, in dB."""
        figures: dict[str, Tensor] = {}
        for domain in OTHER:
            image, label = batch[domain], batch[f"{domain}_label"]
            right = self.classify(image, domain=domain).argmax(1) == label
            figures[f"val/accuracy_{domain}"] = right.to(torch.float32).mean()
            figures[f"val/reconstruction_psnr_{domain}"] = psnr(self.reconstruct(image, domain=domain), image).mean()
        self.log_dict(figures, batch_size=len(batch["target"]), sync_dist=True)

    test_step = validation_step
