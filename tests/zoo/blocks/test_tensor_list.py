"""A list of tensors that grows, and comes back from a state dict at its length."""

import pytest
import torch
from torch import nn

from zoo.blocks.tensor_list import TensorList


def test_an_empty_list_takes_length_and_shapes_of_a_state_dict() -> None:
    kept, empty = nn.ModuleDict({"maps": TensorList()}), nn.ModuleDict({"maps": TensorList()})
    for n in range(12):  # two digits: numbers, not letters, are their order
        kept["maps"].append(torch.full((1, n + 1), float(n)))  # type: ignore[operator]
    empty.double().load_state_dict(kept.state_dict())
    maps = empty["maps"]
    assert isinstance(maps, TensorList)
    assert [float(value[0, 0]) for value in maps] == list(range(12))
    assert maps[-1].shape == (1, 12)
    assert maps[0].dtype == torch.float64
    assert set(empty.state_dict()) == {f"maps.{n}" for n in range(12)}


def test_a_longer_list_is_cut_and_a_tensor_is_a_copy() -> None:
    one, other = TensorList(), TensorList()
    value = torch.ones(2, requires_grad=True)
    one.append(value)
    other.append(torch.zeros(5))
    other.append(torch.zeros(5))
    other.load_state_dict(one.state_dict())
    assert len(other) == 1
    assert torch.equal(other[0], value)
    assert not one[0].requires_grad
    one[0].add_(1)
    assert value[0] == 1
    with pytest.raises(IndexError, match="has 1 tensors, and none at 1"):
        one[1]
