"""Finds the object of rendered scenes, and of pictures that look like them: the judge's segmenter as a detector."""

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.core.images import from_uint8
from zoo.metrics.judge import Judge

ANY_LOOK = ("plain", "striped")


class SceneObjects:
    """A detector for `datamodules.BigGANPairs` and `lightning generate pairs`; it needs no download."""

    def __init__(self) -> None:
        self.judge = Judge.load(ANY_LOOK)

    @torch.no_grad()
    def find(self, image: Tensor) -> Tensor:
        """The probability of being object, b 1 64 64, from pictures uint8 b 3 h w."""
        return self.judge.to(image.device).find(from_uint8(image))

    def instance_maps(self, image: Tensor) -> Tensor:
        """Paint the object white on black.

        Args:
            image: uint8 b 3 h w.

        Returns:
            uint8 b 3 h w on the same device.
        """
        found = F.interpolate(self.find(image), image.shape[2:], mode="bilinear", align_corners=False)
        return (255 * (found > 0.5)).to(torch.uint8).expand(-1, 3, -1, -1)
