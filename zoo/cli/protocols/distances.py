"""Distances of sets of pictures: FID and KID of two folders or of a model's translations, and SIFID of patches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.cli.parser import CommandParser
from zoo.cli.protocols.base import Job, Measured, Protocol, usage
from zoo.cli.protocols.reading import (
    AS_SAVED,
    Reader,
    add_reading,
    add_translating,
    fingerprint,
    own_folder,
    pictures_in,
    reader_of,
    translations_of,
)
from zoo.errors import ZooError
from zoo.experts.inception_tensorflow import FEATURES, TensorFlowInception, prepare
from zoo.experts.inception_tensorflow import WEIGHTS as TENSORFLOW
from zoo.metrics import sifid
from zoo.metrics.frechet import frechet_distance_of_samples
from zoo.metrics.kernel_distance import SUBSETS, kernel_distances, subset_size

SAID_EVERY = 500  # pictures between two lines about how far it is

# FID and KID ---------------------------------------------------------------------------------------------------------


def features_of(
    network: TensorFlowInception, pictures: Iterable[Tensor], batch: int, say: Callable[[str], None]
) -> Tensor:
    """Features of pictures of any sizes, n d float32, on the CPU.

    Args:
        network: the extractor.
        pictures: uint8 1 3 h w each.
        batch: pictures at a time.
        say: called with a line now and then.

    Raises:
        ZooError: the extractor gives something else than numbers.
    """
    device = next(network.parameters()).device
    rows: list[Tensor] = []
    waiting: list[Tensor] = []

    def look() -> None:
        with torch.no_grad():
            rows.append(network(torch.cat(waiting).to(device)).float().cpu())
        waiting.clear()

    for number, picture in enumerate(pictures, start=1):
        waiting.append(prepare(picture))
        if len(waiting) == batch:
            look()
        if number % SAID_EVERY == 0:
            say(f"{number} pictures")
    if waiting:
        look()
    found = torch.cat(rows)
    if not found.isfinite().all():
        raise ZooError("The extractor gives features that are no finite numbers: its file holds no trained network.")
    return found


def measure_distances(job: Job) -> Measured:
    """FID and KID, or KID alone, of two folders or of a model's translations and a folder."""
    options, with_frechet = job.options, job.protocol.name == "fid-tf2015"
    sources, real, reader, split = _two_sets(job)
    if options.batch < 1:
        raise ZooError(f"--batch is {options.batch}; expected 1 or more.")
    if options.count is not None and not 2 <= options.count <= len(sources):
        raise ZooError(
            f"--count is {options.count}; it must lie between 2 and {len(sources)}, the pictures that there are."
        )
    count = len(sources) if options.count is None else options.count
    size = subset_size(count, len(real), options.subset_size)
    if options.subsets < 1:
        raise ZooError(f"--subsets is {options.subsets}; expected 1 or more, such as --subsets {SUBSETS}.")
    job.refuse_missing()
    model = None if options.generated else translations_of(job, sources, reader)
    found = job.extractor(TENSORFLOW)
    network = TensorFlowInception()
    network.load_weights(found.path)
    network.to(job.device)

    def look(pictures: Iterable[Tensor]) -> Tensor:
        return features_of(network, pictures, options.batch, job.say)

    def chosen(seed: int) -> list[int]:
        order = torch.randperm(len(sources), generator=torch.Generator().manual_seed(seed))
        return order[:count].sort().values.tolist()

    job.say(f"features of {len(real)} real pictures")
    wanted = look(map(reader, real))
    styled = model is not None and model.draws_anything
    drawn = count < len(sources) or styled
    once: Tensor | None = None
    if not styled:
        job.say(f"features of {len(sources)} {'generated pictures' if model is None else 'translations'}")
        once = look(map(reader, sources) if model is None else (made for (made,) in model.made(job.seeds[0])))
    kernel: list[float] = []
    spreads: list[float] = []
    frechet: list[float] = []
    for seed in job.seeds:
        if once is not None:
            rows = once[chosen(seed)] if drawn else once
        else:
            assert model is not None
            job.say(f"seed {seed}: {count} translations")
            rows = look(made for (made,) in model.made(seed, [sources[place] for place in chosen(seed)]))
        distances = kernel_distances(rows, wanted, size=size, subsets=options.subsets, seed=seed)
        kernel.append(float(distances.mean()))
        spreads.append(float(distances.std()) if len(distances) > 1 else 0.0)
        if with_frechet and (drawn or not frechet):
            frechet.append(frechet_distance_of_samples(rows, wanted))
    names = ("kid", "fid") if found.published else ("kernel_distance", "frechet_distance")
    figures: dict[str, float | list[float]] = {names[0]: kernel, f"{names[0]}_spread_of_subsets": spreads}
    if with_frechet:
        figures[names[1]] = frechet if drawn else frechet[0]
    remarks = (
        []
        if found.published
        else [f"{found.path.name} is {found.state}. These are distances of its features, and neither FID nor KID."]
    )
    if with_frechet and min(count, len(real)) < FEATURES:
        remarks.append(
            f"{min(count, len(real))} pictures on one side are fewer than the {FEATURES} features: their covariance has no full rank, and "
            f"{names[1]} is too large, the more so the fewer they are. Look at {names[0]}."
        )
    return Measured(
        figures,
        {"generated": count, "real": len(real)},
        data={**split, "fingerprints": [fingerprint(sources), fingerprint(real)]},
        settings={
            "pictures": reader.words,
            "kernel": f"polynomial of degree 3, {options.subsets} pairs of subsets of {size} each, unbiased",
            "drawn_by_seed": [
                "subsets of the kernel distance",
                *(["which pictures count"] if count < len(sources) else []),
                *(["what the model draws: styles, exemplars, noise"] if styled else []),
            ],
        },
        remarks=remarks,
        name="" if found.published else ("frechet-distance" if with_frechet else "kernel-distance"),
    )


