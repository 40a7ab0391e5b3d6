"""How many scenes a second one core makes, with their true translations: `python tests/benchmarks/scenes.py`."""

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import sys
import time

import torch

from datamodules import Scenes


def main(size: int = 64, count: int = 2000) -> None:
    """Print samples of the validation set and of training batches per second.

    Args:
        size: of the scenes in pixels.
        count: samples to make.
    """
    torch.set_num_threads(1)
    data = Scenes(task="pairs", domains=("plain", "striped", "dotted", "checked"), size=size, batch_size=16)
    maker, domains = data.maker, len(data.maker.domains)
    start = time.perf_counter()
    for index in range(count):
        first, second = index % domains, (index + 1) % domains
        maker.paint(index, (first, maker.style(index, first)), (second, maker.style(index + 1, second)))
    print(f"{count / (time.perf_counter() - start):.0f} scenes/s with their counterpart and masks, {size}x{size}")
    stream = iter(data.train_dataloader())
    start = time.perf_counter()
    for _ in range(count // 16):
        next(stream)
    passed = time.perf_counter() - start
    print(f"{16 * (count // 16) / passed:.0f} samples/s of task 'pairs' as batches of 16 (three pictures each)")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
