"""Films: animated WebP, GIF and PNG, encoded by Pillow, and MP4, encoded by the ffmpeg that imageio-ffmpeg brings."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from torch import Tensor

from zoo.core.files import write_atomically
from zoo.core.images import to_pil
from zoo.errors import ZooError

FILM_FORMATS = {".webp": "WEBP", ".gif": "GIF", ".png": "PNG", ".mp4": "MP4"}
MOST_PIXELS = 2**28
"""Of an animation that Pillow encodes, all frames together: it holds them in memory, 4,096 of 256x256 in 0.8 GB. MP4 has no such bound."""

CRF = "18"  # of x264: hardly to be told from the original
VIDEO_EXTRA = "pip install 'translation-zoo[video]'"


def ffmpeg_library() -> ModuleType:
    """The package imageio-ffmpeg, with a program ffmpeg that it brings or finds.

    Raises:
        ZooError: it is not installed, or has no program for this machine.
    """
    try:
        import imageio_ffmpeg

        imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise ZooError(
            f"Videos are read and written by imageio-ffmpeg, which is not installed. Type: {VIDEO_EXTRA} "
            "(animated GIF and WebP need nothing more)."
        ) from error
    return imageio_ffmpeg


def check_film(ending: str) -> None:
    """Refuse what is no format of a film, and MP4 where nothing writes it.

    Args:
        ending: as `--film` takes it.

    Raises:
        ZooError: it is none of `FILM_FORMATS`, or imageio-ffmpeg is not installed.
    """
    if ending not in FILM_FORMATS:
        raise ZooError(f"--film is {ending}; expected one of {', '.join(FILM_FORMATS)}.")
    if ending == ".mp4":
        ffmpeg_library()


def save_film(
    frames: Iterable[Tensor], path: str | Path, *, rate: float = 15.0, durations: Sequence[int] | None = None
) -> Path:
    """Write pictures as a film; the file is either whole or not there. Animations begin again and again.

    Frames are asked for one after the other. MP4 keeps none of them; the other formats keep them until the last one has come.

    Args:
        frames: `c h w` in [-1, 1] each, of one size.
        path: of the file. Its ending says the format: .webp, .gif (256 colours), .png (lossless, large) or .mp4 (an odd side gets a pixel
            more, since the format has none).
        rate: frames per second.
        durations: of each frame in milliseconds, in place of a rate; not for MP4.

    Returns:
        The path.

    Raises:
        ValueError: another ending, no frames, or durations for MP4.
        ZooError: MP4 lacks imageio-ffmpeg, or an animation is too large for Pillow.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in FILM_FORMATS:
        raise ValueError(
            f"a film is written as {', '.join(FILM_FORMATS)}, not as {path.suffix or 'a file without ending'}"
        )
    pictures = iter(frames)
    first = next(pictures, None)
    if first is None:
        raise ValueError("a film needs at least one frame")
    everything = chain((first,), pictures)
    if ending == ".mp4":
        if durations is not None:
            raise ValueError("the frames of an MP4 follow at one rate; give that in place of durations")
        _write_mp4(everything, path, rate)
        return path
    shown = [to_pil(frame) for frame in _bounded(everything, path)]
    times = round(1000 / rate) if durations is None else list(durations)
    options: dict[str, Any] = {"format": FILM_FORMATS[ending], "duration": times, "loop": 0}
    write_atomically(path, lambda file: shown[0].save(file, save_all=True, append_images=shown[1:], **options))
    return path


def _bounded(frames: Iterable[Tensor], path: Path) -> Iterator[Tensor]:
    """The frames, until they are more than Pillow should hold."""
    pixels = 0
    for frame in frames:
        pixels += frame.shape[-1] * frame.shape[-2]
        refuse_large(pixels, path)
        yield frame


def refuse_large(pixels: int, path: Path) -> None:
    """Refuse an animation of so many pixels, all frames together.

    Raises:
        ZooError: they are more than fit.
    """
    if pixels > MOST_PIXELS and path.suffix.lower() != ".mp4":
        raise ZooError(
            f"{path} would have more than {MOST_PIXELS:,} pixels in all its frames, too many for {path.suffix}. Make it smaller, or an MP4."
        )


def _write_mp4(frames: Iterable[Tensor], path: Path, rate: float) -> None:
    """Encode frames by H.264, as they come.

    Raises:
        ZooError: the encoder stopped, as where the disk is full.
    """
    library = ffmpeg_library()

    def encode(file: Any) -> None:
        encoder = None
        try:
            for frame in frames:
                pixels = np.asarray(to_pil(frame).convert("RGB"))
                pixels = np.pad(pixels, ((0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)), mode="edge")
                if encoder is None:
                    encoder = library.write_frames(
                        file.name,
                        (pixels.shape[1], pixels.shape[0]),
                        fps=rate,
                        codec="libx264",
                        quality=None,
                        macro_block_size=1,
                        ffmpeg_log_level="fatal",
                        output_params=["-crf", CRF, "-movflags", "+faststart", "-f", "mp4"],
                    )
                    encoder.send(None)
                encoder.send(np.ascontiguousarray(pixels))
        except OSError as error:
            raise _failed(path) from error
        finally:
            if encoder is not None:
                encoder.close()  # waits until ffmpeg has written everything, but does not look at how it ended
        try:
            with closing(library.read_frames(file.name)) as written:
                next(written)
        except Exception as error:
            raise _failed(path) from error

    write_atomically(path, encode)


def _failed(path: Path) -> ZooError:
    free = shutil.disk_usage(path.parent).free
    return ZooError(f"ffmpeg could not write {path}; {free:,} bytes are free on its disk.")
