"""Ten thousand bad inputs: pictures, folders, checkpoints, exported models, recipes. Each costs one sentence, and nothing else.

    python tests/benchmarks/soak_inputs.py [--count 10000] [--seed 0] [--only picture] [--log runs/benchmarks/soak_inputs.csv]

Every case is drawn from its number and the seed, so one can be repeated: --first 4711 --count 1. A case may be read rightly (a bit that
flipped in a comment), or it is refused: by an error for people, in one line that is not too long, with exit code 2 where the command is
asked. Anything else is wrong: another exception, a warning, another weight, a file left behind, a pickle that ran, a minute of work.
The exit code is 1 if any case was wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import os
import random
import resource
import shutil
import struct
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import save

sys.path.insert(0, str(Path(__file__).parents[1]))

from datamodules import UnpairedFolders
from datamodules.errors import DataError
from datamodules.pictures import BadPictureError, decode
from support.commands import TINY, lightning
from support.toys import ROOT, TOYS
from zoo.cli.lookup import PACKAGE
from zoo.core.checkpoints import read_checkpoint
from zoo.core.exported import read_exported, write_exported
from zoo.core.files import write_atomically
from zoo.core.loading import load_translator
from zoo.cyclegan import CycleGAN
from zoo.errors import ZooError
from zoo.testing import digest

LOG = Path(__file__).parents[2] / "runs" / "benchmarks" / "soak_inputs.csv"
LONGEST = 1500  # characters of a sentence; a list of folders may be long
SLOWEST = 60.0  # seconds
FORMATS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "BMP": "bmp", "TIFF": "tiff", "GIF": "gif"}
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F")
NAMES = (
    "a",
    "Žluťoučký kůň",
    "with spaces ",
    "猫",
    "né\u0301",
    "x" * 200,
    "quote'\"",
    "100%",
    "new\nline",
    "-dash",
    "{b}",
    "💾",
)


class WrongError(AssertionError):
    """What a case did that it must not do."""


# Pictures ----------------------------------------------------------------------------------------------------------------------


def picture_bytes(numbers: random.Random) -> tuple[bytes, str]:
    """A picture of any kind as a file's content, and its usual ending."""
    mode = numbers.choice(MODES)
    size = (1, 1) if numbers.random() < 0.1 else (numbers.randint(1, 40), numbers.randint(1, 40))
    high = {"1": 2, "I;16": 65536, "I": 70000}.get(mode, 256)
    bands = {"LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4, "YCbCr": 3}.get(mode, 1)
    values = np.random.default_rng(numbers.randrange(2**31)).integers(0, high, (size[1], size[0], bands))
    if mode in {"I", "F"}:
        picture = Image.fromarray(values[:, :, 0].astype(np.int32 if mode == "I" else np.float32))
    elif mode == "I;16":
        picture = Image.fromarray(values[:, :, 0].astype(np.uint16))
    elif mode in {"1", "P"}:
        picture = Image.fromarray((values[:, :, 0] * (255 if mode == "1" else 1)).astype(np.uint8)).convert(mode)
    else:
        picture = Image.frombytes(mode, size, values.astype(np.uint8).tobytes())
    kinds = list(FORMATS)
    numbers.shuffle(kinds)
    options: dict[str, Any] = {}
    if numbers.random() < 0.15:
        options = {"save_all": True, "append_images": [picture.copy() for _ in range(3)]}
    for kind in kinds:
        file = io.BytesIO()
        with contextlib.suppress(OSError, ValueError, KeyError):
            picture.save(file, kind, **(options if kind in {"PNG", "GIF", "WEBP", "TIFF"} else {}))
            return file.getvalue(), FORMATS[kind]
    return b"", "png"


def bomb(numbers: random.Random) -> bytes:
    """A small PNG that says it has more pixels than memory holds."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    side = numbers.choice([20_000, 65_535, 2**31 - 1])
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def spoilt(content: bytes, numbers: random.Random) -> bytes:
    """A file's content after an accident."""
    how = numbers.choice(("whole", "cut", "empty", "flip", "flips", "noise", "front", "zeros", "twice", "text"))
    if how == "cut":
        return content[: numbers.randrange(len(content) + 1)]
    if how == "empty":
        return b""
    if how in {"flip", "flips"} and content:
        changed = bytearray(content)
        for _ in range(1 if how == "flip" else 20):
            changed[numbers.randrange(len(changed))] ^= 1 << numbers.randrange(8)
        return bytes(changed)
    if how == "noise":
        return numbers.randbytes(numbers.randrange(1, 3000))
    if how == "front":
        return content[numbers.randrange(len(content) + 1) :]
    if how == "zeros" and content:
        at = numbers.randrange(len(content))
        return content[:at] + bytes(len(content) - at)
    if how == "text":
        return b"<!DOCTYPE html><html>404</html>"
    return content + content if how == "twice" else content


def a_picture(numbers: random.Random, folder: Path) -> str:
    """A file that should be a picture is decoded, or said not to be one."""
    content, ending = picture_bytes(numbers)
    content = bomb(numbers) if numbers.random() < 0.03 else spoilt(content, numbers)
    ending = numbers.choice([*FORMATS.values()]) if numbers.random() < 0.2 else ending
    path = folder / f"{numbers.choice(NAMES)}.{ending}"
    kind = numbers.random()
    if kind < 0.02:
        path.symlink_to(folder / "nowhere")
    elif kind < 0.03:
        path.mkdir()
    else:
        path.write_bytes(content)
    try:
        pixels = decode(path)
    except BadPictureError as error:
        return refused(error)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise WrongError(f"decoded as {pixels.dtype} {pixels.shape}")
    return "read"


def a_folder(numbers: random.Random, folder: Path) -> str:
    """Folders of good and bad pictures, and options that make no sense: training batches come, or a sentence."""
    for domain in ("source", "target"):
        place = folder / domain
        place.mkdir()
        for index in range(numbers.randint(0, 6)):
            content, ending = picture_bytes(numbers)
            content = spoilt(content, numbers) if numbers.random() < 0.3 else content
            (place / f"{index}{numbers.choice(NAMES)[:50]}.{ending}").write_bytes(content)
        if numbers.random() < 0.2:
            (place / "loop").symlink_to(folder)
        if numbers.random() < 0.2:
            (place / "broken.png").symlink_to(folder / "nowhere")
    if numbers.random() < 0.1:
        shutil.rmtree(folder / "source")
    options: dict[str, Any] = {"size": 16, "load_size": 18, "batch_size": 2, "workers": 0, "max_bad_share": 0.9}
    if numbers.random() < 0.3:
        options[numbers.choice(list(options))] = numbers.choice([0, -1, 10**7, 3])
    if numbers.random() < 0.1:
        options["source_count"] = numbers.choice([0, -5, 2, 10**9])
    if options["batch_size"] > 1000:
        return "left out: so large a batch is made"
    changing = numbers.random() < 0.3
    try:
        data = UnpairedFolders(str(folder / "source"), str(folder / "target"), **options)
        data.setup("fit")
        batches = iter(data.train_dataloader())
        if changing:  # somebody tidies up while it trains
            for path in sorted((folder / "target").rglob("*.*"))[: numbers.randint(1, 4)]:
                path.unlink()
        for _ in range(3):
            batch = next(batches)
            if batch["source"].dtype != torch.uint8 or batch["source"].shape[1] != 3:
                raise WrongError(f"a batch of {batch['source'].dtype} {tuple(batch['source'].shape)}")
    except DataError as error:
        return refused(error)
    return "read"


# Files of weights ---------------------------------------------------------------------------------------------------------------


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


class Models:
    """A small model in both kinds of files, made once."""

    checkpoint: ClassVar[dict[str, Any]] = {}
    content: bytes = b""
    exported: bytes = b""
    digest: str = ""

    @classmethod
    def make(cls, folder: Path) -> None:
        torch.manual_seed(0)
        tiny = {"generator_channels": 2, "residual_blocks": 1, "discriminator_channels": 2, "discriminator_layers": 1}
        model = CycleGAN(**tiny)  # type: ignore[arg-type]
        kept = {"room": "cyclegan", "iteration": 3, "stage": 0, "frozen": [], "seed": 0, "ranks": []}
        cls.checkpoint = {
            "state_dict": model.state_dict(),
            "hyper_parameters": dict(model.hparams),
            "zoo": kept,
            "global_step": 3,
        }
        file = io.BytesIO()
        torch.save(cls.checkpoint, file)
        cls.content = file.getvalue()
        write_exported(model, folder / "model.safetensors")
        cls.exported = (folder / "model.safetensors").read_bytes()
        cls.digest = digest(dict(model.state_dict()))


def a_checkpoint(numbers: random.Random, folder: Path) -> str:
    """A checkpoint that is damaged, or that a stranger made: the same weights, or a sentence; nothing in it runs."""
    path, marker = folder / "iteration_00000003.ckpt", folder / "sprung"
    if numbers.random() < 0.6:
        path.write_bytes(spoilt(Models.content, numbers))
    else:
        path.write_bytes(_crafted(numbers, marker))
    try:
        read_checkpoint(path)
        model = load_translator(path)
    except ZooError as error:
        answer = refused(error)
    else:
        if digest(dict(model.state_dict())) != Models.digest:
            raise WrongError("it loads, with other weights")
        answer = "read"
    if marker.exists():
        raise WrongError("what was pickled in it ran")
    return answer


def _crafted(numbers: random.Random, marker: Path) -> bytes:
    """A checkpoint whose entries are not what they should be."""
    content: Any = {key: dict(value) if isinstance(value, dict) else value for key, value in Models.checkpoint.items()}
    odd = numbers.choice([None, -1, "text", [], {}, 1e300, torch.zeros(2), {"class_path": "os.system"}, True])
    how = numbers.choice(
        ("entry", "missing", "room", "settings", "class", "weights", "shape", "trap", "bare", "old trap", "keys")
    )
    if how == "entry":
        content[numbers.choice(list(content))] = odd
    elif how == "missing":
        del content[numbers.choice(["state_dict", "zoo"])]
    elif how == "room":
        content["zoo"]["room"] = numbers.choice(
            ["os", "zoo.cyclegan:CycleGAN", "", odd, "sat", "biggan", "../cyclegan"]
        )
    elif how == "settings":
        name = numbers.choice(list(content["hyper_parameters"]))
        content["hyper_parameters"][name] = numbers.choice([None, "text", [], {"class_path": "os.system"}])
        content["state_dict"] = {}
    elif how == "class":
        content["hyper_parameters"] |= {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(marker)]}}
    elif how == "weights":
        del content["state_dict"][numbers.choice(list(content["state_dict"]))]
    elif how == "shape":
        content["state_dict"][numbers.choice(list(content["state_dict"]))] = torch.zeros(3, 1)
    elif how in {"trap", "old trap"}:
        content["zoo"]["seed"] = Trap(marker)
    elif how == "keys":
        content["zoo"][numbers.choice(["stage", "frozen"])] = numbers.choice(["text", -1, ["nobody"], 10**6, None])
        content["state_dict"] = {}
    file = io.BytesIO()
    torch.save(odd if how == "bare" else content, file, _use_new_zipfile_serialization=how != "old trap")
    return file.getvalue()


