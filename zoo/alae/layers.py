"""ALAE: layers whose learning rates are equalised, norms, blur, and convolutions that change the size.

Weights are stored as they are used. What equalises them is the step: each parameter carries a factor of the learning rate, which the
layer knows and `zoo.alae.optimizer` reads.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE = 0.2  # of every leaky ReLU


class Equalised(nn.Module):
    """A layer of normal weights N(0, (gain / sqrt(fan in))^2) that remembers by how much its steps are scaled.

    Args:
        shape: of the weight.
        fan_in: inputs of one output.
        outputs: of the bias; 0 for none.
        gain: of the initial weights.
        rate: factor of the weight's and the bias' steps; the initial weights know nothing of it.
    """

    def __init__(self, shape: tuple[int, ...], fan_in: int, outputs: int, gain: float, rate: float) -> None:
        super().__init__()
        self.deviation = gain / math.sqrt(fan_in)
        self.weight_rate, self.bias_rate = self.deviation * rate, rate
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(outputs)) if outputs else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw initial weights; biases are 0."""
        nn.init.normal_(self.weight, 0.0, self.deviation)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class Linear(Equalised):
    """An affine map with equalised steps.

    Args:
        incoming: features.
        outgoing: features.
        gain: of the initial weights.
        rate: factor of the steps, 0.1 in the mappings.
    """

    def __init__(self, incoming: int, outgoing: int, gain: float = math.sqrt(2), rate: float = 1.0) -> None:
        super().__init__((outgoing, incoming), incoming, outgoing, gain, rate)

    def forward(self, x: Tensor) -> Tensor:
        """Map `... incoming` to `... outgoing`."""
        return F.linear(x, self.weight, self.bias)


class Conv(Equalised):
    """A convolution that keeps the size, with equalised steps.

    Args:
        incoming: channels.
        outgoing: channels.
        kernel: side of the kernel, odd.
        gain: of the initial weights.
        bias: whether there is one.
    """

    def __init__(
        self, incoming: int, outgoing: int, kernel: int, gain: float = math.sqrt(2), bias: bool = False
    ) -> None:
        super().__init__((outgoing, incoming, kernel, kernel), incoming * kernel**2, outgoing * bias, gain, 1.0)
        self.padding = kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map `b incoming h w` to `b outgoing h w`."""
        return F.conv2d(x, self.weight, self.bias, padding=self.padding)


class DownConv(Equalised):
    """A convolution of 3x3 and means of 2x2 pixels behind it, in one step of stride 2; without bias.

    The official code takes two steps for small pictures and one for large ones: the same numbers, at more than twice the work.

    Args:
        incoming: channels.
        outgoing: channels.
    """

    def __init__(self, incoming: int, outgoing: int) -> None:
        super().__init__((outgoing, incoming, 3, 3), incoming * 9, 0, math.sqrt(2), 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Map `b incoming h w` to `b outgoing h/2 w/2`."""
        return F.conv2d(x, 0.25 * widened(self.weight), stride=2, padding=1)


class UpConv(Equalised):
    """A convolution of 3x3 of a doubled picture, in one transposed step of stride 2; without bias.

    Args:
        incoming: channels.
        outgoing: channels.
        fused: whether the weight is that of the transposed convolution, as the official code has it for large pictures; otherwise it is
            that of the convolution behind a doubling, which the transposed one equals with the kernel turned around.
    """

    def __init__(self, incoming: int, outgoing: int, fused: bool) -> None:
        shape = (incoming, outgoing, 3, 3) if fused else (outgoing, incoming, 3, 3)
        super().__init__(shape, incoming * 9, 0, math.sqrt(2), 1.0)
        self.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        """Map `b incoming h w` to `b outgoing 2h 2w`."""
        weight = self.weight if self.fused else self.weight.flip(2, 3).transpose(0, 1)
        return F.conv_transpose2d(x, widened(weight), stride=2, padding=1)


def widened(weight: Tensor) -> Tensor:
    """The kernel of 4x4 that is a kernel `... 3 3` summed over the four places of a 2x2 neighbourhood."""
    padded = F.pad(weight, (1, 1, 1, 1))
    return padded[..., 1:, 1:] + padded[..., :-1, 1:] + padded[..., 1:, :-1] + padded[..., :-1, :-1]


def doubled(x: Tensor) -> Tensor:
    """Repeat every pixel of `b c h w` twice each way: b c 2h 2w."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def halved(x: Tensor) -> Tensor:
    """Means of 2x2 pixels of `b c h w`: b c h/2 w/2."""
    return F.avg_pool2d(x, 2)


def blur(x: Tensor) -> Tensor:
    """Smooth each channel of `b c h w` with [1, 2, 1] / 4 each way; beyond the border all is 0."""
    # Sums of shifted maps: a third of the time of a convolution by channels, whose second derivatives are slow.
    x = F.pad(x, (1, 1, 1, 1))
    x = 0.5 * x[..., 1:-1] + 0.25 * (x[..., :-2] + x[..., 2:])
    return 0.5 * x[..., 1:-1, :] + 0.25 * (x[..., :-2, :] + x[..., 2:, :])


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2."""
    return F.leaky_relu(x, SLOPE)


def pixel_norm(x: Tensor) -> Tensor:
    """Divide by the root of the mean square over dimension 1, plus 1e-8 below the root."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


def instance_norm(x: Tensor, eps: float) -> Tensor:
    """Shift and scale every channel of every picture `b c h w` to mean 0 and variance 1; the variance is the biased one."""
    centred = x - x.mean((2, 3), keepdim=True)
    return centred * torch.rsqrt(centred.square().mean((2, 3), keepdim=True) + eps)


def apply_style(x: Tensor, style: Tensor) -> Tensor:
    """Scale and shift the channels of `b c h w`.

    Args:
        x: b c h w; with b = 1 it is repeated for every style.
        style: b 2c, first what is added to scales of 1, then the shifts.
    """
    scale, shift = style.view(len(style), 2, x.shape[1], 1, 1).unbind(1)
    return x * (scale + 1) + shift
