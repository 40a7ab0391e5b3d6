"""Codes of rendered scenes: how well scenes survive them, and whether an edit moves what it is asked to move, and nothing else.

What a picture shows is measured with the object's mask, which is known for scenes; the judge's segmenter finds it in what a model paints:
mean colour of the object (red, green, blue), its size (square root of its share of the picture), and its middle (x, y), all in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.scenes import FIRST_SAMPLE, SceneMaker, ScenesAlone
from zoo.core.images import from_uint8, psnr
from zoo.errors import ZooError
from zoo.metrics.judge import Judge, object_iou
from zoo.metrics.judge_networks import resized

FACTORS = ("red", "green", "blue", "size", "x", "y")
COLOURS, PLACES = FACTORS[:3], FACTORS[4:]
HUE_TURN = 1 / 3  # of the circle: a cyclic exchange of red, green and blue
SIZE_STEP = 0.04  # share of the picture's side; sizes of scenes differ by about as much
AT_ONCE = 64


class EditsCodes(Protocol):
    """A model that encodes, edits and paints."""

    directions: dict[str, Tensor]

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    def encode(self, image: Tensor) -> Tensor:
        """Codes b z of pictures."""

    def decode(self, codes: Tensor) -> Tensor:
        """Pictures of codes, one for all styles or one for each."""

    def at_level(self, image: Tensor) -> Tensor:
        """Pictures of the size that the model paints."""

    def edit_codes(self, codes: Tensor, changes: Mapping[str, float | Tensor]) -> Tensor:
        """Codes with changed attributes."""


def measure_factors(image: Tensor, mask: Tensor) -> Tensor:
    """What pictures show.

    Args:
        image: b 3 h w in [-1, 1].
        mask: b 1 h w in [0, 1], the object.

    Returns:
        b 6 in the order of `FACTORS`; without an object all are 0.
    """
    mask = mask.double()
    area = mask.sum((2, 3)).clamp(min=1e-9)  # b 1
    colour = ((image.double().clamp(-1, 1) + 1) / 2 * mask).sum((2, 3)) / area
    height, width = mask.shape[2:]
    rows = (torch.arange(height, device=mask.device) + 0.5).double() / height
    columns = (torch.arange(width, device=mask.device) + 0.5).double() / width
    x, y = (mask.sum(2) * columns).sum(2) / area, (mask.sum(3) * rows).sum(2) / area
    return torch.cat([colour, (mask.sum((2, 3)) / (height * width)).sqrt(), x, y], 1)


def scenes_of(maker: SceneMaker, count: int, first: int = FIRST_SAMPLE["train"]) -> tuple[Tensor, Tensor]:
    """The first scenes of a range: pictures uint8 `n 3 h w`, and their objects' masks `n 1 h w`."""
    samples = [ScenesAlone(maker, first, count)[i] for i in range(count)]
    return torch.stack([sample["image"] for sample in samples]), torch.stack([sample["mask"] for sample in samples])


def encoded(model: EditsCodes, images: Tensor) -> Tensor:
    """Codes `n z` of pictures uint8 `n 3 h w`, on the CPU."""
    return torch.cat([model.encode(from_uint8(some.to(model.device))).cpu() for some in images.split(AT_ONCE)])


