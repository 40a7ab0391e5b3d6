"""Files of digits: one `<set>.npz` per set, or the files that torchvision's data sets read and fetch.

`<set>.npz` holds the uint8 arrays `train_images` and `test_images`, `n h w` (grey) or `n h w 3` (RGB) of any side, and
`train_labels` and `test_labels`, `n` whole numbers from 0 to 9. Where there is none, torchvision's own files are looked for:

    mnist       MNIST/raw/train-images-idx3-ubyte, ... (four files)    60000 and 10000 digits of 28x28
    usps        usps.bz2, usps.t.bz2                                   7291 and 2007 digits of 16x16
    svhn        train_32x32.mat, test_32x32.mat                        73257 and 26032 colour digits of 32x32
    svhn_extra  extra_32x32.mat, test_32x32.mat                        531131 and 26032, as UNIT trains on
    mnist_m     none: `mnist_m.npz` alone                              colour digits, MNIST on photographs

USPS is also about as 7438 and 1860 digits of 28x28, a pickle made for CoGAN: pickles are not read, but an `.npz` of its arrays is.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError
from datamodules.folders import missing_folder, some_of

DigitSetName = Literal["mnist", "mnist_m", "usps", "svhn", "svhn_extra"]
Split = Literal["train", "test"]

CLASSES = 10

# What NumPy, torchvision and the decompressors below them raise on files that are cut off or hold something else.
_BROKEN = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, IndexError, RuntimeError, AssertionError),
    *(BadZipFile, zlib.error),
)
_ARRAYS = (
    "uint8 train_images and test_images, n h w or n h w 3, and train_labels and test_labels, n numbers from 0 to 9"
)


class LabelledDigits(NamedTuple):
    """All digits of one split, in the order of their files.

    Attributes:
        images: uint8 n h w, or n h w 3 for RGB.
        labels: int64 n, from 0 to 9.
        file: name of the file or folder that they came from.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    file: str


@dataclass(frozen=True)
class DigitSet:
    """What is known about a set before it is read.

    Attributes:
        channels: of its pictures: 1 for grey, 3 for RGB.
        files: torchvision's files of each split below the root; none where torchvision does not know the set.
        read: reads one split by torchvision, from a root and with leave to download.
    """

    channels: int
    files: dict[Split, tuple[str, ...]]
    read: Callable[[Path, Split, bool], tuple[Any, Any]] | None


def _mnist(root: Path, split: Split, download: bool) -> tuple[Any, Any]:
    from torchvision.datasets import MNIST

    found = MNIST(root, train=split == "train", download=download)
    return found.data.numpy(), found.targets.numpy()


def _usps(root: Path, split: Split, download: bool) -> tuple[Any, Any]:
    from torchvision.datasets import USPS

    found = USPS(root, train=split == "train", download=download)
    return found.data, np.array(found.targets)


def _svhn(training_split: str) -> Callable[[Path, Split, bool], tuple[Any, Any]]:
    def read(root: Path, split: Split, download: bool) -> tuple[Any, Any]:
        from torchvision.datasets import SVHN

        # It calls the digit 0 by 0; the files call it by 10.
        found = SVHN(root, split=training_split if split == "train" else "test", download=download)
        return found.data.transpose(0, 2, 3, 1), np.atleast_1d(found.labels)

    return read


SETS: dict[str, DigitSet] = {
    "mnist": DigitSet(
        1,
        {
            "train": ("MNIST/raw/train-images-idx3-ubyte", "MNIST/raw/train-labels-idx1-ubyte"),
            "test": ("MNIST/raw/t10k-images-idx3-ubyte", "MNIST/raw/t10k-labels-idx1-ubyte"),
        },
        _mnist,
    ),
    "mnist_m": DigitSet(3, {"train": (), "test": ()}, None),
    "usps": DigitSet(1, {"train": ("usps.bz2",), "test": ("usps.t.bz2",)}, _usps),
    "svhn": DigitSet(3, {"train": ("train_32x32.mat",), "test": ("test_32x32.mat",)}, _svhn("train")),
    "svhn_extra": DigitSet(3, {"train": ("extra_32x32.mat",), "test": ("test_32x32.mat",)}, _svhn("extra")),
}
"""The known sets by name."""


def known_set(name: str, argument: str) -> DigitSet:
    """Look a set up.

    Args:
        name: of the set.
        argument: name of the argument that holds it, for messages.

    Raises:
        DataError: there is none of this name.
    """
    if name not in SETS:
        raise DataError(
            f"{argument}: there is no set of digits {name!r}; there are {', '.join(get_args(DigitSetName))}. "
            f"Type --data.{argument} mnist"
        )
    return SETS[name]


