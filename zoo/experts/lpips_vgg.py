"""LPIPS by features of VGG-16: what perceptual path lengths and reconstructions are measured by.

Richard Zhang, Phillip Isola, Alexei A. Efros, Eli Shechtman, Oliver Wang: The Unreasonable Effectiveness of Deep Features as a
Perceptual Metric. CVPR 2018, https://arxiv.org/abs/1801.03924. VGG's weights are torchvision's; the weights of its channels, learned from
people's judgements (version 0.1), are those that TorchMetrics brings along.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.experts.expert import Expert
from zoo.experts.lpips import TORCHMETRICS_KEY, distances, published_channel_weights
from zoo.experts.vgg import BASE_CHANNELS, VGGFeatures
from zoo.weights.files import read_file

LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
MULTIPLES = (1, 2, 4, 8, 8)  # of the first block's channels
TINY = 1e-8


class VGGLPIPS(Expert):
    """The distance, for ever frozen and left out of checkpoints.

    Args:
        pretrained: fetch VGG-16's published weights ("vgg16" of zoo.weights) and take TorchMetrics' weights of channels; otherwise VGG is
            random and all channels weigh alike.
        base_channels: of VGG's first block; 64 in the published network, less for tests.

    Raises:
        ZooError: the weights cannot be had.
    """

    def __init__(self, pretrained: bool = False, base_channels: int = BASE_CHANNELS) -> None:
        super().__init__()
        self.features = VGGFeatures(16, LAYERS, base_channels=base_channels, pretrained=pretrained)
        widths = [base_channels * multiple for multiple in MULTIPLES]
        self.weights = nn.ParameterList(torch.full((width,), 1 / width) for width in widths)
        self.freeze()
        if pretrained:
            self.load_weights(read_file(published_channel_weights("vgg")))

    def forward(self, image: Tensor, other: Tensor) -> Tensor:
        """Give the distances `b` of pictures b 3 h w in [-1, 1]."""
        return distances(self.features(image), self.features(other), self.weights, TINY)

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Load the weights of channels, named as in TorchMetrics' file.

        Raises:
            ZooError: they are of another network.
        """
        names = [TORCHMETRICS_KEY.format(number) for number in range(len(LAYERS))]
        if missing := [name for name in names if name not in state]:
            raise ZooError(f"These are no weights of LPIPS: there is no {missing[0]}.")
        own = self.own_state()
        self.load_own({**own, **{f"weights.{i}": state[name].flatten() for i, name in enumerate(names)}})
