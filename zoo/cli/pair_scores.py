"""What says how much a generated picture looks like a real one of its class: the scores that the filter of pairs ranks by.

A GAN's own discriminator knows best what its generator gets wrong, but published weights come without one. Then a classifier stands
in: the probability of the class that was asked for, as in the rejection sampling of Razavi, van den Oord and Vinyals (Generating
Diverse High-Fidelity Images with VQ-VAE-2, NeurIPS 2019, https://arxiv.org/abs/1906.00446).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from datamodules.scene_looks import LOOKS
from zoo.biggan.pairs import PairGenerator
from zoo.core.images import from_uint8
from zoo.errors import ZooError
from zoo.experts.vgg_classifier import CLASSES, VGGClassifier
from zoo.metrics.judge import Judge
from zoo.metrics.judge_networks import resized

Score = Literal["auto", "discriminator", "vgg19", "judge", "none"]
SCORES: tuple[Score, ...] = ("auto", "discriminator", "vgg19", "judge", "none")
Scorer = Callable[[Tensor, Tensor], Tensor]
"""From pictures uint8 b 3 h w and places in the source's `names()`, int64 b, to scores, float b: the higher, the better."""


def chosen_score(score: Score, source: PairGenerator, asked: str = "") -> Score:
    """What ranks pictures: `auto` is a discriminator where the weights bring one, else nothing.

    Args:
        score: as typed.
        source: draws, after `setup`.
        asked: the option that needs a score, such as `--keep 0.5`; empty where none was typed.

    Raises:
        ZooError: it cannot score these pictures, or nothing can that was named; says what to type.
    """
    if score == "discriminator" and not source.judges:
        raise ZooError(f"{source.weights} brings no discriminator to score pictures. {advice(source)}")
    if score == "vgg19" and source.model.classes != CLASSES:
        raise ZooError(
            f"--score vgg19 knows ImageNet's {CLASSES:,} classes, and {source.weights} has {source.model.classes}. {advice(source)}"
        )
    if score == "judge":
        refuse_other_than_scenes(source.names(), "--score judge", "Give another score, or none.")
    if score == "auto":
        score = "discriminator" if source.judges else "none"
        if asked and score == "none":
            raise ZooError(
                f"{asked} needs a score of pictures, and {source.weights} brings no discriminator. {advice(source)}"
            )
    if asked and score == "none":
        raise ZooError(f"{asked} needs a score of pictures, and --score none was given. Leave one of them out.")
    return score


def advice(source: PairGenerator) -> str:
    """What to type for pictures of these classes."""
    fitting = ["--score discriminator"] if source.judges else []
    if source.model.classes == CLASSES:
        fitting.append("--score vgg19 (the probability of the class, by a classifier)")
    if all(is_look(name) for name in source.names()):
        fitting.append("--score judge (the probability of the look, by the judge of scenes)")
    return f"Type {' or '.join([*fitting, '--score none'])}; with none, all are kept, and --keep is left out."


def scorer(score: Score, source: PairGenerator, device: torch.device) -> Scorer | None:
    """Build what scores; None for nothing.

    Args:
        score: of `chosen_score`.
        source: draws.
        device: of the pictures.

    Raises:
        ZooError: its weights cannot be had.
    """
    if score == "vgg19":
        classifier = VGGClassifier().to(device)
        numbers = torch.tensor(list(source.classes.values()), device=device)
        return lambda pictures, domains: picked(classifier.probabilities(pictures), numbers[domains])
    if score == "judge":
        return look_probabilities([look_of(name) for name in source.names()], device)
    return source.scores if score == "discriminator" else None


def look_probabilities(looks: Sequence[str], device: torch.device) -> Scorer:
    """How likely the judge of scenes finds it that an object has the look of its domain.

    Args:
        looks: of the domains, in their order.
        device: of the pictures.
    """
    judge = Judge.load(tuple(LOOKS)).to(device)
    classes = [int((judge.domain_of_class == list(LOOKS).index(look)).nonzero()) for look in looks]
    numbers = torch.tensor(classes, device=device)

    @torch.no_grad()
    def scores(pictures: Tensor, domains: Tensor) -> Tensor:
        seen = resized(from_uint8(pictures)).clamp(-1, 1)
        logits = judge.classifier(seen, judge.segmenter(seen).sigmoid())
        return picked(logits.softmax(1), numbers[domains])

    return scores


def picked(table: Tensor, columns: Tensor) -> Tensor:
    """Of each row of `b k` the entry in one column: b."""
    return table.gather(1, columns[:, None])[:, 0]


def look_of(name: str) -> str:
    """The look in a domain's name, `<class>_<look>`."""
    return name.partition("_")[2]


def is_look(name: str) -> bool:
    """Whether a domain is a look of rendered scenes."""
    return look_of(name) in LOOKS


def refuse_other_than_scenes(domains: Sequence[str], asked: str, advice: str) -> None:
    """Refuse to have the scenes' judge look at classes that are no looks of scenes.

    Raises:
        ZooError: a domain is none.
    """
    if strange := [name for name in domains if not is_look(name)]:
        raise ZooError(
            f"{asked} knows the objects of rendered scenes ({', '.join(LOOKS)}), and {strange[0]} is none of them. {advice}"
        )
