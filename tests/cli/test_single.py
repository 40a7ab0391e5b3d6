"""`lightning single`: every task of a model of one picture, from the training to the files, through the command."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support.commands import lightning, only_run
from support.single_image import draw_picture, recipe
from zoo.cli.videos import open_film

CONSINGAN, SINGAN = "zoo.consingan.ConSinGAN", "zoo.singan.SinGAN"
WIDTH, HEIGHT = 28, 24

Trained = Callable[..., Path]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Trains a model by the command, once for each kind, and gives its run."""
    root = tmp_path_factory.mktemp("runs")
    picture = draw_picture(root / "picture.png", HEIGHT, WIDTH)
    found: dict[str, Path] = {}

    def train(class_path: str, **changes: Any) -> Path:
        name = "_".join([class_path.rpartition(".")[2], *map(str, changes.values())])
        if name not in found:
            assert lightning("fit", "--config", recipe(root / name, class_path, picture, **changes)) == 0
            found[name] = only_run(root / name / "runs").folder
        return found[name]

    return train


@pytest.fixture
def composite(tmp_path: Path) -> tuple[Path, Path]:
    """A picture with something pasted in, and its mask."""
    with Image.open(draw_picture(tmp_path / "given" / "naive.png", 30, 36)) as drawn:
        picture = drawn.copy()
    picture.paste((255, 40, 0), (10, 8, 16, 14))
    picture.save(tmp_path / "given" / "naive.png")
    mask = Image.new("L", (36, 30))
    mask.paste(255, (10, 8, 16, 14))
    (tmp_path / "masks").mkdir()
    mask.save(tmp_path / "masks" / "naive_mask.png")
    return tmp_path / "given" / "naive.png", tmp_path / "masks" / "naive_mask.png"


def sizes(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: size_of(path) for path in sorted(folder.iterdir())}


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


HARMONIZE = {"task": "harmonization", "norm": True, "stages": 3}