def _two_sets(job: Job) -> tuple[list[Path], list[Path], Reader, dict[str, Any]]:
    """Pictures to look at or to translate, the real ones, how both are read, and where they come from."""
    options = job.options
    if (options.run is None) == (options.generated is None):
        raise ZooError(
            f"{job.protocol.name} measures a folder (--generated FOLDER) or a model's translations (its run), one of the two. "
            f"Usage: {usage(job.protocol)}"
        )
    if options.generated is not None:
        if extra := [f"--{name}" for name in ("source", "to", "reference", "data") if getattr(options, name)]:
            raise ZooError(
                f"{extra[0]} is for translations of a run, and --generated gives pictures: leave one of them out."
            )
        if options.real is None:
            raise ZooError(f"What are they to be compared with? Type --real FOLDER. Usage: {usage(job.protocol)}")
        reader = reader_of(options, {})
        made, real = pictures_in(options.generated, "generated"), pictures_in(options.real, "real")
        return made, real, reader, {"generated": options.generated, "real": options.real}
    settings: Mapping[str, Any] = job.own_preparation()
    if options.data or options.source is None or options.real is None:
        node = job.data_node("UnpairedFolders", "configs/data/horse2zebra.yaml, or --source FOLDER --real FOLDER")
        settings = node["init_args"]
    folder, split = own_folder(settings, "source", options.source)
    other, other_split = own_folder(settings, "real", options.real)
    data = {"source": folder, "real": other, "split": {"source": split, "real": other_split}}
    return pictures_in(folder, "source"), pictures_in(other, "real"), reader_of(options, settings), data


def _add_distances(parser: CommandParser) -> None:
    parser.add_argument("--generated", help="folder of generated pictures, in place of a run")
    parser.add_argument("--real", help="folder of the pictures to compare with (the run's test pictures of the target)")
    add_translating(parser)
    add_reading(parser)
    parser.add_argument("--count", type=int, help="so many of the generated pictures, drawn for each seed (all)")
    parser.add_argument("--subsets", type=int, default=SUBSETS, help=f"pairs of subsets of KID ({SUBSETS})")
    parser.add_argument("--subset-size", type=int, help="pictures of a subset (1000; of fewer pictures, half)")
    parser.add_argument("--batch", type=int, default=32, help="pictures that the network looks at at a time (32)")


