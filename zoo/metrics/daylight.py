"""The judge of rendered landscapes: was a picture repainted in the light that was asked for, with everything still in its place?

No network judges: labels, the true translation and the colours of the light are known (`datamodules.scene_daylight`). For one translation:

* `label_iou`: each pixel goes to the region whose mean colour it is nearest to; how well that agrees with the labels, as mean intersection
  over union of the regions that are there. The truth itself does not reach 1: ground is textured, and night makes regions alike;
* `tone_error`: mean absolute difference of the regions' mean colours to those of the true translation, in [0, 1];
* `tone_choice`: share of pairs in which the regions' mean colours are nearer to those that the own exemplar's light gives than to those
  of another exemplar's (0.5 is chance);
* `error` and `psnr`: mean absolute difference to the true translation in [0, 1], and decibels of its mean square.

The same figures are given for what a translation must beat: `identity/` (the source unchanged), `exemplar/` (the exemplar pasted in place
of the translation), `mean_image/` (one picture for all); and for `counterpart/`, the truth.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.errors import ZooError

REGIONS = 3
CANDIDATES = ("", "identity/", "exemplar/", "mean_image/", "counterpart/")
HEADINGS = ("translation", "identity", "pasted exemplar", "mean image", "true counterpart")
FIGURES = (
    ("label IoU", "label_iou", ".3f"),
    ("tone error", "tone_error", ".4f"),
    ("own light nearer", "tone_choice", ".3f"),
    ("error", "error", ".4f"),
    ("PSNR in dB", "psnr", ".2f"),
)
NAMES = tuple(name for _, name, _ in FIGURES)


class DaylightTally:
    """Adds up the figures over batches; the result does not depend on how pictures were batched.

    Attributes:
        rows: what is kept of each picture, by name, on the CPU.
    """

    def __init__(self) -> None:
        self.rows: dict[str, list[Tensor]] = {}

    @torch.no_grad()
    def update(
        self, images: Tensor, sources: Tensor, targets: Tensor, counterparts: Tensor, labels: Tensor, lights: Tensor
    ) -> None:
        """Judge a batch.

        Args:
            images: translations, b 3 h w in [-1, 1].
            sources: what was translated.
            targets: the exemplars.
            counterparts: the true translations.
            labels: of the sources, int64 b h w.
            lights: of the exemplars, b 3 3: colours of the light on each region.

        Raises:
            ZooError: shapes do not fit.
        """
        for name, value in (("sources", sources), ("targets", targets), ("counterparts", counterparts)):
            if value.shape != images.shape:
                raise ZooError(
                    f"{name} must be {tuple(images.shape)} like the judged pictures, found {tuple(value.shape)}"
                )
        kept = {"": images, "identity/": sources, "exemplar/": targets, "counterpart/": counterparts}
        pictures = {key: to_bytes(value) for key, value in kept.items()}
        for name, value in {**pictures, "labels": labels.to(torch.uint8), "lights": lights.double()}.items():
            self.rows.setdefault(name, []).append(value.detach().cpu())

    def compute(self) -> dict[str, float]:
        """The figures over all pictures so far: means over pictures, `psnr` from the mean square over all.

        Raises:
            ZooError: nothing was judged yet.
        """
        if not self.rows:
            raise ZooError("the judge has seen no landscapes; call update(...) first")
        rows = {name: torch.cat(parts) for name, parts in self.rows.items()}
        truth, labels, lights = rows["counterpart/"].double() / 255, rows["labels"].long(), rows["lights"]
        there = F.one_hot(labels, REGIONS).sum((1, 2)) > 0  # n r
        wanted = region_means(truth, labels)  # n r 3
        report = {"images": float(len(labels))}
        for prefix in CANDIDATES:
            of_all = prefix == "mean_image/"
            picture = truth.mean(0, keepdim=True).expand_as(truth) if of_all else rows[prefix].double() / 255
            means = region_means(picture, labels)
            apart = ((means - wanted).abs().mean(2) * there).sum(1) / there.sum(1)
            square = (picture - truth).square().mean().item()
            report |= {
                f"{prefix}label_iou": nearest_region_iou(picture, means, labels, there).mean().item(),
                f"{prefix}tone_error": apart.mean().item(),
                f"{prefix}error": (picture - truth).abs().mean().item(),
                f"{prefix}psnr": math.inf if square == 0 else -10 * math.log10(square),
            }
            if len(labels) > 1:
                report[f"{prefix}tone_choice"] = tone_choice(means, wanted, lights, there)
        return report


def to_bytes(image: Tensor) -> Tensor:
    """Pictures in [-1, 1] as they would be saved: clamped, whole numbers of 0..255, mid-grey where they are not a number."""
    return ((image.float().nan_to_num(0.0) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def region_means(picture: Tensor, labels: Tensor) -> Tensor:
    """Mean colour of each region: n 3 h w and n h w to n r 3; 0 for a region that is not there."""
    inside = F.one_hot(labels, REGIONS).to(picture.dtype)  # n h w r
    return torch.einsum("nchw,nhwr->nrc", picture, inside) / inside.sum((1, 2)).clamp(min=1)[..., None]


def nearest_region_iou(picture: Tensor, means: Tensor, labels: Tensor, there: Tensor) -> Tensor:
    """Mean IoU, n, of the labels and of a segmentation that gives each pixel to the region with the nearest mean colour."""
    scores = []
    for one, colours, wanted, present in zip(picture, means, labels, there, strict=True):
        distance = (one[None] - colours[..., None, None]).square().sum(1)  # r h w
        distance[~present] = math.inf
        found = distance.argmin(0)
        ious = [
            ((found == region) & (wanted == region)).sum().double() / ((found == region) | (wanted == region)).sum()
            for region in present.nonzero().flatten().tolist()
        ]
        scores.append(torch.stack(ious).mean())
    return torch.stack(scores)


def tone_choice(means: Tensor, wanted: Tensor, lights: Tensor, there: Tensor) -> float:
    """Share of pairs of pictures in which a picture's regions are nearer to what its own light gives than to what the other's gives.

    A region's mean colour is a product with the light, so under another light it is known without painting it.
    """
    under = wanted[:, None] / lights[:, None] * lights[None]  # n n r 3
    distance = ((means[:, None] - under).abs().mean(3) * there[:, None]).sum(2) / there.sum(1, keepdim=True)  # n n
    own = distance.diagonal()[:, None]
    others = ~torch.eye(len(means), dtype=torch.bool)
    nearer = (own < distance).double() + 0.5 * (own == distance).double()
    return nearer[others].mean().item()


def format_daylight(report: dict[str, float]) -> str:
    """Lay a report out as a plain table: the translation, then the baselines and the truth beside it."""
    lines = [f"{'':20}" + "".join(f"{heading:>18}" for heading in HEADINGS)]
    for title, name, form in FIGURES:
        values = [report.get(f"{prefix}{name}") for prefix in CANDIDATES]
        if any(value is not None for value in values):
            cells = ["-" if value is None else format(value, form) for value in values]
            lines.append(f"{title:20}" + "".join(f"{cell:>18}" for cell in cells))
    lines.append(
        f"{report['images']:.0f} rendered landscapes; labels, true translations and light are known, no network judges."
    )
    return "\n".join(lines)
