"""Protocols about pictures one by one: how much translations of one picture differ, and whether a map is right."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.errors import DataError
from zoo.cli.parser import CommandParser
from zoo.cli.protocols.base import Job, Measured, Protocol, usage
from zoo.cli.protocols.reading import (
    AS_SAVED,
    add_reading,
    add_translating,
    fingerprint,
    own_folder,
    pictures_in,
    reader_of,
    translations_of,
)
from zoo.cli.translate import draws_styles
from zoo.core.images import from_uint8
from zoo.errors import ZooError
from zoo.experts.lpips import LPIPS, published_channel_weights
from zoo.metrics import map_accuracy
from zoo.metrics.domain_protocol import OUTPUTS, group_distance

LEAST_SIDE = 31  # of what AlexNet's two poolings leave anything of

# LPIPS diversity -----------------------------------------------------------------------------------------------------


def lpips_of(job: Job) -> tuple[LPIPS, bool]:
    """LPIPS with AlexNet's weights, and whether these are the published ones; all files are named in the result."""
    found = job.extractor("alexnet")
    channels = published_channel_weights("alex")
    network = LPIPS()
    network.features.load_weights(found.path)
    network.load_weights(channels)
    job.also_uses("lpips_alex_channels", channels, "version 0.1, as TorchMetrics brings it along")
    return network.to(job.device), found.published


def by_source(pictures: Sequence[Path]) -> dict[str, list[Path]]:
    """Translations by what they are of: `cat_style1.png` and `cat_style2.png` are of `cat`, as `lightning translate` names them.

    Raises:
        ZooError: some have no sibling.
    """
    groups: dict[str, list[Path]] = {}
    for path in pictures:
        stem = re.sub(r"_[^_]+$", "", path.stem)
        groups.setdefault(str(path.parent / stem), []).append(path)
    if alone := [group[0] for group in groups.values() if len(group) < 2]:
        raise ZooError(
            f"{alone[0]} has no other translation of the same picture beside it ({len(alone)} such pictures). Expected are names such as "
            "cat_style1.png and cat_style2.png, as lightning translate --latents 10 --no-sheet writes them."
        )
    return groups


def measure_diversity(job: Job) -> Measured:
    """The mean LPIPS of all pairs of a picture's translations, averaged over pictures."""
    options = job.options
    if (options.run is None) == (options.generated is None):
        raise ZooError(f"Name a run, or the folder of its translations: one of the two. Usage: {usage(job.protocol)}")
    if options.outputs < 2:
        raise ZooError(
            f"--outputs is {options.outputs}; pairs are compared, so it takes at least 2: --outputs {OUTPUTS}"
        )
    groups: dict[str, list[Path]] = {}
    if options.generated is not None:
        reader = reader_of(options, {})
        sources = pictures_in(options.generated, "generated")
        groups = by_source(sources)
    else:
        settings: Mapping[str, Any] = job.own_preparation()
        if options.data or options.source is None:
            node = job.data_node("UnpairedFolders", "configs/data/afhq_cat2dog.yaml, or --source FOLDER")
            settings = node["init_args"]
        folder, split = own_folder(settings, "source", options.source)
        reader, sources = reader_of(options, settings), pictures_in(folder, "source")
    job.refuse_missing()
    model = None if options.generated else translations_of(job, sources, reader)
    if model is not None and not (model.references or draws_styles(model.model)):
        raise ZooError(
            f"{type(model.model).__name__} gives one translation of a picture, so there are no pairs to compare."
        )
    lpips, published = lpips_of(job)

    def apart(pictures: Sequence[Tensor], of: str) -> float:
        if len({picture.shape for picture in pictures}) > 1:
            raise ZooError(f"The translations of {of} differ in size. Type --size 256")
        if min(pictures[0].shape[-2:]) < LEAST_SIDE:
            raise ZooError(f"{of} has sides below {LEAST_SIDE} pixels, which AlexNet cannot look at. Type --size 64")
        with torch.no_grad():
            return float(group_distance(lpips, [from_uint8(picture).to(job.device) for picture in pictures]))

    name = "lpips" if published else "perceptual_distance"
    if model is None:
        distances = [apart([reader(path) for path in paths], of) for of, paths in groups.items()]
        figures: dict[str, float | list[float]] = {name: sum(distances) / len(distances)}
        counts = {"sources": len(groups), "translations": sum(map(len, groups.values()))}
        data = {"generated": options.generated}
    else:
        per_seed = []
        for seed in job.seeds:
            job.say(f"seed {seed}: {len(sources)} pictures, {options.outputs} translations each")
            distances = [
                apart(made, str(path))
                for path, made in zip(sources, model.made(seed, outputs=options.outputs), strict=True)
            ]
            per_seed.append(sum(distances) / len(distances))
        figures = {name: per_seed}
        counts = {"sources": len(sources), "translations": len(sources) * options.outputs}
        data = {"split": split, "source": folder}
    return Measured(
        figures,
        counts,
        data={**data, "fingerprints": [fingerprint(sources)]},
        settings={"pictures": reader.words},
        remarks=[]
        if published
        else ["The extractor is not the published one: this is a distance of its features, and not LPIPS."],
        name="" if published else "perceptual-diversity",
    )


