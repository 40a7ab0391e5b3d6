"""GP-UNIT by its commands, as a person types them: both stages, translations, the sampler, and mistakes."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from support.commands import assert_equal, checkpoint_of, lightning, rows
from support.pictures import make_folder, pixels
from zoo.core.runs import Run
from zoo.gpunit import export
from zoo.gpunit.content import ContentEncoder

SECOND = ["--config", "zoo/gpunit.yaml", "--config", "configs/demo/gpunit.yaml"]
FIRST = ["--config", "zoo/gpunit_prior.yaml", "--config", "configs/demo/gpunit_prior.yaml"]
CHANNELS = 2  # of the content encoder
SMALL = (
    "--data.batch_size 2 --data.validation_count 2 --data.test_count 2 --trainer.accelerator cpu --trainer.devices 1"
)
SMALL += " --trainer.max_steps 2 --trainer.val_check_interval 2 --metrics.every 1"
NETWORKS = (
    f"--model.content_channels {CHANNELS} --model.generator_channels 2 --model.style_channels 6 --model.style_width 4"
)
NETWORKS += " --model.bottleneck 4 --model.discriminator_channels 2 --model.discriminator_max_channels 4"
NETWORKS += " --model.latent_channels 5 --model.sampler_steps 64 --model.sampler_batch 8 --data.scenes_per_epoch 16"
TINY = [*SECOND, *shlex.split(SMALL), *shlex.split(NETWORKS)]
UNJUDGED = ["--judge.enabled", "false"]
RANDOM = ["--model.content_encoder", "random"]
UNSAMPLED = ["--trainer.callbacks.enabled", "false"]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def second_stage(root: Path, name: str, *words: object) -> int:
    return lightning("fit", *TINY, "--run.root", root, "--run.name", name, *words)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of two iterations whose sampler is fitted. Not to be changed."""
    root = tmp_path_factory.mktemp("trained")
    assert second_stage(root, "a", *RANDOM) == 0
    return Run(root / "gpunit" / "a")


