"""Train the judge of rendered scenes: `python -m zoo.metrics.train_judge`, some minutes on two CPU cores.

Both networks see imperfect pictures too, because they will judge generated ones: slightly blurred, noisy, recoloured,
with faded patterns, checkerboard artefacts or repainted backgrounds; object and look stay what they are. And they see
pictures that must not pass: noise, empty backgrounds, averages of scenes, objects filled with noise, and patterns that
cover the whole picture. Those belong to the last class, which is no look at all.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.metrics.judge import WEIGHTS, Judge, object_iou, save_judge
from zoo.metrics.judge_networks import JUDGED_SIZE, LookClassifier, Segmenter, resized

LOOKS = ("plain", "striped", "dotted", "checked")

HELD_OUT_PAIRS = 1024
"""Pairs of test scenes on which a trained judge is examined."""


class Spoiler:
    """Spoils scenes at random.

    Args:
        none: number of the class that stands for no look.
        seed: of the draws.
    """

    def __init__(self, none: int, seed: int) -> None:
        self.none = none
        self.generator = torch.Generator().manual_seed(seed)

    def _uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=self.generator)

    def _some(self, count: int, share: float) -> Tensor:
        """Which samples are hit: b 1 1 1 of 0 and 1."""
        return (self._uniform(count, 1, 1, 1) < share).float()

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def _patterns(self, count: int) -> Tensor:
        """Stripes or checks in any direction over the whole picture: b 1 64 64 of values in [-1, 1]."""
        at = torch.arange(JUDGED_SIZE) / JUDGED_SIZE
        turn = self._uniform(count, 1, 1, high=2 * math.pi)
        waves = [
            torch.sin(
                2
                * math.pi
                * self._uniform(count, 1, 1, low=3.0, high=9.0)
                * (torch.cos(angle) * at + torch.sin(angle) * at[:, None])
                + self._uniform(count, 1, 1, high=6.3)
            )  # b h w
            for angle in (turn, turn + math.pi / 2)
        ]
        checked = (self._uniform(count, 1, 1) < 0.5).float()
        second = checked * waves[1] + 1 - checked
        return (4 * waves[0] * second).clamp(-1, 1)[:, None]

    def _noise(self, count: int) -> Tensor:
        """Coloured noise, each picture of its own grain: b 3 64 64."""
        grains = [1, 1, 2, 4, 8, 16]
        pick = (self._uniform(count) * len(grains)).long()
        pictures = []
        for i in pick.tolist():
            side = JUDGED_SIZE // grains[i]
            mode = "nearest" if self._uniform(1).item() < 0.4 else "bilinear"
            pictures.append(F.interpolate(self._normal(1, 3, side, side), size=JUDGED_SIZE, mode=mode))
        level, strength = (
            self._uniform(count, 3, 1, 1, low=-0.5, high=0.5),
            self._uniform(count, 1, 1, 1, low=0.35, high=0.9),
        )
        return (level + strength * torch.cat(pictures)).clamp(-1, 1)

    def imperfect(self, image: Tensor, mask: Tensor) -> Tensor:
        """Spoil pictures as a generator would, so that object and look stay recognisable.

        Args:
            image: b 3 64 64 in [-1, 1].
            mask: b 1 64 64 in [0, 1].
        """
        count = len(image)
        mean = (image * mask).sum((2, 3), keepdim=True) / mask.sum((2, 3), keepdim=True).clamp(min=1)
        image = image.lerp(mean, self._some(count, 0.3) * self._uniform(count, 1, 1, 1, high=0.4) * mask)
        backgrounds = image.roll(1, 0)
        backgrounds = _blurred(backgrounds, torch.full((count,), 6.0)) + self._uniform(
            count, 3, 1, 1, low=-0.2, high=0.2
        )
        image = image.lerp(backgrounds, self._some(count, 0.2) * (1 - mask))
        bands = self._uniform(count, 3, 1, 1, low=-0.45, high=0.45) * self._patterns(count)
        image = image + self._some(count, 0.15) * bands * (1 - mask)
        image = _blurred(image, self._some(count, 0.35).flatten() * self._uniform(count, high=1.0))
        half = F.interpolate(resized(image, JUDGED_SIZE // 2), size=JUDGED_SIZE, mode="bilinear", align_corners=False)
        image = image.lerp(half, self._some(count, 0.15))
        coloured = self._some(count, 0.4)
        image = image * (1 + coloured * self._uniform(count, 3, 1, 1, low=-0.25, high=0.2))
        image = image + coloured * self._uniform(count, 3, 1, 1, low=-0.2, high=0.2)
        image = image + self._some(count, 0.4) * self._uniform(count, 1, 1, 1, high=0.2) * self._normal(*image.shape)
        parity = 1 - 2 * ((torch.arange(JUDGED_SIZE)[:, None] + torch.arange(JUDGED_SIZE)) % 2)
        image = image + self._some(count, 0.2) * self._uniform(count, 3, 1, 1, high=0.2) * parity
        return image.clamp(-1, 1)

    def hopeless(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Make pictures that show no look at all.

        Args:
            image: b 3 64 64 in [-1, 1].
            mask: b 1 64 64 in [0, 1].

        Returns:
            The pictures; the masks to be found; b 1 1 1, 0 where there is no right answer for the mask.
        """
        count = len(image)
        nothing = torch.zeros_like(mask)
        # The surroundings closed over the object: a blurred background without it, a little noise for texture.
        around = (F.max_pool2d(mask, 5, 1, 2) < 0.01).float()
        sigma = torch.full((count,), 6.0)
        filled = _blurred(image * around, sigma) / _blurred(around, sigma).clamp(min=1e-3)
        filled = (filled + 0.05 * self._normal(*image.shape)).clamp(-1, 1)
        erased = image.lerp(filled, F.max_pool2d(mask, 3, 1, 1))
        noise = self._noise(count)
        mean = torch.stack([image.roll(i, 0) for i in range(4)]).mean(0)
        grey = mean.mean((2, 3), keepdim=True).expand_as(image)
        first, second = self._uniform(count, 3, 1, 1, low=-1.0), self._uniform(count, 3, 1, 1, low=-1.0)
        everywhere = first.lerp(second, 0.5 + 0.5 * self._patterns(count))
        candidates = [
            (noise, nothing, 1.0),
            (erased, nothing, 1.0),
            (mean, mask, 0.0),
            (grey, nothing, 1.0),
            (image.lerp(noise, mask), mask, 0.0),
            (everywhere, nothing, 1.0),
        ]
        pick = (self._uniform(count) * len(candidates)).long()
        chosen = [candidates[k] for k in pick.tolist()]
        return (
            torch.stack([c[0][i] for i, c in enumerate(chosen)]),
            torch.stack([c[1][i] for i, c in enumerate(chosen)]),
            torch.tensor([c[2] for c in chosen])[:, None, None, None],
        )


