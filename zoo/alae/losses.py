"""ALAE's losses (section 3 of the paper; softplus(t) = log(1 + exp(t)))."""

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.core.precision import full


def critic_loss(fake: Tensor, real: Tensor) -> Tensor:
    """How badly encoder and critic tell real pictures from fakes, by logits `b` of both."""
    return F.softplus(full(fake)).mean() + F.softplus(-full(real)).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """How far fakes are from passing, by their logits `b`."""
    return F.softplus(-full(fake)).mean()


def gradient_penalty(real: Tensor, image: Tensor) -> Tensor:
    """R1: half the squared norm of the logits' gradient at real pictures, mean over the batch.

    Args:
        real: logits b.
        image: b c h w, the very pictures that the logits were computed from, which require gradients.
    """
    (gradient,) = torch.autograd.grad(real.sum(), image, create_graph=True)
    return 0.5 * full(gradient).square().flatten(1).sum(1).mean()


def latent_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """Latent reciprocity: the mean squared difference of codes `b z`; the official code takes the mean over z too."""
    return (full(found) - full(wanted)).square().mean()
