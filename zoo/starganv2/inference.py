"""What StarGAN v2 shows: grids by references and by chance, the way there and back, and films between styles.

Functions of networks and pictures, without a model around them. Pictures are b 3 h w; those that a generator drew are not
limited to [-1, 1]. Grids are batches in the order of their cells, row by row, with the number of columns.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log2

import torch
from torch import Tensor, nn

from zoo.core.images import resize
from zoo.errors import ZooError

Masks = tuple[Tensor, Tensor] | None
WHITE = 1.0
BLACK = -1.0
MEAN_LATENTS = 10_000
"""How many latents make a domain's mean style, in the official code."""

SLOPE_FRAMES = 20  # from -5 to 4.5 in halves: where between two styles a frame lies is the sigmoid of it
LAST_FRAMES = 10  # frames that a style stays
MARGIN = 32  # black pixels between the references' column and the film


@dataclass(frozen=True)
class Networks:
    """What translating takes.

    Attributes:
        generator: of pictures, styles and masks.
        mapping_network: of latents and domains.
        style_encoder: of pictures and domains.
        masks: of the high-pass skips, from pictures; gives None where there are none.
    """

    generator: nn.Module
    mapping_network: nn.Module
    style_encoder: nn.Module
    masks: Callable[[Tensor], Masks]


def require_halves(image: Tensor, multiple: int, least: int) -> None:
    """Refuse pictures b 3 h w that a generator can't halve as often as it has to.

    Args:
        image: the pictures.
        multiple: what their sides must be multiples of.
        least: the smallest side.

    Raises:
        ZooError: a side is no multiple, or too small.
    """
    height, width = image.shape[2:]
    if height % multiple or width % multiple or min(height, width) < least:
        raise ZooError(
            f"Pictures are {height}x{width}; this generator needs sides of at least {least} pixels that are multiples of {multiple}. "
            "`lightning translate` pads them by itself."
        )


def at_skip_size(image: Tensor, multiple: int, least: int) -> Tensor:
    """Resize pictures b 3 h w to the height next to theirs at which features skip the bottleneck, a power of two.

    Args:
        image: the pictures.
        multiple: what their width must become a multiple of.
        least: the smallest width.
    """
    height = 2 ** round(log2(image.shape[2]))
    if image.shape[2] == height:
        return image
    width = round(image.shape[3] * height / image.shape[2] / multiple) * multiple
    return resize(image, height, max(least, width), filter="bilinear")


def mean_style(mapping_network: nn.Module, latents: Tensor, domain: Tensor) -> Tensor:
    """The mean style `1 s` of latents `n z` in a domain (a number without dimensions)."""
    return mapping_network(latents, domain.expand(len(latents))).mean(0, keepdim=True)


def truncate(style: Tensor, mean: Tensor, truncation: float) -> Tensor:
    """Draw styles `b s` towards the mean one `1 s`: 1 leaves them, 0 gives the mean. Less diverse, but fewer odd ones."""
    return torch.lerp(mean.expand_as(style), style, truncation)


def drawn_rows(networks: Networks, images: Tensor, styles: Tensor) -> list[Tensor]:
    """All pictures in each style `n s`: n batches b 3 h w."""
    masks = networks.masks(images)
    return [networks.generator(images, style.expand(len(images), -1), masks) for style in styles]


def reference_grid(networks: Networks, images: Tensor, references: Tensor, domains: Tensor) -> tuple[Tensor, int]:
    """Each picture in the style of each reference: sources on top, references on the left.

    Args:
        networks: what translates.
        images: b 3 h w in [-1, 1].
        references: n 3 h w, of the same size.
        domains: n numbers, of the references.

    Returns:
        (n + 1)(b + 1) pictures, and b + 1.
    """
    rows = drawn_rows(networks, images, networks.style_encoder(references, domains))
    cells = [torch.full_like(images[:1], WHITE), images]
    for reference, row in zip(references, rows, strict=True):
        cells += [reference[None], row]
    return torch.cat(cells), len(images) + 1


def latent_grid(
    networks: Networks,
    images: Tensor,
    latents: Tensor,
    domains: Sequence[Tensor],
    means: Sequence[Tensor],
    truncation: float,
) -> tuple[Tensor, int]:
    """Each picture in random styles of each domain: sources on top, then a row for each domain and latent.

    Args:
        networks: what translates.
        images: b 3 h w in [-1, 1].
        latents: n z; a latent is the same for its whole row.
        domains: a number without dimensions each.
        means: their mean styles, 1 s each.
        truncation: see `truncate`.

    Returns:
        (1 + domains n) b pictures, and b.
    """
    cells = [images]
    for domain, mean in zip(domains, means, strict=True):
        styles = truncate(networks.mapping_network(latents, domain.expand(len(latents))), mean, truncation)
        cells += drawn_rows(networks, images, styles)
    return torch.cat(cells), len(images)


