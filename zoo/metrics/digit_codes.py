"""What codes of digits are good for: the nearest neighbour and a linear support vector machine read them (ALAE, section 5.1).

    lightning evaluate RUN --protocol digit-codes

encodes digits that were trained on, lets both classifiers learn their classes, and reads two sets of others: those that were held out from
the training digits, by the same writers, and the test digits, by different ones. Features are the encoder's output (short) and its second
hidden layer (long). Nothing is chosen by what is read. The published figures stand beside ours: these are of 800 epochs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from datamodules.digit_classes import ClassDigits, Part
from zoo.core.images import from_uint8
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