def known_factors(images: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """What scenes show by their own masks: n each, by name."""
    return dict(zip(FACTORS, measure_factors(from_uint8(images), masks).T, strict=True))


class SceneMeasure:
    """Measures a model's reconstructions and edits of scenes whose truth is known.

    Args:
        model: in inference.
        judge: finds objects.
    """

    def __init__(self, model: EditsCodes, judge: Judge) -> None:
        self.model, self.judge = model, judge.to(model.device)

    def find(self, image: Tensor) -> Tensor:
        """The object's mask in pictures `b 3 h w` in [-1, 1], cut at one half, in the pictures' size."""
        found = self.judge.find(image.float())
        found = F.interpolate(found, image.shape[2:], mode="bilinear", align_corners=False)
        return (found > 0.5).to(image.dtype)

    def reconstructions(self, images: Tensor, masks: Tensor, mean: Tensor) -> dict[str, float]:
        """Figures of reconstructions, beside those of one mean picture in place of them all, and of the pictures themselves.

        Args:
            images: uint8 n 3 h w.
            masks: n 1 h w.
            mean: 3 h w in [-1, 1], the mean of other scenes.

        Returns:
            `psnr` in dB and `object_iou`, and the same with `mean_image/` and `picture/` before them.
        """
        rows: dict[str, list[Tensor]] = {}
        for some, true in zip(images.split(AT_ONCE), masks.split(AT_ONCE), strict=True):
            image = self.model.at_level(from_uint8(some.to(self.model.device)))
            painted = self.model.decode(self.model.encode(image)).clamp(-1, 1)
            other = self.model.at_level(mean[None].to(image)).expand_as(image)
            wanted = resized(true.float().to(image.device))
            for name, candidate in (("", painted), ("mean_image/", other), ("picture/", image)):
                found = self.judge.find(candidate)
                rows.setdefault(f"{name}object_iou", []).append(object_iou(found, wanted))
                if name != "picture/":
                    rows.setdefault(f"{name}psnr", []).append(psnr(candidate, image))
        return {name: float(torch.cat(values).mean()) for name, values in rows.items()}

    def edit(
        self, images: Tensor, change: Callable[[Tensor], Mapping[str, Tensor]]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Edit scenes and measure what moved, from the reconstruction on.

        Args:
            images: uint8 n 3 h w.
            change: asked changes, n each by attribute, of what reconstructions show, n 6.

        Returns:
            What reconstructions show and what edited pictures show, n 6 each; the overlap (IoU) of the objects before and after; and the
            mean absolute change of what was background before and after, in [0, 1], n each. Pictures in whose reconstruction no object
            is found are left out.
        """
        before, after, overlaps, backgrounds = [], [], [], []
        for some in images.split(AT_ONCE):
            code = self.model.encode(from_uint8(some.to(self.model.device)))
            plain = self.model.decode(code).clamp(-1, 1)
            mask = self.find(plain)
            shown = measure_factors(plain, mask)
            asked = {name: values.to(code) for name, values in change(shown).items()}
            moved = self.model.decode(self.model.edit_codes(code, asked)).clamp(-1, 1)
            new_mask = self.find(moved)
            seen = mask.sum((1, 2, 3)) > 0
            outside = (1 - mask) * (1 - new_mask)
            apart = ((moved - plain).abs() / 2).mean(1, keepdim=True) * outside
            before.append(shown[seen])
            after.append(measure_factors(moved, new_mask)[seen])
            overlaps.append(object_iou(new_mask, mask)[seen])
            backgrounds.append((apart.sum((1, 2, 3)) / outside.sum((1, 2, 3)).clamp(min=1))[seen])
        return torch.cat(before), torch.cat(after), torch.cat(overlaps), torch.cat(backgrounds)

    def hue_edit(self, images: Tensor) -> dict[str, float]:
        """Turn every object's hue by a third of the circle; see `edit_figures`, and `hue_error` in degrees (120 where nothing happens)."""

        def turn(shown: Tensor) -> dict[str, Tensor]:
            wanted = shown[:, :3].roll(1, 1)
            return {name: wanted[:, place] - shown[:, place] for place, name in enumerate(COLOURS)}

        before, after, overlap, background = self.edit(images, turn)
        asked = (hue(before[:, :3]) + HUE_TURN) % 1
        figures = edit_figures(before, after, overlap, background)
        return figures | {"hue_error": float(360 * circle_distance(hue(after[:, :3]), asked).mean())}

    def size_edit(self, images: Tensor, step: float = SIZE_STEP) -> dict[str, float]:
        """Make every object larger (or smaller); see `edit_figures`, and `size_moved`, the mean change as a share of what was asked."""
        before, after, overlap, background = self.edit(
            images, lambda shown: {"size": torch.full_like(shown[:, 3], step)}
        )
        moved = float((after[:, 3] - before[:, 3]).mean() / step)
        return edit_figures(before, after, overlap, background) | {"size_moved": moved}


def edit_figures(before: Tensor, after: Tensor, overlap: Tensor, background: Tensor) -> dict[str, float]:
    """Mean changes that an edit made.

    Args:
        before: what reconstructions show, n 6.
        after: what edited pictures show, n 6.
        overlap: n.
        background: n.

    Returns:
        `colour_change`, `size_change` (absolute), `middle_moved` (share of the side), `object_overlap`, `background_change`, `count`.
    """
    change = (after - before).abs()
    return {
        "colour_change": float(change[:, :3].mean()),
        "size_change": float(change[:, 3].mean()),
        "middle_moved": float((after - before)[:, 4:].square().sum(1).sqrt().mean()),
        "object_overlap": float(overlap.mean()),
        "background_change": float(background.mean()),
        "count": float(len(before)),
    }


def hue(colour: Tensor) -> Tensor:
    """The hue of colours `n 3` in [0, 1]: n in [0, 1), 0 for grey."""
    red, green, blue = colour.unbind(1)
    angle = torch.atan2(3**0.5 * (green - blue), 2 * red - green - blue) / (2 * torch.pi)
    return angle % 1


def circle_distance(a: Tensor, b: Tensor) -> Tensor:
    """How far two places on a circle of length 1 are apart: 0 to 0.5."""
    apart = (a - b).abs() % 1
    return torch.minimum(apart, 1 - apart)


def measure_scenes(
    model: EditsCodes, maker: SceneMaker, count: int = 256, known: int = 1024
) -> dict[str, dict[str, float]]:
    """Measure reconstructions and edits of test scenes.

    Args:
        model: with directions of `FACTORS`, as `factor_directions` finds them.
        maker: of the scenes.
        count: test scenes.
        known: training scenes whose mean is the baseline.

    Raises:
        ZooError: a direction is not there.
    """
    if missing := [name for name in FACTORS if name not in model.directions]:
        raise ZooError(f"There is no direction of {', '.join(missing)}: find them first, lightning directions RUN")
    measure = SceneMeasure(model, Judge.load(maker.domains))
    images, masks = scenes_of(maker, count, FIRST_SAMPLE["test"])
    mean = from_uint8(scenes_of(maker, known)[0]).mean(0)
    return {
        "reconstruction": measure.reconstructions(images, masks, mean),
        "hue": measure.hue_edit(images),
        "size": measure.size_edit(images),
        "size_down": measure.size_edit(images, -SIZE_STEP),
    }


def format_scenes(report: Mapping[str, Mapping[str, float]]) -> str:
    """The figures as a few lines."""
    found = report["reconstruction"]
    lines = [
        f"reconstruction      PSNR {found['psnr']:.2f} dB, object IoU {found['object_iou']:.3f}",
        f"mean image instead  PSNR {found['mean_image/psnr']:.2f} dB, object IoU {found['mean_image/object_iou']:.3f}",
        f"scenes themselves   object IoU {found['picture/object_iou']:.3f} (the judge's own limit)",
    ]
    names = {
        "hue": "hue turned by 120 degrees",
        "size": f"size +{SIZE_STEP:g}",
        "size_down": f"size -{SIZE_STEP:g}",
    }
    for key, what in names.items():
        edit = report[key]
        reached = (
            f"off by {edit['hue_error']:.0f} degrees" if key == "hue" else f"moved {edit['size_moved']:.2f} of that"
        )
        changes = {
            "colour changed by": edit["colour_change"],
            "size by": edit["size_change"],
            "middle moved by": edit["middle_moved"],
            "objects overlap by": edit["object_overlap"],
            "background changed by": edit["background_change"],
        }
        words = ", ".join(f"{change} {value:.3f}" for change, value in changes.items())
        lines.append(f"{what}: {reached}; {words} ({edit['count']:.0f} scenes)")
    return "\n".join(lines)
