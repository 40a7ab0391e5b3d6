"""CycleGAN: Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks.

Jun-Yan Zhu, Taesung Park, Phillip Isola, Alexei A. Efros. ICCV 2017. https://arxiv.org/abs/1703.10593

Two generators learn to translate between two domains of which no pairs are known. Each must fool a discriminator of its
domain, and both together must lead back: a picture that is translated there and back again has to be itself.

Names:
    here                   official code   paper
    source, target         A, B            X, Y
    to_target              netG_A          G
    to_source              netG_B          F
    discriminator_target   netD_A          D_Y   judges pictures of the target domain
    discriminator_source   netD_B          D_X   judges pictures of the source domain

Losses:
    x is of the source, y of the target domain; |.| is the mean absolute difference; a(p, t) is the adversarial loss of
    predictions p that should be t, real (1) or fake (0): mean (p - t)^2 in LSGAN, the cross-entropy of logits in BCE,
    -mean p (real) or mean p (fake) in WGAN-GP.
    generators       a(D_Y(G(x)), 1) + a(D_X(F(y)), 1)
                     + lambda_cycle_source |F(G(x)) - x| + lambda_cycle_target |G(F(y)) - y|
                     + lambda_identity (lambda_cycle_target |G(y) - y| + lambda_cycle_source |F(x) - x|)
    discriminators   1/2 (a(D_Y(y), 1) + a(D_Y(pooled G(x)), 0)), and the same with D_X, x and F(y)

Differences:
    - The strided convolutions pad zeros, not mirrored pixels, and the discriminator's fourth convolution has stride 1: the
      official code does so, the paper's text reads otherwise.
    - The identity loss is on (0.5) as in the official code for every data set; the paper uses it for paintings alone.
    - Discriminators learn from the translations made before the generators' step, as in the official code.
    - The rate falls at the end of an epoch. `decay_step: start` is the placement of other official versions: one epoch
      earlier, so that the last epoch has the rate zero.
    - The official model adds no penalty in WGAN-GP mode. `lambda_gradient_penalty` does (0; 10 is usual).
    - A moving average of the generators (`ema_decay`) is ours; the default is none, as in the paper.

Checkpoints:
    The authors published one generator per direction (horse2zebra.pth, zebra2horse.pth, ...; resnet, 9 blocks): `lightning
    download cyclegan_horse2zebra`. Files of that layout, and the official training's (latest_net_G_A.pth, ...), are read by
    `zoo.weights.cyclegan`, which was tested on files built in that layout: the published ones were never seen here.

State:
    trains, translates, equals the official code's numbers; not trained to the paper's figures

Cite::

    @inproceedings{zhu2017unpaired,
      title     = {Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks},
      author    = {Zhu, Jun-Yan and Park, Taesung and Isola, Phillip and Efros, Alexei A.},
      booktitle = {IEEE International Conference on Computer Vision (ICCV)},
      year      = {2017}
    }
"""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from zoo.blocks.image_pool import ImagePool
from zoo.blocks.initialise import Initialisation, initialise
from zoo.core import Ema, Player, Translator
from zoo.core.images import psnr
from zoo.core.precision import full
from zoo.errors import ZooError

Norm = Literal["instance", "batch", "none"]
Padding = Literal["reflect", "replicate", "zero"]
Adversarial = Literal["lsgan", "bce", "wgan-gp"]
DecayStep = Literal["end", "start"]

