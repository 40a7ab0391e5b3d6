"""SinGAN: what the critic says of a fake that several steps of the generator share."""

import torch
from torch import Tensor, nn

from zoo.blocks.single_image import counted_passes
from zoo.core.precision import full


def judge(critic: nn.Module, fake: Tensor, passes: int) -> tuple[Tensor, Tensor]:
    """Give the adversarial loss of a fake, and its gradient there.

    The critic does not move during the generator's steps: its equal passes over one fake are one.

    Args:
        critic: gives patch logits.
        fake: b 3 h w; nothing flows into it here.
        passes: how many passes the one stands for, which its running statistics know.

    Returns:
        A scalar, and b 3 h w.
    """
    with counted_passes(critic, passes), torch.enable_grad():
        leaf = fake.detach().requires_grad_()
        adversarial = -full(critic(leaf)).mean()
        (slope,) = torch.autograd.grad(adversarial, leaf)
    return adversarial.detach(), slope
