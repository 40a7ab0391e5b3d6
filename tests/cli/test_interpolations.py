"""`lightning translate --interpolate`: sheets of what lies between pictures, or between styles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from support.commands import lightning
from support.pictures import make_folder
from support.toys import Ground, configs_of
from zoo.cli.interpolations import kind_of
from zoo.core.runs import Run
from zoo.registry import ROOMS, room_class

Trained = Callable[[str], Run]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run of one iteration of a recipe at toy size."""
    runs: dict[str, Run] = {}

    def train(recipe: str) -> Run:
        if recipe not in runs:
            folder = tmp_path_factory.mktemp(recipe)
            configs = [
                word for path in configs_of(recipe, folder, Ground(folder / "ground")) for word in ("--config", path)
            ]
            short = ["--trainer.max_steps", 1, "--trainer.limit_val_batches", 0, "--judge.enabled", False]
            place = ["--trainer.accelerator", "cpu", "--run.root", folder / "runs", "--run.name", "a"]
            assert lightning("fit", *configs, *short, *place) == 0
            runs[recipe] = Run(folder / "runs" / recipe / "a")
        return runs[recipe]

    return train


def cells(path: Path, rows: int, columns: int) -> NDArray[np.int16]:
    """A sheet's pictures, rows columns h w 3."""
    with Image.open(path) as picture:
        sheet = np.asarray(picture).astype(np.int16)
    height, width = sheet.shape[0] // rows, sheet.shape[1] // columns
    return sheet.reshape(rows, height, columns, width, 3).swapaxes(1, 2)


def alone(path: Path) -> NDArray[np.int16]:
    with Image.open(path) as picture:
        return np.asarray(picture).astype(np.int16)


def test_a_line_goes_from_the_translation_of_one_picture_to_that_of_the_next(tmp_path: Path) -> None:
    pictures = make_folder(tmp_path / "in", 3, 32, 32)
    words = ("translate", "unit-scenes", pictures, "--to", "source")
    assert lightning(*words, "--interpolate", 3, "--output", tmp_path / "between") == 0
    assert lightning(*words, "--no-sheet", "--output", tmp_path / "out") == 0
    found = cells(tmp_path / "between" / "interpolated.png", 2, 3)
    ends = [alone(tmp_path / "out" / f"{number:03d}.png") for number in range(3)]
    for row in range(2):
        assert np.abs(found[row, 0] - ends[row]).max() <= 1
        assert np.abs(found[row, 2] - ends[row + 1]).max() <= 1
        assert np.abs(found[row, 1] - ends[row]).max() > 10


def test_a_square_lies_between_four_pictures(trained: Trained, tmp_path: Path) -> None:
    run, pictures = trained("alae"), make_folder(tmp_path / "in", 4, 16, 16)
    words = ("translate", run.folder, pictures)
    assert lightning(*words, "--interpolate", 3, "--output", tmp_path / "between") == 0
    assert lightning(*words, "--no-sheet", "--output", tmp_path / "out") == 0
    corner = alone(tmp_path / "out" / "000.png")
    found = cells(tmp_path / "between" / "interpolated.png", 3, 3)
    assert found.shape[2:] == corner.shape
    corners = found[[0, 0, 2, 2], [0, 2, 0, 2]]
    assert len({corner.tobytes() for corner in corners}) == 4


def test_styles_lie_between_four_exemplars_for_each_picture(trained: Trained, tmp_path: Path) -> None:
    run, pictures = trained("gpunit"), make_folder(tmp_path / "in", 2, 64, 64)
    exemplars = make_folder(tmp_path / "exemplars", 4, 64, 64, start=5)
    words = ("translate", run.folder, pictures, "--reference", exemplars)
    assert lightning(*words, "--interpolate", 3, "--output", tmp_path / "between") == 0
    assert lightning(*words, "--no-sheet", "--output", tmp_path / "out") == 0
    for name in ("000", "001"):
        found = cells(tmp_path / "between" / f"{name}_interpolated.png", 3, 3)
        for number, (row, column) in enumerate([(0, 0), (0, 2), (2, 0), (2, 2)]):
            (wanted,) = (tmp_path / "out").glob(f"{name}_*{number:03d}.png")
            assert np.abs(found[row, column] - alone(wanted)).max() <= 1
    assert lightning(*words, "--interpolate", 3, "--output", tmp_path / "between") == 2
    assert lightning(*words, "--interpolate", 2, "--output", tmp_path / "between", "--overwrite") == 0


@pytest.mark.parametrize(
    ("recipe", "count", "words", "said"),
    [
        (
            "cyclegan",
            2,
            ["--interpolate", 3],
            "CycleGAN does not interpolate: leave --interpolate out. Rooms that do: alae, gpunit, unit.",
        ),
        ("unit", 1, ["--interpolate", 3], "give two or more"),
        ("unit", 2, ["--interpolate", 1], "at least 2 pictures a side"),
        ("unit", 2, ["--interpolate", 3, "--to", "left"], "expected source or target"),
        ("unit", 2, ["--interpolate", 3, "--lapse", 3], "leave --lapse and --attention out"),
        ("alae", 3, ["--interpolate", 3], "between four pictures, and there are 3"),
        ("gpunit", 1, ["--interpolate", 3, "--latents", 2], "between four corners, and there are 2"),
    ],
)
def test_what_does_not_fit_is_refused(
    recipe: str,
    count: int,
    words: list[object],
    said: str,
    trained: Trained,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pictures = make_folder(tmp_path / "in", count, 32, 32)
    assert lightning("translate", trained(recipe).folder, pictures, *words, "--output", tmp_path / "out") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_line_has_one_size_and_pictures_that_can_be_read(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, pictures = trained("unit"), make_folder(tmp_path / "in", 2, 32, 32)
    words = ("translate", run.folder, pictures, "--interpolate", 3, "--output", tmp_path / "out")
    make_folder(pictures / "large", 1, 32, 64)
    assert lightning(*words) == 2
    assert "of 32x32 and 64x32 (rounded up); a line has one size" in capsys.readouterr().err
    (pictures / "large" / "000.png").write_bytes(b"no picture")
    assert lightning(*words) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_which_rooms_interpolate() -> None:
    kinds = {name: kind_of(room_class(name)) for name in ROOMS}
    assert {name: kind for name, kind in kinds.items() if kind} == {
        "alae": "square",
        "gpunit": "styles",
        "unit": "line",
    }
