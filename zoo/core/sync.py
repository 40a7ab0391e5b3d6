"""What the ranks of a multi-GPU run tell one another.

Gradients are averaged here, once per player and step, and not by DistributedDataParallel: its reducer fails at the first change of
player, or sends every network's gradients on every backward. These are plain collectives on the default process group, so any
launcher works (Lightning's own, torchrun, SLURM, Ray Train).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from zoo.errors import ZooError


def world_size() -> int:
    """Number of processes that train together (1 without a process group)."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process' number among them."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def mean_over_ranks(value: Tensor) -> Tensor:
    """The mean of a tensor over all ranks: for any number computed from data that steers the training."""
    if world_size() == 1:
        return value
    value = value.detach().clone()
    dist.all_reduce(value)
    return value / world_size()


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Average gradients over ranks with one flat all-reduce per dtype.

    Ranks may have used different branches of a network: a gradient that is absent on one rank counts as zero in the sum, and one that
    is absent on all ranks stays absent (Adam's momentum must not move a weight that nothing used).

    Args:
        parameters: the same ordered list on every rank.
    """
    if world_size() == 1:
        return
    for _, group in groupby(sorted(parameters, key=lambda p: str(p.dtype)), key=lambda p: p.dtype):
        members = list(group)
        absent = [parameter.grad is None for parameter in members]
        pieces = [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in members]
        pieces.append(members[0].new_tensor([0.0 if missing else 1.0 for missing in absent]))
        flat = torch.cat(pieces)
        dist.all_reduce(flat)
        *sums, presence = flat.split([piece.numel() for piece in pieces])
        # Only a rank that lacks a gradient has to look (a host sync) whether another one has it.
        used = (presence > 0).tolist() if any(absent) else [True] * len(members)
        for parameter, total, is_used in zip(members, sums, used, strict=True):
            parameter.grad = (total / world_size()).view_as(parameter) if is_used else None


def align_buffers(module: nn.Module) -> None:
    """Make the buffers of all ranks equal after an iteration.

    The rule: each rank normalises with the statistics of its own part of the batch (as the official multi-GPU codes do); the running
    means and variances of batch norms in training mode are averaged over ranks; every other buffer (spectral norm's vectors,
    counters) follows rank 0. Those of a module that says `equal_on_ranks` are left alone: its room makes them alike.
    """
    if world_size() == 1:
        return
    averaged = {
        id(buffer)
        for part in module.modules()
        if isinstance(part, _BatchNorm) and part.training
        for buffer in (part.running_mean, part.running_var)
        if buffer is not None
    }
    equal = {
        id(b)
        for part in module.modules()
        if getattr(part, "equal_on_ranks", False)
        for b in part.buffers(recurse=False)
    }
    buffers = sorted((b for b in module.buffers() if id(b) not in equal), key=lambda buffer: str(buffer.dtype))
    for _, group in groupby(buffers, key=lambda buffer: buffer.dtype):
        members = list(group)
        own = [m if id(m) in averaged or rank() == 0 else torch.zeros_like(m) for m in members]
        flat = torch.cat([m.flatten() for m in own])
        if flat.dtype == torch.bool:
            flat = flat.to(torch.uint8)
        dist.all_reduce(flat)
        for buffer, total in zip(members, flat.split([m.numel() for m in members]), strict=True):
            value = total / world_size() if id(buffer) in averaged else total
            buffer.copy_(value.view_as(buffer))


def broadcast_module(module: nn.Module) -> None:
    """Give every rank the weights and buffers that rank 0 has, for a module made during training."""
    if world_size() == 1:
        return
    for tensor in [*module.parameters(), *module.buffers()]:
        dist.broadcast(tensor.detach(), src=0)


def check_ranks_agree(module: nn.Module) -> None:
    """Compare a bitwise checksum of all weights and buffers over ranks.

    Raises:
        ZooError: some tensor differs between ranks; its name is in the message.
    """
    if world_size() == 1:
        return
    named = [*module.named_parameters(), *module.named_buffers()]
    sums = torch.stack([_bits(tensor.detach()).sum(dtype=torch.int64) for _, tensor in named])
    lowest, highest = sums.clone(), sums.clone()
    dist.all_reduce(lowest, op=dist.ReduceOp.MIN)
    dist.all_reduce(highest, op=dist.ReduceOp.MAX)
    differing = [name for (name, _), same in zip(named, (lowest == highest).tolist(), strict=True) if not same]
    if differing:
        raise ZooError(
            f"The ranks' weights have drifted apart in {len(differing)} tensors, first {differing[0]!r}. A gradient or a buffer was "
            "changed without the player's synchronisation; resume from the last checkpoint after mending it."
        )


def gather_plain(value: object) -> list[object]:
    """What each rank holds (tensors and plain values), as a list by rank, on every rank."""
    if world_size() == 1:
        return [value]
    gathered: list[object] = [None] * world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def _bits(tensor: Tensor) -> Tensor:
    views = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return (
        tensor.contiguous().view(views[tensor.element_size()]) if tensor.dtype != torch.bool else tensor.to(torch.int8)
    )


def unique_parameters(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    """All parameters of some modules, in order, each once."""
    return list({id(p): p for module in modules for p in module.parameters()}.values())
