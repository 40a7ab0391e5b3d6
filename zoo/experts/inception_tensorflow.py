"""Inception v3 with TensorFlow's weights of 2015, by whose features FID is defined (Heusel et al. 2017, https://arxiv.org/abs/1706.08500).

The network differs from torchvision's: averages over 3x3 pixels leave the border out of their count, the last block takes maxima in the
place of one of them, and there are 1008 classes. The weights are those that pytorch-fid converted; its resize to 299x299 is taken over,
too. Scores come close to those of TensorFlow's own graph, and are not to be mixed with them.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import Inception3
from torchvision.models.inception import InceptionA, InceptionC, InceptionE

from zoo.errors import ZooError
from zoo.experts.expert import Expert
from zoo.weights.fetch import fetch
from zoo.weights.files import read_file, some_names, state_of

WEIGHTS = "inception_tensorflow"
SIDE = 299
FEATURES, CLASSES = 2048, 1008


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class _BlockA(InceptionA):
    def _forward(self, x: Tensor) -> list[Tensor]:
        return [*super()._forward(x)[:-1], self.branch_pool(_average(x))]


class _BlockC(InceptionC):
    def _forward(self, x: Tensor) -> list[Tensor]:
        return [*super()._forward(x)[:-1], self.branch_pool(_average(x))]


class _BlockE(InceptionE):
    def _forward(self, x: Tensor) -> list[Tensor]:
        return [*super()._forward(x)[:-1], self.branch_pool(_average(x))]


class _LastBlock(InceptionE):
    def _forward(self, x: Tensor) -> list[Tensor]:
        return [*super()._forward(x)[:-1], self.branch_pool(F.max_pool2d(x, 3, stride=1, padding=1))]


class TensorFlowInception(Expert):
    """Features of pictures, for ever frozen and left out of checkpoints.

    Args:
        pretrained: fetch the published weights ("inception_tensorflow" of zoo.weights); otherwise they are random, the same every time.

    Raises:
        ZooError: the weights cannot be had.
    """

    def __init__(self, pretrained: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same in every process
            network = Inception3(num_classes=CLASSES, aux_logits=False, transform_input=False, init_weights=False)
            network.Mixed_5b = _BlockA(192, pool_features=32)
            network.Mixed_5c = _BlockA(256, pool_features=64)
            network.Mixed_5d = _BlockA(288, pool_features=64)
            network.Mixed_6b = _BlockC(768, channels_7x7=128)
            network.Mixed_6c = _BlockC(768, channels_7x7=160)
            network.Mixed_6d = _BlockC(768, channels_7x7=160)
            network.Mixed_6e = _BlockC(768, channels_7x7=192)
            network.Mixed_7b = _BlockE(1280)
            network.Mixed_7c = _LastBlock(2048)
        self.classifier = network.fc  # of the file, and of no use here
        network.fc = nn.Identity()
        self.network = network
        self.freeze()
        if pretrained:
            self.load_weights(fetch(WEIGHTS))

    def forward(self, image: Tensor) -> Tensor:
        """Give features `b 2048` of pictures uint8 b 3 h w, or of what `prepare` made of pictures of any sizes."""
        return self.network(prepare(image) if image.dtype == torch.uint8 else image)

    def load_weights(self, weights: Path | Mapping[str, Tensor]) -> None:
        """Load pytorch-fid's layout, every entry of it and no other.

        Raises:
            ZooError: it is another network's, or no file of weights.
        """
        content = read_file(weights) if isinstance(weights, Path) else weights
        state = state_of(content)
        if state is None:
            raise ZooError(f"{weights} does not hold pytorch-fid's Inception: it holds {some_names(content)}.")
        if unknown := [key for key in state if key.startswith("AuxLogits.")]:
            raise ZooError(
                f"This is torchvision's Inception v3 ({unknown[0]}), and not TensorFlow's, by which FID is defined. Take the "
                f"published file: lightning download {WEIGHTS}"
            )
        names = {key: f"classifier.{key[3:]}" if key.startswith("fc.") else f"network.{key}" for key in state}
        counts = {key: value for key, value in self.own_state().items() if key.endswith("num_batches_tracked")}
        ours = {names[key]: value for key, value in state.items()}
        self.load_own({**counts, **ours})  # old files don't count batches


def prepare(image: Tensor) -> Tensor:
    """Bring pictures to what the network sees, as pytorch-fid does: bilinearly and without antialiasing, whatever their size.

    Args:
        image: uint8 b 3 h w.

    Returns:
        b 3 299 299 in [-1, 1].
    """
    scaled = F.interpolate(image.float() / 255, (SIDE, SIDE), mode="bilinear", align_corners=False)
    return 2 * scaled - 1
