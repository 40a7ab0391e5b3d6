"""Pictures by number: latent code n drawn under any class, the same picture wherever and with whichever others it is drawn.

Pictures of one number share their layout from class to class; such pairs teach GP-UNIT's content encoder. The authors drew theirs with
TF-Hub's BigGAN-deep at truncations 0.5 and 1. `lightning generate pairs` writes these pictures to disk, and `datamodules.BigGANPairs`
draws the same ones during training.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from torch import Tensor

from zoo.biggan.model import BigGAN
from zoo.biggan.sampling import truncated_normal
from zoo.core import Draws
from zoo.core.checkpoints import read_checkpoint
from zoo.core.draws import seed_of
from zoo.core.files import sha256_of
from zoo.core.images import from_uint8, to_uint8
from zoo.core.loading import find_checkpoint, load_translator
from zoo.core.runs import Run
from zoo.errors import ZooError
from zoo.weights.biggan import convert, deep_port_statistics, load_state, read_state, settings_of
from zoo.weights.fetch import fetch
from zoo.weights.preflight import is_name, missing_weights

Statistics = Literal["auto", "standing", "running"]

SYN_IMAGENET_291 = {
    "bird": "7-20 22 23 80-100 127-129 131-145",
    "dog": "151-268",
    "otheranimal": "101 102 104-106 269-299 330-378 380 382-388",
    "vehicle": "407 436 468 511 555 586 609 627 654 656 675 717 734 751 757 779 803 817 829 847 856 864 866 867 874",
}
"""The 291 classes of ImageNet whose pairs GP-UNIT's authors drew. Which kind a class is of stands in its folder's name alone."""

TFHUB_EPS = 1e-4
"""Of all norms in TF-Hub's networks; the official PyTorch code's released run has 1e-6 for singular vectors and 1e-5 for norms."""


class PairGenerator:
    """Draws pictures of a number and a domain.

    Number n has a latent code of its own, a function of (seed, n), and the truncation at place n modulo their number. Domains are numbered
    by their place in `names()`. Weights are read in `setup`.

    Args:
        weights: a checkpoint of `lightning fit` or a run's folder; a generator in an official layout, see `zoo.weights.biggan`; or the
            name of published weights, such as biggan_deep_128.
        domains: the classes, see `resolve_domains`.
        truncations: what latent codes are multiplied by; the authors of GP-UNIT took [0.5, 1.0].
        latents: how many numbers there are to draw pairs from; null for no end of them.
        seed: of the latent codes.
        bound: latent codes are drawn within it before they are multiplied, as TF-Hub's module does; null for normal ones, which the
            official PyTorch code multiplies.
        statistics: what batch norms use. `auto`: the published ones for the truncation where there are such (BigGAN-deep of TF-Hub), else
            standing statistics, made anew for every truncation. `standing` and `running` insist on one kind.
        batch_size: pictures drawn at a time.

    Raises:
        ZooError: an argument is out of range; `setup` raises it for weights and domains.
    """

    def __init__(
        self,
        weights: str,
        domains: list[str],
        truncations: tuple[float, ...] = (1.0,),
        latents: int | None = None,
        seed: int = 0,
        bound: float | None = 2.0,
        statistics: Statistics = "auto",
        batch_size: int = 64,
    ) -> None:
        if not truncations or len(set(truncations)) < len(truncations) or min(truncations) <= 0:
            raise ZooError(
                f"truncations is {list(truncations)}; expected different numbers above 0, such as [0.5, 1.0]."
            )
        for option, number in (("latents", latents), ("bound", bound), ("batch_size", batch_size), ("seed", seed + 1)):
            if number is not None and number <= 0:
                raise ZooError(f"{option} is {number - (option == 'seed')}; that is too few.")
        self.weights, self.domains, self.truncations = weights, list(domains), tuple(truncations)
        self.latents, self.seed, self.bound = latents, seed, bound
        self.statistics, self.batch_size = statistics, batch_size
        self.classes: dict[str, int] = {}
        self.digest = ""
        self._model: BigGAN | None = None
        self._published: dict[str, Tensor] = {}  # the port's file, until its statistics are taken

    @classmethod
    def missing(cls, settings: Mapping[str, Any]) -> list[str]:
        """What stands in the way of drawing with these constructor arguments; nothing is downloaded."""
        return missing_weights(str(settings.get("weights", "")), "--data.generator.weights")

    def setup(self) -> None:
        """Read the weights, once, and find the domains among their classes.

        Raises:
            ZooError: the weights cannot be had or are no BigGAN's, or a domain is none of its classes.
        """
        if self._model is not None:
            return
        path = fetch(self.weights) if is_name(self.weights) and not Path(self.weights).exists() else Path(self.weights)
        path = find_checkpoint(path.expanduser())
        model, self._published = load_biggan(path)
        self.classes = resolve_domains(self.domains, model.classes, class_names(path, model.classes))
        self.digest = sha256_of(path)
        self._model = model.requires_grad_(False)

    @property
    def model(self) -> BigGAN:
        """The network, after `setup`."""
        if self._model is None:
            raise ZooError("The generator has no weights yet: call setup first.")
        return self._model

    @property
    def image_size(self) -> int:
        """Side of the pictures, after `setup`."""
        return self.model.image_size

    @property
    def judges(self) -> bool:
        """Whether the weights bring a discriminator, so that `scores` can be asked."""
        return any(p.is_floating_point() for p in self.model.discriminator.parameters())

    def names(self) -> list[str]:
        """The domains' names, `<class>` or `<class>_<kind>`, in the order of their classes; after `setup`."""
        return list(self.classes)

    def count(self) -> int | None:
        """How many numbers there are; None for no end."""
        return self.latents

    def truncation(self, number: int) -> float:
        """The truncation of a number."""
        return self.truncations[number % len(self.truncations)]

    def latent(self, number: int) -> Tensor:
        """The latent code of a number before truncation, float32 `z`."""
        draws = Draws(seed_of(self.seed, "pair", number))
        draws.dtype = torch.float64
        uniform = draws.uniform("latent", (self.model.latent_channels,))
        return truncated_normal(uniform, self.bound or 8.0).float()

    @torch.no_grad()
    def draw(self, numbers: Sequence[int], domains: Tensor) -> Tensor:
        """Draw pictures on the device of `domains`, in full float32.

        Args:
            numbers: of the latent codes, one per picture.
            domains: places in `names()`, int64 b.

        Returns:
            uint8 b 3 h w.
        """
        model = self._on(domains.device)
        labels = torch.tensor(list(self.classes.values()), device=domains.device)[domains]  # b
        pictures = torch.empty(
            len(numbers), 3, self.image_size, self.image_size, dtype=torch.uint8, device=domains.device
        )
        with full_precision(domains.device):
            for truncation in self.truncations:
                rows = [row for row, number in enumerate(numbers) if self.truncation(number) == truncation]
                for start in range(0, len(rows), self.batch_size):
                    part = rows[start : start + self.batch_size]
                    latent = torch.stack([self.latent(numbers[row]) for row in part])
                    at = torch.tensor(part, device=domains.device)
                    pictures[at] = to_uint8(model.generate(latent, labels[at], truncation=truncation))
        return pictures

    @torch.no_grad()
    def scores(self, pictures: Tensor, domains: Tensor) -> Tensor:
        """What the discriminator says of pictures as they are stored: the higher, the more like real ones of their class.

        Args:
            pictures: uint8 b 3 h w.
            domains: places in `names()`, int64 b.

        Returns:
            Logits, float32 b.
        """
        model = self._on(domains.device)
        labels = torch.tensor(list(self.classes.values()), device=domains.device)[domains]
        with full_precision(domains.device), model.aside("scores"):
            parts = zip(from_uint8(pictures).split(self.batch_size), labels.split(self.batch_size), strict=True)
            return torch.cat([model.discriminator(image, label)[:, 0] for image, label in parts])

    def settings(self) -> dict[str, Any]:
        """All that a picture of a number and a class follows from, as plain values; after `setup`."""
        return {
            "weights": self.digest,
            "classes": dict(self.classes),
            "truncations": list(self.truncations),
            "seed": self.seed,
            "bound": self.bound,
            "statistics": self.statistics,
        }

    def describe(self) -> str:
        """What draws, in words."""
        numbers = "endless latent vectors" if self.latents is None else f"{self.latents} latent vectors"
        truncations = " and ".join(map(str, self.truncations))
        return f"{numbers} drawn by {self.weights}, truncation {truncations}, {self.image_size}x{self.image_size}"

    def fingerprint(self) -> str:
        """A hash of `settings` and of how many numbers there are."""
        return hashlib.blake2b(repr((self.settings(), self.latents)).encode(), digest_size=16).hexdigest()

    def _on(self, device: torch.device) -> BigGAN:
        """The model on a device, with the statistics of all truncations."""
        model = self.model
        if model.device != device:
            model.to(device)
            model.draws.device = device
            model.statistics = {
                truncation: {name: value.to(device) for name, value in buffers.items()}
                for truncation, buffers in model.statistics.items()
            }
        if self.statistics != "running" and not model.statistics:
            for truncation in self.truncations:
                if self._published and self.statistics == "auto":
                    buffers = deep_port_statistics(self._published, truncation)
                    model.statistics[truncation] = {name: value.to(device) for name, value in buffers.items()}
                else:
                    with full_precision(device):
                        model.fit_statistics(truncation, bound=self.bound)
            self._published = {}
        return model


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute in float32 whatever the training does: no autocast, and no shortened numbers in products on NVIDIA's devices."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]
    kept = products.fp32_precision, convolutions.fp32_precision
    products.fp32_precision = convolutions.fp32_precision = "ieee"
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        products.fp32_precision, convolutions.fp32_precision = kept


