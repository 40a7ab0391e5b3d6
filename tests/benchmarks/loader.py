"""How many pictures a second one core prepares for training, with and without the cache.

    OMP_NUM_THREADS=1 taskset -c 0 .venv/bin/python tests/benchmarks/loader.py [--folder FOLDER] [--pictures N]

Without --folder, 256 x 256 JPEGs of about 20 kB are made. The loader runs in this very process (workers 0), with CycleGAN's
resize to 286 x 286, crop of 256 x 256 and flip; each picture counts, of either domain.
"""

import argparse
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from datamodules import UnpairedFolders
from datamodules.folders import find_pictures


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


def pictures_per_second(module: UnpairedFolders, batches: int) -> float:
    """Time a number of batches after a few that are not counted."""
    module.setup("fit")
    stream = iter(module.train_dataloader())
    for _ in islice(stream, 5):
        pass
    begin = time.perf_counter()
    for _ in islice(stream, batches):
        pass
    return 2 * module.batch_size * batches / (time.perf_counter() - begin)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="pictures of your own; both domains are taken from it")
    parser.add_argument("--pictures", type=int, default=200, help="how many to make (default: 200)")
    parser.add_argument("--seconds", type=float, default=10, help="about how long each measurement takes (default: 10)")
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

        def module(cache: str | None) -> UnpairedFolders:
            return UnpairedFolders(str(source), str(target), batch_size=4, workers=0, cache=cache)

        begin = time.perf_counter()
        module(None).setup("fit")
        print(f"check of headers      {len(sizes) / (time.perf_counter() - begin):8.0f} files/s")
        rate = pictures_per_second(module(None), 10)
        batches = max(10, int(arguments.seconds * rate / 8))
        print(f"without cache         {pictures_per_second(module(None), batches):8.0f} pictures/s")
        cache = str(Path(scratch, "cache"))
        filling = module(cache)
        filling.setup("fit")
        begin = time.perf_counter()
        for name in ("source", "target"):
            pictures = filling._sets[name]
            for index in range(len(pictures)):
                pictures.resized(index, filling.transform)
        print(f"filling the cache     {len(sizes) / (time.perf_counter() - begin):8.0f} pictures/s")
        print(f"with a filled cache   {pictures_per_second(module(cache), batches):8.0f} pictures/s")


if __name__ == "__main__":
    main()
