"""Pictures side by side, as `lightning translate` leaves them."""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from zoo.core.images import grid, resize

SHEET_SIDE, SHEET_LABEL = 256, 20


def thumbnail(image: Tensor) -> Tensor:
    """A picture `1 3 h w` made small for the sheet."""
    height, width = image.shape[-2:]
    scale = min(1.0, SHEET_SIDE / max(height, width))
    return resize(image, max(1, round(height * scale)), max(1, round(width * scale)), filter="bilinear").clamp(-1, 1)


def sheet(
    rows: Sequence[Sequence[Tensor]], styles: Sequence[tuple[str, Tensor | None]], *, attention: bool = False
) -> Image.Image:
    """All pictures side by side: the sources in the first column, a column per style, exemplars on top of theirs.

    Args:
        rows: thumbnails of a source and its translations, `1 3 h w` each.
        styles: label and exemplar, `1 3 h w` in [-1, 1], of each column of translations.
        attention: whether an attention map `1 1 h w` follows each translation; it gets a column of its own.
    """
    step = 2 if attention else 1
    shown = styles[: (len(rows[0]) - 1) // step]
    top = [exemplar for _, exemplar in shown]
    if any(exemplar is not None for exemplar in top):
        blank = torch.ones(1, 3, 1, 1)
        above = [blank if exemplar is None else thumbnail(exemplar) for exemplar in top]
        rows = [[blank, *(image for each in above for image in (each, blank[:, :1])[:step])], *rows]
    columns = {"source": [row[0] for row in rows]}
    for number, (label, _) in enumerate(shown, start=1):
        label = label or "translation"
        label = label if len(label) <= SHEET_LABEL and label not in columns else f"{number} {label[: SHEET_LABEL - 4]}"
        columns[label] = [row[1 + step * (number - 1)] for row in rows]
        if attention:
            columns["attention" if len(shown) == 1 else f"{number} attention"] = [row[step * number] for row in rows]
    return grid({label: stacked(images) for label, images in columns.items()})


def stacked(images: Sequence[Tensor]) -> Tensor:
    """Pictures of several sizes as one batch, each in the upper left corner of white."""
    height, width = max(i.shape[-2] for i in images), max(i.shape[-1] for i in images)
    return torch.cat([F.pad(i, (0, width - i.shape[-1], 0, height - i.shape[-2]), value=1.0) for i in images])