def an_export(numbers: random.Random, folder: Path) -> str:
    """An exported model that is damaged, or whose header a stranger wrote."""
    path = folder / "model.safetensors"
    if numbers.random() < 0.6:
        path.write_bytes(spoilt(Models.exported, numbers))
    else:
        entry: Any = {"room": "cyclegan", "settings": {}, "stage": 0}
        entry[numbers.choice(list(entry))] = numbers.choice([None, -1, "text", [], {"class_path": "os.system"}])
        path.write_bytes(save({"x": torch.zeros(2)}, {"zoo": json.dumps(numbers.choice([entry, [], 3, "zoo", entry]))}))
    try:
        model = read_exported(path)
    except ZooError as error:
        return refused(error)
    if digest(dict(model.state_dict())) != Models.digest:
        raise WrongError("it loads, with other weights")
    return "read"


# Recipes and disks --------------------------------------------------------------------------------------------------------------

ODD = (
    None,
    -1,
    0,
    1.5,
    "text",
    [],
    {},
    [1, 2],
    {"a": 1},
    True,
    "null",
    ".nan",
    -(10**6),
    "../..",
    "\u0000",
    "💾",
    [None],
)


def a_recipe(numbers: random.Random, folder: Path) -> str:
    """A recipe with a mistake: it trains for an iteration all the same, or it is refused in a line, and leaves no run."""
    room = (
        ""
        if numbers.random() < 0.4
        else numbers.choice(sorted(set(TOYS) - {"hidt_enhancer", "unit_digits", "alae_mnist"}))
    )
    toy = {"model": {"init_args": TOYS[room].model}, "data": {"init_args": TOYS[room].data}} if room else TINY
    settings = yaml.safe_load(yaml.safe_dump(toy))
    for _ in range(numbers.choice([1, 1, 2])):
        _mistake(settings, numbers)
    text = yaml.safe_dump(settings, allow_unicode=True)
    if numbers.random() < 0.15:
        at = numbers.randrange(len(text))
        text = (
            text[:at]
            + numbers.choice(["\t", ":", "- ", "{", "'", "\n  ", "&a", "*b", "\x07", "!!python/object:os.system "])
            + text[at:]
        )
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    configs = [*_recipe_of(room), path]
    words = [word for config in configs for word in ("--config", config)]
    words += ["--run.root", folder / "runs", "--trainer.max_steps", 1, "--trainer.limit_val_batches", 0]
    words += ["--trainer.accelerator", "cpu", "--judge.enabled", False]
    said, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        code = lightning("fit", *words)
    if code == 0:
        return "read"
    lines = [line for line in complained.getvalue().strip().splitlines() if line]
    if code != 2 or not lines or not lines[-1].startswith("lightning: ") or "Traceback" in complained.getvalue():
        raise WrongError(f"exit code {code}: {' / '.join(lines)[-400:]}")
    if list(folder.glob("runs/*/*/*")):
        raise WrongError(
            f"it was refused, and left {[str(p.relative_to(folder)) for p in folder.glob('runs/*/*/*')]}: {lines[-1]}"
        )
    return refused(ZooError(lines[-1]))