def cycle_grid(
    networks: Networks, images: Tensor, domains: Tensor, references: Tensor, reference_domains: Tensor
) -> tuple[Tensor, int]:
    """There and back: sources, references, translations, and these translated back in the sources' own styles; a row each.

    Args:
        networks: what translates.
        images: b 3 h w in [-1, 1].
        domains: b numbers, theirs.
        references: b 3 h w.
        reference_domains: b numbers, theirs.

    Returns:
        4b pictures, and b.
    """
    style = networks.style_encoder(references, reference_domains)
    there = networks.generator(images, style, networks.masks(images))
    back = networks.generator(there, networks.style_encoder(images, domains), networks.masks(there))
    return torch.cat([images, references, there, back]), len(images)


# Films ---------------------------------------------------------------------------------------------------------------


def interpolation_weights() -> Tensor:
    """How far each frame between two styles has come: slow, quick, slow; then some frames at the end. float64, 31 numbers."""
    slope = torch.linspace(-5.0, 4.5, SLOPE_FRAMES, dtype=torch.float64).sigmoid()
    return torch.cat([slope.new_zeros(1), slope, slope.new_ones(LAST_FRAMES)])


def interpolation_frames(networks: Networks, images: Tensor, first: Tensor, last: Tensor) -> Iterator[Tensor]:
    """Frames between two styles.

    Args:
        networks: what translates.
        images: b 3 h w in [-1, 1].
        first: style code s.
        last: another one.

    Yields:
        3 2h (b w): the sources side by side, below them their translations.
    """
    masks = networks.masks(images)
    for weight in interpolation_weights().to(first):
        style = torch.lerp(first, last, weight).expand(len(images), -1)
        pair = torch.cat([images, networks.generator(images, style, masks)], dim=2)
        yield torch.cat(list(pair), dim=2)


def sliding_frames(first: Tensor, last: Tensor) -> Iterator[Tensor]:
    """The column beside a film: a reference that is pushed up by the next one.

    Args:
        first: 3 h w.
        last: the next one, of the same size.

    Yields:
        3 2h (w + 32) on black.
    """
    channels, height, width = first.shape
    both = torch.cat([first, last], dim=1)  # 3 2h w
    for weight in interpolation_weights():
        top = int(height * (1 - weight))
        canvas = torch.full((channels, 2 * height, width + MARGIN), BLACK, dtype=first.dtype, device=first.device)
        canvas[:, top:, :width] = both[:, : 2 * height - top]
        yield canvas


def latent_film(networks: Networks, images: Tensor, styles: Tensor, domains: Sequence[int]) -> Iterator[Tensor]:
    """A film through styles, from each to the next of the same domain; between domains there is none. The last frame stays a while.

    Args:
        networks: what translates.
        images: b 3 h w in [-1, 1].
        styles: style codes n s.
        domains: n numbers, theirs.

    Yields:
        3 2h (b w): see `interpolation_frames`.
    """
    frame: Tensor | None = None
    for here, there in pairwise(range(len(styles))):
        if domains[here] == domains[there]:
            for frame in interpolation_frames(networks, images, styles[here], styles[there]):
                yield frame
    if frame is not None:
        yield from LAST_FRAMES * [frame]


def film(networks: Networks, images: Tensor, references: Tensor, domains: Sequence[int]) -> Iterator[Tensor]:
    """A film through the styles of references, from each to the next of the same domain, with the references beside it.

    Between references of different domains there is no film: styles of one are no styles of the other. It goes on with the next
    pair, and the last frame stays a while.

    Args:
        networks: what translates.
        images: b 3 h w in [-1, 1].
        references: n 3 h w, of the same size.
        domains: n numbers, theirs.

    Yields:
        3 2h (w + 32 + b w).
    """
    styles = networks.style_encoder(references, torch.tensor(domains, device=references.device))
    frame: Tensor | None = None
    for here, there in pairwise(range(len(references))):
        if domains[here] == domains[there]:
            column = sliding_frames(references[here], references[there])
            drawn = interpolation_frames(networks, images, styles[here], styles[there])
            for beside, picture in zip(column, drawn, strict=True):
                frame = torch.cat([beside, picture], dim=2)
                yield frame
    if frame is not None:
        yield from LAST_FRAMES * [frame]
