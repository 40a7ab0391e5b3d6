from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.experts.expert import Expert


class Small(Expert):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width), nn.Dropout(0.5))
        self.scale = nn.Parameter(torch.rand(width))
        self.freeze()

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) * self.scale


class Room(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Linear(2, 2)
        self.inner = nn.ModuleDict({"expert": Small()})
        self.last = nn.BatchNorm1d(2)


def test_it_has_no_gradients_and_stays_in_eval_mode() -> None:
    room = Room().train()
    expert = room.inner["expert"]
    assert room.training
    assert not any(module.training for module in expert.modules())
    x = torch.rand(4, 2, requires_grad=True)
    before = expert.own_state()["layers.1.running_mean"].clone()
    expert(x).sum().backward()
    assert x.grad is not None
    assert all(p.grad is None and not p.requires_grad for p in expert.parameters())
    assert torch.equal(expert.own_state()["layers.1.running_mean"], before)


def test_checkpoints_know_nothing_of_it() -> None:
    room = Room()
    state = room.state_dict()
    assert set(state) == {f"network.{name}" for name in ("weight", "bias")} | {
        f"last.{k}" for k in room.last.state_dict()
    }
    assert room.state_dict(prefix="a.", keep_vars=True).keys() == {f"a.{key}" for key in state}
    assert Small().state_dict() == {}

    other = Room()
    own = {key: value.clone() for key, value in other.inner["expert"].own_state().items()}
    other.load_state_dict(state)  # strict
    assert torch.equal(other.network.weight, room.network.weight)
    now = other.inner["expert"].own_state()
    assert all(torch.equal(now[key], value) for key, value in own.items())


@pytest.mark.parametrize("assign", [False, True])
def test_entries_that_a_file_has_of_it_are_passed_over(assign: bool) -> None:
    room, other = Room(), Room()
    expert = other.inner["expert"]
    own = {key: value.clone() for key, value in expert.own_state().items()}
    theirs = {f"inner.expert.{key}": value + 1 for key, value in room.inner["expert"].own_state().items()}
    state = {**room.state_dict(), **theirs, "inner.expert.deeper.weight": torch.zeros(9)}
    given = dict(state)
    other.load_state_dict(state, assign=assign)
    assert state == given
    assert all(torch.equal(expert.own_state()[key], value) for key, value in own.items())
    assert not any(p.requires_grad for p in expert.parameters())
    # What is wrong elsewhere is still found.
    with pytest.raises(RuntimeError, match=r"Missing key.*network\.bias"):
        other.load_state_dict({key: value for key, value in state.items() if key != "network.bias"})
    with pytest.raises(RuntimeError, match=r"Unexpected key.*inner\.strange"):
        other.load_state_dict({**state, "inner.strange": torch.zeros(1)})


def test_copies_and_casts_hold_its_weights() -> None:
    room = Room()
    copy = deepcopy(room).double()
    x = torch.rand(3, 2)
    torch.testing.assert_close(copy.inner["expert"](x.double()).float(), room.inner["expert"](x))
    assert not any(p.requires_grad for p in copy.inner["expert"].parameters())
    assert {id(p) for p in room.inner["expert"].parameters()} <= {id(p) for p in room.parameters()}
    assert len(list(room.buffers())) == 6


def test_its_own_weights_are_loaded_whole_or_not_at_all() -> None:
    first, second = Small(), Small()
    second.load_own(first.own_state())
    assert all(torch.equal(value, second.own_state()[key]) for key, value in first.own_state().items())
    state = {key: value + 1 for key, value in first.own_state().items()}
    for bad, said in (
        (
            {key: value for key, value in state.items() if key != "scale"},
            r"scale is missing, expected was \(3,\) \(1 of 8",
        ),
        ({**state, "more": torch.zeros(1)}, r"more is \(1,\), expected was no such entry"),
        (Small(5).own_state(), r"layers.0.bias is \(5,\), expected was \(3,\)"),
    ):
        with pytest.raises(ZooError, match=said):
            second.load_own(bad)
        assert torch.equal(second.scale, first.scale)
    with pytest.raises(TypeError, match="Small is an expert: load its weights with load_weights or load_own"):
        second.load_state_dict(state)
