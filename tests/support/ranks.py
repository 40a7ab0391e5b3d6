"""Runs a function in several processes that talk over gloo, as torchrun would start them."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


def on_ranks(function: Callable[..., Any], *arguments: Any, ranks: int = 2, timeout: float = 240) -> list[Any]:
    """Call `function(rank, *arguments)` on each rank; its results (tensors as lists or arrays, plain values) by rank."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "lightning.pytorch"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pipes, processes = [], []
    for rank in range(ranks):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_child, args=(theirs, rank, ranks, port, function, arguments))
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    try:
        answers = [pipe.recv() if pipe.poll(timeout) else ("error", "no answer in time") for pipe in pipes]
    finally:
        for process in processes:
            process.join(10)
            process.kill()
    for kind, value in answers:
        if kind == "error":
            raise AssertionError(value)
    return [value for _, value in answers]


def _child(pipe: Connection, rank: int, ranks: int, port: int, function: Callable[..., Any], arguments: Any) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    import torch

    torch.set_num_threads(1)
    try:
        pipe.send(("result", function(rank, *arguments)))
    except BaseException:
        pipe.send(("error", traceback.format_exc()))
