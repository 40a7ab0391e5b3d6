"""Layer normalisation of feature maps in the form that MUNIT's code gave it, which UNIT and HiDT took over."""

import torch
from torch import Tensor, nn


class LayerNorm(nn.Module):
    """Normalises each sample over channels and positions at once, then scales and shifts each channel.

    By the standard deviation with n - 1 in its denominator, to which 1e-5 is added; the scale starts uniform in [0, 1).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(channels))
        self.beta = nn.Parameter(torch.zeros(channels))
        nn.init.uniform_(self.gamma)

    def forward(self, x: Tensor) -> Tensor:
        """Map `b c h w` to the same shape."""
        deviation, mean = torch.std_mean(x, (1, 2, 3), keepdim=True)
        return (x - mean) / (deviation + 1e-5) * self.gamma[:, None, None] + self.beta[:, None, None]
