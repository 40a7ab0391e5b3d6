"""StarGAN v2's evaluation, for any room that translates between several domains in many styles.

    python -m zoo.metrics.domain_protocol RUN --train data/afhq/train --test data/afhq/val --kinds latent reference

For every ordered pair of different domains, all test pictures of the first are translated into the second, ten times each: in
random styles (a new latent for each picture and each time), or in the styles of test pictures of the second.

* `lpips`, diversity: the mean LPIPS of the 45 pairs of a picture's ten translations, a mean over batches that does not weigh them by their
  size, then over pairs of domains. Higher is more diverse.
* `fid`, quality: the Fréchet distance of all translations, rounded as in PNG files, and the TRAINING pictures of the second domain, by
  torchvision's Inception v3; a mean over pairs of domains. FIDs by TensorFlow's Inception are other numbers: compare with StarGAN v2's
  tables alone.

Pictures are resized to the model's size, the aspect ratio not kept. AlexNet and Inception are downloaded (`lightning download alexnet`,
`lightning download inception_v3`). Without a network, and without the files, nothing is measured and nothing takes their place: the
command says what is missing. `--figures lpips` or `--figures fid` measures one of the two.
"""

import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import ArgumentParser
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance

from datamodules.class_folders import class_pictures
from datamodules.domain_crops import CropAndResize
from datamodules.errors import DataError
from datamodules.pictures import decode
from zoo.core.files import write_atomically
from zoo.core.images import from_uint8
from zoo.core.loading import load_translator
from zoo.core.translator import Translator
from zoo.errors import ZooError
from zoo.experts.inception import WEIGHTS as INCEPTION
from zoo.experts.inception import InceptionFeatures, prepare
from zoo.experts.lpips import LPIPS
from zoo.weights.preflight import missing_weights

Kind = Literal["latent", "reference"]
Figure = Literal["fid", "lpips"]
OUTPUTS = 10  # translations of each picture
BATCH = 32  # pictures at a time; references come in full batches alone
NEEDS: dict[str, str] = {"lpips": "alexnet", "fid": INCEPTION}


@dataclass(frozen=True)
class Measures:
    """What measures; None where a figure is not asked for.

    Attributes:
        lpips: distances b of two batches of pictures b 3 h w.
        features: features b n of prepared pictures, with an attribute `num_features`.
    """

    lpips: Callable[[Tensor, Tensor], Tensor] | None
    features: torch.nn.Module | None


