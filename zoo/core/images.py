"""Pictures as tensors: ranges, resizes, grids, PNG files and PSNR.

A picture is a float `b c h w` or `c h w` in [-1, 1]; on disk and on the way to the device it is uint8 in 0..255.
"""

from collections.abc import Mapping
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from zoo.core.files import write_atomically

# Ranges


def from_uint8(image: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Scale uint8 to floats in [-1, 1], in float32 to the bit what ToTensor and Normalize(0.5, 0.5) give.

    Args:
        image: uint8, any shape.
        dtype: of the result.
    """
    # Divided by a tensor: CUDA turns a division by a Python number into a product with its rounded inverse.
    return image.to(dtype).div_(torch.full((), 255.0, dtype=dtype, device=image.device)).sub_(0.5).mul_(2.0)


def to_unit(image: Tensor) -> Tensor:
    """Bring floats in [-1, 1] to [0, 1]; values outside are clamped."""
    return image.clamp(-1, 1).add(1).div(2)


def to_uint8(image: Tensor) -> Tensor:
    """Round floats in [-1, 1] to the nearest of 0..255; the inverse of `from_uint8`.

    Args:
        image: float, any shape. Values outside are clamped, NaN becomes black.
    """
    image = image.detach().to(torch.promote_types(image.dtype, torch.float32))
    return to_unit(image.nan_to_num(nan=-1.0)).mul(255).round().to(torch.uint8)


def to_pil(image: Tensor) -> Image.Image:
    """Turn one picture `c h w` in [-1, 1] (or uint8), with 1 or 3 channels, into a PIL picture."""
    pixels = image if image.dtype == torch.uint8 else to_uint8(image)
    if pixels.ndim != 3 or pixels.shape[0] not in {1, 3}:
        raise ValueError(f"A picture has the shape (1 or 3, height, width), not {tuple(image.shape)}.")
    array = pixels.cpu().permute(1, 2, 0).numpy()
    return Image.fromarray(np.ascontiguousarray(array[:, :, 0] if array.shape[2] == 1 else array))


def from_pil(picture: Image.Image) -> Tensor:
    """Turn a PIL picture into RGB `3 h w` in [-1, 1]."""
    return from_uint8(torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1))


# Sizes


def resize_pixels(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize a uint8 picture `h w` or `h w c` with PIL's bicubic filter, exactly as data pipelines built on PIL do."""
    if picture.shape[:2] == (height, width):
        return picture
    single = picture.ndim == 3 and picture.shape[2] == 1
    resized = Image.fromarray(picture[:, :, 0] if single else picture).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized)[:, :, None] if single else np.asarray(resized)


def resize(image: Tensor, height: int, width: int, *, filter: Literal["bilinear", "bicubic"] = "bicubic") -> Tensor:
    """Resize pictures `b c h w` with a filter that widens when it shrinks (antialiased), differentiably.

    Args:
        image: float in any range; a bicubic result may overshoot it a little.
        height: of the result, in pixels.
        width: of the result, in pixels.
        filter: the interpolation.
    """
    if image.shape[-2:] == (height, width):
        return image
    return F.interpolate(image, (height, width), mode=filter, align_corners=False, antialias=True)


def resize_cubic(image: Tensor, scale: float | None = None, *, size: tuple[int, int] | None = None) -> Tensor:
    """Resize pictures as single-image GANs do: cut to 8 bits, then MATLAB's cubic filter, whose result is not rounded.

    A picture that keeps its size is cut to 8 bits all the same. No gradient passes. The filter widens where the picture gets lower.

    Args:
        image: b c h w in [-1, 1].
        scale: of both sides; the result's are rounded up.
        size: height and width of the result, in place of a scale.

    Returns:
        Pictures in [-1, 1] with the precision of float32, in the type of `image`, or in float32 if that is a lower one.
    """
    sides = (image.shape[-2], image.shape[-1])
    if size is None:
        assert scale is not None, "resize_cubic needs a scale or a size"
        scales, size = (scale, scale), (ceil(sides[0] * scale), ceil(sides[1] * scale))
    else:
        scales = (size[0] / sides[0], size[1] / sides[1])
    kind = torch.promote_types(image.dtype, torch.float32)
    levels = image.detach().to(kind).add(1).div(2).clamp(0, 1).mul(255).to(torch.uint8).double()
    for axis in sorted((0, 1), key=lambda axis: scales[axis]):
        if scales[axis] != 1:
            weights = _cubic_weights(sides[axis], size[axis], scales[axis], scales[0] < 1, str(levels.device))
            levels = weights @ levels if axis == 0 else levels @ weights.T
    return levels.div(255).float().sub(0.5).mul(2).clamp(-1, 1).to(kind)