# SIFID ---------------------------------------------------------------------------------------------------------------


def measure_sifid(job: Job) -> Measured:
    """SIFID of generated pictures, each with the real one that it belongs to."""
    options = job.options
    if options.real is None or options.generated is None:
        raise ZooError(
            f"Two sides are compared: --real PICTURE_OR_FOLDER --generated FOLDER. Usage: {usage(job.protocol)}"
        )
    real, generated = pictures_in(options.real, "real"), pictures_in(options.generated, "generated")
    pairs = sifid.pairs_of(Path(options.real).expanduser(), Path(options.generated).expanduser())
    job.refuse_missing()
    found = job.extractor(sifid.WEIGHTS)
    name = "sifid" if found.published else "patch_frechet_distance"
    figures, details = {}, {}
    for reading in [options.reading] if options.reading else list(sifid.DEPTH):
        features = sifid.PatchFeatures(reading)
        features.load_weights(found.path)
        each = sifid.measure(features, pairs)
        figures[f"{name}_{reading}"] = sum(each.values()) / len(each)
        details[f"{name}_{reading}"] = {str(path): value for path, value in each.items()}
    return Measured(
        figures,
        {"real": len(real), "generated": len(generated)},
        data={
            "real": options.real,
            "generated": options.generated,
            "fingerprints": [fingerprint(real), fingerprint(generated)],
        },
        details={"pictures": details},
        remarks=[]
        if found.published
        else [f"{found.path.name} is {found.state}. This is a distance of its features, and not SIFID."],
        name="" if found.published else "patch-frechet-distance",
    )


def _add_sifid(parser: CommandParser) -> None:
    parser.add_argument("--real", help="the training picture, or a folder of them")
    parser.add_argument("--generated", help="generated pictures, paired with the real ones by name")
    parser.add_argument(
        "--reading",
        choices=list(sifid.DEPTH),
        help="64 channels before the first pooling (code) or 192 (paper); by default both",
    )


TF2015 = {
    "network": "Inception v3 of TensorFlow, 2015, in pytorch-fid's conversion; 2048 features before the classifier",
    "resize": "to 299x299, bilinear, corners not aligned",
    "antialias": False,
    "rounding": AS_SAVED,
    "decoding": "RGB, upright, transparent parts on white",
    "accumulation": "float64",
}

PROTOCOLS = (
    Protocol(
        "fid-tf2015",
        "how far generated pictures are from real ones: KID first, then FID, as most papers measure them",
        "(RUN --source FOLDER | --generated FOLDER) --real FOLDER",
        "kid: mean over subsets; its spread over subsets; fid",
        measure_distances,
        (TENSORFLOW,),
        {**TF2015, "covariance": "divided by n - 1, nothing added"},
        _add_distances,
        takes_data=True,
        example="lightning evaluate --protocol fid-tf2015 --generated translated --real data/horse2zebra/testB",
    ),
    Protocol(
        "kid-tf2015",
        "the same without FID: what small sets can be compared by",
        "(RUN --source FOLDER | --generated FOLDER) --real FOLDER",
        "kid: mean over subsets; its spread over subsets",
        measure_distances,
        (TENSORFLOW,),
        TF2015,
        _add_distances,
        takes_data=True,
        example="lightning evaluate runs/cyclegan/<name> --protocol kid-tf2015",
    ),
    Protocol(
        "sifid",
        "how far the patches of a generated picture are from those of its one training picture (SinGAN)",
        "--real PICTURE --generated FOLDER",
        "sifid_code, sifid_paper: means over pictures, in two readings",
        measure_sifid,
        (sifid.WEIGHTS,),
        {
            "network": "first layers of torchvision's Inception v3",
            "resize": "none",
            "antialias": False,
            "range": "[-1, 1]",
        },
        _add_sifid,
        takes_run=False,
        example="lightning evaluate --protocol sifid --real photo.jpg --generated made",
    ),
)
