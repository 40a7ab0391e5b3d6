"""A contact sheet of all looks and shapes of the rendered scenes: `python -m datamodules.scene_sheet scenes.png`."""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from datamodules.scene_looks import LOOKS, SHAPES
from datamodules.scene_render import View, draw_content, draw_style, render
from zoo.core.images import save_png

_GAP, _TITLE = 6, 16


def contact_sheet(*, size: int = 96, seed: int = 0) -> Image.Image:
    """Draw every shape in every look, beside its true translation into the next look and the mask of its object.

    Args:
        size: side of one picture in pixels.
        seed: of the scenes.

    Returns:
        An RGB picture with one row per look and three columns per shape.
    """
    looks, shapes = list(LOOKS), list(SHAPES)
    width, height = 3 * size + _GAP, size + _GAP + _TITLE
    sheet = Image.new("RGB", (_GAP + len(shapes) * width, _GAP + len(looks) * height), "white")
    pen = ImageDraw.Draw(sheet)
    for row, look in enumerate(looks):
        other = (row + 1) % len(looks)
        for column, shape in enumerate(shapes):
            index = np.array([row * len(shapes) + column])
            views = [
                View(look=np.array([number]), style=draw_style(seed, start + index), shape=np.array([column]))
                for number, start in ((row, 0), (other, 1000))
            ]
            (image, counterpart), (mask, _) = render(draw_content(seed, index), views, size)
            grey = np.repeat((255 * mask[0]).astype(np.uint8), 3, axis=0)
            strip = np.concatenate((image[0], counterpart[0], grey), axis=2).transpose(1, 2, 0)
            left, top = _GAP + column * width, _GAP + row * height
            pen.text((left, top), f"{look} {shape} | {looks[other]} | mask", fill="black")
            sheet.paste(Image.fromarray(np.ascontiguousarray(strip)), (left, top + _TITLE))
    return sheet


def save_contact_sheet(path: Path, *, size: int = 96, seed: int = 0) -> None:
    """Write the contact sheet as a PNG file, at once or not at all.

    Args:
        path: of the file; its folder is made when missing.
        size: side of one picture in pixels.
        seed: of the scenes.
    """
    save_png(contact_sheet(size=size, seed=seed), path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m datamodules.scene_sheet", description="Draw what scenes there are."
    )
    parser.add_argument("path", nargs="?", type=Path, default=Path("scenes.png"), help="of the PNG file (scenes.png)")
    save_contact_sheet(parser.parse_args().path)
