"""Preparation of pictures, reproduced to the bit: a resize by PIL, crop, sides rounded to multiples of 4, flip.

CycleGAN resizes with PIL's bicubic filter, GP-UNIT and UNIT with its bilinear one; UNIT keeps the aspect ratio. AGGAN resizes as
TensorFlow 1 did.

Randomness is explicit: a transform is a fixed part (`resize`, which a cache may keep) and a part that is told where to crop
and whether to flip (`finish`); `draw` takes both from a generator.
"""

from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Literal, Protocol, SupportsInt, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datamodules.errors import DataError
from datamodules.tensorflow_resize import resize_bilinear
from zoo.core.images import resize_pixels

Preprocess = Literal[
    "resize_and_crop", "crop", "scale_width", "scale_width_and_crop", "shorter_side", "shorter_side_and_crop", "none"
]
Interpolation = Literal["bicubic", "bilinear", "bilinear_tensorflow"]
Pixels = NDArray[np.uint8]


class Numbers(Protocol):
    """Where random numbers come from; a NumPy `Generator` is one."""

    def integers(self, high: int, /) -> SupportsInt:
        """A uniform integer in `0 .. high - 1`."""
        ...

    def random(self) -> float:
        """A uniform number in [0, 1)."""
        ...


LARGEST_SIDE = 16_384
"""Of pictures, in pixels: one of this side takes 0.8 GB; what is larger is a slip of the keyboard."""


def side_before_crop(size: int) -> int:
    """The papers' side before a crop of `size`: 286 for 256, and in proportion."""
    return round(size * 286 / 256)