def _recipe_of(room: str) -> list[Path]:
    return [PACKAGE / f"{room}.yaml", ROOT / "configs" / "demo" / f"{TOYS[room].demo or room}.yaml"] if room else []


def _mistake(settings: dict[str, Any], numbers: random.Random) -> None:
    """Change one setting into something odd, add one that there is not, or lose one."""
    places = list(_mappings(settings))
    place = numbers.choice(places)
    keys = [
        key for key in place if key not in {"max_steps", "model", "data", "init_args"}
    ]  # without those it is a large one
    how = numbers.random()
    if how < 0.6 and keys:
        place[numbers.choice(keys)] = numbers.choice(ODD)
    elif how < 0.8 or not keys:
        place[numbers.choice(["unknown", "batchsize", "lr", "Size", "класс"])] = numbers.choice(ODD)
    else:
        del place[numbers.choice(keys)]


def _mappings(settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield settings
    for value in settings.values():
        if isinstance(value, dict):
            yield from _mappings(value)


def a_disk(numbers: random.Random, folder: Path) -> str:
    """A file that does not fit, or may not be written: the old one stays, nothing is left beside it."""
    path = folder / numbers.choice(NAMES) / "file"
    try:
        path.parent.mkdir()
    except OSError:
        return "left out: no such name here"
    path.write_bytes(b"old")
    size = numbers.randrange(2000, 100_000)
    limit = numbers.randrange(1, size)
    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, kept[1]))
    try:
        write_atomically(path, bytes(size))
    except ZooError as error:
        answer = refused(error)
    else:
        raise WrongError(f"{size} bytes were written where {limit} fit")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)
    if path.read_bytes() != b"old" or len(list(path.parent.iterdir())) != 1:
        raise WrongError("something was lost or left")
    return answer