# Networks: attribute names and the order of children give the state-dict keys of the official files -----------------------------


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """Instance norm without weights or running statistics, batch norm with both, or nothing."""
    layers = {"instance": nn.InstanceNorm2d, "batch": nn.BatchNorm2d, "none": nn.Identity}
    return layers[norm](channels)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, around which the input is carried; arguments as for `ResnetGenerator`."""

    def __init__(self, channels: int, norm: Norm, dropout: bool, padding: Padding) -> None:
        super().__init__()

        def convolution() -> list[nn.Module]:
            pad = nn.ReflectionPad2d(1) if padding == "reflect" else nn.ReplicationPad2d(1)
            conv = nn.Conv2d(channels, channels, 3, padding=int(padding == "zero"), bias=norm == "instance")
            return [*([] if padding == "zero" else [pad]), conv, norm_layer(norm, channels)]

        dropped = [nn.Dropout(0.5)] if dropout else []
        self.conv_block = nn.Sequential(*convolution(), nn.ReLU(inplace=True), *dropped, *convolution())

    def forward(self, x: Tensor) -> Tensor:
        """Map `b c h w` to the same shape; no activation after the sum."""
        return x + self.conv_block(x)


class ResnetGenerator(nn.Module):
    """Down to a quarter of the size, residual blocks, up: c7s1-64, d128, d256, R256 x `blocks`, u128, u64, c7s1-3.

    Args:
        incoming: channels of the pictures that come in.
        outgoing: channels of the pictures that go out.
        channels: of the first layer; 64 in the paper.
        blocks: number of residual blocks.
        norm: after every convolution but the last; only with instance norm do these convolutions have a bias.
        dropout: whether residual blocks drop half of their activations in training.
        padding: inside the residual blocks.
    """

    def __init__(
        self, incoming: int, outgoing: int, channels: int, blocks: int, norm: Norm, dropout: bool, padding: Padding
    ) -> None:
        super().__init__()
        bias = norm == "instance"

        def activated(convolution: nn.Module, width: int) -> list[nn.Module]:
            return [convolution, norm_layer(norm, width), nn.ReLU(inplace=True)]

        layers = [nn.ReflectionPad2d(3), *activated(nn.Conv2d(incoming, channels, 7, bias=bias), channels)]
        for width in (2 * channels, 4 * channels):
            layers += activated(nn.Conv2d(width // 2, width, 3, stride=2, padding=1, bias=bias), width)
        layers += [ResidualBlock(4 * channels, norm, dropout, padding) for _ in range(blocks)]
        for width in (2 * channels, channels):
            up = nn.ConvTranspose2d(2 * width, width, 3, stride=2, padding=1, output_padding=1, bias=bias)
            layers += activated(up, width)
        self.model = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(channels, outgoing, 7), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        """Translate `b c h w` in [-1, 1] to the same size and range; the sides are multiples of 4."""
        require_multiple(x, 4)
        return self.model(x)


class UnetLevel(nn.Module):
    """One level of a U-Net: down from `outer` to `inner` channels, the levels below, up again.

    What came in is passed on beside the result, but for the outermost level: it alone is told the channels of the pictures.
    """

    def __init__(
        self, outer: int, inner: int, below: nn.Module | None, norm: Norm, dropout: bool, picture_channels: int = 0
    ) -> None:
        super().__init__()
        bias = norm == "instance"
        self.outermost = picture_channels > 0
        down = nn.Conv2d(picture_channels or outer, inner, 4, stride=2, padding=1, bias=bias)
        widened = inner if below is None else 2 * inner
        up = nn.ConvTranspose2d(widened, outer, 4, stride=2, padding=1, bias=bias or self.outermost)
        # No activation is in place: what comes in is also passed on.
        middle = [] if below is None else [below] if self.outermost else [norm_layer(norm, inner), below]
        before = [] if self.outermost else [nn.LeakyReLU(0.2)]
        after = [nn.Tanh()] if self.outermost else [norm_layer(norm, outer), *([nn.Dropout(0.5)] if dropout else [])]
        self.model = nn.Sequential(*before, down, *middle, nn.ReLU(), up, *after)

    def forward(self, x: Tensor) -> Tensor:
        """Map `b c h w` to `b 2c h w`, or pictures to pictures at the outermost level."""
        return self.model(x) if self.outermost else torch.cat([x, self.model(x)], 1)


class UnetGenerator(nn.Module):
    """U-Net: `depth` halvings down to a small map and up again, with connections across.

    Args:
        incoming: channels of the pictures that come in.
        outgoing: channels of the pictures that go out.
        channels: of the first level; each further level doubles them, up to eight times as many.
        depth: number of halvings, at least 2.
        norm: after every convolution but the first, the innermost on the way down, and the last.
        dropout: in training, of the levels between two of eightfold width but the innermost.
    """

    def __init__(self, incoming: int, outgoing: int, channels: int, depth: int, norm: Norm, dropout: bool) -> None:
        super().__init__()
        if depth < 2:
            raise ZooError(f"A U-Net needs at least two levels, not {depth}: --model.unet_depth 2")
        self.multiple = 2**depth
        widths = [channels * min(2**level, 8) for level in range(depth)]
        level = UnetLevel(widths[-2], widths[-1], None, norm, dropout=False)
        for outer, inner in zip(widths[-3::-1], widths[-2:0:-1], strict=True):
            level = UnetLevel(outer, inner, level, norm, dropout=dropout and outer == inner)
        self.model = UnetLevel(outgoing, widths[0], level, norm, dropout=False, picture_channels=incoming)

    def forward(self, x: Tensor) -> Tensor:
        """Translate `b c h w` in [-1, 1] to the same size and range; the sides are multiples of `2 ** depth`."""
        require_multiple(x, self.multiple)
        return self.model(x)


def require_multiple(x: Tensor, multiple: int) -> None:
    """Refuse pictures whose sides the generator cannot halve and double back."""
    height, width = x.shape[-2:]
    if height % multiple or width % multiple:
        near = "x".join(str(max(1, round(side / multiple)) * multiple) for side in (width, height))
        raise ZooError(
            f"The pictures are {width}x{height}; this generator needs multiples of {multiple}. Resize or crop them, say to {near}."
        )


class PatchDiscriminator(nn.Module):
    """Says of overlapping patches whether they are real (of 70x70 pixels with 3 layers).

    Args:
        input_channels: of the pictures.
        channels: of the first layer; each further layer doubles them, up to eight times as many.
        layers: number of strided convolutions; 3 in the paper.
        norm: after every convolution but the first and the last; only with instance norm do these have a bias.
    """

    def __init__(self, input_channels: int, channels: int, layers: int, norm: Norm) -> None:
        super().__init__()
        model = [nn.Conv2d(input_channels, channels, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        widths = [channels * min(2**layer, 8) for layer in range(layers + 1)]
        for layer, (before, after) in enumerate(pairwise(widths), start=1):
            stride = 2 if layer < layers else 1
            conv = nn.Conv2d(before, after, 4, stride=stride, padding=1, bias=norm == "instance")
            model += [conv, norm_layer(norm, after), nn.LeakyReLU(0.2, inplace=True)]
        self.model = nn.Sequential(*model, nn.Conv2d(widths[-1], 1, 4, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Judge `b c h w`: logits `b 1 h' w'`, such as 30x30 for 256x256."""
        return self.model(x)