@pytest.mark.parametrize("class_path", [CONSINGAN, SINGAN])
def test_a_training_says_what_to_do_next_and_leaves_a_grid_of_each_stage(
    class_path: str, trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(class_path, channels=4)
    grids = sorted(path.name for path in (run / "samples").glob("stage_*.png"))
    assert len(grids) >= 4
    assert grids[0] == "stage_00.png"
    first = sorted((run / "checkpoints").iterdir())[0]  # of the first stage: it can be used as it is
    assert lightning("single", "sample", first, "--output", tmp_path / "early", "--count", 1) == 0
    ((width, height),) = sizes(tmp_path / "early").values()
    assert (width, height) < (WIDTH, HEIGHT)
    capsys.readouterr()
    assert lightning("fit", "--config", run.parent.parent.parent / "tiny.yaml", "--run.name", "again") == 0
    told = capsys.readouterr().out
    assert f"lightning single sample {run.parent / 'again'} --output made" in " ".join(told.split())


@pytest.mark.parametrize("class_path", [CONSINGAN, SINGAN])
def test_sample(class_path: str, trained: Trained, tmp_path: Path) -> None:
    run = trained(class_path, channels=4)
    words = ("single", "sample", run, "--count", 2)
    assert lightning(*words, "--output", tmp_path / "a") == 0
    assert sizes(tmp_path / "a") == {"sample_000.png": (WIDTH, HEIGHT), "sample_001.png": (WIDTH, HEIGHT)}
    assert lightning(*words, "--output", tmp_path / "b", "--seed", 1, "--width", 2, "--height", 1.5) == 0
    assert set(sizes(tmp_path / "b").values()) == {(2 * WIDTH, 36)}
    for option, same in ((("--seed", 0), True), (("--seed", 1), False)):
        assert lightning(*words, "--output", tmp_path / "c", "--overwrite", *option) == 0
        files = [(tmp_path / folder / "sample_000.png").read_bytes() for folder in "ac"]
        assert (files[0] == files[1]) == same


def test_sample_of_a_retargeting_model(trained: Trained, tmp_path: Path) -> None:
    run = trained(CONSINGAN, task="retarget")
    assert lightning("single", "sample", run, "--output", tmp_path / "a", "--count", 1, "--width", 2) == 0
    assert set(sizes(tmp_path / "a").values()) == {(2 * WIDTH, HEIGHT)}


def test_sample_from_a_later_scale(trained: Trained, tmp_path: Path) -> None:
    run = trained(SINGAN, channels=4)
    assert lightning("single", "sample", run, "--output", tmp_path / "a", "--count", 1, "--start", 2) == 0
    assert len(sizes(tmp_path / "a")) == 1


@pytest.mark.parametrize(
    ("class_path", "changes"), [(CONSINGAN, {"task": "animation", "stages": 3}), (SINGAN, {"noise_border": True})]
)
def test_animate(class_path: str, changes: dict[str, Any], trained: Trained, tmp_path: Path) -> None:
    run = trained(class_path, **changes)
    words = ("single", "animate", run, "--frames", 5, "--fps", 20, "--beta", 0.8, 0.9, "--start", 0, 1)
    assert lightning(*words, "--output", tmp_path / "a") == 0
    names = {f"start{start}_beta{beta}.gif" for start in (0, 1) for beta in (0.8, 0.9)}
    assert set(sizes(tmp_path / "a")) == names
    assert set(sizes(tmp_path / "a").values()) == {(WIDTH, HEIGHT)}
    with Image.open(tmp_path / "a" / "start0_beta0.9.gif") as movie:
        assert getattr(movie, "n_frames", 1) == 5
        assert movie.info["duration"] == 50
        assert movie.info["loop"] == 0


def test_animate_as_mp4(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg, which writes MP4, is not here")
    run = trained(SINGAN, noise_border=True)
    words = ("single", "animate", run, "--frames", 4, "--format", "mp4", "--output", tmp_path)
    assert lightning(*words) == 0
    movie = open_film(tmp_path / "start0_beta0.9.mp4")
    assert [frame.shape for frame in movie.frames()] == [(1, 3, HEIGHT, WIDTH)] * 4
    assert movie.rate == 10
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert lightning(*words, "--overwrite") == 2
    assert "Type: pip install 'translation-zoo[video]'" in capsys.readouterr().err


@pytest.mark.parametrize(("class_path", "changes"), [(CONSINGAN, HARMONIZE), (SINGAN, {"channels": 4})])
def test_harmonize(
    class_path: str, changes: dict[str, Any], trained: Trained, tmp_path: Path, composite: tuple[Path, Path]
) -> None:
    run, (naive, mask) = trained(class_path, **changes), composite
    assert lightning("single", "harmonize", run, naive, "--output", tmp_path / "a") == 0
    assert sizes(tmp_path / "a") == {"naive.png": (WIDTH, HEIGHT)}
    assert lightning("single", "harmonize", run, naive.parent, "--mask", mask.parent, "--output", tmp_path / "b") == 0
    assert sizes(tmp_path / "b") == {"naive.png": (WIDTH, HEIGHT), "naive_masked.png": (WIDTH, HEIGHT)}
    assert (tmp_path / "a" / "naive.png").read_bytes() == (tmp_path / "b" / "naive.png").read_bytes()
    assert (tmp_path / "b" / "naive.png").read_bytes() != (tmp_path / "b" / "naive_masked.png").read_bytes()
    assert lightning("translate", run, naive, "--output", tmp_path / "c", "--no-sheet") == 0  # the common command, too
    assert size_of(tmp_path / "c" / "naive.png") == (WIDTH, HEIGHT)


def test_harmonize_over_the_composite_and_from_a_scale(
    trained: Trained, tmp_path: Path, composite: tuple[Path, Path]
) -> None:
    naive, mask = composite
    words = ("single", "harmonize", trained(CONSINGAN, **HARMONIZE), naive, "--mask", mask)
    for base in ("picture", "naive"):
        assert lightning(*words, "--base", base, "--output", tmp_path / base) == 0
    results = [(tmp_path / base / "naive_masked.png").read_bytes() for base in ("picture", "naive")]
    assert results[0] != results[1]
    words = ("single", "harmonize", trained(SINGAN, channels=4), naive)
    for start in (1, 2):
        assert lightning(*words, "--start", start, "--output", tmp_path / str(start)) == 0
    results = [(tmp_path / str(start) / "naive.png").read_bytes() for start in (1, 2)]
    assert results[0] != results[1]


def test_a_composite_is_fine_tuned_on(trained: Trained, tmp_path: Path, composite: tuple[Path, Path]) -> None:
    run, (naive, _) = trained(CONSINGAN, **HARMONIZE), composite
    picture = draw_picture(tmp_path / "picture.png", HEIGHT, WIDTH)
    config = recipe(tmp_path / "tuned", CONSINGAN, picture, length=2, naive=naive, fine_tune=str(run), **HARMONIZE)
    assert lightning("fit", "--config", config) == 0
    tuned = only_run(tmp_path / "tuned" / "runs")
    assert [path.name for path in tuned.checkpoints_newest_first()] == [
        "iteration_00000002.ckpt",
        "iteration_00000001.ckpt",
    ]
    for name, model in (("before", run), ("after", tuned.folder)):
        assert lightning("single", "harmonize", model, naive, "--output", tmp_path / name) == 0
    results = [(tmp_path / name / "naive.png").read_bytes() for name in ("before", "after")]
    assert results[0] != results[1]


@pytest.mark.parametrize(
    ("class_path", "changes"), [(CONSINGAN, {**HARMONIZE, "task": "editing"}), (SINGAN, {"channels": 4})]
)
def test_edit(class_path: str, changes: dict[str, Any], trained: Trained, tmp_path: Path) -> None:
    # A mask for editing is grown by 20 pixels, which would be all of a picture as small as the others.
    picture = draw_picture(tmp_path / "p.png", 80, 96)
    changes = {**changes, "max_size": 96, "min_size": 40}
    config = recipe(tmp_path / "run", class_path, picture, **changes)
    assert lightning("fit", "--config", config) == 0
    mask = Image.new("L", (96, 80))
    mask.paste(255, (0, 0, 6, 6))
    mask.save(tmp_path / "mask.png")
    run = only_run(tmp_path / "run" / "runs").folder
    words = ("single", "edit", run, picture, "--mask", tmp_path / "mask.png", "--output", tmp_path / "a")
    assert lightning(*words) == 0
    assert sizes(tmp_path / "a") == {"p.png": (96, 80), "p_masked.png": (96, 80)}


def test_paint(trained: Trained, tmp_path: Path, composite: tuple[Path, Path]) -> None:
    words = ("single", "paint", trained(SINGAN, channels=4), composite[0])
    assert lightning(*words, "--output", tmp_path / "a") == 0
    assert lightning(*words, "--start", 1, "--output", tmp_path / "b") == 0
    assert sizes(tmp_path / "a") == {"naive.png": (WIDTH, HEIGHT)} == sizes(tmp_path / "b")


def test_enlarge(trained: Trained, tmp_path: Path, composite: tuple[Path, Path]) -> None:
    run = trained(SINGAN, super_resolution=2.0)
    assert lightning("single", "enlarge", run, "--output", tmp_path / "a") == 0
    assert sizes(tmp_path / "a") == {"enlarged.png": (2 * WIDTH, 2 * HEIGHT)}
    assert lightning("single", "enlarge", run, composite[0], "--factor", 3, "--output", tmp_path / "b") == 0
    assert sizes(tmp_path / "b") == {"naive.png": (3 * 36, 3 * 30)}


def test_mistakes_are_answered_in_a_line(
    trained: Trained, tmp_path: Path, composite: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    consingan, singan, harmonizer = (
        trained(CONSINGAN, channels=4),
        trained(SINGAN, channels=4),
        trained(CONSINGAN, **HARMONIZE),
    )
    naive, _ = composite
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    draw_picture(tmp_path / "empty" / "other.png")
    out = ("--output", tmp_path / "out")
    for words, message in (
        (("sampel", singan, *out), "Did you mean 'sample'"),
        (("sample", singan, "--output", tmp_path / "file"), "is a file; expected a folder"),
        (("sample", singan, "--count", 0, *out), "--count is 0; expected 1 or more"),
        (("sample", consingan, "--start", 1, *out), "ConSinGAN does not know --start here"),
        (("sample", harmonizer, *out), "changes pictures"),
        (("enlarge", consingan, *out), "ConSinGAN does not enlarge"),
        (("paint", consingan, naive, *out), "ConSinGAN does not paint"),
        (("edit", harmonizer, naive, *out), "trained for harmonization, not for editing"),
        (("harmonize", consingan, naive, *out), "trained for generation"),
        (("harmonize", singan, naive, "--base", "naive", *out), "SinGAN does not know --base here"),
        (("harmonize", singan, naive, "--start", 9, *out), "the scales are 1 to"),
        (("harmonize", singan, naive, "--mask", tmp_path / "empty", *out), "named naive or naive_mask"),
        (("animate", singan, "--start", 9, "--frames", 2, *out), "the scales are 0 to"),
    ):
        assert lightning("single", *words) == 2, words
        assert message in " ".join(capsys.readouterr().err.split()), words
    assert lightning("single", "sample", singan, "--count", 1, *out) == 0
    assert lightning("single", "sample", singan, "--count", 1, *out) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert lightning("single", "--help") == 0
    assert "enlarge" in capsys.readouterr().out
    assert lightning("single", "sample", "--help") == 0
