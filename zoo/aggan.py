"""AGGAN: Unsupervised Attention-guided Image-to-Image Translation.

Youssef Alami Mejjati, Christian Richardt, James Tompkin, Darren Cosker, Kwang In Kim. NeurIPS 2018. https://arxiv.org/abs/1806.02311

CycleGAN repaints whole pictures, background included. Here each domain has an attention network as well, which learns without
labels where its objects are: a picture is repainted there and kept everywhere else. In a second stage the attention networks
are fixed, and the discriminators see nothing but what is attended to, so that no background gives a translation away.

Names:
    here                   official code   paper
    source, target         A, B            S, T
    to_target              g_A             F_S->T
    to_source              g_B             F_T->S
    attention_source       g_A_ae          A_S   looks at pictures of the source domain
    attention_target       g_B_ae          A_T   looks at pictures of the target domain
    discriminator_target   d_B             D_T
    discriminator_source   d_A             D_S
    stage 0, stage 1       epochs 0-29, then from epoch 30 on

Losses:
    s is of the source, t of the target domain; |.| is the mean absolute difference; a(p, r) is the adversarial loss of predictions
    p that should be r, real (1) or fake (0): mean (p - r)^2 in LSGAN, the cross-entropy of logits in the log form.
    translation         s' = A_S(s) F(s) + (1 - A_S(s)) s, with F = F_S->T; t' in the same way with A_T and G = F_T->S
    cycle               s'' = A_T(s') G(s') + (1 - A_T(s')) s'; t'' likewise
    seen                v(x, A) = x in stage 0; x where A >= threshold and 0 elsewhere in stage 1, without a gradient to A
    F and A_S           a(D_T(v(s', A_S(s))), 1) + lambda_cycle_source |s'' - s| + lambda_cycle_target |t'' - t|
    G and A_T           a(D_S(v(t', A_T(t))), 1) + the same cycle losses, with F and A_S as they are now
    discriminators      1/2 (a(D_T(v(t, A_T(t))), 1) + a(D_T(pooled v(s', A_S(s))), 0)), and the same with D_S, s and t'

Differences:
    The room does what the official code does. Options give the paper's text, where the two are apart:
    - `adversarial: log`: the paper has the log form, the code least squares. The generators minimise -log D, not log (1 - D).
    - `mask_on: generator`: in stage 1 the text masks the generator's output F(s), the code the composed s'.
    - `threshold_comparison: gt`: the text attends where A > 0.1, the code where A >= 0.1.
    - `attention_up_kernel: 3`: the attention networks end in 1x1 convolutions by a slip in the code, which its weights have too;
      meant were 3x3, 3x3 and 7x7. How their input is padded was never decided: here by mirroring, as in the layers before.
    - `optimizer: tensorflow`: the code has one Adam, in TensorFlow's form, whose count of steps grows by four in an iteration. By
      default each player has an Adam of PyTorch's.
    As in the code, the discriminators lose their instance norms in stage 1, and the mask of a translation is that of its source.
    Each of the four turns works with the weights of the moment, as in the code, which runs everything anew for it. Here a pass
    that would give the same numbers once more is not repeated: 7 runs of a generator in an iteration instead of 16.
    The code's test mode crops at random; here a picture is translated whole. Its option --skip cannot work and is left out.
    A moving average of the networks that translate (`ema_decay`) is ours; the default is none.

Checkpoints:
    The authors published TensorFlow checkpoints (AGGAN-<epoch>.index and .data-00000-of-00001), no digests and no licence for them.
    `zoo.weights.aggan` reads these files, and exports of them to npz; it was tested on files built in that layout: the
    published ones were never seen here. In the published horse2zebra model zebras are A and horses are B, so that
    `to_target` makes horses of zebras.

State:
    trains, translates, equals the official code's numbers; not trained to the paper's figures

Cite::

    @inproceedings{mejjati2018unsupervised,
      title     = {Unsupervised Attention-guided Image-to-Image Translation},
      author    = {Mejjati, Youssef Alami and Richardt, Christian and Tompkin, James and Cosker, Darren and Kim, Kwang In},
      booktitle = {Advances in Neural Information Processing Systems (NeurIPS)},
      year      = {2018}
    }
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Literal, NamedTuple, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from zoo.blocks.attention import attention_iou, compose
from zoo.blocks.image_pool import ImagePool
from zoo.blocks.tensorflow_adam import TensorflowAdam
from zoo.core import Ema, Player, Translator
from zoo.core.images import psnr
from zoo.core.precision import full
from zoo.errors import ZooError

Adversarial = Literal["lsgan", "log"]
PaddingMode = Literal["zeros", "reflect"]

# Networks: layers bear their official names (c1, r1, ...) -----------------------------------------------------------------------


def layer(convolution: nn.Module, channels: int, *, relu: bool = True) -> nn.Sequential:
    """A convolution, instance norm with weights, and mostly a ReLU."""
    parts = [("conv", convolution), ("norm", nn.InstanceNorm2d(channels, affine=True))]
    return nn.Sequential(OrderedDict(parts + [("relu", nn.ReLU(inplace=True))] * relu))


class HalvingConvolution(nn.Conv2d):
    """A 3x3 convolution of stride 2 with TensorFlow's SAME padding: of even sides a zero behind each row and column, none before."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        super().__init__(incoming, outgoing, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map `b c h w` to `b c h/2 w/2`."""
        return super().forward(F.pad(x, (0, 1, 0, 1)))