class PixelDiscriminator(nn.Module):
    """Says of single pixels whether they are real; arguments as for `PatchDiscriminator`."""

    def __init__(self, input_channels: int, channels: int, norm: Norm) -> None:
        super().__init__()
        bias = norm == "instance"
        first = [nn.Conv2d(input_channels, channels, 1), nn.LeakyReLU(0.2, inplace=True)]
        second = [nn.Conv2d(channels, 2 * channels, 1, bias=bias), norm_layer(norm, 2 * channels)]
        last = [nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(2 * channels, 1, 1, bias=bias)]
        self.net = nn.Sequential(*first, *second, *last)

    def forward(self, x: Tensor) -> Tensor:
        """Judge `b c h w`: logits `b 1 h w`."""
        return self.net(x)


# Losses ------------------------------------------------------------------------------------------------------------------------


def lsgan_loss(prediction: Tensor, real: bool) -> Tensor:
    """Mean squared distance of the predictions to 1 (real) or 0 (fake)."""
    return (prediction - float(real)).square().mean()


def nonsaturating_loss(prediction: Tensor, real: bool) -> Tensor:
    """-log sigmoid(prediction) (real) or -log sigmoid(-prediction) (fake), one mean per sample, shape `b`."""
    return -F.logsigmoid(prediction if real else -prediction).flatten(1).mean(1)


