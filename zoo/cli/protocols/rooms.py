"""Protocols that particular papers measure by, with the numbers of pictures, the splits and the networks that are theirs."""

from __future__ import annotations

from typing import Any, Literal, cast

from datamodules.aligned import Crop
from datamodules.class_folders import class_pictures
from datamodules.digits import DOMAINS
from datamodules.errors import DataError
from zoo.cli.parser import CommandParser
from zoo.cli.protocols.base import Job, Measured, Protocol
from zoo.cli.protocols.distances import TF2015
from zoo.cli.protocols.pictures import lpips_of
from zoo.cli.protocols.reading import fingerprint
from zoo.errors import ZooError
from zoo.experts.inception import WEIGHTS as INCEPTION
from zoo.experts.inception import InceptionFeatures
from zoo.experts.inception_tensorflow import WEIGHTS as TENSORFLOW
from zoo.experts.inception_tensorflow import TensorFlowInception
from zoo.experts.lpips import published_channel_weights
from zoo.experts.lpips_vgg import VGGLPIPS
from zoo.metrics import digit_codes, digits, domain_protocol, latent_codes
from zoo.metrics.path_length import Crop as FaceCrop
from zoo.weights.files import read_file

NOT_PUBLISHED = "An extractor is not the published one: these are distances of its features, and no {}."


# StarGAN v2 ----------------------------------------------------------------------------------------------------------


def measure_starganv2(job: Job) -> Measured:
    """FID and LPIPS over all ordered pairs of domains."""
    options = job.options
    wanted: list[str] = options.figures or ["lpips", "fid"]
    needs = [domain_protocol.NEEDS[figure] for figure in wanted]
    if options.outputs < 2 or options.batch < 1:
        raise ZooError(
            f"--outputs is {options.outputs} and --batch {options.batch}; pairs of translations are compared, so expected are 2 and 1 at "
            f"least: --outputs {domain_protocol.OUTPUTS} --batch {domain_protocol.BATCH}"
        )
    for option in ("train", "test"):
        if getattr(options, option) is None:
            raise ZooError(
                f"Both training and test pictures are needed, a folder per domain in each: --{option} FOLDER"
            )
    job.refuse_missing(*needs)
    try:
        found = {option: class_pictures(getattr(options, option), option) for option in ("train", "test")}
    except DataError as error:
        raise ZooError(str(error).replace("--data.", "--")) from error
    model = job.model()
    domain_protocol.require_protocol(model, options.kinds)
    size = int(getattr(model, "image_size", 256))
    train, test = (
        {name: domain_protocol.Folder(paths, size) for name, paths in found[option].items()}
        for option in ("train", "test")
    )
    lpips, features, names = None, None, {"lpips": "lpips", "fid": "fid"}
    if "lpips" in wanted:
        lpips, published = lpips_of(job)
        names["lpips"] = "lpips" if published else "perceptual_distance"
    if "fid" in wanted:
        extractor = job.extractor(INCEPTION)
        features = InceptionFeatures()
        features.load_weights(extractor.path)
        features.to(job.device)
        names["fid"] = "fid" if extractor.published else "frechet_distance"
    reports = []
    for seed in job.seeds:
        job.say(f"seed {seed}")
        model.draws.seed = seed
        reports.append(
            domain_protocol.measure(
                model,
                train,
                test,
                domain_protocol.Measures(lpips, features),
                kinds=options.kinds,
                outputs=options.outputs,
                batch=options.batch,
                seed=seed,
                say=job.say,
            )
        )
    figures = {
        f"{kind}/{names[figure]}": [report[kind][figure]["mean"] for report in reports]
        for kind in options.kinds
        for figure in wanted
    }
    counts = {f"{name}, {option}": len(paths) for option, sets in found.items() for name, paths in sets.items()}
    official = set(names.values()) == {"lpips", "fid"}
    return Measured(
        figures,
        {**counts, "translations of each picture": options.outputs},
        data={
            "train": options.train,
            "test": options.test,
            "split": "translations of test against training pictures",
            "fingerprints": [
                fingerprint([path for paths in sets.values() for path in paths]) for sets in found.values()
            ],
        },
        settings={"batch": options.batch, "size": size, "kinds": list(options.kinds)},
        details={"pairs by seed": reports},
        remarks=[] if official else [NOT_PUBLISHED.format("FID or LPIPS")],
        name="" if official else "distances-of-all-pairs",
    )