class Folder:
    """Pictures of a domain at the model's size.

    Args:
        paths: of the files.
        size: side in pixels.
    """

    def __init__(self, paths: Sequence[Path], size: int) -> None:
        self.paths = list(paths)
        self._prepare = CropAndResize(size)

    def __len__(self) -> int:
        return len(self.paths)

    def pixels(self, places: Sequence[int]) -> Tensor:
        """Some of the pictures, uint8 b 3 h w."""
        pictures = [torch.from_numpy(self._prepare(decode(self.paths[place])).copy()) for place in places]
        return torch.stack(pictures).permute(0, 3, 1, 2)

    def batches(self, size: int) -> Iterator[Tensor]:
        """All pictures in order, b 3 h w in [-1, 1]."""
        for first in range(0, len(self), size):
            yield from_uint8(self.pixels(range(first, min(first + size, len(self)))))

    def shuffled(self, size: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Full batches without end, each pass in a new order; b 3 h w in [-1, 1]."""
        while True:
            order = torch.randperm(len(self), generator=generator).tolist()
            for first in range(0, len(order) - size + 1, size):
                yield from_uint8(self.pixels(order[first : first + size]))


def group_distance(lpips: Callable[[Tensor, Tensor], Tensor], group: Sequence[Tensor]) -> Tensor:
    """The mean LPIPS of all pairs of a group of batches b 3 h w: a scalar."""
    return torch.stack([lpips(one, other).mean() for one, other in combinations(group, 2)]).mean()


def require_protocol(model: Translator, kinds: Sequence[str]) -> list[str]:
    """The domains of a model that this protocol can measure.

    Raises:
        ZooError: it has none, or does not translate in this way.
    """
    room, known = type(model).__name__, inspect.signature(type(model).translate).parameters
    domains = getattr(model, "domains", None)
    if not domains or len(domains) < 2:
        raise ZooError(f"{room} does not translate between several domains, so there are no pairs of them to measure.")
    for kind in kinds:
        if kind not in known:
            raise ZooError(f"{room} takes no {kind}: leave it out of --kinds.")
    return list(domains)


@torch.no_grad()
def measure(
    model: Translator,
    train: Mapping[str, Folder],
    test: Mapping[str, Folder],
    measures: Measures,
    *,
    kinds: Sequence[Kind] = ("latent", "reference"),
    outputs: int = OUTPUTS,
    batch: int = BATCH,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Measure a model.

    Args:
        model: the translator; it has `domains`, a list of names, and `image_size`.
        train: training pictures by domain.
        test: test pictures by domain.
        measures: what measures.
        kinds: in which styles.
        outputs: translations of each picture.
        batch: pictures at a time.
        seed: of latents and of the order of references.
        say: is told each pair's figures.

    Returns:
        For each kind and figure, the mean over pairs, and the pairs' own by `source2target`.

    Raises:
        ZooError: the model is of another kind, or pictures are too few.
    """
    domains = require_protocol(model, kinds)
    if outputs < 2:
        raise ZooError(
            f"outputs is {outputs}; pairs of translations are compared, so it takes at least 2: --outputs {OUTPUTS}"
        )
    for name in domains:
        if name not in test or name not in train:
            raise ZooError(
                f"There are no pictures of {name}: each of {', '.join(domains)} needs a folder of training and test pictures."
            )
        if "reference" in kinds and len(test[name]) < batch:
            raise ZooError(
                f"{name} has {len(test[name])} test pictures, and references come in full batches of {batch}: --batch {len(test[name])}"
            )
    report: dict[str, Any] = {}
    for kind in kinds:
        pairs: dict[str, dict[str, float]] = {"lpips": {}, "fid": {}}
        for target in domains:
            distance = _real_side(measures, train[target], int(getattr(model, "image_size", 256)), batch)
            for source, _ in (pair for pair in permutations(domains, 2) if pair[1] == target):
                generator = torch.Generator().manual_seed(seed)
                found = _measure_pair(
                    model, test[source], test[target], target, kind, measures, distance, outputs, batch, generator
                )
                for figure, value in found.items():
                    pairs[figure][f"{source}2{target}"] = value
                say(f"{kind} {source}2{target}: " + ", ".join(f"{name} {value:.4f}" for name, value in found.items()))
        report[kind] = {
            figure: {"mean": sum(values.values()) / len(values), **values} for figure, values in pairs.items() if values
        }
    return report


def _real_side(measures: Measures, train: Folder, size: int, batch: int) -> FrechetInceptionDistance | None:
    if measures.features is None:
        return None
    distance = FrechetInceptionDistance(feature=measures.features, reset_real_features=False)
    device = next((parameter.device for parameter in measures.features.parameters()), torch.device("cpu"))
    distance = distance.to(device)
    for images in train.batches(batch):
        distance.update(prepare(images, size).to(device), real=True)
    return distance


def _measure_pair(
    model: Translator,
    sources: Folder,
    references: Folder,
    target: str,
    kind: Kind,
    measures: Measures,
    distance: FrechetInceptionDistance | None,
    outputs: int,
    batch: int,
    generator: torch.Generator,
) -> dict[str, float]:
    raw = {"clamp": False} if "clamp" in inspect.signature(type(model).translate).parameters else {}
    exemplars = references.shuffled(batch, generator)
    groups: list[Tensor] = []
    if distance is not None:
        distance.reset()
    for images in sources.batches(batch):
        group = []
        for _ in range(outputs):
            if kind == "latent":
                channels: Any = model.latent_channels
                style = torch.randn(len(images), channels, generator=generator)
            else:
                style = next(exemplars)[: len(images)]
            image = images[: len(style)].to(model.device)
            made = model.translate(image, to=target, **{kind: style.to(model.device)}, **raw).float()
            group.append(made)
            if distance is not None:
                distance.update(prepare(made, made.shape[2]).to(distance.device), real=False)
        if measures.lpips is not None:
            groups.append(group_distance(measures.lpips, group))
    found = {}
    if groups:
        found["lpips"] = float(torch.stack(groups).mean())
    if distance is not None:
        found["fid"] = float(distance.compute())
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print.

    Args:
        arguments: of the command line; those of the process when None.

    Returns:
        0, or 2 if a person has something to mend.
    """
    parser = ArgumentParser(
        prog="python -m zoo.metrics.domain_protocol", description="StarGAN v2's evaluation: FID and LPIPS."
    )
    parser.add_argument("run", type=Path, help="run or checkpoint of a translator between several domains")
    parser.add_argument("--train", type=Path, required=True, help="training pictures, a folder per domain")
    parser.add_argument("--test", type=Path, required=True, help="test pictures, a folder per domain")
    parser.add_argument(
        "--kinds", nargs="+", choices=("latent", "reference"), default=["latent", "reference"], help="styles"
    )
    parser.add_argument(
        "--figures", nargs="+", choices=("fid", "lpips"), default=["fid", "lpips"], help="what to measure"
    )
    parser.add_argument("--outputs", type=int, default=OUTPUTS, help="translations of each picture")
    parser.add_argument("--batch", type=int, default=BATCH, help="pictures at a time")
    parser.add_argument("--seed", type=int, default=0, help="of latents and of the order of references")
    parser.add_argument("--device", default="cpu", help="where to compute, such as cuda")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    options = parser.parse_args(arguments)
    try:
        if missing := [line for figure in options.figures for line in missing_weights(NEEDS[figure])]:
            raise ZooError(" ".join(missing))
        model = load_translator(options.run).to(options.device)
        require_protocol(model, options.kinds)
        size = int(getattr(model, "image_size", 256))
        train, test = (
            {name: Folder(paths, size) for name, paths in class_pictures(root, argument).items()}
            for root, argument in ((options.train, "train"), (options.test, "test"))
        )
        measures = Measures(
            LPIPS(pretrained=True).to(options.device) if "lpips" in options.figures else None,
            InceptionFeatures(pretrained=True).to(options.device) if "fid" in options.figures else None,
        )
        report = measure(
            model,
            train,
            test,
            measures,
            kinds=options.kinds,
            outputs=options.outputs,
            batch=options.batch,
            seed=options.seed,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
        if options.output is not None:
            write_atomically(options.output, json.dumps(report, indent=1).encode())
    except (ZooError, DataError) as error:
        print(f"domain_protocol: {error}".replace("--data.", "--"), file=sys.stderr)
        return 2
    for kind, figures in report.items():
        print(f"{kind}: " + ", ".join(f"{name} {values['mean']:.4f}" for name, values in figures.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
