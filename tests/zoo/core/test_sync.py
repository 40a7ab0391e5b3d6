"""What ranks tell one another, on two processes; alone, all of it does nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from support.ranks import on_ranks
from zoo.core import sync
from zoo.errors import ZooError


class Buffers(nn.Module):
    """One buffer of each kind, set apart by rank."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        torch.manual_seed(rank)
        self.linear = nn.Linear(2, 2)
        self.norm = nn.BatchNorm1d(2)
        self.norm.running_mean.fill_(10.0 + rank)  # type: ignore[union-attr]
        self.norm.running_var.fill_(4.0 + 2 * rank)  # type: ignore[union-attr]
        self.norm.num_batches_tracked.fill_(5 + rank)  # type: ignore[union-attr]
        self.register_buffer("vector", torch.tensor([1.0, 2.0]) + rank)
        self.register_buffer("flag", torch.tensor([rank == 0, False]))


def values(module: nn.Module) -> dict[str, list[float]]:
    return {name: value.flatten().tolist() for name, value in module.state_dict().items()}


def talk(rank: int) -> dict[str, Any]:
    """Everything once, on one of two ranks."""
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    answer: dict[str, Any] = {"world": (sync.rank(), sync.world_size())}
    value = torch.tensor([1.0 + rank, 4.0])
    answer["mean"] = sync.mean_over_ranks(value).tolist(), value.tolist()
    answer["gathered"] = sync.gather_plain({"rank": rank, "pool": torch.full((2,), rank)})
    for part in answer["gathered"]:
        part["pool"] = part["pool"].tolist()  # plain lists travel best

    # Gradients: on both ranks, on the second alone, on none; and one of another dtype.
    parameters = [nn.Parameter(torch.zeros(2)) for _ in range(3)] + [nn.Parameter(torch.zeros(1).double())]
    parameters[0].grad = torch.tensor([2.0 + 2 * rank, 0.0])
    parameters[1].grad = torch.tensor([8.0, 8.0]) if rank == 1 else None
    parameters[3].grad = torch.tensor([float(rank)]).double()
    sync.average_gradients(parameters)
    answer["gradients"] = [None if p.grad is None else p.grad.tolist() for p in parameters]

    module = Buffers(rank)
    messages = []
    for repair in (lambda: None, lambda: sync.align_buffers(module), lambda: sync.broadcast_module(module)):
        repair()
        try:
            sync.check_ranks_agree(module)
            messages.append("")
        except ZooError as error:
            messages.append(str(error))
        answer["aligned" if len(messages) == 2 else "broadcast"] = values(module)
    answer["messages"] = messages
    torch.distributed.destroy_process_group()
    return answer


@pytest.fixture(scope="module")
def answers() -> list[dict[str, Any]]:
    return on_ranks(talk)


@pytest.mark.distributed
def test_numbers_that_steer_are_means(answers: list[dict[str, Any]]) -> None:
    assert [answer["world"] for answer in answers] == [(0, 2), (1, 2)]
    for rank, answer in enumerate(answers):
        assert answer["mean"] == ([1.5, 4.0], [1.0 + rank, 4.0])  # and the rank's own is left alone
        assert [part["rank"] for part in answer["gathered"]] == [0, 1]
        assert [part["pool"] for part in answer["gathered"]] == [[0, 0], [1, 1]]


@pytest.mark.distributed
def test_a_missing_gradient_counts_as_zero_unless_it_is_missing_everywhere(answers: list[dict[str, Any]]) -> None:
    for answer in answers:
        assert answer["gradients"] == [[3.0, 0.0], [4.0, 4.0], None, [0.5]]


@pytest.mark.distributed
def test_statistics_are_averaged_and_other_buffers_follow_the_first_rank(answers: list[dict[str, Any]]) -> None:
    for answer in answers:
        aligned = answer["aligned"]
        assert aligned["norm.running_mean"] == [10.5, 10.5]
        assert aligned["norm.running_var"] == [5.0, 5.0]
        assert aligned["norm.num_batches_tracked"] == [5]
        assert aligned["vector"] == [1.0, 2.0]
        assert aligned["flag"] == [True, False]


@pytest.mark.distributed
def test_drift_is_named_and_a_broadcast_ends_it(answers: list[dict[str, Any]]) -> None:
    first, second = answers
    assert first["messages"] == second["messages"]
    before, after_buffers, after_all = first["messages"]
    assert "drifted apart in 7 tensors, first 'linear.weight'" in before
    assert "drifted apart in 2 tensors" in after_buffers
    assert after_all == ""
    assert first["broadcast"] == second["broadcast"]
    assert first["broadcast"]["linear.weight"] == Buffers(0).linear.weight.flatten().tolist()


def test_alone_nothing_changes() -> None:
    module = Buffers(1)
    before = values(module)
    value = torch.tensor([1.0])
    assert sync.mean_over_ranks(value) is value
    sync.average_gradients(list(module.parameters()))
    sync.align_buffers(module)
    sync.broadcast_module(module)
    sync.check_ranks_agree(module)
    assert values(module) == before
    assert all(p.grad is None for p in module.parameters())
    assert (sync.rank(), sync.world_size(), sync.gather_plain(3)) == (0, 1, [3])


def test_shared_parameters_are_listed_once_in_order() -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight
    listed = sync.unique_parameters([first, second, first])
    assert [id(p) for p in listed] == [id(first.weight), id(first.bias), id(second.bias)]
