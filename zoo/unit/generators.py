"""UNIT's generators: two encoders into one latent space, two decoders out of it, and what the domains share in between.

Two generations of the official code are built from the same parts: `paper_generators` (its branch version_02, COCOResGen and COCOResGen2)
and `munit_style_generators` (the code of 2018, two VAEGen). Codes are feature maps, the means of Gaussians of variance 1; noise is
added by who samples.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from zoo.blocks.layer_norm import LayerNorm
from zoo.errors import ZooError

Activation = Literal["relu", "lrelu", "prelu", "selu", "tanh"]
Padding = Literal["reflect", "replicate", "zero"]
PADDING_MODES: dict[Padding, Literal["reflect", "replicate", "zeros"]] = {
    "reflect": "reflect",
    "replicate": "replicate",
    "zero": "zeros",
}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),
    "lrelu": partial(nn.LeakyReLU, 0.2, inplace=True),
    "prelu": nn.PReLU,
    "selu": partial(nn.SELU, inplace=True),
    "tanh": nn.Tanh,
}
PAPER_SLOPE = 0.01
"""Of the leaky ReLUs in the paper's code: PyTorch's default."""

# Blocks ------------------------------------------------------------------------------------------------------------------------


class ConvBlock(nn.Module):
    """A convolution, a norm and an activation; either of the latter may be missing."""

    def __init__(
        self, conv: nn.Conv2d | nn.ConvTranspose2d, norm: nn.Module | None = None, activation: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.Identity() if norm is None else norm
        self.activation = nn.Identity() if activation is None else activation

    def forward(self, x: Tensor) -> Tensor:
        """Map `b c h w`."""
        return self.activation(self.norm(self.conv(x)))


def padded_conv(incoming: int, outgoing: int, kernel: int, stride: int, pad: int, padding: Padding) -> nn.Conv2d:
    """A convolution with a bias that mirrors, repeats or zero-pads its border."""
    return nn.Conv2d(incoming, outgoing, kernel, stride, pad, padding_mode=PADDING_MODES[padding])


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with instance norm, the first one activated, around which the input is carried.

    Args:
        channels: of input and output.
        padding: of the convolutions.
        activation: after the first one; there is none after the sum.
        dropout: share of the second one's outputs that are dropped in training.
    """

    def __init__(
        self, channels: int, padding: Padding = "zero", activation: Activation = "relu", dropout: float = 0.0
    ) -> None:
        super().__init__()
        convs = [padded_conv(channels, channels, 3, 1, 1, padding) for _ in range(2)]
        norms = [nn.InstanceNorm2d(channels) for _ in range(2)]
        self.model = nn.Sequential(
            ConvBlock(convs[0], norms[0], ACTIVATIONS[activation]()), ConvBlock(convs[1], norms[1])
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map `b c h w` to the same shape."""
        return x + self.dropout(self.model(x))


# The generators of both domains -------------------------------------------------------------------------------------------------


class Decoded(NamedTuple):
    """Both codes of a pair of batches, decoded into both domains: pictures `b c h w` in [-1, 1]."""

    source: Tensor  # the source's code in its own domain: a reconstruction
    to_source: Tensor  # the target's code in the source domain: a translation
    to_target: Tensor
    target: Tensor


class CoupledGenerators(nn.Module):
    """Encoders and decoders of both domains around what they share.

    No norm looks beyond one sample, so batches of both domains pass through the shared parts together.

    Args:
        encoders: of source and target, up to the shared layers.
        shared_encoder: what ends both encoders; may be empty.
        shared_decoder: what begins both decoders; may be empty.
        decoders: of source and target, from there on.
        multiple: what the sides of pictures must be multiples of.
    """

    def __init__(
        self,
        encoders: tuple[nn.Sequential, nn.Sequential],
        shared_encoder: nn.Sequential,
        shared_decoder: nn.Sequential,
        decoders: tuple[nn.Sequential, nn.Sequential],
        multiple: int,
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({"source": encoders[0], "target": encoders[1]})
        self.shared_encoder = shared_encoder
        self.shared_decoder = shared_decoder
        self.decoders = nn.ModuleDict({"source": decoders[0], "target": decoders[1]})
        self.multiple = multiple

    def encode(self, image: Tensor, domain: str) -> Tensor:
        """Give the codes' means `b z h w` of pictures of a domain, `source` or `target`."""
        require_multiple(image, self.multiple)
        return self.shared_encoder(self.encoders[domain](image))

    def decode(self, code: Tensor, domain: str) -> Tensor:
        """Give the pictures `b c h w` of codes in a domain, whichever one the codes come from."""
        return self.decoders[domain](self.shared_decoder(code))

    def encode_both(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Encode pictures of the source and, as many and as large, of the target."""
        require_multiple(source, self.multiple)
        require_same_shape(source, target)
        own = torch.cat([self.encoders["source"](source), self.encoders["target"](target)])
        mean_source, mean_target = self.shared_encoder(own).chunk(2)
        return mean_source, mean_target

    def decode_crossed(self, code_source: Tensor, code_target: Tensor) -> tuple[Tensor, Tensor]:
        """Translate: the target's codes into the source domain, and the source's into the target domain."""
        of_source, of_target = self.shared_decoder(torch.cat([code_source, code_target])).chunk(2)
        return self.decoders["source"](of_target), self.decoders["target"](of_source)

    def decode_both(self, code_source: Tensor, code_target: Tensor) -> Decoded:
        """Decode both codes in both domains."""
        shared = self.shared_decoder(torch.cat([code_source, code_target]))
        source, to_source = self.decoders["source"](shared).chunk(2)
        to_target, target = self.decoders["target"](shared).chunk(2)
        return Decoded(source, to_source, to_target, target)


def require_multiple(image: Tensor, multiple: int) -> None:
    """Refuse pictures whose sides the generators cannot halve and double back."""
    height, width = image.shape[-2:]
    if height % multiple or width % multiple:
        near = "x".join(str(max(1, round(side / multiple)) * multiple) for side in (width, height))
        raise ZooError(
            f"The pictures are {width}x{height}; these generators need multiples of {multiple}. Resize or crop them, say to {near}."
        )


def require_same_shape(source: Tensor, target: Tensor) -> None:
    """Refuse batches of both domains that cannot pass through shared layers together."""
    if source.shape[-2:] != target.shape[-2:] or len(source) != len(target):
        shapes = " and ".join(f"{len(x)} of {x.shape[-1]}x{x.shape[-2]}" for x in (source, target))
        raise ZooError(
            f"A batch of both domains holds as many pictures of one size of each, and here are {shapes}. Take a preprocessing "
            "that gives one size: --data.preprocess resize_and_crop"
        )


def paper_generators(
    source_channels: int = 3,
    target_channels: int = 3,
    channels: int = 64,
    downsamplings: int = 2,
    encoder_blocks: int = 4,
    decoder_blocks: int = 4,
    shared_encoder_blocks: int = 1,
    shared_decoder_blocks: int = 1,
    front_norm: Literal["none", "instance"] = "none",
    dropout: float = 0.0,
) -> CoupledGenerators:
    """The paper's generators: zero padding, leaky ReLUs of slope 0.01, transposed convolutions.

    Args:
        source_channels: of source pictures.
        target_channels: of target pictures.
        channels: of the first layer; each halving doubles them.
        downsamplings: halvings by 3x3 convolutions of stride 2.
        encoder_blocks: residual blocks of each encoder, shared ones among them.
        decoder_blocks: the same of each decoder.
        shared_encoder_blocks: how many of an encoder's residual blocks, its last ones, both domains share.
        shared_decoder_blocks: how many of a decoder's, its first ones.
        front_norm: `instance` normalises (and rectifies with slope 0) where the size changes, as COCOResGen does; COCOResGen2 does not.
        dropout: of the residual blocks, in training.
    """
    require_shared(shared_encoder_blocks, encoder_blocks)
    require_shared(shared_decoder_blocks, decoder_blocks)
    code = channels * 2**downsamplings

    def resizing(conv: nn.Conv2d | nn.ConvTranspose2d) -> ConvBlock:
        if front_norm == "instance":
            return ConvBlock(conv, nn.InstanceNorm2d(conv.out_channels), nn.ReLU(inplace=True))
        return ConvBlock(conv, activation=nn.LeakyReLU(PAPER_SLOPE, inplace=True))

    def residual(count: int) -> list[nn.Module]:
        return [ResidualBlock(code, dropout=dropout) for _ in range(count)]

    def encoder(incoming: int) -> nn.Sequential:
        first = nn.Conv2d(incoming, channels, 7, padding=3)
        layers: list[nn.Module] = [ConvBlock(first, activation=nn.LeakyReLU(PAPER_SLOPE, inplace=True))]
        widths = [channels * 2**i for i in range(downsamplings)]
        layers += [resizing(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)) for width in widths]
        return nn.Sequential(*layers, *residual(encoder_blocks - shared_encoder_blocks))

    def decoder(outgoing: int) -> nn.Sequential:
        layers = residual(decoder_blocks - shared_decoder_blocks)
        for width in (code // 2**i for i in range(downsamplings)):
            up = nn.ConvTranspose2d(width, width // 2, 3, stride=2, padding=1, output_padding=1)
            layers.append(resizing(up))
        return nn.Sequential(*layers, ConvBlock(nn.ConvTranspose2d(channels, outgoing, 1), activation=nn.Tanh()))

    return CoupledGenerators(
        (encoder(source_channels), encoder(target_channels)),
        nn.Sequential(*residual(shared_encoder_blocks)),
        nn.Sequential(*residual(shared_decoder_blocks)),
        (decoder(source_channels), decoder(target_channels)),
        multiple=2**downsamplings,
    )


def munit_style_generators(
    source_channels: int = 3,
    target_channels: int = 3,
    channels: int = 64,
    downsamplings: int = 2,
    encoder_blocks: int = 4,
    decoder_blocks: int = 4,
    shared_encoder_blocks: int = 0,
    shared_decoder_blocks: int = 0,
    activation: Activation = "relu",
    padding: Padding = "reflect",
) -> CoupledGenerators:
    """The generators of the later official code: mirrored borders, nearest-neighbour enlargement, layer norm on the way up.

    That code shares nothing between the domains; sharing blocks is ours here.

    Args:
        source_channels: of source pictures.
        target_channels: of target pictures.
        channels: of the first layer; each halving doubles them.
        downsamplings: halvings by 4x4 convolutions of stride 2.
        encoder_blocks: residual blocks of each encoder, shared ones among them.
        decoder_blocks: the same of each decoder.
        shared_encoder_blocks: how many of an encoder's residual blocks, its last ones, both domains share; 0 in the official code.
        shared_decoder_blocks: how many of a decoder's, its first ones.
        activation: after every convolution but a residual block's second and the last one.
        padding: of every convolution.
    """
    require_shared(shared_encoder_blocks, encoder_blocks)
    require_shared(shared_decoder_blocks, decoder_blocks)
    code, activated = channels * 2**downsamplings, ACTIVATIONS[activation]

    def residual(count: int) -> list[nn.Module]:
        return [ResidualBlock(code, padding, activation) for _ in range(count)]

    def encoder(incoming: int) -> nn.Sequential:
        first = padded_conv(incoming, channels, 7, 1, 3, padding)
        layers: list[nn.Module] = [ConvBlock(first, nn.InstanceNorm2d(channels), activated())]
        for width in (channels * 2**i for i in range(downsamplings)):
            down = padded_conv(width, 2 * width, 4, 2, 1, padding)
            layers.append(ConvBlock(down, nn.InstanceNorm2d(2 * width), activated()))
        return nn.Sequential(*layers, *residual(encoder_blocks - shared_encoder_blocks))

    def decoder(outgoing: int) -> nn.Sequential:
        layers = residual(decoder_blocks - shared_decoder_blocks)
        for width in (code // 2**i for i in range(downsamplings)):
            conv = padded_conv(width, width // 2, 5, 1, 2, padding)
            layers += [nn.Upsample(scale_factor=2), ConvBlock(conv, LayerNorm(width // 2), activated())]
        last = padded_conv(channels, outgoing, 7, 1, 3, padding)
        return nn.Sequential(*layers, ConvBlock(last, activation=nn.Tanh()))

    return CoupledGenerators(
        (encoder(source_channels), encoder(target_channels)),
        nn.Sequential(*residual(shared_encoder_blocks)),
        nn.Sequential(*residual(shared_decoder_blocks)),
        (decoder(source_channels), decoder(target_channels)),
        multiple=2**downsamplings,
    )


def require_shared(shared: int, blocks: int) -> None:
    """Refuse to share more residual blocks than there are."""
    if not 0 <= shared <= blocks:
        near = min(max(shared, 0), blocks)
        raise ZooError(
            f"There are {blocks} residual blocks and {shared} of them can't be shared: --model.shared_blocks {near}"
        )
