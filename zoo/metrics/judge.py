"""The judge of rendered scenes: is a translation what it should have been?

Scenes come with the truth (mask of the object, true translation), so most figures need no network. Two small ones give
the rest: a segmenter finds the object, and a classifier names its look, or says that there is none. Their own figures
on held-out scenes stand beside every result. For one translation:

* `style_accuracy`: share of translations whose object has the look of the target domain;
* `object_iou`: the object found in the translation against where it should be;
* `background_change`: mean absolute difference to the source outside the object, in [0, 1];
* `error` and `psnr`: mean absolute difference to the true translation in [0, 1], and decibels of its mean square;
* `style_distance` to the exemplar, `style_distance_others` to other exemplars of the domain, and `style_choice`, the
  share of pairs in which the own exemplar is the nearer one (0.5 is chance), see `palette`;
* `attention_iou`: a model's attention map against the source's object.

The same figures are given for what a translation must beat: `identity/` (the source unchanged), `exemplar/` (the
exemplar pasted in place of the translation), `mean_image/` (one picture for all); and for `counterpart/`, the truth
itself, as the judge sees it. Networks see pictures at 64x64 and resize others to it (fit for 32 to 256); differences of
pixels are taken at the pictures' own size.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from zoo.core.files import write_atomically
from zoo.errors import ZooError
from zoo.metrics.judge_networks import LookClassifier, Segmenter, resized

WEIGHTS = Path(__file__).with_name("judge_64.safetensors")
"""The shipped weights of both networks."""

CANDIDATES = ("translation", "identity", "exemplar", "mean_image", "counterpart")
"""What is judged: the translation, three baselines, and the truth. The translation's figures carry no prefix."""


