"""The judge's two small networks: one finds the object of a rendered scene, the other names its look."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

JUDGED_SIZE = 64
"""Both networks see pictures of this size; other sizes are resized to it first."""


def resized(image: Tensor, size: int = JUDGED_SIZE) -> Tensor:
    """Resize `b c h w` to `b c size size` with antialiasing; a picture of that size is returned as it is."""
    if image.shape[-2:] == (size, size):
        return image
    return F.interpolate(image, size=(size, size), mode="bilinear", antialias=True, align_corners=False)


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.GroupNorm(4, outputs), nn.ReLU()
    )


class Segmenter(nn.Module):
    """A small U-Net that finds the object.

    Args:
        widths: channels from the full resolution to the coarsest.
    """

    def __init__(self, widths: tuple[int, ...] = (12, 24, 32, 48)) -> None:
        super().__init__()
        self.stem = nn.Sequential(_convolution(3, widths[0]), _convolution(widths[0], widths[0]))
        self.down = nn.ModuleList(
            nn.Sequential(_convolution(fine, coarse, stride=2), _convolution(coarse, coarse))
            for fine, coarse in pairwise(widths)
        )
        self.up = nn.ModuleList(_convolution(fine + coarse, fine) for fine, coarse in pairwise(widths))
        self.head = nn.Conv2d(widths[0], 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Give the logit of being object for every pixel.

        Args:
            image: b 3 64 64 in [-1, 1].

        Returns:
            b 1 64 64 logits.
        """
        levels = [self.stem(image)]
        for down in self.down:
            levels.append(down(levels[-1]))
        x = levels.pop()
        for up in reversed(self.up):
            x = up(torch.cat((F.interpolate(x, scale_factor=2.0, mode="nearest"), levels.pop()), dim=1))
        return self.head(x)


class LookClassifier(nn.Module):
    """Names the look of the object that the segmenter found, seeing it in its surroundings.

    Features of the whole picture (and of the found mask) are averaged over the found mask, so the object decides. Where
    nothing was found there is next to nothing to average, which is the last class: no look at all.

    Args:
        looks: number of looks; one class more stands for none of them.
        widths: channels from the full resolution to the coarsest, which is an eighth of it.
    """

    def __init__(self, looks: int, widths: tuple[int, ...] = (16, 32, 48, 64)) -> None:
        super().__init__()
        self.stem = _convolution(4, widths[0])
        self.down = nn.Sequential(*(_convolution(fine, coarse, stride=2) for fine, coarse in pairwise(widths)))
        self.head = nn.Linear(widths[-1] + 1, looks + 1)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Give the logits of the looks, the last one for none.

        Args:
            image: b 3 64 64 in [-1, 1].
            mask: b 1 64 64 in [0, 1], where the object was found.
        """
        features = self.down(self.stem(torch.cat((image, 2 * mask - 1), dim=1)))  # b w 8 8
        weight = F.adaptive_avg_pool2d(mask, features.shape[-2:])
        area = weight.sum(dim=(2, 3))  # b 1, out of 64
        pooled = (features * weight).sum(dim=(2, 3)) / (area + 0.5)
        return self.head(torch.cat((pooled, area / 16), dim=1))
