"""Losses that both stages of GP-UNIT share, as functions of tensors."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.core.precision import full
from zoo.errors import ZooError
from zoo.experts.vgg import VGGFeatures

PERCEPTUAL_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
PERCEPTUAL_WEIGHT = 0.3
"""Of each layer, in the official code."""


def perceptual_network(weights: str, channels: int) -> VGGFeatures:
    """The VGG-19 of the perceptual loss: with the published weights ("vgg19"), or with random ones ("random")."""
    return VGGFeatures(19, PERCEPTUAL_LAYERS, base_channels=channels, pretrained=weights == "vgg19")


def perceptual_loss(features: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> Tensor:
    """Distance in VGG's features: 0.3 times the mean absolute difference, summed over layers; none flows into `target`."""
    terms = [F.l1_loss(full(features[layer]), full(target[layer]).detach()) for layer in features]
    return PERCEPTUAL_WEIGHT * torch.stack(terms).sum()


def require_size(data: object, image_size: int) -> None:
    """Refuse data whose pictures are of another size than the networks.

    Args:
        data: a DataModule, or what stands in for one.
        image_size: the model's.

    Raises:
        ZooError: they differ.
    """
    size = getattr(data, "size", image_size)
    if size != image_size:
        raise ZooError(
            f"The data gives pictures of {size}x{size}, and the model is built for {image_size}x{image_size}: "
            f"--data.size {image_size}, or --model.image_size {size}"
        )
