"""What enlarging a picture takes: seconds and the largest memory of the process, by HiDT's enhancement.

    OMP_NUM_THREADS=1 .venv/bin/python tests/benchmarks/enlarge.py [--longer-side 4000] [--tile 256] [--channels 48]

Networks have random weights, for neither depends on what they learnt. The picture is made, of 3 by 2, and the result has its size, up to
multiples of 64. The memory before the first network runs stands beside the largest one, and so does what the result itself takes.
"""

import argparse
import resource
import time

import torch
from torch.nn import functional as F

from zoo.hidt.enhancement import HiDTEnhancer

MEBIBYTE = 2**20


def memory() -> float:
    """The largest resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Enlarge once and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--longer-side", type=int, default=4000, help="of picture and result, in pixels")
    parser.add_argument("--tile", type=int, default=256, help="side of a tile in pixels of the stack")
    parser.add_argument("--channels", type=int, default=48, help="of the translator's first layers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    height, width = round(options.longer_side * 2 / 3), options.longer_side
    coarse = torch.rand(1, 3, 8, 12) * 2 - 1
    picture = F.interpolate(coarse, (height, width), mode="bilinear")
    model = HiDTEnhancer("random", options.channels, perceptual=None, tile=options.tile).eval()
    before, start = memory(), time.perf_counter()
    result = model.translate(picture, latent=torch.zeros(1, 3), resolution=height)
    seconds = time.perf_counter() - start
    size = " x ".join(str(side) for side in result.shape[:1:-1])
    own = result.numel() * result.element_size() / MEBIBYTE
    print(f"{width} x {height} to {size}, tiles of {options.tile}, {options.channels} channels: {seconds:.0f} s")
    print(f"largest memory {memory():,.0f} MiB, {before:,.0f} MiB before; the result itself takes {own:,.0f} MiB")


if __name__ == "__main__":
    main()
