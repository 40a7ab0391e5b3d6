"""`lightning translate` of films: videos, and animated GIF and WebP files, frame after frame, into films of the same length and rate."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from datamodules.pictures import MAX_PIXELS, BadPictureError, decode_frames, frame_times
from zoo.cli.any_size import translate_any_size
from zoo.core.films import ffmpeg_library, refuse_large, save_film
from zoo.core.images import from_uint8, resize
from zoo.core.translator import Translator

VIDEOS = {".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi"}
ANIMATED = {".gif", ".webp"}
ONLY_FILES = ["-protocol_whitelist", "file"]  # what a video says must not make ffmpeg ask a server


@dataclass(frozen=True)
class Film:
    """A film that is read frame after frame.

    Attributes:
        path: of the file.
        rate: frames per second.
        count: of the frames; of a video as its duration says.
        durations: of each frame in milliseconds, where they are its own; None for a video.
        size: its shorter side becomes so many pixels; None leaves it as it is.
    """

    path: Path
    rate: float
    count: int
    durations: tuple[int, ...] | None
    size: int | None

    def frames(self) -> Iterator[Tensor]:
        """Frames `1 3 h w` in [-1, 1], decoded one after the other.

        Raises:
            BadPictureError: the film is damaged; when the damaged frame's turn comes.
        """
        if self.durations is not None:
            for pixels in decode_frames(self.path):
                yield sized(tensor_of(pixels), self.size)
            return
        steady = [
            "-r",
            str(self.rate),
        ]  # where frames lack or come too quickly, ffmpeg shows them longer or leaves some out
        with closing(
            ffmpeg_library().read_frames(str(self.path.resolve()), input_params=ONLY_FILES, output_params=steady)
        ) as video:
            try:
                width, height = next(video)["size"]
                for content in video:
                    pixels = np.frombuffer(content, np.uint8).reshape(height, width, 3)
                    yield sized(tensor_of(pixels), self.size)
            except (OSError, RuntimeError, AssertionError) as error:
                raise BadPictureError("a damaged video") from error


def tensor_of(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
    """Pixels `h w 3` as `1 3 h w` in [-1, 1]."""
    return from_uint8(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])


def sized(image: Tensor, size: int | None) -> Tensor:
    """A picture `1 3 h w` whose shorter side has `size` pixels; None leaves it as it is."""
    if size is None:
        return image
    height, width = image.shape[-2:]
    scale = size / min(height, width)
    return resize(image, max(1, round(height * scale)), max(1, round(width * scale))).clamp(-1, 1)


def is_film(path: Path) -> bool:
    """Whether a file is a video by its ending, or a GIF or WebP of several frames."""
    ending = path.suffix.lower()
    if ending not in ANIMATED:
        return ending in VIDEOS
    try:
        with Image.open(path) as picture:
            return bool(getattr(picture, "is_animated", False))
    except Exception:  # PIL raises nearly anything on damaged files; what reads it next says so
        return False


def film_ending(path: Path, wanted: str | None) -> str:
    """The ending of a translated film: what was asked for, or its own, or .mp4 for any video."""
    return wanted or (".mp4" if path.suffix.lower() in VIDEOS else path.suffix.lower())


def open_film(path: Path, size: int | None = None) -> Film:
    """Look at a film: its rate and length.

    Raises:
        BadPictureError: it cannot be read.
        ZooError: it is a video, and imageio-ffmpeg is not installed.
    """
    if path.suffix.lower() in ANIMATED:
        times = frame_times(path)
        return Film(path, 1000 * len(times) / sum(times), len(times), tuple(times), size)
    library = ffmpeg_library()
    if not path.is_file():
        raise BadPictureError("the file is gone")
    try:
        with closing(library.read_frames(str(path.resolve()), input_params=ONLY_FILES)) as video:
            told: Mapping[str, Any] = next(video)
        (width, height), rate, seconds = told["size"], float(told["fps"]), float(told["duration"])
    except Exception as error:  # the library stumbles in many ways over what is no video
        raise BadPictureError(
            "the file is empty" if path.stat().st_size == 0 else "not a video, or a damaged one"
        ) from error
    if rate <= 0 or width * height > MAX_PIXELS:
        raise BadPictureError(f"a video of {width}x{height} pixels and {rate:g} frames per second")
    return Film(path, rate, max(1, round(rate * seconds)), None, size)


def translate_film(model: Translator, film: Film, output: Path, to: str, **options: Any) -> tuple[Tensor, Tensor]:
    """Translate every frame of a film, and write the film that they make.

    Args:
        model: the translator.
        film: to be translated.
        output: the file; MP4 takes the film's rate, other formats the time of each frame.
        to: the domain to translate into.
        **options: further keywords of `translate`, the same for all frames.

    Returns:
        The first frame and its translation, `1 3 h w`.

    Raises:
        BadPictureError: the film cannot be read; nothing was written then.
        ZooError: the output would be too large for its format.
    """
    first: list[Tensor] = []
    done = 0

    def translated() -> Iterator[Tensor]:
        nonlocal done
        for frame in tqdm(film.frames(), film.path.name, total=film.count, unit="frame", leave=False, disable=None):
            image = translate_any_size(model, frame.to(model.device), to, **options).cpu()
            if not done:
                refuse_large(film.count * image.shape[-1] * image.shape[-2], output)
                first.extend((frame, image))
            done += 1
            yield image[0]

    mp4 = output.suffix.lower() == ".mp4"
    # A video that is written as an animation has no times of its own frames, but a rate.
    durations = None if mp4 else film.durations
    try:
        save_film(translated(), output, rate=film.rate, durations=durations)
    except ValueError as error:
        if done:
            raise
        raise BadPictureError("a video without a frame") from error
    if done < 0.9 * film.count:
        print(f"lightning: {film.path} ended after {done} of about {film.count} frames", file=sys.stderr)
    return first[0], first[1]
