"""One picture file of any odd kind as RGB uint8, or the reason why not."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from datamodules.errors import DataError

WHITE = (255, 255, 255)
# PIL's own limit against files that unpack to more memory than there is: about 9459 x 9459 pixels.
MAX_PIXELS = 89_478_485
STILL = 100  # milliseconds


class BadPictureError(DataError):
    """One file that cannot be used as a picture; the message is the reason."""


def decode(path: Path, background: tuple[int, int, int] = WHITE, content: bytes | None = None) -> NDArray[np.uint8]:
    """Read any picture as RGB, uint8 `h w 3`.

    Transparent pictures are laid on `background`: the colours below full transparency are arbitrary, and cut-outs are
    mostly made for white paper. (The official code drops the alpha channel.) 16-bit pictures are scaled, not clipped.
    Rotations noted by cameras are applied. Animations and documents give their first frame or page.

    Args:
        path: of the file.
        background: RGB in 0..255.
        content: what stands in the file, where it was read already; the path is for messages then.

    Raises:
        BadPictureError: the file is missing, unreadable, damaged, too large or of a kind with no stated value range.
    """
    with pil_made_quiet():
        return decode_upright(path, background, content)


def frame_times(path: Path) -> list[int]:
    """How long each frame of an animated GIF or WebP is shown, in milliseconds; one for each frame.

    Times that say nothing (GIF's 0) become 100, which browsers take, too.

    Raises:
        BadPictureError: as of `decode`.
    """
    with pil_made_quiet(), reasons(path), Image.open(path) as picture:
        times = []
        for number in range(getattr(picture, "n_frames", 1)):
            picture.seek(number)
            picture.load()  # WebP knows a frame's time when it is decoded
            times.append(round(picture.info.get("duration", 0)) or STILL)
        return times


def decode_frames(path: Path, background: tuple[int, int, int] = WHITE) -> Iterator[NDArray[np.uint8]]:
    """Every frame of an animated GIF or WebP, one after the other, as `decode` reads the first one.

    Args:
        path: of the file.
        background: RGB in 0..255.

    Yields:
        uint8 `h w 3`.

    Raises:
        BadPictureError: as of `decode`, when a frame's turn comes.
    """
    with reasons(path):
        picture = Image.open(path)
    with picture:
        for number in count():
            with pil_made_quiet(), reasons(path):
                if number >= getattr(picture, "n_frames", 1):
                    return
                if picture.width * picture.height > MAX_PIXELS:
                    raise BadPictureError(f"more than {MAX_PIXELS:,} pixels")
                picture.seek(number)
                frame = np.asarray(_to_rgb(picture, background))
            yield frame


@contextmanager
def pil_made_quiet() -> Iterator[None]:
    """Silence PIL's warnings and let bomb-sized pictures raise.

    Filters are global to the process: enter it in the main thread alone, around a pool of threads.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


@contextmanager
def reasons(path: Path) -> Iterator[None]:
    """Turn whatever PIL and the file system raise for a file into a `BadPictureError`."""
    try:
        yield
    except BadPictureError:
        raise
    except FileNotFoundError as error:
        raise BadPictureError("the file is gone") from error
    except PermissionError as error:
        raise BadPictureError("no permission to read it") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadPictureError(f"more than {MAX_PIXELS:,} pixels") from error
    except Image.UnidentifiedImageError as error:
        empty = path.exists() and path.stat().st_size == 0
        raise BadPictureError("the file is empty" if empty else "not a picture") from error
    except Exception as error:  # PIL's plugins raise nearly anything on damaged files
        raise BadPictureError(f"damaged ({error})") from error


def decode_upright(
    path: Path, background: tuple[int, int, int] = WHITE, content: bytes | None = None
) -> NDArray[np.uint8]:
    """As `decode`, for use in threads inside `pil_made_quiet`."""
    with reasons(path), Image.open(path if content is None else BytesIO(content)) as picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise BadPictureError(f"more than {MAX_PIXELS:,} pixels")
        picture.load()
        upright = ImageOps.exif_transpose(picture)
        return np.asarray(_to_rgb(upright, background))


def _to_rgb(picture: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    if picture.mode == "F":
        raise BadPictureError("floating-point values without a stated range; save it as 8 or 16 bits")
    if picture.mode.startswith("I"):  # 16 bits per pixel, kept in 16 or 32
        values = np.asarray(picture).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise BadPictureError("32-bit values without a stated range; save it as 8 or 16 bits")
        return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, (*background, 255)), layer).convert("RGB")
    return picture.convert("RGB")
