"""IR-SE50: what makes a face that person's face, as 512 numbers.

Jiankang Deng, Jia Guo, Niannan Xue, Stefanos Zafeiriou: ArcFace: Additive Angular Margin Loss for Deep Face Recognition.
CVPR 2019, https://arxiv.org/abs/1801.07698. A residual network of 24 blocks with squeeze-and-excitation (Jie Hu, Li Shen,
Gang Sun: Squeeze-and-Excitation Networks. CVPR 2018, https://arxiv.org/abs/1709.01507); names and numbers of the layers are
those of TreB1eN's InsightFace_Pytorch, whose published file identity losses of many papers read.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import ZooError
from zoo.experts.expert import Expert
from zoo.weights.fetch import fetch
from zoo.weights.files import read_file, some_names, state_of

BLOCKS = (3, 4, 14, 3)  # of each stage, the first of which halves the size
CHANNELS = 64  # of the published network's first stage
REDUCTION = 16  # of channels inside squeeze-and-excitation
IMAGE_SIZE = 256  # at which the face is cut out
FACE = (slice(35, 223), slice(32, 220))  # rows and columns of it in an aligned portrait
FACE_SIZE = 112


class SqueezeExcitation(nn.Module):
    """Weights each channel by what the means of all channels say.

    Args:
        channels: of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // REDUCTION, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // REDUCTION, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Weight `b c h w`."""
        means = x.mean((2, 3), keepdim=True)  # b c 1 1
        return x * self.fc2(self.fc1(means).relu()).sigmoid()


class Block(nn.Module):
    """One residual block.

    Args:
        incoming: channels of the input.
        outgoing: channels of the output.
        stride: 2 halves the size.
    """

    def __init__(self, incoming: int, outgoing: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        if incoming != outgoing:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(incoming, outgoing, 1, stride, bias=False), nn.BatchNorm2d(outgoing)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(incoming),
            nn.Conv2d(incoming, outgoing, 3, 1, 1, bias=False),
            nn.PReLU(outgoing),
            nn.Conv2d(outgoing, outgoing, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outgoing),
            SqueezeExcitation(outgoing),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block."""
        return self.res_layer(x) + self.shortcut_layer(x)


class IRSE50(Expert):
    """The network, for ever frozen and left out of checkpoints; gradients reach the image.

    Args:
        pretrained: fetch the published weights ("model_ir_se50" of zoo.weights); otherwise they are random, for
            `load_weights` to replace.
        channels: of the first stage; 64 in the published network, less for small ones.

    Raises:
        ZooError: the weights cannot be had.
    """

    def __init__(self, *, pretrained: bool = False, channels: int = CHANNELS) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels), nn.PReLU(channels)
        )
        widths = [channels * 2**stage for stage in range(len(BLOCKS))]
        blocks, incoming = [], channels
        for width, count in zip(widths, BLOCKS, strict=True):
            for place in range(count):
                blocks.append(Block(incoming, width, 2 if place == 0 else 1))
                incoming = width
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(incoming),
            nn.Dropout(0.6),
            nn.Flatten(),
            nn.Linear(incoming * (FACE_SIZE // 2 ** len(BLOCKS)) ** 2, incoming),
            nn.BatchNorm1d(incoming),
        )
        self.body = nn.Sequential(*blocks)
        self.freeze()
        if pretrained:
            if channels != CHANNELS:
                raise ZooError(f"The published IR-SE50 has channels={CHANNELS}, not {channels}.")
            self.load_weights(fetch("model_ir_se50"))

    def forward(self, image: Tensor) -> Tensor:
        """Describe the faces of aligned portraits.

        Args:
            image: b 3 h w in [-1, 1]; other sizes than 256x256 are brought there first, by averaging.

        Returns:
            b 512 (8 times `channels`), each of length 1.
        """
        if image.shape[2:] != (IMAGE_SIZE, IMAGE_SIZE):
            image = F.adaptive_avg_pool2d(image, IMAGE_SIZE)
        rows, columns = FACE
        face = F.adaptive_avg_pool2d(image[:, :, rows, columns], FACE_SIZE)
        return F.normalize(self.output_layer(self.body(self.input_layer(face))))

    def identity_loss(self, image: Tensor, other: Tensor) -> Tensor:
        """Return how little the faces of pictures are those of others: the mean of 1 - cosine, in [0, 2].

        Args:
            image: b 3 h w in [-1, 1]; gradients reach it.
            other: b 3 h w in [-1, 1]; none reach these.
        """
        with torch.no_grad():
            wanted = self(other)
        return (1 - (self(image) * wanted).sum(1)).mean()

    def load_weights(self, weights: Path | Mapping[str, Tensor]) -> None:
        """Load the published file `model_ir_se50.pth`, a bare state dict, or its entries.

        Raises:
            ZooError: not such a file, or of another network; the message says what was found.
        """
        origin = str(weights) if isinstance(weights, Path) else "The given state"
        state = read_file(weights) if isinstance(weights, Path) else weights
        tensors = state_of(state)
        try:
            if tensors is None:
                raise ZooError(f"It holds {some_names(state)}.")
            self.load_own(tensors)
        except ZooError as error:
            raise ZooError(
                f"{origin} does not hold an IR-SE50 in the layout of model_ir_se50.pth. {error} Take the published file: "
                "lightning download model_ir_se50"
            ) from error
