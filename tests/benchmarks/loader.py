"""How many pictures a second one core prepares for training, with and without the cache, from folders and from shards.

    OMP_NUM_THREADS=1 taskset -c 0 .venv/bin/python tests/benchmarks/loader.py [--folder FOLDER] [--pictures N] [--csv FILE]

Without --folder, 256 x 256 JPEGs of about 20 kB are made. The loader runs in this very process (workers 0), with CycleGAN's
resize to 286 x 286, crop of 256 x 256 and flip; each picture counts, of either domain. The last rows are of GP-UNIT's pairs
(three pictures a sample). Shards need the extra `streaming`. Rates are given by the wall clock and by the time that this process
worked; where they differ, others used the core.
"""

import argparse
import csv
import os
import platform
import tempfile
import time
from collections.abc import Iterable
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from datamodules import BigGANPairs, UnpairedFolders
from datamodules.base import ImageDataModule
from datamodules.folders import PictureSet, find_pictures
from datamodules.pack_shards import pack
from datamodules.preprocess import Transform

CSV = Path(__file__).parents[2] / "runs" / "benchmarks" / "loader.csv"


def make_jpgs(folder: Path, count: int, seed: int) -> None:
    """Pictures with structure at all scales, which compress about as photographs do."""
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for number in range(count):
        picture = np.zeros((256, 256, 3))
        for side, strength in ((4, 50), (16, 25), (64, 10), (256, 4)):
            layer = generator.normal(128, strength, (side, side, 3)).clip(0, 255).astype(np.uint8)
            picture += np.asarray(Image.fromarray(layer).resize((256, 256), Image.Resampling.BICUBIC), float) - 128
        Image.fromarray((picture + 128).clip(0, 255).astype(np.uint8)).save(folder / f"{number:04d}.jpg", quality=90)


class Rate(NamedTuple):
    """Pictures per second.

    Attributes:
        wall: as a person waits.
        cpu: of the time that this process worked.
    """

    wall: float
    cpu: float


def pictures_per_second(module: ImageDataModule, batches: int, per_sample: int = 2) -> Rate:
    """Time a number of batches after a few that are not counted."""
    module.setup("fit")
    stream = iter(module.train_dataloader())
    for _ in islice(stream, 5):
        pass
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in islice(stream, batches):
        pass
    pictures = per_sample * module.batch_size * batches
    return Rate(pictures / (time.perf_counter() - wall), pictures / (time.process_time() - cpu))


def filled(sets: Iterable[PictureSet], transform: Transform) -> Rate:
    """Fill the cache of a module that is set up."""
    wall, cpu, count = time.perf_counter(), time.process_time(), 0
    for pictures in sets:
        for index in range(len(pictures)):
            pictures.resized(index, transform)
        count += len(pictures)
    return Rate(count / (time.perf_counter() - wall), count / (time.process_time() - cpu))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="pictures of your own; both domains are taken from it")
    parser.add_argument("--pictures", type=int, default=200, help="how many to make (default: 200)")
    parser.add_argument("--seconds", type=float, default=10, help="about how long each measurement takes (default: 10)")
    parser.add_argument("--csv", type=Path, default=CSV, help="where the rates are written")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch, "a"), Path(scratch, "b")
        if arguments.folder:
            for number, path in enumerate(find_pictures([arguments.folder], "folder")):
                copy = (source, target)[number % 2] / f"{number:06d}{path.suffix.lower()}"
                copy.parent.mkdir(exist_ok=True)
                copy.write_bytes(path.read_bytes())
        else:
            make_jpgs(source, arguments.pictures // 2, seed=0)
            make_jpgs(target, arguments.pictures // 2, seed=1)
        sizes = [path.stat().st_size for path in find_pictures([source, target], "folder")]
        print(
            f"{len(sizes)} pictures of {np.mean(sizes) / 1000:.0f} kB on average; 286 x 286, crop 256 x 256, one core"
        )

        def unpaired(cache: str | None) -> UnpairedFolders:
            return UnpairedFolders(str(source), str(target), batch_size=4, workers=0, cache=cache)

        rates: dict[str, Rate] = {}
        wall, cpu = time.perf_counter(), time.process_time()
        unpaired(None).setup("fit")
        passed = time.perf_counter() - wall, time.process_time() - cpu
        rates["check of headers"] = Rate(*(len(sizes) / max(seconds, 1e-9) for seconds in passed))
        first = pictures_per_second(unpaired(None), 10)
        batches = max(10, int(arguments.seconds * first.cpu / 8))
        rates["without cache"] = pictures_per_second(unpaired(None), batches)
        cache = str(Path(scratch, "cache"))
        filling = unpaired(cache)
        filling.setup("fit")
        rates["filling the cache"] = filled(filling._sets.values(), filling.transform)
        rates["with a filled cache"] = pictures_per_second(unpaired(cache), batches)

        classes = Path(scratch, "classes")
        for number, path in enumerate(find_pictures([source, target], "folder")):
            copy = classes / f"{number % 4}_class" / f"{number // 4:06d}{path.suffix}"
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
        for folder in classes.iterdir():  # as many of each: pairs share their names
            for path in sorted(folder.iterdir())[len(sizes) // 4 :]:
                path.unlink()

        def pairs(root: Path, cache: str | None = None) -> BigGANPairs:
            return BigGANPairs(pairs=str(root), batch_size=4, workers=0, cache=cache)

        batches = max(10, int(arguments.seconds * first.cpu / 12))
        rates["pairs, folders"] = pictures_per_second(pairs(classes), batches, 3)
        filling_pairs = pairs(classes, cache)
        filling_pairs.setup("fit")
        filled([filling_pairs._sets["pairs"].pictures], filling_pairs.transform)
        rates["pairs, a filled cache"] = pictures_per_second(pairs(classes, cache), batches, 3)
        if find_spec("webdataset"):
            shards = Path(scratch, "shards")
            pack(classes, shards, per_shard=50)
            rates["pairs, shards"] = pictures_per_second(pairs(shards), batches, 3)
        else:
            print("shards are not measured: pip install 'translation-zoo[streaming]'")
        print(f"{'pictures/s':<24}{'wall':>9}{'CPU':>9}")
        for name, rate in rates.items():
            print(f"{name:<24}{rate.wall:>9.0f}{rate.cpu:>9.0f}")
        arguments.csv.parent.mkdir(parents=True, exist_ok=True)
        with arguments.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["what", "pictures_per_second", "pictures_per_cpu_second", "python", "cores"])
            for name, rate in rates.items():
                writer.writerow(
                    [name, round(rate.wall, 1), round(rate.cpu, 1), platform.python_version(), os.cpu_count()]
                )


if __name__ == "__main__":
    main()
