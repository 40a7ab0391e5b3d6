"""UNIT's losses, as functions of tensors; means are taken in full precision."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.core.precision import full

Adversarial = Literal["bce", "lsgan"]
FeatureDistance = Literal["l2sq", "l1"]

CAFFE_MEAN = (103.939, 116.779, 123.680)
"""Of blue, green and red in 0..255: what the VGG of the perceptual loss was trained with."""


def bce_loss(logits: Tensor, real: bool) -> Tensor:
    """Mean cross-entropy of logits with 1 (real) or 0 (fake)."""
    return -F.logsigmoid(full(logits) if real else -full(logits)).mean()


def lsgan_loss(logits: Tensor, real: bool) -> Tensor:
    """Mean squared distance to 1 (real) or 0 (fake)."""
    return (full(logits) - float(real)).square().mean()


LOSSES: dict[str, Callable[[Tensor, bool], Tensor]] = {"bce": bce_loss, "lsgan": lsgan_loss}


def adversarial_loss(kind: Adversarial, logits: Sequence[Tensor], real: bool) -> Tensor:
    """The loss of pictures that should be called real, or fake: summed over the scales.

    Args:
        kind: `bce`, or `lsgan`.
        logits: b 1 h w per scale.
        real: what they should say.
    """
    return torch.stack([LOSSES[kind](scale, real) for scale in logits]).sum()


def discriminator_loss(kind: Adversarial, logits: Sequence[Tensor]) -> Tensor:
    """What a domain's discriminator minimises, without a factor of one half.

    Args:
        kind: as in `adversarial_loss`.
        logits: 2b 1 h w per scale; the first half is of real pictures, the second of translations.
    """
    real, fake = zip(*(scale.chunk(2) for scale in logits), strict=True)
    return adversarial_loss(kind, real, real=True) + adversarial_loss(kind, fake, real=False)


def kl_loss(code: Tensor) -> Tensor:
    """Mean square of codes `b z h w`: the divergence of N(code, 1) from N(0, 1), but for a factor of one half and a sum."""
    return full(code).square().mean()


def absolute_difference(image: Tensor, other: Tensor) -> Tensor:
    """Mean absolute difference of pictures."""
    return F.l1_loss(full(image), full(other))


# The perceptual loss of the later official code ---------------------------------------------------------------------------------


def caffe_picture(image: Tensor) -> Tensor:
    """Bring RGB b 3 h w in [-1, 1] to what Caffe's VGG takes: blue, green, red in 0..255, minus its training set's mean."""
    planes = zip(image.unbind(1)[::-1], CAFFE_MEAN, strict=True)
    return torch.stack([(plane + 1) * 127.5 - mean for plane, mean in planes], 1)


def perceptual_loss(features: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared difference of features `b c h w`, each channel of each sample normalised first."""
    return F.mse_loss(F.instance_norm(full(features)), F.instance_norm(full(wanted)))


# Digits --------------------------------------------------------------------------------------------------------------------------


def posterior_kl(mean: Tensor, deviation: Tensor) -> Tensor:
    """Twice the mean over codes of mean^2 + deviation^2 - log deviation^2, summed over a code's entries.

    Four times the divergence from N(0, 1), but for a constant.

    Args:
        mean: of each entry of codes, b z h w.
        deviation: standard deviations, b z h w.
    """
    mean, variance = full(mean), full(deviation).square()
    return 2 * (mean.square() + variance - variance.log()).flatten(1).sum(1).mean()


def squared_error(image: Tensor, other: Tensor) -> Tensor:
    """Sum of squared differences over a picture, averaged over pictures."""
    return (full(image) - full(other)).square().flatten(1).sum(1).mean()


def feature_loss(kind: FeatureDistance, features: Tensor, wanted: Tensor) -> Tensor:
    """Sum over a picture's features of squared (`l2sq`) or absolute (`l1`) differences, averaged over pictures; b c h w."""
    apart = full(features) - full(wanted)
    return (apart.square() if kind == "l2sq" else apart.abs()).flatten(1).sum(1).mean()


def class_loss(logits: Tensor, wanted: int | Tensor) -> Tensor:
    """Mean cross-entropy of logits `b k` with one class for all, or with labels `b`."""
    labels = wanted if isinstance(wanted, Tensor) else torch.full_like(logits[:, 0], wanted, dtype=torch.int64)
    return F.cross_entropy(full(logits), labels)
