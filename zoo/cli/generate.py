"""`lightning generate pairs`: pictures of one latent vector in several classes, as GP-UNIT's first stage learns from them."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from zoo.biggan.pairs import PairGenerator
from zoo.cli.fit import quieten
from zoo.cli.pair_files import BLOCK, MANIFEST, MASKS, PairFolder, Quality, Tasks, Work
from zoo.cli.pair_scores import SCORES, Score, chosen_score, refuse_other_than_scenes, scorer
from zoo.cli.parser import CommandParser
from zoo.cli.suggest import did_you_mean
from zoo.cli.translate import pick_device
from zoo.errors import ZooError
from zoo.experts.mask_rcnn import MaskRCNN
from zoo.experts.vgg_classifier import VGGClassifier
from zoo.metrics.judge import object_iou
from zoo.metrics.scene_objects import SceneObjects
from zoo.weights.preflight import missing_weights

THINGS = {
    "pairs": "lightning generate pairs --weights CHECKPOINT --domains CLASS... --per-domain N --out DIR",
    "correlation": "lightning generate correlation --weights CHECKPOINT --domains CLASS...",
}
"""What can be generated, and how it is typed."""
MASKERS = ("none", "judge", "mask_rcnn")
KEPT_BY_DEFAULT = 0.65  # where there is a score, and no least one
WRITERS = 4


def run(arguments: Sequence[str]) -> int:
    """Run `lightning generate`.

    Returns:
        0.

    Raises:
        ZooError: something a person can mend.
    """
    quieten()
    thing, *rest = arguments or [""]
    if thing in ("-h", "--help"):
        thing, rest = "pairs", ["--help"]
    if thing not in THINGS:
        asked = f", not {thing!r}.{did_you_mean(thing, THINGS)}" if thing else "; say which."
        raise ZooError(f"generate makes {' and '.join(THINGS)}{asked} Usage: {THINGS['pairs']}")
    options = parse(thing, rest)
    if lacking := lacks(options):
        raise ZooError(" ".join(lacking))
    source = PairGenerator(
        options.weights,
        options.domains,
        tuple(options.truncation),
        seed=options.seed,
        bound=options.bound or None,
        statistics=options.statistics,
        batch_size=options.batch_size,
    )
    source.setup()
    device = pick_device(device_name(options.device))
    return correlate(source, device, options) if thing == "correlation" else generate(source, device, options)


def parse(thing: str, arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line.

    Raises:
        ZooError: an option is unknown, out of range, or missing.
    """
    parser = CommandParser(
        prog=f"lightning generate {thing}",
        synopsis=THINGS[thing].removeprefix("lightning generate "),
        description="Draw pictures of one latent vector in several classes: <out>/<class>_<kind>/<n>.png, the same n for the same vector. "
        "A command that was stopped is gone on with by the same command."
        if thing == "pairs"
        else "Measure on rendered scenes how far two classes of one latent vector share their layout, against pairs of strangers.",
        epilog="Examples: lightning generate pairs --weights biggan_deep_128 --domains syn_imagenet_291 --truncation 0.5 1.0 "
        "--per-domain 600 --masks mask_rcnn --out data/synImageNet291/train. Test pictures: the same with another --seed and --out."
        if thing == "pairs"
        else None,
    )
    parser.add_argument(
        "--weights",
        required=True,
        help="a checkpoint, a run's folder, an official G_ema.pth, or published weights by name",
    )
    parser.add_argument(
        "--domains",
        required=True,
        nargs="+",
        help="classes: 7, 7_bird, 151-160, names such as striped, all, or syn_imagenet_291",
    )
    parser.add_argument(
        "--truncation", nargs="+", type=float, default=[1.0], help="of the latent vectors, in turn (default: 1.0)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the latent vectors (default: 0)")
    parser.add_argument(
        "--bound", type=float, default=2.0, help="latent vectors lie within it; 0 for none (default: 2)"
    )
    parser.add_argument(
        "--statistics",
        choices=("auto", "standing", "running"),
        default="auto",
        help="of batch norms (default: published, else standing)",
    )
    parser.add_argument("--batch-size", type=int, default=64, help="pictures drawn at a time (default: 64)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps; auto takes the best there is")
    if thing == "pairs":
        parser.add_argument("--per-domain", type=int, required=True, help="pictures of each class")
        parser.add_argument(
            "--out", type=Path, required=True, help=f"folder for the pictures; masks go to <out>{MASKS}"
        )
        parser.add_argument(
            "--keep",
            type=float,
            help=f"share of the latent vectors that is kept, the best of every {BLOCK} (default: {KEPT_BY_DEFAULT} where there is a score)",
        )
        parser.add_argument(
            "--score",
            choices=SCORES,
            default="auto",
            help="what ranks them: the weights' own discriminator; vgg19, by the probability of ImageNet's class; the judge, by "
            "that of the scenes' look (default: a discriminator, where the weights bring one)",
        )
        parser.add_argument(
            "--least-score",
            type=float,
            help="leave out latent vectors whose mean score over the classes is lower, also where fewer than --per-domain remain: a "
            "probability, or a discriminator's logit (default: none; with it, --keep is 1)",
        )
        parser.add_argument("--masks", choices=MASKERS, default="none", help="what finds the objects (default: none)")
        parser.add_argument(
            "--shard",
            default=None,
            help="do the i-th of n parts, i/n (default: this process' among torchrun's or SLURM's)",
        )
    else:
        parser.add_argument("--count", type=int, default=256, help="latent vectors (default: 256)")
    options = parser.parse_args(list(arguments))
    for option in ("per_domain", "batch_size", "count"):
        if getattr(options, option, 1) < 1:
            raise ZooError(f"--{option.replace('_', '-')} is {getattr(options, option)}; it must be at least 1.")
    if thing == "pairs" and options.out.is_file():
        raise ZooError(f"--out {options.out} is a file; expected a folder (it is made when missing).")
    if thing == "pairs" and options.keep is not None and not 0 < options.keep <= 1:
        raise ZooError(
            f"--keep is {options.keep}; it is a share, above 0 and up to 1, such as --keep {KEPT_BY_DEFAULT}."
        )
    return options