def _add_starganv2(parser: CommandParser) -> None:
    parser.add_argument("--train", help="training pictures, a folder per domain")
    parser.add_argument("--test", help="test pictures, a folder per domain")
    kinds = ("latent", "reference")
    parser.add_argument("--kinds", nargs="+", choices=kinds, default=list(kinds), help="styles (latent reference)")
    parser.add_argument("--figures", nargs="+", choices=("fid", "lpips"), help="what to measure (both)")
    outputs, batch = domain_protocol.OUTPUTS, domain_protocol.BATCH
    parser.add_argument("--outputs", type=int, default=outputs, help=f"translations of each picture ({outputs})")
    parser.add_argument("--batch", type=int, default=batch, help=f"pictures at a time ({batch})")


# ALAE: codes of pictures ---------------------------------------------------------------------------------------------


def measure_codes(job: Job) -> Measured:
    """One of the measures of generative autoencoders."""
    options, protocol = job.options, latent_codes.PROTOCOLS[job.protocol.name]
    if options.count is not None and options.count < 2:
        raise ZooError(f"--count is {options.count}; expected two at least.")
    if protocol.needs_images and not options.images:
        raise ZooError(f"{job.protocol.name} needs pictures of the data. Type --images FOLDER")
    job.run  # noqa: B018 - says so where none is named
    job.refuse_missing()
    model: Any = job.model()
    if not hasattr(model, "map_latent"):
        raise ZooError(f"{type(model).__name__} has no codes to measure; StyleALAE has: zoo/alae.yaml")
    count = protocol.samples if options.count is None else options.count
    pictures = None
    if protocol.needs_images:
        try:
            pictures = latent_codes.read_pictures(
                options.images, model.level_size(model.stage), cast(Crop, options.crop)
            )
        except DataError as error:
            raise ZooError(str(error).replace("--data.", "--")) from error
        if len(pictures) < count:
            raise ZooError(
                f"{count} pictures are asked for, and {len(pictures)} are there: --count {len(pictures)}, or further --images."
            )
    found = job.extractor(protocol.network)
    network: Any
    if protocol.network == TENSORFLOW:
        network = TensorFlowInception()
        network.load_weights(found.path)
    else:
        channels = published_channel_weights("vgg")
        network = VGGLPIPS()
        network.features.load_weights(found.path)
        network.load_weights(read_file(channels))
        job.also_uses("lpips_vgg_channels", channels, "version 0.1, as TorchMetrics brings it along")
    network.to(job.device)
    values = []
    for seed in job.seeds:
        model.draws.seed = seed
        job.say(f"seed {seed}: {count} samples")
        crop: FaceCrop = getattr(options, "face_crop", "face")
        values.append(latent_codes.run_protocol(protocol, model, network, pictures, samples=count, crop=crop))
    official, plain = {
        "fid_generation": ("fid", "frechet_distance"),
        "fid_reconstruction": ("fid", "frechet_distance"),
        "path_length": ("path_length", "path_length_of_features"),
        "lpips": ("lpips", "perceptual_distance"),
    }[protocol.kind]
    name = official if found.published else plain
    remarks = [] if found.published else [NOT_PUBLISHED.format(official)]
    if count != protocol.samples:
        remarks.append(
            f"The protocol says {protocol.samples} samples: a figure of {count} is not to be compared with published ones."
        )
    return Measured(
        {name if count == protocol.samples else f"{name}_of_{count}": values},
        {"samples": count},
        data={}
        if pictures is None
        else {"images": options.images, "fingerprints": [fingerprint(pictures.pictures.paths)]},
        settings={"crop": options.crop}
        if protocol.needs_images
        else {"crop": options.face_crop, "sampling": protocol.sampling},
        remarks=remarks,
        name="" if found.published else plain.replace("_", "-"),
    )