def _blurred(image: Tensor, sigma: Tensor) -> Tensor:
    """Blur each picture of `b c h w` with a Gaussian of its own standard deviation in pixels; 0 leaves it as it is."""
    reach = max(1, math.ceil(2.5 * float(sigma.max())))
    at = torch.arange(-reach, reach + 1)
    kernel = torch.exp(-0.5 * (at / sigma[:, None].clamp(min=0.05)) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)  # b k
    count, channels = image.shape[:2]
    kernel = kernel.repeat_interleave(channels, 0)[:, None]
    flat = F.pad(image.flatten(0, 1)[None], (reach,) * 4, mode="replicate")
    flat = F.conv2d(flat, kernel[:, :, None], groups=count * channels)
    return F.conv2d(flat, kernel[..., None], groups=count * channels)[0].unflatten(0, (count, channels))


def _scenes(loader: Any, prepare: Callable[[Any, int], Any]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Both pictures of every pair: image in [-1, 1], look, mask."""
    for batch in loader:
        batch = prepare(batch, 0)
        image, mask = torch.cat((batch["x"], batch["y"])), torch.cat((batch["x_mask"], batch["y_mask"]))
        yield resized(image), torch.cat((batch["x_domain"], batch["y_domain"])), resized(mask)


def examine(judge: Judge, scenes: list[tuple[Tensor, Tensor, Tensor]], seed: int) -> dict[str, float]:
    """Measure a judge on scenes it was not trained on.

    Args:
        judge: of the looks in the order of the labels.
        scenes: images `b 3 64 64` in [-1, 1], looks `b`, masks `b 1 64 64`.
        seed: of the spoiling.

    Returns:
        `look_accuracy` and `object_iou` on the scenes; the same on `imperfect` ones; `refused`, the share of hopeless
        pictures that got no look; `images`, how many scenes were used.
    """
    spoiler = Spoiler(len(judge.domains), seed)
    rows: dict[str, list[Tensor]] = {}
    for image, look, mask in scenes:
        bad = spoiler.imperfect(image, mask)
        hopeless, _, _ = spoiler.hopeless(image, mask)
        (found, looks), (bad_found, bad_looks) = judge.see(image), judge.see(bad)
        for name, value in {
            "look_accuracy": (looks == look).double(),
            "object_iou": object_iou(found, mask),
            "imperfect_look_accuracy": (bad_looks == look).double(),
            "imperfect_object_iou": object_iou(bad_found, mask),
            "refused": (judge.name_looks(hopeless) < 0).double(),
        }.items():
            rows.setdefault(name, []).append(value)
    figures = {name: round(torch.cat(values).mean().item(), 5) for name, values in rows.items()}
    return figures | {"images": float(sum(len(image) for image, _, _ in scenes))}


def train(
    data: str = "datamodules.Scenes", *, size: int = 64, iterations: int = 1400, batch_size: int = 32, seed: int = 0
) -> tuple[Judge, dict[str, float]]:
    """Train both networks from scratch.

    Args:
        data: dotted path of a DataModule class that gives pairs with masks (`x`, `y`, `x_domain`, ..., `y_mask`) and
            takes `task`, `domains`, `size`, `batch_size`, `seed` and `test_count`.
        size: of the rendered scenes in pixels; the networks see them at 64.
        iterations: optimiser steps.
        batch_size: pairs per step; each gives two pictures.
        seed: of data, weights and spoiling.

    Returns:
        The judge and its figures on the test scenes.
    """
    module, _, name = data.rpartition(".")
    scenes = getattr(import_module(module), name)(
        task="pairs", domains=LOOKS, size=size, batch_size=batch_size, seed=seed, test_count=HELD_OUT_PAIRS
    )
    none = len(LOOKS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # channels_last is a quarter faster on a CPU.
        segmenter = Segmenter().to(memory_format=torch.channels_last)
        classifier = LookClassifier(none).to(memory_format=torch.channels_last)
    parameters = [*segmenter.parameters(), *classifier.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=4e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=iterations, pct_start=0.1)
    spoiler = Spoiler(none, seed)
    stream = _scenes(scenes.train_dataloader(), scenes.on_after_batch_transfer)
    start = time.monotonic()
    for iteration in range(iterations):
        image, look, mask = next(stream)
        # Of every batch a fifth is hopeless, a quarter untouched and the rest imperfect.
        lost, clean = len(image) // 5, len(image) // 4
        hopeless, found, counts = spoiler.hopeless(image[:lost], mask[:lost])
        middle = spoiler.imperfect(image[lost:-clean], mask[lost:-clean])
        image = torch.cat((hopeless, middle, image[-clean:])).contiguous(memory_format=torch.channels_last)
        mask = torch.cat((found, mask[lost:]))
        counts = torch.cat((counts, torch.ones(len(mask) - lost, 1, 1, 1)))
        look = torch.cat((torch.full((lost,), none), look[lost:]))
        logits = segmenter(image)
        probability = logits.sigmoid()
        crossed = (counts * F.binary_cross_entropy_with_logits(logits, mask, reduction="none")).mean()
        both, either = (probability * mask).sum((1, 2, 3)), (probability + mask).sum((1, 2, 3))
        dice = (counts.flatten() * (1 - (2 * both + 1) / (either + 1))).mean()
        named = F.cross_entropy(classifier(image, probability.detach()), look)
        optimizer.zero_grad()
        (2 * crossed + dice + named).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        schedule.step()
        if iteration % 100 == 99:
            passed = time.monotonic() - start
            print(
                f"{iteration + 1:5d} of {iterations}, {passed:4.0f} s: mask {crossed.item():.4f} and {dice.item():.4f},"
                f" look {named.item():.4f}",
                file=sys.stderr,
                flush=True,
            )
    judge = Judge(LOOKS, LOOKS, segmenter.half().float(), classifier.half().float(), {})  # as they will be stored
    return judge, examine(judge, list(_scenes(scenes.test_dataloader(), scenes.on_after_batch_transfer)), seed + 1)


def main(arguments: list[str] | None = None) -> None:
    """Train, examine and write the judge.

    Args:
        arguments: of the command line; those of the process when None.
    """
    parser = argparse.ArgumentParser(prog="python -m zoo.metrics.train_judge", description="Train the judge of scenes.")
    parser.add_argument("--data", default="datamodules.Scenes", help="DataModule that gives pairs with masks")
    parser.add_argument("--size", type=int, default=64, help="side of the rendered scenes in pixels")
    parser.add_argument("--iterations", type=int, default=1400)
    parser.add_argument("--batch-size", type=int, default=32, help="pairs per iteration")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=WEIGHTS.parent, help="folder of the weight file")
    options = parser.parse_args(arguments)
    judge, figures = train(
        options.data,
        size=options.size,
        iterations=options.iterations,
        batch_size=options.batch_size,
        seed=options.seed,
    )
    command = (
        f"python -m zoo.metrics.train_judge --data {options.data} --size {options.size} "
        f"--iterations {options.iterations} --batch-size {options.batch_size} --seed {options.seed}"
    )
    save_judge(options.out / WEIGHTS.name, judge, figures, command=command, seed=options.seed)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
