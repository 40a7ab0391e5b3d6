"""What codes of digits are good for: the nearest neighbour and a linear support vector machine read them (ALAE, section 5.1).

    python -m zoo.metrics.digit_codes RUN

encodes digits that were trained on, lets both classifiers learn their classes, and reads two sets of others: those that were held out from
the training digits, by the same writers, and the test digits, by different ones. Features are the encoder's output (short) and its second
hidden layer (long). Nothing is chosen by what is read. The published figures stand beside ours: these are of 800 epochs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import yaml
from torch import Tensor

from datamodules.digit_classes import ClassDigits, Part
from datamodules.errors import DataError
from zoo.core.files import write_atomically
from zoo.core.images import from_uint8
from zoo.core.loading import find_checkpoint, load_translator
from zoo.errors import ZooError

WRITERS: dict[str, Part] = {"same writers": "same_writers", "different writers": "test"}
SVM_STRENGTH, SVM_ITERATIONS = 0.02, 5000  # the official script's C and max_iter
PUBLISHED = {  # of the paper's table 1, in per cent, quoted from memory: short, long
    ("same writers", "nearest neighbour"): (93.79, 97.61),
    ("same writers", "linear SVM"): (93.47, 98.20),
    ("different writers", "nearest neighbour"): (94.59, 97.47),
    ("different writers", "linear SVM"): (94.23, 98.64),
}
AT_ONCE = 1000


class Encodes(Protocol):
    """A model whose features can be read."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    def features(self, image: Tensor) -> dict[str, Tensor]:
        """Features b d by name, of digits b 1 s s in [-1, 1]."""


def encoded(model: Encodes, images: Tensor) -> dict[str, Tensor]:
    """Features of digits uint8 `n 1 s s`, on the CPU."""
    parts = [model.features(from_uint8(some.to(model.device))) for some in images.split(AT_ONCE)]
    return {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}


def measure(model: Encodes, data: ClassDigits, count: int | None = None) -> dict[str, float]:
    """Read both sets by both classifiers on all features.

    Args:
        model: encodes digits.
        data: the digits, as in the training.
        count: the first so many digits of each part; None for all.

    Returns:
        Shares read rightly, by `<writers>/<classifier>/<features>`.

    Raises:
        ZooError: the digits that are learned from show one class alone.
    """
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import LinearSVC

    images, labels = data.labelled("train", count)
    if len(labels.unique()) < 2:
        raise ZooError(f"The {len(labels)} digits to learn from are all of one class: read more of them, with --count.")
    known = encoded(model, images)
    others = {writers: data.labelled(part, count) for writers, part in WRITERS.items()}
    found = {writers: encoded(model, digits) for writers, (digits, _) in others.items()}
    report = {}
    for name, rows in known.items():
        classifiers = {
            "nearest neighbour": KNeighborsClassifier(n_neighbors=1),
            # The same solution as of the dual problem, which chance leads to and which takes longer where digits are many.
            "linear SVM": LinearSVC(C=SVM_STRENGTH, max_iter=SVM_ITERATIONS, dual=False),
        }
        for classifier, machine in classifiers.items():
            machine.fit(rows.numpy(), labels.numpy())
            for writers, (_, wanted) in others.items():
                report[f"{writers}/{classifier}/{name}"] = float(
                    machine.score(found[writers][name].numpy(), wanted.numpy())
                )
    return report


def format_report(report: Mapping[str, float], count: int) -> str:
    """The figures as a table, published ones beside ours.

    Args:
        report: as `measure` gives it.
        count: of the digits that the classifiers learned from.
    """
    lines = [
        f"read rightly, in per cent, after learning from {count} digits; published: 800 epochs",
        f"{'':<40}{'short':>8}{'published':>11}{'long':>8}{'published':>11}",
    ]
    for (writers, classifier), published in PUBLISHED.items():
        ours = [100 * report[f"{writers}/{classifier}/{name}"] for name in ("short", "long")]
        row = f"{writers + ', ' + classifier:<40}"
        lines.append(row + "".join(f"{a:>8.2f}{b:>11.2f}" for a, b in zip(ours, published, strict=True)))
    return "\n".join(lines)


def data_of(checkpoint: Path, config: Path | None) -> ClassDigits:
    """The digits that a run was trained on, by its config.yaml or another file.

    Raises:
        ZooError: there is no such file, or it is not about digits with classes.
    """
    path = config or checkpoint.absolute().parents[1] / "config.yaml"
    if not path.is_file():
        raise ZooError(f"There is no {path} that says which digits were trained on. Type --config zoo/alae_mnist.yaml")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    node: Any = content.get("data") if isinstance(content, dict) else None
    if not isinstance(node, dict) or "ClassDigits" not in str(node.get("class_path")):
        raise ZooError(f"{path} is not about datamodules.ClassDigits. Type --config zoo/alae_mnist.yaml")
    settings = dict(node.get("init_args") or {})
    settings.setdefault("seed", content.get("seed_everything") or 0)
    return ClassDigits(**settings)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print.

    Args:
        arguments: of the command line; those of the process when None.

    Returns:
        0, or 2 if a person has something to mend.
    """
    parser = argparse.ArgumentParser(
        prog="python -m zoo.metrics.digit_codes", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("run", type=Path, help="run or checkpoint of an ALAE for digits")
    parser.add_argument("--config", type=Path, help="YAML file about the digits; by default the run's config.yaml")
    parser.add_argument("--count", type=int, help="read the first so many digits of each part alone")
    parser.add_argument("--device", default="cpu", help="where to encode, such as cuda")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    options = parser.parse_args(arguments)
    try:
        if options.count is not None and options.count < 2:
            raise ZooError(f"--count is {options.count}; expected two digits at least, such as --count 1000.")
        model: Any = load_translator(options.run).to(options.device)
        if not hasattr(model, "features"):
            raise ZooError(
                f"{type(model).__name__} gives no features of digits; an ALAE for digits does: zoo/alae_mnist.yaml"
            )
        data = data_of(find_checkpoint(options.run), options.config)
        report = measure(model, data, options.count)
        if options.output is not None:
            write_atomically(options.output, json.dumps(report, indent=1).encode())
        print(format_report(report, len(data.labelled("train", options.count)[1])))
    except (ZooError, DataError) as error:
        print(f"digit_codes: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