def _add_images(parser: CommandParser) -> None:
    parser.add_argument("--images", nargs="+", help="folders of pictures")
    parser.add_argument("--crop", choices=("middle", "celeba"), default="middle", help="how pictures are cut (middle)")
    parser.add_argument("--count", type=int, help="another number of samples than the protocol's own")


def _add_paths(parser: CommandParser) -> None:
    crops: tuple[Literal["face", "celeba", "none"], ...] = ("face", "celeba", "none")
    parser.add_argument("--face-crop", choices=crops, default="face", help="what is looked at (face)")
    parser.add_argument("--count", type=int, help="another number of paths than the protocol's own")


# Digits --------------------------------------------------------------------------------------------------------------


def measure_digits(job: Job) -> Measured:
    """How well classifiers read the target that learned from translated digits."""
    options = job.options
    node = job.data_node("Digits", "configs/data/digits_mnist2usps.yaml")
    data = job.build(_for_reading(node))
    model = None if options.run is None else job.model()
    report = digits.measure(
        data,
        model,
        to=options.to,
        on=options.on,
        rows=options.rows,
        seeds=job.seeds,
        iterations=options.iterations,
        batch_size=options.batch,
        device=str(job.device),
        say=job.say,
    )
    kept = ("from", "to", "on")
    return Measured(
        dict(report["accuracy"]),
        {"digits": report["digits"], **{f"trained on, {row}": count for row, count in report["trained_on"].items()}},
        data={"split": report["on"], **{name: report[name] for name in kept}, "settings": node["init_args"]},
        settings={"iterations": options.iterations, "batch": options.batch},
        text=digits.format_report(report),
        shown=("-",),
    )


def _for_reading(node: dict[str, Any]) -> dict[str, Any]:
    """A data node without what is about training."""
    settings = {
        name: value for name, value in node["init_args"].items() if name not in {"batch_size", "workers", "download"}
    }
    return {**node, "init_args": settings}


def _add_digits(parser: CommandParser) -> None:
    parser.add_argument("--to", choices=DOMAINS, default="target", help="domain to translate into (target)")
    parser.add_argument("--on", choices=("test", "validation"), default="test", help="digits to read (test)")
    parser.add_argument(
        "--rows", nargs="+", choices=digits.ROWS, default=list(digits.ROWS), help="classifiers to train (all)"
    )
    parser.add_argument("--iterations", type=int, default=1000, help="batches per classifier (1000)")
    parser.add_argument("--batch", type=int, default=64, help="digits per batch (64)")


def measure_digit_codes(job: Job) -> Measured:
    """How well two classifiers read codes of digits."""
    count = job.options.count
    if count is not None and count < 2:
        raise ZooError(f"--count is {count}; expected two digits at least, such as --count 1000.")
    job.run  # noqa: B018 - says so where none is named
    node = job.data_node("ClassDigits", "zoo/alae_mnist.yaml")
    data = job.build(_for_reading(node))
    model: Any = job.model()
    if not hasattr(model, "features"):
        raise ZooError(
            f"{type(model).__name__} gives no features of digits; an ALAE for digits does: zoo/alae_mnist.yaml"
        )
    report = digit_codes.measure(model, data, count)
    learned = len(data.labelled("train", count)[1])
    return Measured(
        dict(report),
        {"digits learned from": learned},
        data={"split": "held out (same writers) and test (different writers)", "settings": node["init_args"]},
        settings={"svm_strength": digit_codes.SVM_STRENGTH, "svm_iterations": digit_codes.SVM_ITERATIONS},
        text=digit_codes.format_report(report, learned),
        shown=("-",),
    )


