"""A network from elsewhere that judges or guides a training and never learns from it."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from zoo.errors import ZooError


class Expert(nn.Module):
    """A frozen network: always in eval mode, its weights without gradients, and none of a checkpoint's business.

    Gradients pass through to its input. What holds an expert has no entry of it in `state_dict()` and asks for none in
    `load_state_dict`; entries that a file has of it are passed over, so that weights come from `load_weights` alone. A
    subclass builds its layers in `__init__` and calls `freeze()` last.
    """

    def freeze(self) -> Self:
        """Take the gradients from all weights, for good; returns itself."""
        return self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode whatever is asked: a room's `train()` reaches its experts, too."""
        return super().train(False)

    def own_state(self) -> dict[str, Tensor]:
        """Return the weights and buffers by name; unlike `state_dict()`, which is empty."""
        return dict(super().state_dict())

    def load_own(self, state: Mapping[str, Tensor]) -> None:
        """Load what `own_state` gives, every entry of it and no other.

        Raises:
            ZooError: an entry is missing, unknown or of another shape; then nothing was loaded.
        """
        own = self.own_state()
        shapes = {key: tuple(value.shape) for key, value in own.items()}
        given = {key: tuple(value.shape) for key, value in state.items()}
        if wrong := sorted(key for key in shapes.keys() | given.keys() if shapes.get(key) != given.get(key)):
            raise ZooError(
                f"These weights are not of this {type(self).__name__}: {wrong[0]} is {given.get(wrong[0], 'missing')}, expected "
                f"was {shapes.get(wrong[0], 'no such entry')} ({len(wrong)} of {len(own)} entries differ)."
            )
        with torch.no_grad():
            for key, value in own.items():
                value.copy_(state[key])

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Give nothing: a checkpoint of what holds an expert keeps none of its weights."""
        destination = args[0] if args else kwargs.get("destination")
        return OrderedDict() if destination is None else destination

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Refuse: weights are loaded by `load_weights`, or `load_own`.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"{type(self).__name__} is an expert: load its weights with load_weights or load_own.")

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # PyTorch calls this while it loads what holds the expert, with entries for the expert alone, and goes on to its
        # layers with the same dictionary: they get what they have, so nothing is missing and nothing changes.
        for key in [key for key in state_dict if key.startswith(prefix)]:
            del state_dict[key]
        state_dict.update({f"{prefix}{key}": value for key, value in self.own_state().items()})
        super()._load_from_state_dict(state_dict, prefix, *rest)
