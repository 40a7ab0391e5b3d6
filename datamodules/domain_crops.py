"""How StarGAN v2 prepares pictures: half of them lose a random part of their border, and all become squares of one size."""

from dataclasses import dataclass
from math import exp, log, sqrt
from typing import NamedTuple

import numpy as np
from PIL import Image

from datamodules.errors import DataError
from datamodules.preprocess import Pixels

ATTEMPTS = 10  # at a crop that fits, before the middle is taken


class Crop(NamedTuple):
    """A rectangle of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class CropAndResize:
    """A random crop of random size and aspect, or none; then a resize to a square, the aspect ratio NOT kept; then a flip.

    PIL's bilinear filter, which widens when it shrinks. The crop is that of torchvision's RandomResizedCrop.

    Args:
        size: side of the result in pixels.
        probability: of a crop.
        scale: least and largest share of a picture's area that a crop keeps.
        ratio: least and largest ratio of a crop's width to its height.
        flip: whether half of the pictures are mirrored.

    Raises:
        DataError: an argument is out of range.
    """

    size: int = 256
    probability: float = 0.5
    scale: tuple[float, float] = (0.8, 1.0)
    ratio: tuple[float, float] = (0.9, 1.1)
    flip: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise DataError(
                f"crop_probability is {self.probability}; it must lie between 0 and 1: --data.crop_probability 0.5"
            )
        for name, (least, most), limit in (("crop_scale", self.scale, 1.0), ("crop_ratio", self.ratio, float("inf"))):
            if not 0 < least <= most <= limit:
                raise DataError(
                    f"{name} is [{least}, {most}]; expected are a least and a largest number above 0"
                    f"{', of 1 at most' if limit == 1 else ''}: --data.{name} [0.9,1.0]"
                )

    def draw(self, height: int, width: int, generator: np.random.Generator) -> tuple[Crop | None, bool]:
        """Draw a crop of a picture of this height and width, or None for the whole picture, and whether it is mirrored."""
        cropped = generator.random() < self.probability
        crop = self._draw_crop(height, width, generator) if cropped else None
        return crop, bool(generator.random() < 0.5) and self.flip

    def _draw_crop(self, height: int, width: int, generator: np.random.Generator) -> Crop:
        for _ in range(ATTEMPTS):
            area = height * width * generator.uniform(*self.scale)
            aspect = exp(generator.uniform(log(self.ratio[0]), log(self.ratio[1])))
            w, h = round(sqrt(area * aspect)), round(sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                top, left = (int(generator.integers(free + 1)) for free in (height - h, width - w))
                return Crop(top, left, h, w)
        w, h = width, height
        if width / height < self.ratio[0]:
            h = round(width / self.ratio[0])
        elif width / height > self.ratio[1]:
            w = round(height * self.ratio[1])
        return Crop((height - h) // 2, (width - w) // 2, h, w)

    def __call__(self, picture: Pixels, crop: Crop | None = None, flip: bool = False) -> Pixels:
        """Prepare a picture: uint8 h w 3 to uint8 size size 3.

        Args:
            picture: the picture.
            crop: the part to keep; None for all.
            flip: mirror left and right.
        """
        if crop is not None:
            picture = picture[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
        if picture.shape[:2] != (self.size, self.size):
            resized = Image.fromarray(picture).resize((self.size, self.size), Image.Resampling.BILINEAR)
            picture = np.asarray(resized)
        return picture[:, ::-1] if flip else picture
