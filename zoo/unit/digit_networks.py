"""UNIT's networks for digits of 32x32.

A variational autoencoder of both domains (CoVAE32x32), and a discriminator that reads (CoDis32x32).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import ZooError
from zoo.unit.generators import PAPER_SLOPE, Decoded

SIZE = 32
"""Side of the digits: what the kernels fit."""

COORDINATES = 2


def coordinates(image: Tensor) -> Tensor:
    """Where each pixel of pictures `b c h w` is: two channels, row and column, from -1 in steps of 2/h and 2/w; b 2 h w."""
    height, width = image.shape[-2:]
    rows = torch.arange(height, device=image.device, dtype=image.dtype).sub(height / 2).div(height / 2)
    columns = torch.arange(width, device=image.device, dtype=image.dtype).sub(width / 2).div(width / 2)
    both = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
    return both.expand(len(image), COORDINATES, height, width)


class ShiftedBlock(nn.Module):
    """A convolution, batch norm without weights, a learned shift of each channel, a leaky ReLU of slope 0.01."""

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm2d(conv.out_channels, affine=False)
        self.shift = nn.Parameter(torch.zeros(conv.out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map `b c h w`."""
        return F.leaky_relu(self.norm(self.conv(x)) + self.shift[:, None, None], PAPER_SLOPE)


class PointwiseTranspose(nn.ConvTranspose2d):
    """A transposed convolution of 1x1, computed as the convolution that it is: that saves a tenth of a generator's time on a CPU."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Map `b c h w`."""
        return F.conv2d(x, self.weight.transpose(0, 1), self.bias)


class CoupledVAE(nn.Module):
    """Encodes digits of both domains as Gaussians, and decodes samples of them in both; all but the outermost layers are shared.

    The shared batch norms see both domains together, the decoders' the codes of both, the first one of an encoder its own alone.

    Args:
        source_channels: of source digits.
        target_channels: of target digits.
        channels: of the first layer; codes have eight times as many.
        coordinates: whether encoders are told where each pixel is.
    """

    def __init__(
        self, source_channels: int = 3, target_channels: int = 1, channels: int = 96, coordinates: bool = True
    ) -> None:
        super().__init__()
        c, extra = channels, COORDINATES if coordinates else 0
        self.coordinates = coordinates

        def encoder(incoming: int) -> ShiftedBlock:
            return ShiftedBlock(nn.Conv2d(incoming + extra, c, 5, stride=2, padding=2))

        def decoder(outgoing: int) -> nn.Sequential:
            up = ShiftedBlock(nn.ConvTranspose2d(2 * c, c, 4, stride=2, padding=1))
            return nn.Sequential(up, PointwiseTranspose(c, outgoing, 1), nn.Tanh())

        self.encoders = nn.ModuleDict({"source": encoder(source_channels), "target": encoder(target_channels)})
        self.shared_encoder = nn.Sequential(
            ShiftedBlock(nn.Conv2d(c, 2 * c, 5, stride=2, padding=2)),
            ShiftedBlock(nn.Conv2d(2 * c, 4 * c, 8)),
            ShiftedBlock(nn.Conv2d(4 * c, 8 * c, 1)),
        )
        self.mean, self.deviation = nn.Conv2d(8 * c, 8 * c, 1), nn.Conv2d(8 * c, 8 * c, 1)
        self.shared_decoder = nn.Sequential(
            ShiftedBlock(nn.ConvTranspose2d(8 * c, 8 * c, 4, stride=2)),
            ShiftedBlock(nn.ConvTranspose2d(8 * c, 4 * c, 4, stride=2, padding=1)),
            ShiftedBlock(nn.ConvTranspose2d(4 * c, 2 * c, 4, stride=2, padding=1)),
        )
        self.decoders = nn.ModuleDict({"source": decoder(source_channels), "target": decoder(target_channels)})
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, 0.0, 0.02)
            elif isinstance(layer, ShiftedBlock):
                nn.init.normal_(layer.shift, 0.0, 0.002)
        for conv in (self.mean, self.deviation):
            assert conv.bias is not None
            nn.init.normal_(conv.bias, 0.0, 0.002)

    def lowest(self, image: Tensor, domain: str) -> Tensor:
        """The first layer's outputs of digits of a domain."""
        return self.encoders[domain](torch.cat([image, coordinates(image)], 1) if self.coordinates else image)

    def posterior(self, lowest: Tensor) -> tuple[Tensor, Tensor]:
        """Means and standard deviations `b z 1 1` of codes, from the first layers' outputs."""
        high = self.shared_encoder(lowest)
        return self.mean(high), F.softplus(self.deviation(high))

    def encode(self, image: Tensor, domain: str) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of the codes of digits of a domain, `source` or `target`."""
        require_digits(image)
        return self.posterior(self.lowest(image, domain))

    def encode_both(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The same of both domains, `2b z 1 1`, the source's first."""
        require_digits(source)
        require_digits(target)
        return self.posterior(torch.cat([self.lowest(source, "source"), self.lowest(target, "target")]))

    def decode(self, code: Tensor, domain: str) -> Tensor:
        """The digits `b c 32 32` of codes in a domain, whichever one the codes come from."""
        return self.decoders[domain](self.shared_decoder(code))

    def decode_both(self, codes: Tensor) -> Decoded:
        """Decode codes `2b z 1 1`, the source's first, in both domains."""
        shared = self.shared_decoder(codes)
        source, to_source = self.decoders["source"](shared).chunk(2)
        to_target, target = self.decoders["target"](shared).chunk(2)
        return Decoded(source, to_source, to_target, target)