class Judge(nn.Module):
    """Finds objects and names looks.

    Args:
        looks: names of the classifier's classes.
        domains: looks in the order of the data's domain numbers, some or all of `looks`.
        segmenter: gives logits `b 1 64 64`.
        classifier: gives logits `b len(looks) + 1`.
        figures: the judge's own figures on held-out scenes.

    Raises:
        ZooError: a domain is no look that this judge knows.
    """

    domain_of_class: Tensor

    def __init__(
        self,
        looks: Sequence[str],
        domains: Sequence[str],
        segmenter: Segmenter,
        classifier: LookClassifier,
        figures: dict[str, float],
    ) -> None:
        super().__init__()
        for name in domains:
            if name not in looks:
                raise ZooError(f"the judge does not know the look '{name}'; it was trained on: {', '.join(looks)}")
        self.domains = tuple(domains)
        self.figures = figures
        self.segmenter = segmenter
        self.classifier = classifier
        numbers = [self.domains.index(look) if look in self.domains else -1 for look in looks]
        self.register_buffer("domain_of_class", torch.tensor([*numbers, -1]), persistent=False)
        self.eval().requires_grad_(False)

    @classmethod
    def load(cls, domains: Sequence[str], path: Path = WEIGHTS) -> "Judge":
        """Load the shipped judge; no network is needed.

        Args:
            domains: looks in the order of the data's domain numbers, such as `("plain", "striped")`.
            path: of other weights, written by `python -m zoo.metrics.train_judge`.

        Raises:
            ZooError: the file is missing or is no judge, or a look is unknown.
        """
        if not path.is_file():
            raise ZooError(f"no judge at {path}; train one with: python -m zoo.metrics.train_judge --out {path.parent}")
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            weights = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
        if metadata.get("kind") != "judge of rendered scenes":
            raise ZooError(f"{path} holds no judge; write one with: python -m zoo.metrics.train_judge")
        looks = json.loads(metadata["looks"])
        judge = cls(looks, domains, Segmenter(), LookClassifier(len(looks)), json.loads(metadata["figures"]))
        judge.load_state_dict(weights)
        return judge

    @torch.no_grad()
    def see(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Find the objects and name their looks.

        Args:
            images: b 3 h w in [-1, 1], any size. They are judged as they would be saved: clamped, and mid-grey where
                they are not a number.

        Returns:
            b 1 64 64, the probability of being object; b domain numbers, -1 for a look outside `domains` and for no
            look at all.
        """
        seen = resized(images.float().nan_to_num(0.0).clamp(-1, 1)).clamp(-1, 1)
        found = self.segmenter(seen).sigmoid()
        return found, self.domain_of_class[self.classifier(seen, found).argmax(1)]

    def find(self, images: Tensor) -> Tensor:
        """Find the objects: the first result of `see`."""
        return self.see(images)[0]

    def name_looks(self, images: Tensor) -> Tensor:
        """Name the looks: the second result of `see`."""
        return self.see(images)[1]

    def report(
        self,
        images: Tensor,
        sources: Tensor,
        counterparts: Tensor,
        masks: Tensor,
        target_domain: int | str | Tensor,
        **more: Tensor | None,
    ) -> dict[str, float]:
        """Judge one batch; `Tally` explains the arguments and adds up several batches."""
        tally = Tally(self)
        tally.update(images, sources, counterparts, masks, target_domain, **more)
        return tally.compute()


class Tally:
    """Adds up the judge's figures over batches; the result does not depend on how the images were batched.

    Args:
        judge: whose domains number the looks as the batches do.
    """

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.rows: dict[str, list[Tensor]] = {}

    @torch.no_grad()
    def update(
        self,
        images: Tensor,
        sources: Tensor,
        counterparts: Tensor,
        masks: Tensor,
        target_domain: int | str | Tensor,
        references: Tensor | None = None,
        attention: Tensor | None = None,
        counterpart_masks: Tensor | None = None,
    ) -> None:
        """Judge a batch.

        Args:
            images: translations, b 3 h w in [-1, 1].
            sources: what was translated.
            counterparts: the true translations.
            masks: the sources' objects, b 1 h w in [0, 1].
            target_domain: the wanted domain: its number or name for all, or b numbers.
            references: exemplars of the wanted style (or any pictures of the target domain).
            attention: the model's attention, b 1 h' w' in [0, 1].
            counterpart_masks: the counterparts' objects, where translation changes the shape; else `masks`.

        Raises:
            ZooError: shapes do not fit or a domain is unknown.
        """
        wanted_masks = masks if counterpart_masks is None else counterpart_masks
        self._check(images, sources, counterparts, masks, wanted_masks, references)
        wanted = self._numbers(target_domain, len(images)).to(images.device)
        inside = resized(wanted_masks.float())
        outside = ((masks <= 0) & (wanted_masks <= 0)).double()  # b 1 h w
        self._keep("wanted", wanted)
        self._keep("inside", inside)
        self._keep("counterparts", ((counterparts + 1) * 127.5).round().clamp(0, 255).to(torch.uint8))
        candidates = {"": images, "identity/": sources, "counterpart/": counterparts}
        if references is not None:
            candidates["exemplar/"] = references
        for prefix, candidate in candidates.items():
            found, looks = self.judge.see(candidate)
            change = (candidate - sources).abs().double().mean(1, keepdim=True) / 2
            error = (candidate - counterparts).double() / 2
            self._keep(prefix + "style_accuracy", (looks == wanted).double())
            self._keep(prefix + "object_iou", object_iou(found, inside))
            background = (change * outside).sum((1, 2, 3)) / outside.sum((1, 2, 3)).clamp(min=1)
            self._keep(prefix + "background_change", background)
            self._keep(prefix + "error", error.abs().mean((1, 2, 3)))
            self._keep(prefix + "square", error.square().mean((1, 2, 3)))
            if references is not None:
                # An exemplar's object is elsewhere: its style is measured where the judge found it.
                self._keep(prefix + "palette", palette(resized(candidate), found if prefix == "exemplar/" else inside))
        if attention is not None:
            self._keep("attention_iou", object_iou(resized(attention.float()), resized(masks.float())))

    def compute(self) -> dict[str, float]:
        """Give the figures over all images so far: means over images, `psnr` from the mean square over all.

        Raises:
            ZooError: nothing was judged yet.
        """
        if not self.rows:
            raise ZooError("the judge has seen no images; call update(...) first")
        rows = {key: torch.cat(parts) for key, parts in self.rows.items()}
        rows |= self._mean_image(rows)
        report = {"images": float(len(rows["wanted"]))}
        for prefix in [_prefix(candidate) for candidate in CANDIDATES]:
            for figure in ("style_accuracy", "object_iou", "background_change", "error"):
                if prefix + figure in rows:
                    report[prefix + figure] = rows[prefix + figure].mean().item()
            if prefix + "square" in rows:
                square = rows[prefix + "square"].mean().item()
                report[prefix + "psnr"] = math.inf if square == 0 else -10 * math.log10(square)
            if prefix + "palette" in rows:
                figures = _style_figures(rows[prefix + "palette"], rows["exemplar/palette"], rows["wanted"])
                report |= {prefix + name: value for name, value in figures.items()}
        if "attention_iou" in rows:
            report["attention_iou"] = rows["attention_iou"].mean().item()
        return report | {f"judge/{name}": value for name, value in self.judge.figures.items()}

    def _mean_image(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Judge, for each wanted domain, the mean of its counterparts as if it were every translation."""
        device = self.judge.domain_of_class.device
        judged: dict[str, Tensor] = {}
        for domain in rows["wanted"].unique().tolist():
            here = rows["wanted"] == domain
            truth = rows["counterparts"][here].double() / 255
            mean = truth.mean(0, keepdim=True)
            seen = (2 * mean - 1).float().to(device)
            found, looks = (result.cpu() for result in self.judge.see(seen))
            for name, value in {
                "style_accuracy": (looks == domain).double().expand(len(truth)),
                "object_iou": object_iou(found.expand(len(truth), -1, -1, -1), rows["inside"][here]),
                "error": (truth - mean).abs().mean((1, 2, 3)),
                "square": (truth - mean).square().mean((1, 2, 3)),
            }.items():
                judged.setdefault("mean_image/" + name, torch.zeros(len(here), dtype=torch.float64))[here] = value
        return judged

    def _keep(self, name: str, values: Tensor) -> None:
        self.rows.setdefault(name, []).append(values.detach().cpu())

    def _numbers(self, domain: int | str | Tensor, count: int) -> Tensor:
        names = self.judge.domains
        if isinstance(domain, str):
            if domain not in names:
                raise ZooError(f"the target domain '{domain}' is not among the judged domains: {', '.join(names)}")
            domain = names.index(domain)
        numbers = domain if isinstance(domain, Tensor) else torch.full((count,), domain)
        if numbers.shape != (count,) or not ((numbers >= 0) & (numbers < len(names))).all():
            raise ZooError(
                f"target_domain must be {count} numbers in 0..{len(names) - 1} ({', '.join(names)}), "
                f"found {numbers.tolist()}"
            )
        return numbers

    @staticmethod
    def _check(
        images: Tensor,
        sources: Tensor,
        counterparts: Tensor,
        masks: Tensor,
        wanted_masks: Tensor,
        references: Tensor | None,
    ) -> None:
        count, _, height, width = images.shape
        for name, value, channels in (
            ("images", images, 3),
            ("sources", sources, 3),
            ("counterparts", counterparts, 3),
            ("masks", masks, 1),
            ("counterpart_masks", wanted_masks, 1),
            ("references", references, 3),
        ):
            expected = (count, channels, height, width)
            if value is not None and value.shape != expected:
                raise ZooError(f"{name} must be {expected} like the judged images, found {tuple(value.shape)}")
            if value is not None and not value.is_floating_point():
                raise ZooError(f"{name} must be floats (pictures in [-1, 1], masks in [0, 1]), found {value.dtype}")


def object_iou(found: Tensor, true: Tensor) -> Tensor:
    """Intersection over union of two masks cut at one half, per image; two empty masks agree.

    Args:
        found: b 1 h w in [0, 1].
        true: b 1 h w in [0, 1].

    Returns:
        b float64 in [0, 1].
    """
    first, second = found > 0.5, true > 0.5
    both, either = (first & second).sum((1, 2, 3)).double(), (first | second).sum((1, 2, 3)).double()
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)


