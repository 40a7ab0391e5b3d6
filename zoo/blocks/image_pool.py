"""A pool of earlier translations for the discriminator (Shrivastava et al. 2017, in the form CycleGAN gave it)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from zoo.core.draws import Draws
from zoo.errors import ZooError


class ImagePool:
    """Earlier translations, of which the discriminator sees one in place of about every second new one.

    Each process has its own. Pictures are kept without gradients, on the device where they were made.

    Args:
        size: pictures kept; 0 keeps none and returns what comes.

    Raises:
        ZooError: the size is negative.
    """

    def __init__(self, size: int) -> None:
        if size < 0:
            raise ZooError(f"pool_size is {size}; expected a number of pictures, or 0 for no pool.")
        self.size = size
        self.images: list[Tensor] = []  # c h w each

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Exchange some of the pictures for stored ones.

        Until the pool is full each picture is stored and returned, and nothing is drawn. Then one with a uniform draw above
        0.5 changes places with a stored one, drawn uniformly.

        Args:
            images: `b c h w`.
            draws: where `pool_uniform` and `pool_index` come from; the host decides, so no device is waited for.

        Returns:
            `b c h w`, without gradients.
        """
        images = images.detach()
        return torch.stack([self._exchange(image, draws) for image in images]) if self.size else images

    def _exchange(self, image: Tensor, draws: Draws) -> Tensor:
        if len(self.images) < self.size:
            self.images.append(image.clone())
            return image
        if draws.uniform("pool_uniform", (1,), device="cpu").item() <= 0.5:
            return image
        index = int(draws.integers("pool_index", (1,), 0, self.size, device="cpu").item())
        stored, self.images[index] = self.images[index], image.clone()
        return stored.to(image)

    def state_dict(self) -> dict[str, Any]:
        """The stored pictures."""
        return {"images": list(self.images)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take stored pictures over; those beyond this pool's size are left out."""
        self.images = list(state["images"])[: self.size]