@dataclass(frozen=True)
class Transform:
    """One way to prepare pictures of a domain. Pictures are uint8 `h w c`.

    Args:
        preprocess: `resize_and_crop`: to a square of `load_size`, the aspect ratio NOT kept, then a square crop of `size`.
            `crop`: the crop alone. `scale_width`: width to `load_size`, height in proportion but at least `size`.
            `scale_width_and_crop`: that, then the crop. `shorter_side`: the shorter side to `load_size`, the longer one in proportion,
            cut down to whole pixels as torchvision's Resize does. `shorter_side_and_crop`: that, then the crop. `none`: the picture
            as it is.
        load_size: side in pixels before the crop; used by the modes that resize.
        size: side of the crop in pixels.
        channels: 3 for RGB, 1 for grey (converted before anything else).
        multiple: at last, both sides are rounded to multiples of it by a resize; networks that halve twice need 4.
        interpolation: of every resize: PIL's `bicubic` or `bilinear`; or `bilinear_tensorflow`, TensorFlow 1's, whose results are
            rounded to whole grey levels here.

    Raises:
        DataError: an argument is out of range.
    """

    preprocess: Preprocess = "resize_and_crop"
    load_size: int = 286
    size: int = 256
    channels: int = 3
    multiple: int = 4
    interpolation: Interpolation = "bicubic"

    def __post_init__(self) -> None:
        known = get_args(Preprocess)
        if self.preprocess not in known:
            near = get_close_matches(str(self.preprocess), known, n=1, cutoff=0.0)[0]
            raise DataError(f"preprocess is {self.preprocess!r}; did you mean {near!r}? Known: {', '.join(known)}.")
        for name in ("load_size", "size", "multiple"):
            if not 1 <= getattr(self, name) <= LARGEST_SIDE:
                told = f"{name} is {getattr(self, name)}; it is a number of pixels"
                raise DataError(f"{told} and must be at least 1 and at most {LARGEST_SIDE}.")
        if self.interpolation not in get_args(Interpolation):
            raise DataError(
                f"interpolation is {self.interpolation!r}; it must be one of {', '.join(get_args(Interpolation))}."
            )
        if self.channels not in {1, 3}:
            raise DataError(f"channels is {self.channels}; it must be 3 (RGB) or 1 (grey).")
        if self.resizes and self.crops and self.size > self.load_size:
            raise DataError(
                f"size is {self.size} and load_size {self.load_size}: a crop cannot be larger than the picture it is "
                f"cut from. Set load_size to {self.size} or more."
            )

    @property
    def resizes(self) -> bool:
        """Whether pictures are brought to `load_size`."""
        return self.preprocess.startswith(("resize", "scale_width", "shorter_side"))

    @property
    def crops(self) -> bool:
        """Whether a square of `size` is cut out."""
        return self.preprocess.endswith("crop")

    @property
    def same_size(self) -> bool:
        """Whether all results have one size, whatever the pictures."""
        return self.crops

    @property
    def fixed_settings(self) -> str:
        """All that the result of `resize` depends on beside the picture; the versions of PIL count too."""
        sizes = f"{self.load_size} {self.size} {self.channels}"
        return f"{self.preprocess} {sizes} {self.interpolation} PIL {Image.__version__}"

    def resize(self, picture: Pixels) -> Pixels:
        """The part without randomness: grey where asked for, then the mode's resize.

        Args:
            picture: uint8 `h w 3`.
        """
        if self.channels == 1:
            picture = np.asarray(Image.fromarray(picture).convert("L"))[:, :, None]
        return self._to(picture, *self.resized_shape(*picture.shape[:2]))

    def resized_shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after `resize`."""
        if self.preprocess == "resize_and_crop":
            return self.load_size, self.load_size
        if self.preprocess.startswith("shorter_side"):
            longer = int(self.load_size * max(height, width) / min(height, width))
            return (self.load_size, longer) if height <= width else (longer, self.load_size)
        if not self.resizes or (width == self.load_size and height >= self.size):
            return height, width
        return int(max(self.load_size * height / width, self.size)), self.load_size

    def result_shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after everything."""
        height, width = (self.size, self.size) if self.crops else self.resized_shape(height, width)
        return self._rounded(height), self._rounded(width)

    def _to(self, picture: Pixels, height: int, width: int) -> Pixels:
        if self.interpolation == "bicubic" or picture.shape[:2] == (height, width):
            return resize_pixels(picture, height, width)
        if self.interpolation == "bilinear_tensorflow":
            return np.rint(resize_bilinear(picture, height, width)).astype(np.uint8)
        grey = picture.shape[2] == 1
        resized = Image.fromarray(picture[:, :, 0] if grey else picture).resize(
            (width, height), Image.Resampling.BILINEAR
        )
        return np.asarray(resized)[:, :, None] if grey else np.asarray(resized)

    def _rounded(self, side: int) -> int:
        return max(1, round(side / self.multiple)) * self.multiple

    def draw(self, height: int, width: int, generator: Numbers) -> tuple[tuple[int, int], bool]:
        """Draw where to crop a resized picture of this height and width, and whether to flip it.

        The order is that of the official codes: left, top, flip.

        Returns:
            The crop's left upper corner as (left, top), uniform over all places, and the flip, with probability 0.5.
        """
        free_x, free_y = (width - self.size, height - self.size) if self.crops else (0, 0)
        left, top = (int(generator.integers(max(0, free) + 1)) for free in (free_x, free_y))
        return (left, top), bool(generator.random() > 0.5)

    def centre(self, height: int, width: int) -> tuple[int, int]:
        """The corner (left, top) of the crop in the middle of a resized picture."""
        return max(0, width - self.size) // 2, max(0, height - self.size) // 2

    def finish(self, picture: Pixels, crop: tuple[int, int], flip: bool) -> Pixels:
        """Crop a resized picture, round its sides and flip it.

        Args:
            picture: uint8 `h w c` as `resize` gives it.
            crop: left upper corner as (left, top) in pixels; not looked at by modes that do not crop.
            flip: mirror left and right.

        Raises:
            DataError: the crop does not lie inside the picture.
        """
        height, width = picture.shape[:2]
        if self.crops:
            left, top = crop
            if not (0 <= left <= width - self.size and 0 <= top <= height - self.size):
                raise DataError(
                    f"A crop of {self.size} x {self.size} pixels at left {left}, top {top} does not lie inside a picture "
                    f"of {width} x {height}. Set a smaller size, or a preprocess that resizes: resize_and_crop."
                )
            picture = picture[top : top + self.size, left : left + self.size]
        height, width = picture.shape[:2]
        picture = self._to(picture, self._rounded(height), self._rounded(width))
        return picture[:, ::-1] if flip else picture

    def __call__(self, picture: Pixels, *, crop: tuple[int, int] | None = None, flip: bool = False) -> Pixels:
        """Prepare a decoded picture: uint8 `h w 3` to uint8 `h w c`.

        Args:
            picture: the picture.
            crop: left upper corner as (left, top); the middle when None.
            flip: mirror left and right.
        """
        resized = self.resize(picture)
        return self.finish(resized, self.centre(*resized.shape[:2]) if crop is None else crop, flip)

    def for_evaluation(self) -> "Transform":
        """The transform of validation and test: `load_size` becomes the size of the crop (section 5 of the official code)."""
        return replace(self, load_size=self.size)


def crop_box(*, height: int, width: int, side: int, down: int = 0) -> tuple[int, int, int, int]:
    """A square cut out of a picture's middle, or from below it.

    Args:
        height: of the picture in pixels.
        width: of the picture in pixels.
        side: of the square.
        down: by how much its middle lies below the picture's.

    Returns:
        Top, left, height and width of the square.

    Raises:
        DataError: it does not lie inside the picture.
    """
    top, left = (height - side) // 2 + down, (width - side) // 2
    if top < 0 or left < 0 or top + side > height:
        raise DataError(
            f"A square of {side} pixels, {down} below the middle, does not lie inside a picture of {width} x {height}."
        )
    return top, left, side, side