# All of it ---------------------------------------------------------------------------------------------------------------------

Case = Callable[[random.Random, Path], str]
CASES: dict[str, tuple[Case, int]] = {  # how many of a hundred
    "picture": (a_picture, 60),
    "checkpoint": (a_checkpoint, 15),
    "export": (an_export, 8),
    "disk": (a_disk, 6),
    "folder": (a_folder, 8),
    "recipe": (a_recipe, 3),
}


def refused(error: Exception) -> str:
    """That a case was refused, if the sentence is one."""
    text = str(error)
    if not text.strip() or len(text) > LONGEST:
        raise WrongError(f"a sentence of {len(text)} characters: {text[:200]}")
    return "refused"


def kind_of(number: int, seed: int) -> str:
    """The sort of a case."""
    numbers = random.Random(f"{seed} {number} kind")
    return numbers.choices(list(CASES), [share for _, share in CASES.values()])[0]


def run_case(number: int, seed: int, scratch: Path, kind: str = "") -> tuple[str, str, str]:
    """Make a case and see what becomes of it: its sort, `read` or `refused`, and what is wrong."""
    kind = kind or kind_of(number, seed)
    folder = scratch / f"case {number}"
    folder.mkdir()
    begin = time.monotonic()
    answer, wrong = "", ""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", module=r"lightning\.|jsonargparse|torch\.utils\.data")
            answer = CASES[kind][0](random.Random(f"{seed} {number}"), folder)
    except WrongError as error:
        wrong = str(error)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        wrong = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
    if time.monotonic() - begin > SLOWEST:
        wrong = wrong or f"it took {time.monotonic() - begin:.0f} s"
    shutil.rmtree(folder, ignore_errors=True)
    return kind, answer, wrong