def palette(image: Tensor, mask: Tensor) -> Tensor:
    """Measure the style of an object without a network: what colours it has and how busy it is.

    Taken well inside the mask: the mean colour of the pixels that are lighter than the object's average, that of the
    darker ones, the share of the lighter ones, and the mean step between neighbouring pixels over their standard
    deviation, which grows with the frequency of a pattern.

    Args:
        image: b 3 h w in [-1, 1].
        mask: b 1 h w in [0, 1], cut at one half.

    Returns:
        b 8 float64, all about in [0, 1].
    """
    image = ((image.double() + 1) / 2).clamp(0, 1)
    whole = (mask > 0.5).double()
    eroded = -F.max_pool2d(-whole, 3, 1, 1)
    inside = torch.where(eroded.sum((1, 2, 3), keepdim=True) >= 16, eroded, whole)
    area = inside.sum((2, 3), keepdim=True).clamp(min=1)
    light = image.mean(1, keepdim=True)
    middle = (light * inside).sum((2, 3), keepdim=True) / area
    spread = ((light - middle).square() * inside).sum((2, 3)).div(area[..., 0, 0]).sqrt()  # b 1
    upper, lower = inside * (light >= middle), inside * (light < middle)
    mean = (image * inside).sum((2, 3)) / area[..., 0, 0]
    colours = [
        torch.where(part.sum((2, 3)) > 0, (image * part).sum((2, 3)) / part.sum((2, 3)).clamp(min=1), mean)
        for part in (upper, lower)
    ]
    across = inside[..., 1:] * inside[..., :-1] * (light[..., 1:] - light[..., :-1]).abs()
    down = inside[..., 1:, :] * inside[..., :-1, :] * (light[..., 1:, :] - light[..., :-1, :]).abs()
    step = (across.sum((2, 3)) + down.sum((2, 3))) / area[..., 0, 0]
    return torch.cat((*colours, upper.sum((2, 3)) / area[..., 0, 0], step / (spread + 0.05)), dim=1)


