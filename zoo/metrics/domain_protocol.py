"""StarGAN v2's evaluation, for any room that translates between several domains in many styles.

    lightning evaluate RUN --protocol starganv2 --train data/afhq/train --test data/afhq/val

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from datamodules.domain_crops import CropAndResize
from datamodules.pictures import decode
from zoo.core.images import from_uint8
from zoo.core.translator import Translator
from zoo.errors import ZooError
from zoo.experts.inception import WEIGHTS as INCEPTION
from zoo.experts.inception import prepare
from zoo.metrics.frechet import Gaussian

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
        features: features b n of prepared pictures.
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
            real = _real_side(measures, train[target], int(getattr(model, "image_size", 256)), batch)
            for source, _ in (pair for pair in permutations(domains, 2) if pair[1] == target):
                generator = torch.Generator().manual_seed(seed)
                found = _measure_pair(
                    model, test[source], test[target], target, kind, measures, real, outputs, batch, generator
                )
                for figure, value in found.items():
                    pairs[figure][f"{source}2{target}"] = value
                say(f"{kind} {source}2{target}: " + ", ".join(f"{name} {value:.4f}" for name, value in found.items()))
        report[kind] = {
            figure: {"mean": sum(values.values()) / len(values), **values} for figure, values in pairs.items() if values
        }
    return report


def _real_side(measures: Measures, train: Folder, size: int, batch: int) -> Gaussian | None:
    if measures.features is None:
        return None
    real = Gaussian()
    for images in train.batches(batch):
        real.add(_features(measures.features, images, size))
    return real


def _features(network: torch.nn.Module, images: Tensor, size: int) -> Tensor:
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    return network(prepare(images, size).to(device))


def _measure_pair(
    model: Translator,
    sources: Folder,
    references: Folder,
    target: str,
    kind: Kind,
    measures: Measures,
    real: Gaussian | None,
    outputs: int,
    batch: int,
    generator: torch.Generator,
) -> dict[str, float]:
    raw = {"clamp": False} if "clamp" in inspect.signature(type(model).translate).parameters else {}
    exemplars = references.shuffled(batch, generator)
    groups: list[Tensor] = []
    generated = Gaussian()
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
            if measures.features is not None:
                generated.add(_features(measures.features, made, made.shape[2]))
        if measures.lpips is not None:
            groups.append(group_distance(measures.lpips, group))
    found = {}
    if groups:
        found["lpips"] = float(torch.stack(groups).mean())
    if real is not None:
        found["fid"] = real.distance(generated)
    return found
