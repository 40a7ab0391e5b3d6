"""`lightning labels FOLDER --output DIR`: which class each pixel of a pile of pictures is of, for trainings that want to know."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from datamodules.errors import DataError
from datamodules.folders import EXTENSIONS, find_pictures
from datamodules.landscapes import LABEL_SUFFIX, NO_CLASS
from datamodules.pictures import BadPictureError, decode
from zoo.cli.parser import CommandParser
from zoo.cli.translate import pick_device
from zoo.core.files import write_atomically
from zoo.errors import ZooError
from zoo.experts.segmentation import Network, SegmentationNetwork

SIDE = 520


def run(arguments: Sequence[str]) -> int:
    """Run `lightning labels`.

    Returns:
        0, or 1 if some pictures could not be read (the others have labels all the same).

    Raises:
        ZooError: something a person can mend.
    """
    options = parse(arguments)
    try:
        pictures = find_pictures([options.images], "images")
    except DataError as error:  # its advice is for trainings
        raise ZooError(f"{options.images} holds no picture ({' '.join(EXTENSIONS)}).") from error
    root = options.images.expanduser().absolute()
    jobs = {picture: label_path(picture, root, options.output) for picture in pictures}
    refuse_clashes(jobs)
    waiting = {picture: label for picture, label in jobs.items() if options.overwrite or not label.exists()}
    if len(waiting) < len(jobs):
        print(f"{len(jobs) - len(waiting)} of {len(jobs)} pictures have labels already; --overwrite makes them again.")
    network = build(options)
    device = pick_device(options.device)
    pixels = np.zeros(NO_CLASS + 1, np.int64)
    failed = 0
    for number, (picture, label) in enumerate(waiting.items(), start=1):
        try:
            image = torch.from_numpy(decode(picture).copy()).permute(2, 0, 1)[None]
        except BadPictureError as error:
            failed += 1
            print(f"lightning: left out {picture}: {error}", file=sys.stderr)
            continue
        labels = network.label_maps(image.to(device))[0].cpu().numpy()
        save_labels(labels, label)
        pixels += np.bincount(labels.ravel(), minlength=len(pixels))
        print(f"{number}/{len(waiting)}  {picture} -> {label}", flush=True)
    report(pixels, network.classes, options, len(waiting) - failed)
    return 1 if failed else 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line.

    Raises:
        ZooError: an option is unknown or a word is missing.
    """
    parser = CommandParser(
        prog="lightning labels",
        synopsis="FOLDER --output DIR",
        description="Label the pixels of all pictures of a folder by a segmentation network, for --data.labels of datamodules.Landscapes.",
        epilog="Example: lightning labels data/landscapes --output data/landscape_labels. The published networks know Pascal VOC's "
        "classes, to which sky and ground are background; --weights takes a file of the same network for other classes.",
    )
    parser.add_argument("images", type=Path, help="folder of pictures (searched through)")
    parser.add_argument(
        "--output", type=Path, required=True, help="folder for the labels, PNG files in the same folders"
    )
    parser.add_argument("--network", choices=get_args(Network), default="deeplabv3_resnet50", help="torchvision's")
    parser.add_argument("--weights", type=Path, help="a file of the network's weights (default: the published ones)")
    parser.add_argument("--side", type=int, default=SIDE, help=f"shorter side that the network sees (default: {SIDE})")
    parser.add_argument("--overwrite", action="store_true", help="make labels again that are there already")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps; auto takes the best there is")
    options = parser.parse_args(list(arguments))
    if options.side < 32:
        raise ZooError(f"--side is {options.side}; expected at least 32 pixels, such as --side {SIDE}.")
    if options.output.exists() and not options.output.is_dir():
        raise ZooError(f"--output {options.output} is a file; expected a folder (it is made when missing).")
    if not options.images.expanduser().is_dir():
        raise ZooError(f"{options.images} is no folder of pictures.")
    if options.images.expanduser().resolve() in [options.output.resolve(), *options.output.resolve().parents]:
        raise ZooError(
            f"--output {options.output} lies in the folder of the pictures, where labels would be taken for pictures. Give another one."
        )
    return options


def build(options: argparse.Namespace) -> SegmentationNetwork:
    """The network that was asked for.

    Raises:
        ZooError: its weights cannot be had.
    """
    if options.weights is not None:
        return SegmentationNetwork.of_file(options.weights, options.network, options.side)
    if lacking := SegmentationNetwork.missing({"network": options.network}):
        raise ZooError(f"{' '.join(lacking)} Or give a file: --weights FILE")
    return SegmentationNetwork(options.network, side=options.side)


def label_path(picture: Path, root: Path, output: Path) -> Path:
    """Where the labels of a picture below a root go."""
    return (output / picture.relative_to(root)).with_suffix(LABEL_SUFFIX)


def refuse_clashes(jobs: dict[Path, Path]) -> None:
    """Refuse pictures that differ in their endings alone, whose labels would be one file."""
    owner: dict[Path, Path] = {}
    for picture, label in jobs.items():
        if (other := owner.setdefault(label, picture)) != picture:
            raise ZooError(f"{other} and {picture} would share the labels {label}. Rename one of the pictures.")


def save_labels(labels: NDArray[np.uint8], path: Path) -> None:
    """Write labels, uint8 `h w`, as a grey PNG file, whole or not at all."""
    content = io.BytesIO()
    Image.fromarray(labels).save(content, format="PNG")
    write_atomically(path, content.getvalue())


def report(pixels: NDArray[np.int64], classes: int, options: argparse.Namespace, made: int) -> None:
    """Say what was found, and how a training takes it."""
    found = np.flatnonzero(pixels[:NO_CLASS])
    if made:
        largest = sorted(found, key=lambda number: -pixels[number])[:5]
        shares = ", ".join(f"{number} ({pixels[number] / pixels.sum():.0%})" for number in largest)
        print(f"{made} pictures are labelled, in {options.output}. Classes by area: {shares}")
        if len(found) == 1:
            print(
                f"All of it is of class {found[0]}: such labels teach a training nothing. Take weights that know your pictures' regions."
            )
    print(f"Train with them: --data.labels {options.output} --data.classes {classes} --model.mask_channels {classes}")
