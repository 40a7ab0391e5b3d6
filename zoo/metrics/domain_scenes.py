"""The judge of rendered scenes over all ordered pairs of domains, by references and by chance.

    lightning evaluate RUN --protocol judge-domains --count 32 --outputs 10

For every ordered pair of a model's domains, scenes of the first are translated into the second: once in the style of a scene of the
second, and several times in random styles. All are scenes of the test. Beside the judge's figures (`zoo.metrics.judge`):

* `diversity`: how far the palettes (`zoo.metrics.judge.palette`) of a scene's translations in several random styles lie apart, the mean
  distance of two; `repeated`, the same of one style as often, which no model should tell apart; `true`, that of the true translations
  in as many styles of the data: what a model can hope for.
"""

from collections.abc import Callable, Sequence
from itertools import permutations
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from datamodules.scenes import FIRST_SAMPLE, Scene, Scenes
from zoo.core.images import from_uint8
from zoo.core.translator import Translator
from zoo.errors import ZooError
from zoo.metrics.domain_protocol import require_protocol
from zoo.metrics.judge import Judge, Tally, format_table, palette
from zoo.metrics.judge_networks import resized

COUNT = 32  # scenes of each pair
OUTPUTS = 10  # random styles of each scene
DIVERSITIES = ("diversity", "repeated", "true")


def palette_spread(images: Sequence[Tensor], masks: Tensor) -> Tensor:
    """How far the palettes of several translations of the same scenes lie apart.

    Args:
        images: at least two times b 3 h w in [-1, 1].
        masks: the objects, b 1 h w in [0, 1].

    Returns:
        b float64: the mean distance of two of them.
    """
    palettes = torch.stack([palette(resized(image), resized(masks)) for image in images], dim=1)  # b n 8
    count = palettes.shape[1]
    distances = torch.cdist(palettes, palettes) / sqrt(palettes.shape[2])  # a root of a mean square, as the judge's
    return distances.sum((1, 2)) / (count * (count - 1))


@torch.no_grad()
def measure(
    model: Translator,
    data: Scenes,
    *,
    count: int = COUNT,
    outputs: int = OUTPUTS,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Measure a model.

    Args:
        model: the translator; it has `domains`, the looks' names.
        data: scenes of these domains at the model's size.
        count: scenes of each pair.
        outputs: random styles of each scene.
        seed: of the random styles.
        say: is told each pair's figures.

    Returns:
        `report`, the judge's over all pairs by reference; `latent_style_accuracy`, by chance; the three diversities; and `pairs`, style
        accuracy, object IoU and diversity of each by `source2target`.

    Raises:
        ZooError: the model is of another kind, or the numbers make no sense.
    """
    domains = require_protocol(model, ["latent", "reference"])
    if count < 2 or outputs < 2:
        raise ZooError(
            f"count is {count} and outputs {outputs}; others are compared with, so each must be at least 2: --count {COUNT}"
        )
    judge = Judge.load(domains).to(model.device)
    generator = torch.Generator().manual_seed(seed)
    channels: Any = model.latent_channels
    latents = torch.randn(outputs, 1, channels, generator=generator).to(model.device)
    whole, first = Tally(judge), 4 * FIRST_SAMPLE["test"]
    pairs: dict[str, dict[str, float]] = {}
    for number, (source, target) in enumerate(permutations(range(len(domains)), 2)):
        own, name = Tally(judge), domains[target]
        start = first + 2 * number * count
        scenes = [_translated_scene(data, start + 2 * i, source, target, outputs) for i in range(count)]
        images, references, truths = (_pictures(scenes, place, model) for place in (0, 1, 2))
        masks, true_masks = (torch.stack([one[place].mask for one in scenes]).to(images) for place in (0, 2))
        made = model.translate(images, to=name, reference=references)  # type: ignore[call-arg]
        for tally in (own, whole):
            tally.update(made, images, truths, masks, target, references=references, counterpart_masks=true_masks)
        by_chance = [model.translate(images, to=name, latent=latent) for latent in latents]  # type: ignore[call-arg]
        repeated = [model.translate(images, to=name, latent=latents[0]) for _ in range(outputs)]  # type: ignore[call-arg]
        true = [_pictures(scenes, 2 + place, model) for place in range(outputs)]
        spreads = zip(DIVERSITIES, (by_chance, repeated, true), strict=True)
        looks = torch.stack([judge.name_looks(image) for image in by_chance])
        report = own.compute()
        pairs[f"{domains[source]}2{name}"] = {
            "style_accuracy": report["style_accuracy"],
            "object_iou": report["object_iou"],
            "latent_style_accuracy": float((looks == target).double().mean()),
            **{title: float(palette_spread(group, true_masks).mean()) for title, group in spreads},
        }
        shown = ", ".join(f"{title} {value:.3f}" for title, value in pairs[f"{domains[source]}2{name}"].items())
        say(f"{domains[source]} to {name}: {shown}")
    means = {
        title: sum(figures[title] for figures in pairs.values()) / len(pairs)
        for title in ("latent_style_accuracy", *DIVERSITIES)
    }
    return {"report": whole.compute(), **means, "pairs": pairs}


def _translated_scene(data: Scenes, index: int, source: int, target: int, outputs: int) -> list[Scene]:
    """A scene, its reference, its true translation in the reference's style, and those in further styles of the data."""
    maker = data.maker
    reference = maker.scene(index + 1, target)
    styles = [reference.style, *(maker.style(index + 1 + more, target) for more in range(1, outputs))]
    image, *truths = maker.paint(index, (source, maker.style(index, source)), *((target, style) for style in styles))
    return [image, reference, *truths]


def _pictures(scenes: Sequence[Sequence[Scene]], place: int, model: Translator) -> Tensor:
    return from_uint8(torch.stack([one[place].image for one in scenes]).to(model.device))


def format_measures(measures: dict[str, Any]) -> str:
    """The judge's table over all pairs by reference, the least and mean figures of the pairs, and the diversities, as text."""
    least = {
        title: min(measures["pairs"].items(), key=lambda pair: pair[1][title])
        for title in ("style_accuracy", "object_iou", "latent_style_accuracy")
    }
    lines = [format_table(measures["report"])]
    lines += [
        f"least {title.replace('_', ' ')}: {figures[title]:.3f} ({pair})" for title, (pair, figures) in least.items()
    ]
    lines.append(f"style accuracy by chance: {measures['latent_style_accuracy']:.3f}")
    lines.append(
        "diversity of random styles: {diversity:.3f}; one style repeated {repeated:.3f}; true styles {true:.3f}".format(
            **measures
        )
    )
    return "\n".join(lines)
