"""Animations, encoded by Pillow."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from zoo.core.files import write_atomically
from zoo.core.images import to_pil

FILM_FORMATS = {".webp": "WEBP", ".gif": "GIF", ".png": "PNG"}


def save_film(frames: Iterable[Tensor], path: str | Path, *, rate: float = 15.0) -> Path:
    """Write pictures as an animation that begins again and again, encoded by Pillow; the file is either whole or not there.

    Args:
        frames: `c h w` in [-1, 1] each, of one size.
        path: of the file. Its ending says the format: .webp, .gif (256 colours) or .png (lossless, large).
        rate: frames per second.

    Returns:
        The path.

    Raises:
        ValueError: another ending, or no frames.
    """
    path = Path(path)
    if path.suffix.lower() not in FILM_FORMATS:
        raise ValueError(
            f"a film is written as {', '.join(FILM_FORMATS)}, not as {path.suffix or 'a file without ending'}"
        )
    pictures = [to_pil(frame) for frame in frames]
    if not pictures:
        raise ValueError("a film needs at least one frame")
    first, rest = pictures[0], pictures[1:]
    options: dict[str, Any] = {"format": FILM_FORMATS[path.suffix.lower()], "duration": round(1000 / rate), "loop": 0}
    write_atomically(path, lambda file: first.save(file, save_all=True, append_images=rest, **options))
    return path