def save_judge(path: Path, judge: Judge, figures: dict[str, float], *, command: str, seed: int) -> None:
    """Write a judge as float16 safetensors, at once or not at all.

    Args:
        path: of the file.
        judge: whose domains are all its looks, in the classifier's order.
        figures: on held-out scenes.
        command: that made it.
        seed: of the training.
    """
    metadata = {
        "kind": "judge of rendered scenes",
        "looks": json.dumps(judge.domains),
        "figures": json.dumps(figures),
        "command": command,
        "seed": str(seed),
    }
    weights = {key: value.half().contiguous() for key, value in judge.state_dict().items()}
    write_atomically(path, save(weights, metadata))


def format_table(report: dict[str, float]) -> str:
    """Lay a report out as a plain table: the translation, then the baselines and the truth beside it.

    Args:
        report: from `Judge.report` or `Tally.compute`.

    Returns:
        Lines of text; a dash where a figure does not apply.
    """
    figures = (
        ("style accuracy", "style_accuracy", ".3f"),
        ("object IoU", "object_iou", ".3f"),
        ("background change", "background_change", ".4f"),
        ("error", "error", ".4f"),
        ("PSNR in dB", "psnr", ".2f"),
        ("style distance", "style_distance", ".3f"),
        ("... to others", "style_distance_others", ".3f"),
        ("own exemplar nearer", "style_choice", ".3f"),
        ("attention IoU", "attention_iou", ".3f"),
    )
    headings = ("translation", "identity", "pasted exemplar", "mean image", "true counterpart")
    lines = [f"{'':20}" + "".join(f"{heading:>18}" for heading in headings)]
    for title, name, form in figures:
        values = [report.get(_prefix(candidate) + name) for candidate in CANDIDATES]
        if any(value is not None for value in values):
            cells = ["-" if value is None else format(value, form) for value in values]
            lines.append(f"{title:20}" + "".join(f"{cell:>18}" for cell in cells))
    lines.append(
        f"{report['images']:.0f} images. The judge itself, on {report['judge/images']:.0f} held-out scenes: "
        f"style accuracy {report['judge/look_accuracy']:.3f}, object IoU {report['judge/object_iou']:.3f}."
    )
    return "\n".join(lines)


def shortcomings(
    report: dict[str, float], *, style_accuracy: float = 0.8, object_iou: float = 0.7, background_change: float = 0.1
) -> list[str]:
    """Say why a model is no translator; an empty list where it passes.

    A copier of exemplars loses the object, an identity keeps the look, noise does both, and one picture for all has
    neither object nor background.

    Args:
        report: from `Judge.report` or `Tally.compute`.
        style_accuracy: least share with the target look.
        object_iou: least mean IoU of the object.
        background_change: largest mean absolute change outside the object, in [0, 1].
    """
    found = []
    if not report["style_accuracy"] >= style_accuracy:
        found.append(
            f"only {report['style_accuracy']:.2f} of the objects have the target look, wanted {style_accuracy}"
        )
    if not report["object_iou"] >= object_iou:
        found.append(f"the object's IoU is {report['object_iou']:.2f}, wanted {object_iou}: shape or place is lost")
    if not report["background_change"] <= background_change:
        found.append(f"the background changed by {report['background_change']:.3f}, allowed {background_change}")
    return found


def _prefix(candidate: str) -> str:
    return "" if candidate == "translation" else f"{candidate}/"


def _style_figures(measured: Tensor, exemplars: Tensor, wanted: Tensor) -> dict[str, float]:
    """Compare palettes `n 8` with the own exemplar's and with those of the same domain's other exemplars."""
    distance = (measured[:, None] - exemplars[None]).square().mean(2).sqrt()  # n n
    own = distance.diagonal()[:, None]
    others = (wanted[:, None] == wanted[None]) & ~torch.eye(len(wanted), dtype=torch.bool)
    figures = {"style_distance": own.mean().item()}
    if others.any():
        nearer = (own < distance).double() + 0.5 * (own == distance).double()
        figures |= {
            "style_distance_others": distance[others].mean().item(),
            "style_choice": nearer[others].mean().item(),
        }
    return figures
