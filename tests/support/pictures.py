"""Makers of picture files for tests: ordinary ones, and every odd kind that people's folders hold."""

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def pixels(height: int = 24, width: int = 32, number: int = 0) -> NDArray[np.uint8]:
    """A smooth colourful RGB picture that differs from number to number."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / (3 + i) + number) * np.cos(y / (4 + i) - number * 0.7) for i in range(3)]
    return np.uint8(np.stack(waves, axis=-1) * 100 + 128)


def make_folder(
    folder: Path, count: int, height: int = 24, width: int = 32, start: int = 0, suffix: str = ".png"
) -> Path:
    """A folder of `count` pictures named 000, 001, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(pixels(height, width, start + number)).save(folder / f"{number:03d}{suffix}", quality=90)
    return folder


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(path: Path, side: int = 60_000) -> None:
    """A PNG of a few dozen bytes that claims to be enormous."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = _png_chunk(b"IHDR", header) + _png_chunk(b"IDAT", zlib.compress(b"")) + _png_chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def make_good(kind: str, path: Path) -> NDArray[np.uint8] | None:
    """Write a sound picture of an odd kind; returns the RGB it must decode to, or None where compression makes that vague."""
    rgb = pixels()
    picture = Image.fromarray(rgb)
    grey = np.asarray(picture.convert("L"))
    match kind:
        case "grey":
            Image.fromarray(grey).save(path)
            return np.repeat(grey[:, :, None], 3, axis=2)
        case "black and white":
            one = picture.convert("1")
            one.save(path)
            return np.asarray(one.convert("RGB"))
        case "alpha":
            alpha = np.zeros((24, 32), np.uint8)
            alpha[:, 16:] = 255
            Image.fromarray(np.dstack([rgb, alpha])).save(path)
            return np.where(alpha[:, :, None] == 0, np.uint8(255), rgb)
        case "grey with alpha":
            Image.fromarray(np.dstack([grey, np.full_like(grey, 255)])).save(path)
            return np.repeat(grey[:, :, None], 3, axis=2)
        case "palette":
            palette = picture.quantize(16)
            palette.save(path)
            return np.asarray(palette.convert("RGB"))
        case "transparent palette":
            palette = picture.quantize(16)
            palette.save(path, transparency=bytes(range(0, 256, 16)))
            return None
        case "16 bits":
            values = np.linspace(0, 65535, 24 * 32).reshape(24, 32).astype(np.uint16)
            Image.fromarray(values).save(path)
            return np.repeat(np.rint(values / 257).astype(np.uint8)[:, :, None], 3, axis=2)
        case "CMYK":
            picture.convert("CMYK").save(path, quality=95)
            return None
        case "rotated":
            exif = Image.Exif()
            exif[0x0112] = 6  # turn clockwise to see it upright
            picture.save(path, exif=exif)
            return np.rot90(rgb, -1)
        case "animated":
            picture.save(path, save_all=True, append_images=[Image.fromarray(pixels(number=5))])
            return rgb
        case "pages":
            picture.save(path, save_all=True, append_images=[Image.fromarray(pixels(number=5))])
            return rgb
        case _:
            raise AssertionError(kind)


GOOD_KINDS = {
    "grey": ".png",
    "black and white": ".png",
    "alpha": ".png",
    "grey with alpha": ".png",
    "palette": ".png",
    "transparent palette": ".png",
    "16 bits": ".png",
    "CMYK": ".jpg",
    "rotated": ".png",
    "animated": ".png",
    "pages": ".tif",
}


def make_bad(kind: str, path: Path) -> None:
    """Write a file that is no usable picture."""
    picture = Image.fromarray(pixels(64, 64))
    match kind:
        case "empty":
            path.touch()
        case "text":
            path.write_text("this is not a picture")
        case "truncated jpg" | "truncated png" | "truncated webp" | "truncated bmp" | "truncated tif":
            picture.save(path)
            path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
        case "tiny":
            Image.fromarray(pixels(3, 40)).save(path)
        case "bomb":
            bomb(path)
        case "just too large":
            bomb(path, 9_500)
        case "dangling link":
            path.symlink_to(path.parent / "nowhere.jpg")
        case "floating point":
            Image.fromarray(np.ones((32, 32), np.float32)).save(path)
        case _:
            raise AssertionError(kind)


BAD_KINDS = {
    "empty": (".jpg", "empty"),
    "text": (".png", "not a picture"),
    "truncated jpg": (".jpg", "damaged"),
    "truncated png": (".png", "damaged"),
    "truncated webp": (".webp", "damaged|not a picture"),
    "truncated bmp": (".bmp", "damaged"),
    "truncated tif": (".tif", "damaged|not a picture"),
    "tiny": (".png", "40 x 3 pixels, smaller than 16"),
    "bomb": (".png", "pixels"),
    "just too large": (".png", "more than 89,478,485 pixels"),
    "dangling link": (".jpg", "gone"),
    "floating point": (".tif", "floating-point"),
}