# Weights -------------------------------------------------------------------------------------------------------------------------


def load_biggan(path: Path) -> tuple[BigGAN, dict[str, Tensor]]:
    """Build the network that a file holds, in eval mode on the CPU.

    Args:
        path: a checkpoint of `lightning fit`, or a generator in an official layout; the latter has no discriminator here.

    Returns:
        The network, and the file's content where that is the port's BigGAN-deep, which has statistics for 51 truncations.

    Raises:
        ZooError: the file cannot be read, or is another network's.
    """
    if path.suffix == ".zip":
        raise ZooError(f"{path} is an archive. Unpack it, and give the generator in it: --weights FOLDER/G_ema.pth")
    if "pytorch-lightning_version" in read_checkpoint(path):
        model = load_translator(path)
        if not isinstance(model, BigGAN):
            raise ZooError(
                f"{path} holds {type(model).__name__}, and pairs are drawn by BigGAN. Give a checkpoint of its training (lightning card "
                "biggan), or published weights: --weights biggan_deep_128"
            )
        return model, {}
    state = read_state(path)
    is_port = "embeddings.weight" in state
    from_tfhub = is_port or not any(key.endswith("sv0") for key in state)
    state_here = convert(state)
    settings: dict[str, Any] = {**settings_of(state_here)}
    if "image_size" not in settings:
        raise ZooError(f"{path} is no generator of BigGAN's: it holds {', '.join(list(state)[:3])}. Give G_ema.pth.")
    if from_tfhub:
        last = 1e-5 if settings["image_size"] == 512 and not is_port else TFHUB_EPS
        settings |= {"spectral_norm_eps": TFHUB_EPS, "norm_eps": TFHUB_EPS, "output_norm_eps": last}
    # The file has no discriminator: the least one is built, and taken out again.
    settings |= {"discriminator_channels": 4, "discriminator_multipliers": (1, 1), "discriminator_attention": ()}
    vectors = state_here.get("linear.parametrizations.weight.0.u", torch.ones(1, 1))
    with Draws().aside("build"):  # initial weights, soon replaced, leave the streams where they are
        model = BigGAN(**settings, singular_values=len(vectors), ema_decay=0)
    load_state(model.generator, state_here, str(path))
    model.discriminator = torch.nn.Identity()  # type: ignore[assignment]
    return model.eval(), state if is_port else {}


