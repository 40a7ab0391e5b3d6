"""Attention maps of translations: which part of a picture is repainted, and whether that part is the object."""

import torch
from torch import Tensor

from zoo.errors import ZooError


def compose(attention: Tensor, translation: Tensor, source: Tensor) -> Tensor:
    """Repaint a picture where the attention is: `attention * translation + (1 - attention) * source`.

    Args:
        attention: b 1 h w in [0, 1], the same for all colours. Ones give the translation, zeros the source, exactly.
        translation: b c h w in [-1, 1].
        source: b c h w in [-1, 1], the picture that was translated.

    Returns:
        b c h w in [-1, 1].
    """
    return attention * translation + (1 - attention) * source


def attention_iou(attention: Tensor, mask: Tensor, threshold: float = 0.5) -> Tensor:
    """Intersection over union of what an attention map chose and where the object is, for each picture.

    Args:
        attention: b 1 h w in [0, 1].
        mask: b 1 h w in [0, 1], the object of the picture that the map belongs to; cut at one half.
        threshold: what lies above it counts as chosen.

    Returns:
        b, in [0, 1]; 1 where nothing was chosen and nothing is there.

    Raises:
        ZooError: the maps have another shape than the masks.
    """
    if attention.shape != mask.shape:
        raise ZooError(
            f"Attention maps {tuple(attention.shape)} can't be compared with masks {tuple(mask.shape)}: both must be b 1 h w, of one size."
        )
    chosen, true = attention > threshold, mask > 0.5
    both, either = (chosen & true).sum((1, 2, 3)).float(), (chosen | true).sum((1, 2, 3)).float()
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)
