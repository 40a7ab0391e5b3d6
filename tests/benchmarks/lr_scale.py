"""ConSinGAN's claim: a larger `lr_scale`, the rate of earlier stages, raises quality and lowers diversity. One table.

    python tests/benchmarks/lr_scale.py --pictures scene:0 scene:1 photo.jpg --max-size 64 --iterations 500

Quality is the Frechet distance of patch features (`zoo.metrics.sifid`): with Inception's weights (`--weights`) it is SIFID; without, its
layers are random, and the distance is called what it is. Diversity is the deviation of pixels over samples, in those of the picture.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from lightning.pytorch import Trainer, seed_everything

from datamodules import SingleImage
from zoo.blocks.single_image import pixel_diversity
from zoo.callbacks.grow_scales import GrowScales
from zoo.cli.fit import quieten
from zoo.consingan import ConSinGAN
from zoo.metrics.sifid import PatchFeatures, sifid


def train(picture: str, lr_scale: float, options: argparse.Namespace) -> ConSinGAN:
    """Train a small ConSinGAN on a picture."""
    seed_everything(options.seed, verbose=False)
    model = ConSinGAN(
        channels=options.channels,
        stages=options.stages,
        min_size=options.min_size,
        max_size=options.max_size,
        lr_scale=lr_scale,
        stage_iterations=options.iterations,
        decay_iteration=int(0.8 * options.iterations),
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator="auto",
            devices=1,
            max_steps=-1,
            max_epochs=-1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[GrowScales(grids=False)],
            default_root_dir=folder,
        )
        trainer.fit(model, datamodule=SingleImage(picture, size=options.max_size, seed=options.seed))
    return model.eval().cpu()


def measure(model: ConSinGAN, features: PatchFeatures, count: int) -> tuple[float, float]:
    """Mean distance of samples to the picture, and their diversity."""
    picture, samples = model.reals[-1], model.sample(count)
    distances = [float(sifid(features, picture, sample)) for sample in samples]
    return sum(distances) / count, float(pixel_diversity(samples, picture))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table in Markdown; returns the exit code."""
    parser = argparse.ArgumentParser(description="Quality and diversity of ConSinGAN by lr_scale.")
    parser.add_argument("--pictures", nargs="+", default=["scene:0", "scene:1"], help="files, or scene:<number>")
    parser.add_argument("--lr-scales", nargs="+", type=float, default=[0.1, 0.3, 0.5])
    parser.add_argument("--iterations", type=int, default=500, help="per stage")
    parser.add_argument("--stages", type=int, default=5)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--min-size", type=int, default=16)
    parser.add_argument("--max-size", type=int, default=64)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, help="torchvision's inception_v3 file")
    options = parser.parse_args(arguments)
    quieten()
    torch.set_num_threads(1)
    features = PatchFeatures("code")
    if options.weights is not None:
        features.load_weights(options.weights)
    name = "SIFID" if options.weights is not None else "distance of random features"
    print(f"| picture | lr_scale | {name} | pixel diversity |\n| --- | --- | --- | --- |", flush=True)
    for picture in options.pictures:
        for lr_scale in options.lr_scales:
            distance, diversity = measure(train(picture, lr_scale, options), features, options.samples)
            print(f"| {Path(picture).name} | {lr_scale:g} | {distance:.4g} | {diversity:.3g} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
