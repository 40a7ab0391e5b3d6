"""VGG-19 as what it was trained to be: it names which of ImageNet's 1,000 classes a picture shows.

Karen Simonyan, Andrew Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition. ICLR 2015,
https://arxiv.org/abs/1409.1556. Layers and published weights are torchvision's, from the very file that perceptual losses use.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.core.images import from_uint8, resize
from zoo.errors import ZooError
from zoo.experts.expert import Expert
from zoo.experts.vgg import BASE_CHANNELS, normalise, vgg_layers
from zoo.weights.fetch import fetch
from zoo.weights.files import read_file, some_names, state_of
from zoo.weights.preflight import missing_weights

WEIGHTS = "vgg19"
SIDE = 224  # of the pictures that the network was trained with
MAP = 7  # side of the last feature map
CLASSES = 1000


class VGGClassifier(Expert):
    """The network, for ever frozen and left out of checkpoints.

    Args:
        pretrained: fetch the published weights ("vgg19" of zoo.weights); otherwise they are random, the same every time, for
            `load_weights` to replace.
        base_channels: channels of the first block; 64 in the published network, less for small ones.
        hidden_channels: of the two hidden linear layers; 4096 in the published network.
        batch_size: pictures looked at together.

    Raises:
        ZooError: the weights cannot be had.
    """

    def __init__(
        self,
        pretrained: bool = True,
        base_channels: int = BASE_CHANNELS,
        hidden_channels: int = 4096,
        batch_size: int = 16,
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.features = vgg_layers(19, "pool5", base_channels)
            # Without torchvision's dropout, which does nothing in eval mode; the numbers of the layers are kept.
            self.classifier = nn.Sequential(
                nn.Linear(8 * base_channels * MAP**2, hidden_channels),
                nn.ReLU(),
                nn.Identity(),
                nn.Linear(hidden_channels, hidden_channels),
                nn.ReLU(),
                nn.Identity(),
                nn.Linear(hidden_channels, CLASSES),
            )
        self.batch_size = batch_size
        self.freeze()
        if pretrained:
            self.load_weights(fetch(WEIGHTS))

    @classmethod
    def missing(cls, settings: Mapping[str, Any]) -> list[str]:
        """What stands in the way of using the network with these constructor arguments; nothing is downloaded."""
        return missing_weights(WEIGHTS) if settings.get("pretrained", True) else []

    def load_weights(self, path: Path) -> None:
        """Load torchvision's file, every entry of which has to fit.

        Raises:
            ZooError: the file cannot be read, or is of another network.
        """
        state = state_of(content := read_file(path, safetensors=False))
        if state is None:
            raise ZooError(f"{path} is no state dict of VGG-19: it holds {some_names(content)}.")
        self.load_own(state)

    def forward(self, image: Tensor) -> Tensor:
        """Logits b 1000 of pictures b 3 h w in [-1, 1]: each is resized to 224x224 whole, bilinearly and antialiased."""
        features = self.features(normalise(resize(image, SIDE, SIDE, filter="bilinear")))
        return self.classifier(features.flatten(1))

    @torch.no_grad()
    def probabilities(self, image: Tensor) -> Tensor:
        """How likely each class is.

        Args:
            image: uint8 b 3 h w.

        Returns:
            float32 b 1000 on the same device; each row sums to 1.
        """
        self.to(image.device)
        with torch.autocast(image.device.type, enabled=False):
            return torch.cat([self(from_uint8(part)).softmax(1) for part in image.split(self.batch_size)])
