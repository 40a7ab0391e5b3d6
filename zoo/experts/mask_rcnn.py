"""Mask R-CNN: finds the objects of photographs, each with its outline.

Kaiming He, Georgia Gkioxari, Piotr Dollár, Ross Girshick: Mask R-CNN. ICCV 2017, https://arxiv.org/abs/1703.06870. Networks and
published weights are torchvision's: ResNet-50 with a feature pyramid, trained on COCO's 80 kinds of objects, birds, dogs, cats and cars
among them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN as Network
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from zoo.errors import ZooError
from zoo.experts.expert import Expert
from zoo.weights.fetch import fetch
from zoo.weights.files import read_file, some_names, state_of
from zoo.weights.preflight import missing_weights

WEIGHTS = "mask_rcnn"
CLASSES = 91  # COCO's numbers, some of which stand for nothing, and the background
COLOURS = ((255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255))
"""Of the surest object, the next one, ...; from the eighth on they begin again."""


class MaskRCNN(Expert):
    """The network, for ever frozen and left out of checkpoints.

    Args:
        pretrained: fetch the published weights ("mask_rcnn" of zoo.weights); otherwise they are random, for `load_weights` to replace.
        threshold: objects that the network is less sure of are left out, 0 to 1.
        side: pictures are enlarged to this many pixels along their shorter side, as the network was trained; fewer cost less.
        batch_size: pictures looked at together.

    Raises:
        ZooError: the weights cannot be had.
    """

    def __init__(self, pretrained: bool = True, threshold: float = 0.5, side: int = 800, batch_size: int = 4) -> None:
        super().__init__()
        backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=5)
        self.network = Network(
            backbone, CLASSES, min_size=side, max_size=side * 1333 // 800, box_score_thresh=threshold
        )
        for module in self.network.modules():
            if isinstance(module, FrozenBatchNorm2d):
                module.eps = 0.0  # as these weights were trained
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
            raise ZooError(f"{path} is no state dict of Mask R-CNN: it holds {some_names(content)}.")
        # What plain batch norms count, and these do not.
        kept = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
        self.load_own({f"network.{key}": value for key, value in kept.items()})

    @torch.no_grad()
    def instance_maps(self, image: Tensor) -> Tensor:
        """Paint the objects of pictures: a colour for each, the surest white and on top, on black.

        Args:
            image: uint8 b 3 h w.

        Returns:
            uint8 b 3 h w on the same device; black where nothing was found.
        """
        self.to(image.device)
        colours = torch.tensor(COLOURS, dtype=torch.uint8, device=image.device)
        with torch.autocast(image.device.type, enabled=False):
            found = [one for part in image.split(self.batch_size) for one in self.network(list(part.float() / 255))]
        return torch.stack([paint(one["masks"][:, 0] > 0.5, colours) for one in found])


def paint(masks: Tensor, colours: Tensor) -> Tensor:
    """Lay objects on black, the first one on top.

    Args:
        masks: n h w, true inside the object; there may be none.
        colours: c 3, uint8, used in turn.

    Returns:
        uint8 3 h w.
    """
    colour = colours[torch.arange(len(masks), device=masks.device) % len(colours)]
    first = masks & (masks.cumsum(0) == 1)  # n h w: each pixel is the first one's that covers it
    return torch.einsum("nhw,nc->chw", first.float(), colour.float()).to(torch.uint8)
