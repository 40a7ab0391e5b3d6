"""Pictures of any size through networks that take some sizes alone."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from zoo.core.translator import Translator


def translate_any_size(model: Translator, image: Tensor, to: str, **options: Any) -> Tensor:
    """Translate a picture of any size: it is padded by mirroring to sides the networks can take, and cut back after.

    What a room gives that works at one size alone is left at that size.

    Args:
        model: the translator.
        image: `1 3 h w` in [-1, 1].
        to: the domain to translate into.
        **options: further keywords of `translate`.
    """
    padded = pad_to_size(model, image)
    return cut_back(model.translate(padded, to=to, **options), padded, image)


def attend_any_size(model: Translator, image: Tensor, to: str, **options: Any) -> tuple[Tensor, Tensor]:
    """Translate a picture of any size as `translate_any_size` does, by a model that gives attention maps.

    Returns:
        The translation, and the attention as a grey picture `1 1 h w` in [-1, 1], white where the picture was repainted.
    """
    padded = pad_to_size(model, image)
    translation, attention = model.translate(padded, to=to, return_attention=True, **options)  # type: ignore[call-arg]
    return cut_back(translation, padded, image), cut_back(2 * attention - 1, padded, image)


def pad_to_size(model: Translator, image: Tensor) -> Tensor:
    """Mirror a picture `1 3 h w` at its right and lower edge until its sides are what a model's networks can take."""
    height, width = image.shape[-2:]
    least = [max(side, model.smallest_size) for side in (width, height)]
    right, below = (
        wanted + -wanted % model.size_multiple - side for wanted, side in zip(least, (width, height), strict=True)
    )
    padded = image
    while right or below:  # a mirror reaches no further than the picture itself
        step_right, step_below = min(right, padded.shape[-1] - 1), min(below, padded.shape[-2] - 1)
        mode = "reflect" if (step_right or not right) and (step_below or not below) else "replicate"
        if mode == "replicate":
            step_right, step_below = right, below
        padded = F.pad(padded, (0, step_right, 0, step_below), mode=mode)
        right, below = right - step_right, below - step_below
    return padded


def cut_back(result: Tensor, padded: Tensor, image: Tensor) -> Tensor:
    """Cut what a model made of a padded picture to the picture's size, unless it is of a size of its own."""
    height, width = image.shape[-2:]
    return result[..., :height, :width] if result.shape[-2:] == padded.shape[-2:] else result