@lru_cache(maxsize=64)
def _cubic_weights(before: int, after: int, scale: float, widen: bool, device: str) -> Tensor:
    """The share of each of `before` pixels in each of `after`: float64 `after before`.

    Beyond the far border the picture is mirrored; nothing is before the near one: official codes lose its mirror to unsigned numbers.
    """
    stretch = scale if widen else 1.0
    centre = torch.arange(1, after + 1, dtype=torch.float64) / scale + 0.5 * (1 - 1 / scale)  # counted from 1
    left = torch.floor(centre - 2 / stretch)
    pixels = left[:, None] + torch.arange(ceil(4 / stretch) + 2) - 1
    x = (stretch * (centre[:, None] - pixels - 1)).abs()
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = torch.where(x <= 1, near, torch.where(x <= 2, far, 0.0)) * (pixels >= 0)
    weights /= weights.sum(1, keepdim=True)
    mirrored = pixels.long() % (2 * before)
    places = torch.where(mirrored < before, mirrored, 2 * before - 1 - mirrored)
    return torch.zeros(after, before, dtype=torch.float64).scatter_add_(1, places, weights).to(device)


# Grids and files


def grid(columns: Mapping[str, Tensor], *, gap: int = 2) -> Image.Image:
    """Lay pictures out on white: one named column per entry, one row per picture.

    Args:
        columns: label to pictures `b c h w` in [-1, 1] with 1 or 3 channels. Sizes may differ; shorter columns end early.
        gap: space around pictures, in pixels.
    """
    if not columns:
        raise ValueError("A grid needs at least one column of pictures.")
    font = ImageFont.load_default()
    label_height = int(sum(font.getmetrics())) if isinstance(font, ImageFont.FreeTypeFont) else 11
    widths = [max(images.shape[-1], int(font.getlength(label)) + 1) for label, images in columns.items()]
    row_height = max(images.shape[-2] for images in columns.values())
    rows = max(images.shape[0] for images in columns.values())
    size = (gap + sum(width + gap for width in widths), gap + label_height + gap + rows * (row_height + gap))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    left = gap
    for (label, images), width in zip(columns.items(), widths, strict=True):
        draw.text((left, gap), label, fill="black", font=font)
        for row, image in enumerate(images):
            sheet.paste(to_pil(image), (left, gap + label_height + gap + row * (row_height + gap)))
        left += width + gap
    return sheet


def save_png(image: Tensor | Image.Image, path: str | Path) -> Path:
    """Write a PNG so that the file is either whole or not there; folders are made where they are missing.

    Args:
        image: `c h w` in [-1, 1] (or uint8), or a PIL picture.
        path: of the file.

    Returns:
        The path.
    """
    path = Path(path)
    picture = to_pil(image) if isinstance(image, Tensor) else image
    write_atomically(path, lambda file: picture.save(file, format="PNG"))
    return path


# Figures


def psnr(a: Tensor, b: Tensor, *, data_range: float = 2.0) -> Tensor:
    """Peak signal-to-noise ratio in dB of each picture, shape `b`; infinite where two pictures are equal.

    Args:
        a: `b c h w`.
        b: the same shape.
        data_range: largest minus smallest possible value; 2 for [-1, 1], 255 for uint8.
    """
    error = (a.double() - b.double()).square().flatten(1).mean(1)
    return 10 * torch.log10(data_range**2 / error)
