"""A list of tensors that grows during training and comes back from a checkpoint at its length then."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class TensorList(nn.Module):
    """Tensors that belong to a model and are no weights: pictures, noise maps, amplitudes.

    They move with the module and stand in its state dict by their numbers. Loading a state dict brings the list to the length and the
    shapes that it had there, so a model whose list is still empty can be resumed.

    Attributes:
        equal_on_ranks: they are made alike on all ranks, or broadcast by their room, so that nobody sends them after each iteration.
    """

    equal_on_ranks = True

    def __init__(self) -> None:
        super().__init__()
        self._place: Tensor
        self.register_buffer("_place", torch.zeros(0), persistent=False)  # knows device and precision of an empty list

    def append(self, value: Tensor) -> None:
        """Add a tensor at the end, in the list's precision and on its device."""
        self.register_buffer(str(len(self)), value.detach().clone().to(self._place))

    def __len__(self) -> int:
        return len(self._buffers) - 1

    def __getitem__(self, index: int) -> Tensor:
        if not -len(self) <= index < len(self):
            raise IndexError(f"the list has {len(self)} tensors, and none at {index}")
        return self.get_buffer(str(index % len(self)))

    def __iter__(self) -> Iterator[Tensor]:
        return (self[index] for index in range(len(self)))

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any) -> None:
        numbers = {
            name
            for name in (key.removeprefix(prefix) for key in state_dict if key.startswith(prefix))
            if name.isdigit()
        }
        for name in [name for name in self._buffers if name != "_place" and name not in numbers]:
            del self._buffers[name]
        for name in sorted(numbers, key=int):
            self.register_buffer(
                name, torch.empty_like(state_dict[prefix + name], device=self._place.device, dtype=self._place.dtype)
            )
        super()._load_from_state_dict(state_dict, prefix, *arguments)
