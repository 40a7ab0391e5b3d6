"""BigGAN's losses: pure functions of tensors."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Adversarial = Literal["hinge", "dcgan"]


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Mean relu(1 - real) and mean relu(1 + fake) of logits."""
    return F.relu(1 - real).mean(), F.relu(1 + fake).mean()


def hinge_generator_loss(fake: Tensor) -> Tensor:
    """The mean logit of generated pictures, negated."""
    return -fake.mean()


def dcgan_discriminator_loss(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Mean softplus(-real) and mean softplus(fake) of logits."""
    return F.softplus(-real).mean(), F.softplus(fake).mean()


def dcgan_generator_loss(fake: Tensor) -> Tensor:
    """Mean softplus(-fake) of logits: the non-saturating loss."""
    return F.softplus(-fake).mean()


DiscriminatorLoss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
GeneratorLoss = Callable[[Tensor], Tensor]
LOSSES: dict[Adversarial, tuple[DiscriminatorLoss, GeneratorLoss]] = {
    "hinge": (hinge_discriminator_loss, hinge_generator_loss),
    "dcgan": (dcgan_discriminator_loss, dcgan_generator_loss),
}


def orthogonal_penalty(weight: Tensor, *, unit_rows: bool = False) -> Tensor:
    """Half the squared scalar products of all pairs of a weight's rows, the orthogonal regularisation of the paper.

    Its gradient is 2 (W W^T o (1 - I)) W.

    Args:
        weight: of any shape; its first axis counts rows.
        unit_rows: also count how far the rows' squared lengths are from 1, as the regularisation did before BigGAN.
    """
    with torch.autocast(weight.device.type, enabled=False):
        rows = weight.flatten(1)
        # ||W W^T|| and ||W^T W|| are one number; the smaller product is meant to be made: a first layer has 24576 rows of 20.
        product = rows.mT @ rows if rows.shape[0] > rows.shape[1] else rows @ rows.mT
        lengths = rows.square().sum(1)
        if unit_rows:
            return (product.square().sum() - 2 * lengths.sum() + len(rows)) / 2
        return (product.square().sum() - lengths.square().sum()) / 2


def orthogonal_penalties(weights: Iterable[Tensor], but: Sequence[Tensor] = ()) -> Tensor:
    """The sum of the penalties of all weights of two axes or more, but for some of them."""
    left_out = {id(weight) for weight in but}
    penalties = [orthogonal_penalty(weight) for weight in weights if weight.ndim >= 2 and id(weight) not in left_out]
    return torch.stack(penalties).sum()
