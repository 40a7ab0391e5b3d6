"""The non-saturating game with a gradient penalty, as several papers play it."""

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.core.precision import full


def adversarial_loss(logits: Tensor, real: bool) -> Tensor:
    """Mean cross-entropy of logits `b` with 1 (real) or 0 (fake)."""
    return F.softplus(-full(logits) if real else full(logits)).mean()


def r1_penalty(logits: Tensor, real: Tensor) -> Tensor:
    """R1 (Mescheder et al. 2018): half the mean over pictures of the squared norm of the logit's gradient.

    Args:
        logits: b, of the pictures `real`, computed outside of autocast.
        real: b 3 h w, which asked for gradients before.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    return 0.5 * gradient.square().flatten(1).sum(1).mean()
