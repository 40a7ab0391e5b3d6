"""How ALAE's pictures and codes are measured: the official conversions, and named protocols."""

from __future__ import annotations

from torch import Tensor


def cut_to_pixels(image: Tensor, scale: float = 127.0) -> Tensor:
    """Whole numbers 0..255 of pictures about [-1, 1], cut and not rounded.

    Args:
        image: float, any shape.
        scale: 127 in the official scripts for FID and LPIPS, in which white is 254; 127.5 in the official demo.

    Returns:
        uint8.
    """
    import torch

    return ((image + 1) * scale).clamp(0, 255).to(torch.uint8)
