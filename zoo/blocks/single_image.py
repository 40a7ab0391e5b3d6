"""What the GANs of a single picture share: the critic's penalty, masks for compositing, noise that walks, and how far samples differ."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.core.precision import full
from zoo.errors import ZooError

MASK_RADII = {"harmonization": 7, "editing": 20}
"""Pixels by which the official codes grow a mask before it is blurred, by task."""

MASK_BLUR = 5.0
"""Standard deviation of that blur, in pixels."""


def shrink_factor(size: Sequence[int], max_size: int) -> float:
    """What a picture of this height and width is resized by, so that its longer side is at most `max_size`."""
    return min(max_size / max(size), 1.0)


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """How far the norms of a critic's gradient are from 1 between a real and a generated picture.

    The norm is over the channels of each pixel, as both official codes have it, and not over the whole picture.

    Args:
        critic: maps b 3 h w to patch logits.
        real: b 3 h w.
        fake: the same shape; no gradient flows into it. Between the two the critic runs in float32, whatever precision is in use.
        share: of the real picture, in [0, 1], broadcastable.
    """
    between = full(share * real + (1 - share) * fake.detach()).requires_grad_()
    with torch.enable_grad(), torch.autocast(between.device.type, enabled=False):
        (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (torch.linalg.vector_norm(gradient, dim=1) - 1).square().mean()


@contextmanager
def counted_passes(network: nn.Module, passes: int) -> Iterator[None]:
    """Let one training-mode pass move running statistics as so many equal passes would.

    In training mode the outputs of a batch norm do not depend on its running statistics: passes of the same input through the same
    weights are equal, and only the statistics know how many there were.

    Args:
        network: whose batch norms are meant.
        passes: how many passes the one inside the block stands for.
    """
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d) and layer.training]
    momenta = [layer.momentum for layer in norms]
    for layer, momentum in zip(norms, momenta, strict=True):
        assert momentum is not None
        layer.momentum = 1 - (1 - momentum) ** passes
    try:
        yield
    finally:
        for layer, momentum in zip(norms, momenta, strict=True):
            layer.momentum = momentum
            if layer.num_batches_tracked is not None:
                layer.num_batches_tracked += passes - 1


@contextmanager
def own_statistics(network: nn.Module) -> Iterator[None]:
    """Let batch norms use the statistics of the picture at hand, whatever mode they are in, and keep their running ones as they are."""
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    modes = [layer.training for layer in norms]
    for layer in norms:
        layer.training, layer.track_running_stats = True, False
    try:
        yield
    finally:
        for layer, mode in zip(norms, modes, strict=True):
            layer.training, layer.track_running_stats = mode, True


def soft_mask(mask: Tensor, radius: int) -> Tensor:
    """Grow what a mask marks by a disk, blur its border, and stretch the result to [0, 1].

    Args:
        mask: b c h w in [-1, 1]; its first channel counts, and whatever is not black there is marked.
        radius: of the disk, in pixels: see `MASK_RADII`.

    Returns:
        b 1 h w in [0, 1].

    Raises:
        ZooError: the mask marks nothing, or all of the picture.
    """
    import kornia  # a second of import time, which only compositing needs

    marked = (mask[:, :1].add(1).div(2).clamp(0, 1).mul(255) >= 1).to(mask.dtype)
    along = torch.arange(-radius, radius + 1, device=mask.device)
    disk = (along[:, None] ** 2 + along**2 <= radius**2).to(mask.dtype)
    grown = (F.conv2d(marked, disk[None, None], padding=radius) > 0).to(mask.dtype)
    if bool((grown == grown.flatten()[0]).all()):
        what = "nothing" if not bool(grown.any()) else f"all of the picture (it is grown by {radius} pixels)"
        raise ZooError(f"The mask marks {what}. Expected was a picture that is black but for the object: --mask FILE")
    size = 2 * int(4 * MASK_BLUR + 0.5) + 1
    blurred = kornia.filters.gaussian_blur2d(grown, (size, size), (MASK_BLUR, MASK_BLUR), border_type="replicate")
    low, high = blurred.amin((2, 3), keepdim=True), blurred.amax((2, 3), keepdim=True)
    return (blurred - low) / (high - low)


def blend(mask: Tensor, image: Tensor, base: Tensor) -> Tensor:
    """`image` where the mask is 1, `base` where it is 0; b 3 h w, with a mask b 1 h w."""
    return mask * image + (1 - mask) * base


def walk(fixed: Tensor, now: Tensor, before: Tensor, noise: Tensor, alpha: float, beta: float) -> Tensor:
    """One step of a noise map that wanders around a fixed one, for an animation.

    Args:
        fixed: the map that it is drawn back to.
        now: where it is.
        before: where it was a step ago.
        noise: drawn for this step.
        alpha: how strongly it is drawn back, in [0, 1].
        beta: how much of its velocity it keeps, in [0, 1]: a smooth motion has much.
    """
    velocity = beta * (now - before) + (1 - beta) * noise
    return alpha * fixed + (1 - alpha) * (now + velocity)


def stage_work(begin: int, end: int, length: int, sizes: Sequence[Sequence[int]]) -> float:
    """How much work some iterations are, in pixels: each runs its own stage's and those of the stages below.

    Args:
        begin: the first iteration, counted from the first stage's.
        end: the first one that is not meant.
        length: iterations per stage.
        sizes: height and width of every stage.
    """
    work, below = 0.0, 0
    for stage, (height, width) in enumerate(sizes):
        below += height * width
        first, last = stage * length, (stage + 1) * length
        work += max(0, min(end, last) - max(begin, first)) * below
    return work


def pixel_diversity(samples: Sequence[Tensor], picture: Tensor) -> Tensor:
    """How much samples differ: the standard deviation of each pixel over the samples, against that of the training picture.

    Grey levels are means of the channels. 0 where all samples are equal.

    Args:
        samples: each 1 3 h w.
        picture: the training picture, 1 3 h w.
    """
    grey = torch.cat(list(samples)).double().mean(1)
    return grey.std(0, correction=0).mean() / picture.double().mean(1).std(correction=0)
