"""One picture, over and over: the data of models that learn from nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.base import FixedSamples, FixedStage, ImageDataModule
from datamodules.errors import DataError
from datamodules.pictures import decode
from datamodules.sampling import Sample, to_chw
from datamodules.scenes import SceneMaker

SCENE = "scene:"


@dataclass(frozen=True)
class OnePicture:
    """The same sample at every index.

    Attributes:
        sample: uint8 3 h w by name.
    """

    sample: Sample

    def __call__(self, i: int) -> Sample:
        """Sample `i`."""
        return dict(self.sample)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, i: int) -> Sample:
        if i:
            raise IndexError(i)
        return dict(self.sample)


class SingleImage(ImageDataModule):
    """Batches `image`, 1 3 h w, and for models that take one `naive`, a composite that was made of it.

    A picture may have any size, aspect and kind: grey ones become RGB, transparent ones are laid on white. It keeps its size: the model
    makes a pyramid of it.

    Args:
        picture: its file; or `scene:<number>`, a rendered scene, for which nothing has to be at hand.
        naive: a composite made of the picture, such as something pasted into it; None for none.
        size: height and width of a rendered scene; a file keeps its own.
        min_side: least side of the picture, in pixels.
        batch_size: of each process; 1 but for experiments.
        workers: loader processes per process.
        seed: of rendered scenes.

    Raises:
        DataError: an argument is out of range.
    """

    def __init__(
        self,
        picture: str,
        naive: str | None = None,
        size: int = 64,
        min_side: int = 16,
        batch_size: int = 1,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(size=size, batch_size=batch_size, workers=workers, seed=seed)
        if picture.startswith(SCENE) and not picture.removeprefix(SCENE).isdigit():
            raise DataError(f"picture is {picture!r}; a scene has a number: --data.picture {SCENE}0")
        self.picture, self.naive, self.min_side = picture, naive, min_side
        self.pictures: Sample = {}

    @classmethod
    def missing(cls, settings: Mapping[str, Any]) -> list[str]:
        """Name the files that are not there."""
        complaints = []
        for name in ("picture", "naive"):
            file = settings.get(name)
            if file and not str(file).startswith(SCENE):
                path = Path(file).expanduser()
                if path.is_dir():
                    complaints.append(
                        f"{name}: {path} is a folder; expected the file of one picture: --data.{name} FILE"
                    )
                elif not path.is_file():
                    complaints.append(
                        f"{name}: there is no picture {path}. Type --data.{name} FILE, or --data.{name} {SCENE}0 to try the model on a "
                        "rendered scene."
                    )
        return complaints

    def setup(self, stage: str) -> None:
        """Read the files."""
        if self.pictures:
            return
        found = {"image": self._read(self.picture, "picture")}
        if self.naive is not None:
            found["naive"] = self._read(self.naive, "naive")
        self.pictures = found

    def _read(self, source: str, argument: str) -> Tensor:
        if source.startswith(SCENE):
            maker = SceneMaker(("striped",), self.size, self.seed)
            return maker.scene(int(source.removeprefix(SCENE)), 0).image
        path = Path(source).expanduser()
        try:
            picture = to_chw(decode(path))
        except DataError as error:
            raise DataError(f"{argument}: {path}: {error}. Type --data.{argument} FILE") from error
        height, width = picture.shape[1:]
        if min(height, width) < self.min_side:
            raise DataError(
                f"{argument}: {path} has {width}x{height} pixels; its shorter side must have {self.min_side} at least. Take a larger "
                f"picture: --data.{argument} FILE"
            )
        return picture

    @property
    def picture_size(self) -> tuple[int, int]:
        """Height and width of the picture; valid after `setup`."""
        return self.pictures["image"].shape[1], self.pictures["image"].shape[2]

    def train_samples(self) -> OnePicture:
        """The picture, at every index."""
        return OnePicture(self.pictures)

    def fixed_samples(self, stage: FixedStage) -> FixedSamples | None:
        """None: there is nothing held out of a single picture."""
        return None

    @property
    def epoch_length(self) -> int:
        """One: the picture."""
        return 1

    def describe(self) -> dict[str, str | int]:
        """The picture and its size."""
        height, width = self.picture_size
        facts: dict[str, str | int] = {"picture": self.picture, "width": width, "height": height}
        return facts if self.naive is None else facts | {"naive": self.naive}

    def fingerprint(self) -> str:
        """A hash of the pixels."""
        digest = blake2b(digest_size=16)
        for name, picture in sorted(self.pictures.items()):
            digest.update(f"{name} {tuple(picture.shape)}".encode())
            digest.update(picture.to(torch.uint8).numpy().tobytes())
        return digest.hexdigest()
