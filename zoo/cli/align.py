"""`lightning align IMAGES... --output DIR`: faces brought to where CelebA-HQ's are, for models that were trained on such."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from datamodules.pictures import BadPictureError, decode
from zoo.cli.parser import CommandParser
from zoo.cli.translate import find_pictures, free_name, pick_device
from zoo.core.images import save_png
from zoo.errors import ZooError
from zoo.experts.face_alignment import MEAN_WEIGHTS, align_face, mean_landmarks
from zoo.experts.fan import FAN
from zoo.experts.fan import WEIGHTS as FAN_WEIGHTS
from zoo.weights.fetch import fetch
from zoo.weights.preflight import missing_weights


def run(arguments: Sequence[str]) -> int:
    """Run `lightning align`.

    Returns:
        0, or 1 if some pictures could not be read (the others are aligned all the same).

    Raises:
        ZooError: something a person can mend.
    """
    options = parse(arguments)
    pictures = find_pictures(options.images)
    taken: set[str] = set()
    outputs = []
    for picture in pictures:
        name = free_name(picture, taken)
        taken.add(name)
        outputs.append(options.output / f"{name}.png")
    there = [path for path in outputs if path.exists()]
    if there and not options.overwrite:
        raise ZooError(f"{there[0]} is there already ({len(there)} such files). Give another --output, or --overwrite.")
    wanted_files = {options.landmarks or FAN_WEIGHTS: "--landmarks", options.mean or MEAN_WEIGHTS: "--mean"}
    if missing := [line for source, option in wanted_files.items() for line in missing_weights(source, option)]:
        raise ZooError(" ".join(missing))
    wanted = mean_landmarks(Path(options.mean) if options.mean else fetch(MEAN_WEIGHTS), options.size)
    fan = FAN()
    fan.load_weights(Path(options.landmarks) if options.landmarks else fetch(FAN_WEIGHTS))
    fan.to(pick_device(options.device))
    failed = 0
    for picture, output in zip(pictures, outputs, strict=True):
        try:
            save_png(align_face(fan, decode(picture), wanted, options.size), output)
        except BadPictureError as error:
            failed += 1
            print(f"lightning: left out {picture}: {error}", file=sys.stderr)
            continue
        print(f"{picture} -> {output}", flush=True)
    print(f"{len(pictures) - failed} of {len(pictures)} faces are aligned, in {options.output}")
    return 1 if failed else 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line.

    Raises:
        ZooError: an option is unknown or a word is missing.
    """
    parser = CommandParser(
        prog="lightning align",
        synopsis="IMAGES... --output DIR",
        description="Align faces as those of CelebA-HQ are. Pictures have to be cropped roughly around the face already.",
        epilog="Example: lightning align photos/faces --output aligned",
    )
    parser.add_argument("images", nargs="+", help="picture files, folders (searched through) and patterns")
    parser.add_argument("--output", type=Path, required=True, help="folder for the aligned faces, PNG files")
    parser.add_argument("--size", type=int, default=256, help="side of the results in pixels, a multiple of 256 (256)")
    parser.add_argument("--landmarks", help="file of FAN's weights (default: the published one, downloaded)")
    parser.add_argument("--mean", help="file of the mean landmarks (default: the published one, downloaded)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there already")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps; auto takes the best there is")
    return parser.parse_args(list(arguments))