def lacks(options: argparse.Namespace) -> list[str]:
    """What the command needs and this machine lacks, before any work."""
    found = missing_weights(options.weights, "--weights")
    found += VGGClassifier.missing({}) if getattr(options, "score", "") == "vgg19" else []
    return found + (MaskRCNN.missing({}) if getattr(options, "masks", "") == "mask_rcnn" else [])


def shard_of(given: str | None, environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Which part of the work is this process', counted from 0, and how many there are.

    Raises:
        ZooError: `given` is no part of a whole.
    """
    if given is None:
        for rank, world in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")):
            if rank in environment and world in environment:
                return int(environment[rank]), int(environment[world])
        return 0, 1
    part, _, parts = given.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise ZooError(f"--shard is {given!r}; expected a part of the whole, such as --shard 1/4 up to --shard 4/4.")
    return int(part) - 1, int(parts)


def device_name(given: str, environment: Mapping[str, str] = os.environ) -> str:
    """The device of this process: where several run on a machine with GPUs, each takes its own."""
    if given == "auto" and "LOCAL_RANK" in environment and torch.cuda.is_available():
        return f"cuda:{int(environment['LOCAL_RANK']) % torch.cuda.device_count()}"
    return given


def quality_of(
    source: PairGenerator, score: Score, keep: float | None, least: float | None
) -> tuple[Score, Quality | None]:
    """What ranks pictures, and the filter that was asked for; none for none.

    Raises:
        ZooError: a share is to be kept, and nothing can say which.
    """
    asked = "" if least is None else f"--least-score {least}"
    if keep is not None and keep < 1:
        asked = f"--keep {keep}"
    score = chosen_score(score, source, asked)
    if score == "none":
        return score, None
    share = (KEPT_BY_DEFAULT if least is None else 1.0) if keep is None else keep
    return (score, Quality(share, least)) if share < 1 or least is not None else ("none", None)


def finder(name: str, domains: Sequence[str], device: torch.device) -> Callable[[Tensor], Tensor] | None:
    """What makes masks.

    Raises:
        ZooError: the scenes' judge is asked about other pictures than scenes.
    """
    if name == "mask_rcnn":
        return MaskRCNN().to(device).instance_maps
    if name == "judge":
        refuse_other_than_scenes(domains, "--masks judge", "Give --masks mask_rcnn, or none.")
        return SceneObjects().instance_maps
    return None


def generate(source: PairGenerator, device: torch.device, options: argparse.Namespace) -> int:
    """Draw, write, rank and mask this process' part."""
    score, quality = quality_of(source, options.score, options.keep, options.least_score)
    part, parts = shard_of(options.shard)
    settings = {
        **source.settings(),
        "size": source.image_size,
        "score": score,
        "keep": quality.share if quality else 1.0,
        "least_score": quality.least if quality else None,
        "block": BLOCK,
    }
    rank = scorer(score, source, device)
    if options.masks == "judge":
        finder("judge", source.names(), device)  # refuses before anything is written
    folder = PairFolder(
        options.out, settings, source.names(), options.per_domain, source.truncations, quality, options.masks
    )
    find = finder(folder.masks, source.names(), device)
    mine = range(part, folder.blocks, parts)
    latents = sum(min(folder.kept_per_block, folder.per_domain - block * folder.kept_per_block) for block in mine)
    total = latents * len(folder.names) * (1 if find is None else 2)
    kept = ""
    if quality:
        least = "" if quality.least is None else f" whose score is {quality.least} or more"
        kept = f", of {BLOCK} latent vectors the best {quality.per_truncation}{least} kept by {score}"
    print(
        f"{len(folder.names)} classes, {folder.per_domain} pictures each, drawn by {source.weights}{kept}, to {options.out}"
    )
    if parts > 1:
        print(f"This is part {part + 1} of {parts}: {latents} latent vectors")
    start = time.monotonic()
    with (
        tqdm(total=total, unit="picture", file=sys.stderr, disable=None) as bar,
        ThreadPoolExecutor(WRITERS) as pool,
    ):
        work = Work(folder, source, device, options.batch_size, rank, find, bar.update, Tasks(pool))
        for block in mine:
            work.do(block)
    seconds = time.monotonic() - start
    manifest = folder.finish()
    speed = (
        f"{work.drawn} pictures were drawn in {seconds:.1f} s, {work.drawn / seconds:.1f} a second"
        if work.drawn
        else "nothing was lacking"
    )
    print(f"{speed}; {options.out / MANIFEST} lists {len(manifest['files'])} files")
    if empty := sum(mask["covered"] == 0 for mask in manifest["mask_files"].values()):
        print(f"On {empty} of {len(manifest['mask_files'])} pictures no object was found: their masks are black")
    if not manifest["complete"]:
        print("Not complete yet: other parts are still to be done")
    elif (there := len(manifest["files"]) // len(folder.names)) < folder.per_domain:
        print(
            f"{there} pictures of each class, fewer than the {folder.per_domain} asked for: the other latent vectors score below "
            f"{options.least_score}. For more of them: the same with a larger --per-domain"
        )
    return 0


def correlate(source: PairGenerator, device: torch.device, options: argparse.Namespace) -> int:
    """Print how far classes of one latent vector share their layout."""
    refuse_other_than_scenes(
        source.names(), "lightning generate correlation", "It needs a BigGAN that was trained on scenes."
    )
    print(json.dumps(correlation(source, device, options.count, options.batch_size), indent=1))
    return 0


def correlation(source: PairGenerator, device: torch.device, count: int, batch_size: int = 64) -> dict[str, Any]:
    """Overlap of the objects that the scenes' judge finds in two classes of one latent vector, and in two classes of two.

    Args:
        source: draws; its first `count` latent vectors are measured.
        device: that draws.
        count: latent vectors, two or more.
        batch_size: pictures drawn at a time.

    Returns:
        `one_latent` and `strangers`: mean intersection over union, over all pairs of classes and latent vectors; a stranger is the next
        vector of the same truncation. `found`: share of pictures with an object; `seed`, `latents`, `classes`.

    Raises:
        ZooError: there are too few latent vectors or classes.
    """
    names, step = source.names(), len(source.truncations)
    if len(names) < 2 or count < 2 * step:
        raise ZooError(
            f"A correlation takes two classes and {2 * step} latent vectors or more: --domains all --count 256"
        )
    objects = SceneObjects()
    masks = []
    for domain in range(len(names)):
        found = []
        for start in range(0, count, batch_size):
            numbers = range(start, min(count, start + batch_size))
            found.append(objects.find(source.draw(numbers, torch.full((len(numbers),), domain, device=device))).cpu())
        masks.append(torch.cat(found))  # n 1 64 64
    same, other = [], []
    for first in range(len(names)):
        for second in range(first + 1, len(names)):
            same.append(overlap(masks[first], masks[second]))
            other.append(overlap(masks[first], masks[second].roll(step, 0)))
    return {
        "one_latent": round(float(torch.cat(same).mean()), 4),
        "strangers": round(float(torch.cat(other).mean()), 4),
        "found": round(float((torch.stack(masks) > 0.5).flatten(2).any(2).float().mean()), 4),
        "seed": source.seed,
        "latents": count,
        "classes": names,
    }


def overlap(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of masks `n 1 h w`, without those pairs in which neither has an object."""
    either = ((first > 0.5) | (second > 0.5)).flatten(1).any(1)
    return object_iou(first, second)[either]
