"""Every recipe of the catalogue at toy size: its demo overlay, and small networks, pictures and stages behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from support.digits import noise, write_npz
from support.single_image import draw_picture
from zoo.cli.lookup import PACKAGE
from zoo.core.runs import Run
from zoo.testing import command

ROOT = PACKAGE.parent
SCENES: dict[str, Any] = {"size": 32, "batch_size": 1, "workers": 0, "validation_count": 2, "test_count": 2}


@dataclass(frozen=True)
class Toy:
    """How a recipe is made small, behind its demo overlay.

    Attributes:
        model: arguments of the room.
        data: arguments of the data module.
        demo: the overlay, `configs/demo/<demo>.yaml`; the recipe's own by default.
        iterations, interrupted, use, domain, size: of `check_room`.
    """

    model: dict[str, Any]
    data: dict[str, Any] = field(default_factory=lambda: SCENES)
    demo: str = ""
    iterations: int = 4
    interrupted: int = 2
    use: tuple[str, ...] = ()
    domain: str | None = None
    size: int | None = None


ALAE = Toy(
    {
        "start_channels": 4,
        "most_channels": 8,
        "levels": 3,
        "latent_channels": 8,
        "mapping_layers": 2,
        "truncation_cutoff": 2,
        "epochs_per_level": 3,
        "images_per_epoch": 2,
        "level_rates": [0.005, 0.005, 0.005],
        "level_batches": [2, 2, 2],
        "least_variance": 1.0e-8,
    },
    {**SCENES, "size": 16, "batch_size": 2},
    demo="alae",
)
BIGGAN = Toy(
    {
        "image_size": 32,
        "generator_channels": 2,
        "discriminator_channels": 2,
        "latent_channels": 8,
        "class_channels": 4,
        "discriminator_accumulations": 2,
        "generator_accumulations": 2,
        "ema_start": 1,
    },
    {**SCENES, "batch_size": 4},
    demo="biggan",
    use=("generate", "pairs", "--weights", "{run}", "--domains", "all", "--per-domain", "2", "--out", "{output}"),
)
SINGLE = ("single", "sample", "{run}", "--output", "{output}", "--count", "2")
STARGAN = {
    "image_size": 32,
    "channels": 4,
    "max_channels": 8,
    "style_channels": 4,
    "mapping_channels": 8,
    "landmarks": "random",
    "w_hpf": 0.0,
}
UNIT = {
    "generator_channels": 4,
    "residual_blocks": 1,
    "discriminator_channels": 4,
    "discriminator_layers": 2,
    "decay_interval": 3,
}

TOYS: dict[str, Toy] = {
    "aggan": Toy(
        {
            "generator_channels": 4,
            "residual_blocks": 1,
            "attention_channels": 4,
            "discriminator_channels": 4,
            "discriminator_layers": 2,
            "switch_iteration": 3,
            "pool_size": 2,
        }
    ),
    "alae": ALAE,
    "alae_bedroom": ALAE,
    "alae_celeba": ALAE,
    "alae_celeba_hq256": ALAE,
    "alae_mnist": Toy(
        {"hidden": 8, "latent_channels": 4, "mapping_layers": 2},
        {"root": "DIGITS", "source": "mnist", "held_out": 2, "size": 28, "batch_size": 2, "workers": 0},
    ),
    "biggan": BIGGAN,
    "biggan_deep": BIGGAN,
    "consingan": Toy(
        {
            "channels": 4,
            "stages": 3,
            "min_size": 12,
            "max_size": 24,
            "stage_iterations": 3,
            "decay_iteration": 2,
            "train_depth": 1,
        },
        {"size": 24},
        use=SINGLE,
    ),
    "consingan_harmonize": Toy(
        {
            "channels": 4,
            "stages": 3,
            "min_size": 12,
            "max_size": 24,
            "stage_iterations": 3,
            "decay_iteration": 2,
            "train_depth": 1,
            "hole_sides": [2, 6],
        },
        {"size": 24},
        use=("single", "harmonize", "{run}", "PICTURE", "--output", "{output}"),
    ),
    "cyclegan": Toy(
        {
            "generator": "resnet",
            "generator_channels": 4,
            "residual_blocks": 1,
            "discriminator_channels": 4,
            "pool_size": 2,
        }
    ),
    "gpunit": Toy(
        {
            "generator_channels": 2,
            "style_channels": 6,
            "style_width": 4,
            "bottleneck": 4,
            "discriminator_channels": 2,
            "discriminator_max_channels": 4,
            "latent_channels": 5,
            "sampler_steps": 2,
            "sampler_batch": 2,
        },
        {**SCENES, "size": 64, "batch_size": 2, "scenes_per_epoch": 4},
    ),
    "gpunit_prior": Toy({"channels": 2}, {**SCENES, "size": 64, "batch_size": 2}),
    "hidt": Toy(
        {
            "generator_channels": 6,
            "encoder_blocks": 1,
            "decoder_blocks": 1,
            "mapping_channels": 4,
            "discriminator_channels": 4,
            "discriminator_levels": 2,
            "discriminator_max_channels": 8,
            "style_pool": 3,
            "inference_size": 32,
        }
    ),
    "hidt_enhancer": Toy(
        {
            "translator": "TRANSLATOR",
            "generator_channels": 6,
            "encoder_blocks": 1,
            "decoder_blocks": 1,
            "mapping_channels": 4,
            "enhancer_channels": 4,
            "enhancer_growth": 2,
            "discriminator_channels": 4,
            "crop": 8,
            "inference_size": 16,
            "tile": 32,
        },
        {**SCENES, "size": 64},
    ),
    "sat": Toy(
        {
            "generator_channels": 3,
            "residual_blocks": 1,
            "attention_channels": 3,
            "discriminator_channels": 3,
            "attention_iteration": 1,
            "joint_iteration": 3,
            "lambda_interval": 1,
            "lambda_step": 0.5,
            "pool_size": 2,
        }
    ),
    "singan": Toy(
        {
            "channels": 4,
            "least_channels": 4,
            "min_size": 14,
            "max_size": 24,
            "stage_iterations": 3,
            "decay_iteration": 2,
        },
        {"size": 24},
        use=SINGLE,
    ),
    "singan_enlarge": Toy(
        {
            "channels": 4,
            "least_channels": 4,
            "min_size": 14,
            "max_size": 24,
            "stage_iterations": 3,
            "decay_iteration": 2,
        },
        {"size": 24},
        demo="singan",
        use=("single", "enlarge", "{run}", "--output", "{output}"),
    ),
    "starganv2": Toy(STARGAN, {**SCENES, "batch_size": 2}, domain="striped"),
    "starganv2_celeba": Toy(STARGAN, {**SCENES, "batch_size": 2}, demo="starganv2", domain="striped"),
    "unit": Toy(UNIT),
    "unit_digits": Toy(
        {
            "generator_channels": 4,
            "discriminator_channels": 4,
            "test_interval": 2,
            "source_channels": 3,
            "coordinates": True,
        },
        {
            "root": "DIGITS",
            "source": "svhn",
            "target": "usps",
            "size": 32,
            "batch_size": 2,
            "workers": 0,
            "validation_count": 2,
        },
        size=32,
    ),
    "unit_munit_style": Toy({**UNIT, "discriminator_scales": 1}, demo="unit"),
}


class Ground:
    """What toys stand on, made when it is asked for.

    Args:
        folder: for digits, a picture and a trained translator.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def digits(self) -> Path:
        """A folder of digits that are noise."""
        root = self.folder / "digits"
        if not root.is_dir():
            for name, shape in {"mnist": (28, 28), "usps": (16, 16), "svhn": (32, 32, 3)}.items():
                write_npz(root, name, noise(train=8, test=4, shape=shape))
        return root

    @property
    def picture(self) -> Path:
        """A picture file."""
        path = self.folder / "picture.png"
        return path if path.is_file() else draw_picture(path)

    @property
    def translator(self) -> Run:
        """A HiDT of one iteration, that its enhancement stands on."""
        root = self.folder / "translator"
        if not root.is_dir():
            root.mkdir()
            short = ["--trainer.max_steps", 1, "--trainer.limit_val_batches", 0, "--judge.enabled", False]
            place = ["--trainer.accelerator", "cpu", "--run.root", root, "--run.name", "a"]
            command("fit", *(f"--config={path}" for path in configs_of("hidt", root, self)), *short, *place)
        return Run(next(root.glob("*/a")))


def configs_of(recipe: str, folder: Path, ground: Ground) -> list[Path]:
    """The recipe, its demo, and the toy's settings as a file in a folder."""
    toy = TOYS[recipe]
    model, data = dict(toy.model), dict(toy.data)
    if model.get("translator") == "TRANSLATOR":
        model["translator"] = str(ground.translator.folder)
    if data.get("root") == "DIGITS":
        data["root"] = str(ground.digits)
    small = folder / f"{recipe}.yaml"
    small.write_text(yaml.safe_dump({"model": {"init_args": model}, "data": {"init_args": data}}))
    return [PACKAGE / f"{recipe}.yaml", ROOT / "configs" / "demo" / f"{toy.demo or recipe}.yaml", small]


def use_of(recipe: str, ground: Ground) -> list[str]:
    """The words of the command that a recipe's model is for, where that is not `translate`."""
    return [str(ground.picture) if word == "PICTURE" else word for word in TOYS[recipe].use]