def main() -> int:
    """Go through all cases and tell of those that went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="of cases (default: 10000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first one (default: 0)")
    parser.add_argument("--seed", type=int, default=0, help="of the drawing (default: 0)")
    parser.add_argument("--only", choices=CASES, default="", help="one sort of cases alone")
    parser.add_argument("--log", type=Path, default=LOG, help="a table with a row per case that went wrong")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.log.parent.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    begin = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="inputs") as scratch,
        options.log.open("w", newline="", encoding="utf-8") as file,
    ):
        Models.make(Path(scratch))
        os.chdir(scratch)
        table = csv.writer(file)
        table.writerow(["number", "kind", "what is wrong"])
        for number in range(options.first, options.first + options.count):
            kind, answer, wrong = run_case(number, options.seed, Path(scratch), options.only)
            counts[f"{kind}: {'WRONG' if wrong else answer}"] += 1
            if wrong:
                table.writerow([number, kind, wrong])
                file.flush()
                print(f"{number} {kind}: {wrong}", flush=True)
    bad = sum(count for key, count in counts.items() if key.endswith("WRONG"))
    for key in sorted(counts):
        print(f"{key:<24}{counts[key]:>7}")
    print(f"{options.count} cases in {time.monotonic() - begin:.0f} s, {bad} went wrong; table: {options.log}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
