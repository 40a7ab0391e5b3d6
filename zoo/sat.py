"""SAT: Show, Attend and Translate: Unsupervised Image Translation with Self-Regularization and Attention.

Chao Yang, Taehwan Kim, Ruizhe Wang, Hao Peng, C.-C. Jay Kuo. IEEE TIP 2019. https://arxiv.org/abs/1806.06195

One generator, one discriminator and no way back: beside fooling the discriminator, a translation has to stay close to its source
as a frozen network sees it. An attention branch then learns, without labels, where a picture has to be repainted at all: elsewhere
it stays the source. So a segmentation of what differs between the domains comes along.

Names:
    here             paper
    source, target   X, Y
    generator        G_0      paints the whole picture
    attention        G_attn   says where that is used, in [0, 1]
    stages 0, 1, 2   phases of training: generator, attention, both

Losses:
    x is of the source, y of the target domain; s(t) = log(1 + exp(t)).
    F_l is what a frozen VGG-19 gives behind its ReLU l_1, l = 1, 2, 3.
    translation      G(x) = A(x) G_0(x) + (1 - A(x)) x; in the first phase G(x) = G_0(x)
    generator        s(-D(G(x))) + lambda_regularisation L(x, G(x))
    regularisation   L(x, z) = sum over l of w_l |F_l(x) - F_l(z)|^2, w = 1/32, 1/16, 1/8
                     squares are summed over channels and averaged over the rest
    discriminator    s(-D(y)) + s(D(G(x)))

Training:
    Phases are callbacks of the recipe: `EnterStage`, `AdaptiveLambda`. G_0 learns alone, then the attention while G_0 is fixed, then
    both at a smaller rate. In each of the first two lambda grows from 0 until the adversarial loss exceeds a threshold; then it
    stays. Each phase has a new optimiser for what it trains; the discriminator's goes on.

Differences:
    No official code is known, and formulas of the paper were not legible to us. What it leaves open is an option:
    - `adversarial: bce` is the non-saturating log form. `saturating` is the literal log(1 - D(G(x))), with thresholds below 0.
      Take `lsgan` where the discriminator wins too early. All grow as fakes are found out, as the rule for lambda needs.
    - `lambda_step`, `lambda_interval`, `lambda_threshold`: run with a step of 0 until `loss/adversarial` settles. Half as much
      again is a threshold, to be reached in some thousand iterations: how fast lambda grows matters more than where it stops.
      `attention_lambda_threshold` lies above the loss that its phase begins with, or lambda stays 0.
    - `attention_iteration`, `joint_iteration`: each phase goes on "until convergence". Begin the next one some time after
      `weight/lambda_regularisation_stopped` became 1; never, where the whole picture changes and attention is no help.
    - `perceptual_squared: false` is the other reading of "L2 difference": it pulls less at large changes, more at small ones.
    - `distance: alexnet` is the paper's other network, which made little difference; `ssim`, `l1` and `l2` need no weights.
    - `literal: true` has no 7x7 layers: the text names two strided and two transposed blocks, and nothing around them.
    - `freeze_attention_encoder`: the paper's VGG is pretrained, it doesn't say fixed. Fix it when pictures are few.
    - Fakes come from a pool of 50, as CycleGAN's. `decay_begin` and `decay_iterations` let the rate fall (here it does not).
    - `discriminator_norm: spectral` is a remedy that the paper names; a moving average (`ema_decay`) is ours.

Checkpoints:
    none were published

State:
    trains, translates, equals an independent computation of the formulas above; not trained to the paper's figures

Cite::

    @article{yang2019show,
      title   = {Show, Attend, and Translate: Unsupervised Image Translation With Self-Regularization and Attention},
      author  = {Yang, Chao and Kim, Taehwan and Wang, Ruizhe and Peng, Hao and Kuo, C.-C. Jay},
      journal = {IEEE Transactions on Image Processing},
      year    = {2019}
    }
"""