class DoublingConvolution(nn.ConvTranspose2d):
    """A transposed 3x3 convolution of stride 2 that undoes `HalvingConvolution`'s sizes: the last row and column are cut off."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        super().__init__(incoming, outgoing, 3, stride=2)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Map `b c h w` to `b c 2h 2w`."""
        return super().forward(x, output_size)[..., :-1, :-1]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, around which the input is carried."""

    def __init__(self, channels: int, padding: PaddingMode) -> None:
        super().__init__()
        convolution = partial(nn.Conv2d, channels, channels, 3, padding=1, padding_mode=padding)
        self.c1, self.c2 = layer(convolution(), channels), layer(convolution(), channels, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `b c h w` to the same shape; a ReLU comes after the sum."""
        return F.relu(x + self.c2(self.c1(x)))


class Generator(nn.Sequential):
    """Down to a quarter of the size, residual blocks, up; zeros are padded everywhere.

    Args:
        channels: of the first layer; 32 in the official code.
        blocks: number of residual blocks; 9 in the official code.
    """

    def __init__(self, channels: int, blocks: int) -> None:
        wide, widest = 2 * channels, 4 * channels
        super().__init__(
            OrderedDict(
                c1=layer(nn.Conv2d(3, channels, 7, padding=3), channels),
                c2=layer(HalvingConvolution(channels, wide), wide),
                c3=layer(HalvingConvolution(wide, widest), widest),
                **{f"r{number}": ResidualBlock(widest, "zeros") for number in range(1, blocks + 1)},
                c4=layer(DoublingConvolution(widest, wide), wide),
                c5=layer(DoublingConvolution(wide, channels), channels),
                c6=nn.Sequential(OrderedDict(conv=nn.Conv2d(channels, 3, 7, padding=3), tanh=nn.Tanh())),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Translate `b 3 h w` in [-1, 1] to the same size and range; the sides are multiples of 4."""
        return super().forward(x)


class AttentionNetwork(nn.Sequential):
    """Says of each pixel how much of it is to be repainted.

    Args:
        channels: of the first layer; 32 in the official code.
        up_kernel: 1 for three last convolutions of 1x1, as published; 3 for 3x3, 3x3 and 7x7, as was meant.
    """

    def __init__(self, channels: int, up_kernel: int) -> None:
        def convolution(incoming: int, outgoing: int, kernel: int, stride: int = 1) -> nn.Conv2d:
            return nn.Conv2d(incoming, outgoing, kernel, stride, kernel // 2, padding_mode="reflect")

        wide, last = 2 * channels, 1 if up_kernel == 1 else 7
        super().__init__(
            OrderedDict(
                c1=layer(convolution(3, channels, 7, stride=2), channels),
                c2=layer(HalvingConvolution(channels, wide), wide),
                r1=ResidualBlock(wide, "reflect"),
                up1=nn.UpsamplingNearest2d(scale_factor=2),
                c4=layer(convolution(wide, wide, up_kernel), wide),
                up2=nn.UpsamplingNearest2d(scale_factor=2),
                c5=layer(convolution(wide, channels, up_kernel), channels),
                c6=nn.Sequential(OrderedDict(conv=convolution(channels, 1, last), sigmoid=nn.Sigmoid())),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures `b 3 h w` in [-1, 1] to attention `b 1 h w` in [0, 1]; the sides are multiples of 4."""
        return super().forward(x)


class Discriminator(nn.Module):
    """Says of overlapping patches whether they are real. The first layer, too, has an instance norm.

    Args:
        channels: of the first layer, 64 in the official code; each further layer doubles them.
        layers: number of strided convolutions; 3 in the official code.

    Attributes:
        normalised: whether the instance norms work; the second stage switches them off, and their weights stay as they are.
    """

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.normalised = True
        widths = [3, *(channels << i for i in range(layers + 1))]
        for i, (before, after) in enumerate(pairwise(widths)):
            convolution = nn.Conv2d(before, after, 4, stride=2 if i < layers else 1, padding=2)
            self.add_module(f"c{i + 1}", layer(convolution, after, relu=False))
        self.add_module(f"c{layers + 2}", nn.Sequential(OrderedDict(conv=nn.Conv2d(widths[-1], 1, 4, padding=2))))

    def forward(self, x: Tensor) -> Tensor:
        """Judge `b 3 h w`: logits `b 1 h' w'`, 35x35 for 256x256."""
        *inner, last = self.children()
        for part in inner:
            x = part(x) if self.normalised else part.get_submodule("conv")(x)
            x = F.leaky_relu(x, 0.2)
        return last(x)


def initialise(network: nn.Module) -> None:
    """Draw initial weights: truncated normal numbers of deviation 0.02, around 0 for convolutions and 1 for norms; biases are 0."""
    for part in network.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.InstanceNorm2d):
            mean = float(isinstance(part, nn.InstanceNorm2d))
            nn.init.trunc_normal_(part.weight, mean, 0.02, mean - 0.04, mean + 0.04)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


# Losses ------------------------------------------------------------------------------------------------------------------------


def lsgan_loss(prediction: Tensor, real: bool) -> Tensor:
    """Mean squared distance of the predictions to 1 (real) or 0 (fake)."""
    return (prediction - float(real)).square().mean()


def log_loss(prediction: Tensor, real: bool) -> Tensor:
    """Cross-entropy of logits with 1 (real) or 0 (fake): mean -log D, or mean -log (1 - D), with D = sigmoid(prediction)."""
    return F.softplus(-prediction if real else prediction).mean()


AdversarialLoss = Callable[[Tensor, bool], Tensor]
LOSSES: dict[Adversarial, AdversarialLoss] = {"lsgan": lsgan_loss, "log": log_loss}


def hard_mask(attention: Tensor, threshold: float, comparison: Literal["ge", "gt"]) -> Tensor:
    """1 where attention `b 1 h w` reaches (`ge`) or exceeds (`gt`) a threshold and 0 elsewhere, without a gradient."""
    chosen = attention >= threshold if comparison == "ge" else attention > threshold
    return chosen.to(attention.dtype)


def linear_decay(epoch_length: int, epochs: int, iteration: int) -> float:
    """Factor of the learning rate in a 0-based iteration: 1 up to half of the epochs and in the next one, then down a line by epoch."""
    epoch, half = iteration // epoch_length, epochs // 2
    return 1.0 if epoch <= half else max(0.0, 1 - (epoch - half) / half)


# The model ---------------------------------------------------------------------------------------------------------------------


class Translation(NamedTuple):
    """A translated picture and what it was composed of.

    Attributes:
        picture: `b 3 h w`, the composition.
        generated: `b 3 h w`, what the generator made of the whole picture.
        attention: `b 1 h w` in [0, 1], where it took the picture's place.
    """

    picture: Tensor
    generated: Tensor
    attention: Tensor

    def detach(self) -> "Translation":
        """The same numbers without gradients."""
        return Translation(*(part.detach() for part in self))


class AGGAN(Translator):
    """Unpaired translation between a source and a target domain that repaints what it attends to.

    Batches have `source` and `target`, `b 3 h w` in [-1, 1], and in validation perhaps `mask` and `target_mask`, `b 1 h w` in
    [0, 1], the objects of both. The defaults are the official code's for horse2zebra at 256x256. The second stage begins where the
    recipe's callbacks say: `FreezeNetworks` for the attention networks and `EnterStage` for the discriminators, both at
    `switch_iteration`.

    Args:
        generator_channels: of the generators' first layers.
        residual_blocks: of the generators.
        attention_channels: of the attention networks' first layers.
        attention_up_kernel: last convolutions of the attention networks, see `AttentionNetwork`.
        discriminator_channels: of the discriminators' first layers.
        discriminator_layers: strided convolutions of the discriminators.
        adversarial: the adversarial loss.
        mask_on: what is masked of a translation before a discriminator sees it in the second stage: the `composite`, or
            what the `generator` made.
        threshold: of the attention, for what discriminators see in the second stage.
        threshold_comparison: `ge` shows them pixels whose attention reaches the threshold, `gt` those that exceed it.
        lambda_cycle_source: weight of the way from the source and back.
        lambda_cycle_target: weight of the way from the target and back.
        pool_size: earlier translations kept per domain, each with its attention.
        optimizer: `torch` gives each of the four players an Adam; `tensorflow` is the official code's one Adam for all.
        learning_rate: of Adam, for all networks.
        betas: of Adam.
        iterations_per_epoch: length of an epoch (1334: horse2zebra, batches of 1); with 1 `epochs` counts iterations.
        epochs: of the whole training; in their second half the learning rate falls.
        switch_iteration: the second stage's first iteration, which the recipe's callbacks look up: epoch 30 of 1334 iterations.
        ema_decay: share of the old average that the moving averages of generators and attention networks keep per iteration; 0
            for none.
    """

    size_multiple, smallest_size = 4, 8

    def __init__(
        self,
        generator_channels: int = 32,
        residual_blocks: int = 9,
        attention_channels: int = 32,
        attention_up_kernel: Literal[1, 3] = 1,
        discriminator_channels: int = 64,
        discriminator_layers: int = 3,
        adversarial: Adversarial = "lsgan",
        mask_on: Literal["composite", "generator"] = "composite",
        threshold: float = 0.1,
        threshold_comparison: Literal["ge", "gt"] = "ge",
        lambda_cycle_source: float = 10.0,
        lambda_cycle_target: float = 10.0,
        pool_size: int = 50,
        optimizer: Literal["torch", "tensorflow"] = "torch",
        learning_rate: float = 1e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        iterations_per_epoch: int = 1334,
        epochs: int = 100,
        switch_iteration: int = 30 * 1334,
        ema_decay: float = 0.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.to_target = Generator(generator_channels, residual_blocks)
        self.to_source = Generator(generator_channels, residual_blocks)
        self.attention_source = AttentionNetwork(attention_channels, attention_up_kernel)
        self.attention_target = AttentionNetwork(attention_channels, attention_up_kernel)
        self.discriminator_target = Discriminator(discriminator_channels, discriminator_layers)
        self.discriminator_source = Discriminator(discriminator_channels, discriminator_layers)
        for network in self.children():
            initialise(network)
        names = ("to_target", "to_source", "attention_source", "attention_target")
        averaged = {name: self.get_submodule(name) for name in names}
        self.ema = Ema(averaged, decay=ema_decay) if ema_decay > 0 else None
        self.pool_target, self.pool_source = ImagePool(pool_size), ImagePool(pool_size)
        self.keep_per_rank("pool_target", self.pool_target)
        self.keep_per_rank("pool_source", self.pool_source)

        self.adversarial_loss = LOSSES[adversarial]
        self.mask_on = mask_on
        self.hard_mask = partial(hard_mask, threshold=threshold, comparison=threshold_comparison)
        self.lambda_cycle_source, self.lambda_cycle_target = lambda_cycle_source, lambda_cycle_target
        self.optimizer, self.learning_rate, self.betas = optimizer, learning_rate, betas
        self.schedule = partial(linear_decay, iterations_per_epoch, epochs)

    @overload
    def translate(self, image: Tensor, *, to: str = "target", return_attention: Literal[False] = False) -> Tensor: ...

    @overload
    def translate(
        self, image: Tensor, *, to: str = "target", return_attention: Literal[True]
    ) -> tuple[Tensor, Tensor]: ...

    def translate(
        self, image: Tensor, *, to: str = "target", return_attention: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Translate pictures in eval mode, without gradients.

        Args:
            image: `b 3 h w` in [-1, 1], with sides that are multiples of 4.
            to: the domain, `target` or `source`.
            return_attention: whether to give the attention, `b 1 h w` in [0, 1], beside the translation.
        """
        if to not in {"target", "source"}:
            raise ZooError(f"AGGAN translates to 'target' or to 'source', not to {to!r}.")
        height, width = image.shape[-2:]
        if height % 4 or width % 4 or min(height, width) < 8:
            raise ZooError(
                f"The pictures are {width}x{height}; AGGAN needs multiples of 4, 8 at least. Resize or crop them."
            )
        with self.aside("translate"):
            translation = self.attend(image, to, self.ema)
        return (translation.picture, translation.attention) if return_attention else translation.picture

    def attend(self, image: Tensor, to: str, networks: nn.Module | None = None) -> Translation:
        """Repaint pictures `b 3 h w` where the attention network of their domain looks, by the present networks or averages."""
        networks = self if networks is None else networks
        origin = "source" if to == "target" else "target"
        attention = full(networks.get_submodule(f"attention_{origin}")(image))  # b 1 h w
        generated = full(networks.get_submodule(f"to_{to}")(image))  # b c h w
        return Translation(compose(attention, generated, image), generated, attention)

    def configure_optimizers(self) -> list[Optimizer]:
        """Four players in the order of their turns; the second stage leaves the attention networks out of the optimisers."""

        def player(turn: int, name: str, *networks: nn.Module) -> Player:
            moved = networks if self.stage == 0 else networks[:1]
            parameters = [p for network in moved for p in network.parameters()]
            adam: Optimizer = Adam(parameters, self.learning_rate, self.betas)
            if self.optimizer == "tensorflow":
                adam = TensorflowAdam(parameters, self.learning_rate, self.betas, turn=turn, turns=4)
            return Player(name, adam, networks, self.schedule)

        return self.players(
            player(0, "to_target", self.to_target, self.attention_source),
            player(1, "discriminator_target", self.discriminator_target),
            player(2, "to_source", self.to_source, self.attention_target),
            player(3, "discriminator_source", self.discriminator_source),
        )

    def build_stage(self, stage: int) -> None:
        """The second stage: discriminators see what is attended to alone, and their instance norms are switched off."""
        if stage != 1:
            raise ZooError(f"AGGAN has the stages 0 and 1, no stage {stage}. Write `stage: 1` under EnterStage.")
        self.discriminator_target.normalised = self.discriminator_source.normalised = False

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """One direction and its discriminator, then the other, which sees what the first has learnt."""
        source, target = batch["source"], batch["target"]
        # Nothing in it moves before the third turn: this pass, and its graph, serves the first turn as well.
        to_source = self.attend(target, "source")
        with self.player("to_target") as player:
            to_target = self.attend(source, "target")
            player.minimize(self.generator_loss("target", source, target, to_target, to_source.detach()))
        self.update_discriminator("target", target, to_source.attention, to_target)
        with self.player("to_source") as player:
            now_to_target = self.attend(source, "target")  # without gradients: nothing in it moves in this turn
            player.minimize(self.generator_loss("source", source, target, now_to_target, to_source))
        self.update_discriminator("source", source, now_to_target.attention, to_source)
        if self.ema is not None:
            self.ema.update(self.iteration)

    def generator_loss(
        self, to: str, source: Tensor, target: Tensor, to_target: Translation, to_source: Translation
    ) -> Tensor:
        """What the generator into one domain and its attention network minimise: both ways back, and to fool its discriminator."""
        cycle_source = F.l1_loss(self.attend(to_target.picture, "source").picture, source)
        cycle_target = F.l1_loss(self.attend(to_source.picture, "target").picture, target)
        fake = to_target if to == "target" else to_source
        adversarial = self.adversarial_loss(self.judge(to, self.shown(fake), fake.attention), True)
        total = adversarial + self.lambda_cycle_source * cycle_source + self.lambda_cycle_target * cycle_target
        if to == "target":  # the second direction's cycles are those after the first one's step
            self.log_terms({"cycle_source": cycle_source, "cycle_target": cycle_target})
        self.log_terms({f"adversarial_{to}": adversarial, f"to_{to}": total})
        return total

    def update_discriminator(self, domain: str, real: Tensor, attention: Tensor, fake: Translation) -> None:
        """Tell pictures of a domain, with their attention, from present and earlier translations into it, with theirs."""
        with self.player(f"discriminator_{domain}") as player:
            pool = self.pool_target if domain == "target" else self.pool_source
            kept = torch.cat([self.shown(fake), fake.attention], 1)  # b 4 h w: both stay together
            pooled, pooled_attention = pool(kept, self.draws).split([3, 1], 1)
            loss = self.discriminator_loss(domain, (real, attention), (pooled, pooled_attention))
            player.minimize(loss)
        self.log_terms({f"discriminator_{domain}": loss})

    def discriminator_loss(self, domain: str, real: tuple[Tensor, Tensor], fake: tuple[Tensor, Tensor]) -> Tensor:
        """What one discriminator minimises: it sees pictures `b 3 h w`, each with its attention `b 1 h w`."""
        on_real, on_fake = self.judge(domain, *real), self.judge(domain, *fake)
        self.terms.compare(f"discriminator_{domain}", on_real, on_fake)
        return 0.5 * (self.adversarial_loss(on_real, True) + self.adversarial_loss(on_fake, False))

    def shown(self, fake: Translation) -> Tensor:
        """The picture of a translation that a discriminator is shown, or masked: see `mask_on`."""
        return fake.generated if self.stage and self.mask_on == "generator" else fake.picture

    def judge(self, domain: str, image: Tensor, attention: Tensor) -> Tensor:
        """What a domain's discriminator says of pictures, of what is attended to alone in the second stage: logits `b 1 h w`."""
        seen = image * self.hard_mask(attention) if self.stage else image
        return full(self.get_submodule(f"discriminator_{domain}")(seen))

    def samples(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Columns of a sample grid: each domain, its attention in grey, its translation and the way back."""
        columns: dict[str, Tensor] = {}
        names = {"source": ("source", "attention", "translation", "reconstruction")}
        names["target"] = ("target", "attention of target", "translation to source", "reconstruction of target")
        for domain, other in (("source", "target"), ("target", "source")):
            fake, attention = self.translate(batch[domain], to=other, return_attention=True)
            pictures = (batch[domain], 2 * attention - 1, fake, self.translate(fake, to=domain))
            columns |= dict(zip(names[domain], pictures, strict=True))
        return columns

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log how well pictures survive the way there and back, in dB, and where objects are known how well attention finds them."""
        for domain, other, mask, ending in (
            ("source", "target", "mask", ""),
            ("target", "source", "target_mask", "_target"),
        ):
            fake, attention = self.translate(batch[domain], to=other, return_attention=True)
            quality = psnr(self.translate(fake, to=domain), batch[domain]).mean()
            self.log(f"val/cycle_psnr_{domain}", quality, batch_size=len(fake), sync_dist=True)
            if mask in batch:
                overlap = attention_iou(attention, batch[mask].to(attention)).mean()
                self.log(f"val/attention_iou{ending}", overlap, batch_size=len(fake), sync_dist=True)

    test_step = validation_step