def class_names(path: Path, classes: int) -> list[str]:
    """The names that the run of a checkpoint gave its classes; none where its configuration lists none.

    Args:
        path: the checkpoint; its run's folder holds config.yaml.
        classes: how many there are.
    """
    config = Run(path.resolve().parent.parent).config
    if path.parent.name != "checkpoints" or not config.is_file():
        return []
    data = (yaml.safe_load(config.read_text(encoding="utf-8")) or {}).get("data") or {}
    names = (data.get("init_args") or {}).get("domains") or []
    return [str(name) for name in names] if len(names) == classes else []


# Domains -------------------------------------------------------------------------------------------------------------------------


def resolve_domains(words: Sequence[str], classes: int, names: Sequence[str] = ()) -> dict[str, int]:
    """Find the classes that words mean.

    Args:
        words: each is a class's number, `7`; a range of them, `7-20`; a number with a kind, `7_bird`; a name, `striped`; `all`; or
            `syn_imagenet_291`, the classes of GP-UNIT's authors.
        classes: how many the weights know.
        names: of the classes, where they have any.

    Returns:
        Class by name of the domain, `<class>` or `<class>_<kind>`, in the order of the classes.

    Raises:
        ZooError: a word means no class, two mean the same, or there are none.
    """
    found: dict[int, str] = {}
    for word in words:
        for number, kind in _meant(word, classes, names):
            if number >= classes:
                raise ZooError(
                    f"There is no class {number} (of {word!r}): these weights know {classes}, from 0 to {classes - 1}."
                )
            if number in found:
                raise ZooError(
                    f"Class {number} is named twice among the domains, the second time by {word!r}. Leave one out."
                )
            found[number] = f"{number}_{kind}" if kind else str(number)
    if not found:
        raise ZooError("No domains are named. Name classes, such as: --domains 7_bird 151-160 or --domains all")
    return {found[number]: number for number in sorted(found)}


def _meant(word: str, classes: int, names: Sequence[str]) -> list[tuple[int, str]]:
    """Numbers and kinds that a word means."""
    known = dict(enumerate(names))
    if word == "all":
        return [(number, known.get(number, "")) for number in range(classes)]
    if word == "syn_imagenet_291":
        return [(n, kind) for kind, texts in SYN_IMAGENET_291.items() for text in texts.split() for n in _range(text)]
    if word in names:
        return [(list(names).index(word), word)]
    if re.fullmatch(r"\d+(-\d+)?", word):
        return [(number, known.get(number, "")) for number in _range(word)]
    if match := re.fullmatch(r"(\d+)_([\w.-]+)", word):
        return [(int(match[1]), match[2])]
    said = f"these weights name theirs {', '.join(names)}" if names else "these weights have numbers for theirs"
    near = get_close_matches(word, [*names, "all", "syn_imagenet_291"], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ZooError(
        f"{word!r} is no class: {said}.{hint} Type a number from 0 to {classes - 1}, with a kind if you like (7_bird), a range "
        "(7-20), or all."
    )


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)