class ReadingDiscriminator(nn.Module):
    """Says of digits whether they are real, and which ones they are; all but the first layer is shared by the domains.

    Args:
        source_channels: of source digits.
        target_channels: of target digits.
        channels: of the first layer; the last one has eight times as many.
        classes: number of classes.
        dropout: shares that are dropped in training in front of the second, third and fourth layer and of the heads.
    """

    def __init__(
        self,
        source_channels: int = 3,
        target_channels: int = 1,
        channels: int = 64,
        classes: int = 10,
        dropout: Sequence[float] = (0.1, 0.3, 0.5, 0.5),
    ) -> None:
        super().__init__()
        c = channels

        def layer(incoming: int, outgoing: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(incoming, outgoing, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2))

        self.lowest = nn.ModuleDict({"source": layer(source_channels, c), "target": layer(target_channels, c)})
        self.layers = nn.ModuleList([layer(c, 2 * c), layer(2 * c, 4 * c), layer(4 * c, 8 * c)])
        self.dropouts = nn.ModuleList(nn.Dropout(share) for share in dropout)
        self.real_head, self.class_head = nn.Conv2d(8 * c, 2, 2), nn.Conv2d(8 * c, classes, 2)
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.xavier_uniform_(conv.weight, gain=2**0.5)
                assert conv.bias is not None
                nn.init.constant_(conv.bias, 0.1)

    def look(self, image: Tensor, domain: str) -> Tensor:
        """The first layer's outputs `b c 16 16` of digits of a domain, `source` or `target`; all else begins with them."""
        require_digits(image)
        return self.lowest[domain](image)

    def features(self, lowest: Tensor) -> Tensor:
        """The last layer's outputs `b c 2 2`, without dropout."""
        for layer in self.layers:
            lowest = layer(lowest)
        return lowest

    def dropped_features(self, lowest: Tensor) -> Tensor:
        """The same with dropout, in training."""
        for dropout, layer in zip(self.dropouts[:-1], self.layers, strict=True):
            lowest = layer(dropout(lowest))
        return self.dropouts[-1](lowest)

    def judge(self, lowest: Tensor) -> Tensor:
        """Logits `b 2` that say fake or real."""
        return self.real_head(self.dropped_features(lowest)).flatten(1)

    def classify(self, lowest: Tensor) -> Tensor:
        """Logits `b classes` that say which digit it is."""
        return self.class_head(self.dropped_features(lowest)).flatten(1)


def require_digits(image: Tensor) -> None:
    """Refuse pictures of another size."""
    if image.shape[-2:] != (SIZE, SIZE):
        height, width = image.shape[-2:]
        raise ZooError(
            f"The digits are {width}x{height}, and these networks are made for {SIZE}x{SIZE}: --data.size {SIZE}"
        )
