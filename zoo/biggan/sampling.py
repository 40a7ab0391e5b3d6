"""Drawing pictures: truncated latent codes, codes in between, and the statistics that batch norms use meanwhile."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

Buffers = dict[str, Tensor]
"""Some of a generator's buffers by name, to be used in place of its own."""


def truncated_normal(uniform: Tensor, bound: float = 2.0) -> Tensor:
    """Turn numbers uniform in [0, 1) into normal ones that never lie beyond a bound; BigGAN's truncation draws within 2.

    Args:
        uniform: of any shape.
        bound: largest absolute value.
    """
    tail = 0.5 * math.erfc(bound / math.sqrt(2))
    numbers = torch.special.ndtri(tail + uniform * (1 - 2 * tail))
    return numbers.clamp(-bound, bound)  # the ends are rounded


def interpolate(first: Tensor, second: Tensor, midpoints: int) -> Tensor:
    """Go from one code to another in equal steps.

    Args:
        first: b c.
        second: b c.
        midpoints: number of codes in between.

    Returns:
        Codes `b n c` with both ends.
    """
    share = torch.linspace(0, 1, midpoints + 2, device=first.device, dtype=first.dtype)[:, None]
    return first[:, None] * (1 - share) + second[:, None] * share


def cut_to_uint8(image: Tensor) -> Tensor:
    """Turn pictures in [-1, 1] into uint8 as the official code stores them for evaluation: cut off, not rounded."""
    return (255 * (image + 1) / 2).to(torch.uint8)


@torch.no_grad()
def standing_statistics(generator: nn.Module, passes: Iterable[tuple[Tensor, Tensor]]) -> Buffers:
    """Let a generator draw in training mode, and average what its batch norms see.

    Args:
        generator: its buffers move, spectral norm's vectors among them: give a copy.
        passes: latent codes `b z` and class numbers `b` of each pass.

    Returns:
        All buffers as the passes leave them, running statistics replaced by the means over passes of the batches' means and
        (biased) variances.

    Raises:
        ValueError: there are no passes.
    """
    norms = {name: module for name, module in generator.named_modules() if isinstance(module, nn.BatchNorm2d)}
    means: dict[str, list[Tensor]] = {name: [] for name in norms}
    variances: dict[str, list[Tensor]] = {name: [] for name in norms}

    def watch(name: str, norm: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def look(_: nn.Module, inputs: tuple[Tensor]) -> None:
            variance, mean = torch.var_mean(inputs[0], (0, 2, 3), correction=0)
            means[name].append(mean)
            variances[name].append(variance)

        return norm.register_forward_pre_hook(look)

    handles = [watch(name, norm) for name, norm in norms.items()]
    mode = generator.training
    generator.train()
    try:
        for latent, label in passes:
            generator(latent, label)
    finally:
        generator.train(mode)
        for handle in handles:
            handle.remove()
    if not all(means.values()):
        raise ValueError("standing statistics need one pass or more")
    buffers = {name: buffer.clone() for name, buffer in generator.named_buffers()}
    for name in norms:
        buffers[f"{name}.running_mean"] = torch.stack(means[name]).mean(0)
        buffers[f"{name}.running_var"] = torch.stack(variances[name]).mean(0)
    return buffers
