"""Digit adaptation: how well does a classifier of the target read, that learned from translated digits of the source alone?

    python -m zoo.metrics.digits RUN --seeds 0 1 2

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

import inspect
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from jsonargparse import ArgumentParser, Namespace
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.digit_files import CLASSES
from datamodules.digits import DOMAINS, Digits
from datamodules.errors import DataError
from zoo.core.files import write_atomically
from zoo.core.images import from_uint8, to_uint8
from zoo.core.loading import find_checkpoint, load_translator
from zoo.core.translator import Translator
from zoo.errors import ZooError

ROWS = ("source only", "translated", "target only")
"""What classifiers learn from."""

KEPT = "kept in translation"
"""The share of translated test digits of the source that the target-only classifier reads as what they were."""

Domain = Literal["source", "target"]

_UNUSED = {"batch_size", "workers", "download"}  # arguments of Digits that are for training
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


def settings_of(path: Path) -> dict[str, Any]:
    """The arguments of `Digits` that a configuration file holds: a run's config.yaml, or an overlay.

    Raises:
        ZooError: there is no such file, or its data are not digits.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ZooError(f"{path} cannot be read as YAML: {' '.join(str(error).split())[:200]}") from error
    data = content.get("data") if isinstance(content, dict) else None
    name = data.get("class_path") if isinstance(data, dict) else None
    if not isinstance(data, dict) or name not in {"datamodules.Digits", "datamodules.digits.Digits", "Digits"}:
        raise ZooError(
            f"{path} is about {name or 'no data'}, and digits are measured here. Give a file with data.class_path "
            "datamodules.Digits: --config configs/data/digits_mnist2usps.yaml"
        )
    return dict(data.get("init_args") or {})


def command_line() -> ArgumentParser:
    """The parser: our own options, and every argument of `Digits` that matters here as `--data.<name>`."""
    parser = ArgumentParser(
        prog="python -m zoo.metrics.digits",
        description="Train digit classifiers on translated sources, and test them on the target.",
    )
    parser.add_argument(
        "run", nargs="?", type=Path, help="run or checkpoint of a translator; without it, what it has to beat alone"
    )
    parser.add_argument("--config", type=Path, help="YAML file about the digits; by default the run's config.yaml")
    parser.add_argument("--to", choices=DOMAINS, default="target", help="domain to translate into")
    parser.add_argument("--on", choices=("test", "validation"), default="test", help="digits to read")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="classifiers to train")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one training of each per seed")
    parser.add_argument("--iterations", type=int, default=1000, help="batches per classifier")
    parser.add_argument("--batch_size", type=int, default=64, help="digits per batch")
    parser.add_argument("--device", default="cpu", help="where to compute, such as cuda")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    parser.add_class_arguments(Digits, "data", skip=_UNUSED)
    return parser


def parse(arguments: Sequence[str] | None) -> tuple[Namespace, Digits]:
    """Parse the command line, on top of what the run's configuration or a file says about the digits.

    Raises:
        ZooError: there is no such run or file, or it is not about digits.
        DataError: an argument of `Digits` cannot be right.
    """
    parser = command_line()
    options = parser.parse_args(arguments)
    written = options.config
    if written is None and options.run is not None:
        checkpoint = find_checkpoint(options.run)
        written = checkpoint.absolute().parents[1] / "config.yaml"
        if not written.is_file():
            raise ZooError(
                f"There is no {written} that says which digits {checkpoint.name} was trained on. Type "
                "--config configs/data/digits_mnist2usps.yaml"
            )
    if written is not None:
        settings = settings_of(written)
        if unknown := sorted(set(settings) - set(inspect.signature(Digits).parameters)):
            raise ZooError(f"{written}: datamodules.Digits has no argument {unknown[0]!r} (any more).")
        parser.set_defaults({f"data.{name}": value for name, value in settings.items() if name not in _UNUSED})
        options = parser.parse_args(arguments)
    return options, Digits(**options.data.as_dict())


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print.

    Args:
        arguments: of the command line; those of the process when None.

    Returns:
        0, or 2 if a person has something to mend.
    """
    try:
        options, data = parse(arguments)
        model = None
        if options.run is not None:
            model = load_translator(options.run).to(options.device)
        report = measure(
            data,
            model,
            to=options.to,
            on=options.on,
            rows=options.rows,
            seeds=options.seeds,
            iterations=options.iterations,
            batch_size=options.batch_size,
            device=options.device,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
        if options.output is not None:
            write_atomically(options.output, json.dumps(report, indent=1).encode())
    except (ZooError, DataError) as error:
        print(f"digits: {error}", file=sys.stderr)
        return 2
    print(format_report(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