def bce_loss(prediction: Tensor, real: bool) -> Tensor:
    """Cross-entropy of logits with 1 (real) or 0 (fake): the non-saturating loss, averaged over the batch."""
    return nonsaturating_loss(prediction, real).mean()


def wasserstein_loss(prediction: Tensor, real: bool) -> Tensor:
    """The mean prediction, negated where it should say real."""
    return -prediction.mean() if real else prediction.mean()


AdversarialLoss = Callable[[Tensor, bool], Tensor]
LOSSES: dict[Adversarial, AdversarialLoss] = {"lsgan": lsgan_loss, "bce": bce_loss, "wgan-gp": wasserstein_loss}


def gradients_between(discriminator: nn.Module, real: Tensor, fake: Tensor, alpha: Tensor) -> Tensor:
    """Gradients `b (c h w)` of the summed logits between fakes (alpha 0) and reals (1), one alpha per sample; no autocast."""
    alpha = alpha.view(-1, 1, 1, 1)
    with torch.autocast(real.device.type, enabled=False):
        between = (alpha * real + (1 - alpha) * fake.to(real.dtype)).requires_grad_()
        logits = discriminator.forward(between)  # a compiled call cannot be differentiated twice
        (gradients,) = torch.autograd.grad(logits.sum(), between, create_graph=True)
    return gradients.flatten(1)


def gradient_penalty(gradients: Tensor) -> Tensor:
    """WGAN-GP: mean squared distance of the gradients' norms to 1; the shift keeps the norm differentiable at zero."""
    return ((gradients + 1e-16).norm(2, dim=1) - 1).square().mean()


def linear_decay(
    epoch_length: int, constant_epochs: int, decay_epochs: int, decay_step: DecayStep, iteration: int
) -> float:
    """Factor of the learning rate in a 0-based iteration: 1, then epoch by epoch down a line; see `CycleGAN`."""
    epoch = iteration // epoch_length + (1 if decay_step == "end" else 2)
    return max(0.0, 1 - max(0, epoch - constant_epochs) / (decay_epochs + 1))


# The model ---------------------------------------------------------------------------------------------------------------------