def _add_digit_codes(parser: CommandParser) -> None:
    parser.add_argument("--count", type=int, help="read the first so many digits of each part alone")


CODES = {"rounding": "cut to uint8 after a product with 127, in which white is 254, as the official scripts do"}
VGG = {"network": "LPIPS 0.1 with VGG-16", "resize": "averaged down to 256 pixels at most", "antialias": True}

PROTOCOLS = (
    Protocol(
        "starganv2",
        "StarGAN v2's evaluation: quality and diversity over all ordered pairs of domains",
        "RUN --train FOLDER --test FOLDER",
        "latent/lpips, latent/fid, reference/lpips, reference/fid: means over pairs",
        measure_starganv2,
        (domain_protocol.NEEDS["lpips"], INCEPTION),
        {
            "network": "torchvision's Inception v3 with ImageNet's weights (fid); LPIPS 0.1 with AlexNet (lpips)",
            "resize": "to the model's size, then to 299x299 (fid), bilinear by PIL",
            "antialias": True,
            "rounding": "uint8, as in PNG files (fid); none (lpips)",
            "comparable": "with StarGAN v2's tables alone",
        },
        _add_starganv2,
        example="lightning evaluate runs/starganv2/<name> --protocol starganv2 --train data/afhq/train --test data/afhq/val",
    ),
    Protocol(
        "ppl",
        "perceptual path length between codes w, anywhere on a path (StyleGAN, ALAE)",
        "RUN",
        "path_length: mean without outliers",
        measure_codes,
        ("vgg16",),
        {**VGG, "rounding": "none"},
        _add_paths,
        example="lightning evaluate runs/alae/<name> --protocol ppl",
    ),
    Protocol(
        "ppl-end",
        "the same at the beginning of each path",
        "RUN",
        "path_length: mean without outliers",
        measure_codes,
        ("vgg16",),
        {**VGG, "rounding": "none"},
        _add_paths,
    ),
    Protocol(
        "alae-fid-generation",
        "FID of drawings against pictures of the data, as ALAE's script measures it",
        "RUN --images FOLDER...",
        "fid",
        measure_codes,
        (TENSORFLOW,),
        {**TF2015, **CODES},
        _add_images,
    ),
    Protocol(
        "alae-fid-reconstruction",
        "FID of reconstructions against the pictures that they are of",
        "RUN --images FOLDER...",
        "fid",
        measure_codes,
        (TENSORFLOW,),
        {**TF2015, **CODES},
        _add_images,
    ),
    Protocol(
        "alae-lpips-reconstruction",
        "LPIPS of reconstructions to the pictures that they are of",
        "RUN --images FOLDER...",
        "lpips",
        measure_codes,
        ("vgg16",),
        {**VGG, **CODES},
        _add_images,
    ),
    Protocol(
        "digits",
        "what a classifier that learned from translated digits reads rightly, beside source-only and target-only ones",
        "[RUN] [--data OVERLAY]",
        "accuracy of each",
        measure_digits,
        settings={"network": "a classifier trained for each seed", "rounding": "translations are rounded to uint8"},
        add_options=_add_digits,
        takes_data=True,
        example="lightning evaluate runs/sat/<name> --protocol digits",
    ),
    Protocol(
        "digit-codes",
        "what a nearest neighbour and a linear support vector machine read off codes of digits (ALAE)",
        "RUN [--data OVERLAY]",
        "accuracy of each, by the same and by different writers",
        measure_digit_codes,
        settings={"network": "the model's encoder", "rounding": "none"},
        add_options=_add_digit_codes,
        takes_data=True,
        example="lightning evaluate runs/alae_mnist/<name> --protocol digit-codes",
    ),
)
