"""`lightning fit` and its like: run folders, exact resume, checkpoints, several processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from datamodules import Scenes
from support.commands import TINY, assert_equal, checkpoint_of, lightning, only_run, rows, write_recipe
from support.styled import SAMPLER, registered, styled_run
from support.toy import StyledRoom
from zoo.cli.catalog import find_paper
from zoo.cli.fit import ZooCLI, _title, quieten, run_settings, take_resume
from zoo.core.files import lock_file
from zoo.core.loading import load_translator
from zoo.core.phases import Phases
from zoo.core.runs import Run
from zoo.errors import ZooError
from zoo.registry import ROOMS, room_class

BIN = Path(sys.executable).parent


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("fit"))


@pytest.fixture(scope="module")
def trained(recipe: Path) -> Run:
    """A run of four iterations, with checkpoints, grids and validation after the second and the fourth. Not to be changed."""
    assert lightning("fit", "--config", recipe, "--run.name", "trained") == 0
    return Run(recipe.parent / "runs" / "tiny" / "trained")


@pytest.fixture
def copy(trained: Run, tmp_path: Path) -> Run:
    """A copy of that run in a root of its own."""
    return _copy(trained, tmp_path)


def _copy(run: Run, root: Path) -> Run:
    folder = root / "runs" / "tiny" / run.folder.name
    for path in (path for path in run.folder.rglob("*") if path.is_file()):
        target = folder / path.relative_to(run.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return Run(folder)


# One run is one folder


def test_a_run_leaves_a_complete_folder_without_any_logger(trained: Run, recipe: Path) -> None:
    files = {path.relative_to(trained.folder).as_posix() for path in trained.folder.rglob("*") if path.is_file()}
    assert files == {
        ".lock",
        "run.json",
        "config.yaml",
        "metrics.csv",
        *(f"samples/iteration_{n:08d}.png" for n in (2, 4)),
        *(f"checkpoints/iteration_{n:08d}.ckpt" for n in (2, 4)),
    }
    record = json.loads(trained.record.read_text())
    assert record["command"][1:] == ["fit", "--config", str(recipe), "--run.name", "trained"]
    assert {"python", "torch", "lightning", "translation-zoo"} <= set(record["versions"])
    assert record["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert record["seeds"] == {"seed": 0}
    assert record["data"]["fingerprint"] == Scenes(**TINY["data"]["init_args"], seed=0).fingerprint()
    assert abs((datetime.now().astimezone() - datetime.fromisoformat(record["started"])).total_seconds()) < 3600
    assert "commit" in record
    assert [row["iteration"] for row in rows(trained)] == ["1", "2", "3", "4"]
    assert not list(Path.cwd().glob("lightning_logs"))


def test_a_runs_configuration_given_back_gives_the_same_run(
    trained: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lightning("fit", "--config", trained.config, "--run.root", tmp_path / "runs") == 0
    capsys.readouterr()
    again = only_run(tmp_path / "runs")
    assert again.folder.parent.name == "tiny"  # the recipe's name, not `config`
    assert again.folder.name != "trained"
    ours, theirs = checkpoint_of(again, 4), checkpoint_of(trained, 4)
    for part in ("state_dict", "optimizer_states", "zoo"):
        assert_equal(ours[part], theirs[part], part)
    assert rows(again, "seconds_per_iteration") == rows(trained, "seconds_per_iteration")
    configs = [yaml.safe_load(run.config.read_text()) for run in (trained, again)]
    assert {**configs[0], "run": None} == {**configs[1], "run": None}


def test_another_seed_is_another_run(recipe: Path, trained: Run, tmp_path: Path) -> None:
    words = ["--seed_everything", 5, "--run.root", tmp_path, "--trainer.max_steps", 1]
    assert lightning("fit", "--config", recipe, *words) == 0
    assert rows(only_run(tmp_path))[0]["loss/generators"] != rows(trained)[0]["loss/generators"]
    assert json.loads(only_run(tmp_path).record.read_text())["seeds"] == {"seed": 5}


def test_two_runs_get_two_folders(recipe: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert lightning("fit", "--config", recipe, "--run.root", tmp_path, "--trainer.max_steps", 1) == 0
    assert len(list(tmp_path.glob("tiny/*/run.json"))) == 2


def test_a_name_is_given_once(trained: Run, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = trained.record.read_text()
    assert lightning("fit", "--config", recipe, "--run.name", "trained") == 2
    said = capsys.readouterr().err
    assert f"Go on with that run by --resume {trained.folder}, or choose another name by --run.name NAME." in said
    assert trained.record.read_text() == before


def test_a_second_writer_is_refused(copy: Run, capsys: pytest.CaptureFixture[str]) -> None:
    before = copy.metrics.read_text()
    with lock_file(copy.folder / ".lock", protects="the run"):
        assert lightning("fit", "--resume", copy.folder, "--trainer.max_steps", 6) == 2
    assert re.search(rf"the run {copy.folder} is in use by pid {os.getpid()} ", capsys.readouterr().err)
    assert copy.metrics.read_text() == before
    assert lightning("fit", "--resume", copy.folder, "--trainer.max_steps", 5) == 0


def test_what_is_said(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--run.root", tmp_path, "--run.name", "said", "--trainer.max_steps", 2]
    assert lightning("fit", "--config", recipe, *words) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == "CycleGAN: Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks"
    run = Run(tmp_path / "tiny" / "said")
    counts = {name: re.search(rf"\b{name} ([\d,]+)", lines[1]) for name in ("to_target", "discriminator_source")}
    model = load_translator(run.folder)
    for name, count in counts.items():
        assert count
        assert int(count[1].replace(",", "")) == sum(p.numel() for p in model.get_submodule(name).parameters())
    assert "ema" not in lines[1]  # nothing there is trained
    facts = {line.split()[0]: line[13:] for line in lines[1:]}
    assert "plain, striped" in facts["data"]
    assert facts["batch"] == "1 (1 x 1)"
    assert facts["device"] == "CPU, 1 thread"
    assert facts["precision"] == "32-true"
    assert facts["iterations"] == "0 done, 2 in all"
    assert facts["run"] == str(run.folder)
    assert facts["checkpoint"] == str(run.checkpoint_path(2))
    assert facts["translate"].startswith(f"lightning translate {run.folder} ")
    assert list(json.loads(run.record.read_text())["seconds"]) == ["set-up", "training", "validation", "grids"]
    (progress,) = said.err.splitlines()  # no tips, no warnings
    assert progress.startswith("iteration 2 of 2, ")


@pytest.mark.parametrize("name", ROOMS)
def test_a_run_is_headed_by_its_papers_title(name: str) -> None:
    """That of the folder, where a room is one of several files."""
    assert _title(room_class(name)).startswith(f"{find_paper(name).short}: ")


def test_what_a_stage_callback_does_at_the_end_is_timed_saved_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StyledRoom, "samples", lambda self, batch: {"filled": batch["source"] * self.sampler_fitted})
    monkeypatch.setattr(Phases, "describe", lambda self: ", ".join(self.seconds))
    with registered():
        with_sampler = styled_run(tmp_path, *SAMPLER)
        said = capsys.readouterr().out
        styled_run(tmp_path, "--run.root", tmp_path / "without")
        told_without = capsys.readouterr().out
    assert checkpoint_of(with_sampler, 2)["state_dict"]["sampler_fitted"]
    grids = [
        run.samples / "iteration_00000002.png" for run in (with_sampler, Run(tmp_path / "without" / "styled" / "a"))
    ]
    with Image.open(grids[0]) as filled, Image.open(grids[1]) as empty:
        assert len(filled.getcolors(10**6)) > len(empty.getcolors(10**6))
    assert "  time       set-up, training, validation, sampler, grids\n" in said
    assert f"  translate  lightning translate {with_sampler.folder} PICTURES --output translated\n" in said
    assert " PICTURES --reference EXEMPLAR --output translated\n" in told_without
    seconds = json.loads(with_sampler.record.read_text())["seconds"]
    assert all(taken >= 0 for taken in seconds.values())


def test_a_resume_notes_its_own_times(copy: Run) -> None:
    first = json.loads(copy.record.read_text())["seconds"]
    assert lightning("fit", "--resume", copy.folder, "--trainer.max_steps", 5) == 0
    record = json.loads(copy.record.read_text())
    assert record["seconds"] == first
    assert record["resumed"][0]["seconds"]["training"] >= 0


# Resume


def test_resuming_needs_no_configuration_and_gives_the_same_bits(copy: Run, recipe: Path, tmp_path: Path) -> None:
    assert lightning("fit", "--resume", copy.folder, "--trainer.max_steps", 7) == 0
    words = ["--run.root", tmp_path / "whole", "--trainer.max_steps", 7]
    assert lightning("fit", "--config", recipe, *words) == 0
    whole = only_run(tmp_path / "whole")
    ours, theirs = checkpoint_of(copy, 7), checkpoint_of(whole, 7)
    for part in ("state_dict", "optimizer_states", "zoo"):
        assert_equal(ours[part], theirs[part], part)
    assert rows(copy, "seconds_per_iteration") == rows(whole, "seconds_per_iteration")
    record = json.loads(copy.record.read_text())
    assert record["command"][-2:] == ["--run.name", "trained"]  # how it began
    assert [entry["command"][1:3] for entry in record["resumed"]] == [["fit", "--resume"]]
    config = yaml.safe_load(copy.config.read_text())
    assert (config["ckpt_path"], config["trainer"]["max_steps"]) == (None, 7)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["--config", "RECIPE", "--resume"], id="the latest run of the recipe"),
        pytest.param(["--config", "RECIPE", "--resume", "trained"], id="by its name"),
        pytest.param(["--config", "RECIPE", "--resume=trained"], id="with an equals sign"),
        pytest.param(["--config", "RECIPE", "--resume", "--run.name", "trained"], id="by the option"),
        pytest.param(["--config", "RECIPE", "--ckpt_path", "last"], id="in Lightning's words"),
        pytest.param(["--resume", "RUN"], id="by its folder"),
    ],
)
def test_ways_to_name_the_run(copy: Run, tmp_path: Path, words: list[str]) -> None:
    """The root of the runs is known from the recipe's file alone."""
    given = {"RECIPE": str(write_recipe(tmp_path)), "RUN": str(copy.folder)}
    assert lightning("fit", *(given.get(word, word) for word in words), "--trainer.max_steps", 5) == 0
    assert only_run(tmp_path / "runs") == copy
    assert copy.checkpoint_path(5).is_file()


