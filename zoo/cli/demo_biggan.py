"""From a BigGAN to a translated picture, on rendered scenes and with nothing downloaded: `python -m zoo.cli.demo_biggan`.

GP-UNIT's whole road in small. A BigGAN learns four looks of objects; one latent code drawn in all of them makes pairs; from these a
content encoder is distilled; on it GP-UNIT learns to turn plain objects into striped ones. Each step is a command that a person can type
as well, and is printed before it runs. What is finished is not done again: after a stop, the same name goes on.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from datamodules import Scenes
from zoo.cli.main import main as lightning
from zoo.core.images import from_pil, grid, save_png
from zoo.core.phases import Phases
from zoo.core.runs import Run

LOOKS = ("plain", "striped", "dotted", "checked")
SOURCE, TARGET = LOOKS[:2]  # of the overlay configs/demo/gpunit.yaml
SIZE = 64
SHOWN = 4  # rows of the picture at the end


@dataclass(frozen=True)
class Road:
    """Where everything lies.

    Attributes:
        root: of all runs.
        name: of the three runs.
        iterations: of each training, for a quick look at the road itself; None for those of the overlays.
        pictures: that are drawn of each look for training; a tenth of it, and `SHOWN` at least, for validation.
    """

    root: Path
    name: str
    iterations: int | None = None
    pictures: int = 600

    @property
    def biggan(self) -> Run:
        """Draws the pairs."""
        return Run(self.root / "biggan" / self.name)

    @property
    def prior(self) -> Run:
        """Distils the content encoder."""
        return Run(self.root / "gpunit_prior" / self.name)

    @property
    def gpunit(self) -> Run:
        """Translates."""
        return Run(self.root / "gpunit" / self.name)

    def pairs(self, part: str) -> Path:
        """The folder of the pairs for `train` or `test`."""
        return self.biggan.folder / "pairs" / part

    def fit(self, run: Run, *words: object) -> list[str]:
        """The command that trains, or goes on."""
        if run.record.is_file():
            return ["fit", "--resume", str(run.folder)]
        recipe = run.folder.parent.name
        overlay = "gpunit_prior_generated" if run == self.prior else recipe
        quick = []
        if self.iterations is not None:
            quick = ["--trainer.max_steps", self.iterations, "--trainer.val_check_interval", self.iterations]
        where = ["--config", f"zoo/{recipe}.yaml", "--config", f"configs/demo/{overlay}.yaml"]
        where += ["--run.root", str(self.root), "--run.name", self.name]
        return ["fit", *where, *map(str, (*words, *quick))]

    def generate(self, part: str) -> list[str]:
        """The command that draws the pairs for `train` or `test`, with masks; of what it draws it keeps the best."""
        count, seed = (self.pictures, 0) if part == "train" else (max(SHOWN, self.pictures // 10), 1)
        words = ["generate", "pairs", "--weights", self.biggan.folder, "--domains", "all", "--seed", seed]
        return [*map(str, words), *map(str, ["--per-domain", count, "--masks", "judge", "--out", self.pairs(part)])]

    def steps(self) -> dict[str, list[list[str]]]:
        """The commands, step by step."""
        data = []
        for option, part in (("pairs", "train"), ("validation_pairs", "test")):
            folder = self.pairs(part)
            data += [f"--data.{option}", folder, f"--data.{option}_masks", folder.with_name(f"{part}_mask")]
        drawn = ["--weights", str(self.biggan.folder), "--domains", "all"]
        pictures = self.gpunit.folder / "pictures"
        translated = [pictures / SOURCE, "--reference", pictures / TARGET, "--output", self.translated, "--overwrite"]
        return {
            "BigGAN": [self.fit(self.biggan)],
            "pairs": [self.generate("train"), self.generate("test")],
            "correlation": [["generate", "correlation", *drawn]],
            "content encoder": [self.fit(self.prior, *data)],
            "GP-UNIT": [self.fit(self.gpunit, "--model.content_encoder", self.prior.folder)],
            "translation": [["translate", str(self.gpunit.folder), *map(str, translated)]],
        }

    @property
    def translated(self) -> Path:
        """Where the translations go."""
        return self.gpunit.folder / "translated"

    def write_pictures(self) -> None:
        """Write test scenes that no network has seen: sources and exemplars, as many of each as the last picture shows."""
        scenes = Scenes(domains=(SOURCE, TARGET), size=SIZE).fixed_samples("test")
        for number in range(SHOWN):
            for key, look in (("source", SOURCE), ("target", TARGET)):
                save_png(scenes[number][key], self.gpunit.folder / "pictures" / look / f"{number}.png")

    def picture(self) -> Path:
        """Write one picture of the whole road, and return its path: what BigGAN drew, its masks, and what became of it."""
        drawn, masks = self.pairs("test"), self.pairs("test").with_name("test_mask")
        names = [f"{number}_{look}" for number, look in enumerate(LOOKS)]
        numbers = sorted(int(path.stem) for path in (drawn / names[0]).glob("*.png"))[:SHOWN]
        columns = {
            f"BigGAN: {look}": [drawn / name / f"{n}.png" for n in numbers]
            for name, look in zip(names, LOOKS, strict=True)
        }
        columns["mask"] = [masks / names[0] / f"{n}.jpg" for n in numbers]
        pictures, rows = self.gpunit.folder / "pictures", range(SHOWN)
        columns |= {"source": [pictures / SOURCE / f"{n}.png" for n in rows]}
        columns |= {"exemplar": [pictures / TARGET / f"{n}.png" for n in rows]}
        columns |= {"translation": [self.translated / f"{n}_{n}.png" for n in rows]}
        shown = {title: stacked(paths) for title, paths in columns.items()}
        return save_png(grid(shown), self.gpunit.folder / "road.png")


def stacked(paths: Sequence[Path]) -> Tensor:
    """Read pictures of one size, and enlarge small ones without smoothing: b 3 h w in [-1, 1]."""
    pictures = []
    for path in paths:
        with Image.open(path) as picture:
            pictures.append(from_pil(picture))
    images = torch.stack(pictures)
    times = max(1, SIZE // images.shape[-1])
    return images.repeat_interleave(times, 2).repeat_interleave(times, 3)


def walk(road: Road) -> int:
    """Take all steps, and print where the time went and where the picture lies.

    Returns:
        0, or the exit code of the step that failed.
    """
    phases = Phases()
    for step, commands in road.steps().items():
        with phases.during(step):
            if step == "translation":
                road.write_pictures()
            for words in commands:
                print(f"\n$ lightning {shlex.join(words)}", flush=True)
                if code := lightning(words):
                    print(f"The same goes on from here: make demo-biggan NAME={road.name}", file=sys.stderr)
                    return code
    print(f"\n  time       {phases.describe(least=0)}")
    print(f"  picture    {road.picture()}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command; words of the process by default.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(
        prog="python -m zoo.cli.demo_biggan",
        description="Train BigGAN on rendered scenes, draw pairs, distil a content encoder from them, train GP-UNIT on it, translate.",
    )
    parser.add_argument("--name", help="of the runs (default: the time); the same name again goes on after a stop")
    parser.add_argument("--root", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")
    parser.add_argument("--iterations", type=int, help="of each training, for a quick look (default: the overlays')")
    parser.add_argument("--pictures", type=int, default=600, help="of each look that the pairs have (default: 600)")
    options = parser.parse_args(arguments)
    for option in ("iterations", "pictures"):
        if (number := getattr(options, option)) is not None and number < 1:
            parser.error(f"--{option} is {number}; it must be at least 1")
    name = options.name or datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    return walk(Road(options.root, name, options.iterations, options.pictures))


if __name__ == "__main__":
    sys.exit(main())
