"""SIFID: how far the patches of a generated picture are from those of the one picture that it was learnt from.

Tamar Rott Shaham, Tali Dekel, Tomer Michaeli: SinGAN, ICCV 2019, https://arxiv.org/abs/1905.01164, section 3.3. Each place of a
feature map of Inception v3 counts as a sample; the distance is Frechet's, of two normal distributions. 0 for a picture and itself.

Two readings: `code`, the released code's 64 channels before the first pooling; `paper`, the text's 192 channels just before the second
pooling. The released code reads PNG files as values up to 1 and divides them by 255 once more, and pairs files by the order that a folder
lists them in; here pictures are scaled by their own range and paired by name.

    lightning evaluate --protocol sifid --real picture.png --generated samples
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.folders import find_pictures
from datamodules.pictures import decode
from zoo.core.images import from_uint8
from zoo.errors import ZooError
from zoo.experts.expert import Expert
from zoo.metrics.frechet import frechet_distance
from zoo.weights.fetch import fetch
from zoo.weights.files import read_file, some_names, state_of

Reading = Literal["code", "paper"]

WEIGHTS = "inception_v3"
LAYERS = {  # channels before and after, kernel, stride, padding
    "Conv2d_1a_3x3": (3, 32, 3, 2, 0),
    "Conv2d_2a_3x3": (32, 32, 3, 1, 0),
    "Conv2d_2b_3x3": (32, 64, 3, 1, 1),
    "Conv2d_3b_1x1": (64, 80, 1, 1, 0),
    "Conv2d_4a_3x3": (80, 192, 3, 1, 0),
}
FIRST_POOLING = "Conv2d_2b_3x3"  # stands behind it
DEPTH: dict[Reading, int] = {"code": 3, "paper": 5}
LEAST_SIDE: dict[Reading, int] = {"code": 9, "paper": 23}


class ConvBN(nn.Module):
    """A convolution without bias, batch norm with an epsilon of 0.001, and a ReLU, as torchvision's Inception has them."""

    def __init__(self, incoming: int, outgoing: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(incoming, outgoing, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outgoing, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """Map b c h w."""
        return F.relu(self.bn(self.conv(x)))


class PatchFeatures(Expert):
    """The first layers of Inception v3, for ever frozen.

    Args:
        reading: how deep.
        pretrained: fetch torchvision's ImageNet weights; otherwise they are random, the same every time.
    """

    def __init__(self, reading: Reading = "code", *, pretrained: bool = False) -> None:
        super().__init__()
        self.reading: Reading = reading
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for name in list(LAYERS)[: DEPTH[reading]]:
                self.add_module(name, ConvBN(*LAYERS[name]))
        self.freeze()
        if pretrained:
            self.load_weights(fetch(WEIGHTS))

    def load_weights(self, path: Path) -> None:
        """Load torchvision's published file, of which the first layers are taken.

        Raises:
            ZooError: it is another file.
        """
        content = state_of(read_file(path)) or {}
        own = set(self.own_state())
        state = {key: value for key, value in content.items() if key in own}
        counters = {
            key: torch.zeros((), dtype=torch.int64) for key in own - set(state) if key.endswith("num_batches_tracked")
        }
        if not state:
            raise ZooError(f"{path} is no Inception v3 of torchvision: it holds {some_names(content)}.")
        self.load_own({**state, **counters})

    def forward(self, image: Tensor) -> Tensor:
        """The features b c h' w' of pictures b 3 h w in [-1, 1]; they are not resized.

        Raises:
            ZooError: a picture is too small to give two samples.
        """
        if min(image.shape[-2:]) < LEAST_SIDE[self.reading]:
            raise ZooError(
                f"The picture is {image.shape[-1]}x{image.shape[-2]}; SIFID ({self.reading}) needs {LEAST_SIDE[self.reading]} pixels."
            )
        x = image
        for name, layer in self.named_children():
            x = layer(x)
            if name == FIRST_POOLING and self.reading == "paper":
                x = F.max_pool2d(x, 3, 2)
        return x


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean `c` and covariance `c c` (by n - 1) over the places of features 1 c h w, in float64."""
    samples = features[0].flatten(1).double()  # c n
    return samples.mean(1), torch.cov(samples)


@torch.no_grad()
def sifid(features: PatchFeatures, picture: Tensor, other: Tensor) -> Tensor:
    """SIFID of two pictures 1 3 h w in [-1, 1], which may differ in size."""
    return frechet_distance(*moments(features(picture)), *moments(features(other)))


def pairs_of(real: Path, fake: Path) -> list[tuple[Path, Path]]:
    """Which generated picture belongs to which real one.

    Args:
        real: one picture, which all generated ones belong to, or a folder.
        fake: a picture or a folder; next to a folder of real ones, a picture belongs to the real one of its name, or whose name it begins
            with, as `castle_3.png` with `castle.jpg`; where several do, to the longest.

    Raises:
        ZooError: a generated picture belongs to none.
    """
    fakes, reals = find_pictures([fake], "fake"), find_pictures([real], "real")
    if real.is_file():
        return [(real, path) for path in fakes]
    found = []
    for path in fakes:
        near = [other for other in reals if path.stem == other.stem or path.stem.startswith(f"{other.stem}_")]
        if not near:
            names = ", ".join(other.stem for other in reals[:5])
            raise ZooError(f"{path} belongs to none of the real pictures, by its name. These begin with: {names}.")
        found.append((max(near, key=lambda other: len(other.stem)), path))
    return found


def read(path: Path) -> Tensor:
    """A picture of any kind as 1 3 h w in [-1, 1]."""
    return from_uint8(torch.from_numpy(decode(path).copy()).permute(2, 0, 1)[None])


def measure(features: PatchFeatures, pairs: Sequence[tuple[Path, Path]]) -> Mapping[Path, float]:
    """SIFID of each generated picture with its real one."""
    return {fake: float(sifid(features, read(real), read(fake))) for real, fake in pairs}
