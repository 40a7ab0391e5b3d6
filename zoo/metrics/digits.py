"""Digit adaptation: how well does a classifier of the target read, that learned from translated digits of the source alone?

    lightning evaluate RUN --protocol digits --seeds 0 1 2

translates every labelled training digit of the source by the run's model, through `translate` and nothing else, trains a classifier on
the translations and the sources' labels, and tests it on the target's test digits. Beside it stand what it has to beat, the same
classifier trained on the source as it is (`source only`), and what it can hope for, the same trained on the target with the target's own
labels (`target only`). A last row says what the translations keep: how many of the source's translated test digits the target-only
classifier reads as what they were. Without a run there are the first two rows alone.

The classifier is small and the same for all (`DigitClassifier`, 33,546 weights for one channel); all of them see equally many batches,
and each is tested as it is at the end of its training: nothing is chosen by a test digit. `--on validation` measures on held-out
training digits of the target instead (`--data.validation_count`), for choosing options. Note that a choice by labels of the target,
held out or not, is more than unsupervised adaptation has.

Papers differ from this protocol. SAT trains a classifier on translations, as here; UNIT reads the target with the class head of its own
discriminator, and reports the best of many tests.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.digit_files import CLASSES
from datamodules.digits import DOMAINS, Digits
from zoo.core.images import from_uint8, to_uint8
from zoo.core.translator import Translator
from zoo.errors import ZooError

ROWS = ("source only", "translated", "target only")
"""What classifiers learn from."""

KEPT = "kept in translation"
"""The share of translated test digits of the source that the target-only classifier reads as what they were."""

Domain = Literal["source", "target"]

_EVALUATED_AT_ONCE = 500


class DigitClassifier(nn.Module):
    """Three times 3x3 convolution, ReLU and 2x2 max pooling, with 16, 32 and 64 channels; dropout of a half; a linear layer.

    No normalisation layer: its statistics would carry knowledge of one domain to the other.

    Args:
        channels: of the pictures.
        size: their side in pixels, at least 8.

    Raises:
        ZooError: the pictures are smaller.
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        if size < 8:
            raise ZooError(
                f"The classifier of digits halves three times, and {size} pixels are too few: --data.size 32"
            )
        layers: list[nn.Module] = []
        for width in (16, 32, 64):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            channels = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(64 * (size // 8) ** 2, CLASSES))

    def forward(self, image: Tensor) -> Tensor:
        """Give logits `b 10` of pictures `b c h w` in [-1, 1]."""
        return self.head(self.features(image).flatten(1))


def train_classifier(
    images: Tensor, labels: Tensor, *, seed: int, iterations: int = 1000, batch_size: int = 64, device: str = "cpu"
) -> DigitClassifier:
    """Train a classifier from scratch: Adam, whose rate rises to 3e-3 and falls to 0; fresh orders of all digits, one after the other.

    Args:
        images: uint8 n c h w.
        labels: int64 n.
        seed: of weights, order and dropout.
        iterations: batches in all.
        batch_size: digits per batch.
        device: where it is trained.

    Returns:
        The classifier in eval mode, the same at every call on one machine.
    """
    with torch.random.fork_rng(devices=[device] if torch.device(device).type == "cuda" else []):
        torch.manual_seed(seed)
        # channels_last is a third faster on a CPU.
        network = DigitClassifier(images.shape[1], images.shape[2]).to(device).to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(network.parameters(), 3e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=iterations)
        generator = torch.Generator().manual_seed(seed)
        order = torch.empty(0, dtype=torch.int64)
        for _ in range(iterations):
            while len(order) < batch_size:
                order = torch.cat((order, torch.randperm(len(images), generator=generator)))
            rows, order = order[:batch_size], order[batch_size:]
            logits = network(from_uint8(images[rows].to(device)))
            optimizer.zero_grad()
            F.cross_entropy(logits, labels[rows].to(device)).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def accuracy(classifier: DigitClassifier, images: Tensor, labels: Tensor) -> float:
    """The share of digits that a classifier reads rightly.

    Args:
        classifier: in eval mode.
        images: uint8 n c h w.
        labels: int64 n.
    """
    device = next(classifier.parameters()).device
    right = 0
    for some, true in zip(images.split(_EVALUATED_AT_ONCE), labels.split(_EVALUATED_AT_ONCE), strict=True):
        right += int((classifier(from_uint8(some.to(device))).argmax(1).cpu() == true).sum())
    return right / len(images)


def translated(model: Translator, images: Tensor, *, to: str = "target", like: Tensor, at_once: int = 100) -> Tensor:
    """Translate digits, as they would be saved.

    Args:
        model: any room whose `translate` needs no more than pictures.
        images: uint8 n c h w.
        to: the domain to translate into, a word of `translate`.
        like: digits of that domain, n c h w, whose channels and size the translations must have.
        at_once: pictures per call.

    Returns:
        uint8 n c h w.

    Raises:
        ZooError: the translations have another shape.
    """
    parts = []
    for some in images.split(at_once):
        translation = model.translate(from_uint8(some.to(model.device)), to=to)
        if translation.shape[1:] != like.shape[1:]:
            raise ZooError(
                f"{type(model).__name__} made pictures {tuple(translation.shape[1:])} of {tuple(some.shape[1:])}, and the digits "
                f"of the target are {tuple(like.shape[1:])} (channels, height, width). Prepare them as in the training: "
                "--data.channels, --data.size"
            )
        parts.append(to_uint8(translation.float()).cpu())
    return torch.cat(parts)


def measure(
    data: Digits,
    model: Translator | None = None,
    *,
    to: Domain = "target",
    on: Literal["test", "validation"] = "test",
    rows: Sequence[str] = ROWS,
    seeds: Sequence[int] = (0, 1, 2),
    iterations: int = 1000,
    batch_size: int = 64,
    device: str = "cpu",
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure an adaptation.

    Args:
        data: the digits, not yet set up.
        model: the translator; without one there is no row `translated`.
        to: `target`, or `source` to translate the other way and exchange the domains' parts in everything.
        on: which digits are read.
        rows: which classifiers are trained, some of `ROWS`.
        seeds: one training of each classifier per seed.
        iterations: of each classifier.
        batch_size: digits per batch of each classifier.
        device: of the classifiers.
        say: called with a line after each classifier.

    Returns:
        `accuracy`: numbers per seed by row, and of `KEPT` where there are a model and a target-only classifier; `from`, `to`: names
        of the sets; `on`, `digits`: which digits were read, and how many; `trained_on`: numbers of digits by row; `seeds`,
        `iterations`, `batch_size`.

    Raises:
        ZooError: an argument cannot be right, or translations have another shape than the target's digits.
        DataError: the digits cannot be read, or there are none for validation.
    """
    if unknown := sorted(set(rows) - set(ROWS)):
        raise ZooError(f"There is no row {unknown[0]!r}; there are: {', '.join(ROWS)}.")
    if on not in {"test", "validation"} or to not in DOMAINS:
        raise ZooError(f"on is {on!r} and to is {to!r}; they must be 'test' or 'validation', and 'target' or 'source'.")
    if not seeds or iterations < 1 or batch_size < 1:
        raise ZooError("A measurement needs a seed at least, and iterations and batch_size of at least 1.")
    source, target = ("source", "target") if to == "target" else ("target", "source")
    for stage in ("fit", "validate" if on == "validation" else "test"):
        data.setup(stage)
    images, labels = data.labelled(target, on)
    learned: dict[str, tuple[Tensor, Tensor]] = {}
    kept: tuple[Tensor, Tensor] | None = None
    if "source only" in rows:  # seen as the target is, in its channels
        learned["source only"] = data.labelled(source, "train", channels=images.shape[1])
    if "translated" in rows and model is not None:
        pictures, names = data.labelled(source, "train")
        learned["translated"] = translated(model, pictures, to=to, like=images), names
    if "target only" in rows:
        learned["target only"] = data.labelled(target, "train")
        if model is not None:
            pictures, names = data.labelled(source, on)
            kept = translated(model, pictures, to=to, like=images), names
    figures: dict[str, list[float]] = {row: [] for row in learned}
    for seed in seeds:
        for row, (pictures, names) in learned.items():
            network = train_classifier(
                pictures, names, seed=seed, iterations=iterations, batch_size=batch_size, device=device
            )
            figures[row].append(accuracy(network, images, labels))
            say(f"seed {seed}, {row}: {figures[row][-1]:.4f}")
            if row == "target only" and kept is not None:
                figures.setdefault(KEPT, []).append(accuracy(network, *kept))
    return {
        "from": data.sets[source],
        "to": data.sets[target],
        "on": on,
        "digits": len(images),
        "trained_on": {row: len(names) for row, (_, names) in learned.items()},
        "seeds": list(seeds),
        "iterations": iterations,
        "batch_size": batch_size,
        "accuracy": figures,
    }


def format_report(report: Mapping[str, Any]) -> str:
    """Lay a report of `measure` out as a plain table: mean, standard deviation over seeds (n - 1), and each seed's figure."""
    lines = [
        f"{report['from']} to {report['to']}: share of {report['digits']} {report['on']} digits of {report['to']} that are read rightly",
        f"{'trained on':34}{'mean':>8}{'spread':>8}" + "".join(f"{f'seed {seed}':>9}" for seed in report["seeds"]),
    ]
    for row, values in report["accuracy"].items():
        count = report["trained_on"].get(row)
        title = f"{row}, {count} digits" if count else f"{row}, of {report['from']}"
        spread = f"{statistics.stdev(values):.4f}" if len(values) > 1 else "-"
        cells = "".join(f"{value:>9.4f}" for value in values)
        lines.append(f"{title:34}{statistics.mean(values):>8.4f}{spread:>8}{cells}")
    lines.append(f"Each classifier saw {report['iterations']} batches of {report['batch_size']}.")
    return "\n".join(lines)
