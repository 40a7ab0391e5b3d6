"""Semantic segmentation of photographs: which class each pixel is of. Networks and published weights are torchvision's.

- `deeplabv3_resnet50`: Chen, Papandreou, Schroff, Adam: Rethinking Atrous Convolution. 2017, https://arxiv.org/abs/1706.05587
- `lraspp_mobilenet_v3_large`, small: Howard et al.: Searching for MobileNetV3. ICCV 2019, https://arxiv.org/abs/1905.02244

The published weights know the 21 classes of Pascal VOC, of COCO's pictures: people, animals, vehicles and furniture. Sky, water and ground
are background to them. A file of the same network that was trained on other classes (ADE20K, Cityscapes) says itself how many.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.segmentation import deeplabv3_resnet50, lraspp_mobilenet_v3_large

from zoo.core.images import from_uint8, resize
from zoo.errors import ZooError
from zoo.experts.expert import Expert
from zoo.experts.vgg import normalise
from zoo.weights.fetch import fetch
from zoo.weights.files import read_file, some_names, state_of
from zoo.weights.preflight import missing_weights

Network = Literal["deeplabv3_resnet50", "lraspp_mobilenet_v3_large"]
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "deeplabv3_resnet50": deeplabv3_resnet50,
    "lraspp_mobilenet_v3_large": lraspp_mobilenet_v3_large,
}
LAST_LAYERS = {
    "deeplabv3_resnet50": "classifier.4.weight",
    "lraspp_mobilenet_v3_large": "classifier.low_classifier.weight",
}
PUBLISHED_CLASSES = 21
AUXILIARY = "aux_classifier."  # a head that helped in training


class SegmentationNetwork(Expert):
    """The network, for ever frozen and left out of checkpoints.

    Args:
        network: which of torchvision's.
        classes: how many it tells apart; 21 in the published weights.
        pretrained: fetch the published weights, which have the network's name in zoo.weights; otherwise they are random, for
            `load_weights` to replace.
        side: pictures are resized to this many pixels along their shorter side, as the networks were trained; fewer cost less.

    Raises:
        ZooError: an unknown network, other than 21 published classes, or the weights cannot be had.
    """

    def __init__(
        self,
        network: Network = "deeplabv3_resnet50",
        classes: int = PUBLISHED_CLASSES,
        pretrained: bool = True,
        side: int = 520,
    ) -> None:
        super().__init__()
        if network not in NETWORKS:
            raise ZooError(f"There is no segmentation network {network!r}; there are {', '.join(get_args(Network))}.")
        if pretrained and classes != PUBLISHED_CLASSES:
            raise ZooError(f"The published weights tell {PUBLISHED_CLASSES} classes apart, not {classes}.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # random weights that are the same every time: no checkpoint holds them
            self.network = NETWORKS[network](weights=None, weights_backbone=None, num_classes=classes)
        self.name, self.classes, self.side = network, classes, side
        self.freeze()
        if pretrained:
            self.load_weights(fetch(network))

    @classmethod
    def missing(cls, settings: Mapping[str, Any]) -> list[str]:
        """What stands in the way of using the network with these constructor arguments; nothing is downloaded."""
        wanted = settings.get("network", "deeplabv3_resnet50")
        return missing_weights(wanted) if settings.get("pretrained", True) else []

    @classmethod
    def of_file(cls, path: Path, network: Network, side: int = 520) -> Self:
        """The network with the weights of a file, and as many classes as it has.

        Raises:
            ZooError: the file cannot be read, or is of another network.
        """
        state = _state(path)
        last = state.get(LAST_LAYERS.get(network, ""))
        if last is None:
            raise ZooError(f"{path} is no {network}: it has {some_names(state)}.")
        expert = cls(network, len(last), pretrained=False, side=side)
        expert.load_weights(path)
        return expert

    def load_weights(self, path: Path) -> None:
        """Load a file in torchvision's layout, every entry of which has to fit but for those of the auxiliary head.

        Raises:
            ZooError: the file cannot be read, or is of another network.
        """
        kept = {key: value for key, value in _state(path).items() if not key.startswith(AUXILIARY)}
        self.load_own({f"network.{key}": value for key, value in kept.items()})

    @torch.no_grad()
    def label_maps(self, image: Tensor) -> Tensor:
        """Name each pixel's class.

        Args:
            image: uint8 b 3 h w.

        Returns:
            uint8 b h w on the same device.
        """
        self.to(image.device)
        height, width = image.shape[2:]
        scale = self.side / min(height, width)
        small = resize(from_uint8(image), round(height * scale), round(width * scale), filter="bilinear")
        with torch.autocast(image.device.type, enabled=False):
            logits = self.network(normalise(small))["out"]
        large = F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
        return large.argmax(1).to(torch.uint8)


def _state(path: Path) -> dict[str, Tensor]:
    content = read_file(path)
    state = state_of(content)
    if state is None:
        raise ZooError(f"{path} is no state dict of a segmentation network: it holds {some_names(content)}.")
    return state
