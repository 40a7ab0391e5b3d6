"""How fast BigGAN's pictures are drawn here, and what the whole of synImageNet291 would cost.

    OMP_NUM_THREADS=1 .venv/bin/python tests/benchmarks/generate.py [NETWORK ...] [--folder FOLDER] [--tflops 10]

Generators have random weights, for their time does not depend on what they learnt; they draw in eval mode as `lightning generate pairs`
does, in full float32. Operations are those of convolutions and matrix products, a multiply-add is 2. What the whole set costs on GPUs is
arithmetic, no measurement: the operations of drawing and scoring 291 classes of 6,000 latent vectors and of finding the objects of 655 of
them (figures of GP-UNIT's authors), over a throughput that is assumed, --tflops. The size of PNG files is that of photographs or, without
--folder, of made pictures that compress about as photographs do.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import yaml
from driving import Flops
from loader import make_jpgs
from PIL import Image
from torch import Tensor

from datamodules.folders import find_pictures
from zoo.biggan import BigGAN
from zoo.biggan.pairs import SYN_IMAGENET_291, full_precision, resolve_domains
from zoo.cli.pair_files import encoded
from zoo.core.images import from_pil, to_uint8
from zoo.experts.mask_rcnn import MaskRCNN
from zoo.experts.vgg_classifier import VGGClassifier

ROOT = Path(__file__).parents[2]
CLASSES = len(resolve_domains(["syn_imagenet_291"], 1000))
DRAWN, KEPT = 6000, 655  # latent vectors, of the authors of GP-UNIT
SIDE = 128
BATCH = 8
TFHUB_256: dict[str, Any] = {"image_size": 256, "latent_channels": 140, "generator_attention": [128]}


def settings(*names: str) -> dict[str, Any]:
    """The model's arguments in a recipe and its overlays."""
    merged: dict[str, Any] = {}
    for name in names:
        merged |= yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))["model"]["init_args"]
    return merged


NETWORKS: dict[str, Callable[[], dict[str, Any]]] = {
    "demo": lambda: settings("zoo/biggan.yaml", "configs/demo/biggan.yaml"),
    "biggan_128": lambda: settings("zoo/biggan.yaml"),
    "biggan_256": lambda: settings("zoo/biggan.yaml") | TFHUB_256,
    "biggan_deep_128": lambda: settings("zoo/biggan_deep.yaml"),
}


def gflops(call: Callable[[], object]) -> float:
    """10^9 floating-point operations of a call."""
    with Flops() as flops:
        call()
    return flops.total / 1e9


@torch.no_grad()
def measure(arguments: dict[str, Any], seconds: float) -> dict[str, float]:
    """Draw pictures for some seconds.

    Returns:
        Pictures per second by the wall clock and by this process' CPU time, GFLOP per picture, millions of weights.
    """
    smallest = {"discriminator_channels": 8, "discriminator_multipliers": (1, 1), "discriminator_attention": ()}
    model = BigGAN(**{**arguments, **smallest, "ema_decay": 0.0}).eval()
    latent = torch.randn(BATCH, model.latent_channels, generator=torch.Generator().manual_seed(0))
    label = torch.arange(BATCH) % model.classes

    def draw() -> Tensor:
        return to_uint8(model.generate(latent, label))

    with full_precision(latent.device):
        operations = gflops(draw) / BATCH
        begin, cpu, rounds = time.perf_counter(), time.process_time(), 0
        while rounds < 2 or time.perf_counter() - begin < seconds:
            draw()
            rounds += 1
    wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
    weights = sum(p.numel() for p in model.generator.parameters()) / 1e6
    return {"wall": rounds * BATCH / wall, "cpu": rounds * BATCH / cpu, "gflop": operations, "weights": weights}


def files(folder: Path | None, count: int = 100) -> dict[str, float]:
    """Bytes of pictures of 128x128 as PNG, and how many a second are encoded."""
    with tempfile.TemporaryDirectory() as scratch:
        if folder is None:
            make_jpgs(Path(scratch, "made"), count, seed=0)
        pictures = []
        for path in find_pictures([folder or Path(scratch, "made")], "folder")[:count]:
            with Image.open(path) as picture:
                pictures.append(to_uint8(from_pil(picture.convert("RGB").resize((SIDE, SIDE)))))
    begin = time.process_time()
    sizes = [len(encoded(picture, "PNG")) for picture in pictures]
    return {"bytes": mean(sizes), "rate": len(pictures) / (time.process_time() - begin), "count": len(pictures)}


@torch.no_grad()
def experts() -> dict[str, float]:
    """GFLOP per picture of 128x128 of what scores pictures and of what finds their objects, with random weights."""
    noise = torch.randint(0, 256, (1, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    classifier, detector = VGGClassifier(pretrained=False), MaskRCNN(pretrained=False)
    return {
        "VGG-19": gflops(lambda: classifier.probabilities(noise)),
        "Mask R-CNN": gflops(lambda: detector.instance_maps(noise)),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(NETWORKS)} (default: all)")
    parser.add_argument("--seconds", type=float, default=20, help="that each network draws (default: 20)")
    parser.add_argument("--folder", type=Path, help="photographs whose size as PNG is measured")
    parser.add_argument(
        "--tflops", type=float, default=10, help="assumed throughput of a GPU, 10^12 a second (default: 10)"
    )
    options = parser.parse_args()
    if unknown := set(options.networks) - set(NETWORKS):
        parser.error(f"there is no network {', '.join(sorted(unknown))}; choose of {', '.join(NETWORKS)}")
    print(
        f"{'generator':<18}{'M weights':>10}{'GFLOP':>9}{'pictures/s':>12}{'per CPU s':>11}   {torch.get_num_threads()} threads"
    )
    drawn = {}
    for name in options.networks or NETWORKS:
        found = drawn[name] = measure(NETWORKS[name](), options.seconds)
        print(
            f"{name:<18}{found['weights']:>10.1f}{found['gflop']:>9.2f}{found['wall']:>12.2f}{found['cpu']:>11.2f}",
            flush=True,
        )
    looked, png = experts(), files(options.folder)
    print(", ".join(f"{name} {operations:.1f} GFLOP" for name, operations in looked.items()), "a picture")
    print(
        f"PNG of {png['count']:.0f} pictures at {SIDE}x{SIDE}: {png['bytes'] / 1000:.1f} kB, {png['rate']:.0f} encoded a CPU second"
    )
    count, kept = CLASSES * DRAWN, CLASSES * KEPT
    print(
        f"synImageNet291: {CLASSES} classes ({', '.join(SYN_IMAGENET_291)}), {count:,} pictures drawn, {kept:,} kept,"
    )
    print(f"  {kept * png['bytes'] / 1e9:.1f} GB of PNG at {SIDE}x{SIDE}")
    for name, found in drawn.items():
        if name == "demo":
            continue
        parts = {
            "drawing": count * found["gflop"],
            "scoring": count * looked["VGG-19"],
            "masks": kept * looked["Mask R-CNN"],
        }
        hours = {part: operations / options.tflops / 1e3 / 3600 for part, operations in parts.items()}
        said = ", ".join(f"{part} {value:.2f} h" for part, value in hours.items())
        one = sum(hours.values())
        print(
            f"  {name}: {said}: {one:.1f} h on one GPU at {options.tflops:g} TFLOP/s (assumed), {one / 8:.1f} h on eight; "
            f"drawing alone {count / found['cpu'] / 3600:,.0f} h on one thread here"
        )


if __name__ == "__main__":
    main()