def lacking_digits(name: str, argument: str, root: Path, split: Split) -> str | None:
    """Say what `read_digits` would miss, without reading; None where the files are there.

    Args:
        name: of the set.
        argument: name of the argument that holds it, for messages.
        root: folder of all digits.
        split: whose files are looked for.
    """
    known = known_set(name, argument)
    if (root / f"{name}.npz").is_file():
        return None
    absent = [file for file in known.files[split] if not (root / file).is_file()]
    if known.read is not None and not absent:
        return None
    fetch = "" if known.read is None else ", or --data.download true to fetch them"
    if not root.is_dir():
        return f"{argument}: {name} is not here. {missing_folder(root, 'root')}{fetch}"
    also = f" and no {absent[0]}" if absent else ""
    inside = some_of(sorted(entry.name for entry in root.iterdir()))
    return (
        f"{argument}: there is no {name}.npz{also} in {root}, which holds {inside}. "
        f"Type --data.root FOLDER where the digits of {name} are{fetch}"
    )


def fetch_digits(name: str, argument: str, root: Path, split: Split) -> None:
    """Let torchvision download a split that is not here.

    Args:
        name: of the set.
        argument: name of the argument that holds it, for messages.
        root: folder of all digits, made where it is missing.
        split: whose files are wanted.

    Raises:
        DataError: nobody offers the set, or the download failed.
    """
    complaint = lacking_digits(name, argument, root, split)
    if complaint is None:
        return
    known = known_set(name, argument)
    if known.read is None:
        raise DataError(complaint)
    try:
        root.mkdir(parents=True, exist_ok=True)
        known.read(root, split, True)
    except ImportError as error:
        raise DataError(_no_scipy(name, argument, error)) from error
    except _BROKEN as error:
        raise DataError(
            f"{argument}: {name} could not be fetched into {root} ({_said(error)}). Put its files there by hand "
            f"({', '.join(known.files[split])}), or type --data.root FOLDER where they are"
        ) from error


def read_digits(name: str, argument: str, root: Path, split: Split) -> LabelledDigits:
    """Read one split of a set from its `.npz`, else by torchvision; nothing is downloaded.

    Args:
        name: of the set.
        argument: name of the argument that holds it, for messages.
        root: folder of all digits.
        split: `train` or `test`.

    Raises:
        DataError: the files are missing, or do not hold what they should.
    """
    if complaint := lacking_digits(name, argument, root, split):
        raise DataError(complaint)
    known = known_set(name, argument)
    path = root / f"{name}.npz"
    if path.is_file():
        images, labels = _read_npz(path, argument, split)
        source = path.name
    else:
        assert known.read is not None  # lacking_digits has seen to it
        source = known.files[split][0]
        try:
            images, labels = known.read(root, split, False)
        except ImportError as error:
            raise DataError(_no_scipy(name, argument, error)) from error
        except _BROKEN as error:
            raise DataError(
                f"{argument}: {root / source} cannot be read as torchvision's {name} ({_said(error)}). Remove the file and type "
                "--data.download true to fetch it anew"
            ) from error
    if fault := _fault(images, labels, known.channels):
        raise DataError(
            f"{argument}: {split} digits of {root / source}: {fault}. Expected are {_ARRAYS}. Type --data.root FOLDER of others"
        )
    return LabelledDigits(images, labels.astype(np.int64), source)


def _read_npz(path: Path, argument: str, split: Split) -> tuple[Any, Any]:
    names = f"{split}_images", f"{split}_labels"
    try:
        # NumPy leaves a file open that it cannot read.
        with path.open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as arrays:
            found = sorted(arrays.files)
            if not set(names) - set(found):
                return arrays[names[0]], arrays[names[1]]
    except _BROKEN as error:
        raise DataError(
            f"{argument}: {path} is no archive of arrays that NumPy can read ({_said(error)}). Write it again by numpy.savez, or "
            "type --data.root FOLDER of another"
        ) from error
    lacking = ", ".join(name for name in names if name not in found)
    raise DataError(
        f"{argument}: {path} has no {lacking}; it holds {some_of(found)}. Expected are {_ARRAYS}. Type --data.root FOLDER of another"
    )


def _fault(images: Any, labels: Any, channels: int) -> str | None:
    """What is wrong with the arrays of one split, or None."""
    if images.dtype != np.uint8:
        return f"the images are {images.dtype}, not uint8"
    fits = images.ndim == 3 if channels == 1 else images.ndim == 4 and images.shape[3] == 3
    if not fits:
        return f"the images have the shape {images.shape}, and this set has {'n h w' if channels == 1 else 'n h w 3'}"
    if 0 in images.shape:
        return "there are none"
    if not np.issubdtype(labels.dtype, np.integer):
        return f"the labels are {labels.dtype}, not whole numbers"
    if labels.shape != images.shape[:1]:
        return f"there are {len(images)} images and labels of the shape {labels.shape}"
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= CLASSES:
        return f"the labels go from {low} to {high} (SVHN's own files call the digit 0 by 10)"
    return None


def _no_scipy(name: str, argument: str, error: ImportError) -> str:
    return (
        f"{argument}: the files of {name} are MATLAB's, which torchvision reads by SciPy, and that is not here ({error}). "
        "Type: pip install scipy"
    )


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