class CycleGAN(Translator):
    """Unpaired translation between a source and a target domain.

    Batches have `source` and `target`, `b c h w` in [-1, 1]. Inference uses the generators, or their moving averages where
    there are any, in eval mode. The defaults are the paper's and official code's for 256x256 pictures.

    Args:
        input_channels: of source pictures.
        output_channels: of target pictures.
        generator: architecture of both generators.
        generator_channels: of the generators' first layers.
        residual_blocks: of the resnet; 9 for pictures of 256x256 and more, 6 for 128x128.
        unet_depth: halvings of the U-Net; 8 for 256x256, 7 for 128x128.
        generator_norm: normalisation in the generators.
        dropout: whether generators drop half of the activations of some layers in training.
        padding: in residual blocks.
        discriminator: architecture of both discriminators.
        discriminator_channels: of the discriminators' first layers.
        discriminator_layers: strided convolutions of the patch discriminator.
        discriminator_norm: normalisation in the discriminators.
        initialisation: distribution of the initial weights.
        initialisation_gain: its scale.
        adversarial: the adversarial loss.
        lambda_cycle_source: weight of the way from the source and back.
        lambda_cycle_target: weight of the way from the target and back.
        lambda_identity: weight of the identity losses relative to the cycle losses'; 0 saves their forward passes.
        lambda_gradient_penalty: weight of the gradient penalty, with `wgan-gp` alone.
        pool_size: earlier translations kept per domain.
        learning_rate: of Adam, for all networks.
        betas: of Adam.
        iterations_per_epoch: length of an epoch (1334: horse2zebra, batches of 1); with 1 the next two count iterations.
        constant_epochs: epochs at the full learning rate.
        decay_epochs: epochs in which it falls on a straight line.
        decay_step: whether it falls at the end of an epoch (at 1 / (decay_epochs + 1) in the last) or at the start (at 0).
        ema_decay: share of the old average that the generators' moving averages keep per iteration; 0 for none.

    Raises:
        ZooError: the identity loss is on, and the domains' pictures have different numbers of channels.
    """

    def __init__(
        self,
        input_channels: int = 3,
        output_channels: int = 3,
        generator: Literal["resnet", "unet"] = "resnet",
        generator_channels: int = 64,
        residual_blocks: int = 9,
        unet_depth: int = 8,
        generator_norm: Norm = "instance",
        dropout: bool = False,
        padding: Padding = "reflect",
        discriminator: Literal["patch", "pixel"] = "patch",
        discriminator_channels: int = 64,
        discriminator_layers: int = 3,
        discriminator_norm: Norm = "instance",
        initialisation: Initialisation = "normal",
        initialisation_gain: float = 0.02,
        adversarial: Adversarial = "lsgan",
        lambda_cycle_source: float = 10.0,
        lambda_cycle_target: float = 10.0,
        lambda_identity: float = 0.5,
        lambda_gradient_penalty: float = 0.0,
        pool_size: int = 50,
        learning_rate: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        iterations_per_epoch: int = 1334,
        constant_epochs: int = 100,
        decay_epochs: int = 100,
        decay_step: DecayStep = "end",
        ema_decay: float = 0.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if lambda_identity > 0 and input_channels != output_channels:
            raise ZooError(
                "The identity loss shows a generator pictures of the domain that it makes, but these have "
                f"{output_channels} channels and it takes {input_channels}. Switch it off: --model.lambda_identity 0"
            )

        def make_generator(incoming: int, outgoing: int) -> nn.Module:
            shape = (incoming, outgoing, generator_channels)
            if generator == "unet":
                return UnetGenerator(*shape, unet_depth, generator_norm, dropout)
            return ResnetGenerator(*shape, residual_blocks, generator_norm, dropout, padding)

        def make_discriminator(incoming: int) -> nn.Module:
            if discriminator == "pixel":
                return PixelDiscriminator(incoming, discriminator_channels, discriminator_norm)
            return PatchDiscriminator(incoming, discriminator_channels, discriminator_layers, discriminator_norm)

        self.to_target = make_generator(input_channels, output_channels)
        self.to_source = make_generator(output_channels, input_channels)
        self.discriminator_target = make_discriminator(output_channels)
        self.discriminator_source = make_discriminator(input_channels)
        for network in self.children():
            initialise(network, initialisation, initialisation_gain)
        averaged = {"to_target": self.to_target, "to_source": self.to_source}
        self.ema = Ema(averaged, decay=ema_decay) if ema_decay > 0 else None
        self.pool_target, self.pool_source = ImagePool(pool_size), ImagePool(pool_size)
        self.keep_per_rank("pool_target", self.pool_target)
        self.keep_per_rank("pool_source", self.pool_source)

        self.adversarial_loss = LOSSES[adversarial]
        self.size_multiple, self.smallest_size = (4, 8) if generator == "resnet" else (2**unet_depth, 2**unet_depth)
        self.lambda_cycle_source, self.lambda_cycle_target = lambda_cycle_source, lambda_cycle_target
        self.lambda_identity = lambda_identity  # multiplies the two above
        self.lambda_gradient_penalty = lambda_gradient_penalty if adversarial == "wgan-gp" else 0.0
        self.adam = partial(Adam, lr=learning_rate, betas=betas)
        self.schedule = partial(linear_decay, iterations_per_epoch, constant_epochs, decay_epochs, decay_step)

    def translate(self, image: Tensor, *, to: str = "target") -> Tensor:
        """Translate pictures `b c h w` in [-1, 1] into the domain `target` or `source`, in eval mode, without gradients."""
        if to not in {"target", "source"}:
            raise ZooError(f"CycleGAN translates to 'target' or to 'source', not to {to!r}.")
        generators = self if self.ema is None else self.ema
        with self.aside("translate"):
            return generators.get_submodule(f"to_{to}")(image)

    def configure_optimizers(self) -> list[Optimizer]:
        """One Adam for both generators, one for both discriminators, on one schedule."""
        generators = nn.ModuleList([self.to_target, self.to_source])
        discriminators = nn.ModuleList([self.discriminator_target, self.discriminator_source])
        return self.players(
            Player("generators", self.adam(generators.parameters()), [generators], self.schedule),
            Player("discriminators", self.adam(discriminators.parameters()), [discriminators], self.schedule),
        )

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Generators first; then the discriminators, on what the generators made before their step."""
        source, target = batch["source"], batch["target"]
        fake_source, fake_target = self.update_generators(source, target)
        self.update_discriminators(source, target, fake_source, fake_target)
        if self.ema is not None:
            self.ema.update(self.iteration)

    def update_generators(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Fool the discriminators, find the way back, leave alone what is in the domain already; give the translations."""
        with self.player("generators") as player:
            # The order of these passes is the official one: running statistics and dropout depend on it.
            fake_target = self.to_target(source)  # b c h w
            cycle_source = F.l1_loss(self.to_source(fake_target), source)
            fake_source = self.to_source(target)  # b c h w
            cycle_target = F.l1_loss(self.to_target(fake_source), target)
            adversarial_target = self.adversarial_loss(full(self.discriminator_target(fake_target)), True)
            adversarial_source = self.adversarial_loss(full(self.discriminator_source(fake_source)), True)
            terms = {"adversarial_target": adversarial_target, "adversarial_source": adversarial_source}
            terms |= {"cycle_source": cycle_source, "cycle_target": cycle_target}
            total = adversarial_target + adversarial_source
            total = total + self.lambda_cycle_source * cycle_source + self.lambda_cycle_target * cycle_target
            if self.lambda_identity > 0:
                identity_target = F.l1_loss(self.to_target(target), target)
                identity_source = F.l1_loss(self.to_source(source), source)
                terms |= {"identity_target": identity_target, "identity_source": identity_source}
                identity = self.lambda_cycle_target * identity_target + self.lambda_cycle_source * identity_source
                total = total + self.lambda_identity * identity
            player.minimize(total)
        self.log_terms({**terms, "generators": total})
        return fake_source.detach(), fake_target.detach()

    def update_discriminators(self, source: Tensor, target: Tensor, fake_source: Tensor, fake_target: Tensor) -> None:
        """Tell pictures of each domain from present and earlier translations into it."""
        with self.player("discriminators") as player:
            pooled = self.pool_target(fake_target, self.draws)
            player.minimize(self.discriminator_loss("target", self.discriminator_target, target, pooled))
            pooled = self.pool_source(fake_source, self.draws)
            player.minimize(self.discriminator_loss("source", self.discriminator_source, source, pooled))

    def discriminator_loss(self, domain: str, discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        """What one discriminator minimises."""
        on_real, on_fake = full(discriminator(real)), full(discriminator(fake))
        loss = 0.5 * (self.adversarial_loss(on_real, True) + self.adversarial_loss(on_fake, False))
        self.log_terms({f"discriminator_{domain}": loss})
        self.terms.compare(f"discriminator_{domain}", on_real, on_fake)
        if self.lambda_gradient_penalty > 0:
            alpha = self.draws.uniform("alpha", (len(real), 1))
            penalty = gradient_penalty(gradients_between(discriminator, real, fake, alpha))
            self.log_terms({f"gradient_penalty_{domain}": penalty})
            loss = loss + self.lambda_gradient_penalty * penalty
        return loss

    def samples(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Columns of a sample grid: each domain, its translation and the way back."""
        fake_target, fake_source = self.translate(batch["source"]), self.translate(batch["target"], to="source")
        return {
            "source": batch["source"],
            "translation": fake_target,
            "reconstruction": self.translate(fake_target, to="source"),
            "target": batch["target"],
            "translation to source": fake_source,
            "reconstruction of target": self.translate(fake_source),
        }

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log how well pictures survive the way there and back, in dB; this says nothing about the translation itself."""
        for domain, other in (("source", "target"), ("target", "source")):
            back = self.translate(self.translate(batch[domain], to=other), to=domain)
            quality = psnr(back, batch[domain]).mean()
            self.log(f"val/cycle_psnr_{domain}", quality, batch_size=len(back), sync_dist=True)

    test_step = validation_step
