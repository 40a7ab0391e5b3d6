"""What enlarging a picture takes: seconds and the largest memory of the process, by HiDT's enhancement.

    OMP_NUM_THREADS=1 .venv/bin/python tests/benchmarks/enlarge.py [--longer-side 4000] [--tile 256] [--channels 48] [--quick]

Networks have random weights, for neither depends on what they learnt. The picture is made, of 3 by 2, and the result has its size, up to
multiples of 64. The memory before the first network runs stands beside the largest one, and so does what the result itself takes. With
--quick, one crop of the 16 is translated and one tile, of the middle, is enhanced, with stack and result in their full sizes: all others
take the same memory, and as much time each, but tiles at the border less.
"""

import argparse
import resource
import time

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.hidt.enhancement import HiDTEnhancer
from zoo.hidt.enhancer import Window, translated_crops
from zoo.hidt.pictures import CROPS, stacked, to_pixels

MEBIBYTE = 2**20


def memory() -> float:
    """The largest resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@torch.no_grad()
def quickly(model: HiDTEnhancer, picture: Tensor, resolution: int) -> Tensor:
    """One crop and one tile, and as much memory as the whole takes; the result is empty elsewhere."""
    start = time.process_time()
    crops = translated_crops(model.translator, to_pixels(picture[0]), torch.zeros(1, 3), resolution, model.noisy)
    stack = stacked([next(crops)] * CROPS**2)
    print(
        f"a crop of {stack.shape[3]} x {stack.shape[2]}: {time.process_time() - start:.0f} s, {memory():,.0f} MiB so far"
    )
    start = time.process_time()
    height, width = stack.shape[2:]
    result = torch.zeros(1, 3, CROPS * height, CROPS * width)
    top, left = max(0, (height - model.tile) // 2), max(0, (width - model.tile) // 2)
    own = Window(top, left, min(height, top + model.tile), min(width, left + model.tile))
    own.times(CROPS).of(result).copy_(model.enhancer.forward_of(stack, own))
    print(f"a tile of {model.tile}: {time.process_time() - start:.0f} s, {memory():,.0f} MiB so far")
    return result


def main() -> None:
    """Enlarge once and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--longer-side", type=int, default=4000, help="of picture and result, in pixels")
    parser.add_argument("--tile", type=int, default=256, help="side of a tile in pixels of the stack")
    parser.add_argument("--channels", type=int, default=48, help="of the translator's first layers")
    parser.add_argument("--quick", action="store_true", help="translate one crop and enhance one tile")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    height, width = round(options.longer_side * 2 / 3), options.longer_side
    coarse = torch.rand(1, 3, 8, 12) * 2 - 1
    picture = F.interpolate(coarse, (height, width), mode="bilinear")
    model = HiDTEnhancer("random", options.channels, perceptual=None, tile=options.tile).eval()
    before, start = memory(), time.process_time()
    zero = torch.zeros(1, 3)
    result = (
        quickly(model, picture, height) if options.quick else model.translate(picture, latent=zero, resolution=height)
    )
    seconds = time.process_time() - start
    size = " x ".join(str(side) for side in result.shape[:1:-1])
    own = result.numel() * result.element_size() / MEBIBYTE
    share = ", one crop and one tile" if options.quick else ""
    print(
        f"{width} x {height} to {size}, tiles of {options.tile}, {options.channels} channels{share}: {seconds:.0f} s of one core"
    )
    print(f"largest memory {memory():,.0f} MiB, {before:,.0f} MiB before; the result itself takes {own:,.0f} MiB")


if __name__ == "__main__":
    main()