from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from zoo.blocks.attention import attention_iou, compose
from zoo.blocks.distances import PIXEL_DISTANCES, PixelDistance
from zoo.blocks.image_pool import ImagePool
from zoo.blocks.initialise import initialise
from zoo.blocks.rates import falling_rate
from zoo.blocks.spectral_norm import spectral_norm
from zoo.core import Ema, Player, Translator
from zoo.core.precision import full
from zoo.errors import ZooError
from zoo.experts.alexnet import AlexNetFeatures
from zoo.experts.vgg import BASE_CHANNELS, VGGFeatures, load_vgg_weights, normalise, vgg_layers
from zoo.weights.fetch import fetch
from zoo.weights.preflight import missing_weights

Adversarial = Literal["bce", "saturating", "lsgan"]
Distance = Literal["perceptual", "alexnet"] | PixelDistance
GENERATOR, ATTENTION, JOINT = range(3)  # the stages

VGG_LAYERS = ("relu1_1", "relu2_1", "relu3_1")
ALEXNET_LAYERS = ("relu1", "relu2", "relu3")

# Networks ----------------------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """A convolution without bias, batch norm and, if wanted, a ReLU."""

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, *, relu: bool = True) -> None:
        super().__init__()
        self.conv = conv
        self.bn = nn.BatchNorm2d(conv.out_channels)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """Map `b c h w`."""
        x = self.bn(self.conv(x))
        return F.relu(x) if self.relu else x


def down(incoming: int, outgoing: int) -> Block:
    """Half the size."""
    return Block(nn.Conv2d(incoming, outgoing, 3, stride=2, padding=1, bias=False))


