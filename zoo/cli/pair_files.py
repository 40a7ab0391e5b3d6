"""Generated pairs on disk: which pictures there shall be, which there are, and how the rest comes into being.

The work is cut into blocks of latent vectors. A block follows from the settings alone, so any process can do any block, in any order, and
one that was stopped is gone on with. Beside the pictures stands `manifest.json`, with the settings, the latent vectors and the SHA-256 of
every file; `.generation` holds what each block has come to.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datamodules.pictures import BadPictureError, decode
from zoo.core.files import lock_file, write_atomically
from zoo.core.images import to_pil
from zoo.errors import ZooError

BLOCK = 20
"""Latent vectors of one truncation that are ranked against each other."""

MANIFEST, WORK = "manifest.json", ".generation"
Place = tuple[int, int]  # of a picture: its number and its domain
MASKS = "_mask"  # at the end of the folder's name
JPEG_QUALITY = 95
KEPT_IN_MEMORY = 1 << 30  # bytes of a block's pictures, so that those that are kept need not be drawn twice
PATIENCE = 600.0  # seconds for other processes to write the manifest


class Pictures(Protocol):
    """What pictures come from; see `zoo.biggan.pairs.PairGenerator`."""

    @property
    def truncations(self) -> Sequence[float]: ...  # noqa: D102
    def names(self) -> list[str]: ...  # noqa: D102
    def draw(self, numbers: Sequence[int], domains: Tensor) -> Tensor: ...  # noqa: D102


@dataclass(frozen=True)
class Quality:
    """Which of a block's latent vectors are kept.

    In every class, pictures of one truncation are ranked by their scores; a latent vector's quality is the mean share of others that it
    leaves behind, over all classes: its pictures belong together, so they stay or go together. The best are kept, of equals the first.

    Attributes:
        share: of the latent vectors of each truncation that is kept, rounded to a number of `BLOCK`, at least one.
        least: mean score over all classes below which a latent vector goes whatever its rank; None for no such.
    """

    share: float
    least: float | None = None

    @property
    def per_truncation(self) -> int:
        """Latent vectors that are kept of each truncation in a block."""
        return max(1, round(self.share * BLOCK))

    def judge(self, numbers: Sequence[int], scores: Tensor) -> dict[int, dict[str, Any]]:
        """Rank the latent vectors of one truncation.

        Args:
            numbers: theirs.
            scores: (n, domains), the higher the better.

        Returns:
            By number: the mean score, the quality, 0 to 1, the rank, counted from 1, and whether it is kept.
        """
        beaten = (scores[:, None] > scores[None]).sum(1).double()  # n k
        quality = beaten.mean(1) / max(1, len(numbers) - 1)
        means = [round(mean, 6) for mean in scores.double().mean(1).tolist()]
        order = (-quality).argsort(dim=0, stable=True).tolist()
        return {
            numbers[row]: {
                "score": means[row],
                "quality": round(float(quality[row]), 6),
                "rank": rank,
                "kept": rank <= self.per_truncation and (self.least is None or means[row] >= self.least),
            }
            for rank, row in enumerate(order, start=1)
        }


@dataclass
class Tasks:
    """A few things done at a time, by threads, whose errors are raised here."""

    pool: ThreadPoolExecutor
    open: list[Future[None]] = field(default_factory=list)

    def add(self, action: Callable[[], None]) -> None:
        """Let a thread do something."""
        self.open.append(self.pool.submit(action))

    def finish(self, leave: int = 0) -> None:
        """Wait until no more than so many are open."""
        while len(self.open) > leave:
            self.open.pop(0).result()


class PairFolder:
    """A folder of generated pairs.

    Args:
        folder: `<folder>/<domain>/<n>.png`; masks go to `<folder>_mask/<domain>/<n>.jpg`.
        settings: all that the pictures follow from, plain values.
        names: of the domains.
        per_domain: pictures wanted of each.
        truncations: of the latent vectors, in turn.
        quality: which are kept; None for all.
        masks: what makes them, or "none".

    Raises:
        ZooError: the folder holds something else, or pictures of other settings.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        names: Sequence[str],
        per_domain: int,
        truncations: Sequence[float],
        quality: Quality | None,
        masks: str,
    ) -> None:
        self.folder = folder.expanduser().absolute()
        self.masks_folder = self.folder.with_name(f"{self.folder.name}{MASKS}")
        self.settings, self.names = json.loads(json.dumps(dict(settings))), list(names)
        self.per_domain, self.truncations, self.quality, self.masks = per_domain, tuple(truncations), quality, masks
        with self.lock():
            self._claim()

    # What there shall be

    @property
    def kept_per_block(self) -> int:
        """Latent vectors of a block whose pictures are kept."""
        return len(self.truncations) * (self.quality.per_truncation if self.quality else BLOCK)

    @property
    def blocks(self) -> int:
        """How many blocks make all pictures."""
        return -(-self.per_domain // self.kept_per_block)

    def numbers(self, block: int) -> range:
        """The latent vectors of a block."""
        count = BLOCK * len(self.truncations)
        return range(block * count, (block + 1) * count)

    def wanted(self, block: int, record: Mapping[str, Any]) -> list[int]:
        """The latent vectors of a block whose pictures are to be there."""
        kept = [n for n in self.numbers(block) if not self.quality or record["latents"][str(n)]["kept"]]
        return kept[: max(0, self.per_domain - block * self.kept_per_block)]

    # What there is

    def lock(self, wait: float = PATIENCE) -> AbstractContextManager[None]:
        """Hold the folder's manifest."""
        return lock_file(self.folder / WORK / "lock", protects=f"the manifest of {self.folder}", wait=wait)

    def record_path(self, block: int) -> Path:
        """Where the state of a block stands."""
        return self.folder / WORK / f"block_{block:06d}.json"

    def record(self, block: int) -> dict[str, Any]:
        """The state of a block: `latents`, `files` and `masks`, as far as it has come."""
        empty: dict[str, Any] = {"latents": {}, "files": {}, "masks": {}}
        path = self.record_path(block)
        return {**empty, **_read(path)} if path.is_file() else empty

    def keep(self, block: int, record: Mapping[str, Any]) -> None:
        """Write down the state of a block."""
        write_atomically(self.record_path(block), json.dumps(record).encode())

    def picture(self, domain: int, number: int) -> Path:
        """Where a picture lies."""
        return self.folder / self.names[domain] / f"{number}.png"

    def mask(self, domain: int, number: int) -> Path:
        """Where the mask of a picture lies."""
        return self.masks_folder / self.names[domain] / f"{number}.jpg"

    def _claim(self) -> None:
        manifest = self.folder / MANIFEST
        if not manifest.is_file():
            if others := sorted(entry.name for entry in self.folder.iterdir() if entry.name != WORK):
                raise ZooError(
                    f"--out {self.folder} holds {others[0]} and {len(others) - 1} more entries that this command did not write. Give an "
                    "empty folder, or one that is not there yet."
                )
            self._write_manifest({"per_domain": self.per_domain, "masks": self.masks, "complete": False})
            return
        found = _read(manifest)
        theirs = found.get("settings", {})
        if differing := sorted(
            k for k in theirs.keys() | self.settings.keys() if theirs.get(k) != self.settings.get(k)
        ):
            name = differing[0]
            raise ZooError(
                f"--out {self.folder} holds another generation: its {name} is {_short(theirs.get(name))}, and here it is "
                f"{_short(self.settings.get(name))}. Give another --out, or the options of {manifest}."
            )
        if "none" not in (self.masks, found["masks"]) and self.masks != found["masks"]:
            raise ZooError(
                f"{self.masks_folder} holds masks of {found['masks']}. Remove it, or give --masks {found['masks']}."
            )
        self.per_domain = max(self.per_domain, found["per_domain"])  # what is there stays
        if self.masks == "none":
            self.masks = found["masks"]
        self._write_manifest({**found, "per_domain": self.per_domain, "masks": self.masks, "complete": False})

    def _write_manifest(self, content: Mapping[str, Any]) -> None:
        whole = {"made by": "lightning generate pairs", "settings": self.settings, **content}
        write_atomically(self.folder / MANIFEST, (json.dumps(whole, indent=1) + "\n").encode())

    def finish(self) -> dict[str, Any]:
        """Gather the states of all blocks in the manifest, and return it: `complete` says whether all pictures are there."""
        with self.lock():
            gathered: dict[str, Any] = {"latents": {}, "files": {}, "masks": {}}
            complete = True
            for block in range(self.blocks):
                record = self.record(block)
                ready = bool(record["latents"]) and len(record["files"]) >= len(self.names) * len(
                    self.wanted(block, record)
                )
                complete = complete and ready and (self.masks == "none" or len(record["masks"]) == len(record["files"]))
                for name, entries in gathered.items():
                    entries.update(record[name])
            content = {
                "per_domain": self.per_domain,
                "masks": self.masks,
                "complete": complete,
                "latents": gathered["latents"],
                "files": gathered["files"],
                "mask_files": gathered["masks"],
            }
            self._write_manifest(content)
        return content


class Work:
    """Does blocks.

    Args:
        folder: where pictures go.
        source: where they come from.
        device: that draws.
        batch_size: pictures drawn at a time.
        rank: scores pictures, see `zoo.cli.pair_scores`; None where all are kept.
        find: makes masks, uint8 b 3 h w from uint8 b 3 h w; None for none.
        progress: told how many more pictures, and masks, are ready.
        tasks: write files.
    """

    def __init__(
        self,
        folder: PairFolder,
        source: Pictures,
        device: torch.device,
        batch_size: int,
        rank: Callable[[Tensor, Tensor], Tensor] | None,
        find: Callable[[Tensor], Tensor] | None,
        progress: Callable[[int], object],
        tasks: Tasks,
    ) -> None:
        self.folder, self.source, self.device, self.batch_size = folder, source, device, batch_size
        self.rank, self.find, self.progress, self.tasks = rank, find, progress, tasks
        self.drawn = 0

    @cached_property
    def _domains(self) -> range:
        return range(len(self.folder.names))

    def do(self, block: int) -> None:
        """See to it that a block's pictures and masks are there and whole."""
        folder, record = self.folder, self.folder.record(block)
        pictures: dict[Place, Tensor] = {}
        if not record["latents"]:
            record["latents"], pictures = self._rank(block)
            folder.keep(block, record)
        places = [(number, domain) for number in folder.wanted(block, record) for domain in self._domains]
        there = {place: digest for place in places if (digest := self._digest_of(place, record)) is not None}
        self.progress(len(there))
        files = {self._name(place): digest for place, digest in there.items()}
        ready = [(place, pictures[place]) for place in places if place not in there and place in pictures]
        missing = [place for place in places if place not in there and place not in pictures]
        self._write(ready, files)
        for batch in self._drawn(block, set(missing)):
            self._write(batch, files)
        self.tasks.finish()
        record["files"] = dict(sorted(files.items()))
        folder.keep(block, record)
        if self.find is not None:
            self._make_masks(places, record)
            folder.keep(block, record)

    # Pictures

    def _rank(self, block: int) -> tuple[dict[str, Any], dict[Place, Tensor]]:
        """Say of each latent vector what its truncation is and whether it is kept; and the pictures that were drawn to know."""
        folder = self.folder
        numbers, truncations = folder.numbers(block), folder.truncations
        latents: dict[str, Any] = {str(n): {"truncation": truncations[n % len(truncations)]} for n in numbers}
        pictures: dict[Place, Tensor] = {}
        if folder.quality is None or self.rank is None:
            return latents, pictures
        scores = torch.zeros(len(numbers), len(folder.names))
        for batch in self._drawn(block, {(number, domain) for number in numbers for domain in self._domains}):
            images = torch.stack([image for _, image in batch]).to(self.device)
            rows, columns = (torch.tensor(part) for part in zip(*(place for place, _ in batch), strict=True))
            scores[rows - numbers[0], columns] = self.rank(images, columns.to(self.device)).float().cpu()
            if len(numbers) * len(folder.names) * images[0].numel() <= KEPT_IN_MEMORY:
                pictures |= dict(batch)
        for turn in range(len(truncations)):
            group = [n for n in numbers if n % len(truncations) == turn]
            judged = folder.quality.judge(group, scores[[n - numbers[0] for n in group]])
            for number, facts in judged.items():
                latents[str(number)] |= facts
        return latents, pictures

    def _drawn(self, block: int, places: Collection[Place]) -> Iterator[list[tuple[Place, Tensor]]]:
        """Draw some pictures of a block onto the CPU, a batch at a time.

        Sums are rounded otherwise in other company: the block is always cut into the same batches, and one that is needed at all is drawn
        as a whole. So the files have the same bytes, however often the command was stopped.
        """
        whole = [(number, domain) for number in self.folder.numbers(block) for domain in self._domains]
        for start in range(0, len(whole), self.batch_size):
            part = whole[start : start + self.batch_size]
            if not any(place in places for place in part):
                continue
            domains = torch.tensor([domain for _, domain in part], device=self.device)
            images = self.source.draw([number for number, _ in part], domains).cpu()
            self.drawn += len(part)
            yield [(place, image) for place, image in zip(part, images, strict=True) if place in places]

    def _write(self, batch: Iterable[tuple[Place, Tensor]], files: dict[str, str]) -> None:
        for place, image in batch:
            self.tasks.add(lambda place=place, image=image: self._save(place, image, files))  # type: ignore[misc]
        self.tasks.finish(leave=2 * self.batch_size)

    def _save(self, place: Place, image: Tensor, files: dict[str, str]) -> None:
        content = encoded(image, "PNG")
        write_atomically(self.folder.picture(place[1], place[0]), content)
        files[self._name(place)] = hashlib.sha256(content).hexdigest()
        self.progress(1)

    def _digest_of(self, place: Place, record: Mapping[str, Any]) -> str | None:
        """The SHA-256 of a picture that is there and whole; None for one that is to be drawn."""
        path, known = self.folder.picture(place[1], place[0]), record["files"].get(self._name(place))
        if not path.is_file():
            return None
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if known is not None:
            return digest if digest == known else None
        return digest if _is_whole(path) else None  # of a block that was stopped

    def _name(self, place: Place) -> str:
        return f"{self.folder.names[place[1]]}/{place[0]}.png"

    # Masks

    def _make_masks(self, places: Sequence[Place], record: dict[str, Any]) -> None:
        known, masks = record["masks"], {}
        missing = []
        for place in places:
            name, path = self._name(place), self.folder.mask(place[1], place[0])
            if path.is_file() and known.get(name, {}).get("sha256") == hashlib.sha256(path.read_bytes()).hexdigest():
                masks[name] = known[name]
            else:
                missing.append(place)
        self.progress(len(masks))
        for start in range(0, len(missing), self.batch_size):
            part = missing[start : start + self.batch_size]
            images = [np.ascontiguousarray(decode(self.folder.picture(domain, number))) for number, domain in part]
            batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous().to(self.device)
            assert self.find is not None
            for place, mask in zip(part, self.find(batch).cpu(), strict=True):
                content = encoded(mask, "JPEG")
                write_atomically(self.folder.mask(place[1], place[0]), content)
                share = round(float((mask > 127).any(0).float().mean()), 4)
                self.progress(1)
                masks[self._name(place)] = {"sha256": hashlib.sha256(content).hexdigest(), "covered": share}
        record["masks"] = dict(sorted(masks.items()))


def encoded(image: Tensor, kind: str) -> bytes:
    """A picture uint8 3 h w as the bytes of a PNG or JPEG file."""
    file = io.BytesIO()
    to_pil(image).save(file, format=kind, **({"quality": JPEG_QUALITY} if kind == "JPEG" else {}))
    return file.getvalue()


def _is_whole(path: Path) -> bool:
    try:
        with Image.open(path) as picture:
            picture.load()
    except (OSError, SyntaxError, ValueError, BadPictureError):
        return False
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ZooError(f"{path} cannot be read ({error}). Remove it, and the command makes it anew.") from error
    if not isinstance(content, dict):
        raise ZooError(f"{path} holds no record of this command. Remove it, and the command makes it anew.")
    return content


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