@pytest.fixture(scope="module")
def unsampled(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same without a sampler. Not to be changed."""
    root = tmp_path_factory.mktemp("unsampled")
    assert second_stage(root, "a", *RANDOM, *UNSAMPLED, *UNJUDGED) == 0
    return Run(root / "gpunit" / "a")


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[Run], Run]:
    """Copies a run to a root of its own, `tmp_path`."""

    def copied(run: Run) -> Run:
        folder = tmp_path / "gpunit" / "a"
        shutil.copytree(run.folder, folder)
        return Run(folder)

    return copied


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that a person got wrong; what it says in its one line, without the lines on where recipes were found."""

    def said(*words: object) -> str:
        capsys.readouterr()
        assert lightning(*words) == 2
        captured = capsys.readouterr()
        lines = [line for line in captured.err.splitlines() if not line.startswith("lightning: --config ")]
        assert len(lines) == 1, lines
        assert captured.out == ""
        return lines[0]

    return said


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_training_of_the_demo_ends_with_a_sampler_and_is_resumed(
    trained: Run, copy: Callable[[Run], Run], capsys: pytest.CaptureFixture[str]
) -> None:
    assert checkpoint_of(trained, 2)["state_dict"]["sampler_fitted"]
    run = copy(trained)
    root = run.folder.parents[1]
    assert lightning("fit", "--resume", "--run.recipe", "gpunit", "--run.root", root, "--trainer.max_steps", 3) == 0
    said = capsys.readouterr().out
    assert "sampler: fitted to 16 styles in 4 epochs" in said
    assert f"lightning translate {run.folder} PICTURES --output translated" in said
    assert [row["iteration"] for row in rows(run)] == ["1", "2", "3"]
    first, second = (checkpoint_of(run, iteration)["state_dict"] for iteration in (2, 3))
    assert second["sampler_fitted"]
    assert_equal(first, checkpoint_of(trained, 2)["state_dict"])
    assert not torch.equal(first["sampler.lin1.weight"], second["sampler.lin1.weight"])
    assert lightning("fit", "--resume", run.folder, "--trainer.max_steps", 3) == 0
    assert "Nothing is left to do: 3 iterations are done" in capsys.readouterr().out


def test_a_test_measures_and_changes_nothing(trained: Run, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(trained.folder)
    config, checkpoint = trained.config, trained.checkpoint_path(2)
    assert lightning("test", "--config", config, "--ckpt_path", checkpoint, *UNJUDGED) == 0
    said = capsys.readouterr().out
    assert "val/reconstruction_psnr" in said
    assert "val/content_distance" in said
    assert contents(trained.folder) == before


def test_pictures_are_translated_by_exemplars_and_by_chance(
    trained: Run, unsampled: Run, tmp_path: Path, refused: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = make_folder(tmp_path / "pictures", 2, 50, 70)
    exemplars = make_folder(tmp_path / "exemplars", 2, 40, 40, start=5)
    by_exemplars = [pictures, "--reference", exemplars, "--output"]
    made = [f"00{picture}_00{exemplar}.png" for picture in (0, 1) for exemplar in (0, 1)]
    for name, run, words in (("x", trained, []), ("y", unsampled, []), ("z", trained, ["--correspondence", 0.0])):
        assert lightning("translate", run.folder, *by_exemplars, tmp_path / name, *words) == 0
        assert names(tmp_path / name) == [*made, "sheet.png"]
    with Image.open(tmp_path / "x" / made[0]) as picture:
        assert picture.size == (64, 64)
    assert (tmp_path / "x" / made[0]).read_bytes() != (tmp_path / "z" / made[0]).read_bytes()

    by_chance = [pictures / "000.png", "--output"]
    assert lightning("translate", trained.folder, *by_chance, tmp_path / "chance") == 0
    assert names(tmp_path / "chance") == [*(f"000_style{number}.png" for number in range(1, 7)), "sheet.png"]
    assert lightning("translate", trained.folder, *by_chance, tmp_path / "two", "--latents", 2, "--seed", 3) == 0
    assert names(tmp_path / "two") == ["000_style1.png", "000_style2.png", "sheet.png"]

    assert "Say which: --reference PICTURE" in refused("translate", unsampled.folder, *by_chance, tmp_path / "no")
    said = refused("translate", unsampled.folder, *by_chance, tmp_path / "no", "--latents", 2)
    assert f"Fit it: lightning sampler {unsampled.folder}" in said
    missing = ["--reference", exemplars / "0000.png"]
    said = refused("translate", trained.folder, *by_chance, tmp_path / "no", *missing)
    assert "is no picture, folder or pattern that matches one. Did you mean '000.png'?" in said
    typed = ["translate", trained.folder, *by_chance, tmp_path / "no", "--refernce", exemplars]
    assert "Did you mean '--reference'?" in refused(*typed)
    assert not (tmp_path / "no").exists()


def test_the_sampler_is_fitted_later_as_the_training_would_have(
    trained: Run, unsampled: Run, copy: Callable[[Run], Run], tmp_path: Path, refused: Callable[..., str]
) -> None:
    run = copy(unsampled)
    assert "expected at least 1" in refused("sampler", run.folder, "--steps", 0)
    few = make_folder(tmp_path / "few", 4, 64, 64)
    assert "batches of 8 styles, and the target domain has pictures for 4" in refused(
        "sampler", run.folder, "--images", few
    )
    assert "Did you mean '--images'?" in refused("sampler", run.folder, "--imagse", few)
    assert contents(run.checkpoints) == contents(unsampled.checkpoints)
    assert lightning("sampler", run.folder) == 0
    assert_equal(checkpoint_of(run, 2)["state_dict"], checkpoint_of(trained, 2)["state_dict"])
    folder = make_folder(tmp_path / "pictures", 8, 64, 64)
    other = tmp_path / "other.ckpt"
    words = ["--images", folder, "--steps", 32, "--mitigate-style-bias", "--output", other]
    assert lightning("sampler", run.folder, *words) == 0
    assert lightning("translate", other, folder / "000.png", "--latents", 1, "--output", tmp_path / "out") == 0


def encoder_file(kind: str, path: Path) -> str:
    """A file that is no content encoder for the tiny model, and what is said about it."""
    channels = CHANNELS + (kind == "of another width")
    torch.save(ContentEncoder(channels, 64).state_dict(), path)
    match kind:
        case "of another width":
            return f"has other sizes than this model. To load it: --model.content_channels {channels}"
        case "cut off":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            return "cut off or damaged"
        case "a picture":
            Image.fromarray(pixels(64, 64)).save(path, "PNG")
            return "is no PyTorch file"
        case _:
            raise AssertionError(kind)


@pytest.mark.parametrize("kind", ["of another width", "cut off", "a picture"])
def test_what_is_no_content_encoder_is_refused_and_nothing_is_lost(
    kind: str, trained: Run, copy: Callable[[Run], Run], tmp_path: Path, refused: Callable[..., str]
) -> None:
    copy(trained)
    file = tmp_path / "encoder.pt"
    complaint = encoder_file(kind, file)
    before = contents(tmp_path)
    where = ["--run.root", tmp_path, "--run.name", "b", *UNJUDGED]
    said = refused("fit", *TINY, "--model.content_encoder", file, *where)
    assert complaint in said
    assert str(file) in said
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--model.content_encodr", "random"], "no setting 'content_encodr'. Did you mean 'content_encoder'?"),
        (["--model.content_encoder", "random", "--model.image_size", "100"], "not at 100: --model.image_size 256"),
        (["--model.content_encoder", "random", "--model.style_layer", "20"], "has layers 1 to 8"),
        (["--model.content_encoder", "random", "--model.sampler_batch", "32"], "--model.sampler_batch 16"),
    ],
)
def test_a_mistyped_training_is_told_in_a_line(
    words: list[str], complaint: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    said = refused("fit", *TINY, "--run.root", tmp_path, *UNJUDGED, *words)
    assert complaint in said
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_papers_recipe_says_all_that_it_lacks_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    for recipe, lacking in (
        ("gpunit", ["--model.content_encoder", "vgg19", "--data.source", "--data.target"]),
        ("gpunit_prior", ["vgg19", "--data.pairs", "--data.unpaired"]),
    ):
        assert lightning("fit", "--config", f"zoo/{recipe}.yaml") == 2
        said = capsys.readouterr().err
        assert "nothing was begun" in said
        assert all(thing in said for thing in lacking), said
        assert f"--config configs/demo/{recipe}.yaml needs nothing" in said
    assert names(tmp_path) == []


def test_the_second_stage_takes_the_encoder_of_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], refused: Callable[..., str]
) -> None:
    where = ["--run.root", tmp_path, "--run.name", "first", *UNJUDGED]
    assert lightning("fit", *FIRST, *shlex.split(SMALL), "--model.channels", CHANNELS, *where) == 0
    first = Run(tmp_path / "gpunit_prior" / "first")
    distilled = {
        name: value
        for name, value in checkpoint_of(first, 2)["state_dict"].items()
        if name.startswith("content_encoder.")
    }
    file = tmp_path / "encoder.safetensors"
    assert export.main([str(first.folder), "--output", str(file)]) == 0
    assert "content encoder for 64x64, 2 iterations" in capsys.readouterr().out
    assert second_stage(tmp_path, "second", "--model.content_encoder", first.folder, *UNSAMPLED, *UNJUDGED) == 0
    state = checkpoint_of(Run(tmp_path / "gpunit" / "second"), 2)["state_dict"]
    for key, value in distilled.items():
        if not key.endswith((".u", ".v")):  # they move
            assert torch.equal(state[key], value), key
    words = ["--run.root", tmp_path, "--model.content_encoder", file, "--model.content_channels", CHANNELS + 1]
    assert f"--model.content_channels {CHANNELS}" in refused("fit", *TINY, *words)