def test_the_command_line_says_where_a_run_lies_with_the_last_word() -> None:
    assert take_resume(["--a", "--resume", "--b"]) == (["--a", "--b"], "")
    assert take_resume(["--a", "1"]) == (["--a", "1"], None)
    settings = run_settings(["--run.root", "there", "--run.name=x"])
    assert (settings.root, settings.recipe, settings.name) == ("there", None, "x")


@pytest.mark.parametrize(
    ("words", "sentence"),
    {
        "--resume": "There is no run to resume in ",
        "--resume nothing": "There is no run 'nothing', neither as a folder nor in ",
        "--ckpt_path last": "There is no run to resume in ",
    }.items(),
)
def test_a_resume_that_finds_nothing_fails_loudly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, sentence: str
) -> None:
    assert lightning("fit", "--config", write_recipe(tmp_path), *words.split()) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_run_without_checkpoints_is_not_started_anew(
    tmp_path: Path, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--run.root", tmp_path, "--trainer.max_steps", 1]
    assert lightning("fit", "--config", recipe, *words, "--checkpoints.enabled", False) == 0
    capsys.readouterr()
    assert lightning("fit", "--config", recipe, *words, "--resume") == 2
    assert "it holds no checkpoint" in capsys.readouterr().err


def test_a_checkpoint_that_is_cut_off_is_passed_over(copy: Run, capsys: pytest.CaptureFixture[str]) -> None:
    newest, older = copy.checkpoints_newest_first()
    newest.write_bytes(newest.read_bytes()[:5000])
    assert lightning("fit", "--resume", copy.folder) == 0
    said = capsys.readouterr()
    assert f"lightning: passed over: {newest} is not a whole checkpoint (cut off or damaged, 5000 bytes)" in said.err
    assert "2 done, 4 in all" in said.out
    newest.write_bytes(b"")
    older.write_bytes(b"PK")
    assert lightning("fit", "--resume", copy.folder) == 2
    said = capsys.readouterr()
    assert f"There is nothing to resume in {copy.folder}" in said.err
    assert str(newest) in said.err
    assert str(older) in said.err


def test_a_finished_run_says_that_nothing_is_left(copy: Run, capsys: pytest.CaptureFixture[str]) -> None:
    before = copy.record.read_text(), copy.metrics.read_text()
    assert lightning("fit", "--resume", copy.folder) == 0
    assert "Nothing is left to do: 4 iterations are done. More: --trainer.max_steps NUMBER" in capsys.readouterr().out
    assert (copy.record.read_text(), copy.metrics.read_text()) == before


def test_a_file_is_no_run(trained: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Going on from an old checkpoint would leave newer ones of another history beside it."""
    assert lightning("fit", "--resume", trained.checkpoint_path(2)) == 2
    assert f"--ckpt_path {trained.checkpoint_path(2)}" in capsys.readouterr().err


def test_numbers_that_go_bad_stop_the_run_in_a_sentence(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--run.root", tmp_path, "--model.learning_rate", 1e30]
    assert lightning("fit", "--config", recipe, *words) == 2
    assert "were not finite (NaN or inf) in iteration" in capsys.readouterr().err
    assert lightning("fit", "--config", recipe, *words, "--numbers.action", "continue") == 0
    assert lightning("fit", "--config", recipe, *words, "--numbers.action", "skip", "--numbers.patience", 2) == 2


def test_a_bad_iteration_is_lived_again_by_the_command_that_is_said(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--run.root", tmp_path, "--model.learning_rate", 1e30, "--checkpoints.every", 1]
    assert lightning("fit", "--config", recipe, *words) == 2
    said = capsys.readouterr().err
    told = re.search(
        r"were not finite .* in iteration (\d+)\. The last good checkpoint is (\S+), .* by: lightning (.*) --debug",
        said,
    )
    assert told
    assert Path(told[2]) == only_run(tmp_path).checkpoint_path(int(told[1]))
    assert lightning(*told[3].split()) != 0
    again = capsys.readouterr().err
    assert "returned nan values in its" in again or f"not finite (NaN or inf) in iteration {told[1]}" in again


# Checkpoints


def test_a_checkpoint_overrides_neither_settings_nor_class(recipe: Path, trained: Run, tmp_path: Path) -> None:
    """Stock Lightning lets what a checkpoint holds win over the command line."""
    words = ["--ckpt_path", trained.checkpoint_path(2), "--run.root", tmp_path, "--model.lambda_identity", 0.125]
    assert lightning("fit", "--config", recipe, *words) == 0
    run = only_run(tmp_path)
    assert [row["iteration"] for row in rows(run)] == [
        "3",
        "4",
    ]  # it starts where the checkpoint ends, in its own folder
    assert checkpoint_of(run, 4)["hyper_parameters"]["lambda_identity"] == 0.125
    assert yaml.safe_load(run.config.read_text())["model"]["init_args"]["lambda_identity"] == 0.125
    assert checkpoint_of(trained, 4)["hyper_parameters"]["lambda_identity"] == 0.5


def test_a_checkpoint_of_another_shape_is_refused(
    recipe: Path, trained: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--ckpt_path", trained.checkpoint_path(2), "--run.root", tmp_path, "--model.residual_blocks", 2]
    assert lightning("fit", "--config", recipe, *words) == 2
    assert "The checkpoint does not fit the model as configured." in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["validate", "test"])
def test_a_checkpoint_is_measured(recipe: Path, trained: Run, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(path for path in trained.folder.parent.iterdir())
    assert lightning(command, "--config", recipe, "--ckpt_path", trained.checkpoint_path(2)) == 0
    shown = capsys.readouterr().out
    assert "val/cycle_psnr_source" in shown
    if command == "validate":
        assert rows(trained)[1]["val/cycle_psnr_source"][:6] in shown  # what the run itself measured then
    assert sorted(path for path in trained.folder.parent.iterdir()) == before  # no run is begun


def test_the_newest_checkpoint_of_the_newest_run_is_the_last(copy: Run, tmp_path: Path) -> None:
    assert lightning("validate", "--config", write_recipe(tmp_path), "--ckpt_path", "last") == 0


def test_predictions_are_the_models_translations(recipe: Path, trained: Run) -> None:
    quieten()
    path = trained.checkpoint_path(4)
    words = ["--config", str(recipe), "--ckpt_path", str(path)]
    cli = ZooCLI.start("predict", words, None, "tiny", ["lightning", "predict", *words])
    predictions = torch.cat(cli.trainer.predict_loop.predictions)
    scenes = Scenes(**TINY["data"]["init_args"], seed=0)
    scenes.setup("predict")
    model = load_translator(path)
    sources = [scenes.on_after_batch_transfer(batch, 0)["source"] for batch in scenes.predict_dataloader()]
    assert predictions.shape == (3, 3, 32, 32)
    for source, prediction in zip(torch.cat(sources), predictions, strict=True):
        assert torch.equal(model.translate(source[None])[0], prediction)


def test_the_page_of_options_is_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert lightning("fit", "--help") == 0
    shown = capsys.readouterr().out
    for option in ("--checkpoints.every", "--samples.count", "--run.name", "--numbers.action", "--trainer.precision"):
        assert option in shown


def test_small_pictures_make_a_small_grid(trained: Run) -> None:
    with Image.open(trained.samples / "iteration_00000004.png") as picture:
        assert picture.height < 100


# Several processes


def start_command(folder: Path, *words: object) -> str:
    """Run a real command in a folder, two processes in it; what it says."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONWARNINGS": "default"}
    for name in ("PL_GLOBAL_SEED", "MASTER_PORT", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE"):
        environment.pop(name, None)
    answer = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.mark.distributed
@pytest.mark.slow
def test_both_launchers_train_one_run_with_the_same_bits(tmp_path: Path) -> None:
    """Lightning's own launcher starts the second process from the first; torchrun starts both at once."""
    ends = []
    for launcher in ([], [BIN / "torchrun", "--standalone", "--nproc-per-node", 2]):
        folder = tmp_path / f"with {launcher[0].name if launcher else 'lightning'}"
        folder.mkdir()
        recipe = write_recipe(folder)
        fit = [BIN / "lightning", "fit", "--config", recipe, "--config", "configs/ddp.yaml"]
        words = ["--trainer.accelerator", "cpu", "--trainer.devices", 2, "--trainer.max_steps", 3]
        said = start_command(folder, *launcher, *fit, *words)
        assert said.count("CycleGAN: Unpaired") == 1
        assert "batch      2 (2 x 1)" in said
        assert "2 processes" in said
        assert len(list(folder.glob("runs/*/*"))) == 1
        run = only_run(folder / "runs")
        assert [row["iteration"] for row in rows(run)] == ["1", "2", "3"]
        assert sorted(path.name for path in run.samples.iterdir()) == [
            "iteration_00000002.png",
            "iteration_00000003.png",
        ]
        ends.append(checkpoint_of(run, 3))
    first, second = ends[0]["zoo"]["ranks"]
    assert not torch.equal(first["pool_source"]["images"][0], second["pool_source"]["images"][0])
    for part in ("state_dict", "optimizer_states", "zoo"):
        assert_equal(ends[0][part], ends[1][part], part)


def test_other_ranks_choose_no_folder(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second machine's processes of Lightning's launcher: nothing but their node tells them apart."""
    monkeypatch.setenv("NODE_RANK", "1")
    words = ["--config", str(recipe), "--run.root", str(tmp_path / "runs"), "--model.generator_channels", "-4"]
    with pytest.raises(ZooError, match="cannot be built"):
        ZooCLI.start("fit", words, None, "tiny", [])
    assert not (tmp_path / "runs").exists()