def _add_diversity(parser: CommandParser) -> None:
    parser.add_argument(
        "--generated", help="folder of translations named cat_style1.png, cat_style2.png, ..., in place of a run"
    )
    add_translating(parser)
    parser.add_argument("--outputs", type=int, default=OUTPUTS, help=f"translations of each picture ({OUTPUTS})")
    add_reading(parser)


# Maps ----------------------------------------------------------------------------------------------------------------


def measure_maps(job: Job) -> Measured:
    """The share of right pixels of maps made of satellite pictures, beside what a translator has to beat."""
    options = job.options
    try:
        pairs = map_accuracy.find_pairs(options.source, options.target)
    except DataError as error:
        raise ZooError(str(error).replace("--data.", "--")) from error
    model = None if options.run is None else job.model()
    reader = reader_of(options, {"size": 256})
    report = map_accuracy.measure(
        pairs,
        model,
        size=reader.size or 256,
        interpolation=reader.interpolation,
        tolerance=options.tolerance,
        say=job.say,
    )
    figures = {
        f"{row}/{reading}": value for row, readings in report["accuracy"].items() for reading, value in readings.items()
    }
    return Measured(
        figures,
        {"pairs": len(pairs)},
        data={
            "split": "test",
            "source": options.source,
            "target": options.target,
            "fingerprints": [fingerprint(side) for side in zip(*pairs, strict=True)],
        },
        settings={"pictures": reader.words, "tolerance": options.tolerance},
        text=map_accuracy.format_report(report),
        shown=("-",),
    )


def _add_maps(parser: CommandParser) -> None:
    parser.add_argument(
        "--source", default="data/maps/testA", help="folder of the satellite pictures (data/maps/testA)"
    )
    parser.add_argument(
        "--target", default="data/maps/testB", help="folder of their true maps, under the same names (data/maps/testB)"
    )
    add_reading(parser)
    parser.add_argument(
        "--tolerance",
        type=float,
        default=map_accuracy.TOLERANCE,
        help=f"largest difference that counts as right, of 0 to 255 ({map_accuracy.TOLERANCE})",
    )


PROTOCOLS = (
    Protocol(
        "lpips-diversity",
        "how much several translations of one picture differ; more is more diverse",
        "(RUN --source FOLDER | --generated FOLDER)",
        "lpips: mean over all pairs of a picture's translations, then over pictures",
        measure_diversity,
        ("alexnet",),
        {"network": "LPIPS 0.1 with AlexNet", "resize": "none", "antialias": False, "rounding": AS_SAVED},
        _add_diversity,
        takes_data=True,
        example="lightning evaluate runs/gpunit/<name> --protocol lpips-diversity --source photos/cat",
    ),
    Protocol(
        "map",
        "accuracy of maps made from satellite pictures (UNIT), beside what a model has to beat",
        "[RUN] [--source FOLDER --target FOLDER]",
        "share of pixels within 16 of the true map, in three readings",
        measure_maps,
        (),
        {"network": "none", "antialias": True, "rounding": AS_SAVED},
        _add_maps,
        example="lightning evaluate runs/unit/<name> --protocol map --source data/maps/testA --target data/maps/testB",
    ),
)