def up(incoming: int, outgoing: int) -> Block:
    """Twice the size."""
    return Block(nn.ConvTranspose2d(incoming, outgoing, 3, stride=2, padding=1, output_padding=1, bias=False))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions of dilation 2, around which the input is carried."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        conv = partial(nn.Conv2d, channels, channels, 3, padding=2, dilation=2, bias=False, padding_mode="reflect")
        self.a = Block(conv())
        self.b = Block(conv(), relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `b c h w` to the same shape; no activation after the sum."""
        return x + self.b(self.a(x))


class Generator(nn.Module):
    """Down to a quarter of the size, dilated residual blocks, up again.

    Args:
        channels: of the first layer.
        blocks: number of residual blocks.
        literal: without the first and the last convolution of 7x7: the second transposed one gives the picture.
    """

    def __init__(self, channels: int, blocks: int, literal: bool) -> None:
        super().__init__()
        wide = partial(nn.Conv2d, kernel_size=7, padding=3, padding_mode="reflect")
        self.stem = nn.Identity() if literal else Block(wide(3, channels, bias=False))
        self.down1 = down(3 if literal else channels, 2 * channels)
        self.down2 = down(2 * channels, 4 * channels)
        self.residual = nn.Sequential(*[ResidualBlock(4 * channels) for _ in range(blocks)])
        self.up1 = up(4 * channels, 2 * channels)
        self.up2 = nn.Identity() if literal else up(2 * channels, channels)
        last = nn.ConvTranspose2d(2 * channels, 3, 3, stride=2, padding=1, output_padding=1)
        self.head = last if literal else wide(channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Paint `b 3 h w` in [-1, 1] anew, in the same size and range; the sides are multiples of 4."""
        x = self.residual(self.down2(self.down1(self.stem(x))))  # b 4c h/4 w/4
        return torch.tanh(self.head(self.up2(self.up1(x))))


class Attention(nn.Module):
    """VGG-19 up to its third block's third convolution, then up again to a map.

    Args:
        channels: of VGG's first block; 64 in the published network.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = vgg_layers(19, "relu3_3", channels)
        self.up1 = up(4 * channels, 2 * channels)
        self.up2 = up(2 * channels, channels)
        self.head = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Say of `b 3 h w` in [-1, 1] where it has to be repainted: `b 1 h w` in [0, 1]; the sides are multiples of 4."""
        x = self.features(normalise(x))  # b 4c h/4 w/4
        return torch.sigmoid(self.head(self.up2(self.up1(x))))


class Discriminator(nn.Module):
    """Says of overlapping patches whether they are real (of 70x70 pixels with 3 strided layers).

    Args:
        channels: of the first layer; each further layer doubles them, up to eight times as many.
        strided: number of convolutions that halve the size; two more keep it, but for a pixel each.
        norm: batch norm after all convolutions but the first and the last, or spectral norm of all.
    """

    def __init__(self, channels: int, strided: int, norm: Literal["batch", "spectral"]) -> None:
        super().__init__()
        widths = [channels * min(2**layer, 8) for layer in range(strided + 1)]
        self.first = nn.Conv2d(3, channels, 4, stride=2, padding=1)
        self.blocks = nn.ModuleList()
        for layer, (before, after) in enumerate(pairwise(widths), start=1):
            conv = nn.Conv2d(before, after, 4, 2 if layer < strided else 1, padding=1, bias=norm == "spectral")
            self.blocks.append(conv if norm == "spectral" else Block(conv, relu=False))
        self.last = nn.Conv2d(widths[-1], 1, 4, padding=1)
        initialise(self)
        if norm == "spectral":
            for conv in [self.first, *self.blocks, self.last]:
                spectral_norm(conv)

    def forward(self, x: Tensor) -> Tensor:
        """Judge `b 3 h w`: logits `b 1 h' w'`, such as 30x30 for 256x256."""
        for layer in (self.first, *self.blocks):
            x = F.leaky_relu(layer(x), 0.2)
        return self.last(x)


# Losses ------------------------------------------------------------------------------------------------------------------------


def generator_loss(logits: Tensor, kind: Adversarial) -> Tensor:
    """How far fakes are from passing, by the discriminator's logits of them, of any shape."""
    if kind == "lsgan":
        return (logits - 1).square().mean()
    return F.softplus(-logits).mean() if kind == "bce" else -F.softplus(logits).mean()


def discriminator_loss(logits: Tensor, real: bool, kind: Adversarial) -> Tensor:
    """How far the discriminator is from the truth, by its logits of reals or of fakes, of any shape."""
    if kind == "lsgan":
        return (logits - float(real)).square().mean()
    return F.softplus(-logits if real else logits).mean()


def feature_distances(features: Mapping[str, Tensor], others: Mapping[str, Tensor], squared: bool = True) -> Tensor:
    """How far apart two pictures' features are, layer by layer: distances of channel vectors, averaged over the rest.

    Args:
        features: b c h w by layer.
        others: the same layers of the other pictures.
        squared: squares of the Euclidean distances, or these themselves.
    """
    pairs = [(full(feature), full(others[layer])) for layer, feature in features.items()]
    if squared:
        return torch.stack([(one - other).square().sum(1).mean() for one, other in pairs])
    return torch.stack([torch.linalg.vector_norm(one - other, dim=1).mean() for one, other in pairs])


# The model ---------------------------------------------------------------------------------------------------------------------


class SAT(Translator):
    """Unpaired translation from a source into a target domain, with a map of what was translated.

    Batches have `source` and `target`, `b 3 h w` in [-1, 1], and may have `mask`, `b 1 h w`, the source's object, to measure the
    attention with. Inference uses generator and attention, or their moving averages where there are any, in eval mode: with
    running statistics. Before stage 1 the attention is untrained, and a translation is what the generator paints.

    Args:
        generator_channels: of the generator's first layer.
        residual_blocks: of the generator.
        literal: the generator without its first and last convolution of 7x7.
        attention_encoder: where the attention's VGG-19 starts from: ImageNet or random weights. A checkpoint holds it from then on.
        attention_channels: of its first block; 64 in the published network.
        freeze_attention_encoder: whether it stays as it was.
        discriminator_channels: of the discriminator's first layer.
        discriminator_layers: its strided convolutions.
        discriminator_norm: normalisation in the discriminator.
        adversarial: the adversarial loss.
        distance: of a translation to its source, which is the self-regularisation; `perceptual` is VGG-19's.
        distance_weights: "imagenet", or "random" for tests, of the network that `perceptual` and `alexnet` compare with.
        distance_channels: of that VGG-19's first block; 64 in the published network.
        perceptual_weights: of the network's first three layers.
        perceptual_squared: whether the distances of its features are squared.
        lambda_regularisation: weight of the self-regularisation until an `AdaptiveLambda` takes it over.
        lambda_step: by which it grows; read by the recipe's callbacks, as the next five.
        lambda_interval: iterations between two decisions on it.
        lambda_threshold: mean adversarial loss above which it stops growing in stage 0.
        attention_lambda_threshold: the same in stage 1, where the loss is higher from the start: the generator is fixed.
        attention_iteration: the first iteration of stage 1, in which the attention alone learns.
        joint_iteration: the first iteration of stage 2, in which generator and attention learn together.
        pool_size: earlier translations kept for the discriminator; 0 for none.
        learning_rate: of Adam, for all networks.
        joint_rate: factor of the generator's and attention's learning rate in stage 2.
        betas: of Adam.
        decay_begin: iteration from which all learning rates fall on a straight line.
        decay_iterations: in so many iterations, to 0; 0 keeps them.
        ema_decay: share of the old average that moving averages of generator and attention keep per iteration; 0 for none.

    Raises:
        ZooError: published weights are asked for an attention of another width.
    """

    def __init__(
        self,
        generator_channels: int = 64,
        residual_blocks: int = 9,
        literal: bool = False,
        attention_encoder: Literal["imagenet", "random"] = "imagenet",
        attention_channels: int = 64,
        freeze_attention_encoder: bool = False,
        discriminator_channels: int = 64,
        discriminator_layers: int = 3,
        discriminator_norm: Literal["batch", "spectral"] = "batch",
        adversarial: Adversarial = "bce",
        distance: Distance = "perceptual",
        distance_weights: Literal["imagenet", "random"] = "imagenet",
        distance_channels: int = 64,
        perceptual_weights: tuple[float, float, float] = (1 / 32, 1 / 16, 1 / 8),
        perceptual_squared: bool = True,
        lambda_regularisation: float = 0.0,
        lambda_step: float = 0.01,
        lambda_interval: int = 500,
        lambda_threshold: float = 1.5,
        attention_lambda_threshold: float = 3.0,
        attention_iteration: int = 133_400,
        joint_iteration: int = 200_100,
        pool_size: int = 50,
        learning_rate: float = 2e-4,
        joint_rate: float = 0.1,
        betas: tuple[float, float] = (0.5, 0.999),
        decay_begin: int = 0,
        decay_iterations: int = 0,
        ema_decay: float = 0.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if attention_encoder == "imagenet" and attention_channels != BASE_CHANNELS:
            advice = f"--model.attention_channels {BASE_CHANNELS}, or --model.attention_encoder random"
            raise ZooError(f"The published VGG-19 has {BASE_CHANNELS} channels, not {attention_channels}: {advice}")
        self.generator = Generator(generator_channels, residual_blocks, literal)
        self.attention = Attention(attention_channels)
        self.discriminator = Discriminator(discriminator_channels, discriminator_layers, discriminator_norm)
        initialise(self.generator)
        initialise(self.attention)
        initialise(self.attention.features, "kaiming")  # without norms, smaller weights would silence it
        self.attention.features.requires_grad_(not freeze_attention_encoder)
        averaged = {"generator": self.generator, "attention": self.attention}
        self.ema = Ema(averaged, decay=ema_decay) if ema_decay > 0 else None
        self.pool = ImagePool(pool_size)
        self.keep_per_rank("pool", self.pool)
        self.expert: VGGFeatures | AlexNetFeatures | None = None  # comes with `setup`: who translates needs none

        self.size_multiple = 4
        self.smallest_size = 12  # a quarter of it has to be wider than a dilated convolution's padding
        self.least_size = max(self.smallest_size, 3 * 2**discriminator_layers)  # of pictures to train on
        self.attention_encoder, self.adversarial = attention_encoder, adversarial
        self.distance, self.distance_weights, self.distance_channels = distance, distance_weights, distance_channels
        self.perceptual_weights, self.perceptual_squared = tuple(perceptual_weights), perceptual_squared
        self.lambda_regularisation = lambda_regularisation
        self.adam, self.learning_rate, self.joint_rate = partial(Adam, betas=betas), learning_rate, joint_rate
        self.schedule = partial(falling_rate, decay_begin, decay_iterations)

    @classmethod
    def missing(cls, settings: Mapping[str, Any], *, resumed: bool = False) -> list[str]:
        """Name the weights that a training starts from or is guided by and that can't be had here."""
        network = {"perceptual": "vgg19", "alexnet": "alexnet"}.get(settings.get("distance", "perceptual"))
        wanted = {network} if network and settings.get("distance_weights", "imagenet") == "imagenet" else set()
        if settings.get("attention_encoder", "imagenet") == "imagenet" and not resumed:
            wanted.add("vgg19")
        without = "Or train without any: --model.attention_encoder random --model.distance ssim"
        return [f"{sentence} {without}" for name in sorted(wanted) for sentence in missing_weights(name)]

    def setup(self, stage: str) -> None:
        """Fetch the network that compares pictures."""
        super().setup(stage)
        if stage != "fit" or self.expert is not None:
            return
        size = getattr(self.trainer.datamodule, "size", self.least_size)  # type: ignore[attr-defined]
        if size < self.least_size:
            found = f"The data gives pictures of {size}x{size}, and the discriminator needs {self.least_size} pixels"
            raise ZooError(f"{found}: --data.size {self.least_size}, or fewer --model.discriminator_layers")
        pretrained = self.distance_weights == "imagenet"
        if self.distance == "perceptual":
            self.expert = VGGFeatures(19, VGG_LAYERS, base_channels=self.distance_channels, pretrained=pretrained)
        elif self.distance == "alexnet":
            self.expert = AlexNetFeatures(ALEXNET_LAYERS, pretrained=pretrained)

    def on_fit_start(self) -> None:
        """Fetch what the attention starts from; a checkpoint that the training goes on from has brought it already."""
        if self.attention_encoder == "imagenet" and not self.trainer.ckpt_path:
            load_vgg_weights(self.attention.features, 19, fetch("vgg19"))
            if self.ema is not None:
                self.ema["attention"].load_state_dict(self.attention.state_dict())

    def build_stage(self, stage: int) -> None:
        """Go on to the attention, or to both; the networks are there from the start."""
        if stage > JOINT:
            raise ZooError(f"SAT has the stages 0, 1 and 2, and no stage {stage}: see EnterStage in trainer.callbacks.")
        self.generator.train(self.training and stage != ATTENTION)

    def enter_stage(self, stage: int) -> None:
        """Enter a stage with a new optimiser for what it trains; the discriminator's keeps its state."""
        super().enter_stage(stage)
        for optimizer in self._players["generator"].optimizers.values():
            optimizer.state.clear()

    def train(self, mode: bool = True) -> "SAT":
        """Keep the generator in eval mode while the attention learns alone: its running statistics are fixed, too."""
        super().train(mode)
        self.generator.train(mode and self.stage != ATTENTION)
        return self

    def translate(  # type: ignore[override]
        self, image: Tensor, *, to: str = "target", return_attention: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Translate pictures in eval mode, without gradients.

        Args:
            image: b 3 h w in [-1, 1], sides multiples of 4.
            to: the one domain that this model translates into, `target`.
            return_attention: whether to give the attention, too.

        Returns:
            b 3 h w in [-1, 1]; and, if asked for, where the picture was repainted, b 1 h w in [0, 1].
        """
        if to != "target":
            raise ZooError(f"SAT is trained for one direction and translates to 'target', not to {to!r}.")
        translation, attention, _ = self.attend(image)
        return (translation, attention) if return_attention else translation

    def attend(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give the translation, the attention and all that the generator paints, as `translate` does; in stage 0 attention is 1."""
        if any(side % 4 for side in image.shape[2:]):
            raise ZooError(f"SAT needs multiples of 4, not {image.shape[3]}x{image.shape[2]}: resize or crop pictures.")
        networks = self if self.ema is None else self.ema
        with self.aside("translate"):
            painted = networks.get_submodule("generator")(image)
            if self.stage == GENERATOR:
                return painted, torch.ones_like(image[:, :1]), painted
            attention = networks.get_submodule("attention")(image)
            return compose(attention, painted, image), attention, painted

    def configure_optimizers(self) -> list[Optimizer]:
        """One Adam for what the present stage trains, one for the discriminator, on one schedule."""
        both: list[nn.Module] = [self.generator, self.attention]
        trained = nn.ModuleList({GENERATOR: both[:1], ATTENTION: both[1:], JOINT: both}[self.stage])
        rate = self.learning_rate * (self.joint_rate if self.stage == JOINT else 1.0)
        discriminator = self.adam(self.discriminator.parameters(), lr=self.learning_rate)
        return self.players(
            Player("generator", self.adam(trained.parameters(), lr=rate), [trained], self.schedule),
            Player("discriminator", discriminator, [self.discriminator], self.schedule),
        )

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """The generator's side first; then the discriminator, on what was made before that step."""
        fake = self.update_generator(batch["source"])
        self.update_discriminator(batch["target"], fake)
        if self.ema is not None:
            self.ema.update(self.iteration)

    def make(self, source: Tensor) -> Tensor:
        """Translate `b 3 h w` as the present stage does, for training."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.stage != ATTENTION):
            painted = self.generator(source)
        return painted if self.stage == GENERATOR else compose(self.attention(source), painted, source)

    def update_generator(self, source: Tensor) -> Tensor:
        """Fool the discriminator and stay close to the source; give the translations."""
        with self.player("generator") as player:
            fake = self.make(source)  # b 3 h w
            adversarial = generator_loss(full(self.discriminator(fake)), self.adversarial)
            regularisation = self.regularise(source, fake)
            total = adversarial + self.lambda_regularisation * regularisation
            player.minimize(total)
        self.log_terms({"adversarial": adversarial, "regularisation": regularisation, "generator": total})
        return fake.detach()

    def update_discriminator(self, target: Tensor, fake: Tensor) -> None:
        """Tell pictures of the target domain from present and earlier translations, in two passes: each has its own statistics."""
        with self.player("discriminator") as player:
            pooled = self.pool(fake, self.draws)
            on_real, on_fake = full(self.discriminator(target)), full(self.discriminator(pooled))
            real_loss = discriminator_loss(on_real, True, self.adversarial)
            fake_loss = discriminator_loss(on_fake, False, self.adversarial)
            player.minimize(real_loss + fake_loss)
        self.log_terms({"discriminator_real": real_loss, "discriminator_fake": fake_loss})
        self.terms.compare("discriminator", on_real, on_fake)

    def regularise(self, source: Tensor, fake: Tensor) -> Tensor:
        """How far translations `b 3 h w` are from their sources."""
        if self.expert is None:
            return PIXEL_DISTANCES[self.distance](source, fake)
        with torch.no_grad():
            wanted = self.expert(source)
        distances = feature_distances(self.expert(fake), wanted, self.perceptual_squared)
        return torch.stack([w * d for w, d in zip(self.perceptual_weights, distances, strict=True)]).sum()

    def samples(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Columns of a sample grid: the source, where it is repainted, all that the generator paints, the translation, a target."""
        source = batch["source"]
        translation, attention, painted = self.attend(source)
        columns = {"source": source, "attention": 2 * attention - 1, "without attention": painted}
        return columns | {"translation": translation, "target": batch["target"]}

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log how much of the pictures is repainted and, where the object is known, how well that is the object."""
        _, attention, _ = self.attend(batch["source"])
        figures = {"val/attention_mean": attention.mean()}
        if "mask" in batch:
            figures["val/attention_iou"] = attention_iou(attention, batch["mask"]).mean()
        self.log_dict(figures, batch_size=len(attention), sync_dist=True)

    test_step = validation_step
